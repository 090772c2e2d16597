//! The room against a tree of plain files in the shape of a cgroup.

use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// A group whose memory controller is on and that has a process in it.
fn group(files: &[(&str, &str)]) -> (TempDir, Cgroup) {
    let root = tempfile::tempdir().unwrap();
    let cgroup = Cgroup::beneath(root.path(), Path::new("/runc/c1")).unwrap();
    fs::create_dir_all(&cgroup.0).unwrap();
    write(&cgroup, "cgroup.events", "populated 1\nfrozen 0\n");
    write(&cgroup, "memory.events", "oom 9\noom_kill 0\n");
    files.iter().for_each(|(name, text)| write(&cgroup, name, text));
    (root, cgroup)
}

/// In one write, so that a reader finds the old text or the new: the tests write numbers of the same length.
fn write(cgroup: &Cgroup, name: &str, text: &str) {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).open(cgroup.file(name)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn kills(cgroup: &Cgroup, count: u8) {
    write(cgroup, "memory.events", &format!("oom 9\noom_kill {count}\n"));
}

/// What the watch says next, which it must say at once.
async fn told(watch: &mut OomWatch) -> Option<u64> {
    let soon = tokio::time::timeout(Duration::from_secs(10), watch.next());
    soon.await.expect("the watch says something")
}

#[tokio::test]
async fn a_kill_is_told_and_a_burst_once() {
    let (_root, cgroup) = group(&[]);
    let mut watch = cgroup.watch_oom().unwrap().unwrap();
    kills(&cgroup, 1);
    assert_eq!(told(&mut watch).await, Some(1));
    (2..=5).for_each(|count| kills(&cgroup, count));
    assert_eq!(told(&mut watch).await, Some(5));
    let again = tokio::time::timeout(Duration::ZERO, watch.next());
    assert!(again.await.is_err(), "the burst was told already");
}

#[tokio::test]
async fn a_watch_that_was_given_up_waiting_loses_nothing() {
    let (_root, cgroup) = group(&[]);
    let mut watch = cgroup.watch_oom().unwrap().unwrap();
    for count in 1..=9 {
        let waiting = tokio::time::timeout(Duration::ZERO, watch.next());
        assert!(waiting.await.is_err(), "nothing has happened");
        kills(&cgroup, count);
        assert_eq!(told(&mut watch).await, Some(count.into()));
    }
}

#[tokio::test]
async fn the_last_kill_is_told_before_the_group_is_found_empty() {
    let (_root, cgroup) = group(&[]);
    let mut watch = cgroup.watch_oom().unwrap().unwrap();
    kills(&cgroup, 3);
    write(&cgroup, "cgroup.events", "populated 0\nfrozen 0\n");
    assert_eq!(told(&mut watch).await, Some(3));
    assert_eq!(told(&mut watch).await, None);
}

#[tokio::test]
async fn a_watch_ends_with_its_group() {
    let (_root, cgroup) = group(&[]);
    let mut watch = cgroup.watch_oom().unwrap().unwrap();
    fs::remove_dir_all(&cgroup.0).unwrap();
    assert_eq!(told(&mut watch).await, None);
    assert_eq!(told(&mut watch).await, None, "and stays ended");
}

#[tokio::test]
async fn a_watch_ends_with_the_file() {
    let (_root, cgroup) = group(&[]);
    let mut watch = cgroup.watch_oom().unwrap().unwrap();
    fs::remove_file(cgroup.file("memory.events")).unwrap();
    assert_eq!(told(&mut watch).await, None);
}

#[tokio::test]
async fn a_group_that_is_empty_already_has_no_news() {
    let (_root, cgroup) = group(&[("cgroup.events", "populated 0\n")]);
    assert_eq!(told(&mut cgroup.watch_oom().unwrap().unwrap()).await, None);
}

// kata-containers#10872: a short container's group was gone, and its start failed for it.
#[tokio::test]
async fn a_vanished_group_is_no_error_of_the_watch() {
    let (root, cgroup) = group(&[]);
    root.close().unwrap();
    assert!(cgroup.watch_oom().unwrap().is_none());
    assert_eq!(cgroup.oom_kills().unwrap(), None);
}

// containerd#6323: `oom` counts failed allocations too.
#[test]
fn kills_are_counted_and_not_failed_allocations() {
    let (_root, cgroup) = group(&[]);
    assert_eq!(cgroup.oom_kills().unwrap(), Some(0));
    kills(&cgroup, 2);
    assert_eq!(cgroup.oom_kills().unwrap(), Some(2));
}

#[test]
fn killing_all_writes_1_and_makes_no_file() {
    let (_root, cgroup) = group(&[]);
    assert_eq!(cgroup.kill().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!cgroup.file("cgroup.kill").exists());
    write(&cgroup, "cgroup.kill", "");
    cgroup.kill().unwrap();
    assert_eq!(fs::read_to_string(cgroup.file("cgroup.kill")).unwrap(), "1");
}

#[test]
fn a_group_is_found_beneath_the_mount_or_not_at_all() {
    let beneath = |path: &str| Cgroup::beneath(Path::new("/mnt"), Path::new(path)).map(|cgroup| cgroup.0);
    assert_eq!(&*beneath("/a/b c").unwrap(), Path::new("/mnt/a/b c"));
    assert_eq!(&*beneath("/").unwrap(), Path::new("/mnt/"));
    assert_eq!(beneath("/../a").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn only_a_mount_with_controllers_is_unified() {
    let root = tempfile::tempdir().unwrap();
    assert!(!is_unified(root.path()).unwrap(), "legacy or hybrid: no such file");
    assert!(!is_unified(&root.path().join("missing")).unwrap());
    fs::write(root.path().join("cgroup.controllers"), "\n").unwrap();
    assert!(!is_unified(root.path()).unwrap(), "all controllers are with v1");
    fs::write(root.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
    assert!(is_unified(root.path()).unwrap());
}

#[test]
fn the_group_of_a_living_process_is_there_or_the_machine_has_v1() {
    let own = Cgroup::of(Pid::new(std::process::id() as i32).unwrap()).unwrap();
    assert_eq!(own.is_some(), is_unified(Path::new(ROOT)).unwrap());
}

#[test]
fn a_process_that_is_gone_is_not_found() {
    // Above the kernel's highest pid (PID_MAX_LIMIT, 2^22).
    let gone = Pid::new(1 << 23).unwrap();
    assert_eq!(read_of_process(gone).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn an_unreadable_file_is_an_error_and_no_zero() {
    let (_root, cgroup) = group(&[]);
    fs::create_dir(cgroup.file("pids.current")).unwrap();
    assert!(cgroup.stats().is_err());
}

/// What the kernel prints into `memory.stat`, a number of its own for each key.
const MEMORY_STAT: &str = "\
    kernel 7\nanon 101\nfile 102\nkernel_stack 103\nslab 104\nsock 105\nshmem 106\nfile_mapped 107\n\
    file_dirty 108\nfile_writeback 109\nanon_thp 110\ninactive_anon 111\nactive_anon 112\n\
    inactive_file 113\nactive_file 114\nunevictable 115\nslab_reclaimable 116\n\
    slab_unreclaimable 117\npgfault 118\npgmajfault 119\nworkingset_refault_anon 50\n\
    workingset_refault_file 70\nworkingset_activate_anon 50\nworkingset_activate_file 71\n\
    workingset_nodereclaim 122\npgrefill 123\npgscan 124\npgsteal 125\npgactivate 126\n\
    pgdeactivate 127\npglazyfree 128\npglazyfreed 129\nthp_fault_alloc 130\n\
    thp_collapse_alloc 131\n";

#[test]
fn a_group_without_files_has_used_nothing() {
    let (_root, cgroup) = group(&[]);
    fs::remove_file(cgroup.file("memory.events")).unwrap();
    assert_eq!(cgroup.stats().unwrap(), Stats::default());
}

#[test]
fn the_use_of_a_group_that_is_gone_is_not_found() {
    let (root, cgroup) = group(&[]);
    root.close().unwrap();
    assert_eq!(cgroup.stats().unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn memory_is_read_from_its_files() {
    let (_root, cgroup) = group(&[
        ("memory.stat", MEMORY_STAT),
        ("memory.current", "201\n"),
        ("memory.max", "202\n"),
        ("memory.swap.current", "203\n"),
        ("memory.swap.max", "max\n"),
        ("memory.peak", "205\n"),
        ("memory.swap.peak", "206\n"),
        ("memory.pressure", "some avg10=0.50 avg60=0.00 avg300=0.00 total=12\n"),
    ]);
    let some = Pressure { avg10: 0.5, total: 12, ..Pressure::default() };
    let expected = Memory {
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
        usage: 201,
        usage_limit: 202,
        swap_usage: 203,
        swap_limit: u64::MAX,
        max_usage: 205,
        swap_max_usage: 206,
        psi: Some(Psi { some: Some(some), full: None }),
    };
    assert_eq!(cgroup.stats().unwrap().memory, expected);
}

#[test]
fn processor_and_process_numbers_are_read_from_their_files() {
    let cpu_stat = "usage_usec 1\nuser_usec 2\nsystem_usec 3\nnice_usec 99\nnr_periods 4\nnr_throttled 5\n\
         throttled_usec 6\nnr_bursts 7\nburst_usec 8\n";
    let (_root, cgroup) = group(&[("cpu.stat", cpu_stat), ("pids.current", "3\n"), ("pids.max", "max\n")]);
    let stats = cgroup.stats().unwrap();
    let cpu = Cpu {
        usage_usec: 1,
        user_usec: 2,
        system_usec: 3,
        nr_periods: 4,
        nr_throttled: 5,
        throttled_usec: 6,
        nr_bursts: 7,
        burst_usec: 8,
        psi: None,
    };
    assert_eq!(stats.cpu, cpu);
    assert_eq!(stats.pids, Pids { current: 3, limit: u64::MAX });
}

#[test]
fn memory_events_are_read_from_their_file() {
    let (_root, cgroup) =
        group(&[("memory.events", "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n")]);
    let expected = MemoryEvents { low: 1, high: 2, max: 3, oom: 4, oom_kill: 5, oom_group_kill: 6 };
    assert_eq!(cgroup.stats().unwrap().memory_events, expected);
}

#[test]
fn devices_are_read_line_by_line() {
    let (_root, cgroup) = group(&[
        ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16\nodd rbytes=1\n"),
        ("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n"),
        ("rdma.max", "mlx4_0 hca_handle=3 hca_object=max\n"),
    ]);
    let stats = cgroup.stats().unwrap();
    let disk = IoDevice { major: 8, minor: 0, rbytes: 1, wbytes: 2, rios: 3, wios: 4 };
    assert_eq!(stats.io, Io { devices: vec![disk], psi: None });
    let adapter =
        |hca_handles, hca_objects| vec![RdmaDevice { device: "mlx4_0".to_owned(), hca_handles, hca_objects }];
    assert_eq!(stats.rdma, Rdma { current: adapter(2, 2000), limit: adapter(3, u32::MAX) });
}

#[test]
fn huge_pages_are_told_apart_by_size_and_from_reservations() {
    let (_root, cgroup) = group(&[
        ("hugetlb.2MB.current", "1\n"),
        ("hugetlb.2MB.max", "max\n"),
        ("hugetlb.2MB.events", "max 3\n"),
        ("hugetlb.2MB.rsvd.current", "9\n"),
        ("hugetlb.1GB.current", "4\n"),
    ]);
    let pages = |pagesize: &str, current, max, failcnt| {
        let pagesize = pagesize.to_owned();
        HugeTlb { pagesize, current, max, failcnt }
    };
    assert_eq!(cgroup.stats().unwrap().hugetlb, [pages("1GB", 4, 0, 0), pages("2MB", 1, u64::MAX, 3)]);
}
