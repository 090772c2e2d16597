//! Specs of real clients, and each rule of the division.

use std::fs;

use serde_json::json;

use super::*;

/// A world in which every path that is named is there; by their names, for the fixtures' paths are of other machines.
fn kind_of(path: &Path) -> Option<FileKind> {
    match path.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
        "absent" => None,
        "docker.sock" => Some(FileKind::Socket),
        "fifo" => Some(FileKind::Fifo),
        "sda" => Some(FileKind::Device),
        "resolv.conf" | "hosts" | "hostname" => Some(FileKind::File),
        _ => Some(FileKind::Directory),
    }
}

fn planned(config: &Value) -> Result<Plan, Refusal> {
    let volume_in_guest = |n| format!("/volumes/{n}");
    let bundle = Path::new("/bundle");
    plan(config, &World { id: "c1", bundle, kind_of: &kind_of, volume_in_guest: &volume_in_guest })
}

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specs").join(name);
    serde_json::from_slice(&fs::read(path).expect("read a fixture")).expect("a fixture is JSON")
}

/// The least that is not refused, with `change` merged into it, member by member.
fn spec(change: Value) -> Value {
    let namespaces = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({"type": kind}));
    let mut spec = json!({"process": {}, "root": {"path": "rootfs"}, "linux": {"namespaces": namespaces}});
    merge(&mut spec, change);
    spec
}

fn merge(to: &mut Value, from: Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (name, value) in from {
                merge(to.entry(name).or_insert(Value::Null), value);
            }
        }
        (to, from) => *to = from,
    }
}

fn refused(change: Value, text: &str) {
    assert_eq!(planned(&spec(change)).expect_err(text).to_string(), text);
}

fn namespaces(plan: &Plan) -> Vec<&str> {
    let all = plan.guest["linux"]["namespaces"].as_array().expect("a list");
    all.iter().map(|namespace| namespace["type"].as_str().expect("a text")).collect()
}

#[test]
fn every_spec_of_a_real_client_is_divided_or_refused_by_name() {
    for (name, outcome) in [
        ("docker-run.json", Ok(Network::New)),
        ("nerdctl-full.json", Ok(Network::New)),
        ("nerdctl-net-none.json", Ok(Network::New)),
        ("nerdctl-net-host.json", Ok(Network::Host)),
        ("nerdctl-privileged.json", Ok(Network::New)),
        ("nerdctl-net-container.json", Err("belongs to another task")),
    ] {
        match (planned(&fixture(name)), outcome) {
            (Ok(plan), Ok(network)) => assert_eq!(plan.network, network, "{name}"),
            (Err(refusal), Err(text)) => assert!(refusal.to_string().contains(text), "{name}: {refusal}"),
            (planned, _) => panic!("{name}: {planned:?}"),
        }
    }
}

#[test]
fn what_docker_asks_for_is_divided() {
    let plan = planned(&fixture("docker-run.json")).expect("docker's spec");
    assert!(plan.root.path.starts_with("/var/lib/docker/rootfs/overlayfs"), "{:?}", plan.root);
    assert_eq!(plan.guest["root"]["path"], "rootfs");
    assert_eq!(namespaces(&plan), ["mount", "uts", "pid", "ipc", "cgroup"]);
    assert_eq!(plan.net_sysctls["net.ipv4.ip_unprivileged_port_start"], "0");
    assert_eq!(plan.guest["linux"]["sysctl"], json!({}));
    assert_eq!(plan.demand.memory, Some(67_108_864));
    assert_eq!(plan.guest["linux"]["resources"]["memory"]["limit"], 67_108_864);
    assert!(plan.guest["linux"]["seccomp"].is_object());
    assert_eq!(plan.left_out, Vec::<String>::new());
    let destinations: Vec<&str> = plan.volumes.iter().map(|volume| volume.destination.as_str()).collect();
    for file in ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"] {
        assert!(destinations.contains(&file), "{destinations:?}");
    }
}

#[test]
fn what_nerdctl_asks_for_is_divided() {
    let plan = planned(&fixture("nerdctl-full.json")).expect("nerdctl's spec");
    assert!(plan.root.read_only);
    assert_eq!((plan.hooks.create_runtime.len(), plan.hooks.poststop.len()), (1, 1));
    assert!(plan.guest.get("hooks").is_none());
    assert_eq!(plan.demand.millicpus, Some(500));
    assert_eq!(plan.guest["linux"]["resources"]["pids"]["limit"], 50);
    assert_eq!(plan.guest["linux"]["devices"][0]["path"], "/dev/fuse");
    assert_eq!(plan.annotations["nerdctl/name"], "full");
    assert_eq!(plan.guest["process"]["rlimits"][0]["hard"], 200);
}

#[test]
fn a_privileged_container_gets_the_devices_the_guest_has_and_a_line_for_each_other() {
    let plan = planned(&fixture("nerdctl-privileged.json")).expect("nerdctl's spec");
    assert!(plan.left_out.contains(&"the device /dev/btrfs-control".to_owned()), "{:?}", plan.left_out);
    let devices = plan.guest["linux"]["devices"].as_array().expect("a list");
    assert!(devices.iter().all(|device| device["path"] != "/dev/btrfs-control"));
    assert!(devices.iter().any(|device| device["path"] == "/dev/full"));
}

#[test]
fn what_a_microvm_cannot_give_is_refused_by_name() {
    let bind = |source: &str| json!({"mounts": [{"destination": "/x", "type": "bind", "source": source}]});
    let without = |kind: &str| {
        let mut spec = spec(json!({}));
        spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("a list")
            .retain(|namespace| namespace["type"] != kind);
        spec["linux"].clone()
    };
    let hook = json!([{"path": "/bin/true"}]);
    for (change, text) in [
        (json!({"linux": without("pid")}), "the host's pid namespace is not supported in a microVM"),
        (json!({"linux": without("ipc")}), "the host's ipc namespace is not supported in a microVM"),
        (json!({"linux": without("uts")}), "the host's uts namespace is not supported in a microVM"),
        (
            json!({"linux": {"uidMappings": [{"hostID": 1, "containerID": 0, "size": 1}]}}),
            "user namespaces are not supported in a microVM",
        ),
        (
            bind("/run/docker.sock"),
            "cannot bind /run/docker.sock to /x: sockets of the host are not supported in a microVM",
        ),
        (bind("/run/fifo"), "cannot bind /run/fifo to /x: FIFOs of the host are not supported in a microVM"),
        (bind("/srv/sda"), "cannot bind /srv/sda to /x: devices of the host are not supported in a microVM"),
        (bind("/absent"), "cannot bind /absent to /x: there is no such file or directory"),
        (
            bind("/srv/../proc/sys"),
            "cannot bind /srv/../proc/sys to /x: what the host's kernel shows is not supported in a microVM",
        ),
        (
            json!({"mounts": [{"destination": "/x", "type": "nfs", "source": "a:/b"}]}),
            "the mount type \"nfs\" of /x is not supported in a microVM",
        ),
        (
            json!({"mounts": [{"destination": "/x", "type": "bind", "source": "/d", "options": ["rbind", "idmap"]}]}),
            "the id-mapped mount /x is not supported in a microVM",
        ),
        (
            json!({"linux": {"devices": [{"path": "/dev/kvm", "type": "c", "major": 10, "minor": 232}]}}),
            "the device /dev/kvm is not in a microVM",
        ),
        (
            json!({"hooks": {"createContainer": hook}}),
            "createContainer hooks run inside the container, and are not supported in a microVM",
        ),
        (
            json!({"hooks": {"startContainer": hook}}),
            "startContainer hooks run inside the container, and are not supported in a microVM",
        ),
        (
            json!({"linux": {"seccomp": {"listenerPath": "/run/s"}}}),
            "seccomp notifications to /run/s are not supported in a microVM",
        ),
        (json!({"hooks": 1}), "hooks of the spec is malformed"),
        (json!({"mounts": {}}), "mounts of the spec is malformed"),
    ] {
        refused(change, text);
    }
}

#[test]
fn a_namespace_of_another_container_is_refused_and_a_named_network_is_entered() {
    let with = |kind: &str, path: &str| {
        let mut spec = spec(json!({}));
        let all = spec["linux"]["namespaces"].as_array_mut().expect("a list");
        all.iter_mut().filter(|one| one["type"] == kind).for_each(|one| one["path"] = path.into());
        planned(&spec)
    };
    assert!(matches!(with("pid", "/proc/9/ns/pid"), Err(Refusal::SharedNamespace { kind: "pid", .. })));
    assert!(matches!(with("network", "/proc/9/ns/net"), Err(Refusal::NetworkOfTask(_))));
    let plan = with("network", "/run/netns/blue").expect("a named namespace");
    assert_eq!(plan.network, Network::At("/run/netns/blue".into()));
}

#[test]
fn a_time_namespace_stays_only_if_it_changes_the_time() {
    let timed = |offsets: Value| {
        let mut spec = spec(json!({"linux": {"timeOffsets": offsets}}));
        spec["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "time"}));
        let plan = planned(&spec).expect("a plan");
        namespaces(&plan).contains(&"time")
    };
    assert!(!timed(Value::Null) && !timed(json!({})));
    assert!(timed(json!({"monotonic": {"secs": 1}})));
}

#[test]
fn a_bind_becomes_a_volume_that_the_guest_finds_in_the_share() {
    let bind = |options: Value| {
        let mount = json!({"destination": "/x", "type": "bind", "source": "data", "options": options});
        let plan = planned(&spec(json!({"mounts": [mount]}))).expect("a plan");
        (plan.volumes[0].clone(), plan.guest["mounts"][0].clone())
    };
    for (options, read_only, in_guest) in [
        (json!(["rbind", "rw"]), ReadOnly::No, json!(["rbind", "rw", "rprivate"])),
        (json!(["rbind", "ro", "rshared"]), ReadOnly::Yes, json!(["rbind", "ro", "rprivate"])),
        (json!(["bind", "rro"]), ReadOnly::Recursive, json!(["bind", "ro", "rprivate"])),
        (json!(["ro", "rw"]), ReadOnly::No, json!(["ro", "rw", "bind", "rprivate"])),
        (Value::Null, ReadOnly::No, json!(["bind", "rprivate"])),
    ] {
        let (volume, mount) = bind(options.clone());
        let source = PathBuf::from("/bundle/data");
        assert_eq!(
            volume,
            Volume { source, destination: "/x".into(), directory: true, read_only },
            "{options}"
        );
        assert_eq!((&mount["source"], &mount["options"]), (&json!("/volumes/0"), &in_guest), "{options}");
    }
}

#[test]
fn what_belongs_to_the_host_is_taken_out_and_said() {
    let plan = planned(&spec(json!({
        "process": {"apparmorProfile": "p", "selinuxLabel": "l", "oomScoreAdj": 5},
        "linux": {
            "mountLabel": "m", "cgroupsPath": "a.slice:b:c", "intelRdt": {"closID": "x"}, "rootfsPropagation": "rshared",
            "resources": {
                "cpu": {"cpus": "0-1", "mems": "0", "shares": 5},
                "blockIO": {"weight": 10}, "network": {}, "hugepageLimits": [],
            },
        },
    })))
    .expect("a plan");
    let linux = &plan.guest["linux"];
    assert_eq!(plan.guest["process"], json!({"oomScoreAdj": 5}));
    assert_eq!(linux["cgroupsPath"], "/vminit/c1");
    assert_eq!(linux["resources"], json!({"cpu": {"shares": 5}}));
    assert!(linux.get("mountLabel").is_none() && linux.get("rootfsPropagation").is_none());
    assert_eq!(plan.demand.cpuset.as_deref(), Some("0-1"));
    assert_eq!(plan.left_out, ["linux.intelRdt", "linux.resources.blockIO"]);
}

#[test]
fn what_is_not_known_stays() {
    let plan = planned(&spec(json!({"novel": [1], "linux": {"novel": {"a": 1}, "personality": {}}})))
        .expect("a plan");
    assert_eq!((&plan.guest["novel"], &plan.guest["linux"]["novel"]), (&json!([1]), &json!({"a": 1})));
}

#[test]
fn the_points_of_the_root_are_what_is_mounted_on_in_it_and_where_the_container_begins() {
    let mount =
        |at: &str, kind: &str, source: &str| json!({"destination": at, "type": kind, "source": source});
    let mounts = [
        mount("/proc", "proc", "proc"),
        mount("/dev", "tmpfs", "tmpfs"),
        mount("/dev/shm", "tmpfs", "shm"),
        mount("/etc/hosts", "bind", "hosts"),
        mount("/device", "bind", "data"),
        mount("/device/below", "bind", "data"),
        json!({"destination": "/scratch", "type": "tmpfs", "options": ["noexec", "mode=700"]}),
    ];
    let plan = planned(&spec(json!({"mounts": mounts, "process": {"cwd": "/work"}}))).expect("a plan");
    let text = |point: &Point| format!("{} {} {:o}", point.path.display(), point.directory, point.mode);
    let points: Vec<_> = plan.root.points.iter().map(text).collect();
    assert_eq!(
        points,
        [
            "/proc true 755",
            "/dev true 1777",
            "/etc/hosts false 755",
            "/device true 755",
            "/scratch true 700",
            "/work true 755"
        ]
    );
}
