//! What an Update asks for: the OCI runtime spec's LinuxResources, checked before runc sees them.
//!
//! runc tells a bad value only by the text of its error; here it is told apart from what goes wrong in runc. What this
//! file does not know of is runc's to judge.

use std::fmt;

use serde_json::{Map, Value};

/// JSON for `runc update --resources`: an object whose known members have values of the right kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources(Vec<u8>);

/// Why a text is no LinuxResources.
#[derive(Debug, thiserror::Error)]
pub enum ResourcesError {
    #[error("an update needs resources")]
    Empty,
    #[error("the resources are no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// `path` leads to the member, as in `memory.limit`.
    #[error("{path} is not {kind}")]
    Kind { path: String, kind: String },
}

impl Resources {
    /// Parses and checks. Known members that are `null` say nothing and are dropped: runc 1.1 puts them in the place
    /// of its defaults, and then crashes on them.
    pub fn parse(json: &[u8]) -> Result<Resources, ResourcesError> {
        if json.is_empty() {
            return Err(ResourcesError::Empty);
        }
        let mut resources = serde_json::from_slice(json)?;
        RESOURCES.check(&mut resources, &Trail(&[]))?;
        Ok(Resources(serde_json::to_vec(&resources)?))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The kinds of value that runc's decoder (Go's encoding/json) accepts for a member.
enum Kind {
    Bool,
    Text,
    /// A whole number of 64 bits with a sign.
    Signed,
    /// A whole number from 0 to this one.
    Unsigned(u64),
    /// An array of values of one kind.
    List(&'static Kind),
    /// An object of any names with values of one kind.
    Map(&'static Kind),
    /// An object; members without a row are kept as they are.
    Object(&'static [(&'static str, Kind)]),
}

use Kind::{Bool, List, Object, Signed, Text, Unsigned};

const U16: Kind = Unsigned(u16::MAX as u64);
const U32: Kind = Unsigned(u32::MAX as u64);
const U64: Kind = Unsigned(u64::MAX);

/// LinuxResources of version 1.2 of the spec.
const RESOURCES: Kind = Object(&[
    ("memory", MEMORY),
    ("cpu", CPU),
    ("pids", Object(&[("limit", Signed)])),
    ("blockIO", BLOCK_IO),
    ("hugepageLimits", List(&Object(&[("pageSize", Text), ("limit", U64)]))),
    ("devices", List(&DEVICE)),
    ("network", Object(&[("classID", U32), ("priorities", List(&PRIORITY))])),
    ("rdma", Kind::Map(&Object(&[("hcaHandles", U32), ("hcaObjects", U32)]))),
    ("unified", Kind::Map(&Text)),
]);

const MEMORY: Kind = Object(&[
    ("limit", Signed),
    ("reservation", Signed),
    ("swap", Signed),
    ("kernel", Signed),
    ("kernelTCP", Signed),
    ("swappiness", U64),
    ("disableOOMKiller", Bool),
    ("useHierarchy", Bool),
    ("checkBeforeUpdate", Bool),
]);

const CPU: Kind = Object(&[
    ("shares", U64),
    ("quota", Signed),
    ("burst", U64),
    ("period", U64),
    ("realtimeRuntime", Signed),
    ("realtimePeriod", U64),
    ("cpus", Text),
    ("mems", Text),
    ("idle", Signed),
]);

const BLOCK_IO: Kind = Object(&[
    ("weight", U16),
    ("leafWeight", U16),
    ("weightDevice", List(&WEIGHT)),
    ("throttleReadBpsDevice", List(&THROTTLE)),
    ("throttleWriteBpsDevice", List(&THROTTLE)),
    ("throttleReadIOPSDevice", List(&THROTTLE)),
    ("throttleWriteIOPSDevice", List(&THROTTLE)),
]);

const WEIGHT: Kind = Object(&[("major", Signed), ("minor", Signed), ("weight", U16), ("leafWeight", U16)]);
const THROTTLE: Kind = Object(&[("major", Signed), ("minor", Signed), ("rate", U64)]);
const PRIORITY: Kind = Object(&[("name", Text), ("priority", U32)]);
const DEVICE: Kind =
    Object(&[("allow", Bool), ("type", Text), ("major", Signed), ("minor", Signed), ("access", Text)]);

impl Kind {
    /// Checks a value, and drops members that are `null` from known objects in it. The depth is that of the table.
    fn check(&self, value: &mut Value, trail: &Trail<'_>) -> Result<(), ResourcesError> {
        match (self, value) {
            (Bool, Value::Bool(_)) | (Text, Value::String(_)) => Ok(()),
            (Signed, Value::Number(number)) if number.is_i64() => Ok(()),
            (Unsigned(max), Value::Number(number)) if number.as_u64().is_some_and(|n| n <= *max) => Ok(()),
            (List(kind), Value::Array(values)) => {
                values.iter_mut().try_for_each(|value| kind.check(value, trail))
            }
            (Kind::Map(kind), Value::Object(members)) => check_members(members, trail, |_| Some(kind)),
            (Object(rows), Value::Object(members)) => check_members(members, trail, |name| row(rows, name)),
            (kind, _) => Err(ResourcesError::Kind { path: trail.to_string(), kind: kind.to_string() }),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bool => f.write_str("true or false"),
            Text => f.write_str("a string"),
            Signed => f.write_str("a whole number of 64 bits"),
            Unsigned(max) => write!(f, "a whole number from 0 to {max}"),
            List(_) => f.write_str("an array"),
            Kind::Map(_) | Object(_) => f.write_str("an object"),
        }
    }
}

fn check_members<'a>(
    members: &mut Map<String, Value>,
    trail: &Trail<'_>,
    kind_of: impl Fn(&str) -> Option<&'a Kind>,
) -> Result<(), ResourcesError> {
    members.retain(|name, value| !(value.is_null() && kind_of(name).is_some()));
    members.iter_mut().try_for_each(|(name, value)| match kind_of(name) {
        Some(kind) => kind.check(value, &Trail(&[trail.0, &[name]].concat())),
        None => Ok(()),
    })
}

/// The row of a name. Go's decoder does not mind the case of letters, so neither may the check.
fn row(rows: &'static [(&'static str, Kind)], name: &str) -> Option<&'static Kind> {
    rows.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, kind)| kind)
}

/// The names that lead to a value.
struct Trail<'a>(&'a [&'a str]);

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("the whole of the resources"),
            names => f.write_str(&names.join(".")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `refused` is the text of the error, or "" if the text is accepted.
    fn check(json: &str, refused: &str) {
        let error = Resources::parse(json.as_bytes()).err();
        assert_eq!(error.map(|error| error.to_string()).unwrap_or_default(), refused, "{json}");
    }

    #[test]
    fn values_of_the_right_kind_are_accepted() {
        for json in [
            "{}",
            r#"{"memory": {"limit": -1, "swap": 9223372036854775807, "swappiness": 60, "disableOOMKiller": true}}"#,
            r#"{"memory": {"kernel": 0, "kernelTCP": 0, "useHierarchy": false, "checkBeforeUpdate": true}}"#,
            r#"{"cpu": {"shares": 18446744073709551615, "quota": -1, "burst": 0, "period": 100000, "idle": 1}}"#,
            r#"{"cpu": {"realtimeRuntime": -1, "realtimePeriod": 1, "cpus": "0-3", "mems": ""}}"#,
            r#"{"pids": {"limit": 0}, "unified": {"memory.high": "max"}}"#,
            r#"{"blockIO": {"weight": 1000, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}}"#,
            r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 1}], "devices": [{"allow": false, "access": "rwm"}]}"#,
            r#"{"network": {"classID": 1, "priorities": []}, "rdma": {"mlx5_1": {"hcaHandles": 1}}}"#,
        ] {
            check(json, "");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        check("", "an update needs resources");
        for json in ["[]", "null", "1", "\"{}\""] {
            check(json, "the whole of the resources is not an object");
        }
        for json in ["{", " ", "{}{}", "{\"a\" 1}", &"[".repeat(100_000)] {
            assert!(matches!(Resources::parse(json.as_bytes()), Err(ResourcesError::Json(_))), "{json:.20}");
        }
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused_by_name() {
        for (json, refused) in [
            (r#"{"memory": 1}"#, "memory is not an object"),
            (r#"{"memory": {"limit": "64M"}}"#, "memory.limit is not a whole number of 64 bits"),
            (r#"{"memory": {"limit": 1.5}}"#, "memory.limit is not a whole number of 64 bits"),
            (r#"{"memory": {"limit": 1e3}}"#, "memory.limit is not a whole number of 64 bits"),
            (
                r#"{"memory": {"limit": 9223372036854775808}}"#,
                "memory.limit is not a whole number of 64 bits",
            ),
            (r#"{"MEMORY": {"Limit": "64M"}}"#, "MEMORY.Limit is not a whole number of 64 bits"),
            (r#"{"memory": {"disableOOMKiller": 1}}"#, "memory.disableOOMKiller is not true or false"),
            (r#"{"cpu": {"shares": -1}}"#, "cpu.shares is not a whole number from 0 to 18446744073709551615"),
            (r#"{"cpu": {"cpus": 0}}"#, "cpu.cpus is not a string"),
            (r#"{"pids": []}"#, "pids is not an object"),
            (r#"{"pids": {"limit": true}}"#, "pids.limit is not a whole number of 64 bits"),
            (r#"{"blockIO": {"weight": 65536}}"#, "blockIO.weight is not a whole number from 0 to 65535"),
            (r#"{"blockIO": {"weightDevice": {}}}"#, "blockIO.weightDevice is not an array"),
            (r#"{"blockIO": {"weightDevice": [null]}}"#, "blockIO.weightDevice is not an object"),
            (r#"{"unified": ["a"]}"#, "unified is not an object"),
            (r#"{"unified": {"memory.high": 1}}"#, "unified.memory.high is not a string"),
            (r#"{"devices": {}}"#, "devices is not an array"),
            (r#"{"hugepageLimits": "2MB"}"#, "hugepageLimits is not an array"),
            (r#"{"network": []}"#, "network is not an object"),
            (
                r#"{"rdma": {"x": {"hcaHandles": -1}}}"#,
                "rdma.x.hcaHandles is not a whole number from 0 to 4294967295",
            ),
        ] {
            check(json, refused);
        }
    }

    #[test]
    fn members_without_a_value_are_dropped_and_unknown_ones_kept() {
        let parsed = |json: &str| String::from_utf8(Resources::parse(json.as_bytes()).unwrap().0).unwrap();
        for (json, kept) in [
            (r#"{"memory":null,"Pids":null,"cpu":{"quota":null,"shares":2}}"#, r#"{"cpu":{"shares":2}}"#),
            (r#"{"unified":{"memory.high":null}}"#, r#"{"unified":{}}"#),
            (r#"{"new":{"limit":"x"},"other":null}"#, r#"{"new":{"limit":"x"},"other":null}"#),
            (r#"{"memory":{"limit":1,"new":[null]}}"#, r#"{"memory":{"limit":1,"new":[null]}}"#),
        ] {
            assert_eq!(parsed(json), kept);
        }
    }
}
