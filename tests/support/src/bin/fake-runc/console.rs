//! The terminal of a process inside: made here, sent to the caller through the console socket, and what can go wrong
//! with that. `console` in the script is one of
//!
//! | value | effect |
//! |---|---|
//! | `none` | it is never sent |
//! | `closed` | the socket is connected to and closed again |
//! | `null` | what is sent is `/dev/null` |
//! | `late` | it is sent once this runc has ended and the file `<root>/console` exists |

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{fcntl, FcntlArg, FdFlag};
use nix::pty::{openpty, Winsize};
use nix::sys::socket::{sendmsg, ControlMessage, MsgFlags};
use serde_json::Value;

use crate::args::Invocation;
use crate::container::wait_for;
use crate::script::HOLD_LIMIT;

/// First argument of the process that sends a console late; then the socket and runc's state directory. The console
/// is its standard input.
pub const LATE: &str = "__late_console";

/// What goes wrong with a console.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    Closed,
    Null,
    Late,
}

impl Fault {
    /// Reads it as it stands in a script.
    pub fn parse(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "none" => Some(Self::None),
            "closed" => Some(Self::Closed),
            "null" => Some(Self::Null),
            "late" => Some(Self::Late),
            _ => None,
        }
    }
}

/// Makes a terminal for a process whose spec asks for one, sends its master, and returns the side of the process. Like
/// runc, it refuses a terminal without a socket, and a socket without a terminal.
pub fn open(call: &Invocation, process: &Value, fault: Option<Fault>) -> Result<Option<OwnedFd>, String> {
    let terminal = process["terminal"].as_bool().unwrap_or_default();
    let socket = match (terminal, call.option("console-socket")) {
        (false, None) => return Ok(None),
        (true, None) => {
            return Err("cannot allocate tty if runc will detach without setting console socket".into())
        }
        (false, Some(_)) => {
            return Err("cannot use console socket if runc will not detach or allocate tty".into())
        }
        (true, Some(socket)) => Path::new(socket),
    };
    let pty = openpty(&size(process), None).map_err(|e| format!("open a terminal: {e}"))?;
    // The process inside must not hold its own master.
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|e| format!("hide the master: {e}"))?;
    let null = || File::open("/dev/null");
    let sent = match fault {
        None => send(socket, pty.master.as_fd().as_raw_fd()),
        Some(Fault::None) => Ok(()),
        Some(Fault::Closed) => UnixStream::connect(socket).map(drop),
        Some(Fault::Null) => null().and_then(|file| send(socket, file.as_raw_fd())),
        Some(Fault::Late) => send_late(call, socket, pty.master),
    };
    sent.map_err(|e| format!("send the console: {e}"))?;
    Ok(Some(pty.slave))
}

fn size(process: &Value) -> Winsize {
    let side = |name: &str| process["consoleSize"][name].as_u64().unwrap_or_default() as u16;
    Winsize { ws_row: side("height"), ws_col: side("width"), ws_xpixel: 0, ws_ypixel: 0 }
}

fn send(socket: &Path, fd: i32) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    let rights = [fd];
    let message = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"console")], &message, MsgFlags::empty(), None)?;
    Ok(())
}

/// Leaves that to a process which outlives this one.
fn send_late(call: &Invocation, socket: &Path, master: OwnedFd) -> io::Result<()> {
    let mut late = Command::new(std::env::current_exe()?);
    late.arg(LATE).arg(socket).arg(call.root());
    late.stdin(Stdio::from(master)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(drop)
}

/// Sends its standard input when it may. The socket goes with the daemon's invocation, so there may be none any more.
pub fn late(argv: &[String]) -> Result<(), String> {
    let [socket, root] = argv else { return Err("a socket and a folder are needed".to_owned()) };
    let (root, gate) = (Path::new(root), Path::new(root).join("console"));
    wait_for("the console to be asked for", HOLD_LIMIT, || gate.exists() || fs::metadata(root).is_err())?;
    send(Path::new(socket), io::stdin().as_raw_fd()).map_err(|e| e.to_string())
}
