//! The form of hooks in `state.json`. Owns no meaning of them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::plan::Hook;

#[derive(Serialize, Deserialize)]
#[serde(remote = "Hook")]
struct Form {
    path: String,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<Duration>,
}

#[derive(Serialize)]
struct Written<'a>(#[serde(with = "Form")] &'a Hook);

#[derive(Deserialize)]
struct Read(#[serde(with = "Form")] Hook);

pub(super) fn serialize<S: Serializer>(hooks: &[Hook], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(hooks.iter().map(Written))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Hook>, D::Error> {
    let read = Vec::<Read>::deserialize(from)?;
    Ok(read.into_iter().map(|hook| hook.0).collect())
}
