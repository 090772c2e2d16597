//! Every method of the Task service in every state: its answer, what it publishes, what it asks of runc, and the state
//! it leaves. The same table holds for the fake runc and, where the state can be reached, for the real one.

mod call;
mod effects;
mod rig;
mod row;
mod table;

use std::path::Path;

use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::INIT;
use vminitd_test_support::code;

use call::{Answer, Method};
use rig::Rig;
use row::{Init, Row, Who};

const INVALID: Answer = Answer::Refused(Code::INVALID_ARGUMENT);

/// One of each method, for what holds of all of them.
const METHODS: [Method; 16] = [
    Method::Create,
    Method::Start,
    Method::Exec,
    Method::Kill(9),
    Method::KillAll(9),
    Method::Delete,
    Method::State,
    Method::Wait,
    Method::Pause,
    Method::Resume,
    Method::Update(table::LIMIT),
    Method::Checkpoint,
    Method::Stats,
    Method::Pids,
    Method::Connect,
    Method::Shutdown,
];

async fn holds_on_fake_runc(rows: &[Row]) {
    let rig = Rig::on_fake_runc().await;
    check_all(&rig, "c", rows.iter()).await;
    rig.end().await;
}

async fn holds_on_real_runc(name: &str, tables: &[&[Row]]) {
    let Some(rig) = Rig::on_real_runc(name).await else { return };
    check_all(&rig, name, tables.iter().copied().flatten().filter(|row| is_feasible(row))).await;
    rig.end().await;
}

async fn check_all(rig: &Rig, name: &str, rows: impl Iterator<Item = &Row>) {
    for (number, row) in rows.enumerate() {
        rig.check(&format!("{name}{number}"), row).await;
    }
}

/// Whether the real runc gets there: nothing holds it up in a pause, and the freezer of cgroup v1 holds back SIGKILL
/// from an exec.
fn is_feasible(row: &Row) -> bool {
    let frozen_exec_dies =
        row.method == Method::Kill(9) && (row.init, row.who) == (Init::Paused, Who::Running);
    row.init != Init::Pausing && !frozen_exec_dies
}

macro_rules! on_fake_runc {
    ($($name:ident: $table:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            holds_on_fake_runc(table::$table).await;
        })*
    };
}

on_fake_runc! {
    create_in_every_state: CREATE;
    start_in_every_state: START;
    exec_in_every_state: EXEC;
    kill_in_every_state: KILL;
    delete_in_every_state: DELETE;
    state_in_every_state: STATE;
    wait_in_every_state: WAIT;
    pause_and_resume_in_every_state: PAUSE_AND_RESUME;
    update_in_every_state: UPDATE;
    pids_in_every_state: PIDS;
    connect_and_shutdown_in_every_state: CONNECT_AND_SHUTDOWN;
}

#[tokio::test]
async fn checkpoint_in_every_state_without_criu() {
    if criu_is_there() {
        return eprintln!("skipped: this machine has criu");
    }
    holds_on_fake_runc(table::CHECKPOINT).await;
    holds_on_real_runc("checkpoints", &[table::CHECKPOINT]).await;
}

#[tokio::test]
async fn stats_in_every_state_on_cgroup_v1() {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return eprintln!("skipped: this machine has cgroup v2");
    }
    holds_on_fake_runc(table::STATS).await;
    holds_on_real_runc("stats", &[table::STATS]).await;
}

/// In the daemon's own PATH, not in that of this test.
fn criu_is_there() -> bool {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    folders.iter().any(|folder| Path::new(folder).join("criu").exists())
}

// ---- what holds of all methods

#[test]
fn the_table_leaves_nothing_out() {
    use Init::{Created, Deleted, Missing, Paused, Pausing, Running, Stopped};
    let rows = |method, init, who| {
        let there = table::ALL
            .iter()
            .copied()
            .flatten()
            .any(|row| (row.method, row.init, row.who) == (method, init, who));
        assert!(there, "no row for {method:?} of {who:?} in a container that is {init:?}");
    };
    for method in METHODS {
        // An Exec names an exec in any case.
        let who = if method == Method::Exec { Who::Unknown } else { Who::Init };
        for init in [Missing, Created, Running, Pausing, Paused, Stopped, Deleted] {
            rows(method, init, who);
        }
        if method.names_an_exec() {
            for who in [Who::Unknown, Who::Added, Who::Running, Who::Failed, Who::Exited, Who::Deleted] {
                rows(method, Running, who);
            }
        }
    }
}

#[tokio::test]
async fn malformed_ids_are_refused_by_every_method_before_any_work() {
    let rig = Rig::on_fake_runc().await;
    rig.running("c").await;
    let called = rig.daemon.verbs("c").len();
    let too_long = "a".repeat(77);
    for id in [".", "..", "../x", "a/b", "-a", "a b", "a\0b", "é", too_long.as_str()] {
        for method in METHODS {
            assert_eq!(method.call(&rig, id, INIT).await, INVALID, "{method:?} of {id:?}");
            if method.names_an_exec() {
                assert_eq!(method.call(&rig, "c", id).await, INVALID, "{method:?} of the exec {id:?}");
            }
        }
        assert_eq!(code(rig.guest.bundle(id, &rig.config(id)).await), Code::INVALID_ARGUMENT, "{id:?}");
        assert!(rig.daemon.verbs(id).is_empty(), "{id:?}: runc was called");
    }
    assert_eq!(rig.told("c").await, ["create", "start"]);
    assert_eq!(rig.daemon.verbs("c").len(), called);
    rig.daemon.stop().await;
}

#[tokio::test]
async fn every_method_needs_an_id_but_shutdown() {
    let rig = Rig::on_fake_runc().await;
    for method in METHODS {
        let expected = if method == Method::Shutdown { Answer::Done } else { INVALID };
        assert_eq!(method.call(&rig, "", INIT).await, expected, "{method:?}");
    }
    assert_eq!(code(rig.guest.bundle("", &rig.config("")).await), Code::INVALID_ARGUMENT);
    rig.daemon.stop().await;
}

// ---- the real runc

#[tokio::test]
async fn lives_begin_and_end_so_with_the_real_runc() {
    holds_on_real_runc("lives", &[table::CREATE, table::START, table::EXEC, table::DELETE]).await;
}

#[tokio::test]
async fn signals_and_waiters_fare_so_with_the_real_runc() {
    holds_on_real_runc("signals", &[table::KILL, table::STATE, table::WAIT, table::PIDS]).await;
}

#[tokio::test]
async fn pauses_and_updates_go_so_with_the_real_runc() {
    holds_on_real_runc("pauses", &[table::PAUSE_AND_RESUME, table::UPDATE, table::CONNECT_AND_SHUTDOWN])
        .await;
}
