//! Processes that lose their parents become PID 1's: it collects them all, and mistakes none of its own for one of them.

use std::sync::Arc;

use tokio::task::JoinSet;
use vminit_shim::spec;
use vminitd_test_support::poll::PATIENCE;

use crate::machine::Machine;
use crate::observer::Observer;

const ORPHANS: usize = 1000;
const EXECS: u32 = 24;

#[tokio::test]
async fn a_thousand_orphans_leave_no_zombie_and_change_no_status() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let machine = Arc::new(machine);
    let observer = Observer::start(&machine).await;
    machine.start("c", &spec::container(&["/bin/sleep", "1000"])).await;
    // The shell in between is gone before what it started, so that is PID 1's; it ends at once, or a moment later.
    let storm = format!("i=0; while [ $i -lt {ORPHANS} ]; do ((exit 3) & sleep 0.1 &); i=$((i + 2)); done");
    let mut execs = JoinSet::new();
    for number in 0..EXECS {
        let machine = machine.clone();
        execs.spawn(async move {
            let id = format!("e{number}");
            let script = format!("exit {number}");
            machine.start_exec("c", &id, &["/bin/sh", "-c", &script]).await;
            let status = machine.guest.wait("c", &id).await.expect("wait").status;
            machine.guest.delete("c", &id).await.expect("delete");
            (number, status)
        });
    }
    observer.run(&storm).await;
    while let Some(exec) = execs.join_next().await {
        let (number, status) = exec.expect("join");
        assert_eq!(status, number, "the status of another process");
    }
    let children = until_collected(&observer).await;
    println!("{ORPHANS} orphans beside {EXECS} execs; PID 1 has these children left: {children}");
    machine.remove("c").await;
    observer.stop().await;
    Arc::into_inner(machine).expect("the execs have ended").power_off().await;
}

/// Waits until PID 1 has no child but the inits of the two containers; gives these.
async fn until_collected(observer: &Observer<'_>) -> String {
    let look = "for stat in /proc/[0-9]*/stat; do \
            read -r line 2>/dev/null <$stat || continue; set -- ${line##*) }; \
            [ $2 = 1 ] && echo $1:${line%%)*}; done; true";
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let children = observer.run(look).await;
        let names: Vec<&str> = children.lines().collect();
        // The exec that looks is PID 1's child as well.
        if names.len() <= 3 && !names.iter().any(|name| name.starts_with('Z')) {
            return names.join(" ");
        }
        assert!(tokio::time::Instant::now() < deadline, "still there: {names:?}");
    }
}
