//! The end: of the container, and of the machine, which switches itself off once its host has let go of it.

use std::time::Duration;

use tokio::time::{timeout, Instant};
use vminit_shim::client::{context, Guest, INIT};
use vminit_shim::vm::ExitReason;
use vminitd_test_support::LIMIT;

use super::create::{Init, ID, LAST_WORDS, STATUS};
use super::events::C1;
use super::host::Host;
use super::monitor::Monitor;
use crate::machine::{console, press_ctrl_alt_delete, OFF, PREPARE};

const SIGTERM: u32 = 15;

/// Kill, the exit as an event and as the answer of the Wait that was asked first, Delete, and the end of the streams.
pub async fn end_container(c1: &C1, c3: &Guest, mut init: Init) {
    c3.kill(ID, INIT, SIGTERM).await.expect("kill");
    let told = c1.until(&format!("exit {STATUS}")).await;
    assert_eq!(told.last().map(String::as_str), Some("exit 7"), "nothing follows the init's exit");
    let waiting = init.wait.take().expect("it was asked before the start");
    let waited = timeout(LIMIT, waiting).await.expect("Wait answers").expect("it does not panic");
    assert_eq!(waited.status, STATUS);
    let output = init.stdio.collect();
    let deleted = c3.delete(ID, INIT).await.expect("delete");
    assert_eq!(deleted.status, STATUS);
    let (stdout, stderr) = timeout(LIMIT, output.finish()).await.expect("they end").expect("output");
    assert_eq!((String::from_utf8_lossy(&stdout).as_ref(), stderr.as_slice()), (LAST_WORDS, &b""[..]));
}

/// C1 is closed once PrepareShutdown was answered. Nobody presses a key; the monitor pings on.
pub async fn power_off_by_itself(mut host: Host, c1: C1, monitor: Monitor) {
    prepare(&c1).await;
    let prepared = Instant::now();
    drop(c1);
    let took = off(&mut host).await;
    println!("the machine was off {took:.1?} after PrepareShutdown");
    monitor.was_answered_until(prepared);
}

/// That host presses Ctrl-Alt-Delete right after it.
pub async fn power_off_with_keys(mut host: Host, c1: C1) {
    prepare(&c1).await;
    drop(c1);
    press_ctrl_alt_delete(&host.vm).await;
    off(&mut host).await;
}

async fn prepare(c1: &C1) {
    let answer = c1.client.system().prepare_shutdown(context(PREPARE, "default"), &Default::default()).await;
    answer.expect("PrepareShutdown");
}

/// That host waits 500 ms, on a machine that is not emulated, and kills it.
async fn off(host: &mut Host) -> Duration {
    let begun = Instant::now();
    let reason = host.vm.wait_exit(OFF).await;
    let reason = reason.unwrap_or_else(|e| panic!("{e}; the console:\n{}", console(&host.vm)));
    assert_eq!(reason, ExitReason::GuestShutdown, "the console:\n{}", console(&host.vm));
    begun.elapsed()
}
