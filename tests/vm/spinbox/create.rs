//! The container's own life up to its start: the bundle, the root file system of the layers' disks, the init.

use std::sync::Arc;

use serde_json::{json, Value};
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vminit_shim::api::bundle;
use vminit_shim::api::containerd::api::{ConnectRequest, CreateTaskRequest, Mount, Status};
use vminit_shim::api::protobuf::well_known_types::any::Any;
use vminit_shim::api::protobuf::{Message, MessageField};
use vminit_shim::api::{spinbox, type_url};
use vminit_shim::client::{Exit, Guest, Stdio, INIT};
use vminit_shim::spec;
use vminitd_test_support::calls::{patient, state};
use vminitd_test_support::LIMIT;

use super::host::Host;

/// That host's one container.
pub const ID: &str = "c0ffee";

/// A file of the bundle, which the spec names without a folder.
const RESOLVER: &str = "nameserver 10.0.2.3\n";

/// Shows that file, and lives until SIGTERM.
const SCRIPT: &str =
    "cat /etc/resolv.conf; trap 'echo bye; exit 7' TERM; while :; do sleep 1000 & wait; done";

/// What it prints before it ends, with this status.
pub const LAST_WORDS: &str = "bye\n";
pub const STATUS: u32 = 7;

/// The init, with what the host holds of it.
pub struct Init {
    pub pid: u32,
    pub stdio: Stdio,
    /// A Wait that was asked before the start, as containerd does.
    pub wait: Option<JoinHandle<Exit>>,
}

/// On C2: Bundle.Create, the streams, Task.Create. C2 stays open.
pub async fn create(host: &Host, c2: &Guest) -> Init {
    let mut request = bundle::CreateRequest { id: ID.into(), ..Default::default() };
    request.files.insert("config.json".into(), config().to_string().into_bytes());
    request.files.insert("resolv.conf".into(), RESOLVER.into());
    let bundle = c2.client.bundle().create(patient(), &request).await.expect("Bundle.Create").bundle;
    assert_eq!(bundle, format!("/run/bundles/{ID}"));

    let stdio = host.stdio([false, true, true]).await;
    let [stdin, stdout, stderr] = stdio.uris();
    let options = spinbox::SpinboxOpts { io_uid: 1000, io_gid: 1000, ..Default::default() };
    let options = Any {
        type_url: type_url::SPINBOX_OPTIONS.into(),
        value: options.write_to_bytes().expect("it encodes"),
        ..Default::default()
    };
    let request = CreateTaskRequest {
        id: ID.into(),
        bundle,
        rootfs: layers(),
        stdin,
        stdout,
        stderr,
        options: MessageField::some(options),
        ..Default::default()
    };
    let reply = c2.client.task().create(patient(), &request).await.expect("Task.Create");
    assert!(reply.pid > 0);
    Init { pid: reply.pid, stdio, wait: None }
}

/// On C3: Wait before Start, and Start, which names the pid of Create.
pub async fn wait_and_start(c3: &Arc<Guest>, init: &mut Init) {
    let waiting = c3.clone();
    init.wait = Some(tokio::spawn(async move { waiting.wait(ID, INIT).await.expect("wait") }));
    assert_eq!(c3.start(ID, INIT).await.expect("start"), init.pid);
}

/// State and Connect know of it, and it sees the bundle's own file.
pub async fn look(c3: &Guest, init: &mut Init) {
    let state = state(c3, ID, INIT).await.expect("state");
    assert_eq!((state.id.as_str(), state.pid), (ID, init.pid));
    assert_eq!(state.status.enum_value(), Ok(Status::RUNNING));
    assert_eq!([&state.stdout, &state.stderr].map(String::as_str), ["stream://1", "stream://2"]);
    let request = ConnectRequest { id: ID.into(), ..Default::default() };
    let connected = c3.client.task().connect(patient(), &request).await.expect("connect");
    assert_eq!((connected.shim_pid, connected.task_pid), (1, init.pid));

    let stdout = init.stdio.stdout.as_mut().expect("a stream for stdout");
    let mut shown = Vec::new();
    // Up to the end of what is expected, or of what comes.
    let mut socket = (&mut stdout.socket).take(RESOLVER.len() as u64);
    let in_time = timeout(LIMIT, socket.read_to_end(&mut shown)).await;
    assert!(in_time.is_ok() && shown == RESOLVER.as_bytes(), "{:?}", String::from_utf8_lossy(&shown));
}

/// A layer that is only read, a disk that is written to, and both as one.
fn layers() -> Vec<Mount> {
    let mount = |kind: &str, source: &str, options: &[&str]| Mount {
        type_: kind.into(),
        source: source.into(),
        options: options.iter().map(|&option| option.into()).collect(),
        ..Default::default()
    };
    let overlay = [
        "lowerdir={{ overlay 0 0 }}",
        "upperdir={{ mount 1 }}/upper",
        "workdir={{ mount 1 }}/work",
        "X-containerd.mkdir.path={{ mount 1 }}/upper",
        "X-containerd.mkdir.path={{ mount 1 }}/work",
    ];
    vec![
        mount("ext4", "serial:sbxblk0", &["ro"]),
        mount("ext4", "serial:sbxblk1", &[]),
        mount("format/mkdir/overlay", "overlay", &overlay),
    ]
}

/// The spec as that host sends it: the VM's network and cgroups, every capability in every set, nothing hidden, the
/// cgroups to be seen, and a file of the bundle by its bare name.
fn config() -> Value {
    let mut config = spec::container(&["/bin/sh", "-c", SCRIPT]);
    spec::grant_all_capabilities(&mut config);
    let sets = &mut config["process"]["capabilities"];
    sets["inheritable"] = sets["bounding"].clone();
    sets["ambient"] = sets["bounding"].clone();
    config["linux"]["readonlyPaths"] = json!([]);
    config["linux"]["maskedPaths"] = json!([]);
    let mounts = config["mounts"].as_array_mut().expect("a spec has mounts");
    mounts.push(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup2", "source": "cgroup2", "options": ["rw"] }),
    );
    mounts.push(json!({ "destination": "/etc/resolv.conf", "type": "bind", "source": "resolv.conf", "options": ["rbind", "ro"] }));
    config
}
