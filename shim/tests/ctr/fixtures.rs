//! Specs as real clients wrote them, handed to the shim as containerd does it: each runs, or is refused with a text
//! that names what is unsupported. Of a spec only what it runs is replaced, by what busybox has.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{json, Value};
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::process::Command;
use tokio::time::timeout;
use ttrpc::asynchronous::Client;
use ttrpc::context::{with_duration, Context};
use vminit_shim::api::containerd::api::{
    CreateTaskRequest, DeleteRequest, Mount, ShutdownRequest, StartRequest, WaitRequest,
};
use vminit_shim::api::containerd::shim_async::TaskClient;
use vminitd_test_support::rootfs;

use crate::alone::alone;
use crate::world::{shim, text, Said, World, ADDRESS, DIR, LOG, NAMESPACE, PATIENCE};

const ID: &str = "c1";
/// What all of them run, and say, and end with.
const SCRIPT: &str = "echo here; exit 7";
const SAID: &str = "here\n";
const STATUS: u32 = 7;

/// What stands for the program of all hooks: it writes down its last argument, which is the kind of
/// the hook in words of nerdctl.
const HOOK: &str = "#!/bin/sh\ncat >/dev/null; for last; do :; done; echo $last >>/run/test/hooks\n";

/// What becomes of a spec.
enum Outcome {
    Runs,
    Refused(&'static str),
}

use Outcome::{Refused, Runs};

#[test]
fn docker_run() {
    alone(async |world| check(world, "docker-run", Runs).await);
}

#[test]
fn nerdctl_with_most_options() {
    alone(async |world| check(world, "nerdctl-full", Runs).await);
}

#[test]
fn nerdctl_privileged() {
    alone(async |world| check(world, "nerdctl-privileged", Runs).await);
}

#[test]
fn nerdctl_without_network() {
    alone(async |world| check(world, "nerdctl-net-none", Runs).await);
}

#[test]
fn nerdctl_with_the_hosts_network() {
    alone(async |world| check(world, "nerdctl-net-host", Runs).await);
}

#[test]
fn nerdctl_with_another_containers_network() {
    let why = "the network namespace /proc/24419/ns/net belongs to another task";
    alone(async |world| check(world, "nerdctl-net-container", Refused(why)).await);
}

async fn check(world: &World, name: &str, outcome: Outcome) {
    if !world.has_machines() {
        return;
    }
    let spec = spec(name);
    let bundle = Bundle::new(&spec);
    let task = bundle.start().await;
    let mut hooks = "";
    match outcome {
        Runs => {
            bundle.runs(&task).await;
            hooks = if spec["hooks"].is_null() { "" } else { "createRuntime\npostStop\n" };
        }
        Refused(why) => {
            let error = task.create(soon(), &bundle.request()).await.expect_err("it is refused").to_string();
            assert!(error.contains(why), "{error}");
        }
    }
    // The connection may end before the answer.
    let _ = task.shutdown(soon(), &ShutdownRequest { id: ID.into(), ..Default::default() }).await;
    bundle.call(&["-bundle", &bundle.path("").display().to_string(), "delete"]).await.succeeds();
    assert_eq!(fs::read_to_string("/run/test/hooks").unwrap_or_default(), hooks);
}

/// A spec whose process is one of busybox.
fn spec(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specs").join(name).with_extension("json");
    let json = fs::read(path).expect("read a fixture");
    let mut spec: Value = serde_json::from_slice(&json).expect("a fixture is JSON");
    spec["process"]["args"] = json!(["/bin/sh", "-c", SCRIPT]);
    spec
}

/// A bundle as containerd makes it, on a host that has what its spec names.
struct Bundle {
    output: Receiver,
    /// What containerd mounts; none if the root of the spec is elsewhere.
    rootfs: Vec<Mount>,
    terminal: bool,
}

impl Bundle {
    fn new(spec: &Value) -> Bundle {
        let bundle = Path::new(DIR).join("bundle");
        fs::create_dir_all(bundle.join("rootfs")).expect("make a bundle");
        fs::write(bundle.join("config.json"), spec.to_string()).expect("write the spec");
        copy_log(fifo(&bundle.join("log")));
        make_host(spec);
        let root = Path::new(spec["root"]["path"].as_str().expect("a spec has a root"));
        let rootfs = if root.is_absolute() { mounted_by_client(root) } else { vec![mounted_by_shim()] };
        let terminal = spec["process"]["terminal"] == true;
        Bundle { output: fifo(&bundle.join("output")), rootfs, terminal }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(DIR).join("bundle").join(name)
    }

    /// Calls the shim with containerd's flags and these.
    async fn call(&self, more: &[&str]) -> std::process::Output {
        let mut command = Command::new(shim());
        command.args([
            "-namespace",
            NAMESPACE,
            "-address",
            ADDRESS,
            "-publish-binary",
            "containerd",
            "-id",
            ID,
        ]);
        command.arg("-debug").args(more).current_dir(self.path("")).process_group(0).kill_on_drop(true);
        let command = command.env("TTRPC_ADDRESS", format!("{ADDRESS}.ttrpc"));
        timeout(PATIENCE, command.output()).await.expect("the shim answers").expect("run the shim")
    }

    async fn start(&self) -> TaskClient {
        let address = self.call(&["start"]).await.succeeds();
        TaskClient::new(Client::connect(address.trim()).await.expect("connect to the shim"))
    }

    fn request(&self) -> CreateTaskRequest {
        CreateTaskRequest {
            id: ID.into(),
            bundle: self.path("").display().to_string(),
            rootfs: self.rootfs.clone(),
            terminal: self.terminal,
            stdout: self.path("output").display().to_string(),
            ..Default::default()
        }
    }

    async fn runs(&self, task: &TaskClient) {
        task.create(soon(), &self.request()).await.expect("create");
        task.start(soon(), &StartRequest { id: ID.into(), ..Default::default() }).await.expect("start");
        let wait = WaitRequest { id: ID.into(), ..Default::default() };
        let status = task.wait(soon(), &wait).await.expect("wait").exit_status;
        let mut output = [0; 4096];
        let count = self.output.try_read(&mut output).unwrap_or(0);
        assert_eq!((text(&output[..count]).replace('\r', "").as_str(), status), (SAID, STATUS));
        let delete = DeleteRequest { id: ID.into(), ..Default::default() };
        assert_eq!(task.delete(soon(), &delete).await.expect("delete").exit_status, STATUS);
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.path(""));
    }
}

fn soon() -> Context {
    with_duration(PATIENCE)
}

/// A FIFO that can be opened for writing at any time, because it has a reader.
fn fifo(path: &Path) -> Receiver {
    mkfifo(path, Mode::S_IRWXU).expect("make a FIFO");
    OpenOptions::new().read_write(true).open_receiver(path).expect("open a FIFO")
}

/// Puts the shim's log where containerd would.
fn copy_log(mut from: Receiver) {
    let log = File::options().append(true).open(LOG).expect("open the log");
    tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::fs::File::from_std(log)).await });
}

/// What docker does: the root is there, and nothing is left to be mounted.
fn mounted_by_client(root: &Path) -> Vec<Mount> {
    let folder = root.parent().expect("a root is in a folder");
    fs::create_dir_all(folder).expect("make a folder");
    fs::rename(rootfs::busybox(folder), root).expect("name the root");
    Vec::new()
}

/// What a snapshotter does, here the simplest one.
fn mounted_by_shim() -> Mount {
    let source = rootfs::busybox(Path::new(DIR)).display().to_string();
    Mount { type_: "bind".into(), source, options: vec!["rbind".into(), "rw".into()], ..Default::default() }
}

/// Makes what the spec names: sources of binds, which are folders unless they are one of three files in `/etc`, and the
/// program of its hooks.
fn make_host(spec: &Value) {
    fs::write("/usr/local/bin/nerdctl", HOOK).expect("write a hook");
    fs::set_permissions("/usr/local/bin/nerdctl", Permissions::from_mode(0o755)).expect("make it executable");
    for mount in spec["mounts"].as_array().expect("a spec has mounts") {
        let source = Path::new(mount["source"].as_str().expect("a mount has a source"));
        if mount["type"] != "bind" {
            continue;
        }
        if ["hostname", "hosts", "resolv.conf"].iter().any(|name| source.ends_with(name)) {
            fs::create_dir_all(source.parent().expect("a file is in a folder")).expect("make a folder");
            fs::write(source, "").expect("make a file");
        } else {
            fs::create_dir_all(source).expect("make a folder");
        }
    }
}
