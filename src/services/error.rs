//! The one place where errors of the domain become gRPC codes.

use std::fmt::Display;

use ttrpc::{get_status, Code, Error, Status};

use crate::events::CutOff;
use crate::io::{OpenError, UriError};
use crate::rootfs::RootfsError;
use crate::runc::RuncError;
use crate::task::{FileNameError, IdError, TaskError};

/// An error as it goes over the wire.
pub struct Refusal(Status);

impl Refusal {
    pub fn new(code: Code, text: impl Display) -> Refusal {
        Refusal(get_status(code, text))
    }

    /// What is not built.
    pub fn unimplemented(what: &str) -> Refusal {
        Refusal::new(Code::UNIMPLEMENTED, format_args!("{what} is not implemented"))
    }

    pub fn invalid(text: impl Display) -> Refusal {
        Refusal::new(Code::INVALID_ARGUMENT, text)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::RpcStatus(refusal.0)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        refusal.0
    }
}

impl From<IdError> for Refusal {
    fn from(error: IdError) -> Refusal {
        Refusal::invalid(error)
    }
}

impl From<FileNameError> for Refusal {
    fn from(error: FileNameError) -> Refusal {
        Refusal::invalid(error)
    }
}

impl From<UriError> for Refusal {
    fn from(error: UriError) -> Refusal {
        let code = match error {
            UriError::Malformed(_) => Code::INVALID_ARGUMENT,
            UriError::Unsupported(_) => Code::UNIMPLEMENTED,
        };
        Refusal::new(code, error)
    }
}

impl From<CutOff> for Refusal {
    fn from(error: CutOff) -> Refusal {
        Refusal::new(Code::RESOURCE_EXHAUSTED, error)
    }
}

impl From<TaskError> for Refusal {
    fn from(error: TaskError) -> Refusal {
        Refusal::new(code_of(&error), error)
    }
}

fn code_of(error: &TaskError) -> Code {
    match error {
        TaskError::NoContainer(_)
        | TaskError::NoExec { .. }
        | TaskError::NoStream(_)
        | TaskError::Finished(_) => Code::NOT_FOUND,
        TaskError::ContainerExists(_) | TaskError::ExecExists(_) | TaskError::BundleExists(_) => {
            Code::ALREADY_EXISTS
        }
        TaskError::WrongState { .. } | TaskError::NotStarted(_) | TaskError::InitGone(_) => {
            Code::FAILED_PRECONDITION
        }
        TaskError::Stopping => Code::UNAVAILABLE,
        TaskError::Deadline(_) => Code::DEADLINE_EXCEEDED,
        TaskError::Stdio(OpenError::NamedTwice(_)) => Code::INVALID_ARGUMENT,
        TaskError::Rootfs(error) => rootfs_code(error),
        TaskError::Runc(error) => runc_code(error),
        TaskError::Stdio(OpenError::Io(_))
        | TaskError::Reaper(_)
        | TaskError::Signal { .. }
        | TaskError::Bundle { .. }
        | TaskError::Interrupted(_) => Code::INTERNAL,
    }
}

fn rootfs_code(error: &RootfsError) -> Code {
    match error {
        RootfsError::NoDevice { .. } => Code::NOT_FOUND,
        RootfsError::Unsupported { .. } => Code::UNIMPLEMENTED,
        RootfsError::Escape { .. } | RootfsError::OptionsTooLong { .. } => Code::INVALID_ARGUMENT,
        RootfsError::Mount { .. } | RootfsError::Unmount { .. } | RootfsError::Path { .. } => Code::UNKNOWN,
    }
}

/// containerd's own shim answers UNKNOWN with runc's words when runc refuses; so do we.
fn runc_code(error: &RuncError) -> Code {
    match error {
        _ if error.is_not_found() => Code::NOT_FOUND,
        RuncError::Deadline { .. } => Code::DEADLINE_EXCEEDED,
        RuncError::Refused { .. } => Code::UNKNOWN,
        RuncError::Start { .. } | RuncError::Result { .. } | RuncError::Reaper { .. } => Code::INTERNAL,
    }
}
