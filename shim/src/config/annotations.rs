//! What a container's annotations choose of its machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Config;

/// All begin so; others are somebody else's.
const PREFIX: &str = "io.vminit.";

/// What was chosen; the rest follows from the limits and the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    pub memory_mb: Option<u32>,
    pub cpus: Option<u32>,
    pub kernel: Option<PathBuf>,
    pub initrd: Option<PathBuf>,
    pub kernel_args: Option<String>,
}

/// Why an annotation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    #[error("the annotation {0} is unknown")]
    Unknown(String),
    #[error("the annotation {key} is {value:?}, and must be a number from {min} to {max}")]
    Number { key: String, value: String, min: u32, max: u32 },
    #[error("the annotation {key} may not be {value:?}: the host's configuration does not allow it")]
    NotAllowed { key: String, value: String },
}

impl Config {
    /// What the annotations of a container choose.
    ///
    /// # Errors
    /// The first that is unknown, out of its bounds or not allowed: a container that asked for a machine of its own is
    /// not to get another.
    pub fn choose(&self, annotations: &BTreeMap<String, String>) -> Result<Choice, AnnotationError> {
        let mut choice = Choice::default();
        let ours =
            annotations.iter().filter_map(|(key, value)| Some((key, key.strip_prefix(PREFIX)?, value)));
        for (key, name, value) in ours {
            match name {
                "memory_mb" => {
                    let (min, max) = (self.machine.floor_mb, self.machine.max_memory_mb);
                    choice.memory_mb = Some(number(key, value, min, max)?);
                }
                "cpus" => choice.cpus = Some(number(key, value, 1, self.machine.max_cpus)?),
                "kernel" => choice.kernel = Some(listed(key, value, &self.annotations.kernels)?),
                "initrd" => choice.initrd = Some(listed(key, value, &self.annotations.initrds)?),
                "kernel_args" if self.annotations.kernel_args => choice.kernel_args = Some(value.clone()),
                "kernel_args" => return Err(not_allowed(key, value)),
                _ => return Err(AnnotationError::Unknown(key.clone())),
            }
        }
        Ok(choice)
    }
}

fn number(key: &str, value: &str, min: u32, max: u32) -> Result<u32, AnnotationError> {
    let number = value.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| AnnotationError::Number { key: key.to_owned(), value: value.to_owned(), min, max })
}

/// By its text: nothing is looked for in the file system, so no link leads elsewhere.
fn listed(key: &str, value: &str, allowed: &[PathBuf]) -> Result<PathBuf, AnnotationError> {
    let found = allowed.iter().find(|path| path.as_os_str() == value);
    found.cloned().ok_or_else(|| not_allowed(key, value))
}

fn not_allowed(key: &str, value: &str) -> AnnotationError {
    AnnotationError::NotAllowed { key: key.to_owned(), value: value.to_owned() }
}
