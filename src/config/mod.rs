//! What the daemon is told to do: settings from every source, checked and completed once, then never changed.
//!
//! A flag prevails over the kernel command line, that over the file, that over the environment, that over the host's
//! profile. A value that cannot be read is a [`Problem`] and leaves the key to the next source, so nothing that a source
//! holds can stop PID 1. All sources speak through [`Settings::set`]. Besides reading them, nothing here touches the
//! system, but for the look at which runtime exists.

mod cmdline;
mod file;
mod flags;
mod key;
mod print;
mod settings;
#[cfg(test)]
mod tests;
mod typed;
mod value;
mod wiring;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use key::Key;
pub use settings::Source;
use settings::{Assignment, Settings};
pub use typed::{Bounds, ExtrasDisk, Machine, Supervisor};
use value::Given;

use crate::logging::{Format, FORMATS};
use crate::profile::{
    Profile, BUILD_VERSION, DELETE_EVENTS, HOSTS, MODES, RUNTIMES, SPECS, STREAM_CLOSES, STREAM_IDS,
};
use crate::shutdown;
use crate::wire::Address;

/// Problems that are told one by one; a file of nonsense must not drown the log of the boot.
const PROBLEMS_MAX: usize = 32;

/// Everything the guest reads about how it is to behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Log at level debug, else info.
    pub debug: bool,
    /// The form of log lines.
    pub log: Format,
    /// The host's profile, with the rows that were set replaced.
    pub profile: Profile,
    /// Where the ttrpc services listen.
    pub rpc: Address,
    /// Where the raw stdio streams listen.
    pub stream: Address,
    /// Times, sizes and counts that nothing may exceed.
    pub bounds: Bounds,
    /// What boot prepares besides what every VM gets.
    pub machine: Machine,
    pub supervisor: Supervisor,
    pub power: shutdown::Settings,
    runtime: Option<PathBuf>,
    state_dir: Option<PathBuf>,
}

/// A setting that was ignored; the next source is used in its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("unknown key {name:?} ({from})")]
    Unknown { from: Source, name: String },
    #[error("{name} is not taken from here ({from})")]
    Misplaced { from: Source, name: &'static str },
    #[error("malformed flag {0:?}")]
    Malformed(String),
    #[error("{name} needs a value ({from})")]
    NoValue { from: Source, name: &'static str },
    #[error("invalid value {value:?} for {name} ({from}): expected {expected}")]
    BadValue { from: Source, name: &'static str, value: String, expected: String },
    #[error("cannot read {path:?} ({from}): {error}")]
    Unreadable { from: Source, path: PathBuf, error: String },
    #[error("the file is not JSON: {0}")]
    NotJson(String),
    #[error("the file is not a JSON object")]
    NotAnObject,
    #[error("the RPC and the stream endpoint are the same")]
    SameEndpoint,
    #[error("-{0} does nothing in PID 1")]
    OrderToPid1(&'static str),
    #[error("-listen, -stream-listen (both unix://) and -state-dir are needed when not PID 1")]
    NotPid1,
    #[error("{0} more problems")]
    More(usize),
}

/// What the arguments ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one value of it, for a moment at start")]
pub enum Start {
    /// Print this text to stdout and exit 0.
    Print(String),
    /// Print this text to stderr and exit 2.
    Usage(String),
    /// Serve, after logging what was wrong with the settings. In PID 1 it is always this one.
    Run(Config, Vec<Problem>),
}

/// The sources besides the arguments.
struct Surroundings<'a> {
    cmdline: &'a Path,
    /// Read if it is there.
    file: &'a Path,
    /// `SPINBOX_OCI_RUNTIME`, by which spinbox's own guest is told its runtime.
    runtime: Option<OsString>,
}

impl Config {
    /// Reads the arguments (those after argv[0]) and the sources that they name; PID 1, and `-print-config`, reads
    /// those of the VM too. Blocks on the disk.
    ///
    /// PID 1 has nobody to complain to and must not end, so whatever is wrong there becomes a [`Problem`]. So does
    /// what is wrong outside the arguments in an ordinary process.
    pub fn read(args: impl IntoIterator<Item = OsString>, pid1: bool) -> Start {
        let surroundings = Surroundings {
            cmdline: Path::new("/proc/cmdline"),
            file: Path::new("/etc/vminitd.json"),
            runtime: std::env::var_os("SPINBOX_OCI_RUNTIME"),
        };
        start(args, &surroundings, pid1)
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

    /// The OCI runtime: the one that was set, else the first of those known that exists, else the first of them, whose
    /// absence then shows in the error of every call. Reads the file system.
    pub fn runtime(&self) -> PathBuf {
        let [first, ..] = RUNTIMES;
        let found =
            || PathBuf::from(RUNTIMES.into_iter().find(|path| Path::new(path).exists()).unwrap_or(first));
        self.runtime.clone().unwrap_or_else(found)
    }

    fn of(settings: &Settings) -> Config {
        let profile = Profile {
            name: settings.choice(Key::Host, &HOSTS).0,
            mode: settings.choice(Key::Mode, &MODES).1,
            stream_ids: settings.choice(Key::StreamIds, &STREAM_IDS).1,
            stream_close: settings.choice(Key::StreamClose, &STREAM_CLOSES).1,
            delete_event: settings.choice(Key::DeleteEvent, &DELETE_EVENTS).1,
            spec: settings.choice(Key::Spec, &SPECS).1,
            poweroff_after_prepare: settings.bool(Key::PoweroffAfterPrepare),
            version: settings.text(Key::ReportVersion).unwrap_or(BUILD_VERSION).to_owned(),
        };
        Config {
            debug: settings.bool(Key::Debug),
            log: settings.choice(Key::Log, &FORMATS).1,
            rpc: address(settings, Key::Listen, Key::VsockRpcPort),
            stream: address(settings, Key::StreamListen, Key::VsockStreamPort),
            bounds: Bounds::of(settings),
            machine: Machine::of(settings),
            supervisor: Supervisor::of(settings),
            power: typed::power(settings),
            runtime: settings.text(Key::Runtime).map(PathBuf::from),
            state_dir: settings.text(Key::StateDir).map(PathBuf::from),
            profile,
        }
    }

    fn is_for_an_ordinary_process(&self) -> bool {
        let endpoints = (&self.rpc, &self.stream);
        matches!(endpoints, (Address::Unix(_), Address::Unix(_))) && self.state_dir.is_some()
    }
}

fn address(settings: &Settings, listen: Key, port: Key) -> Address {
    match settings.text(listen).and_then(|text| text.strip_prefix("unix://")) {
        Some(path) => Address::Unix(path.into()),
        // The table allows no larger one.
        None => Address::Vsock(u32::try_from(settings.number(port)).unwrap_or(u32::MAX)),
    }
}

fn start(args: impl IntoIterator<Item = OsString>, around: &Surroundings<'_>, pid1: bool) -> Start {
    let mut reading = Reading::default();
    reading.take(Source::Flag, flags::parse(args));
    let wrong_flag = reading.problems.first().cloned();
    let orders = |key| reading.settings.bool(key);
    let (version, print) = (orders(Key::Version) || orders(Key::V), orders(Key::PrintConfig));
    if version && !pid1 {
        return Start::Print(format!("vminitd {BUILD_VERSION}\n"));
    }
    reading.read_around(around, pid1 || print);
    if pid1 {
        return reading.of_pid1(version, print);
    }
    if print {
        reading.part_endpoints();
        return Start::Print(print::report(&reading.settings, &reading.told()));
    }
    reading.of_ordinary_process(wrong_flag)
}

/// The settings while sources are read.
#[derive(Default)]
struct Reading {
    settings: Settings,
    problems: Vec<Problem>,
    /// Problems beyond those that are kept.
    more: usize,
}

impl Reading {
    fn take(&mut self, from: Source, assignments: Vec<Assignment>) {
        for assignment in assignments {
            if let Err(problem) = assignment.and_then(|(key, given)| self.settings.set(from, key, &given)) {
                self.problem(problem);
            }
        }
    }

    fn problem(&mut self, problem: Problem) {
        match self.problems.len() < PROBLEMS_MAX {
            true => self.problems.push(problem),
            false => self.more += 1,
        }
    }

    fn told(&self) -> Vec<Problem> {
        let more = (self.more > 0).then_some(Problem::More(self.more));
        self.problems.iter().cloned().chain(more).collect()
    }

    /// Reads what stands behind the flags: those places that a flag names, and if `all` those of the VM.
    fn read_around(&mut self, around: &Surroundings<'_>, all: bool) {
        if let Some(path) = self.path(Key::Cmdline).or_else(|| all.then(|| around.cmdline.to_owned())) {
            self.take_file(Source::CommandLine, &path, cmdline::parse);
        }
        let of_vm = || (all && around.file.exists()).then(|| around.file.to_owned());
        if let Some(path) = self.path(Key::Config).or_else(of_vm) {
            self.take_file(Source::File, &path, file::parse);
        }
        if let Some(path) = &around.runtime {
            let given = Given::Text(path.to_string_lossy().into_owned());
            self.take(Source::Environment, vec![Ok((Key::Runtime, given))]);
        }
        let (host, differences) = self.settings.choice(Key::Host, &HOSTS);
        let named =
            |(name, value): &(&str, &str)| Some(Ok((Key::named(name)?, Given::Text((*value).to_owned()))));
        self.take(Source::Profile(host), differences.iter().filter_map(named).collect());
    }

    fn path(&self, key: Key) -> Option<PathBuf> {
        self.settings.text(key).map(PathBuf::from)
    }

    fn take_file(&mut self, from: Source, path: &Path, parse: fn(&str) -> Vec<Assignment>) {
        match file::read(path) {
            Ok(text) => self.take(from, parse(&text)),
            Err(error) => {
                self.problem(Problem::Unreadable { from, path: path.to_owned(), error: error.to_string() });
            }
        }
    }

    /// Two endpoints that are the same serve nobody, so both go back to their defaults.
    fn part_endpoints(&mut self) -> Config {
        let config = Config::of(&self.settings);
        if config.rpc != config.stream {
            return config;
        }
        self.problem(Problem::SameEndpoint);
        for key in [Key::Listen, Key::StreamListen, Key::VsockRpcPort, Key::VsockStreamPort] {
            self.settings.reset(key);
        }
        Config::of(&self.settings)
    }

    fn of_pid1(mut self, version: bool, print: bool) -> Start {
        for (given, name) in [(version, "version"), (print, "print-config")] {
            if given {
                self.problem(Problem::OrderToPid1(name));
            }
        }
        let config = self.part_endpoints();
        Start::Run(config, self.told())
    }

    /// Someone is there to correct a wrong flag.
    fn of_ordinary_process(self, wrong_flag: Option<Problem>) -> Start {
        let config = Config::of(&self.settings);
        let incomplete = (!config.is_for_an_ordinary_process()).then_some(Problem::NotPid1);
        let same = (config.rpc == config.stream).then_some(Problem::SameEndpoint);
        match wrong_flag.or(incomplete).or(same) {
            Some(problem) => Start::Usage(print::usage(&problem)),
            None => Start::Run(config, self.told()),
        }
    }
}

/// The beginning of what a source holds, which may be long.
fn excerpt(text: &str) -> String {
    const SHOWN: usize = 64;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
