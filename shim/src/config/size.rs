//! The size of a machine: what was chosen for it, else what its container may use, else what the file says.

use super::{Choice, Config};
use crate::plan::Demand;

/// What a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub memory_mb: u32,
    pub cpus: u32,
}

const MIB: u64 = 1 << 20;

impl Size {
    /// Whether a container reaches the end of the machine before its own limits.
    pub fn is_below(&self, demand: &Demand) -> bool {
        demand.memory.is_some_and(|bytes| bytes > u64::from(self.memory_mb) * MIB)
            || demand.millicpus.is_some_and(|millicpus| millicpus > u64::from(self.cpus) * 1000)
    }
}

impl Config {
    /// A limit of memory gets the guest's own share on top, so that the container reaches its limit before the machine
    /// has none left; a quota of processors is rounded up. Neither goes beyond what the file allows: the container's
    /// limits hold inside all the same.
    pub fn size(&self, choice: &Choice, demand: &Demand) -> Size {
        let machine = &self.machine;
        let limited = |bytes: u64| {
            let mib = u32::try_from(bytes.div_ceil(MIB)).unwrap_or(u32::MAX);
            mib.saturating_add(machine.overhead_mb).clamp(machine.floor_mb, machine.max_memory_mb)
        };
        let quota = |millicpus: u64| {
            let cpus = u32::try_from(millicpus.div_ceil(1000)).unwrap_or(u32::MAX);
            cpus.clamp(1, machine.max_cpus)
        };
        Size {
            memory_mb: choice.memory_mb.or(demand.memory.map(limited)).unwrap_or(machine.memory_mb),
            cpus: choice.cpus.or(demand.millicpus.map(quota)).unwrap_or(machine.cpus),
        }
    }
}
