//! Figures as lines for a terminal. Pure.

use std::fmt;

use crate::figure::{Budget, Figure, Spread};

/// The head of the table, whose lines [`Line`] prints.
pub const HEAD: &str =
    "what                                              unit      floor       ours  (least to most)        \
                        ratio  (least to most)  budget";

/// A figure as a line of the table.
pub struct Line<'a>(pub &'a Figure);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = self.0;
        let ours = figure.ours();
        let floor = figure.floor().map_or_else(String::new, |floor| number(floor.median));
        write!(
            f,
            "{:<48}  {:<5}  {floor:>8}   {:>8}  ",
            figure.what,
            figure.unit.name(),
            number(ours.median)
        )?;
        write!(f, "{:<21}  ", spread(ours, number))?;
        let ratio = figure.ratio().map(|ratio| (hundredths(ratio.median), spread(ratio, hundredths)));
        let (ratio, around) = ratio.unwrap_or_default();
        write!(f, "{ratio:>5}  {around:<15}  {}", verdict(figure))
    }
}

fn verdict(figure: &Figure) -> String {
    let beside = if figure.floor().is_some() { "×" } else { "" };
    let budget = match figure.budget {
        None => return "-".to_owned(),
        Some(Budget::AtMost(most)) => format!("≤ {most}{beside}"),
        Some(Budget::AtLeast(least)) => format!("≥ {least}{beside}"),
    };
    let met = if figure.is_met() == Some(true) { "met" } else { "NOT MET" };
    format!("{budget}: {met}")
}

fn spread(spread: Spread, number: impl Fn(f64) -> String) -> String {
    // A single sample has no spread.
    match spread.least == spread.most {
        true => String::new(),
        false => format!("({} to {})", number(spread.least), number(spread.most)),
    }
}

/// With three digits that say something, and whole from 100 on.
fn number(value: f64) -> String {
    match value.abs() {
        value if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn hundredths(value: f64) -> String {
    format!("{value:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Turn, Unit};

    fn words(figure: &Figure) -> Vec<String> {
        Line(figure).to_string().split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_has_medians_spreads_and_the_verdict() {
        let turns = [(200.0, 100.0), (100.0, 100.0), (100.0, 80.0)];
        let turns = turns.map(|(floor, ours)| Turn { floor, ours }).to_vec();
        let figure = Figure::beside("stdout", Unit::MegabytesPerSecond, turns).within(Budget::AtLeast(0.7));
        let line = words(&figure).join(" ");
        assert_eq!(line, "stdout MB/s 100 100 (80 to 100) 0.80 (0.50 to 1.00) ≥ 0.7×: met");
    }

    #[test]
    fn without_a_floor_there_is_no_ratio() {
        let figure = Figure::alone("idle", Unit::Kibibytes, vec![3000.0]).within(Budget::AtMost(2048.0));
        assert_eq!(words(&figure).join(" "), "idle kB 3000 ≤ 2048: NOT MET");
    }

    #[test]
    fn the_columns_stand_below_the_head() {
        let line = Line(&Figure::alone("idle", Unit::Kibibytes, vec![3000.0])).to_string();
        assert_eq!(line.find("kB"), HEAD.find("unit"));
        assert_eq!(line.find("3000").map(|at| at + 4), HEAD.find("ours").map(|at| at + 4));
    }

    #[test]
    fn small_numbers_keep_their_digits() {
        assert_eq!([0.191, 12.34, 123.4, 4096.0].map(number), ["0.19", "12.3", "123", "4096"]);
    }
}
