//! What the daemon is told to do: settings from every source, checked and completed once, then never changed.
//!
//! A profile gives the defaults and the flags replace them. Values reach the settings only through
//! [`Settings::set`], so a source that comes later (kernel command line, file) is one more caller, before the
//! flags: the last to speak wins. Nothing here touches the system, but for the look at which runtime exists.

mod bounds;
mod flags;
mod key;
#[cfg(test)]
mod tests;
mod wiring;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use bounds::Bounds;
use key::{Key, Settings};

use crate::profile::{Profile, PROFILES};
use crate::wire::Address;

/// Everything the guest reads about how it is to behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Log at level debug, else info.
    pub debug: bool,
    /// The host's profile, with the rows that were set replaced.
    pub profile: Profile,
    /// Where the ttrpc services listen.
    pub rpc: Address,
    /// Where the raw stdio streams listen.
    pub stream: Address,
    /// Times, sizes and counts that nothing may exceed.
    pub bounds: Bounds,
    runtime: Option<PathBuf>,
    state_dir: Option<PathBuf>,
}

/// A setting that was ignored; the default is used in its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("unknown flag -{0}")]
    Unknown(String),
    #[error("malformed flag {0:?}")]
    Malformed(String),
    #[error("flag -{0} needs a value")]
    NoValue(&'static str),
    #[error("invalid value {value:?} for {name}: expected {expected}")]
    BadValue { name: &'static str, value: String, expected: &'static str },
    #[error("the RPC and the stream endpoint are the same")]
    SameEndpoint,
    #[error("-version does nothing in PID 1")]
    VersionAsPid1,
    #[error("-listen, -stream-listen (both unix://) and -state-dir are needed when not PID 1")]
    NotPid1,
}

/// What the arguments ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one value of it, for a moment at start")]
pub enum Start {
    /// Print the version and exit 0.
    Version,
    /// Print this text to stderr and exit 2.
    Usage(String),
    /// Serve, after logging what was wrong with the settings. In PID 1 it is always this one.
    Run(Config, Vec<Problem>),
}

impl Config {
    /// Reads the arguments (those after argv[0]).
    ///
    /// PID 1 has nobody to complain to and must not end, so whatever is wrong there becomes a [`Problem`].
    pub fn from_args(args: impl IntoIterator<Item = OsString>, pid1: bool) -> Start {
        let mut settings = Settings::default();
        let mut problems = Vec::new();
        for assignment in flags::parse(args) {
            let set = assignment.and_then(|(key, value)| settings.set(key, &value));
            problems.extend(set.err());
        }
        if pid1 {
            let config = Config::of_pid1(settings, &mut problems);
            return Start::Run(config, problems);
        }
        if settings.version {
            return Start::Version;
        }
        let config = Config::of_ordinary_process(settings);
        match (config, problems.into_iter().next()) {
            (Ok(config), None) => Start::Run(config, Vec::new()),
            (Err(problem), None) | (_, Some(problem)) => Start::Usage(usage(&problem)),
        }
    }

    /// Where bundles are made.
    pub fn bundles_dir(&self) -> PathBuf {
        self.state_dir.as_deref().unwrap_or(Path::new("/run")).join("bundles")
    }

    /// Where the OCI runtime keeps its state (`runc --root`).
    pub fn runc_root(&self) -> PathBuf {
        self.state_dir.as_deref().unwrap_or(Path::new("/run")).join("runc")
    }

    /// Where the files of single invocations of the OCI runtime are kept: its log, pid file and process spec.
    pub fn scratch_dir(&self) -> PathBuf {
        self.state_dir.as_deref().unwrap_or(Path::new("/run/vminitd")).join("invocations")
    }

    /// The OCI runtime: the one that was set, else the first of the profile's that exists, else its first, whose
    /// absence then shows in the error of every call. Reads the file system.
    pub fn runtime(&self) -> PathBuf {
        let candidates = || self.profile.runtimes.iter().map(PathBuf::from);
        let found = || candidates().find(|path| path.exists()).or_else(|| candidates().next());
        self.runtime.clone().or_else(found).unwrap_or_default()
    }

    fn of_pid1(settings: Settings, problems: &mut Vec<Problem>) -> Config {
        if settings.version {
            problems.push(Problem::VersionAsPid1);
        }
        let mut config = Config::from_settings(settings);
        if config.rpc == config.stream {
            problems.push(Problem::SameEndpoint);
            let [generic, ..] = PROFILES;
            config.rpc = Address::Vsock(generic.rpc_port);
            config.stream = Address::Vsock(generic.stream_port);
        }
        config
    }

    fn of_ordinary_process(settings: Settings) -> Result<Config, Problem> {
        let config = Config::from_settings(settings);
        match (&config.rpc, &config.stream, &config.state_dir) {
            (Address::Unix(rpc), Address::Unix(stream), Some(_)) if rpc == stream => {
                Err(Problem::SameEndpoint)
            }
            (Address::Unix(_), Address::Unix(_), Some(_)) => Ok(config),
            _ => Err(Problem::NotPid1),
        }
    }

    fn from_settings(settings: Settings) -> Config {
        let [generic, ..] = PROFILES;
        let mut profile = settings.host.unwrap_or(generic);
        profile.rpc_port = settings.rpc_port.unwrap_or(profile.rpc_port);
        profile.stream_port = settings.stream_port.unwrap_or(profile.stream_port);
        profile.stream_ids = settings.stream_ids.unwrap_or(profile.stream_ids);
        profile.stream_close = settings.stream_close.unwrap_or(profile.stream_close);
        profile.spec = settings.spec.unwrap_or(profile.spec);
        Config {
            debug: settings.debug,
            rpc: settings.listen.unwrap_or(Address::Vsock(profile.rpc_port)),
            stream: settings.stream_listen.unwrap_or(Address::Vsock(profile.stream_port)),
            bounds: Bounds::default(),
            runtime: settings.runtime,
            state_dir: settings.state_dir,
            profile,
        }
    }
}

/// What `vminitd` says to someone who called it wrongly.
fn usage(problem: &Problem) -> String {
    let flags: String = Key::all().map(|key| format!("  -{}\n\t{}\n", key.name(), key.help())).collect();
    format!("vminitd: {problem}\n\nusage: vminitd [flags]\n{flags}")
}
