//! The URIs by which containerd says where stdin, stdout and stderr go. Pure; never looks at the file system.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// Where the stdio of one process goes on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdioSpec {
    /// A FIFO that is there.
    pub stdin: Option<PathBuf>,
    pub outputs: Outputs,
}

/// Where stdout and stderr go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outputs {
    /// Each its own way; `None` is nowhere.
    Apart { stdout: Option<Place>, stderr: Option<Place> },
    /// Both to one place, in the order in which they were written.
    Together(Place),
    /// To a logging binary, which tells them apart; with a terminal there is no stderr.
    Logger { logger: LoggerUri, stderr: bool },
}

/// Something with a path that output is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A FIFO that is there.
    Fifo(PathBuf),
    /// A file that is appended to, and made if it is missing.
    File(PathBuf),
}

/// A logging binary (containerd's docs/runtime-v2.md, "Logging").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggerUri {
    pub program: PathBuf,
    /// Each key of the query with the first of its values, in the order in which they stand there. (containerd's own
    /// shim passes them in no certain order.)
    pub args: Vec<String>,
    /// It is `binary-v2`: the logger writes a byte when it is ready. A `binary` may merely close its descriptor.
    pub says_ready: bool,
}

/// Why URIs cannot be used. The caller is told INVALID_ARGUMENT, except for `Unsupported`: UNIMPLEMENTED.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    #[error("use {uri:?} as {stdio}: it names no absolute path")]
    Malformed { stdio: &'static str, uri: String },
    #[error("use {scheme} for {stdio}: it is not supported")]
    Unsupported { stdio: &'static str, scheme: String },
    #[error("use a logging binary for one of stdout and stderr: it takes both")]
    LoggerForOne,
}

enum Target {
    Null,
    Place(Place),
    Logger(LoggerUri),
}

impl StdioSpec {
    /// Reads the URIs of a request: empty, a bare path or `fifo://path`, `file://path`, `binary://path?args` or
    /// `binary-v2://path?args`. With a terminal `stderr` is not looked at, as in containerd's own shim: some clients
    /// repeat there what they said of stdout.
    ///
    /// # Errors
    /// Any [`UriError`].
    pub fn parse(terminal: bool, stdin: &str, stdout: &str, stderr: &str) -> Result<StdioSpec, UriError> {
        let stderr = if terminal { Target::Null } else { target("stderr", stderr)? };
        let outputs = match (target("stdout", stdout)?, stderr) {
            (Target::Logger(logger), Target::Null) if terminal => Outputs::Logger { logger, stderr: false },
            (Target::Logger(logger), Target::Logger(same)) if logger == same => {
                Outputs::Logger { logger, stderr: true }
            }
            (Target::Logger(_), _) | (_, Target::Logger(_)) => return Err(UriError::LoggerForOne),
            (Target::Place(stdout), Target::Place(stderr)) if stdout == stderr => Outputs::Together(stdout),
            (stdout, stderr) => Outputs::Apart { stdout: stdout.place(), stderr: stderr.place() },
        };
        Ok(StdioSpec { stdin: source(stdin)?, outputs })
    }
}

impl Target {
    fn place(self) -> Option<Place> {
        match self {
            Target::Place(place) => Some(place),
            Target::Null | Target::Logger(_) => None,
        }
    }
}

fn source(uri: &str) -> Result<Option<PathBuf>, UriError> {
    match target("stdin", uri)? {
        Target::Null => Ok(None),
        Target::Place(Place::Fifo(path)) => Ok(Some(path)),
        Target::Place(Place::File(_)) | Target::Logger(_) => {
            let scheme = uri.split("://").next().unwrap_or_default().to_owned();
            Err(UriError::Unsupported { stdio: "stdin", scheme })
        }
    }
}

fn target(stdio: &'static str, uri: &str) -> Result<Target, UriError> {
    let malformed = || UriError::Malformed { stdio, uri: uri.to_owned() };
    let Some((scheme, rest)) = uri.split_once("://") else {
        // A bare path is taken as it stands: clients do not escape it.
        return match uri {
            "" => Ok(Target::Null),
            path if path.starts_with('/') => Ok(Target::Place(Place::Fifo(path.into()))),
            _ => Err(malformed()),
        };
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = absolute(path).ok_or_else(malformed);
    match scheme {
        "fifo" => Ok(Target::Place(Place::Fifo(path?))),
        "file" => Ok(Target::Place(Place::File(path?))),
        "binary" | "binary-v2" => {
            let says_ready = scheme == "binary-v2";
            Ok(Target::Logger(LoggerUri { program: path?, args: args(query), says_ready }))
        }
        _ => Err(UriError::Unsupported { stdio, scheme: scheme.to_owned() }),
    }
}

/// containerd writes these with Go's `url.URL`, so `%` begins an escape (RFC 3986, 2.1).
fn absolute(path: &str) -> Option<PathBuf> {
    let path: Vec<u8> = percent_decode_str(path).collect();
    let usable = path.starts_with(b"/") && !path.ends_with(b"/") && !path.contains(&0);
    usable.then(|| OsString::from_vec(path).into())
}

fn args(query: &str) -> Vec<String> {
    let mut args: Vec<(String, String)> = Vec::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if !args.iter().any(|(seen, _)| *seen == key) {
            args.push((key.into_owned(), value.into_owned()));
        }
    }
    args.into_iter().flat_map(|(key, value)| [key, value]).collect()
}
