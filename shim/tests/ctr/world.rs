//! A host of a test's own: containerd with its image and its shims, folders nobody else sees, and `ctr`. Owns how
//! containerd is configured, started and killed; what is left behind it asks of `traces`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use std::{env, thread};

use nix::mount::{mount, MsFlags};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::traces::{traces, Traces};
use crate::until::until;

/// All that a test makes is below it. On a tmpfs, as is all of `/run`.
pub const DIR: &str = "/run/test";
pub const ADDRESS: &str = "/run/test/containerd.sock";
/// containerd's log, in which the lines of the shims are.
pub const LOG: &str = "/run/test/containerd.log";
/// Of the log, what a failure shows.
const LOG_TAIL: usize = 150;
pub const IMAGE: &str = "docker.io/vminit/busybox:latest";
/// Where `ctr` works when it is not told.
pub const NAMESPACE: &str = "default";

/// What should happen at once may take this on a busy machine; used up by failures only.
pub const SOON: Duration = Duration::from_secs(20);
/// What one call of `ctr` may take: the boot of a few machines under emulation.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running containerd, with an image and nothing else in it.
pub struct World {
    pub runtime: String,
    containerd: Option<Child>,
    clean: Traces,
}

impl World {
    pub async fn start() -> World {
        isolate();
        configure("");
        let runtime = env::var("VMINIT_RUNTIME").unwrap_or_else(|_| "io.containerd.vminit.v1".to_owned());
        let mut world = World { runtime, containerd: None, clean: Traces::new() };
        world.start_containerd().await;
        let image = build().join("busybox.tar");
        world.ctr(&["image", "import", &image.display().to_string()]).await.succeeds();
        world.clean = traces(&world).await;
        world
    }

    /// Whether containers are in microVMs. Says so if not.
    pub fn has_machines(&self) -> bool {
        let has = self.runtime.contains("vminit");
        if !has {
            eprintln!("skipped: {} has no microVMs", self.runtime);
        }
        has
    }

    /// Starts containerd, and waits until it answers.
    pub async fn start_containerd(&mut self) {
        let log = fs::File::options().create(true).append(true).open(LOG).expect("open the log");
        let mut containerd = Command::new(programs().join("containerd"));
        containerd.args(["--config", "/run/test/containerd.toml"]).env("PATH", path());
        containerd.stdout(log.try_clone().expect("share the log")).stderr(log).stdin(Stdio::null());
        self.containerd =
            Some(containerd.spawn().expect("start containerd, which deploy/containerd/fetch.sh fetches"));
        let answers = async || match self.ctr(&["version"]).await.status.success() {
            true => Ok(()),
            false => Err("containerd does not answer".to_owned()),
        };
        until(SOON, answers).await;
    }

    /// Kills containerd and nothing else.
    pub async fn kill_containerd(&mut self) {
        let mut containerd = self.containerd.take().expect("containerd runs");
        containerd.kill().await.expect("kill containerd");
    }

    pub fn containerd_pid(&self) -> Option<u32> {
        self.containerd.as_ref().and_then(Child::id)
    }

    /// Calls `ctr`, without any input.
    pub async fn ctr(&self, args: &[&str]) -> Output {
        let ended = timeout(PATIENCE, self.command(args).stdin(Stdio::null()).output());
        ended
            .await
            .unwrap_or_else(|_| panic!("ctr {args:?} has not ended within {PATIENCE:?}"))
            .expect("run ctr")
    }

    /// A call of `ctr`, which ends with its handle.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut ctr = Command::new(programs().join("ctr"));
        ctr.args(["--address", ADDRESS]).args(args).env("PATH", path()).kill_on_drop(true);
        ctr
    }

    /// The arguments of `ctr` that run a container with the tested runtime.
    pub fn run<'a>(&'a self, flags: &[&'a str], id: &'a str, args: &[&'a str]) -> Vec<&'a str> {
        [&["run", "--runtime", &self.runtime], flags, &[IMAGE, id], args].concat()
    }

    /// Runs a container to its end, and removes it.
    pub async fn ctr_run(&self, flags: &[&str], id: &str, args: &[&str]) -> Output {
        self.ctr(&self.run(&[&["--rm"], flags].concat(), id, args)).await
    }

    /// Starts a container that runs on.
    pub async fn detach(&self, id: &str, args: &[&str]) {
        self.ctr(&self.run(&["--detach"], id, args)).await.succeeds();
    }

    /// Executes in a running container, under the exec id `e1`.
    pub async fn exec(&self, id: &str, args: &[&str]) -> Output {
        self.ctr(&[&["task", "exec", "--exec-id", "e1", id], args].concat()).await
    }

    /// What containerd says of its tasks, by id: `RUNNING`, `PAUSED`, `STOPPED`.
    pub async fn tasks(&self) -> BTreeMap<String, String> {
        let table = self.ctr(&["task", "ls"]).await.succeeds();
        let rows =
            table.lines().skip(1).map(|row| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        rows.map(|row| (row[0].clone(), row[row.len() - 1].clone())).collect()
    }

    /// Waits until containerd says this of a task.
    pub async fn becomes(&self, id: &str, status: &str, within: Duration) {
        let is = async || match self.tasks().await.remove(id) {
            Some(now) if now == status => Ok(()),
            now => Err(format!("{id} is not {status}, but {now:?}")),
        };
        until(within, is).await;
    }

    /// Removes a container whose task has been deleted.
    pub async fn remove(&self, id: &str) {
        self.ctr(&["container", "rm", id]).await.succeeds();
    }

    /// Deletes a stopped task and its container; gives the task's status, which `ctr` tells in a warning.
    pub async fn delete(&self, id: &str) -> u32 {
        let output = self.ctr(&["task", "rm", id]).await;
        let warning = text(&output.stderr);
        output.succeeds();
        self.remove(id).await;
        let status = warning.split_once("non-zero exit code ").map_or("0", |(_, status)| status);
        status.trim_end_matches(['"', '\n']).parse().expect("a status is a number")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(LOG).unwrap_or_default()
    }

    /// Nothing is left but what containerd had from the beginning.
    pub async fn is_clean(&self) {
        let is_clean = async || {
            let now = traces(self).await;
            let left: Vec<_> = now.symmetric_difference(&self.clean).collect();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("left or lost: {left:#?}"))
            }
        };
        until(SOON, is_clean).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("loading plugin")).collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
            eprintln!("--- the end of containerd's log\n{}\n---", tail.join("\n"));
        }
    }
}

/// What a call has said.
pub trait Said {
    /// Its standard output; it must have gone well.
    fn succeeds(&self) -> String;
    /// Its standard error; it must have failed.
    fn fails(&self) -> String;
}

impl Said for Output {
    fn succeeds(&self) -> String {
        assert!(self.status.success(), "{self:?}");
        text(&self.stdout)
    }

    fn fails(&self) -> String {
        assert!(!self.status.success(), "{self:?}");
        text(&self.stderr)
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Where `./taskw` leaves what it builds.
pub fn build() -> PathBuf {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build");
    build.canonicalize().expect("find the folder build; `./taskw build` makes it")
}

/// The shim under test.
pub fn shim() -> PathBuf {
    let built = env!("CARGO_BIN_EXE_containerd-shim-vminit-v1");
    env::var_os("VMINIT_SHIM_BIN").unwrap_or_else(|| built.into()).into()
}

fn programs() -> PathBuf {
    build().join("containerd/root/usr/bin")
}

/// What containerd looks for programs in: first for shims.
fn path() -> String {
    format!("{DIR}/bin:{}:{}", programs().display(), env::var("PATH").unwrap_or_default())
}

/// Hides what is shared with the machine otherwise, in the test's mount namespace: `/run`, and what is written
/// elsewhere.
fn isolate() {
    mount_at("tmpfs", "/run", "mode=755");
    for folder in ["/etc", "/usr/local/bin", "/var/lib"] {
        let (upper, work) = (format!("{DIR}/upper{folder}"), format!("{DIR}/work{folder}"));
        fs::create_dir_all(&upper).and_then(|()| fs::create_dir_all(&work)).expect("make the test's folders");
        mount_at("overlay", folder, &format!("lowerdir={folder},upperdir={upper},workdir={work}"));
    }
    fs::create_dir(Path::new(DIR).join("bin")).expect("make a folder of programs");
    symlink(shim(), Path::new(DIR).join("bin/containerd-shim-vminit-v1")).expect("name the shim");
    let config = format!(
        "version = 2\nroot = '{DIR}/root'\nstate = '{DIR}/state'\n\
         disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.snapshotter.v1.btrfs']\n\
         [grpc]\naddress = '{ADDRESS}'\n[debug]\nlevel = 'debug'\n"
    );
    fs::write(Path::new(DIR).join("containerd.toml"), config).expect("write containerd's configuration");
}

/// Mounts a file system that has no source.
fn mount_at(kind: &str, target: &str, data: &str) {
    let mounted = mount(Some(kind), target, Some(kind), MsFlags::empty(), Some(data));
    mounted.unwrap_or_else(|error| panic!("cannot mount {kind} at {target}: {error}"));
}

/// Writes the settings of the microVMs that are made from now on.
pub fn configure(kernel_args: &str) {
    let build = build();
    let built = |name: &str| build.join(name).display().to_string();
    let config = format!(
        "[machine]\nkernel = '{}'\ninitrd = '{}'\nvsock_backend = '{}'\nkernel_args = '{kernel_args}'\n",
        built("vmlinuz"),
        built("initrd.img"),
        built("vhost-device-vsock")
    );
    fs::create_dir_all("/etc/vminit").expect("make the shim's folder");
    fs::write(vminit_shim::config::FILE, config).expect("write the shim's configuration");
}
