//! A runtime of a test's own: some lines of shell in front of another runtime, which can be taken away and put back.
//! For what the scripted runc's script has no key for, and for the real runc, which has no script.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{poll_until, LIMIT};

/// What comes before the lines of the test: the words of the command line that they may want.
const PARSE: &str = r#"
for word; do
    case "$before" in
        --log) log=$word ;;
        --pid-file) pid_file=$word ;;
    esac
    case "$word" in
        create | start | exec | kill | delete | ps | pause | resume | update | state) verb=${verb:-$word} ;;
    esac
    before=$word
    id=$word
done
"#;

/// The wrapper and a folder for its flags. Both go when it is dropped, so it has to outlive its daemon.
pub struct Wrapper {
    dir: TempDir,
}

impl Wrapper {
    /// Runs `lines` before it becomes `runtime`. They see `$verb`, `$id` (the last word of the command line), `$log`,
    /// `$pid_file`, `$runtime`, and `$here`, the folder of the flags; `$@` is the command line.
    pub fn around(runtime: &Path, lines: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("wrapper").tempdir().expect("make a folder");
        let settings = format!("here={}\nruntime={}", dir.path().display(), runtime.display());
        let text = format!("#!/bin/sh\n{settings}\n{PARSE}\n{lines}\nexec \"$runtime\" \"$@\"\n");
        let wrapper = Self { dir };
        fs::write(wrapper.path(), text).expect("write a wrapper");
        fs::set_permissions(wrapper.path(), Permissions::from_mode(0o700)).expect("make it a program");
        wrapper
    }

    /// The program.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("runtime")
    }

    /// Makes the file `$here/<name>`, for which the lines may look.
    pub fn flag(&self, name: &str) {
        File::create(self.dir.path().join(name)).expect("make a flag");
    }

    /// Removes that file.
    pub fn unflag(&self, name: &str) {
        fs::remove_file(self.dir.path().join(name)).expect("remove a flag");
    }

    /// Waits until the lines have made that file themselves.
    pub async fn flagged(&self, name: &str) {
        let path = self.dir.path().join(name);
        let look = || if path.exists() { Ok(()) } else { Err("not there".to_owned()) };
        poll_until(LIMIT, name, look).await;
    }

    /// From now on there is no such program.
    pub fn take_away(&self) {
        fs::rename(self.path(), self.dir.path().join("away")).expect("take the wrapper away");
    }

    /// There it is again.
    pub fn put_back(&self) {
        fs::rename(self.dir.path().join("away"), self.path()).expect("put the wrapper back");
    }
}
