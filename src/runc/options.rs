//! What a request may choose of how the runtime is called. Plain data; the rooms that decode it are above.

use std::ffi::OsString;
use std::path::PathBuf;

/// What a Create may choose of how the runtime is called, for all calls on its container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Where the runtime keeps its own state (`--root`).
    pub root: Option<PathBuf>,
    /// The root file system is not to be pivoted away from (`create --no-pivot`).
    pub no_pivot: bool,
    /// The container shares the session keyring (`create --no-new-keyring`).
    pub no_new_keyring: bool,
    /// Cgroups are made by systemd (`--systemd-cgroup`).
    pub systemd_cgroup: bool,
    /// Where criu keeps its logs, if a checkpoint names no folder itself.
    pub criu_work_path: Option<PathBuf>,
}

/// What a Checkpoint may choose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// The container ends once it is saved.
    pub exit: bool,
    pub open_tcp: bool,
    pub external_unix_sockets: bool,
    pub terminal: bool,
    pub file_locks: bool,
    /// Namespaces that are restored empty; runc knows `network` only, and refuses others itself.
    pub empty_namespaces: Vec<String>,
    /// What of the cgroups is saved; `None` leaves it to criu.
    pub cgroups_mode: Option<CgroupsMode>,
    /// Where the image goes.
    pub image_path: Option<PathBuf>,
    /// Where criu keeps its logs meanwhile.
    pub work_path: Option<PathBuf>,
}

/// What criu saves of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupsMode {
    Soft,
    Full,
    Strict,
    Ignore,
}

impl CgroupsMode {
    const ALL: [CgroupsMode; 4] =
        [CgroupsMode::Soft, CgroupsMode::Full, CgroupsMode::Strict, CgroupsMode::Ignore];

    /// The mode that runc calls so.
    pub fn named(name: &str) -> Option<CgroupsMode> {
        CgroupsMode::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// runc's name for it.
    pub fn name(self) -> &'static str {
        match self {
            CgroupsMode::Soft => "soft",
            CgroupsMode::Full => "full",
            CgroupsMode::Strict => "strict",
            CgroupsMode::Ignore => "ignore",
        }
    }
}

impl CheckpointOptions {
    /// The arguments of `runc checkpoint` that say this, as go-runc gives them; but for the paths, which the caller has
    /// to settle first: the request names an image path too.
    pub fn args(&self) -> Vec<OsString> {
        let flags = [
            (self.open_tcp, "--tcp-established"),
            (self.external_unix_sockets, "--ext-unix-sk"),
            (self.terminal, "--shell-job"),
            (self.file_locks, "--file-locks"),
            (!self.exit, "--leave-running"),
        ];
        let flags = flags.into_iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| flag.into());
        let mode = self.cgroups_mode.map(|mode| ["--manage-cgroups-mode".into(), mode.name().into()]);
        let namespaces = self.empty_namespaces.iter().map(|name| ["--empty-ns".into(), name.into()]);
        flags.chain(mode.into_iter().chain(namespaces).flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: CheckpointOptions, expected: &[&str]) {
        assert_eq!(options.args(), expected);
    }

    #[test]
    fn a_checkpoint_leaves_the_container_running_unless_told_to_end_it() {
        check(CheckpointOptions::default(), &["--leave-running"]);
        check(CheckpointOptions { exit: true, ..Default::default() }, &[]);
    }

    #[test]
    fn every_choice_of_a_checkpoint_is_an_argument() {
        let options = CheckpointOptions {
            exit: true,
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".into(), "ipc".into()],
            cgroups_mode: Some(CgroupsMode::Strict),
            image_path: Some("/image".into()),
            work_path: Some("/criu".into()),
        };
        let expected =
            "--tcp-established --ext-unix-sk --shell-job --file-locks --manage-cgroups-mode strict \
                        --empty-ns network --empty-ns ipc";
        check(options, &expected.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn every_mode_is_found_by_its_name() {
        for mode in CgroupsMode::ALL {
            assert_eq!(CgroupsMode::named(mode.name()), Some(mode));
        }
        assert_eq!(CgroupsMode::named(""), None);
        assert_eq!(CgroupsMode::named("SOFT"), None);
    }
}
