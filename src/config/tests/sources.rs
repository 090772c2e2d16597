//! What the kernel command line and the file may say, in every spelling, and that nothing in them stops PID 1.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::sys::sysctl::Name;

#[test]
fn the_command_line_is_read_whole_and_with_its_quotes() {
    let line = "console=ttyS0 quiet vminitd.debug vminitd.hostname=\"vm-1.example\" \"vminitd.sysctls=a.b=1 2,c=3\" \
                vminitd.report-version=one vminitd_x=1 init=/init -- -debug vminitd.report_version=two\n";
    let (config, problems) = Rig::new().cmdline(line).pid1("");
    assert_eq!(problems, Vec::<String>::new());
    assert!(config.debug);
    assert_eq!(config.machine.hostname.as_deref(), Some("vm-1.example"));
    let sysctls =
        [("a.b", "1 2"), ("c", "3")].map(|(name, value)| (Name::parse(name).unwrap(), value.to_owned()));
    assert_eq!(config.machine.sysctls, sysctls);
    assert_eq!(config.profile.version, "two");
}

#[test]
fn the_words_of_spinboxs_host_are_understood() {
    let host = "console=ttyS0 quiet loglevel=3 panic=1 net.ifnames=0 cgroup_no_v1=all spin.profile \
                ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:none:1.1.1.1 spin.extras_disk=3 spin.extras_force \
                spin.metadata_addr= init=/sbin/vminitd -- -vsock-rpc-port=1025 -vsock-stream-port=1026 -vsock-cid=7";
    let (config, problems) =
        Rig::new().cmdline(host).pid1("-vsock-rpc-port=1025 -vsock-stream-port=1026 -vsock-cid=7");
    assert_eq!(problems, Vec::<String>::new());
    let machine = config.machine;
    assert_eq!(machine.ip, ["10.0.0.2::10.0.0.1:255.255.255.0::eth0:none:1.1.1.1"]);
    assert_eq!(machine.extras_disk, Some(ExtrasDisk::Index(3)));
    assert!(machine.extras_force && machine.metadata_addr && machine.profile);

    for (line, expected) in [
        ("spin.profile=1", (false, true, false)),
        ("spin.profile_boot", (false, true, false)),
        ("vminitd.profile", (false, true, false)),
        ("vminitd.profile=0", (false, false, false)),
        ("spin.extras_force=1", (true, false, false)),
        ("spin.extras_force=0", (false, false, false)),
        ("spin.metadata_addr=x", (false, false, true)),
        ("spin.metadata_addr spin.other=1 spin", (false, false, false)),
    ] {
        let (Config { machine, .. }, problems) = Rig::new().cmdline(line).pid1("");
        let found = (machine.extras_force, machine.profile, machine.metadata_addr);
        assert_eq!((found, problems.len()), (expected, 0), "{line}");
    }
    let (config, problems) = Rig::new().cmdline("spin.extras_disk=x ip=1 ip=2 ip").pid1("");
    assert_eq!((config.machine.extras_disk, problems.len()), (None, 1));
    assert_eq!(config.machine.ip, ["1", "2"]);
}

#[test]
fn what_is_wrong_on_the_command_line_is_a_problem_and_no_more() {
    for (line, problem) in [
        ("vminitd.=1", "unknown key \"\" (command line)"),
        ("vminitd.nope", "unknown key \"nope\" (command line)"),
        ("vminitd.version=1", "unknown key \"version\" (command line)"),
        ("vminitd.hostname", "hostname needs a value (command line)"),
        (
            "vminitd.log=xml vminitd.log=",
            "invalid value \"xml\" for log (command line): expected text or json",
        ),
    ] {
        let (config, problems) = Rig::new().cmdline(line).pid1("");
        assert_eq!(problems.first().map(String::as_str), Some(problem), "{line}");
        assert_eq!(config, Rig::new().pid1("").0, "{line}");
    }
}

#[test]
fn a_file_gives_every_kind_of_value_in_every_way_to_write_it() {
    let (config, problems) = Rig::new()
        .file(
            r#"{
                "debug": "true", "log": "json", "io_drain_ms": "250", "delete-drain-ms": 0, "poweroff_after_prepare": true,
                "sysctls": {"net.ipv4.ip_local_reserved_ports": "8080,9148", "vm/swappiness": 10},
                "devices": ["serial:data", "/dev/vdb"], "extras_disk": "serial:extras", "ip": "a,b",
                "supervisor": "/agent", "supervisor_delay_ms": 0, "on_sigint": "reboot", "net_wait_ms": 5
            }"#,
        )
        .pid1("");
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!((config.debug, config.log, config.profile.poweroff_after_prepare), (true, Format::Json, true));
    let bounds = &config.bounds;
    assert_eq!((bounds.io_drain, bounds.delete_drain), (Duration::from_millis(250), Duration::ZERO));
    let machine = config.machine;
    let sysctls = [("net.ipv4.ip_local_reserved_ports", "8080,9148"), ("vm/swappiness", "10")];
    assert_eq!(machine.sysctls, sysctls.map(|(name, value)| (Name::parse(name).unwrap(), value.to_owned())));
    assert_eq!(machine.devices, ["serial:data", "/dev/vdb"]);
    assert_eq!(machine.extras_disk, Some(ExtrasDisk::Named("serial:extras".to_owned())));
    assert_eq!((machine.ip, machine.net_wait), (vec!["a".into(), "b".into()], Duration::from_millis(5)));
    assert_eq!(config.supervisor, Supervisor { path: Some("/agent".into()), delay: Duration::ZERO });
    assert_eq!(format!("{:?}", config.power), "Settings { on_sigint: Restart, on_fatal: PowerOff }");
}

#[test]
fn the_file_of_spinboxs_own_guest_is_understood() {
    let (config, problems) = Rig::new()
        .file(
            r#"{"vsock_context_id": 3, "rpc_port": 1025, "stream_port": 1026, "debug": true,
                "disabled_plugins": ["x"], "plugin_configs": {"y": {"z": 1}}}"#,
        )
        .pid1("");
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!((config.rpc, config.stream), (Address::Vsock(1025), Address::Vsock(1026)));
    assert!(config.debug);
}

#[test]
fn a_file_that_is_none_is_one_problem() {
    let huge = format!("{{\"debug\": true}}{}", " ".repeat(64 << 10));
    for (file, problem) in [
        ("", "the file is not JSON: EOF while parsing a value at line 1 column 0"),
        ("{\"debug\": true", "the file is not JSON: EOF while parsing an object at line 1 column 14"),
        ("[1]", "the file is not a JSON object"),
        ("null", "the file is not a JSON object"),
        ("{\"debug\": null}", "invalid value \"null\" for debug (file): expected true or false"),
        ("{\"debug\": [true]}", "invalid value \"true\" for debug (file): expected true or false"),
        (
            "{\"nofile\": 1e99}",
            "invalid value \"1e99\" for nofile (file): expected a number from 1024 to 1048576",
        ),
        ("{\"version\": true}", "unknown key \"version\" (file)"),
        (&huge, "file too large"),
    ] {
        let (config, problems) = Rig::new().file(file).pid1("");
        assert!(
            matches!(&problems[..], [told] if told.replace("1e+99", "1e99").contains(problem)),
            "{problems:?}"
        );
        assert_eq!(config, Rig::new().pid1("").0);
    }
}

#[test]
fn a_path_that_is_no_file_is_refused_without_waiting() {
    let rig = Rig::new();
    let fifo = rig.0.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let begin = Instant::now();
    for path in [fifo.as_path(), rig.0.path(), Path::new("/dev/zero"), Path::new("/does/not/exist")] {
        for flag in ["-config", "-cmdline"] {
            let (config, problems) = rig.pid1(&format!("{flag} {}", path.display()));
            assert!(matches!(&problems[..], [told] if told.starts_with("cannot read")), "{problems:?}");
            assert_eq!(config, Rig::new().pid1("").0);
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_source_full_of_nonsense_is_told_in_few_words() {
    let line: Vec<String> = (0..1000).map(|n| format!("vminitd.x{n}={}", "y".repeat(20))).collect();
    let (_, problems) = Rig::new().cmdline(&line.join(" ")).pid1("");
    assert_eq!((problems.len(), problems[32].as_str()), (33, "968 more problems"));
    let (_, problems) = Rig::new().cmdline(&format!("vminitd.log={}", "x".repeat(9000))).pid1("");
    assert!(problems[0].len() < 200, "{}", problems[0]);
}

#[test]
fn every_key_is_printed_once_with_its_value_and_source() {
    let printed = Rig::new().cmdline("ip=a ip=b vminitd.nope=1").printed("-log=json");
    assert_eq!(printed.of("log"), "json (flag)");
    assert_eq!(printed.of("ip"), "a,b (command line)");
    assert_eq!(printed.of("hostname"), " (default)");
    assert_eq!(printed.problems(), ["unknown key \"nope\" (command line)"]);
    let mut keys: Vec<&str> = printed.0.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((keys.len(), keys.contains(&"version")), (count, false));
}

#[test]
fn a_value_is_the_same_in_every_source() {
    let samples =
        "true 7 1025 5000 8388608 60 generic json dial named eof host relaxed reboot vm serial:x a.b=1,c=2 \
                   unix:///x /x";
    for key in Key::all().filter(|key| key.is_setting() && !matches!(key, Key::Config | Key::Cmdline)) {
        let name = key.name();
        let taken = |value: &&str| key.kind().read(&Given::Text((*value).to_owned())).is_some();
        let value = samples.split_whitespace().find(taken).unwrap_or_else(|| panic!("no sample for {name}"));
        let json = serde_json::json!({ name: value }).to_string();
        assert_eq!(Rig::new().file(json).printed("").of(name), format!("{value} (file)"));
        let rig = Rig::new().cmdline(&format!("vminitd.{name}={value}"));
        assert_eq!(rig.printed("").of(name), format!("{value} (command line)"));
        let flag = name.replace('_', "-");
        assert_eq!(Rig::new().printed(&format!("-{flag}={value}")).of(name), format!("{value} (flag)"));
    }
}

/// JSON of any shape, with our keys among the names.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let names: Vec<&str> = Key::all().map(Key::name).collect();
    let name = prop_oneof![prop::sample::select(names).prop_map(str::to_owned), any::<String>()];
    let plain = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    plain.prop_recursive(3, 32, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..8)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn pid1_runs_whatever_its_file_holds(json in any_json(), raw: Vec<u8>) {
        Rig::new().file(json.to_string()).pid1("");
        Rig::new().file(raw).pid1("");
    }

    #[test]
    fn pid1_runs_whatever_its_command_line_holds(
        words in prop::collection::vec("((vminitd|spin)\\.[a-z_-]{0,12}|ip|nofile|.{0,5})(=[\"a-z0-9.,: -]{0,12})?", 0..12),
        any_line: String,
    ) {
        Rig::new().cmdline(&words.join(" ")).pid1("");
        Rig::new().cmdline(&any_line).pid1("");
    }
}

#[test]
fn what_is_not_utf_8_is_refused_in_a_list_too() {
    let (config, problems) = Rig::new().file(b"{\"devices\": [\"serial:\xff\"]}").pid1("");
    assert_eq!((config.machine.devices.len(), problems.len()), (0, 1), "{problems:?}");
}

#[test]
fn a_source_does_not_say_where_it_or_one_above_it_is() {
    let file =
        Rig::new().file(r#"{"config": "/other", "cmdline": "/other"}"#).cmdline("vminitd.cmdline=/other");
    let printed = file.printed("");
    assert_eq!((printed.of("config"), printed.of("cmdline")), (" (default)", " (default)"));
    assert_eq!(printed.problems().len(), 3);
}
