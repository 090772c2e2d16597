//! What is understood of the URIs of a request, and what of it a guest is asked for.

use std::collections::VecDeque;
use std::path::Path;

use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;

use super::*;
use crate::client::{Endpoint, Streams};

fn parse(stdin: &str, stdout: &str, stderr: &str) -> Result<StdioSpec, UriError> {
    StdioSpec::parse(false, stdin, stdout, stderr)
}

fn place(uri: &str) -> Option<Place> {
    match parse("", uri, "").unwrap().outputs {
        Outputs::Apart { stdout, stderr: None } => stdout,
        other => panic!("{other:?}"),
    }
}

fn logger(uri: &str) -> LoggerUri {
    match parse("", uri, uri).unwrap().outputs {
        Outputs::Logger { logger, stderr: true } => logger,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_path_with_or_without_fifo_is_a_fifo() {
    let fifo = |path: &str| Some(Place::Fifo(path.into()));
    assert_eq!(place("/run/c/stdout"), fifo("/run/c/stdout"));
    assert_eq!(place("fifo:///run/c/stdout"), fifo("/run/c/stdout"));
    // Only what is a URI is escaped.
    assert_eq!(place("/a%20b?c"), fifo("/a%20b?c"));
    assert_eq!(place("fifo:///a%20b"), fifo("/a b"));
    assert_eq!(place(""), None);
    assert_eq!(parse("fifo:///in", "", "").unwrap().stdin.as_deref(), Some(Path::new("/in")));
}

#[test]
fn a_file_is_a_place_of_its_own() {
    assert_eq!(place("file:///var/log/a%25b"), Some(Place::File("/var/log/a%b".into())));
}

#[test]
fn two_outputs_to_one_place_go_there_together() {
    let together = |path: &str| Outputs::Together(Place::Fifo(path.into()));
    assert_eq!(parse("", "/o", "fifo:///o").unwrap().outputs, together("/o"));
    let apart = parse("", "/o", "/e").unwrap().outputs;
    assert!(matches!(apart, Outputs::Apart { stdout: Some(_), stderr: Some(_) }));
}

#[test]
fn a_query_is_arguments_in_its_order_with_the_first_value_of_each_key() {
    let found = logger("binary:///usr/bin/log%20ger?_NERDCTL=%2Fvar%2Flib&x=a+b&flag&x=2");
    assert_eq!(found.program, Path::new("/usr/bin/log ger"));
    assert_eq!(found.args, ["_NERDCTL", "/var/lib", "x", "a b", "flag", ""]);
    assert!(!found.says_ready);
    assert!(logger("binary-v2:///l").says_ready);
    assert!(logger("binary:///l").args.is_empty());
}

#[test]
fn a_logger_takes_both_outputs() {
    for (stdout, stderr) in [("binary:///l", ""), ("binary:///l", "binary:///m"), ("/o", "binary:///l")] {
        assert_eq!(parse("", stdout, stderr), Err(UriError::LoggerForOne));
    }
}

#[test]
fn with_a_terminal_stderr_is_nothing_whatever_it_says() {
    for stderr in ["", "/e", "binary:///l", "nonsense"] {
        let spec = StdioSpec::parse(true, "/i", "/o", stderr).unwrap();
        assert_eq!(spec.outputs, Outputs::Apart { stdout: Some(Place::Fifo("/o".into())), stderr: None });
        let spec = StdioSpec::parse(true, "", "binary:///l", stderr).unwrap();
        assert!(matches!(spec.outputs, Outputs::Logger { stderr: false, .. }));
    }
}

#[test]
fn what_names_no_path_is_malformed() {
    for bad in ["a", "fifo://", "file://a/b", "file:///a/", "file:///a%00b", "binary://", "fifo:/a"] {
        assert!(matches!(parse("", bad, ""), Err(UriError::Malformed { stdio: "stdout", .. })), "{bad}");
        assert!(matches!(parse(bad, "", ""), Err(UriError::Malformed { stdio: "stdin", .. })), "{bad}");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    for (stdin, stdout, text) in [
        ("", "npipe:///a", "use npipe for stdout: it is not supported"),
        ("file:///a", "", "use file for stdin: it is not supported"),
        ("binary:///a", "", "use binary for stdin: it is not supported"),
    ] {
        assert_eq!(parse(stdin, stdout, "").unwrap_err().to_string(), text);
    }
}

/// The names a guest would be told, and which streams were opened.
async fn dial(spec: &StdioSpec) -> ([String; 3], [bool; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let guest = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut peer, _) = listener.accept().await.unwrap();
            let id = peer.read_u32().await.unwrap();
            peer.write_u32(id).await.unwrap();
            kept.push(peer);
        }
    });
    let mut ids = VecDeque::from([7, 8, 9]);
    let streams = Streams { endpoint: Endpoint::Unix(path) };
    let ends = soon(spec.dial(&streams, || ids.pop_front().unwrap())).await.unwrap();
    guest.abort();
    (ends.uris, [ends.stdin.is_some(), ends.stdout.is_some(), ends.stderr.is_some()])
}

#[tokio::test]
async fn a_guest_is_asked_for_a_stream_for_each_place() {
    let names = |names: [&str; 3]| names.map(str::to_owned);
    let none = parse("", "", "").unwrap();
    assert_eq!(dial(&none).await, (names(["", "", ""]), [false; 3]));
    let all = parse("/i", "/o", "/e").unwrap();
    assert_eq!(dial(&all).await, (names(["stream://7", "stream://8", "stream://9"]), [true; 3]));
    let together = parse("", "/o", "/o").unwrap();
    assert_eq!(dial(&together).await, (names(["", "stream://7", "stream://7"]), [false, true, false]));
    let logged = parse("", "binary:///l", "binary:///l").unwrap();
    assert_eq!(dial(&logged).await, (names(["", "stream://7", "stream://8"]), [false, true, true]));
    let terminal = StdioSpec::parse(true, "/i", "binary:///l", "").unwrap();
    assert_eq!(dial(&terminal).await, (names(["stream://7", "stream://8", ""]), [true, true, false]));
}
