//! The edits of OCI specs before runc reads them, and what this program needs to know of them.
//!
//! A spec is edited as a tree of JSON in which only the members named here are looked at, so that what a newer host
//! writes gets to runc. Members may come out in another order. Whole numbers of up to 64 bits, which are all that OCI
//! has, stay as they are.

mod relaxed;
#[cfg(test)]
mod tests;

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{json, Map, Value};

use crate::sys::pty::WindowSize;

/// What is done to a `config.json` before runc reads it. What the request itself demands is done under both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Nothing: runc gets the file as the host wrote it.
    AsIs,
    /// The VM is the boundary: the container gets the VM's devices, and nothing in it is hidden. Limits stay.
    Relaxed,
}

/// What the rest of the program wants to know of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether the container has a pid namespace of its own, so that the kernel kills all of it when its init dies.
    ///
    /// `false` also when that cannot be told: the caller then kills the rest itself, as containerd's shim does.
    pub private_pid_namespace: bool,
}

/// Why a spec cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no regular file", .0.display())]
    NoFile(PathBuf),
    #[error("{} is larger than {CONFIG_MAX} bytes", .0.display())]
    TooLarge(PathBuf),
    #[error("{what} is no JSON: {source}")]
    Json { what: &'static str, source: serde_json::Error },
    /// A member has a value of another kind than the OCI runtime spec gives it.
    #[error("{member} is not {expected}")]
    Kind { member: &'static str, expected: &'static str },
    #[error("replace {}: {source}", path.display())]
    Replace { path: PathBuf, source: io::Error },
}

/// Bytes a `config.json` may have. `Bundle.Create` can deliver 4 MiB of it (a ttrpc message); one that comes another
/// way may be larger, but its tree must not take all the memory of a small VM.
const CONFIG_MAX: u64 = 16 << 20;

/// Reads the bundle's `config.json`, edits it by policy, and writes it back if that changed it.
///
/// The container's process has a terminal if the request says so, whatever the file says. A `resolv_conf` that is not
/// there is not bound into the container. A second call changes nothing. Blocking.
pub fn prepare(
    bundle: &Path,
    policy: Policy,
    terminal: bool,
    resolv_conf: &Path,
) -> Result<Facts, SpecError> {
    let path = bundle.join("config.json");
    let (text, permissions) = read(&path)?;
    let mut spec = object("config.json", &text)?;
    let edited = edit(&mut spec, |spec| {
        if terminal || spec.get("process").is_some_and(|process| !process.is_null()) {
            set_terminal(member(spec, "process")?, terminal);
        }
        match policy {
            Policy::AsIs => Ok(()),
            Policy::Relaxed => relaxed::relax(spec, resolv_conf),
        }
    })?;
    if let Some(text) = edited {
        replace(&path, &text, permissions).map_err(|source| SpecError::Replace { path, source })?;
    }
    Ok(Facts { private_pid_namespace: private_pid_namespace(&spec) })
}

/// An exec's process spec, with a terminal if the request says so, whatever the spec says.
pub fn exec_process(json: &[u8], terminal: bool) -> Result<Vec<u8>, SpecError> {
    let mut process = object("the process spec", json)?;
    let edited = edit(&mut process, |process| {
        set_terminal(process, terminal);
        Ok(())
    })?;
    Ok(edited.unwrap_or_else(|| json.to_vec()))
}

/// The process spec, with the size that its terminal is to have from the beginning; as it is if there is none.
pub fn with_window_size(json: Vec<u8>, size: Option<WindowSize>) -> Result<Vec<u8>, SpecError> {
    let Some(WindowSize { columns, rows }) = size else { return Ok(json) };
    let mut process = object("the process spec", &json)?;
    process.insert("consoleSize".into(), json!({"width": columns, "height": rows}));
    Ok(to_text(&process))
}

/// Applies `change`; returns the new text, or `None` if all is as it was.
fn edit(
    spec: &mut Map<String, Value>,
    change: impl FnOnce(&mut Map<String, Value>) -> Result<(), SpecError>,
) -> Result<Option<Vec<u8>>, SpecError> {
    // Texts are compared, not trees: a tree takes some ten times the memory.
    let before = to_text(spec);
    change(spec)?;
    let after = to_text(spec);
    Ok((after != before).then_some(after))
}

fn to_text(spec: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(spec).expect("a tree of JSON has text keys only, and memory takes all that is written")
}

/// Parses an object. serde_json refuses more than 128 levels, so a tree can be walked by recursion.
fn object(what: &'static str, text: &[u8]) -> Result<Map<String, Value>, SpecError> {
    match serde_json::from_slice(text).map_err(|source| SpecError::Json { what, source })? {
        Value::Object(object) => Ok(object),
        _ => Err(SpecError::Kind { member: what, expected: "an object" }),
    }
}

/// The object that is this member, made if it is absent. `null` means absent, as it does to runc.
fn member<'a>(
    parent: &'a mut Map<String, Value>,
    name: &'static str,
) -> Result<&'a mut Map<String, Value>, SpecError> {
    let value = parent.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().ok_or(SpecError::Kind { member: name, expected: "an object" })
}

/// Says whether a process has a terminal. One that says nothing has none.
fn set_terminal(process: &mut Map<String, Value>, terminal: bool) {
    let says = process.get("terminal").filter(|value| !value.is_null());
    if terminal || says.is_some() {
        process.insert("terminal".into(), terminal.into());
    }
}

fn private_pid_namespace(spec: &Map<String, Value>) -> bool {
    let joins_none = |namespace: &Value| namespace["path"].as_str().unwrap_or_default().is_empty();
    let namespaces = spec.get("linux").and_then(|linux| linux["namespaces"].as_array());
    namespaces.is_some_and(|all| all.iter().any(|ns| ns["type"] == "pid" && joins_none(ns)))
}

fn read(path: &Path) -> Result<(Vec<u8>, Permissions), SpecError> {
    let failed = |source| SpecError::Read { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        // Opening a pipe would wait for its other end.
        return Err(SpecError::NoFile(path.to_owned()));
    }
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    // One byte more than allowed tells a file that is too large.
    file.take(CONFIG_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    match text.len() as u64 > CONFIG_MAX {
        true => Err(SpecError::TooLarge(path.to_owned())),
        false => Ok((text, metadata.permissions())),
    }
}

/// Puts a new file in the place of another: who reads it gets the old one or the new one, never half of it.
fn replace(path: &Path, text: &[u8], permissions: Permissions) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // A name of its own: whoever else is at this bundle does not get half of this file.
    let new = path.with_file_name(format!(".config.json.new.{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    // One that was left when the VM lost its power here.
    let _ = fs::remove_file(&new);
    let written = write_new(&new, text, permissions).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The error of writing says more than one of cleaning up.
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(path: &Path, text: &[u8], permissions: Permissions) -> io::Result<()> {
    // The environment in a spec may hold secrets: nobody else reads it before it has the mode of the old one.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(permissions)?;
    file.write_all(text)
}
