//! The verbs of the runtime, each with the call that runs it: what comes before, the call, what comes after.

use std::time::Duration;

use protobuf::well_known_types::any::Any;
use protobuf::MessageField;
use vminit_shim::api::containerd::api::{
    KillRequest, PauseRequest, PidsRequest, ResumeRequest, UpdateTaskRequest,
};
use vminit_shim::api::ttrpc::{self, Code};
use vminit_shim::client::{context, ClientError, Guest, INIT};
use vminitd_test_support::calls::{create, exec, running};
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

/// No deadline of the caller's is shorter than runc's.
const PATIENCE: Duration = Duration::from_secs(120);

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
            call(guest, "pause", id).await.expect("pause");
        }
        _ => running(guest, id, &["forever"]).await,
    }
}

/// Makes the call that runs this verb.
pub async fn call(guest: &Guest, verb: &str, id: &str) -> Result<(), ClientError> {
    let (task, patience, id) = (guest.client.task(), || context(PATIENCE, "default"), id.to_owned());
    let named = |call| move |source: ttrpc::Error| ClientError::Rpc { call, source };
    match verb {
        "create" => create(guest, &id, &["forever"]).await.map(drop),
        "start" => guest.start(&id, INIT).await.map(drop),
        "exec" => guest.start(&id, "e").await.map(drop),
        "delete" => guest.delete(&id, INIT).await.map(drop),
        "kill" => {
            let request = KillRequest { id, signal: 15, all: true, ..Default::default() };
            task.kill(patience(), &request).await.map(drop).map_err(named("Task.Kill"))
        }
        "ps" => {
            let request = PidsRequest { id, ..Default::default() };
            task.pids(patience(), &request).await.map(drop).map_err(named("Task.Pids"))
        }
        "pause" => {
            let request = PauseRequest { id, ..Default::default() };
            task.pause(patience(), &request).await.map(drop).map_err(named("Task.Pause"))
        }
        "resume" => {
            let request = ResumeRequest { id, ..Default::default() };
            task.resume(patience(), &request).await.map(drop).map_err(named("Task.Resume"))
        }
        "update" => {
            let resources = Any { value: br#"{"pids":{"limit":9}}"#.to_vec(), ..Default::default() };
            let resources = MessageField::some(resources);
            let request = UpdateTaskRequest { id, resources, ..Default::default() };
            task.update(patience(), &request).await.map(drop).map_err(named("Task.Update"))
        }
        other => panic!("no call runs {other}"),
    }
}

/// Ends what [`prepare`] made, whatever state a failed call left it in.
pub async fn dispose(daemon: &Daemon, guest: &Guest, verb: &str, id: &str) {
    if verb == "create" {
        // What the host does after a failed create, there being no call for it.
        std::fs::remove_dir_all(daemon.dir().join("bundles").join(id)).expect("remove a bundle");
        return;
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
