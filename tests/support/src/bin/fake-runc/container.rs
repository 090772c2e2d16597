//! What the fake knows of a container: its folder, its processes, whether they live.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::{json, Value};

/// How often a condition is looked at again; nothing can be awaited across these processes.
const POLL: Duration = Duration::from_millis(2);

/// The file that says that a container was started.
const STARTED: &str = "started";
/// The file that says that a container is paused.
const PAUSED: &str = "paused";

/// How long a process may take to do what it always does.
pub const PROMPT: Duration = Duration::from_secs(10);

/// Looks at `condition` until it holds or `limit` has passed.
pub fn wait_for(what: &str, limit: Duration, condition: impl Fn() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() > deadline {
            return Err(format!("gave up waiting for {what}"));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// A process that is not mistaken for a later one of the same pid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Clock ticks from boot to its start (proc(5), field 22).
    born: u64,
}

impl Process {
    /// The process that has this pid now, a zombie included.
    pub fn find(pid: i32) -> Option<Self> {
        Some(Self { pid, born: stat_field(pid, 22)?.parse().ok()? })
    }

    /// A process that was gone before anybody could look at it.
    pub fn lost(pid: i32) -> Self {
        Self { pid, born: 0 }
    }

    /// Whether it runs still: neither gone nor a zombie.
    pub fn alive(self) -> bool {
        Self::find(self.pid) == Some(self) && stat_field(self.pid, 3).is_some_and(|state| state != "Z")
    }

    /// Whether nothing is left of it, not even a zombie.
    pub fn gone(self) -> bool {
        Self::find(self.pid) != Some(self)
    }

    /// Signals it; `false` when it is dead.
    pub fn signal(self, signal: Signal) -> bool {
        self.alive() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }

    fn to_json(self) -> Value {
        json!({"pid": self.pid, "born": self.born})
    }

    fn from_json(value: &Value) -> Option<Self> {
        Some(Self { pid: value["pid"].as_i64()? as i32, born: value["born"].as_u64()? })
    }
}

/// Field `number` of /proc/PID/stat, counted from 1 as proc(5) does; those after the command's name only.
fn stat_field(pid: i32, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(number - 3).map(str::to_owned)
}

/// A signal by number or by name, with or without `SIG`.
pub fn signal_of(word: &str) -> Result<Signal, String> {
    let wrong = || format!("unknown signal {word:?}");
    if let Ok(number) = word.parse::<i32>() {
        return Signal::try_from(number).map_err(|_| wrong());
    }
    let name = if word.starts_with("SIG") { word.to_owned() } else { format!("SIG{word}") };
    name.parse().map_err(|_| wrong())
}

/// A container's folder below `--root`.
pub struct Container {
    dir: PathBuf,
}

impl Container {
    /// The folder of a container that must exist; the error is runc's own text.
    pub fn open(dir: PathBuf) -> Result<Self, String> {
        if dir.join("init.json").exists() {
            Ok(Self { dir })
        } else {
            Err("container does not exist".to_owned())
        }
    }

    /// Makes the folder; the error is runc's own text.
    pub fn make(dir: PathBuf) -> Result<Self, String> {
        fs::create_dir(&dir).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => "container with given ID already exists".to_owned(),
            _ => format!("make {}: {e}", dir.display()),
        })?;
        Ok(Self { dir })
    }

    /// Removes the folder.
    pub fn remove(&self) -> Result<(), String> {
        fs::remove_dir_all(&self.dir).map_err(|e| format!("remove {}: {e}", self.dir.display()))
    }

    /// Notes the init process and the bundle.
    pub fn save_init(&self, init: Process, bundle: &str) -> Result<(), String> {
        self.write("init.json", &json!({"process": init.to_json(), "bundle": bundle}))
    }

    /// The init process.
    pub fn init(&self) -> Result<Process, String> {
        Process::from_json(&self.read("init.json")?["process"]).ok_or("init.json is damaged".to_owned())
    }

    /// The bundle it was created from.
    pub fn bundle(&self) -> Result<String, String> {
        Ok(self.read("init.json")?["bundle"].as_str().unwrap_or_default().to_owned())
    }

    /// Notes a process that `exec` put beside init.
    pub fn save_exec(&self, process: Process) -> Result<(), String> {
        self.write(&format!("exec-{}.json", process.pid), &process.to_json())
    }

    /// Every process that lives, init first.
    pub fn living(&self) -> Result<Vec<Process>, String> {
        let mut all = vec![self.init()?];
        let entries = fs::read_dir(&self.dir).map_err(|e| format!("list {}: {e}", self.dir.display()))?;
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            if name.starts_with("exec-") {
                all.extend(Process::from_json(&self.read(&name)?));
            }
        }
        Ok(all.into_iter().filter(|process| process.alive()).collect())
    }

    /// The socket on which init waits for `start`.
    pub fn gate(&self) -> PathBuf {
        self.dir.join("start.sock")
    }

    /// Lets init go on; `false` when there is nobody behind the gate any more.
    pub fn open_gate(&self) -> Result<bool, String> {
        let (init, opened) = (self.init()?, Cell::new(false));
        // The socket's file is there a moment before anybody listens on it: bind(2), then listen(2).
        wait_for("init to listen", PROMPT, || {
            opened.set(UnixStream::connect(self.gate()).is_ok());
            opened.get() || self.was_started() || !init.alive()
        })?;
        if opened.get() {
            self.write(STARTED, &json!(true))?;
        }
        Ok(opened.get())
    }

    fn was_started(&self) -> bool {
        self.dir.join(STARTED).exists()
    }

    /// `created`, `running`, `paused` or `stopped`, as `runc state` says. As with runc, which asks the freezer first,
    /// a paused container stays paused when its init is killed.
    pub fn status(&self) -> Result<&'static str, String> {
        if self.dir.join(PAUSED).exists() {
            return Ok("paused");
        }
        Ok(match (self.init()?.alive(), self.was_started()) {
            (false, _) => "stopped",
            (true, false) => "created",
            (true, true) => "running",
        })
    }

    /// Stops every process. Like the freezer of cgroup v2, and unlike that of v1, it lets SIGKILL through.
    pub fn freeze(&self) -> Result<(), String> {
        for process in self.living()? {
            process.signal(Signal::SIGSTOP);
        }
        self.write(PAUSED, &json!(true))
    }

    /// Lets every process go on.
    pub fn thaw(&self) -> Result<(), String> {
        fs::remove_file(self.dir.join(PAUSED)).map_err(|e| format!("thaw: {e}"))?;
        for process in self.living()? {
            process.signal(Signal::SIGCONT);
        }
        Ok(())
    }

    /// Keeps the resources of the last update, for a test to read.
    pub fn save_resources(&self, resources: &Value) -> Result<(), String> {
        self.write("resources.json", resources)
    }

    fn write(&self, name: &str, value: &Value) -> Result<(), String> {
        fs::write(self.dir.join(name), value.to_string()).map_err(|e| format!("write {name}: {e}"))
    }

    fn read(&self, name: &str) -> Result<Value, String> {
        read_json(&self.dir.join(name))
    }
}

/// Reads a JSON file; the error names it.
pub fn read_json(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("parse {}: {e}", path.display()))
}
