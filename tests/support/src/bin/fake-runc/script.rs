//! The script: what each call is to do wrong, and the record of the calls made.
//!
//! `fake-runc.json` maps verb, then container id or `*`, to an object with any of these keys:
//!
//! | key | effect |
//! |---|---|
//! | `hold` | wait, before the job, until the file `<root>/<value>` exists (`Daemon::release` makes it) |
//! | `linger` | the same, with the job done, before exiting |
//! | `stderr_bytes` | write this many bytes to standard error |
//! | `fail` | log this text as an error and exit with status 1 |
//! | `die_signal` | die by this signal |
//! | `no_pid_file` | do everything, but leave no pid file |
//! | `dead` | `reaped`: the new process has been reaped by the caller before this runc exits; `zombie`: it is dead, not reaped |
//! | `console` | what goes wrong with the terminal, see [`crate::console`] |
//!
//!     {"create": {"*": {"fail": "no space left"}}, "exec": {"c1": {"dead": "zombie"}}}
//!
//! A key it does not know is an error: a typing mistake must not make a test pass. A hold gives up after
//! [`HOLD_LIMIT`], or when the test has taken its state away.

use std::fs;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{raise, Signal};
use serde_json::{json, Value};

use crate::args::Invocation;
use crate::console::Fault;
use crate::container::wait_for;

/// How long a held call waits before it gives up: longer than any deadline of the daemon.
pub const HOLD_LIMIT: Duration = Duration::from_secs(180);

/// When the new process is dead already as this runc exits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dead {
    /// Its parent, the caller, has collected it.
    Reaped,
    /// It is a zombie that the caller inherits.
    Zombie,
}

/// What one call is to do besides, or instead of, its job.
#[derive(Default)]
pub struct Behaviour {
    hold: Option<String>,
    linger: Option<String>,
    stderr_bytes: usize,
    fail: Option<String>,
    die_signal: Option<Signal>,
    /// Leave no pid file.
    pub no_pid_file: bool,
    /// See to it that the new process is dead before this call returns.
    pub dead: Option<Dead>,
    /// What goes wrong with the terminal.
    pub console: Option<Fault>,
}

impl Behaviour {
    /// Reads the script of this call; without one runc behaves.
    pub fn of(invocation: &Invocation) -> Result<Self, String> {
        let path = invocation.root().join("fake-runc.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(format!("read {}: {e}", path.display())),
        };
        let script: Value = serde_json::from_str(&text).map_err(|e| format!("script: {e}"))?;
        let verb = &script[&invocation.verb];
        let entry = verb.get(&invocation.id).or_else(|| verb.get("*"));
        entry.and_then(Value::as_object).map_or(Ok(Self::default()), |entry| {
            entry.iter().try_fold(Self::default(), |behaviour, (key, value)| behaviour.with(key, value))
        })
    }

    fn with(mut self, key: &str, value: &Value) -> Result<Self, String> {
        let wrong = || format!("script: bad value of {key}: {value}");
        match key {
            "hold" => self.hold = Some(value.as_str().ok_or_else(wrong)?.to_owned()),
            "linger" => self.linger = Some(value.as_str().ok_or_else(wrong)?.to_owned()),
            "stderr_bytes" => self.stderr_bytes = value.as_u64().ok_or_else(wrong)? as usize,
            "fail" => self.fail = Some(value.as_str().ok_or_else(wrong)?.to_owned()),
            "die_signal" => {
                let number = value.as_i64().ok_or_else(wrong)? as i32;
                self.die_signal = Some(Signal::try_from(number).map_err(|_| wrong())?);
            }
            "no_pid_file" => self.no_pid_file = value.as_bool().ok_or_else(wrong)?,
            "console" => self.console = Some(Fault::parse(value).ok_or_else(wrong)?),
            "dead" => {
                self.dead = Some(match value.as_str() {
                    Some("reaped") => Dead::Reaped,
                    Some("zombie") => Dead::Zombie,
                    _ => return Err(wrong()),
                })
            }
            _ => return Err(format!("script: unknown key {key}")),
        }
        Ok(self)
    }

    /// Does what goes wrong before the job is begun.
    pub fn misbehave(&self, invocation: &Invocation) -> Result<(), String> {
        wait_at(self.hold.as_deref(), invocation)?;
        write_noise(self.stderr_bytes).map_err(|e| format!("write to standard error: {e}"))?;
        if let Some(signal) = self.die_signal {
            raise(signal).map_err(|e| format!("raise {signal}: {e}"))?;
        }
        self.fail.clone().map_or(Ok(()), Err)
    }

    /// Does what goes wrong once the job is done.
    pub fn linger(&self, invocation: &Invocation) -> Result<(), String> {
        wait_at(self.linger.as_deref(), invocation)
    }
}

/// Waits until a test has made the file of this name in runc's state directory.
fn wait_at(gate: Option<&str>, invocation: &Invocation) -> Result<(), String> {
    let Some(name) = gate else { return Ok(()) };
    let (root, gate) = (invocation.root(), invocation.root().join(name));
    // A test that is over takes its state away; nobody is left to open the gate then.
    wait_for("a gate to open", HOLD_LIMIT, || gate.exists() || !root.exists())
}

/// Writes `bytes` bytes to standard error, in lines.
fn write_noise(bytes: usize) -> io::Result<()> {
    let line = [&[b'e'; 127][..], b"\n"].concat();
    let mut stderr = io::stderr().lock();
    let mut left = bytes;
    while left > 0 {
        let part = &line[..left.min(line.len())];
        stderr.write_all(part)?;
        left -= part.len();
    }
    Ok(())
}

/// Appends this call to `invocations.log`, in one write, so that calls at the same time do not mix.
pub fn record(invocation: &Invocation, argv: &[String]) -> Result<(), String> {
    let root = invocation.root();
    let line = json!({"pid": std::process::id(), "verb": invocation.verb, "id": invocation.id, "argv": argv});
    append(&root, &format!("{line}\n")).map_err(|e| format!("record the call: {e}"))
}

fn append(root: &Path, line: &str) -> io::Result<()> {
    fs::create_dir_all(root)?;
    let mut log = OpenOptions::new().create(true).append(true).open(root.join("invocations.log"))?;
    log.write_all(line.as_bytes())
}
