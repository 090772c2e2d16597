//! Whether memory grows with time: a straight line through the levels of the checkpoints. Pure.
//!
//! The slope is the median of those between all pairs (Theil 1950, Sen 1968), so that a few odd levels do not bend it.

/// What the line may rise over all checkpoints, in kB. Measured: single levels of clean runs are up to 210 kB apart, and a
/// line follows them less. Half of what a single level may be above that of the warm-up (`Level::is_within`).
const RISE_KB: f64 = 256.0;

/// The memory of every checkpoint since the warm-up, in kB, at equal distances of time.
#[derive(Debug, Default)]
pub struct Trend(Vec<usize>);

impl Trend {
    pub fn add(&mut self, resident_kb: usize) {
        self.0.push(resident_kb);
    }

    /// What the line rises from the first checkpoint to the last, in kB.
    pub fn rise_kb(&self) -> f64 {
        let levels: Vec<(f64, f64)> = self.0.iter().enumerate().map(|(x, y)| (x as f64, *y as f64)).collect();
        let pairs =
            levels.iter().enumerate().flat_map(|(n, from)| levels[n + 1..].iter().map(move |to| (from, to)));
        let mut slopes: Vec<f64> = pairs.map(|(from, to)| (to.1 - from.1) / (to.0 - from.0)).collect();
        slopes.sort_by(f64::total_cmp);
        slopes.get(slopes.len() / 2).map_or(0.0, |median| median * (levels.len() - 1) as f64)
    }

    /// Whether that is too much.
    pub fn is_leak(&self) -> bool {
        self.rise_kb() > RISE_KB
    }

    /// The levels, for the summary.
    pub fn levels(&self) -> &[usize] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(levels: &[usize], rise: f64, leak: bool) {
        let trend = Trend(levels.to_vec());
        assert!((trend.rise_kb() - rise).abs() < 0.5, "{levels:?} rises by {}", trend.rise_kb());
        assert_eq!(trend.is_leak(), leak, "{levels:?}");
    }

    #[test]
    fn a_line_rises_by_what_it_rises() {
        check(&[2000, 2100, 2200, 2300, 2400], 400.0, true);
        check(&[2000, 2050, 2100, 2150, 2200], 200.0, false);
        check(&[2400, 2200, 2000], -400.0, false);
    }

    #[test]
    fn levels_that_go_up_and_down_are_no_leak() {
        check(&[2000, 2400, 2000, 2400, 2000], 0.0, false);
        check(&[2000, 2000, 2000, 2000, 2000, 2400], 0.0, false);
        check(&[2400, 2000, 2000, 2000, 2000, 2000], 0.0, false);
    }

    #[test]
    fn a_single_level_is_no_trend() {
        check(&[], 0.0, false);
        check(&[2000], 0.0, false);
    }
}
