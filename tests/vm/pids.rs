//! Pids that come round again: the exits of many short lives must not be taken for each other's, nor for those of the
//! long lives beside them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::{JoinHandle, JoinSet};
use vminit_shim::client::{Client, Event, Guest, INIT};
use vminit_shim::spec;
use vminitd_test_support::LIMIT;

use crate::machine::Machine;
use crate::observer::{Observer, OBSERVER};

/// Pids start again at 300 (RESERVED_PIDS in Linux, kernel/pid.c), so a hundred are left. A runc takes some twenty of
/// them, for its threads too: they wrap every few calls.
const PID_MAX: u32 = 400;
/// Short execs, fewer than there are exit codes.
const EXECS: u32 = 120;
/// Execs under way at once.
const AT_ONCE: u32 = 3;
/// Short containers; their exit codes follow those of the execs.
const CONTAINERS: u32 = 8;
/// The exit codes of the two long lives.
const LONG_INIT: u32 = 201;
const LONG_EXEC: u32 = 202;
/// signal(7).
const SIGTERM: u32 = 15;

/// A process by its container and its own id, which for an init are the same.
type Name = (String, String);

/// What is to be the same in the answers and in the event: pid and exit status.
type Exits = Vec<(Name, (u32, u32))>;

#[tokio::test]
async fn every_exit_has_its_own_id_pid_and_status_while_pids_come_round_again() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let machine = Arc::new(machine);
    let told = follow_exits(&machine.guest, "long").await;
    let observer = Observer::start(&machine).await;
    let long_lives = start_long_lives(&machine).await;
    observer.run(&format!("echo {PID_MAX} >/proc/sys/kernel/pid_max")).await;

    let mut workers = JoinSet::new();
    for first in 0..AT_ONCE {
        workers.spawn(short_lives(machine.clone(), first));
    }
    let mut seen = workers.join_all().await.concat();
    observer.stop().await;
    let short: BTreeSet<u32> = seen.iter().map(|(_, (pid, _))| *pid).collect();
    println!("{} short processes had {} pids", seen.len(), short.len());
    assert!(short.len() < seen.len(), "no pid came round again");
    assert!(
        long_lives.iter().all(|(_, pid)| !short.contains(pid)),
        "a pid was given away while it was in use"
    );

    seen.extend(end_long_lives(&machine, long_lives).await);
    let mut told = told.await.expect("the follower of events does not panic");
    told.retain(|((container, _), _)| container != OBSERVER);
    told.sort();
    seen.sort();
    assert_eq!(told, seen);
    Arc::into_inner(machine).expect("the workers are gone").power_off().await;
}

/// A container and an exec in it.
async fn start_long_lives(machine: &Machine) -> Vec<(Name, u32)> {
    let init = until_term(LONG_INIT);
    let pid = machine.start("long", &spec::container(&["/bin/sh", "-c", &init])).await;
    let exec = machine.start_exec("long", "exec", &["/bin/sh", "-c", &until_term(LONG_EXEC)]).await;
    let name = |id: &str| ("long".to_owned(), id.to_owned());
    vec![(name("exec"), exec), (name("long"), pid)]
}

/// Tells each to end, in order, and gives how it did.
async fn end_long_lives(machine: &Machine, lives: Vec<(Name, u32)>) -> Exits {
    let mut exits = Exits::new();
    for (name, pid) in lives {
        let exec_id = if name.1 == "long" { INIT } else { &name.1 };
        machine.guest.kill("long", exec_id, SIGTERM).await.expect("kill");
        let status = machine.guest.wait("long", exec_id).await.expect("wait").status;
        machine.guest.delete("long", exec_id).await.expect("delete");
        exits.push((name, (pid, status)));
    }
    exits
}

/// One worker's share: every code from `first` in steps of [`AT_ONCE`], as an exec or as a container.
async fn short_lives(machine: Arc<Machine>, first: u32) -> Exits {
    let mut exits = Exits::new();
    for code in (first..EXECS + CONTAINERS).step_by(AT_ONCE as usize) {
        exits.push(match code < EXECS {
            true => short_exec(&machine, code).await,
            false => short_container(&machine, code).await,
        });
    }
    for ((_, id), (_, status)) in &exits {
        assert_eq!(*id, format!("p{status}"), "a process ended with another one's status");
    }
    exits
}

async fn short_exec(machine: &Machine, code: u32) -> (Name, (u32, u32)) {
    let id = format!("p{code}");
    let pid = machine.start_exec("long", &id, &["/bin/sh", "-c", &format!("exit {code}")]).await;
    let status = machine.guest.wait("long", &id).await.expect("wait").status;
    machine.guest.delete("long", &id).await.expect("delete");
    (("long".to_owned(), id), (pid, status))
}

async fn short_container(machine: &Machine, code: u32) -> (Name, (u32, u32)) {
    let id = format!("p{code}");
    let pid = machine.start(&id, &spec::container(&["/bin/sh", "-c", &format!("exit {code}")])).await;
    let status = machine.guest.wait(&id, INIT).await.expect("wait").status;
    machine.guest.delete(&id, INIT).await.expect("delete");
    ((id.clone(), id), (pid, status))
}

/// A shell that lives until it is told to end.
fn until_term(code: u32) -> String {
    format!("trap 'exit {code}' TERM; while :; do sleep 1000 & wait; done")
}

/// Follows the guest's exits until the container `last` is deleted.
async fn follow_exits(guest: &Guest, last: &'static str) -> JoinHandle<Exits> {
    let client = Client::connect_until(&guest.rpc, LIMIT).await.expect("connect for events");
    let mut events = client.events().await.expect("subscribe to events");
    tokio::spawn(async move {
        let mut exits = Exits::new();
        while let Some(event) = events.next().await.expect("the stream of events holds") {
            match event {
                Event::Exit { container_id, id, pid, status, .. } => {
                    exits.push(((container_id, id), (pid, status)));
                }
                Event::Delete { container_id, id, .. }
                    if container_id == last && (id == last || id.is_empty()) =>
                {
                    break;
                }
                _ => {}
            }
        }
        exits
    })
}
