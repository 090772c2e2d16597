//! Where the programs under test are. Owns finding and, where nobody else does, building them.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The daemon: `VMINITD_BIN`, else the one cargo built beside the running test.
pub fn vminitd() -> PathBuf {
    env::var_os("VMINITD_BIN").map_or_else(|| profile_dir().join("vminitd"), PathBuf::from)
}

/// The scripted runc. Cargo does not build it for the tests of another package, so the first caller does.
pub fn fake_runc() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build_fake_runc).clone()
}

/// The machine's runc, if it has one and we may use it; the reason goes to the test's output if not.
pub fn real_runc() -> Option<PathBuf> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: runc needs root");
        return None;
    }
    let found = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"]
        .map(PathBuf::from)
        .into_iter()
        .find(|p| p.exists());
    if found.is_none() {
        eprintln!("skipped: there is no runc on this machine");
    }
    found
}

fn build_fake_runc() -> PathBuf {
    let dir = profile_dir();
    let target = dir.parent().expect("a profile's folder is in the target folder");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    build.args([
        "build",
        "--quiet",
        "--package",
        "vminitd-test-support",
        "--bin",
        "fake-runc",
        "--target-dir",
    ]);
    build.arg(target);
    if dir.ends_with("release") {
        build.arg("--release");
    }
    let status = build.status().expect("run cargo");
    assert!(status.success(), "cargo could not build fake-runc: {status}");
    dir.join("fake-runc")
}

/// The folder of the profile the running program was built with: a test lies in `deps` below it, a benchmark in it.
fn profile_dir() -> PathBuf {
    let program = env::current_exe().expect("a program knows its own path");
    let folder = program.parent().expect("a program lies in a folder");
    if folder.ends_with("deps") { folder.parent().expect("it lies in <target>/<profile>") } else { folder }
        .to_owned()
}
