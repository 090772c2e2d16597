//! Names of containers and execs, as containerd allows them.

use std::fmt;

/// containerd's limit for an identifier (pkg/identifiers: maxLength).
const LENGTH_MAX: usize = 76;

/// Why a text names nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("identifier must not be empty")]
    Empty,
    #[error("identifier is longer than {LENGTH_MAX} characters")]
    TooLong,
    #[error("identifier {0:?} must be alphanumeric runs joined by single '.', '_' or '-'")]
    Malformed(String),
}

/// containerd's rule: runs of letters and digits, joined by single separators. So an id is always a safe file name.
fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > LENGTH_MAX {
        return Err(IdError::TooLong);
    }
    let is_run = |run: &str| !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match text.split(['.', '_', '-']).all(is_run) {
        true => Ok(()),
        false => Err(IdError::Malformed(text.to_owned())),
    }
}

/// Names a container, and its bundle.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

/// Names an exec within its container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecId(String);

/// Names a process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessId {
    Init,
    Exec(ExecId),
}

impl ContainerId {
    pub fn parse(text: &str) -> Result<ContainerId, IdError> {
        check(text).map(|()| ContainerId(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ExecId {
    pub fn parse(text: &str) -> Result<ExecId, IdError> {
        check(text).map(|()| ExecId(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ProcessId {
    /// On the wire an empty exec id names the init.
    pub fn parse(text: &str) -> Result<ProcessId, IdError> {
        match text {
            "" => Ok(ProcessId::Init),
            exec => ExecId::parse(exec).map(ProcessId::Exec),
        }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ExecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProcessId::Init => f.write_str("init"),
            ProcessId::Exec(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn containerds_rule_holds() {
        for good in ["a", "0", "a.b", "a-b_c.d", "A1", &"x".repeat(76)] {
            assert!(ContainerId::parse(good).is_ok(), "{good}");
        }
        for bad in [".", "..", "a..b", "-a", "a-", "a/b", "../x", "a b", "a\0", "é", "a_-b"] {
            assert_eq!(ContainerId::parse(bad), Err(IdError::Malformed(bad.to_owned())));
        }
        assert_eq!(ContainerId::parse(""), Err(IdError::Empty));
        assert_eq!(ContainerId::parse(&"x".repeat(77)), Err(IdError::TooLong));
    }

    #[test]
    fn the_empty_exec_id_is_the_init() {
        assert_eq!(ProcessId::parse(""), Ok(ProcessId::Init));
        assert!(matches!(ProcessId::parse("e1"), Ok(ProcessId::Exec(_))));
    }

    proptest! {
        #[test]
        fn an_id_is_a_file_name_in_its_folder(text in ".{0,80}") {
            if ContainerId::parse(&text).is_ok() {
                let joined = std::path::Path::new("/bundles").join(&text);
                prop_assert_eq!(joined.parent(), Some(std::path::Path::new("/bundles")));
                prop_assert_eq!(joined.file_name().and_then(|name| name.to_str()), Some(text.as_str()));
            }
        }
    }
}
