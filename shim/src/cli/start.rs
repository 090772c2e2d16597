//! The action `start`: a bound socket, a process of its own that serves it, the files that containerd looks for, and
//! the reply. Owns the undoing of all that if it fails half-way; never waits for the process it has started.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, process};

use libc::O_NONBLOCK;
use tokio::process::{Child, Command};
use vminitd_api::containerd::bootstrap_api::BootstrapParams;

use super::reply::Form;
use super::socket::{self, Bound};
use super::stdin::{self, Input};
use super::{Call, Serving, StartError, TTRPC_SUFFIX, UNIX};

/// Files of the bundle: the reply's address, for containerd 1.6 and 1.7 when they restart, and the serving process.
pub(super) const ADDRESS_FILE: &str = "address";
const PID_FILE: &str = "shim.pid";
/// The FIFO in the bundle that containerd reads the log from.
const LOG_FIFO: &str = "log";
/// `OOM_SCORE_ADJ_MAX` of proc(5).
const OOM_SCORE_ADJ_MAX: i32 = 1000;
/// BootstrapParams.log_level: DEBUG is -4, and what is more verbose is less.
const LOG_LEVEL_DEBUG: i32 = -4;

/// What the host's configuration says about the reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether a containerd that sends no parameters is answered in JSON with version 3 of the Task API. Only for
    /// containerd 2.0 to 2.2: 1.6 and 1.7 fail on it.
    pub json_reply: bool,
}

/// Starts the process that serves a task, unless it runs already; gives the bytes to answer on standard output.
///
/// The current folder is the bundle, as containerd has it. Needs a tokio runtime. Blocks while standard input is open.
///
/// # Errors
/// Any [`StartError`]; there is no process, no socket and no file then.
pub async fn start(call: Call, settings: Settings) -> Result<Vec<u8>, StartError> {
    let input = Input::parse(&stdin::read()?, &call)?;
    let form = Form::for_input(&input, &settings);
    let serving = serving(call, &input);
    let reply = form.reply(&serving.socket);
    match socket::bind(&serving.socket)? {
        Bound::Served => write_address(&serving)?,
        Bound::Fresh(listener) => launch(&serving, listener).inspect_err(|_| undo(&serving.socket))?,
    }
    Ok(reply)
}

/// What the serving process is told. What containerd sent is preferred to the environment, and that to the flags.
fn serving(mut call: Call, input: &Input) -> Serving {
    let params: &BootstrapParams = match input {
        Input::Bootstrap(params) => params,
        Input::Nothing | Input::Options(_) => Default::default(),
    };
    call.debug |= params.log_level.value() <= LOG_LEVEL_DEBUG;
    let ttrpc_address = ttrpc_address(params, &call, |name| env::var(name).ok());
    let dir = params.socket_dir.as_deref().filter(|dir| !dir.is_empty()).map(Path::new);
    Serving { socket: socket::path(dir, &call), ttrpc_address, call }
}

fn ttrpc_address(params: &BootstrapParams, call: &Call, env: impl Fn(&str) -> Option<String>) -> String {
    let given = |text: &String| !text.is_empty();
    let named = Some(params.containerd_ttrpc_address.clone()).filter(given);
    let beside = |grpc: String| format!("{grpc}{TTRPC_SUFFIX}");
    named
        .or_else(|| env("TTRPC_ADDRESS").filter(given))
        .or_else(|| env("GRPC_ADDRESS").filter(given).map(beside))
        .unwrap_or_else(|| beside(call.address.clone()))
}

fn launch(serving: &Serving, listener: UnixListener) -> Result<(), StartError> {
    write_address(serving)?;
    raise_oom_score()?;
    let mut child = spawn(serving, listener).map_err(StartError::Spawn)?;
    let pid = child.id().map(|pid| pid.to_string()).unwrap_or_default();
    write_file(Path::new(PID_FILE), &pid).inspect_err(|_| {
        // It can only fail because the process has ended already.
        let _ = child.start_kill();
    })
}

/// Starts ourselves anew. The listener is its standard input, in inetd's manner: so it needs no number and no `unsafe`.
///
/// Its output goes to containerd's log and never to ours, which containerd reads to the end before it goes on.
fn spawn(serving: &Serving, listener: UnixListener) -> io::Result<Child> {
    let log = open_log()?;
    let mut command = process::Command::new(env::current_exe()?);
    if let Some(name) = env::args_os().next() {
        command.arg0(name);
    }
    command.args(serving.to_args());
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
    command.stdout(log.try_clone()?).stderr(log);
    Command::from(command).spawn()
}

/// The log pipe; `/dev/null` where there is none, as when a person calls `start`.
///
/// Open both ways it never blocks, and writing while containerd is away is no error; what a full pipe cannot take is
/// lost (fifo(7), pipe(7)).
fn open_log() -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(O_NONBLOCK);
    match options.open(LOG_FIFO) {
        Err(e) if e.kind() == ErrorKind::NotFound => options.open("/dev/null"),
        other => other,
    }
}

/// Lets the kernel prefer the shim to containerd, whose score we have inherited, when memory runs out: as containerd's
/// own shims do.
fn raise_oom_score() -> Result<(), StartError> {
    let path = Path::new("/proc/self/oom_score_adj");
    let failed = |source| StartError::Write { path: path.to_owned(), source };
    let score: i32 = fs::read_to_string(path).map_err(failed)?.trim().parse().unwrap_or_default();
    fs::write(path, (score + 1).min(OOM_SCORE_ADJ_MAX).to_string()).map_err(failed)
}

fn write_address(serving: &Serving) -> Result<(), StartError> {
    write_file(Path::new(ADDRESS_FILE), &format!("{UNIX}{}", serving.socket.display()))
}

/// Writes a file of the bundle so that a reader sees all of it or none.
fn write_file(path: &Path, text: &str) -> Result<(), StartError> {
    let new = PathBuf::from(format!(".{}", path.display()));
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|source| StartError::Write { path: path.to_owned(), source })
}

/// Best effort: containerd is told of the error that led here.
fn undo(socket: &Path) {
    for path in [socket, Path::new(ADDRESS_FILE), Path::new(PID_FILE)] {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ENV: &[(&str, &str)] = &[];

    fn address(params: &str, env: &[(&str, &str)]) -> String {
        let params = BootstrapParams { containerd_ttrpc_address: params.into(), ..Default::default() };
        let (namespace, id, address) = ("n".into(), "i".into(), "/flag".into());
        let call = Call { namespace, id, address, bundle: None, debug: false };
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        ttrpc_address(&params, &call, env)
    }

    #[test]
    fn the_address_for_events_comes_from_the_best_that_is_there() {
        let both = [("TTRPC_ADDRESS", "/ttrpc"), ("GRPC_ADDRESS", "/grpc")];
        assert_eq!(address("/params", &both), "/params");
        assert_eq!(address("", &both), "/ttrpc");
        assert_eq!(address("", &both[1..]), "/grpc.ttrpc");
        assert_eq!(address("", &[("TTRPC_ADDRESS", "")]), "/flag.ttrpc");
        assert_eq!(address("", NO_ENV), "/flag.ttrpc");
    }
}
