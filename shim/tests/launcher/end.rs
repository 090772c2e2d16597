//! The death of a machine, of whichever of its processes, and of who launched it.

use std::process::Stdio;
use std::{env, future};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use vminit_shim::vm::{Ended, ExitReason, Part};

use super::machine::{child_of_virtiofsd, dies, folder, full, is_reaped, launch, sigkill, PATIENCE};

/// Makes a run of this program the launcher of a machine in the folder that it names.
const LAUNCHER: &str = "VMINIT_TEST_LAUNCHER";
const LAUNCHED: &str = "launched ";

#[tokio::test]
async fn the_death_of_any_process_is_the_machines_and_says_whose() {
    let folder = folder();
    for number in 0..3 {
        let (vm, began) = launch(full(folder.path())).await;
        let child = child_of_virtiofsd(&began).await;
        let (first, second) = (tokio::spawn(vm.ended()), vm.ended());
        let (part, pid) = began[number];
        sigkill(pid);
        let status = "was killed by signal 9".to_string();
        let expected = match part {
            Part::Qemu => Ended::Qemu(ExitReason::Unknown { status }),
            _ => Ended::Backend { part, status },
        };
        let ended = timeout(PATIENCE, async { (first.await.expect("no panic"), second.await) });
        assert_eq!(ended.await.expect("it is told"), (expected.clone(), expected.clone()));
        assert_eq!(vm.ended().await, expected, "once more, afterwards");
        vm.stop().await;
        for (part, pid) in began {
            assert!(is_reaped(pid), "{part:?}");
        }
        dies(child).await;
    }
}

#[tokio::test]
async fn nothing_of_a_machine_outlives_a_killed_launcher() {
    if let Some(folder) = env::var_os(LAUNCHER) {
        return launch_and_wait(folder.as_ref()).await;
    }
    let folder = folder();
    let test = "end::nothing_of_a_machine_outlives_a_killed_launcher";
    let mut launcher = Command::new("/proc/self/exe")
        .args(["--exact", test, "--nocapture"])
        .env(LAUNCHER, folder.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("run this program");
    let mut lines = BufReader::new(launcher.stdout.take().expect("it was asked for")).lines();
    let pids = loop {
        let line = lines.next_line().await.expect("read").expect("it launches a machine");
        if let Some((_, pids)) = line.split_once(LAUNCHED) {
            break pids.split(' ').map(|pid| pid.parse().expect("a pid")).collect::<Vec<u32>>();
        }
    };
    assert_eq!(pids.len(), 4);
    launcher.kill().await.expect("kill it");
    for pid in pids {
        dies(pid).await;
    }
}

/// Never comes back.
async fn launch_and_wait(folder: &std::path::Path) {
    let (_vm, began) = launch(full(folder)).await;
    let child = child_of_virtiofsd(&began).await;
    let pids: Vec<_> = began.iter().map(|(_, pid)| *pid).chain([child]).map(|pid| pid.to_string()).collect();
    println!("{LAUNCHED}{}", pids.join(" "));
    future::pending().await
}
