//! The state of a container as hooks read it (OCI runtime spec, "State"). Owns its form; never keeps it up to date.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How far the container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// While `prestart` and `createRuntime` hooks run.
    Creating,
    Created,
    /// While `poststart` hooks run.
    Running,
    /// While `poststop` hooks run.
    Stopped,
}

/// What a hook gets on standard input, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerState {
    /// The version of the container's `config.json`.
    pub oci_version: String,
    pub id: String,
    pub status: Status,
    /// The holder; left out once that is gone, as runc does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    pub bundle: PathBuf,
    /// All those of the spec.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(state: &ContainerState, json: &str) {
        assert_eq!(serde_json::to_string(state).unwrap(), json);
        assert_eq!(&serde_json::from_str::<ContainerState>(json).unwrap(), state);
    }

    #[test]
    fn hooks_read_the_names_of_the_oci_spec() {
        let annotations = BTreeMap::from([("nerdctl/name".to_string(), "x".to_string())]);
        let state = ContainerState {
            oci_version: "1.2.0".into(),
            id: "c1".into(),
            status: Status::Creating,
            pid: Some(7),
            bundle: "/b".into(),
            annotations,
        };
        check(
            &state,
            r#"{"ociVersion":"1.2.0","id":"c1","status":"creating","pid":7,"bundle":"/b","annotations":{"nerdctl/name":"x"}}"#,
        );
        let stopped =
            ContainerState { status: Status::Stopped, pid: None, annotations: BTreeMap::new(), ..state };
        check(&stopped, r#"{"ociVersion":"1.2.0","id":"c1","status":"stopped","bundle":"/b"}"#);
    }
}
