//! What the edits of specs promise, as tables, as properties, and on specs of real clients.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const FIXTURES: [(&str, &str); 4] = [
    ("docker-run", include_str!("../../../tests/fixtures/specs/docker-run.json")),
    ("nerdctl-full", include_str!("../../../tests/fixtures/specs/nerdctl-full.json")),
    ("nerdctl-net-host", include_str!("../../../tests/fixtures/specs/nerdctl-net-host.json")),
    ("nerdctl-privileged", include_str!("../../../tests/fixtures/specs/nerdctl-privileged.json")),
];

/// A folder with a bundle's `config.json` and a resolver file.
struct Bundle(tempfile::TempDir);

impl Bundle {
    fn new(spec: &[u8]) -> Bundle {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), spec).unwrap();
        fs::write(folder.path().join("resolv.conf"), "").unwrap();
        Bundle(folder)
    }

    fn config(&self) -> PathBuf {
        self.0.path().join("config.json")
    }

    fn resolv_conf(&self) -> PathBuf {
        self.0.path().join("resolv.conf")
    }

    fn text(&self) -> Vec<u8> {
        fs::read(self.config()).unwrap()
    }

    fn prepare(&self, policy: Policy, terminal: bool) -> Result<Facts, SpecError> {
        prepare(self.0.path(), policy, terminal, &self.resolv_conf())
    }
}

/// What a policy makes of a spec.
fn prepared(spec: &Value, policy: Policy, terminal: bool) -> Value {
    let bundle = Bundle::new(spec.to_string().as_bytes());
    bundle.prepare(policy, terminal).unwrap();
    serde_json::from_slice(&bundle.text()).unwrap()
}

fn relaxed(spec: &Value) -> Value {
    prepared(spec, Policy::Relaxed, false)
}

fn destinations(spec: &Value) -> Vec<&str> {
    spec["mounts"].as_array().unwrap().iter().map(|mount| mount["destination"].as_str().unwrap()).collect()
}

#[test]
fn only_a_pid_namespace_without_a_path_is_private() {
    for (namespaces, expected) in [
        (json!([{"type": "mount"}, {"type": "pid"}]), true),
        (json!([{"type": "pid", "path": ""}]), true),
        (json!([{"type": "pid", "path": "/proc/1/ns/pid"}]), false),
        (json!([{"type": "mount"}]), false),
        (json!(null), false),
        (json!("pid"), false),
    ] {
        let bundle = Bundle::new(json!({"linux": {"namespaces": namespaces}}).to_string().as_bytes());
        let facts = bundle.prepare(Policy::AsIs, false).unwrap();
        assert_eq!(facts.private_pid_namespace, expected, "{namespaces}");
    }
}

#[test]
fn as_is_leaves_the_file_alone_unless_the_terminal_differs() {
    for (process, terminal) in [
        (r#"{"terminal": true}"#, true),
        (r#"{"terminal": false}"#, false),
        (r#"{"terminal": null}"#, false),
        ("{}", false),
        ("null", false),
    ] {
        let text = format!(r#"{{ "process": {process}, "b": 1,  "a": 1e2 }}"#);
        let bundle = Bundle::new(text.as_bytes());
        bundle.prepare(Policy::AsIs, terminal).unwrap();
        assert_eq!(bundle.text(), text.as_bytes());
    }
    let unspoken = Bundle::new(b"{ }");
    unspoken.prepare(Policy::AsIs, false).unwrap();
    assert_eq!(unspoken.text(), b"{ }");
}

#[test]
fn the_request_decides_on_the_terminal() {
    for policy in [Policy::AsIs, Policy::Relaxed] {
        for process in
            [json!({"cwd": "/"}), json!({"terminal": true}), json!({"terminal": false}), json!(null)]
        {
            let spec = json!({"process": process, "x": 1});
            for terminal in [false, true] {
                let after = prepared(&spec, policy, terminal);
                assert_eq!(after["process"]["terminal"].as_bool().unwrap_or(false), terminal, "{spec}");
                assert_eq!((&after["x"], &after["process"]["cwd"]), (&json!(1), &process["cwd"]));
            }
        }
    }
}

#[test]
fn an_exec_gets_the_size_that_was_asked_for() {
    let process = br#"{"cwd":"/","consoleSize":{"width":1,"height":2,"x":3}}"#.to_vec();
    assert_eq!(with_window_size(process.clone(), None).unwrap(), process);
    let sized = with_window_size(process, Some(WindowSize { columns: 101, rows: 41 })).unwrap();
    let expected = json!({"cwd": "/", "consoleSize": {"width": 101, "height": 41}});
    assert_eq!(serde_json::from_slice::<Value>(&sized).unwrap(), expected);
}

#[test]
fn an_exec_gets_the_terminal_that_its_request_asks_for() {
    for (process, terminal, expected) in [
        (r#"{"cwd": "/"}"#, false, r#"{"cwd": "/"}"#),
        (r#"{"cwd":"/"}"#, true, r#"{"cwd":"/","terminal":true}"#),
        (r#"{"terminal":true,"x":{"y":[1]}}"#, false, r#"{"terminal":false,"x":{"y":[1]}}"#),
    ] {
        assert_eq!(exec_process(process.as_bytes(), terminal).unwrap(), expected.as_bytes(), "{process}");
    }
    for bad in ["", "[]", "null", "{", "{}x", "1"] {
        assert!(exec_process(bad.as_bytes(), false).is_err(), "{bad:?}");
    }
}

#[test]
fn relaxing_takes_off_what_hides_and_forbids() {
    let spec = json!({"linux": {"seccomp": {}, "maskedPaths": ["/x"], "readonlyPaths": ["/y"], "sysctl": {"a": "b"}}});
    let expected =
        json!({"sysctl": {"a": "b"}, "resources": {"devices": [{"allow": true, "access": "rwm"}]}});
    assert_eq!(relaxed(&spec)["linux"], expected);
}

#[test]
fn relaxing_gives_the_container_the_devices_of_the_vm() {
    let mount = |place: &str| json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "new": 1});
    let mounts = ["/proc", "/dev/", "/dev/pts", "//dev/shm", "/dev/mqueue", "/dev/x"].map(mount);
    let after = relaxed(&json!({"mounts": mounts}));
    assert_eq!(destinations(&after), ["/proc", "/dev/", "/dev/x", "/etc/resolv.conf"]);
    let dev = json!({"destination": "/dev/", "type": "bind", "source": "/dev", "options": ["rbind", "rw"], "new": 1});
    assert_eq!(after["mounts"][1], dev);
    assert_eq!(after["mounts"][0], mount("/proc"));
}

#[test]
fn relaxing_adds_no_dev_where_there_was_none() {
    assert_eq!(
        destinations(&relaxed(&json!({"mounts": [{"destination": "/dev/shm"}]}))),
        ["/etc/resolv.conf"]
    );
}

#[test]
fn the_resolver_is_bound_once_and_only_if_it_is_there() {
    let theirs = json!({"mounts": [{"destination": "/etc/resolv.conf", "source": "resolv.conf"}]});
    assert_eq!(relaxed(&theirs)["mounts"], theirs["mounts"]);
    let bundle = Bundle::new(b"{}");
    let nowhere = bundle.0.path().join("nowhere");
    prepare(bundle.0.path(), Policy::Relaxed, false, &nowhere).unwrap();
    assert_eq!(destinations(&serde_json::from_slice(&bundle.text()).unwrap()), Vec::<&str>::new());
    bundle.prepare(Policy::Relaxed, false).unwrap();
    let after: Value = serde_json::from_slice(&bundle.text()).unwrap();
    assert_eq!(after["mounts"][0]["source"].as_str(), bundle.resolv_conf().to_str());
    assert_eq!(after["mounts"][0]["options"], json!(["rbind", "ro"]));
}

#[test]
fn limits_survive_relaxing_to_the_last_digit() {
    let limits = r#"{"blockIO":{"weight":10},"cpu":{"cpus":"0-1","quota":-1,"shares":18446744073709551615},"hugepageLimits":[{"limit":9223372036854775807,"pageSize":"2MB"}],"memory":{"limit":-9223372036854775808,"swap":0.25},"pids":{"limit":32},"unified":{"memory.high":"max"}}"#;
    let bundle = Bundle::new(format!(r#"{{"linux":{{"resources":{limits}}}}}"#).as_bytes());
    bundle.prepare(Policy::Relaxed, false).unwrap();
    let with_devices =
        limits.replacen("\"hugepage", r#""devices":[{"access":"rwm","allow":true}],"hugepage"#, 1);
    let text = String::from_utf8(bundle.text()).unwrap();
    assert!(text.contains(&with_devices), "{text}");
}

#[test]
fn members_of_another_kind_are_refused_and_the_file_is_kept() {
    for (text, reason) in [
        ("[]", "config.json is not an object"),
        (r#"{"process": 1}"#, "process is not an object"),
        (r#"{"linux": []}"#, "linux is not an object"),
        (r#"{"linux": {"resources": "all"}}"#, "resources is not an object"),
        (r#"{"mounts": {}}"#, "mounts is not an array"),
    ] {
        let bundle = Bundle::new(text.as_bytes());
        let error = bundle.prepare(Policy::Relaxed, true).unwrap_err();
        assert_eq!(error.to_string(), reason, "{text}");
        assert_eq!(bundle.text(), text.as_bytes());
    }
}

#[test]
fn what_is_no_json_is_refused_at_any_depth_and_size() {
    let deep = "[".repeat(100_000);
    for text in ["", "{", "{}{}", "\u{feff}{}", &deep] {
        let bundle = Bundle::new(text.as_bytes());
        for policy in [Policy::AsIs, Policy::Relaxed] {
            assert!(matches!(bundle.prepare(policy, false), Err(SpecError::Json { .. })));
        }
        assert!(matches!(exec_process(text.as_bytes(), false), Err(SpecError::Json { .. })));
    }
    let huge = Bundle::new(b"{}");
    OpenOptions::new().write(true).open(huge.config()).unwrap().set_len(CONFIG_MAX + 1).unwrap();
    assert!(matches!(huge.prepare(Policy::AsIs, false), Err(SpecError::TooLarge(_))));
}

#[test]
fn a_config_that_is_missing_or_no_file_is_refused_under_both_policies() {
    let bundle = Bundle::new(b"{}");
    fs::remove_file(bundle.config()).unwrap();
    for policy in [Policy::AsIs, Policy::Relaxed] {
        assert!(matches!(bundle.prepare(policy, false), Err(SpecError::Read { .. })));
    }
    nix::unistd::mkfifo(&bundle.config(), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(matches!(bundle.prepare(Policy::AsIs, false), Err(SpecError::NoFile(_))));
}

#[test]
fn an_edited_config_keeps_its_mode_and_leaves_no_file_beside_it() {
    let bundle = Bundle::new(b"{}");
    fs::set_permissions(bundle.config(), Permissions::from_mode(0o640)).unwrap();
    bundle.prepare(Policy::Relaxed, false).unwrap();
    assert_eq!(fs::metadata(bundle.config()).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_dir(bundle.0.path()).unwrap().count(), 2);
}

#[test]
fn specs_of_real_clients_are_relaxed_and_lose_nothing_else() {
    for (name, text) in FIXTURES {
        let before: Value = serde_json::from_str(text).unwrap();
        let after = relaxed(&before);
        let dev = after["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == "/dev");
        assert_eq!(dev.unwrap()["type"], "bind", "{name}");
        assert!(IN_DEV.iter().all(|place| !destinations(&after).contains(place)), "{name}");
        assert_eq!(untouched(after), untouched(before), "{name}");
    }
}

#[test]
fn specs_of_real_clients_get_to_runc_as_they_are() {
    for (name, text) in FIXTURES {
        let terminal = text.contains(r#""terminal": true"#);
        let bundle = Bundle::new(text.as_bytes());
        let facts = bundle.prepare(Policy::AsIs, terminal).unwrap();
        assert_eq!(bundle.text(), text.as_bytes(), "{name}");
        assert!(facts.private_pid_namespace, "{name}");
    }
}

const IN_DEV: [&str; 3] = ["/dev/pts", "/dev/shm", "/dev/mqueue"];

/// A spec without what the edits may change. Objects that they may have to make are made.
fn untouched(mut spec: Value) -> Value {
    let members = spec.as_object_mut().unwrap();
    member(members, "process").unwrap().remove("terminal");
    let linux = member(members, "linux").unwrap();
    linux.retain(|name, _| !["readonlyPaths", "maskedPaths", "seccomp"].contains(&name.as_str()));
    member(linux, "resources").unwrap().remove("devices");
    let mounts = members.entry("mounts").or_insert_with(|| json!([])).as_array_mut().unwrap();
    let edited = [&IN_DEV[..], &["/dev", "/etc/resolv.conf"]].concat();
    mounts.retain(|mount| mount["destination"].as_str().is_none_or(|place| !edited.contains(&place)));
    spec
}

/// Any JSON, some levels deep.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An object with some of these known members, and others that nobody knows.
fn object_of(known: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let known: Vec<_> = known
        .into_iter()
        .map(|(name, value)| prop::option::of(value.prop_map(move |value| (name.to_owned(), value))))
        .collect();
    let unknown = prop::collection::btree_map("x[a-z]{0,4}", anything(), 0..3);
    (known, unknown)
        .prop_map(|(known, unknown)| Value::Object(known.into_iter().flatten().chain(unknown).collect()))
        .boxed()
}

/// A spec of which only the shape is sensible.
fn spec() -> BoxedStrategy<Value> {
    let places = vec!["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/etc/resolv.conf", "/proc", "/dev/sda"];
    let place = prop::sample::select(places).prop_map(Value::from).boxed();
    let mount = object_of(vec![("destination", place), ("options", anything().boxed())]);
    let resources = object_of(
        ["devices", "memory", "cpu", "pids", "blockIO"].map(|name| (name, anything().boxed())).into(),
    );
    let linux = object_of(vec![
        ("resources", resources),
        ("seccomp", anything().boxed()),
        ("maskedPaths", anything().boxed()),
        ("namespaces", anything().boxed()),
    ]);
    object_of(vec![
        ("linux", linux),
        ("mounts", prop::collection::vec(mount, 0..6).prop_map(Value::from).boxed()),
        ("process", object_of(vec![("terminal", any::<bool>().prop_map(Value::from).boxed())])),
        ("annotations", anything().boxed()),
    ])
}

proptest! {
    #[test]
    fn what_the_edits_do_not_name_survives_them(spec in spec(), terminal: bool) {
        for policy in [Policy::AsIs, Policy::Relaxed] {
            prop_assert_eq!(untouched(prepared(&spec, policy, terminal)), untouched(spec.clone()));
        }
    }

    #[test]
    fn preparing_twice_is_preparing_once(spec in spec(), terminal: bool) {
        let bundle = Bundle::new(spec.to_string().as_bytes());
        let facts = bundle.prepare(Policy::Relaxed, terminal).unwrap();
        let (once, inode) = (bundle.text(), inode(&bundle));
        prop_assert_eq!(bundle.prepare(Policy::Relaxed, terminal).unwrap(), facts);
        prop_assert_eq!(bundle.text(), once);
        prop_assert_eq!(self::inode(&bundle), inode, "the file was written again");
    }

    #[test]
    fn no_text_is_too_odd_to_be_answered(text in prop::collection::vec(any::<u8>(), 0..64), json in anything()) {
        for text in [text, json.to_string().into_bytes()] {
            let _ = exec_process(&text, true);
            let bundle = Bundle::new(&text);
            let answer = bundle.prepare(Policy::Relaxed, true);
            prop_assert!(answer.is_ok() || bundle.text() == text);
        }
    }
}

/// It changes when another file takes the place of the first.
fn inode(bundle: &Bundle) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(bundle.config()).unwrap())
}
