//! The verbs of the runtime, each with the call that runs it: what comes before, the call, what comes after.

use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{ClientError, Guest, INIT};
use vminitd_test_support::calls::{create, exec, kill_all, pause, pids, resume, running, update};
use vminitd_test_support::Daemon;

/// Each verb that the daemon uses, and how long one may take, in seconds (`docs/PROTOCOL.md`).
pub const VERBS: [(&str, u64); 9] = [
    ("create", 60),
    ("exec", 60),
    ("start", 30),
    ("delete", 30),
    ("kill", 10),
    ("ps", 10),
    ("pause", 30),
    ("resume", 30),
    ("update", 30),
];

/// Their names.
pub fn verbs() -> [&'static str; 9] {
    VERBS.map(|(verb, _)| verb)
}

/// Brings a container to where this verb is the next thing to happen to it.
pub async fn prepare(guest: &Guest, verb: &str, id: &str) {
    match verb {
        "create" => {}
        "start" => drop(create(guest, id, &["forever"]).await.expect("create")),
        "delete" => {
            running(guest, id, &["exit", "0"]).await;
            guest.wait(id, INIT).await.expect("wait");
        }
        "exec" => {
            running(guest, id, &["forever"]).await;
            exec(guest, id, "e", &["forever"]).await.expect("exec");
        }
        "resume" => {
            running(guest, id, &["forever"]).await;
            pause(guest, id).await.expect("pause");
        }
        _ => running(guest, id, &["forever"]).await,
    }
}

/// Makes the call that runs this verb.
pub async fn call(guest: &Guest, verb: &str, id: &str) -> Result<(), ClientError> {
    match verb {
        "create" => create(guest, id, &["forever"]).await.map(drop),
        "start" => guest.start(id, INIT).await.map(drop),
        "exec" => guest.start(id, "e").await.map(drop),
        "delete" => guest.delete(id, INIT).await.map(drop),
        "kill" => kill_all(guest, id, 15).await,
        "ps" => pids(guest, id).await.map(drop),
        "pause" => pause(guest, id).await,
        "resume" => resume(guest, id).await,
        "update" => update(guest, id, Some(r#"{"pids":{"limit":9}}"#)).await,
        other => panic!("no call runs {other}"),
    }
}

/// Ends what [`prepare`] made, whatever state a failed call left it in.
pub async fn dispose(daemon: &Daemon, guest: &Guest, verb: &str, id: &str) {
    if verb == "create" {
        return daemon.remove_bundle(id);
    }
    match guest.kill(id, INIT, 9).await {
        Err(error) if error.code() != Some(Code::NOT_FOUND) => panic!("{verb}: {error}"),
        _ => {}
    }
    guest.wait(id, INIT).await.expect(verb);
    guest.delete(id, INIT).await.expect(verb);
}

/// A life without a fault: the daemon goes on.
pub async fn a_life_goes_well(guest: &Guest) {
    running(guest, "healthy", &["exit", "0"]).await;
    assert_eq!(guest.wait("healthy", INIT).await.expect("wait").status, 0);
    guest.delete("healthy", INIT).await.expect("delete");
}
