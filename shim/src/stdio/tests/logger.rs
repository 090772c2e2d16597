//! Logging binaries: shell scripts that keep containerd's contract, or do not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::super::logger::Logger;
use super::*;

/// A script that says its pid, then does `body` with the test's folder as `$2`.
fn script(host: &Host, name: &str, body: &str) -> String {
    let path = host.path(name);
    let text = format!("#!/bin/sh\necho $$ >\"$2/pid\"\n{body}\n");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("?dir={}", host.dir.path().display())
}

fn uri(host: &Host, scheme: &str, body: &str) -> String {
    let query = script(host, "logger", body);
    format!("{}{query}", host.uri(scheme, "logger"))
}

fn spec(uri: &str) -> StdioSpec {
    StdioSpec::parse(false, "", uri, uri).unwrap()
}

fn parsed(uri: &str) -> LoggerUri {
    match spec(uri).outputs {
        Outputs::Logger { logger, .. } => logger,
        other => panic!("{other:?}"),
    }
}

/// Whether the logger that once ran is gone, zombie and all.
fn gone(host: &Host) -> bool {
    let pid = fs::read_to_string(host.path("pid")).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}

fn read(host: &Host, name: &str) -> String {
    fs::read_to_string(host.path(name)).unwrap()
}

/// Copies both outputs to files, once it has said that it is ready.
const GOOD: &str = r#"
env >"$2/env"; printf '%s\n' "$@" >"$2/args"
for fd in /proc/self/fd/*; do readlink "$fd" | sed "s,^,${fd##*/} ," ; done >"$2/fds" 2>/dev/null </dev/null
exec 5>&-
cat <&3 >"$2/out" & cat <&4 >"$2/err"; wait"#;

#[tokio::test]
async fn a_logger_gets_each_output_apart_and_has_written_it_when_released() {
    let host = Host::new();
    let uri = uri(&host, "binary://", GOOD);
    let (relays, guest) = host.relay("", &uri, &uri).await;
    let sent = send(guest.stdout.unwrap(), MUCH);
    guest.stderr.unwrap().write_all(b"oops\n").await.unwrap();
    assert!(relays.drained(SOON).await);
    soon(relays.release()).await;
    assert!(gone(&host));
    let written = fs::read(host.path("out")).unwrap();
    assert_eq!((written.len(), crc32fast::hash(&written)), (MUCH, soon(sent).await.unwrap()));
    assert_eq!(read(&host, "err"), "oops\n");
}

#[tokio::test]
async fn a_logger_is_told_whose_output_it_gets_and_inherits_nothing_else() {
    let host = Host::new();
    let uri = uri(&host, "binary://", GOOD);
    let (relays, guest) = host.relay("", &uri, &uri).await;
    drop(guest);
    soon(relays.release()).await;
    let env = read(&host, "env");
    // A shell adds variables of its own.
    let mut names: Vec<&str> = env.lines().filter(|line| line.starts_with("CONTAINER_")).collect();
    names.sort_unstable();
    assert_eq!(names, ["CONTAINER_ID=c1", "CONTAINER_NAMESPACE=ns"]);
    assert!(!env.contains("CARGO"));
    assert_eq!(read(&host, "args"), format!("dir\n{}\n", host.dir.path().display()));
    let fds = read(&host, "fds");
    assert!(!fds.contains("socket:") && !fds.contains("anon_inode:"), "{fds}");
    let open = |fd: &str| fds.lines().find_map(|line| line.strip_prefix(fd)?.strip_prefix(' '));
    for pipe in ["3", "4", "5"].map(|fd| open(fd).unwrap()) {
        assert!(pipe.starts_with("pipe:"), "{fds}");
        assert!(!level::is_open(Path::new(pipe)), "{pipe} was not closed");
    }
}

#[tokio::test]
async fn with_a_terminal_the_stderr_of_a_logger_is_at_its_end() {
    let host = Host::new();
    let uri = uri(&host, "binary://", "exec 5>&-; cat <&4 >\"$2/err\"; cat <&3 >\"$2/out\"");
    let spec = StdioSpec::parse(true, "", &uri, &uri).unwrap();
    let ends = Ends::open(&spec, OWNER).await.unwrap();
    let (ours, guest) = pair(true);
    let relays = ends.relay(GuestEnds { stdout: ours, ..GuestEnds::default() });
    guest.unwrap().write_all(b"tty\r\n").await.unwrap();
    assert!(relays.drained(SOON).await);
    soon(relays.release()).await;
    assert_eq!((read(&host, "out").as_str(), read(&host, "err").as_str()), ("tty\r\n", ""));
}

#[tokio::test]
async fn a_logger_that_is_never_ready_is_an_error_and_is_killed() {
    let host = Host::new();
    let uri = uri(&host, "binary://", "exec sleep 600");
    let bound = Duration::from_secs(2);
    let error = soon(Logger::start_within(&parsed(&uri), OWNER, bound)).await.unwrap_err();
    assert!(matches!(error, LoggerError::NotReady(within) if within == bound), "{error}");
    assert!(gone(&host));
}

#[tokio::test]
async fn a_logger_of_the_second_version_must_say_that_it_is_ready() {
    let host = Host::new();
    let (stdout, stderr) = ("binary-v2://", "exec 5>&-; cat <&3");
    let error = soon(Ends::open(&spec(&uri(&host, stdout, stderr)), OWNER)).await.unwrap_err();
    assert!(matches!(error, OpenError::Logger { source: LoggerError::Ended, .. }), "{error}");
    assert!(gone(&host));
    let ends = soon(Ends::open(&spec(&uri(&host, stdout, "echo >&5; cat <&3")), OWNER)).await.unwrap();
    soon(ends.relay(GuestEnds::default()).release()).await;
    assert!(gone(&host));
}

#[tokio::test]
async fn a_logger_that_cannot_be_run_is_an_error_that_names_it() {
    let host = Host::new();
    let spec = spec(&host.uri("binary://", "missing"));
    let error = soon(Ends::open(&spec, OWNER)).await.unwrap_err();
    assert!(matches!(&error, OpenError::Logger { source: LoggerError::Spawn(_), .. }), "{error}");
    assert!(error.to_string().contains("missing"), "{error}");
}

#[tokio::test]
async fn a_process_outlives_its_logger() {
    let host = Host::new();
    let uri = uri(&host, "binary://", "exec 5>&-; head -c 10 <&3 >\"$2/out\"");
    let (relays, guest) = host.relay("", &uri, &uri).await;
    let sent = send(guest.stdout.unwrap(), MUCH);
    soon(sent).await.unwrap();
    drop(guest.stderr);
    assert!(relays.drained(SOON).await);
    soon(relays.release()).await;
    assert!(gone(&host));
    assert_eq!(read(&host, "out").len(), 10);
}

#[tokio::test]
async fn a_logger_that_does_not_end_with_its_pipes_is_asked_to() {
    let host = Host::new();
    let body = "trap 'echo asked >\"$2/out\"; exit 0' TERM; exec 5>&-; while :; do sleep 0.1; done";
    let uri = uri(&host, "binary://", body);
    let (relays, guest) = host.relay("", &uri, &uri).await;
    drop(guest);
    let begun = Instant::now();
    soon(relays.release()).await;
    assert!(gone(&host));
    assert_eq!(read(&host, "out"), "asked\n");
    assert!(begun.elapsed() >= Duration::from_secs(5), "it has time to write what it holds");
}

/// This is the longest of all: it lasts for as long as a hanging logger may.
#[tokio::test]
async fn a_logger_that_does_not_end_when_asked_is_killed() {
    let host = Host::new();
    let uri = uri(&host, "binary://", "trap '' TERM; exec 5>&-; while :; do sleep 0.1; done");
    let (relays, guest) = host.relay("", &uri, &uri).await;
    drop(guest);
    soon(relays.release()).await;
    assert!(gone(&host));
}

#[tokio::test]
async fn a_logger_ends_when_its_ends_are_dropped() {
    let host = Host::new();
    let ends = soon(Ends::open(&spec(&uri(&host, "binary://", GOOD)), OWNER)).await.unwrap();
    drop(ends);
    soon(async {
        while !gone(&host) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
