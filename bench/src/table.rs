//! Figures beside their floors: medians, spread, and whether a budget was met. Pure.

use std::fmt;

/// One measurement and its floor, made one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// In 10^6 bytes a second, as the other.
    pub floor: f64,
    pub ours: f64,
}

/// All measurements of one thing.
#[derive(Debug)]
pub struct Row {
    pub transport: &'static str,
    pub what: &'static str,
    /// The least ratio of ours to the floor.
    pub budget: f64,
    /// At least one.
    pub turns: Vec<Turn>,
}

/// The head of the table, whose lines [`Row`] prints.
pub const HEAD: &str = "transport  direction  raw MB/s  ours MB/s  ratio  (least to most)  budget";

impl Row {
    /// Of each pair by itself: what disturbs the machine disturbs both.
    fn ratios(&self) -> Vec<f64> {
        sorted(self.turns.iter().map(|turn| turn.ours / turn.floor))
    }

    /// Whether the median of the ratios is within the budget.
    pub fn is_met(&self) -> bool {
        median(&self.ratios()) >= self.budget
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let floor = median(&sorted(self.turns.iter().map(|turn| turn.floor)));
        let ours = median(&sorted(self.turns.iter().map(|turn| turn.ours)));
        let ratios = self.ratios();
        let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
        write!(f, "{:<9}  {:<9}  {floor:>8.0}  {ours:>9.0}  ", self.transport, self.what)?;
        write!(f, "{:>5.2}  ({least:>5.2} to {most:>4.2})  ", median(&ratios))?;
        write!(f, "{:.2} {}", self.budget, if self.is_met() { "met" } else { "not met" })
    }
}

fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// Of numbers in order; of an even count the greater one in the middle.
fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(turns: &[(f64, f64)]) -> Row {
        let turns = turns.iter().map(|&(floor, ours)| Turn { floor, ours }).collect();
        Row { transport: "unix", what: "stdout", budget: 0.7, turns }
    }

    #[test]
    fn the_median_of_the_ratios_of_pairs_decides() {
        assert!(row(&[(100.0, 50.0), (100.0, 70.0), (50.0, 60.0)]).is_met());
        assert!(!row(&[(100.0, 50.0), (100.0, 69.0), (50.0, 60.0)]).is_met());
    }

    #[test]
    fn a_line_stands_below_the_head() {
        let line = row(&[(200.0, 100.0), (100.0, 100.0), (100.0, 80.0)]).to_string();
        assert_eq!(line, "unix       stdout          100        100   0.80  ( 0.50 to 1.00)  0.70 met");
    }
}
