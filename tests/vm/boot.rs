//! The guest's own beginning: its milestones, its root and its size.

use std::fs;

use vminit_shim::client::context;
use vminit_shim::spec;
use vminitd_test_support::LIMIT;

use crate::bare_image;
use crate::machine::{build_folder, Machine};
use crate::observer::Observer;

#[tokio::test]
async fn the_boot_reports_its_milestones_in_order_and_goes_on_past_what_fails() {
    let booted = Machine::boot(|config| config.append_extra = "ip=::::no/name".into());
    let Some(machine) = booted.await else { return };
    let mut last_us = 0;
    for (index, phase) in
        ["pid1-entry", "system-init", "vsock-listen", "serve", "first-accept"].into_iter().enumerate()
    {
        let milestone = machine.vm.milestone(index).await.expect("a milestone");
        assert_eq!(milestone.phase, phase);
        assert!(milestone.uptime_us >= last_us, "{phase} before what comes before it");
        last_us = milestone.uptime_us;
    }
    // It needs the boot, and so waits for its end.
    let network = machine.guest.client.network();
    network.get(context(LIMIT, "default"), &Default::default()).await.expect("the network");
    let failures = machine.info().await.boot_failures;
    assert_eq!(failures, [r#"etc host name "no/name": invalid input parameter"#]);
    machine.power_off().await;
}

/// The spinbox image has `/init`, the OCI runtime, and a few empty folders; its host passes such a command line.
#[tokio::test]
async fn an_image_with_next_to_nothing_in_it_is_made_into_a_system() {
    let Some(build) = build_folder() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let initrd = dir.path().join("initrd.img");
    bare_image::write(&build.join("initrd.img"), &initrd);
    let booted = Machine::boot(|config| {
        config.initrd = initrd;
        config.append_extra = "initcall_debug log_buf_len=4M spin.profile ip=::::box:eth0:none".into();
    });
    let machine = booted.await.expect("there is an image");

    let mut config = spec::container(&["/bin/sh", "-c", "cat /etc/hosts; wc -c </etc/resolv.conf"]);
    for file in ["/etc/resolv.conf", "/etc/hosts"] {
        spec::bind(&mut config, file, file);
    }
    let (status, output) = machine.run("reads", &config).await;
    let hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tbox\n0\n";
    assert_eq!((status, output.as_str()), (0, hosts));

    let observer = Observer::start(&machine).await;
    let root = "/proc/1/root";
    let modes = format!("stat -c %a {root}/run/lock {root}/dev/fuse {root}/etc/resolv.conf");
    assert_eq!(observer.run(&modes).await, "1777\n666\n644");
    assert_eq!(observer.run(&format!("nsenter -t 1 -u hostname; cat {root}/etc/hostname")).await, "box\nbox");
    let mounts = observer.run("cat /proc/1/mounts").await;
    let options = |target: &str| {
        let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        fields.rfind(|fields| fields[1] == target).map(|fields| fields[3].to_owned())
    };
    for target in ["/proc", "/sys", "/run", "/tmp", "/dev/shm", "/dev/mqueue"] {
        let options = options(target).unwrap_or_else(|| panic!("{target} is not in {mounts}"));
        assert!(options.contains("nosuid,nodev,noexec"), "{target} has {options}");
    }
    assert!(options("/var/lib/spin-stack").is_some_and(|options| !options.contains("noexec")), "{mounts}");
    observer.stop().await;

    the_boot_is_told(&machine).await;
    machine.power_off().await;
}

/// System.Info and the console tell of the same phases, and of no failure.
async fn the_boot_is_told(machine: &Machine) {
    let phases = [
        "mount-filesystems",
        "dev-nodes",
        "service-new",
        "wait-block-devices",
        "extras-extract",
        "cgroup-control",
        "network",
    ];
    let info = machine.info().await;
    let console = machine.console();
    assert_eq!(info.boot_failures, Vec::<String>::new(), "the console:\n{console}");

    let told: Vec<&str> = info.boot_times.iter().map(|time| time.name.as_str()).collect();
    let expected: Vec<&str> = ["kernel"].into_iter().chain(phases).chain(["total"]).collect();
    assert_eq!(told, expected);
    let micros: Vec<u64> = info.boot_times.iter().map(|time| time.micros).collect();
    let (total, parts) = micros.split_last().expect("there are times");
    // Each is cut to whole microseconds.
    assert!(parts[1..].iter().sum::<u64>().abs_diff(*total) < 10, "{micros:?}");
    println!("boot of PID 1: {:?}", told.iter().zip(&micros).collect::<Vec<_>>());

    let field = |line: &str, key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.parse().ok());
    let profile =
        console.lines().filter_map(|line| line.split_once("VMINITD_PROFILE ")).map(|(_, line)| line.trim());
    let profile: Vec<(String, u64)> = profile
        .map(|line| {
            let delta = field(line, "delta_us=").expect("a line has its share");
            field(line, "total_us=").map(|_: u64| ()).expect("a line has the total");
            (line.split(' ').next().unwrap_or_default().to_owned(), delta)
        })
        .collect();
    let shares = told.iter().zip(&micros).skip(1).take(told.len() - 2);
    assert_eq!(profile, shares.map(|(name, us)| ((*name).to_owned(), *us)).collect::<Vec<_>>());

    let initcalls = console.lines().filter(|line| line.contains("KMSG_PROFILE ")).count();
    assert_eq!(initcalls, 26, "a summary and the dearest calls are on the console:\n{console}");
}

#[tokio::test]
async fn a_machine_without_any_console_boots_and_runs_a_container() {
    let Some(machine) = Machine::boot(|config| config.console = false).await else { return };
    let (status, stdout) = machine.run("mute", &spec::container(&["/bin/echo", "hello"])).await;
    assert_eq!((status, stdout.as_str()), (0, "hello\n"));
    machine.power_off().await;
}

/// On the initramfs itself pivot_root(2) is EINVAL, so runc would need `--no-pivot`. A mount whose parent is itself is
/// the first of its namespace, the initramfs; PID 1's root is to be another one, moved over it.
#[tokio::test]
async fn runc_pivots_because_the_root_was_moved() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let observer = Observer::start(&machine).await;
    let table = observer.run("cat /proc/1/mountinfo").await;
    let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("PID 1 has a root");
    let mut fields = root.split(' ');
    assert_ne!(fields.next(), fields.next(), "PID 1's root is the initramfs itself: {root}");
    let log = machine.console();
    assert!(!log.contains("no-pivot"), "the console:\n{log}");
    observer.stop().await;
    machine.power_off().await;
}

/// The budgets are in docs/TESTING.md; this prints the figures they are held against.
#[tokio::test]
async fn the_size_and_the_memory_of_pid_1_are_printed() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let observer = Observer::start(&machine).await;
    let status = observer.run("grep ^VmRSS /proc/1/status").await;
    let resident_kb = status.split_whitespace().nth(1).expect("VmRSS has a figure");
    println!("PID 1 in the guest: {resident_kb} kB resident");
    if let Some(binary) = build_folder().and_then(|build| fs::metadata(build.join("vminitd")).ok()) {
        println!("static binary: {} bytes", binary.len());
    }
    observer.stop().await;
    machine.power_off().await;
}
