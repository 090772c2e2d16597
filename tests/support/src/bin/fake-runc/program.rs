//! The processes inside a fake container: how they are born and the tiny language they speak.
//!
//! `process.args` is a list of commands parted by `;`, each argument a word of the list: `exit N`, `signal N` (to
//! itself, a number or a name), `write stdout|stderr TEXT`, `cat` (stdin to stdout until it ends), `forever`. A first
//! word with a slash in it is a program to become.

use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use nix::fcntl::OFlag;
use nix::sys::signal::raise;
use nix::unistd::pipe2;

use crate::console;
use crate::container::{signal_of, Process};

/// First argument of the process inside: then the gate (or `-`), then its program.
const INSIDE: &str = "__inside";
/// First argument of a process between, which orphans the one inside.
const BETWEEN: &str = "__between";

/// Who is the parent of a new process while this runc lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// This runc; its caller inherits the process when runc exits.
    Runc,
    /// This runc's caller, a subreaper, from the start.
    Caller,
}

/// Starts a process inside; with a gate it waits there for `start`. With a terminal it has that for its stdio.
pub fn spawn(
    gate: Option<&Path>,
    program: &[String],
    parent: Parent,
    terminal: Option<OwnedFd>,
) -> Result<Process, String> {
    let gate = gate.map_or("-".into(), |gate| gate.to_string_lossy().into_owned());
    let mut command = again()?;
    if parent == Parent::Caller {
        command.arg(BETWEEN);
    }
    command.args([INSIDE, &gate]).args(program);
    if let Some(terminal) = terminal {
        take_terminal(&mut command, terminal).map_err(|e| format!("give it a terminal: {e}"))?;
    }
    let pid = match parent {
        Parent::Runc => command.spawn().map_err(|e| format!("start a process: {e}"))?.id() as i32,
        Parent::Caller => spawn_orphan(command)?,
    };
    Ok(Process::find(pid).unwrap_or(Process::lost(pid)))
}

fn take_terminal(command: &mut Command, terminal: OwnedFd) -> io::Result<()> {
    command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal);
    Ok(())
}

/// Runs a command that begins with [`BETWEEN`] and learns the grandchild's pid from it. The report does not travel
/// on standard output, which belongs to the process inside.
fn spawn_orphan(mut command: Command) -> Result<i32, String> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|e| format!("make a pipe: {e}"))?;
    command.stdin(Stdio::from(writer));
    let mut between = command.spawn().map_err(|e| format!("start a process: {e}"))?;
    // The command holds the pipe's other end; without this the line below would wait for it for ever.
    drop(command);
    let mut line = String::new();
    io::BufReader::new(File::from(reader)).read_line(&mut line).map_err(|e| format!("read the pid: {e}"))?;
    between.wait().map_err(|e| format!("wait for the process between: {e}"))?;
    line.trim().parse().map_err(|_| format!("no pid from the process between: {line:?}"))
}

/// Runs this process as one that is not runc itself, when its arguments say so.
pub fn hidden_verb(argv: &[String]) -> Option<ExitCode> {
    let done = match argv.split_first()? {
        (verb, rest) if verb == BETWEEN => between(rest),
        (verb, rest) if verb == INSIDE => inside(rest),
        (verb, rest) if verb == console::LATE => console::late(rest).map(|()| ExitCode::SUCCESS),
        _ => return None,
    };
    Some(done.unwrap_or_else(|text| {
        eprintln!("fake-runc: {text}");
        ExitCode::from(126)
    }))
}

/// Starts the process inside, reports its pid on what is its own standard input, and goes.
fn between(argv: &[String]) -> Result<ExitCode, String> {
    let child = again()?.args(argv).stdin(Stdio::null()).spawn().map_err(|e| e.to_string())?;
    let report = io::stdin().as_fd().try_clone_to_owned().map_err(|e| e.to_string())?;
    writeln!(File::from(report), "{}", child.id()).map_err(|e| e.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn again() -> Result<Command, String> {
    std::env::current_exe().map(Command::new).map_err(|e| format!("find this program: {e}"))
}

/// The life of a process inside.
fn inside(argv: &[String]) -> Result<ExitCode, String> {
    let (gate, program) = argv.split_first().ok_or("no gate")?;
    if gate != "-" {
        let listener = listen(gate).map_err(|e| format!("listen at {gate}: {e}"))?;
        listener.accept().map_err(|e| format!("wait for start: {e}"))?;
    }
    if program.first().is_some_and(|word| word.contains('/')) {
        return Err(Command::new(&program[0]).args(&program[1..]).exec().to_string());
    }
    for command in program.split(|word| word == ";") {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        if let Some(code) = obey(&words)? {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whoever sees the gate may connect to it: it gets its name when it listens, which is after it was bound.
fn listen(gate: &str) -> io::Result<UnixListener> {
    let unready = format!("{gate}~");
    let listener = UnixListener::bind(&unready)?;
    fs::rename(unready, gate)?;
    Ok(listener)
}

/// Obeys one command; `Some` ends the process.
fn obey(words: &[&str]) -> Result<Option<ExitCode>, String> {
    match words {
        ["exit", code] => return code.parse().map(|code: u8| Some(code.into())).map_err(|e| e.to_string()),
        ["signal", number] => {
            raise(signal_of(number)?).map_err(|e| e.to_string())?;
        }
        ["write", "stdout", text] => print_flushed(&mut io::stdout(), text)?,
        ["write", "stderr", text] => print_flushed(&mut io::stderr(), text)?,
        ["cat"] => io::copy(&mut io::stdin(), &mut io::stdout()).map(drop).map_err(|e| e.to_string())?,
        ["forever"] => loop {
            thread::park();
        },
        _ => return Err(format!("no such command: {words:?}")),
    }
    Ok(None)
}

fn print_flushed(to: &mut dyn Write, text: &str) -> Result<(), String> {
    to.write_all(text.as_bytes()).and_then(|()| to.flush()).map_err(|e| e.to_string())
}
