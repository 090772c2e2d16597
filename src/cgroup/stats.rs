//! What a group used and may use. Plain data, and the files it is read from; the names are containerd's.

use std::fs;
use std::io;

use super::text::{nested, number, psi, Flat, Pairs, Psi};
use super::Cgroup;

/// The use of everything that cgroup v2 counts. No limit is the type's `MAX`; what the kernel does not say is 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    pub pids: Pids,
    pub cpu: Cpu,
    pub memory: Memory,
    pub memory_events: MemoryEvents,
    pub io: Io,
    pub rdma: Rdma,
    /// One for each page size of the machine.
    pub hugetlb: Vec<HugeTlb>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pids {
    pub current: u64,
    pub limit: u64,
}

/// `cpu.stat`, with times in microseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cpu {
    pub usage_usec: u64,
    pub user_usec: u64,
    pub system_usec: u64,
    pub nr_periods: u64,
    pub nr_throttled: u64,
    pub throttled_usec: u64,
    pub nr_bursts: u64,
    pub burst_usec: u64,
    pub psi: Option<Psi>,
}

/// `memory.stat` (amounts in bytes, the rest are counts), then the single values in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    pub anon: u64,
    pub file: u64,
    pub kernel_stack: u64,
    pub slab: u64,
    pub sock: u64,
    pub shmem: u64,
    pub file_mapped: u64,
    pub file_dirty: u64,
    pub file_writeback: u64,
    pub anon_thp: u64,
    pub inactive_anon: u64,
    pub active_anon: u64,
    pub inactive_file: u64,
    pub active_file: u64,
    pub unevictable: u64,
    pub slab_reclaimable: u64,
    pub slab_unreclaimable: u64,
    pub pgfault: u64,
    pub pgmajfault: u64,
    pub workingset_refault: u64,
    pub workingset_activate: u64,
    pub workingset_nodereclaim: u64,
    pub pgrefill: u64,
    pub pgscan: u64,
    pub pgsteal: u64,
    pub pgactivate: u64,
    pub pgdeactivate: u64,
    pub pglazyfree: u64,
    pub pglazyfreed: u64,
    pub thp_fault_alloc: u64,
    pub thp_collapse_alloc: u64,
    pub usage: u64,
    pub usage_limit: u64,
    pub swap_usage: u64,
    pub swap_limit: u64,
    pub max_usage: u64,
    pub swap_max_usage: u64,
    pub psi: Option<Psi>,
}

/// `memory.events`: how often each happened, in the group and below it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryEvents {
    pub low: u64,
    pub high: u64,
    pub max: u64,
    pub oom: u64,
    pub oom_kill: u64,
    pub oom_group_kill: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Io {
    pub devices: Vec<IoDevice>,
    pub psi: Option<Psi>,
}

/// One line of `io.stat`: bytes and operations, read and written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IoDevice {
    pub major: u64,
    pub minor: u64,
    pub rbytes: u64,
    pub wbytes: u64,
    pub rios: u64,
    pub wios: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rdma {
    pub current: Vec<RdmaDevice>,
    pub limit: Vec<RdmaDevice>,
}

/// One line of `rdma.current` or `rdma.max`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RdmaDevice {
    pub device: String,
    pub hca_handles: u32,
    pub hca_objects: u32,
}

/// `hugetlb.<pagesize>.*`, in bytes; `failcnt` is how often the limit was hit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HugeTlb {
    pub pagesize: String,
    pub current: u64,
    pub max: u64,
    pub failcnt: u64,
}

impl Cgroup {
    /// Reads all of it; a file that is missing counts 0. Blocks: the kernel sums up the counters of all processors.
    ///
    /// # Errors
    /// NotFound if the group is gone; others as the kernel gives them.
    pub fn stats(&self) -> io::Result<Stats> {
        let stats = Stats {
            pids: Pids { current: self.number("pids.current")?, limit: self.number("pids.max")? },
            cpu: self.cpu()?,
            memory: self.memory()?,
            memory_events: self.memory_events()?,
            io: self.io()?,
            rdma: Rdma { current: self.rdma("rdma.current")?, limit: self.rdma("rdma.max")? },
            hugetlb: self.hugetlb()?,
        };
        // Asked last: the files of a group that has gone meanwhile were read as zeroes.
        fs::metadata(&self.0)?;
        Ok(stats)
    }

    fn cpu(&self) -> io::Result<Cpu> {
        let text = self.text("cpu.stat")?;
        let stat = Flat(&text);
        Ok(Cpu {
            usage_usec: stat.get("usage_usec"),
            user_usec: stat.get("user_usec"),
            system_usec: stat.get("system_usec"),
            nr_periods: stat.get("nr_periods"),
            nr_throttled: stat.get("nr_throttled"),
            throttled_usec: stat.get("throttled_usec"),
            nr_bursts: stat.get("nr_bursts"),
            burst_usec: stat.get("burst_usec"),
            psi: psi(&self.text("cpu.pressure")?),
        })
    }

    fn memory(&self) -> io::Result<Memory> {
        Ok(Memory {
            usage: self.number("memory.current")?,
            usage_limit: self.number("memory.max")?,
            swap_usage: self.number("memory.swap.current")?,
            swap_limit: self.number("memory.swap.max")?,
            max_usage: self.number("memory.peak")?,
            swap_max_usage: self.number("memory.swap.peak")?,
            psi: psi(&self.text("memory.pressure")?),
            ..memory_stat(Flat(&self.text("memory.stat")?))
        })
    }

    fn memory_events(&self) -> io::Result<MemoryEvents> {
        let text = self.text("memory.events")?;
        let events = Flat(&text);
        Ok(MemoryEvents {
            low: events.get("low"),
            high: events.get("high"),
            max: events.get("max"),
            oom: events.get("oom"),
            oom_kill: events.get("oom_kill"),
            oom_group_kill: events.get("oom_group_kill"),
        })
    }

    fn io(&self) -> io::Result<Io> {
        let text = self.text("io.stat")?;
        let devices = nested(&text).filter_map(|(device, pairs)| io_device(device, pairs)).collect();
        Ok(Io { devices, psi: psi(&self.text("io.pressure")?) })
    }

    fn rdma(&self, file: &str) -> io::Result<Vec<RdmaDevice>> {
        let text = self.text(file)?;
        let device = |(device, pairs): (&str, Pairs<'_>)| RdmaDevice {
            device: device.to_owned(),
            hca_handles: saturated(pairs.get("hca_handle")),
            hca_objects: saturated(pairs.get("hca_object")),
        };
        Ok(nested(&text).map(device).collect())
    }

    /// In the order of the page sizes' names.
    fn hugetlb(&self) -> io::Result<Vec<HugeTlb>> {
        let mut sizes = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            sizes.extend(entry?.file_name().to_str().and_then(huge_page_size).map(str::to_owned));
        }
        sizes.sort_unstable();
        sizes.into_iter().map(|pagesize| self.hugetlb_of(pagesize)).collect()
    }

    fn hugetlb_of(&self, pagesize: String) -> io::Result<HugeTlb> {
        Ok(HugeTlb {
            current: self.number(&format!("hugetlb.{pagesize}.current"))?,
            max: self.number(&format!("hugetlb.{pagesize}.max"))?,
            failcnt: Flat(&self.text(&format!("hugetlb.{pagesize}.events"))?).get("max"),
            pagesize,
        })
    }

    fn number(&self, file: &str) -> io::Result<u64> {
        Ok(number(&self.text(file)?))
    }

    /// Empty if there is no such file.
    fn text(&self, file: &str) -> io::Result<String> {
        Ok(self.read(file)?.unwrap_or_default())
    }
}

fn memory_stat(stat: Flat<'_>) -> Memory {
    // Since Linux 5.9 these two are counted apart for anonymous memory and for files.
    let both = |key: &str| {
        let parts = ["", "_anon", "_file"].map(|part| stat.get(&format!("{key}{part}")));
        parts.into_iter().fold(0, u64::saturating_add)
    };
    Memory {
        anon: stat.get("anon"),
        file: stat.get("file"),
        kernel_stack: stat.get("kernel_stack"),
        slab: stat.get("slab"),
        sock: stat.get("sock"),
        shmem: stat.get("shmem"),
        file_mapped: stat.get("file_mapped"),
        file_dirty: stat.get("file_dirty"),
        file_writeback: stat.get("file_writeback"),
        anon_thp: stat.get("anon_thp"),
        inactive_anon: stat.get("inactive_anon"),
        active_anon: stat.get("active_anon"),
        inactive_file: stat.get("inactive_file"),
        active_file: stat.get("active_file"),
        unevictable: stat.get("unevictable"),
        slab_reclaimable: stat.get("slab_reclaimable"),
        slab_unreclaimable: stat.get("slab_unreclaimable"),
        pgfault: stat.get("pgfault"),
        pgmajfault: stat.get("pgmajfault"),
        workingset_refault: both("workingset_refault"),
        workingset_activate: both("workingset_activate"),
        workingset_nodereclaim: stat.get("workingset_nodereclaim"),
        pgrefill: stat.get("pgrefill"),
        pgscan: stat.get("pgscan"),
        pgsteal: stat.get("pgsteal"),
        pgactivate: stat.get("pgactivate"),
        pgdeactivate: stat.get("pgdeactivate"),
        pglazyfree: stat.get("pglazyfree"),
        pglazyfreed: stat.get("pglazyfreed"),
        thp_fault_alloc: stat.get("thp_fault_alloc"),
        thp_collapse_alloc: stat.get("thp_collapse_alloc"),
        ..Memory::default()
    }
}

/// `None` for a line that is no `MAJOR:MINOR`.
fn io_device(device: &str, pairs: Pairs<'_>) -> Option<IoDevice> {
    let (major, minor) = device.split_once(':')?;
    Some(IoDevice {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        rbytes: pairs.get("rbytes"),
        wbytes: pairs.get("wbytes"),
        rios: pairs.get("rios"),
        wios: pairs.get("wios"),
    })
}

/// The kernel's rdma numbers are ints; `max` becomes the greatest.
fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// `2MB` of `hugetlb.2MB.current`; `None` for other files, and for those of reservations, `hugetlb.2MB.rsvd.current`.
fn huge_page_size(file: &str) -> Option<&str> {
    let size = file.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
    (!size.contains('.')).then_some(size)
}
