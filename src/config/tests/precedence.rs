//! Which source prevails, and that a bad value leaves the key to the next one.

use super::*;

#[test]
fn a_flag_beats_the_command_line_that_the_file_that_the_profile_that_the_default() {
    // Each row: flags, command line, file, and what io_drain_ms or spec comes to.
    for (flags, line, file, key, expected) in [
        ("", "", "{}", "io_drain_ms", "500 (default)"),
        ("", "", r#"{"io_drain_ms": 7}"#, "io_drain_ms", "7 (file)"),
        ("", "vminitd.io_drain_ms=8", r#"{"io_drain_ms": 7}"#, "io_drain_ms", "8 (command line)"),
        ("-io-drain-ms=9", "vminitd.io_drain_ms=8", r#"{"io_drain_ms": 7}"#, "io_drain_ms", "9 (flag)"),
        ("", "", "{}", "spec", "as-is (default)"),
        ("-host=spinbox", "", "{}", "spec", "relaxed (profile spinbox)"),
        ("", "vminitd.host=spinbox", "{}", "spec", "relaxed (profile spinbox)"),
        ("", "", r#"{"host": "spinbox"}"#, "spec", "relaxed (profile spinbox)"),
        ("-host=generic", "vminitd.host=spinbox", "{}", "spec", "as-is (default)"),
        ("", "vminitd.host=spinbox", r#"{"spec": "as-is"}"#, "spec", "as-is (file)"),
        // What cannot be read leaves the key to the next source.
        (
            "-io-drain-ms=x",
            "vminitd.io_drain_ms=8",
            r#"{"io_drain_ms": 7}"#,
            "io_drain_ms",
            "8 (command line)",
        ),
        ("-io-drain-ms=x", "vminitd.io_drain_ms=y", r#"{"io_drain_ms": 7}"#, "io_drain_ms", "7 (file)"),
        ("-io-drain-ms=x", "vminitd.io_drain_ms=y", r#"{"io_drain_ms": -7}"#, "io_drain_ms", "500 (default)"),
        ("-spec=x", "vminitd.host=spinbox", r#"{"spec": 1}"#, "spec", "relaxed (profile spinbox)"),
        ("-host=x", "vminitd.host=y", r#"{"host": "spinbox"}"#, "spec", "relaxed (profile spinbox)"),
        // The last of one source prevails, and of those that can be read.
        ("-io-drain-ms=1 -io-drain-ms=2", "", "{}", "io_drain_ms", "2 (flag)"),
        ("-io-drain-ms=1 -io-drain-ms=x", "", "{}", "io_drain_ms", "1 (flag)"),
        ("", "vminitd.io-drain-ms=1 vminitd.io_drain_ms=2", "{}", "io_drain_ms", "2 (command line)"),
    ] {
        let rig = Rig::new().cmdline(line).file(file);
        assert_eq!(rig.printed(flags).of(key), expected, "{flags} | {line} | {file}");
    }
}

#[test]
fn every_bad_value_is_told_with_its_source() {
    let rig = Rig::new().cmdline("vminitd.nofile=1 vminitd.debug=7").file(r#"{"nofile": "many", "x": 1}"#);
    let (config, problems) = rig.pid1("-nofile=-1");
    let range = "expected a number from 1024 to 1048576";
    let expected = [
        format!("invalid value \"-1\" for nofile (flag): {range}"),
        format!("invalid value \"1\" for nofile (command line): {range}"),
        "invalid value \"7\" for debug (command line): expected true or false".to_owned(),
        format!("invalid value \"many\" for nofile (file): {range}"),
        "unknown key \"x\" (file)".to_owned(),
    ];
    assert_eq!(problems, expected);
    assert_eq!(config, Rig::new().pid1("").0);
}

#[test]
fn a_hosts_row_is_what_the_table_says() {
    let rows = ["mode", "stream_ids", "delete_event", "spec", "poweroff_after_prepare", "report_version"];
    for (host, expected) in [
        ("generic", ["listen", "numeric", "guest", "as-is", "false", BUILD_VERSION]),
        ("spinbox", ["listen", "numeric", "host", "relaxed", "true", BUILD_VERSION]),
        ("nerdbox", ["dial", "named", "guest", "as-is", "false", "dev"]),
    ] {
        let printed = Rig::new().printed(&format!("-host={host}"));
        let values = rows.map(|row| printed.of(row).split(" (").next().unwrap_or_default());
        assert_eq!(values, expected, "{host}");
        assert_eq!(printed.problems(), Vec::<&str>::new(), "every row of a host can be read");
    }
}

#[test]
fn the_runtime_of_the_environment_stands_between_the_profile_and_the_file() {
    let runtime = |rig: &Rig, flags: &str, environment| match rig.start(args(flags), environment, true) {
        Start::Run(config, _) => config.runtime,
        other => panic!("PID 1 does not run: {other:?}"),
    };
    let rig = Rig::new();
    assert_eq!(runtime(&rig, "", None), None);
    assert_eq!(runtime(&rig, "-host=spinbox", Some("/e")), Some("/e".into()));
    assert_eq!(runtime(&rig, "", Some("relative")), None);
    let rig = rig.file(r#"{"runtime": "/f"}"#);
    assert_eq!(runtime(&rig, "", Some("/e")), Some("/f".into()));
    assert_eq!(runtime(&rig, "-runtime=/g", Some("/e")), Some("/g".into()));
}

#[test]
fn two_endpoints_that_are_the_same_go_back_to_their_defaults() {
    let rig = Rig::new().cmdline("vminitd.vsock_rpc_port=7").file(r#"{"stream_port": 7}"#);
    let (config, problems) = rig.pid1("");
    assert_eq!((config.rpc, config.stream), (Address::Vsock(1024), Address::Vsock(1025)));
    assert_eq!(problems, ["the RPC and the stream endpoint are the same"]);
    assert_eq!(rig.printed("").of("vsock_rpc_port"), "1024 (default)");
}

#[test]
fn an_ordinary_process_reads_only_what_a_flag_names() {
    let unix = "-listen unix:///x/a -stream-listen unix:///x/b -state-dir /x";
    let rig = Rig::new().cmdline("vminitd.nofile=2000").file(r#"{"event_replay": 100, "x": 1}"#);
    let run = |flags: &str| match rig.start(args(&format!("{unix} {flags}")), None, false) {
        Start::Run(config, problems) => (config.bounds.nofile, config.bounds.event_replay, problems.len()),
        other => panic!("{flags} does not run: {other:?}"),
    };
    assert_eq!(run(""), (65_536, 4_096, 0));
    assert_eq!(run(&format!("-config {}", rig.path().display())), (65_536, 100, 1));
    assert_eq!(run(&format!("-cmdline {}/cmdline", rig.0.path().display())), (2_000, 4_096, 0));
    assert_eq!(run("-config /does/not/exist"), (65_536, 4_096, 1), "only a wrong flag is fatal");
}
