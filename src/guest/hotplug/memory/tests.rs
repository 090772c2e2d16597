//! Memory on a tree like that of sysfs; what the kernel does of itself is shown in a microVM.

use tempfile::TempDir;

use super::*;

fn block(sys: &TempDir, id: BlockId, state: &str) {
    let dir = sys.path().join("devices/system/memory").join(format!("memory{id}"));
    fs::create_dir_all(&dir).expect("a folder");
    fs::write(dir.join("state"), format!("{state}\n")).expect("a file");
    fs::write(dir.join("removable"), "1\n").expect("a file");
}

/// A machine that was booted with blocks 0 and 1.
fn machine() -> (TempDir, Hotplug) {
    let sys = tempfile::tempdir().expect("a folder");
    block(&sys, 0, ONLINE);
    block(&sys, 1, ONLINE);
    fs::write(sys.path().join("devices/system/memory/block_size_bytes"), "8000000\n").expect("a file");
    let hotplug = Hotplug::new(sys.path());
    (sys, hotplug)
}

fn states(hotplug: &Hotplug) -> Vec<(BlockId, bool)> {
    blocks(&hotplug.0.memory).into_iter().map(|block| (block.id, block.online)).collect()
}

fn state(hotplug: &Hotplug, id: BlockId) -> String {
    fs::read_to_string(block_dir(&hotplug.0.memory, id).join("state")).expect("a state")
}

#[tokio::test]
async fn all_blocks_of_a_device_go_online_and_offline_again() {
    let (sys, hotplug) = machine();
    block(&sys, 32, OFFLINE);
    block(&sys, 33, OFFLINE);
    for _ in ["the first time", "again"] {
        hotplug.online_memory(0).await.expect("online");
        assert_eq!(states(&hotplug), [(0, true), (1, true), (32, true), (33, true)]);
    }
    assert_eq!(state(&hotplug, 33), ONLINE_MOVABLE);
    for _ in ["the first time", "again"] {
        hotplug.offline_memory(0).await.expect("offline");
        assert_eq!(states(&hotplug), [(0, true), (1, true), (32, false), (33, false)]);
    }
}

#[tokio::test]
async fn each_device_has_the_blocks_that_came_before_its_call() {
    let (sys, hotplug) = machine();
    block(&sys, 32, OFFLINE);
    hotplug.online_memory(3).await.expect("online");
    block(&sys, 33, OFFLINE);
    hotplug.online_memory(1).await.expect("online");
    hotplug.offline_memory(3).await.expect("offline");
    assert_eq!(states(&hotplug), [(0, true), (1, true), (32, false), (33, true)]);
}

#[tokio::test]
async fn what_the_kernel_has_put_online_by_itself_is_taken_over() {
    let (sys, hotplug) = machine();
    block(&sys, 32, ONLINE);
    hotplug.online_memory(0).await.expect("it is online");
    assert_eq!(state(&hotplug, 32), "online\n", "nothing was written");
    hotplug.offline_memory(0).await.expect("offline");
    assert_eq!(states(&hotplug), [(0, true), (1, true), (32, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_not_there_is_named_and_the_boot_memory_is_left_alone() {
    let (_sys, hotplug) = machine();
    let refused = hotplug.offline_memory(0).await.expect_err("nothing was added");
    assert_eq!(refused.to_string(), "memory block 0 not present: not found");
    let late = hotplug.online_memory(1).await.expect_err("nothing comes");
    let path = hotplug.0.memory.display();
    assert_eq!(late.to_string(), format!("memory block 1: timeout waiting for {path}: not found"));
    assert_eq!(states(&hotplug), [(0, true), (1, true)]);
}

#[tokio::test]
async fn memory_in_use_is_refused_before_any_of_it_is_taken() {
    let (sys, hotplug) = machine();
    block(&sys, 32, OFFLINE);
    block(&sys, 33, OFFLINE);
    hotplug.online_memory(0).await.expect("online");
    fs::write(sys.path().join("devices/system/memory/memory32/removable"), "0\n").expect("a file");
    let refused = hotplug.offline_memory(0).await.expect_err("the kernel needs it");
    let text = "memory block 0 is not removable (kernel in use): failed precondition";
    assert_eq!(refused.to_string(), text);
    assert_eq!(states(&hotplug), [(0, true), (1, true), (32, true), (33, true)]);
}

#[tokio::test]
async fn memory_whose_content_would_not_fit_into_the_rest_stays() {
    let (sys, hotplug) = machine();
    block(&sys, 32, OFFLINE);
    hotplug.online_memory(0).await.expect("online");
    // A block of 16 TiB, where what this machine has is to spare.
    fs::write(sys.path().join("devices/system/memory/block_size_bytes"), "100000000000\n").expect("a file");
    let refused = hotplug.offline_memory(0).await.expect_err("it is needed");
    let text = "memory block 0 is not removable (memory in use): failed precondition";
    assert_eq!(refused.to_string(), text);
    assert_eq!(states(&hotplug), [(0, true), (1, true), (32, true)]);
}

#[test]
fn the_kernel_tells_what_is_available_and_the_size_of_a_block() {
    assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2 kB\nBuffers: 1 kB\n"), Some(2048));
    assert_eq!([available("MemTotal: 9 kB\n"), available("MemAvailable: x kB\n")], [None, None]);
    assert_eq!([block_bytes("8000000\n"), block_bytes("")], [Some(128 << 20), None]);
}

#[test]
fn what_is_offline_is_wanted_first_then_what_is_its_own_or_nobodys() {
    let on = |id| Block { id, online: true };
    let off = |id| Block { id, online: false };
    let mut added = Added::since(&[on(0), off(8)]);
    assert_eq!(added.to_online(0, &[on(0)]), None);
    assert_eq!(added.to_online(0, &[on(0), off(8)]), Some(vec![8]));
    assert_eq!(added.to_online(0, &[on(0), on(8)]), Some(vec![8]));
    added.claim(0, vec![8]);
    assert_eq!(added.to_online(0, &[on(0), on(8)]), Some(vec![8]));
    assert_eq!(added.to_online(1, &[on(0), on(8)]), None);
    assert_eq!(added.to_online(1, &[on(0), on(8), off(9)]), Some(vec![9]));
    assert_eq!(added.to_offline(0, &[on(0), on(8), off(9)]), Some(vec![8]));
    assert_eq!(added.to_offline(1, &[on(0), on(8), off(9)]), Some(vec![9]));
    added.release(0);
    assert_eq!(added.to_offline(1, &[on(0), off(8)]), Some(vec![8]));
    assert_eq!(added.to_offline(0, &[on(0)]), None);
}
