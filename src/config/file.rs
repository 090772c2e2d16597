//! Files with settings: reading one without waiting for anyone, and a JSON object split into keys and values.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::key::Key;
use super::settings::{Assignment, Source};
use super::value::Given;
use super::{excerpt, Problem};
use crate::sys::file;

/// Bytes that are read at most: all keys together take a tenth of it, and PID 1 has 2 MiB.
const FILE_MAX: u64 = 64 << 10;

/// How spinbox's file spells keys of ours; `None` is for what has nothing to choose here.
const SPINBOX: [(&str, Option<Key>); 5] = [
    ("vsock_context_id", Some(Key::VsockCid)),
    ("rpc_port", Some(Key::VsockRpcPort)),
    ("stream_port", Some(Key::VsockStreamPort)),
    ("disabled_plugins", None),
    ("plugin_configs", None),
];

/// The text of a file, of 64 KiB at most. Blocks on the disk and on nothing else.
///
/// # Errors
/// As [`file::read_text`].
pub(super) fn read(path: &Path) -> io::Result<String> {
    file::read_text(path, FILE_MAX)
}

/// Splits the object; total, whatever the text is.
pub(super) fn parse(text: &str) -> Vec<Assignment> {
    // From bytes, like all other JSON: the parser for text is another copy of it.
    match serde_json::from_slice(text.as_bytes()) {
        Ok(Value::Object(keys)) => keys.iter().filter_map(|(name, value)| assignment(name, value)).collect(),
        Ok(_) => vec![Err(Problem::NotAnObject)],
        Err(error) => vec![Err(Problem::NotJson(excerpt(&error.to_string())))],
    }
}

fn assignment(name: &str, value: &Value) -> Option<Assignment> {
    let spinbox = SPINBOX.iter().find(|(theirs, _)| *theirs == name);
    let key = match spinbox {
        Some((_, key)) => (*key)?,
        None => match Key::named(name).filter(|key| key.is_setting()) {
            Some(key) => key,
            None => return Some(Err(Problem::Unknown { from: Source::File, name: excerpt(name) })),
        },
    };
    Some(Ok((key, given(value))))
}

/// Lists are arrays, or objects of names and values. What fits no key, `null` for one, stays as it is written, and is
/// refused as such.
fn given(value: &Value) -> Given {
    match value {
        Value::Array(items) => Given::Items(items.iter().map(plain).collect()),
        Value::Object(pairs) => {
            Given::Items(pairs.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect())
        }
        plain_value => Given::Text(plain(plain_value)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
