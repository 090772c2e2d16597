//! Further processes, on C3: their stdio, their terminal, what they see, how they end.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use vminit_shim::api::containerd::api::{ResizePtyRequest, Status};
use vminit_shim::api::containerd::shim::oci::ProcessDetails;
use vminit_shim::api::protobuf::Message;
use vminit_shim::api::{ttrpc::Code, type_url};
use vminit_shim::client::{Exec, Guest, Stdio};
use vminit_shim::spec;
use vminitd_test_support::calls::{close_io, exec_with_uris, patient, pids, reap, status, update};
use vminitd_test_support::{code, LIMIT};

use super::create::{Init, ID};
use super::host::Host;

/// Between a write to stdin and the CloseIO that may overtake it: that host has read its own end by then.
const POLL: Duration = Duration::from_millis(50);

/// Adds a process without stdio and starts it; its pid.
pub async fn start(c3: &Guest, exec_id: &str, args: &[&str]) -> u32 {
    start_with(c3, exec_id, args, &Stdio::default()).await
}

async fn start_with(c3: &Guest, exec_id: &str, args: &[&str], stdio: &Stdio) -> u32 {
    let process = spec::process(args);
    c3.exec(Exec { container_id: ID, exec_id, process: &process }, stdio).await.expect("exec");
    c3.start(ID, exec_id).await.expect("start an exec")
}

/// Runs a process to its end; what it printed. It must succeed.
pub async fn run(host: &Host, c3: &Guest, exec_id: &str, script: &str) -> String {
    let stdio = host.stdio([false, true, true]).await;
    start_with(c3, exec_id, &["/bin/sh", "-ec", script], &stdio).await;
    let output = stdio.collect();
    let status = reap(c3, ID, exec_id).await;
    let (stdout, stderr) = output.finish().await.expect("output");
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(status, 0, "{script:?} printed {stdout:?} and {stderr:?}");
    stdout
}

/// Stdin has no end but CloseIO, which comes on another connection than the bytes before it.
pub async fn cat(host: &Host, c3: &Guest) {
    let mut stdio = host.stdio([true, true, true]).await;
    start_with(c3, "cat", &["/bin/cat"], &stdio).await;
    let mut stdin = stdio.stdin.take().expect("a stream for stdin").socket;
    stdin.write_all(b"through and back").await.expect("write stdin");
    tokio::time::sleep(POLL).await;
    close_io(c3, ID, "cat", true).await.expect("CloseIO");
    let output = stdio.collect();
    assert_eq!(reap(c3, ID, "cat").await, 0);
    assert_eq!(output.finish().await.expect("output").0, b"through and back");
}

/// A terminal has no stderr, and the size it is given.
pub async fn terminal(host: &Host, c3: &Guest) {
    let mut stdio = host.stdio([true, true, false]).await;
    let uris = stdio.uris();
    let uris: [&str; 3] = std::array::from_fn(|n| uris[n].as_str());
    let args = ["/bin/sh", "-c", "tty; read line; stty size"];
    exec_with_uris(c3, ID, "tty", &args, uris, true).await.expect("exec with a terminal");
    c3.start(ID, "tty").await.expect("start");
    let size = ResizePtyRequest {
        id: ID.into(),
        exec_id: "tty".into(),
        width: 132,
        height: 43,
        ..Default::default()
    };
    c3.client.task().resize_pty(patient(), &size).await.expect("ResizePty");
    let mut stdin = stdio.stdin.take().expect("a stream for stdin").socket;
    stdin.write_all(b"\n").await.expect("write stdin");
    assert_eq!(reap(c3, ID, "tty").await, 0);
    let mut shown = String::new();
    let mut stdout = stdio.stdout.take().expect("a stream for stdout").socket;
    timeout(LIMIT, stdout.read_to_string(&mut shown)).await.expect("an end of file").expect("read");
    assert!(shown.starts_with("/dev/pts/") && shown.ends_with("43 132\r\n"), "{shown:?}");
}

/// The container has the VM's network: the loopback works, and the address of the command line is there.
pub async fn network(host: &Host, c3: &Guest) {
    run(host, c3, "ping", "ping -c 1 -W 5 127.0.0.1").await;
    let address = run(host, c3, "address", "ip -4 -o addr show eth0").await;
    assert!(address.contains("inet 10.0.2.15/24"), "{address}");
    let route = run(host, c3, "route", "ip route show default").await;
    assert!(route.starts_with("default via 10.0.2.2 dev eth0"), "{route}");
}

/// Pids tells an exec from the init; Kill and State say how it ends, Delete forgets it.
pub async fn kill(c3: &Guest, init: &Init) {
    let pid = start(c3, "sleep", &["/bin/sleep", "1000"]).await;
    let listed = pids(c3, ID).await.expect("pids");
    let details = |pid| {
        let process = listed.iter().find(|process| process.pid == pid).expect("its pid is listed");
        process.info.as_ref().map(|info| {
            assert_eq!(info.type_url, type_url::PROCESS_DETAILS);
            ProcessDetails::parse_from_bytes(&info.value).expect("details").exec_id
        })
    };
    assert_eq!((details(init.pid), details(pid)), (None, Some("sleep".to_owned())));

    c3.kill(ID, "sleep", 9).await.expect("kill");
    assert_eq!(c3.wait(ID, "sleep").await.expect("wait").status, 137);
    assert_eq!(status(c3, ID, "sleep").await, Status::STOPPED);
    assert_eq!(code(c3.kill(ID, "sleep", 9).await), Code::NOT_FOUND);
    c3.delete(ID, "sleep").await.expect("delete");
    assert_eq!(code(c3.wait(ID, "sleep").await), Code::NOT_FOUND);
}

/// What cannot be started says why in the words of the OCI runtime, and harms nobody.
pub async fn missing_command(c3: &Guest) {
    let process = spec::process(&["/bin/nosuch"]);
    let exec = Exec { container_id: ID, exec_id: "missing", process: &process };
    c3.exec(exec, &Stdio::default()).await.expect("exec");
    let error = c3.start(ID, "missing").await.expect_err("there is no such command");
    assert_eq!(error.code(), Some(Code::UNKNOWN));
    let text = error.to_string();
    assert!(text.contains("OCI runtime exec failed: ") && text.contains("/bin/nosuch"), "{text}");
    c3.delete(ID, "missing").await.expect("delete");
}

/// Update sets a limit while the container runs.
pub async fn limit(host: &Host, c3: &Guest) {
    update(c3, ID, Some(r#"{"memory": {"limit": 100663296}}"#)).await.expect("update");
    let read = "cat /sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup)/memory.max";
    assert_eq!(run(host, c3, "limit", read).await, "100663296\n");
}
