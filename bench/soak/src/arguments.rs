//! The command line: how long, and which chances. Owns its grammar; pure.

use std::time::Duration;

use vminitd_test_support::chance;

const USAGE: &str = "use it as: vminitd-soak LENGTH [--seed N], with a LENGTH like 30s, 2m or 1h";

/// Less would not reach what the load does seldom.
const SHORTEST: Duration = Duration::from_secs(10);

/// The events of one leg are kept in memory until its end, and legs grow with the run.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    pub length: Duration,
    pub seed: u64,
}

/// Why a command line means nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadArguments {
    #[error("{USAGE}")]
    Usage,
    #[error("{0:?} is no length from {SHORTEST:?} to {LONGEST:?}; {USAGE}")]
    Length(String),
    #[error("{0:?} is no seed; {USAGE}")]
    Seed(String),
}

impl Arguments {
    /// Reads the words behind the program's name. Without `--seed` the seed is the tests' own, which is the time unless
    /// `VMINITD_SEED` is set.
    pub fn parse<W: AsRef<str>>(words: &[W]) -> Result<Self, BadArguments> {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let (length, seed) = match words[..] {
            [length] => (length, None),
            [length, "--seed", seed] | ["--seed", seed, length] => (length, Some(seed)),
            _ => return Err(BadArguments::Usage),
        };
        let seed = match seed {
            Some(seed) => seed.parse().map_err(|_| BadArguments::Seed(seed.into()))?,
            None => chance::seed(),
        };
        let length = length_of(length).ok_or_else(|| BadArguments::Length(length.into()))?;
        Ok(Self { length, seed })
    }
}

fn length_of(word: &str) -> Option<Duration> {
    let unit = word.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let count: u64 = word.strip_suffix(unit)?.parse().ok()?;
    let length = Duration::from_secs(count.checked_mul(seconds)?);
    (SHORTEST..=LONGEST).contains(&length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], seconds: u64) {
        let parsed = Arguments::parse(&[words, &["--seed", "7"]].concat());
        assert_eq!(parsed, Ok(Arguments { length: Duration::from_secs(seconds), seed: 7 }), "{words:?}");
    }

    #[test]
    fn a_length_is_a_number_and_a_unit() {
        check(&["30s"], 30);
        check(&["2m"], 120);
        check(&["30m"], 1800);
        check(&["1h"], 3600);
    }

    #[test]
    fn the_seed_may_come_first() {
        let parsed = Arguments::parse(&["--seed", "7", "1m"]);
        assert_eq!(parsed, Ok(Arguments { length: Duration::from_secs(60), seed: 7 }));
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for word in ["", "m", "30", "30d", "-5m", "5.5m", "1s", "25h", "99999999999999999999h", "é"] {
            assert_eq!(Arguments::parse(&[word]), Err(BadArguments::Length(word.into())));
        }
    }

    #[test]
    fn other_words_are_refused() {
        assert_eq!(Arguments::parse::<&str>(&[]), Err(BadArguments::Usage));
        assert_eq!(Arguments::parse(&["1m", "2m"]), Err(BadArguments::Usage));
        assert_eq!(Arguments::parse(&["1m", "--seed"]), Err(BadArguments::Usage));
        assert_eq!(Arguments::parse(&["1m", "--seed", "x"]), Err(BadArguments::Seed("x".into())));
    }
}
