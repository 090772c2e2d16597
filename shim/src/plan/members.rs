//! Members of a tree of JSON, with `null` taken for absent, as the OCI runtimes do.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Refusal;

/// The object that is this member, made if it is absent.
pub(super) fn object<'a>(
    parent: &'a mut Map<String, Value>,
    name: &'static str,
) -> Result<&'a mut Map<String, Value>, Refusal> {
    let value = parent.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().ok_or(Refusal::Malformed(name))
}

/// The list that is this member, made if it is absent.
pub(super) fn list<'a>(
    parent: &'a mut Map<String, Value>,
    name: &'static str,
) -> Result<&'a mut Vec<Value>, Refusal> {
    let value = parent.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().ok_or(Refusal::Malformed(name))
}

/// A text that is not empty.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value[name].as_str().filter(|text| !text.is_empty())
}

/// A map of texts; empty if it is absent.
pub(super) fn strings(
    value: Option<&Value>,
    name: &'static str,
) -> Result<BTreeMap<String, String>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(key, value)| Ok((key.clone(), value.as_str().ok_or(Refusal::Malformed(name))?.to_owned())))
            .collect(),
        Some(_) => Err(Refusal::Malformed(name)),
    }
}

/// A list of texts; empty if it is absent.
pub(super) fn texts(value: &Value, name: &'static str) -> Result<Vec<String>, Refusal> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(all) => {
            all.iter().map(|one| Ok(one.as_str().ok_or(Refusal::Malformed(name))?.to_owned())).collect()
        }
        _ => Err(Refusal::Malformed(name)),
    }
}
