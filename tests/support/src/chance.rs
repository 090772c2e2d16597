//! Chance that can be repeated: a small generator of numbers, and the seed of a test.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// The seed of all tests that leave something to chance: `VMINITD_SEED`, or else the time. A test prints it as that.
pub fn seed() -> u64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    env::var("VMINITD_SEED").map_or_else(|_| now(), |seed| seed.parse().expect("VMINITD_SEED is a number"))
}

/// So many bytes in which a loss, a repetition or a swap shows; the same in every run.
pub fn noise(count: usize) -> Vec<u8> {
    Chance::new(0, 0).bytes(count)
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub struct Chance(u64);

impl Chance {
    /// The chances of one run; those of other runs of the same seed have nothing to do with them.
    pub fn new(seed: u64, run: u64) -> Chance {
        let mut chance = Chance(seed ^ run.wrapping_mul(0xA076_1D64_78BD_642F));
        chance.next();
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        const WORD: usize = size_of::<u64>();
        let mut bytes = Vec::with_capacity(count + WORD);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// One of these, each as often as its weight says.
    pub fn weigh<T: Copy>(&mut self, from: &[(T, u64)]) -> T {
        let mut at = self.below(from.iter().map(|(_, weight)| weight).sum());
        let chosen = from.iter().find(|(_, weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        chosen.expect("the weights add up to more than the number").0
    }
}
