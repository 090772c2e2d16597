//! OCI hooks: which run on the host, and which cannot run at all.

use std::time::Duration;

use serde_json::{Map, Value};

use super::members::{text, texts};
use super::Refusal;

/// A program that is run at a point of the container's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub path: String,
    /// With the program's name as the first; the path if the spec has none.
    pub args: Vec<String>,
    /// `NAME=value`; nothing else is in its environment.
    pub env: Vec<String>,
    pub timeout: Option<Duration>,
}

/// What runs on the host, each list in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

/// These run in the container's namespaces, which are in the guest, where the host's programs are not.
const IN_CONTAINER: [&str; 2] = ["createContainer", "startContainer"];

/// Takes the hooks out of the spec: none is left for the guest's runtime.
pub(super) fn take(spec: &mut Map<String, Value>) -> Result<Hooks, Refusal> {
    let hooks = spec.remove("hooks").unwrap_or(Value::Null);
    if !hooks.is_null() && !hooks.is_object() {
        return Err(Refusal::Malformed("hooks"));
    }
    for stage in IN_CONTAINER {
        if hooks[stage].as_array().is_some_and(|all| !all.is_empty()) {
            return Err(Refusal::Hook(stage));
        }
    }
    Ok(Hooks {
        prestart: stage(&hooks["prestart"])?,
        create_runtime: stage(&hooks["createRuntime"])?,
        poststart: stage(&hooks["poststart"])?,
        poststop: stage(&hooks["poststop"])?,
    })
}

fn stage(hooks: &Value) -> Result<Vec<Hook>, Refusal> {
    match hooks {
        Value::Null => Ok(Vec::new()),
        Value::Array(all) => all.iter().map(hook).collect(),
        _ => Err(Refusal::Malformed("hooks")),
    }
}

fn hook(value: &Value) -> Result<Hook, Refusal> {
    let path = text(value, "path").filter(|path| path.starts_with('/')).ok_or(Refusal::Malformed("hooks"))?;
    let mut args = texts(&value["args"], "hooks")?;
    if args.is_empty() {
        args.push(path.to_owned());
    }
    let env = texts(&value["env"], "hooks")?;
    // Whole seconds (OCI runtime spec, "POSIX-platform Hooks").
    let timeout = value["timeout"].as_u64().filter(|seconds| *seconds > 0).map(Duration::from_secs);
    Ok(Hook { path: path.to_owned(), args, env, timeout })
}
