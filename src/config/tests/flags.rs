//! Tables and properties of the flags.

use proptest::prelude::*;

use super::*;
use crate::profile::{Mode, Policy, StreamClose};

/// The settings of PID 1 and what was wrong with them.
fn pid1(words: &str) -> (Config, Vec<String>) {
    Rig::new().pid1(words)
}

#[test]
fn without_arguments_pid1_listens_on_the_generic_ports() {
    let (config, problems) = pid1("");
    assert_eq!((config.rpc.clone(), config.stream.clone()), (Address::Vsock(1024), Address::Vsock(1025)));
    assert_eq!((config.debug, config.profile.name, problems.len()), (false, "generic", 0));
    assert_eq!(config.bundles_dir(), Path::new("/run/bundles"));
    assert_eq!(config.runc_root(), Path::new("/run/runc"));
}

#[test]
fn every_way_to_write_a_flag_means_the_same() {
    for words in [
        "-debug -vsock-rpc-port=9 -stream-close=eof",
        "--debug --vsock-rpc-port=9 --stream-close=eof",
        "-debug=true -vsock-rpc-port 9 -stream-close eof",
        "-debug=T --vsock-rpc-port 9 -stream-close=eof -- -debug=false",
        "quiet splash - -debug -vsock-rpc-port=9 -stream-close=eof stray -debug=false",
        "-vsock-rpc-port=8 -vsock-cid=3 -debug=1 -vsock-rpc-port=9 -stream-close=eof",
    ] {
        let (config, problems) = pid1(words);
        assert_eq!(problems, Vec::<String>::new(), "{words}");
        assert_eq!(config.rpc, Address::Vsock(9), "{words}");
        assert_eq!(config.profile.stream_close, StreamClose::Eof, "{words}");
        assert!(config.debug, "{words}");
    }
}

#[test]
fn what_is_wrong_is_reported_and_the_default_used_in_pid1() {
    for (words, problem) in [
        ("-nope", "unknown key \"nope\" (flag)"),
        ("-nope=1", "unknown key \"nope\" (flag)"),
        ("-nope value -debug", "unknown key \"nope\" (flag)"),
        ("---x", "malformed flag \"---x\""),
        ("-=x", "malformed flag \"-=x\""),
        ("-host", "host needs a value (flag)"),
        ("-host=lunar", "invalid value \"lunar\" for host (flag): expected generic or spinbox or nerdbox"),
        (
            "-vsock-rpc-port=0",
            "invalid value \"0\" for vsock_rpc_port (flag): expected a number from 1 to 4294967294",
        ),
        (
            "-vsock-rpc-port=4294967295",
            "invalid value \"4294967295\" for vsock_rpc_port (flag): expected a number from 1 to 4294967294",
        ),
        ("-listen=/x", "invalid value \"/x\" for listen (flag): expected unix:// and an absolute path"),
        ("-runtime=runc", "invalid value \"runc\" for runtime (flag): expected an absolute path"),
        ("-spec=strict", "invalid value \"strict\" for spec (flag): expected as-is or relaxed"),
        ("-debug=maybe", "invalid value \"maybe\" for debug (flag): expected true or false"),
        ("-vsock-rpc-port=1025", "the RPC and the stream endpoint are the same"),
        ("-version", "-version does nothing in PID 1"),
        ("-print-config", "-print-config does nothing in PID 1"),
    ] {
        let (config, problems) = pid1(words);
        assert_eq!(problems, [problem], "{words}");
        assert_eq!(config.rpc, Address::Vsock(1024), "{words}");
    }
    assert!(pid1("-nope value -debug").0.debug, "a word after an unknown flag does not hide the next flag");
}

#[test]
fn the_spinbox_host_gets_the_ports_it_passes() {
    let (config, problems) = pid1("-vsock-rpc-port=1025 -vsock-stream-port=1026 -vsock-cid=7 -host=spinbox");
    assert_eq!((config.rpc, config.stream), (Address::Vsock(1025), Address::Vsock(1026)));
    assert_eq!((config.profile.name, problems.len()), ("spinbox", 0));
}

#[test]
fn a_host_chooses_the_profile() {
    assert_eq!(pid1("-host nerdbox").0.profile.mode, Mode::Dial);
    assert_eq!(pid1("-host=nerdbox").0.profile.version, "dev");
}

#[test]
fn a_host_chooses_what_is_done_to_a_spec_and_a_flag_chooses_over_it() {
    for (words, policy) in [
        ("", Policy::AsIs),
        ("-host=spinbox", Policy::Relaxed),
        ("-host=nerdbox", Policy::AsIs),
        ("-spec=relaxed -host=nerdbox", Policy::Relaxed),
        ("-host=spinbox -spec as-is", Policy::AsIs),
        ("-host=spinbox -spec=none", Policy::Relaxed),
    ] {
        assert_eq!(pid1(words).0.profile.spec, policy, "{words}");
    }
}

#[test]
fn an_ordinary_process_keeps_everything_beneath_its_state_dir() {
    let words = "-listen unix:///x/rpc.sock -stream-listen unix:///x/stream.sock -state-dir /x -runtime /r";
    let Start::Run(config, problems) = Rig::new().start(args(words), None, false) else {
        panic!("refused {words}");
    };
    assert_eq!(config.rpc, Address::Unix("/x/rpc.sock".into()));
    assert_eq!(config.stream, Address::Unix("/x/stream.sock".into()));
    assert_eq!((config.bundles_dir(), config.runc_root()), ("/x/bundles".into(), "/x/runc".into()));
    assert_eq!((config.runtime(), problems), ("/r".into(), vec![]));
}

#[test]
fn an_ordinary_process_is_refused_what_pid1_survives() {
    let unix = "-listen unix:///x/a -stream-listen unix:///x/b -state-dir /x";
    for words in [
        "".to_owned(),
        "-debug".to_owned(),
        "-listen unix:///x/a -stream-listen unix:///x/b".to_owned(),
        "-listen unix:///x/a -state-dir /x".to_owned(),
        "-listen unix:///x/a -stream-listen unix:///x/a -state-dir /x".to_owned(),
        format!("{unix} -nope"),
        format!("{unix} -host=lunar"),
    ] {
        let start = Rig::new().start(args(&words), None, false);
        assert!(matches!(&start, Start::Usage(text) if text.contains("-state-dir")), "{words}: {start:?}");
    }
}

#[test]
fn the_version_is_asked_for_in_two_ways() {
    let version = format!("vminitd {BUILD_VERSION}\n");
    for words in ["-version", "-v", "--version", "-v=true", "-debug -v"] {
        assert_eq!(Rig::new().start(args(words), None, false), Start::Print(version.clone()), "{words}");
    }
    assert!(matches!(Rig::new().start(args("-v=false"), None, false), Start::Usage(_)));
}

#[test]
fn an_argument_that_is_not_utf8_is_a_problem_and_no_more() {
    use std::os::unix::ffi::OsStringExt;
    let raw = vec![OsString::from_vec(b"-host=\xff".to_vec()), OsString::from("-debug")];
    let Start::Run(config, problems) = Rig::new().start(raw, None, true) else {
        panic!("PID 1 does not run")
    };
    assert_eq!((config.debug, problems.len()), (true, 1));
}

proptest! {
    #[test]
    fn pid1_runs_whatever_its_arguments_are(words in prop::collection::vec("(-{0,3}[a-z=-]{0,8}|.*)", 0..8)) {
        let words = words.into_iter().map(OsString::from);
        prop_assert!(matches!(Rig::new().start(words, None, true), Start::Run(..)));
    }

    #[test]
    fn only_a_complete_set_of_unix_endpoints_makes_an_ordinary_process_run(
        words in prop::collection::vec("(-listen=unix:///a|-stream-listen=unix:///b|-state-dir=/c|-debug|.*)", 0..6)
    ) {
        let words = words.into_iter().map(OsString::from);
        if let Start::Run(config, _) = Rig::new().start(words, None, false) {
            prop_assert!(matches!((config.rpc, config.stream), (Address::Unix(_), Address::Unix(_))));
        }
    }
}
