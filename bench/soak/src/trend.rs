//! Whether memory grows with time: a straight line through the levels of the checkpoints. Pure.

/// What the line may rise over all checkpoints, in kB: half of what a single level may be above that of the warm-up
/// (`Level::is_within`), as the chances of single levels cancel out in a line.
const RISE_KB: f64 = 256.0;

/// The memory of every checkpoint since the warm-up, in kB, at equal distances of time.
#[derive(Debug, Default)]
pub struct Trend(Vec<usize>);

impl Trend {
    pub fn add(&mut self, resident_kb: usize) {
        self.0.push(resident_kb);
    }

    /// What the line of least squares rises from the first checkpoint to the last, in kB.
    pub fn rise_kb(&self) -> f64 {
        let count = self.0.len() as f64;
        if count < 2.0 {
            return 0.0;
        }
        let mean_x = (count - 1.0) / 2.0;
        let mean_y = self.0.iter().sum::<usize>() as f64 / count;
        let (mut above, mut below) = (0.0, 0.0);
        for (x, y) in self.0.iter().enumerate() {
            let dx = x as f64 - mean_x;
            above += dx * (*y as f64 - mean_y);
            below += dx * dx;
        }
        above / below * (count - 1.0)
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
        check(&[2000, 2000, 2000, 2000, 2000, 2400], 285.7 / 5.0 * 5.0 - 57.1, false);
    }

    #[test]
    fn a_single_level_is_no_trend() {
        check(&[], 0.0, false);
        check(&[2000], 0.0, false);
    }
}
