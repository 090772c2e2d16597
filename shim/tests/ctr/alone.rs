//! A test in namespaces of its own: network, mounts and processes. Owns how many there are at once and that nothing
//! outlives one, even a failed or hanging one; never what happens inside.

use std::any::type_name_of_val;
use std::env;
use std::ops::AsyncFnOnce;
use std::time::Duration;

use tokio::process::Command;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::world::World;

/// Says to a process that it runs in namespaces of its own.
const INSIDE: &str = "VMINIT_TEST_INSIDE";

/// What any one test may take on a busy machine; with it everything in its namespaces ends.
const LIMIT: Duration = Duration::from_secs(180);

/// Tests at once. Machines are emulated, and more of them would only be in each other's way.
static ROOM: Semaphore = Semaphore::const_new(2);

/// As PID 1 a shell that reaps: the test itself only waits for what it knows. It must not be replaced by the test, so
/// this is not its last command.
const INIT: &str = "\"$@\"; exit $?";

/// Shows a fact in a world that is new and the fact's own, and in which nothing may be left in the end.
///
/// The test's program runs once more for it: `fact` has to be a closure of the test that calls this, whose name is
/// found in the closure's type.
pub fn alone(fact: impl AsyncFnOnce(&mut World)) {
    alone_for(LIMIT, fact);
}

/// The same for a fact that takes longer.
pub fn alone_for(limit: Duration, fact: impl AsyncFnOnce(&mut World)) {
    if env::var_os(INSIDE).is_some() {
        return runtime().block_on(inside(fact));
    }
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: it takes root to make namespaces");
    }
    runtime().block_on(async {
        let _room = ROOM.acquire().await.expect("the room is never closed");
        outside(test_of(type_name_of_val(&fact)), limit).await;
    });
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("make a runtime")
}

/// The name of a test in the words of its harness: `ctr::module::test::{{closure}}` without its ends.
fn test_of(closure: &str) -> &str {
    let path = closure.split_once("::").map_or(closure, |(_, path)| path);
    path.split("::{{").next().expect("a split has a first part")
}

async fn inside(fact: impl AsyncFnOnce(&mut World)) {
    let mut world = World::start().await;
    fact(&mut world).await;
    world.is_clean().await;
}

async fn outside(test: &str, limit: Duration) {
    // If this process is killed, so is what it started: its parent-death signal makes `unshare` end, whose own does the
    // same to PID 1.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]);
    command.args(["--mount-proc", "sh", "-c", INIT, "sh"]);
    command.arg(env::current_exe().expect("a program knows its own path"));
    command.args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"]);
    let output = timeout(limit, command.env(INSIDE, "1").kill_on_drop(true).output());
    let output = output.await.unwrap_or_else(|_| panic!("{test} has not ended within {limit:?}"));
    let output = output.expect("make namespaces");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{test} has failed in its namespaces: {}", output.status);
    assert!(said.contains("1 passed"), "there is no test {test}");
}
