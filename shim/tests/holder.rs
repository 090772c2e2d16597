//! Facts about the holder, as root, with the real program: what it has given up, where it is, and how it ends.

use std::fs::{self, DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::mount::{mount, umount, MsFlags};
use nix::sched::{unshare, CloneFlags};
use nix::sys::signal::{kill, Signal};
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, Pid};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};
use vminit_shim::holder::{Holder, HolderError, HolderSpec};
use vminit_shim::plan::Network;

const PROGRAM: &str = env!("CARGO_BIN_EXE_containerd-shim-vminit-v1");
/// What all of this may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the test mounts from here on is its own, and gone with its thread.
fn as_root() {
    assert!(nix::unistd::geteuid().is_root(), "it takes root to make namespaces");
    unshare(CloneFlags::CLONE_NEWNS).expect("make a mount namespace");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("make mounts private");
}

fn spec(network: Network, root: Option<&Path>) -> HolderSpec {
    HolderSpec { program: PROGRAM.into(), id: "c1".into(), network, root: root.map(Path::to_owned) }
}

async fn hold(network: Network, root: Option<&Path>) -> Holder {
    Holder::start(spec(network, root)).await.expect("start a holder")
}

fn of(pid: u32, name: &str) -> PathBuf {
    format!("/proc/{pid}/{name}").into()
}

fn text(pid: u32, name: &str) -> String {
    fs::read_to_string(of(pid, name)).expect("read a file of the holder")
}

fn link(pid: u32, name: &str) -> PathBuf {
    fs::read_link(of(pid, name)).expect("read a link of the holder")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("list a folder");
    let name = |entry: io::Result<DirEntry>| entry.expect("list a folder").file_name();
    let mut names: Vec<_> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn status(pid: u32, field: &str) -> String {
    let status = text(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.expect("the field is there").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().expect("a pid")), signal).expect("send a signal");
}

/// Waits until the process is in that state, or is no more.
async fn becomes(pid: u32, state: &str) {
    let deadline = Instant::now() + PATIENCE;
    let is = |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with(state));
    while fs::read_to_string(of(pid, "stat")).is_ok_and(|stat| !is(&stat)) {
        assert!(Instant::now() < deadline, "{pid} does not become {state}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A shell in the shim's place, the pid of its holder, which is ready, and what the shell says of its end.
async fn stand_in() -> (Child, u32, BufReader<ChildStdout>) {
    let script = r#""$0" hold $$ new "" >&2 & echo $!; wait $!; echo $?"#;
    let mut command = Command::new("sh");
    let command = command.args(["-c", script, PROGRAM]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let command = command.kill_on_drop(true);
    let mut parent = command.spawn().expect("start a shell");
    let mut lines = BufReader::new(parent.stdout.take().expect("it was asked for"));
    let mut line = String::new();
    lines.read_line(&mut line).await.expect("read a pid");
    let pid = line.trim().parse().expect("it is a pid");
    let mut ready = [0; 5];
    let mut holder = parent.stderr.take().expect("it was asked for");
    timeout(PATIENCE, holder.read_exact(&mut ready)).await.expect("in time").expect("read from the holder");
    assert_eq!(&ready, b"ready");
    // The shell may have something to say there too.
    parent.stderr = Some(holder);
    (parent, pid, lines)
}

#[tokio::test]
async fn a_holder_has_given_up_everything_but_its_uid() {
    as_root();
    let holder = hold(Network::New, None).await;
    let pid = holder.pid();
    becomes(pid, "S").await;
    for (field, value) in [
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Uid", "0 0 0 0"),
        ("Groups", ""),
        ("Threads", "1"),
        ("Name", "vminit-hold"),
    ] {
        assert_eq!(status(pid, field), value, "{field}");
    }
    assert_eq!(names(&of(pid, "fd")), [""; 0]);
    assert_eq!(text(pid, "environ"), "");
    assert!(text(pid, "cmdline").starts_with("vminit-hold c1\0"));
    let limits = text(pid, "limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["1", "1"]);
    let session =
        text(pid, "stat").rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_string();
    assert_eq!(session, pid.to_string());
    holder.stop().await.unwrap();
}

#[tokio::test]
async fn it_is_in_the_network_namespace_that_was_asked_for() {
    as_root();
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    let new = hold(Network::New, None).await;
    let made = link(new.pid(), "ns/net");
    assert_ne!(made, host);
    let addresses = text(new.pid(), "net/fib_trie");
    assert!(addresses.contains("127.0.0.1"), "the loopback is down: {addresses:?}");
    let at = hold(Network::At(of(new.pid(), "ns/net")), None).await;
    assert_eq!(link(at.pid(), "ns/net"), made);
    let none = hold(Network::Host, None).await;
    assert_eq!(link(none.pid(), "ns/net"), host);
    for holder in [new, at, none] {
        holder.stop().await.unwrap();
    }
}

#[tokio::test]
async fn its_root_is_the_containers_and_nothing_else_is_mounted() {
    as_root();
    let root = TempDir::new().unwrap();
    mount(Some("none"), root.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::create_dir(root.path().join("sub")).unwrap();
    mount(Some("none"), &root.path().join("sub"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::write(root.path().join("sub/file"), "of the container").unwrap();
    let holder = hold(Network::Host, Some(root.path())).await;
    let pid = holder.pid();
    assert_ne!(link(pid, "ns/mnt"), fs::read_link("/proc/thread-self/ns/mnt").unwrap());
    assert_eq!(text(pid, "root/sub/file"), "of the container");
    fs::write(of(pid, "root/copied"), "in").unwrap();
    assert_eq!(fs::read_to_string(root.path().join("copied")).unwrap(), "in");
    assert_eq!(link(pid, "cwd"), link(pid, "root"));
    let points: Vec<_> =
        text(pid, "mountinfo").lines().map(|line| line.split(' ').nth(4).unwrap().to_string()).collect();
    assert_eq!(points, ["/", "/sub"]);
    holder.stop().await.unwrap();
}

#[tokio::test]
async fn without_a_root_it_has_an_empty_one() {
    as_root();
    let holder = hold(Network::Host, None).await;
    let root = of(holder.pid(), "root");
    assert_eq!(names(&root), [""; 0]);
    assert!(File::create(root.join("file")).is_err());
    holder.stop().await.unwrap();
}

#[tokio::test]
async fn its_root_can_be_unmounted_while_it_lives() {
    as_root();
    let root = TempDir::new().unwrap();
    mount(Some("none"), root.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::write(root.path().join("file"), "still").unwrap();
    let holder = hold(Network::New, Some(root.path())).await;
    umount(root.path()).unwrap();
    assert_eq!(names(root.path()), [""; 0]);
    assert_eq!(text(holder.pid(), "root/file"), "still");
    holder.stop().await.unwrap();
}

#[tokio::test]
async fn nothing_in_a_hostile_root_is_touched() {
    as_root();
    let root = TempDir::new().unwrap();
    // Without `noatime` and the like, reading any of these would be seen.
    mount(Some("none"), root.path(), Some("tmpfs"), MsFlags::MS_STRICTATIME, None::<&str>).unwrap();
    for link in ["proc", "dev", "run", "sys"] {
        std::os::unix::fs::symlink("/", root.path().join(link)).unwrap();
    }
    for folder in ["etc", "lib64"] {
        fs::create_dir(root.path().join(folder)).unwrap();
    }
    for fifo in ["etc/ld.so.cache", "etc/localtime", "lib64/libc.so.6", "tmp"] {
        mkfifo(&root.path().join(fifo), Mode::S_IRUSR).unwrap();
    }
    let times = || -> Vec<_> {
        use std::os::unix::fs::MetadataExt;
        let entries = names(root.path());
        let all = entries.iter().map(|name| root.path().join(name));
        all.map(|path| fs::symlink_metadata(path).unwrap())
            .map(|m| (m.atime_nsec(), m.ctime_nsec()))
            .collect()
    };
    let before = times();
    let holder = timeout(PATIENCE, hold(Network::New, Some(root.path()))).await.unwrap();
    becomes(holder.pid(), "S").await;
    assert_eq!(times(), before);
    holder.stop().await.unwrap();
}

#[tokio::test]
async fn root_without_ptrace_may_look_into_it() {
    as_root();
    let holder = hold(Network::New, None).await;
    for name in ["root", "ns/net"] {
        let seen = Command::new("setpriv")
            .args(["--inh-caps", "-sys_ptrace", "--bounding-set", "-sys_ptrace", "--", "readlink"])
            .arg(of(holder.pid(), name))
            .output()
            .await
            .unwrap();
        assert!(seen.status.success(), "{name}: {}", String::from_utf8_lossy(&seen.stderr));
    }
    holder.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_kills_it_its_death_is_seen() {
    as_root();
    for deadly in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSEGV] {
        let holder = hold(Network::Host, None).await;
        let (first, second) = (holder.died(), holder.died());
        signal(holder.pid(), deadly);
        timeout(PATIENCE, first).await.unwrap_or_else(|_| panic!("{deadly} did not kill it"));
        timeout(PATIENCE, second).await.unwrap();
        holder.stop().await.unwrap();
    }
}

#[tokio::test]
async fn it_outlives_being_stopped_and_continued() {
    as_root();
    let holder = hold(Network::Host, None).await;
    for (sent, state) in [(Signal::SIGSTOP, "T"), (Signal::SIGCONT, "S")] {
        signal(holder.pid(), sent);
        becomes(holder.pid(), state).await;
    }
    assert_eq!(status(holder.pid(), "State"), "S (sleeping)");
    holder.stop().await.unwrap();
}

#[tokio::test]
async fn it_is_reaped_when_it_is_stopped_and_killed_when_it_is_dropped() {
    as_root();
    let holder = hold(Network::Host, None).await;
    let pid = holder.pid();
    holder.stop().await.unwrap();
    assert!(!of(pid, "").exists());
    let holder = hold(Network::Host, None).await;
    let died = holder.died();
    drop(holder);
    timeout(PATIENCE, died).await.unwrap();
}

#[tokio::test]
async fn a_system_call_kills_it() {
    as_root();
    let (mut parent, pid, mut lines) = stand_in().await;
    becomes(pid, "S").await;
    // The Rust runtime has a handler for this one, whose first call is not allowed.
    signal(pid, Signal::SIGSEGV);
    let mut line = String::new();
    timeout(PATIENCE, lines.read_line(&mut line)).await.unwrap().unwrap();
    assert_eq!(line, format!("{}\n", 128 + Signal::SIGSYS as i32));
    parent.wait().await.unwrap();
}

#[tokio::test]
async fn it_dies_with_its_parent() {
    as_root();
    let (mut parent, pid, _) = stand_in().await;
    parent.kill().await.unwrap();
    becomes(pid, "Z").await;
}

#[tokio::test]
async fn it_does_not_start_for_a_parent_that_has_gone() {
    as_root();
    let orphan = Command::new(PROGRAM).args(["hold", "1", "host", ""]).output().await.unwrap();
    assert_eq!(orphan.status.code(), Some(1));
    assert_eq!(orphan.stdout, b"cannot hold anything for a shim that has gone");
}

#[tokio::test]
async fn what_cannot_be_held_is_named() {
    as_root();
    let nowhere = PathBuf::from("/nowhere");
    for (network, root, step) in [
        (Network::Host, Some(nowhere.as_path()), "cannot bind the root: "),
        (Network::At(nowhere.clone()), None, "cannot open the network namespace /nowhere: "),
        (Network::At("/dev/null".into()), None, "cannot enter the network namespace /dev/null: "),
    ] {
        match Holder::start(spec(network, root)).await {
            Err(HolderError::Ended(said)) => assert!(said.starts_with(step), "{said}"),
            other => panic!("{step}: {other:?}"),
        }
    }
}
