//! runc's command line, as far as vminitd speaks it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

/// Options that take the next argument as their value when none is attached with `=`.
const VALUED: [&str; 11] = [
    "root",
    "log",
    "log-format",
    "bundle",
    "pid-file",
    "console-socket",
    "process",
    "format",
    "resources",
    "image-path",
    "work-path",
];

/// One call of runc, taken apart.
pub struct Invocation {
    /// `create`, `start`, ...
    pub verb: String,
    /// The container's id.
    pub id: String,
    options: HashMap<String, String>,
    /// What follows the id, the signal of `kill`.
    pub rest: Vec<String>,
}

impl Invocation {
    /// Takes `argv` (without the program's name) apart; an error says what is missing.
    pub fn parse(argv: &[String]) -> Result<Self, String> {
        let mut options = HashMap::new();
        let mut words = Vec::new();
        let mut argv = argv.iter();
        while let Some(arg) = argv.next() {
            let Some(option) = arg.strip_prefix("--") else {
                words.push(arg.clone());
                continue;
            };
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if VALUED.contains(&option) => {
                    (option, argv.next().ok_or(format!("--{option} needs a value"))?.clone())
                }
                None => (option, String::new()),
            };
            options.insert(name.to_owned(), value);
        }
        let mut words = words.into_iter();
        let verb = words.next().ok_or("no verb")?;
        let id = words.next().ok_or(format!("{verb} needs a container id"))?;
        Ok(Self { verb, id, options, rest: words.collect() })
    }

    /// The value of an option; `None` when it was not given.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// The value of an option that this verb cannot do without.
    pub fn required(&self, name: &str) -> Result<&str, String> {
        self.option(name).ok_or_else(|| format!("{} needs --{name}", self.verb))
    }

    /// runc's state directory.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(self.option("root").unwrap_or("/run/runc"))
    }

    /// The folder that holds what is known of this container.
    pub fn container_dir(&self) -> PathBuf {
        self.root().join(&self.id)
    }

    /// Appends one error to the log the caller named, as `--log-format json` has it.
    pub fn log_error(&self, text: &str) {
        let line = json!({"level": "error", "msg": text, "time": "2026-01-01T00:00:00Z"});
        self.append_log(&format!("{line}\n"));
    }

    /// Appends raw text to that log; there is nobody to tell of a failure.
    pub fn append_log(&self, text: &str) {
        let Some(path) = self.option("log") else { return };
        let file = OpenOptions::new().create(true).append(true).open(Path::new(path));
        let _ = file.and_then(|mut file| file.write_all(text.as_bytes()));
    }
}
