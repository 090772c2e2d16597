//! The harness of the configuration's tests: a start with files of its own in place of those of the VM.

mod bounds;
mod flags;
mod precedence;
mod sources;

use std::fs;

use tempfile::TempDir;

use super::*;

/// What surrounds a start.
struct Rig(TempDir);

impl Rig {
    /// An empty kernel command line, and no file.
    fn new() -> Rig {
        let dir = TempDir::new().expect("a folder");
        fs::write(dir.path().join("cmdline"), "\n").expect("it is written");
        Rig(dir)
    }

    fn cmdline(self, line: &str) -> Rig {
        fs::write(self.0.path().join("cmdline"), line).expect("it is written");
        self
    }

    fn file(self, json: impl AsRef<[u8]>) -> Rig {
        fs::write(self.path(), json).expect("it is written");
        self
    }

    /// Where the file is, or would be.
    fn path(&self) -> PathBuf {
        self.0.path().join("vminitd.json")
    }

    fn start(&self, args: impl IntoIterator<Item = OsString>, runtime: Option<&str>, pid1: bool) -> Start {
        let (cmdline, file) = (self.0.path().join("cmdline"), self.path());
        let around = Surroundings { cmdline: &cmdline, file: &file, runtime: runtime.map(OsString::from) };
        start(args, &around, pid1)
    }

    /// The settings of PID 1, and what was wrong with them.
    fn pid1(&self, flags: &str) -> (Config, Vec<String>) {
        match self.start(args(flags), None, true) {
            Start::Run(config, problems) => (config, problems.iter().map(Problem::to_string).collect()),
            other => panic!("PID 1 does not run: {other:?}"),
        }
    }

    /// What `-print-config` prints, for a key and for the problems.
    fn printed(&self, flags: &str) -> Printed {
        match self.start(args(&format!("-print-config {flags}")), None, false) {
            Start::Print(text) => Printed(text),
            other => panic!("nothing is printed: {other:?}"),
        }
    }
}

struct Printed(String);

impl Printed {
    /// `value (source)`
    fn of(&self, key: &str) -> &str {
        let prefix = format!("{key}=");
        let found = self.0.lines().find_map(|line| line.strip_prefix(&prefix));
        found.unwrap_or_else(|| panic!("no {key} in {}", self.0))
    }

    fn problems(&self) -> Vec<&str> {
        self.0.lines().filter_map(|line| line.strip_prefix("# ")).collect()
    }
}

fn args(words: &str) -> Vec<OsString> {
    words.split_whitespace().map(OsString::from).collect()
}
