//! The command line, parsed into what is to be done. Owns the flags' names and their syntax, which is that of Go's
//! `flag` package; never reads the environment or a file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::UsageError;
use crate::holder;

/// What the process is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the process that serves a task, and say where.
    Start(Call),
    /// Undo whatever is left of a task.
    Delete(Call),
    /// Be the process that serves; only `start` asks for it.
    Serve(Serving),
    /// Be the process that stands for the container; only the serving process asks for it. Its arguments are its own.
    Hold(Vec<String>),
    /// Say what this runtime can do.
    Info,
    /// Say which version this is.
    Version,
}

/// The flags that containerd gives with each action on a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// containerd's namespace; one component of a path.
    pub namespace: String,
    /// The task; one component of a path.
    pub id: String,
    /// containerd's gRPC socket.
    pub address: String,
    /// The task's bundle; `None` where it is the current folder.
    pub bundle: Option<PathBuf>,
    /// Whether containerd itself logs at debug.
    pub debug: bool,
}

/// What `start` tells the serving process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    pub call: Call,
    /// The path of the listener it inherits, which it removes at its end.
    pub socket: PathBuf,
    /// containerd's ttrpc address, for events.
    pub ttrpc_address: String,
}

/// Flags with a value, then those without.
const TEXTS: [&str; 7] =
    ["address", "bundle", "id", "namespace", "publish-binary", "socket", "ttrpc-address"];
const SWITCHES: [&str; 4] = ["debug", "info", "v", "version"];

const SERVE: &str = "serve";

impl Action {
    /// Reads the arguments, without the program's name.
    ///
    /// # Errors
    /// The first thing that is unknown, missing or no name.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Action, UsageError> {
        let mut texts = Vec::new();
        for (at, arg) in args.into_iter().enumerate() {
            texts.push(arg.into_string().map_err(|_| UsageError::NotUtf8(at + 1))?);
        }
        let (flags, rest) = Flags::split(texts)?;
        if flags.switch("version") || flags.switch("v") {
            return Ok(Action::Version);
        }
        if flags.switch("info") {
            return Ok(Action::Info);
        }
        let mut rest = rest.into_iter();
        match rest.next().unwrap_or_default().as_str() {
            "start" => Ok(Action::Start(flags.call()?)),
            "delete" => Ok(Action::Delete(flags.call()?)),
            SERVE => Ok(Action::Serve(flags.serving()?)),
            holder::ACTION => Ok(Action::Hold(rest.collect())),
            other => Err(UsageError::UnknownAction(other.to_string())),
        }
    }
}

impl Serving {
    /// The arguments that [`Action::parse`] reads as this.
    pub(super) fn to_args(&self) -> Vec<OsString> {
        let call = &self.call;
        let mut args: Vec<OsString> = Vec::new();
        let texts: [(&str, OsString); 5] = [
            ("-namespace", call.namespace.clone().into()),
            ("-id", call.id.clone().into()),
            ("-address", call.address.clone().into()),
            ("-socket", self.socket.clone().into()),
            ("-ttrpc-address", self.ttrpc_address.clone().into()),
        ];
        args.extend(texts.into_iter().flat_map(|(flag, value)| [flag.into(), value]));
        if let Some(bundle) = &call.bundle {
            args.extend(["-bundle".into(), bundle.clone().into()]);
        }
        args.extend(call.debug.then(|| "-debug".into()));
        args.push(SERVE.into());
        args
    }
}

/// The flags that were given, by their names without the dash. The last of two wins, as in Go.
#[derive(Default)]
struct Flags(BTreeMap<&'static str, String>);

impl Flags {
    /// Takes flags until the first argument that is none, or until `--`; gives also the rest.
    fn split(args: Vec<String>) -> Result<(Flags, Vec<String>), UsageError> {
        let mut flags = Flags::default();
        let mut args = args.into_iter().peekable();
        while let Some(arg) = args.next_if(|arg| arg.len() > 1 && arg.starts_with('-')) {
            if arg == "--" {
                break;
            }
            // One dash or two, and the value behind `=` or in the next argument.
            let text = arg.strip_prefix("--").unwrap_or(&arg[1..]);
            let (name, value) =
                text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            if let Some(flag) = SWITCHES.into_iter().find(|flag| *flag == name) {
                flags.0.insert(flag, switch_value(flag, value.unwrap_or("true"))?);
            } else if let Some(flag) = TEXTS.into_iter().find(|flag| *flag == name) {
                let value = value.map(str::to_string).or_else(|| args.next());
                flags.0.insert(flag, value.ok_or(UsageError::Missing(flag))?);
            } else {
                return Err(UsageError::UnknownFlag(name.to_string()));
            }
        }
        Ok((flags, args.collect()))
    }

    fn call(&self) -> Result<Call, UsageError> {
        Ok(Call {
            namespace: self.name("namespace")?,
            id: self.name("id")?,
            address: self.text("address").unwrap_or_default(),
            bundle: self.text("bundle").map(PathBuf::from),
            debug: self.switch("debug"),
        })
    }

    fn serving(&self) -> Result<Serving, UsageError> {
        Ok(Serving {
            call: self.call()?,
            socket: self.text("socket").ok_or(UsageError::Missing("socket"))?.into(),
            ttrpc_address: self.text("ttrpc-address").ok_or(UsageError::Missing("ttrpc-address"))?,
        })
    }

    fn switch(&self, flag: &'static str) -> bool {
        self.0.get(flag).is_some_and(|value| value == "true")
    }

    /// An empty value is none: that is how Go's defaults look.
    fn text(&self, flag: &'static str) -> Option<String> {
        self.0.get(flag).filter(|value| !value.is_empty()).cloned()
    }

    /// A value that becomes a part of paths.
    fn name(&self, flag: &'static str) -> Result<String, UsageError> {
        let value = self.text(flag).ok_or(UsageError::Missing(flag))?;
        match value.as_str() {
            "." | ".." => Err(UsageError::BadName { flag, value }),
            text if text.contains(['/', '\0']) => Err(UsageError::BadName { flag, value }),
            _ => Ok(value),
        }
    }
}

/// The spellings that Go's `strconv.ParseBool` takes.
fn switch_value(flag: &'static str, value: &str) -> Result<String, UsageError> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok("true".to_string()),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok("false".to_string()),
        other => Err(UsageError::NotBool { flag, value: other.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Action, UsageError> {
        Action::parse(line.split_whitespace().map(OsString::from))
    }

    fn call() -> Call {
        Call {
            namespace: "default".into(),
            id: "c1".into(),
            address: "/run/containerd/containerd.sock".into(),
            bundle: None,
            debug: false,
        }
    }

    const COMMON: &str =
        "-namespace default -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id c1";

    #[test]
    fn the_lines_of_containerd_1_6_to_2_4_are_read() {
        let debug = Call { debug: true, ..call() };
        let bundle = Some(PathBuf::from("/run/containerd/io.containerd.runtime.v2.task/default/c1"));
        let path = "-bundle /run/containerd/io.containerd.runtime.v2.task/default/c1";
        let deleted = Call { bundle: bundle.clone(), ..call() };
        for (line, action) in [
            (format!("{COMMON} start"), Action::Start(call())),
            (format!("{COMMON} -debug start"), Action::Start(debug)),
            (format!("{COMMON} {path} delete"), Action::Delete(deleted.clone())),
            (format!("{COMMON} {path} -debug delete"), Action::Delete(Call { debug: true, ..deleted })),
            ("-info".to_string(), Action::Info),
            ("-v".to_string(), Action::Version),
            ("-version".to_string(), Action::Version),
        ] {
            assert_eq!(parse(&line), Ok(action), "{line}");
        }
    }

    #[test]
    fn flags_have_the_syntax_of_go() {
        for line in [
            "--namespace=default --id=c1 --address=/run/containerd/containerd.sock start",
            "-namespace=x -namespace=default -id c1 -address /run/containerd/containerd.sock -- start",
            "-debug=false -namespace=default -id c1 -address /run/containerd/containerd.sock start -debug",
        ] {
            assert_eq!(parse(line), Ok(Action::Start(call())), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let bad = |flag, value: &str| UsageError::BadName { flag, value: value.to_string() };
        for (line, error) in [
            ("-id c1 start", UsageError::Missing("namespace")),
            ("-namespace n start", UsageError::Missing("id")),
            ("-namespace n -id", UsageError::Missing("id")),
            ("-namespace n -id ../x start", bad("id", "../x")),
            ("-namespace .. -id x start", bad("namespace", "..")),
            ("-namespace n -id x -colour red start", UsageError::UnknownFlag("colour".into())),
            ("-namespace n -id x stop", UsageError::UnknownAction("stop".into())),
            ("-namespace n -id x", UsageError::UnknownAction(String::new())),
            ("-debug=maybe", UsageError::NotBool { flag: "debug", value: "maybe".into() }),
            ("-namespace n -id x serve", UsageError::Missing("socket")),
        ] {
            assert_eq!(parse(line), Err(error), "{line}");
        }
    }

    #[test]
    fn a_serving_process_reads_what_start_wrote() {
        let serving = Serving {
            call: Call { debug: true, bundle: Some("/b".into()), ..call() },
            socket: "/run/containerd/s/0".into(),
            ttrpc_address: "/run/containerd/containerd.sock.ttrpc".into(),
        };
        assert_eq!(Action::parse(serving.to_args()), Ok(Action::Serve(serving)));
    }

    #[test]
    fn the_arguments_of_hold_are_passed_on() {
        assert_eq!(parse("hold -x 1"), Ok(Action::Hold(vec!["-x".into(), "1".into()])));
    }
}
