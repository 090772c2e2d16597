//! What a container used, in the message that containerd reads it from.

use protobuf::well_known_types::any::Any;
use protobuf::MessageField;
use vminitd_api::containerd::cgroups_v2::metrics as wire;
use vminitd_api::type_url;

use crate::cgroup::{
    Cpu, HugeTlb, Io, IoDevice, Memory, MemoryEvents, Pids, Pressure, Psi, Rdma, RdmaDevice, Stats,
};

/// What Task.Stats answers.
pub fn any(stats: &Stats) -> Any {
    super::any(type_url::METRICS, &metrics(stats))
}

/// All sub-messages are present, since hosts read `cpu` and `memory` without asking. But there is no network, which no
/// cgroup counts, and no pressure where the kernel keeps no account of it.
pub fn metrics(stats: &Stats) -> wire::Metrics {
    wire::Metrics {
        pids: MessageField::some(pids(&stats.pids)),
        cpu: MessageField::some(cpu(&stats.cpu)),
        memory: MessageField::some(memory(&stats.memory)),
        rdma: MessageField::some(rdma(&stats.rdma)),
        io: MessageField::some(io(&stats.io)),
        hugetlb: stats.hugetlb.iter().map(hugetlb).collect(),
        memory_events: MessageField::some(memory_events(&stats.memory_events)),
        ..Default::default()
    }
}

fn pids(pids: &Pids) -> wire::PidsStat {
    wire::PidsStat { current: pids.current, limit: pids.limit, ..Default::default() }
}

fn cpu(cpu: &Cpu) -> wire::CPUStat {
    wire::CPUStat {
        usage_usec: cpu.usage_usec,
        user_usec: cpu.user_usec,
        system_usec: cpu.system_usec,
        nr_periods: cpu.nr_periods,
        nr_throttled: cpu.nr_throttled,
        throttled_usec: cpu.throttled_usec,
        nr_bursts: cpu.nr_bursts,
        burst_usec: cpu.burst_usec,
        psi: psi(&cpu.psi),
        ..Default::default()
    }
}

fn memory(memory: &Memory) -> wire::MemoryStat {
    wire::MemoryStat {
        anon: memory.anon,
        file: memory.file,
        kernel_stack: memory.kernel_stack,
        slab: memory.slab,
        sock: memory.sock,
        shmem: memory.shmem,
        file_mapped: memory.file_mapped,
        file_dirty: memory.file_dirty,
        file_writeback: memory.file_writeback,
        anon_thp: memory.anon_thp,
        inactive_anon: memory.inactive_anon,
        active_anon: memory.active_anon,
        inactive_file: memory.inactive_file,
        active_file: memory.active_file,
        unevictable: memory.unevictable,
        slab_reclaimable: memory.slab_reclaimable,
        slab_unreclaimable: memory.slab_unreclaimable,
        pgfault: memory.pgfault,
        pgmajfault: memory.pgmajfault,
        workingset_refault: memory.workingset_refault,
        workingset_activate: memory.workingset_activate,
        workingset_nodereclaim: memory.workingset_nodereclaim,
        pgrefill: memory.pgrefill,
        pgscan: memory.pgscan,
        pgsteal: memory.pgsteal,
        pgactivate: memory.pgactivate,
        pgdeactivate: memory.pgdeactivate,
        pglazyfree: memory.pglazyfree,
        pglazyfreed: memory.pglazyfreed,
        thp_fault_alloc: memory.thp_fault_alloc,
        thp_collapse_alloc: memory.thp_collapse_alloc,
        usage: memory.usage,
        usage_limit: memory.usage_limit,
        swap_usage: memory.swap_usage,
        swap_limit: memory.swap_limit,
        max_usage: memory.max_usage,
        swap_max_usage: memory.swap_max_usage,
        psi: psi(&memory.psi),
        ..Default::default()
    }
}

fn memory_events(events: &MemoryEvents) -> wire::MemoryEvents {
    wire::MemoryEvents {
        low: events.low,
        high: events.high,
        max: events.max,
        oom: events.oom,
        oom_kill: events.oom_kill,
        oom_group_kill: events.oom_group_kill,
        ..Default::default()
    }
}

fn io(io: &Io) -> wire::IOStat {
    let usage = io.devices.iter().map(io_entry).collect();
    wire::IOStat { usage, psi: psi(&io.psi), ..Default::default() }
}

fn io_entry(device: &IoDevice) -> wire::IOEntry {
    wire::IOEntry {
        major: device.major,
        minor: device.minor,
        rbytes: device.rbytes,
        wbytes: device.wbytes,
        rios: device.rios,
        wios: device.wios,
        ..Default::default()
    }
}

fn rdma(rdma: &Rdma) -> wire::RdmaStat {
    let entries = |devices: &[RdmaDevice]| devices.iter().map(rdma_entry).collect();
    wire::RdmaStat { current: entries(&rdma.current), limit: entries(&rdma.limit), ..Default::default() }
}

fn rdma_entry(device: &RdmaDevice) -> wire::RdmaEntry {
    wire::RdmaEntry {
        device: device.device.clone(),
        hca_handles: device.hca_handles,
        hca_objects: device.hca_objects,
        ..Default::default()
    }
}

fn hugetlb(pages: &HugeTlb) -> wire::HugeTlbStat {
    wire::HugeTlbStat {
        current: pages.current,
        max: pages.max,
        pagesize: pages.pagesize.clone(),
        failcnt: pages.failcnt,
        ..Default::default()
    }
}

fn psi(psi: &Option<Psi>) -> MessageField<wire::PSIStats> {
    let stats = |psi: &Psi| wire::PSIStats {
        some: psi.some.as_ref().map(pressure).into(),
        full: psi.full.as_ref().map(pressure).into(),
        ..Default::default()
    };
    psi.as_ref().map(stats).into()
}

fn pressure(pressure: &Pressure) -> wire::PSIData {
    wire::PSIData {
        avg10: pressure.avg10,
        avg60: pressure.avg60,
        avg300: pressure.avg300,
        total: pressure.total,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use protobuf::text_format::print_to_string;
    use protobuf::{Message, MessageFull};

    use super::*;

    /// Compares with protobuf's text form, which names every field that is set, in the order of their numbers.
    fn check(sent: &impl MessageFull, expected: &str) {
        assert_eq!(print_to_string(sent), expected);
    }

    fn pressed(total: u64) -> Option<Psi> {
        let line = |total| Pressure { avg10: 1.5, avg60: 2.5, avg300: 3.5, total };
        Some(Psi { some: Some(line(total)), full: Some(line(total + 1)) })
    }

    #[test]
    fn every_field_of_cpu_arrives_in_its_own() {
        let used = Cpu {
            usage_usec: 21,
            user_usec: 22,
            system_usec: 23,
            nr_periods: 24,
            nr_throttled: 25,
            throttled_usec: 26,
            nr_bursts: 27,
            burst_usec: 28,
            psi: pressed(31),
        };
        let expected = "usage_usec: 21 user_usec: 22 system_usec: 23 nr_periods: 24 nr_throttled: 25 \
             throttled_usec: 26 psi {some {avg10: 1.5 avg60: 2.5 avg300: 3.5 total: 31} \
             full {avg10: 1.5 avg60: 2.5 avg300: 3.5 total: 32}} nr_bursts: 27 burst_usec: 28";
        check(&cpu(&used), expected);
    }

    #[test]
    fn every_field_of_memory_arrives_in_its_own() {
        let used = Memory {
            anon: 101,
            file: 102,
            kernel_stack: 103,
            slab: 104,
            sock: 105,
            shmem: 106,
            file_mapped: 107,
            file_dirty: 108,
            file_writeback: 109,
            anon_thp: 110,
            inactive_anon: 111,
            active_anon: 112,
            inactive_file: 113,
            active_file: 114,
            unevictable: 115,
            slab_reclaimable: 116,
            slab_unreclaimable: 117,
            pgfault: 118,
            pgmajfault: 119,
            workingset_refault: 120,
            workingset_activate: 121,
            workingset_nodereclaim: 122,
            pgrefill: 123,
            pgscan: 124,
            pgsteal: 125,
            pgactivate: 126,
            pgdeactivate: 127,
            pglazyfree: 128,
            pglazyfreed: 129,
            thp_fault_alloc: 130,
            thp_collapse_alloc: 131,
            usage: 132,
            usage_limit: 133,
            swap_usage: 134,
            swap_limit: 135,
            max_usage: 136,
            swap_max_usage: 137,
            psi: Some(Psi { some: Some(Pressure { total: 1, ..Pressure::default() }), full: None }),
        };
        let expected = "anon: 101 file: 102 kernel_stack: 103 slab: 104 sock: 105 shmem: 106 \
             file_mapped: 107 file_dirty: 108 file_writeback: 109 anon_thp: 110 \
             inactive_anon: 111 active_anon: 112 inactive_file: 113 active_file: 114 \
             unevictable: 115 slab_reclaimable: 116 slab_unreclaimable: 117 pgfault: 118 \
             pgmajfault: 119 workingset_refault: 120 workingset_activate: 121 \
             workingset_nodereclaim: 122 pgrefill: 123 pgscan: 124 pgsteal: 125 pgactivate: 126 \
             pgdeactivate: 127 pglazyfree: 128 pglazyfreed: 129 thp_fault_alloc: 130 \
             thp_collapse_alloc: 131 usage: 132 usage_limit: 133 swap_usage: 134 swap_limit: 135 \
             max_usage: 136 swap_max_usage: 137 \
             psi {some {total: 1}}";
        check(&memory(&used), expected);
    }

    #[test]
    fn every_other_field_arrives_in_its_own() {
        let devices = vec![IoDevice { major: 1, minor: 2, rbytes: 3, wbytes: 4, rios: 5, wios: 6 }];
        let device = |device: &str, hca_handles, hca_objects| {
            vec![RdmaDevice { device: device.to_owned(), hca_handles, hca_objects }]
        };
        let events = MemoryEvents { low: 41, high: 42, max: 43, oom: 44, oom_kill: 45, oom_group_kill: 46 };
        let used = Stats {
            pids: Pids { current: 51, limit: u64::MAX },
            memory_events: events,
            io: Io { devices, psi: pressed(61) },
            rdma: Rdma { current: device("mlx4_0", 71, 72), limit: device("mlx4_1", 73, u32::MAX) },
            hugetlb: vec![HugeTlb { pagesize: "2MB".to_owned(), current: 81, max: 82, failcnt: 83 }],
            ..Stats::default()
        };
        let expected = "pids {current: 51 limit: 18446744073709551615} cpu {} memory {} \
             rdma {current {device: \"mlx4_0\" hca_handles: 71 hca_objects: 72} \
             limit {device: \"mlx4_1\" hca_handles: 73 hca_objects: 4294967295}} \
             io {usage {major: 1 minor: 2 rbytes: 3 wbytes: 4 rios: 5 wios: 6} \
             psi {some {avg10: 1.5 avg60: 2.5 avg300: 3.5 total: 61} \
             full {avg10: 1.5 avg60: 2.5 avg300: 3.5 total: 62}}} \
             hugetlb {current: 81 max: 82 pagesize: \"2MB\" failcnt: 83} \
             memory_events {low: 41 high: 42 max: 43 oom: 44 oom_kill: 45 oom_group_kill: 46}";
        check(&metrics(&used), expected);
    }

    #[test]
    fn the_answer_names_its_type_without_a_prefix() {
        let answer = any(&Stats::default());
        assert_eq!(answer.type_url, "io.containerd.cgroups.v2.Metrics");
        let sent = wire::Metrics::parse_from_bytes(&answer.value).unwrap();
        assert!(sent.cpu.is_some() && sent.memory.is_some());
    }
}
