//! Where the three may go: each to a stream, a file or nowhere, by itself or together.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::{Stdio, INIT};
use vminitd_test_support::{ABSENCE, MIB};

use crate::rig::{noise_file, stdout, Reader, Rig, Sum};

const BOTH: &str = "echo 1; echo 2 >&2; echo 3; echo 4 >&2";

fn file(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("read a file")
}

/// nerdbox's host sends one stream twice when its client gave one path for both.
#[tokio::test]
async fn stdout_and_stderr_share_a_stream_in_the_order_of_their_writes() {
    let rig = Rig::start().await;
    let mut stdio = rig.guest.stdio(false).await.expect("streams");
    let [_, out, _] = stdio.uris();
    // The one that ends first must not cut the other off, and would do so at once.
    let script = format!("{BOTH}; exec 2>&-; sleep {}; echo 5", ABSENCE.as_secs_f64());
    rig.create_with("c", &["/bin/sh", "-c", &script], ["", &out, &out]).await.expect("create");
    rig.guest.start("c", INIT).await.expect("start");
    assert_eq!(Reader::FAST.read(stdout(&mut stdio)).await, Sum::of(b"1\n2\n3\n4\n5\n"));
    assert_eq!(rig.reap("c", INIT).await, 0);
    rig.daemon.stop().await;
}

/// nerdbox#228: a missing one is no error, and no other one's fate.
#[tokio::test]
async fn each_of_the_two_outputs_may_be_alone() {
    let rig = Rig::start().await;
    for (id, expected) in [("out", &b"1\n3\n"[..]), ("err", b"2\n4\n")] {
        let mut stdio = rig.guest.stdio(false).await.expect("streams");
        let uri = stdio.uris()[1].clone();
        let uris = if id == "out" { ["", &uri, ""] } else { ["", "", &uri] };
        rig.create_with(id, &["/bin/sh", "-c", BOTH], uris).await.expect("create");
        rig.guest.start(id, INIT).await.expect("start");
        assert_eq!(Reader::FAST.read(stdout(&mut stdio)).await, Sum::of(expected), "{id}");
        assert_eq!(rig.reap(id, INIT).await, 0, "{id}");
    }
    rig.daemon.stop().await;
}

/// /dev/null that is open for reading only fails every write.
#[tokio::test]
async fn nowhere_takes_every_write_and_gives_no_input() {
    let rig = Rig::start().await;
    let script = format!("set -e; {BOTH}; read x && exit 1; exit 5");
    rig.run("c", &["/bin/sh", "-c", &script], &Stdio::default()).await;
    // `set -e` with a refused write would have been another status.
    assert_eq!(rig.reap("c", INIT).await, 5);
    rig.daemon.stop().await;
}

#[tokio::test]
async fn one_file_for_both_is_appended_to_in_order() {
    let rig = Rig::start().await;
    let log = rig.path("logs/of a container/log");
    let uri = file(&rig.path("logs/of%20a%20container/log"));
    for id in ["a", "b"] {
        rig.create_with(id, &["/bin/sh", "-c", BOTH], ["", &uri, &uri]).await.expect("create");
        rig.guest.start(id, INIT).await.expect("start");
        assert_eq!(rig.reap(id, INIT).await, 0);
    }
    assert_eq!(text(&log), "1\n2\n3\n4\n1\n2\n3\n4\n");
    assert_eq!(log.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_file_may_stand_beside_a_stream_and_be_read_as_stdin() {
    let rig = Rig::start().await;
    let (input, log) = (rig.path("input"), rig.path("stderr"));
    let expected = noise_file(&input, 4 * MIB);
    let mut stdio = rig.guest.stdio(false).await.expect("streams");
    let out = stdio.uris()[1].clone();
    let uris = [&file(&input)[..], &out, &file(&log)];
    rig.create_with("c", &["/bin/sh", "-c", "cat; echo done >&2"], uris).await.expect("create");
    rig.guest.start("c", INIT).await.expect("start");
    assert_eq!(Reader::FAST.read(stdout(&mut stdio)).await, expected);
    assert_eq!(rig.reap("c", INIT).await, 0);
    assert_eq!(text(&log), "done\n");
    rig.daemon.stop().await;
}

#[tokio::test]
async fn uris_that_cannot_be_used_are_refused_each_with_its_code() {
    let rig = Rig::start().await;
    let folder = file(rig.daemon.dir());
    for (uris, code) in [
        (["", "fifo:///x", ""], Code::UNIMPLEMENTED),
        (["", "", "binary:///bin/logger"], Code::UNIMPLEMENTED),
        (["/run/fifo", "", ""], Code::UNIMPLEMENTED),
        (["", "stream://x", ""], Code::INVALID_ARGUMENT),
        (["stream://", "", ""], Code::INVALID_ARGUMENT),
        (["", "file://relative/path", ""], Code::INVALID_ARGUMENT),
        (["", "", "file:///a/../b"], Code::INVALID_ARGUMENT),
        (["", "file:///a%00b", ""], Code::INVALID_ARGUMENT),
        (["", "stream://4000000000", ""], Code::NOT_FOUND),
        (["stream://4000000000", "", ""], Code::NOT_FOUND),
        (["file:///no/such/file", "", ""], Code::NOT_FOUND),
        (["", &folder, ""], Code::UNKNOWN),
    ] {
        assert_eq!(rig.create_with("c", &["exit", "0"], uris).await, Err(code), "{uris:?}");
        rig.daemon.remove_bundle("c");
    }
    let stdio = rig.guest.stdio(false).await.expect("streams");
    let out = stdio.uris()[1].clone();
    assert_eq!(rig.create_with("c", &["exit", "0"], [&out, &out, ""]).await, Err(Code::INVALID_ARGUMENT));
    rig.daemon.stop().await;
}
