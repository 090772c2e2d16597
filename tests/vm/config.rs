//! The configuration of PID 1: all of its sources in one boot, and what the console shows.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use vminitd_deploy::cpio::Tree;

use crate::machine::{build_folder, Machine};
use crate::observer::Observer;

const FILE: &str =
    r#"{"nofile": 3000, "report_version": "by file", "log": "text", "runc_query_s": 0, "other": 1}"#;

/// What the kernel hands to init is behind ` -- `, and init reads the whole line. The log is JSON from its first line
/// on, so the command line was read before anything was logged.
#[tokio::test]
async fn pid_1_reads_its_flags_its_command_line_and_its_file() {
    let Some(build) = build_folder() else { return };
    let dir = TempDir::new().expect("a folder");
    let initrd = dir.path().join("initrd.img");
    let mut image = fs::read(build.join("initrd.img")).expect("the image is there");
    // The kernel unpacks an archive over what it has unpacked before.
    let mut tree = Tree::default();
    tree.file("etc/vminitd.json", 0o644, FILE.into());
    tree.write_to(&mut image).expect("memory takes it");
    fs::write(&initrd, image).expect("it is written");
    let booted = Machine::boot(|config| {
        config.initrd = initrd;
        config.append_extra =
            "vminitd.nofile=4000 vminitd.report-version=by-line vminitd.log=json spin.profile".into();
        config.init_args.extend(["-nofile=5000", "-report-version=\"by flag\""].map(str::to_owned));
    });
    let Some(mut machine) = booted.await else { return };

    let version = machine.info().await.version;
    assert_eq!(version, "by-line", "a flag that cannot be read leaves it to the line");
    let observer = Observer::start(&machine).await;
    let limits = observer.run("grep 'open files' /proc/1/limits").await;
    assert!(limits.contains("5000"), "{limits}");
    let mounts = observer.run("grep -c ' /proc ' /proc/1/mountinfo").await;
    assert_eq!(mounts.trim(), "1", "/proc is mounted once");
    let threads = observer.run("cat /proc/1/task/*/comm").await;
    assert!(threads.lines().any(|name| name == "logger"), "{threads}");
    observer.stop().await;

    machine.guest.shutdown().await.expect("shutdown");
    machine.is_off().await;
    console_is_right(&machine.console());
}

fn console_is_right(console: &str) {
    let ours = || {
        console.lines().map(|line| line.trim_end_matches('\r')).skip_while(|line| !line.contains("VMINITD_"))
    };
    let lines = ours().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("a JSON object")).collect();
    let problems = lines.iter().filter(|line| line["msg"] == "setting ignored");
    let problems: Vec<&str> = problems.filter_map(|line| line["problem"].as_str()).collect();
    let expected = [
        "for report_version (flag)",
        "for report_version (file)",
        "for runc_query_s (file)",
        "unknown key \"other\" (file)",
    ];
    for words in expected {
        assert!(problems.iter().any(|problem| problem.contains(words)), "{words} is not in {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    assert!(ours().any(|line| line.starts_with("VMINITD_PROFILE service-new delta_us=")), "{console}");
    let last = lines.last().expect("there are lines");
    assert_eq!((&last["msg"], &last["cause"]), (&"power off".into(), &"Task.Shutdown".into()), "{console}");
    assert!(!ours().any(|line| line.starts_with("info ") || line.starts_with("warn ")), "{console}");
}
