//! What was measured: samples, alone or beside a floor, and the budget they are held against. Pure; prints nothing.

/// What the samples count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    Microseconds,
    /// 10^6 bytes a second.
    MegabytesPerSecond,
    Kibibytes,
    Bytes,
    /// Of things.
    Count,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "µs",
            Unit::MegabytesPerSecond => "MB/s",
            Unit::Kibibytes => "kB",
            Unit::Bytes => "bytes",
            Unit::Count => "",
        }
    }
}

/// One measurement and its floor, made one after the other: what disturbs the machine disturbs both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turn {
    pub floor: f64,
    pub ours: f64,
}

impl Turn {
    fn ratio(&self) -> f64 {
        self.ours / self.floor
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// At least one.
    Alone(Vec<f64>),
    /// At least one; the ratio of each pair counts.
    Beside(Vec<Turn>),
}

/// What a median may be: that of the ratios where there is a floor, else that of the samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    AtMost(f64),
    AtLeast(f64),
}

impl Budget {
    fn allows(self, median: f64) -> bool {
        match self {
            Budget::AtMost(most) => median <= most,
            Budget::AtLeast(least) => median >= least,
        }
    }
}

/// Everything about one measured thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// With what it is compared included, such as "create, beside bare runc".
    pub what: String,
    pub unit: Unit,
    pub samples: Samples,
    pub budget: Option<Budget>,
}

impl Figure {
    /// Measured by itself; `samples` has at least one.
    pub fn alone(what: impl Into<String>, unit: Unit, samples: Vec<f64>) -> Figure {
        Figure { what: what.into(), unit, samples: Samples::Alone(samples), budget: None }
    }

    /// Measured in turns with a floor; there is at least one.
    pub fn beside(what: impl Into<String>, unit: Unit, turns: Vec<Turn>) -> Figure {
        Figure { what: what.into(), unit, samples: Samples::Beside(turns), budget: None }
    }

    pub fn within(self, budget: Budget) -> Figure {
        Figure { budget: Some(budget), ..self }
    }

    pub fn ours(&self) -> Spread {
        match &self.samples {
            Samples::Alone(samples) => Spread::of(samples.iter().copied()),
            Samples::Beside(turns) => Spread::of(turns.iter().map(|turn| turn.ours)),
        }
    }

    pub fn floor(&self) -> Option<Spread> {
        self.turns().map(|turns| Spread::of(turns.iter().map(|turn| turn.floor)))
    }

    pub fn ratio(&self) -> Option<Spread> {
        self.turns().map(|turns| Spread::of(turns.iter().map(Turn::ratio)))
    }

    fn turns(&self) -> Option<&[Turn]> {
        match &self.samples {
            Samples::Alone(_) => None,
            Samples::Beside(turns) => Some(turns),
        }
    }

    /// Whether it is within its budget; `None` without one.
    pub fn is_met(&self) -> Option<bool> {
        let deciding = self.ratio().unwrap_or_else(|| self.ours());
        self.budget.map(|budget| budget.allows(deciding.median))
    }
}

/// Where samples lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl Spread {
    /// Of at least one sample; of an even count the greater one in the middle is the median.
    pub fn of(samples: impl Iterator<Item = f64>) -> Spread {
        let sorted = sorted(samples);
        Spread { least: sorted[0], median: sorted[sorted.len() / 2], most: sorted[sorted.len() - 1] }
    }
}

/// The sample that so many of a hundred do not exceed; of at least one.
pub fn percentile(samples: &[f64], percent: usize) -> f64 {
    let sorted = sorted(samples.iter().copied());
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn sorted(samples: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut samples: Vec<f64> = samples.collect();
    samples.sort_by(f64::total_cmp);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside(turns: &[(f64, f64)]) -> Figure {
        let turns = turns.iter().map(|&(floor, ours)| Turn { floor, ours }).collect();
        Figure::beside("stdout", Unit::MegabytesPerSecond, turns)
    }

    #[test]
    fn the_median_of_the_ratios_of_pairs_decides() {
        let at_least = Budget::AtLeast(0.7);
        let within = beside(&[(100.0, 50.0), (100.0, 70.0), (50.0, 60.0)]).within(at_least);
        let beyond = beside(&[(100.0, 50.0), (100.0, 69.0), (50.0, 60.0)]).within(at_least);
        assert_eq!((within.is_met(), beyond.is_met()), (Some(true), Some(false)));
    }

    #[test]
    fn a_figure_without_a_floor_is_held_against_its_budget_by_itself() {
        let figure = |kb| Figure::alone("idle", Unit::Kibibytes, vec![kb]);
        let at_most = Budget::AtMost(2048.0);
        assert_eq!(figure(2048.0).within(at_most).is_met(), Some(true));
        assert_eq!(figure(2049.0).within(at_most).is_met(), Some(false));
        assert_eq!(figure(9999.0).is_met(), None);
    }

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&samples, 50), 51.0);
        assert_eq!(percentile(&samples, 99), 100.0);
        assert_eq!(percentile(&[7.0], 99), 7.0);
    }
}
