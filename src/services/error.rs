//! The one place where errors of the domain become gRPC codes.

use std::fmt::Display;
use std::io::ErrorKind;

use ttrpc::{get_status, Code, Error, Status};

use super::system::Unprepared;
use crate::blocking::BlockingError;
use crate::events::CutOff;
use crate::guest::freeze::{FreezeError, Refused};
use crate::guest::hotplug::HotplugError;
use crate::io::{Broken, CutOff as OutputCutOff, EnterError, InputError, OpenError, UriError};
use crate::net::{Failure, KernelError, NetworkError, Why};
use crate::rootfs::RootfsError;
use crate::runc::RuncError;
use crate::task::{FileNameError, IdError, SpecError, TaskError};

/// An error of this code, as it goes over the wire.
pub fn refuse(code: Code, text: impl Display) -> Error {
    Error::RpcStatus(get_status(code, text.to_string()))
}

/// The answer to a request that makes no sense.
pub fn invalid(text: impl Display) -> Error {
    refuse(Code::INVALID_ARGUMENT, text)
}

/// The answer to a client that did not say in time what was due.
pub fn too_late(text: impl Display) -> Error {
    refuse(Code::DEADLINE_EXCEEDED, text)
}

/// The answer to a request that the stop of the guest has overtaken.
pub fn stopping() -> Error {
    refuse(Code::UNAVAILABLE, TaskError::Stopping)
}

/// The answer to a request for what is not built.
pub fn unimplemented(what: &str) -> Error {
    refuse(Code::UNIMPLEMENTED, format_args!("{what} is not implemented"))
}

/// The end of a subscription that was cut off.
pub fn cut_off(error: CutOff) -> Status {
    get_status(Code::RESOURCE_EXHAUSTED, error)
}

/// The end of a subscription to output that was cut off.
pub fn output_cut_off(error: OutputCutOff) -> Status {
    get_status(Code::RESOURCE_EXHAUSTED, error)
}

/// How a stream ends for what would be the answer of a call.
pub fn status(error: Error) -> Status {
    match error {
        Error::RpcStatus(status) => status,
        other => get_status(Code::INTERNAL, other),
    }
}

impl From<IdError> for Error {
    fn from(error: IdError) -> Error {
        invalid(error)
    }
}

impl From<Unprepared> for Error {
    fn from(error: Unprepared) -> Error {
        too_late(error)
    }
}

impl From<FileNameError> for Error {
    fn from(error: FileNameError) -> Error {
        invalid(error)
    }
}

impl From<UriError> for Error {
    fn from(error: UriError) -> Error {
        let code = match error {
            UriError::Malformed(_) => Code::INVALID_ARGUMENT,
            UriError::Unsupported(_) => Code::UNIMPLEMENTED,
        };
        refuse(code, error)
    }
}

impl From<EnterError> for Error {
    fn from(error: EnterError) -> Error {
        let code = match error {
            EnterError::Taken(_) => Code::ALREADY_EXISTS,
            EnterError::Io(_) => Code::INTERNAL,
        };
        refuse(code, error)
    }
}

impl From<Broken> for Error {
    fn from(error: Broken) -> Error {
        let code = match error {
            Broken::Overrun { .. } => Code::RESOURCE_EXHAUSTED,
            Broken::NoUpdate(_) => Code::INVALID_ARGUMENT,
        };
        refuse(code, error)
    }
}

impl From<NetworkError> for Error {
    fn from(error: NetworkError) -> Error {
        let code = match &error {
            NetworkError::NotOurs => Code::FAILED_PRECONDITION,
            NetworkError::Read(_) => Code::INTERNAL,
            NetworkError::Failed(failures) => network_code(failures),
            NetworkError::Blocking(error) => blocking_code(error),
        };
        refuse(code, error)
    }
}

/// One code for all that failed: what the caller can do something about goes first.
fn network_code(failures: &[Failure]) -> Code {
    let any = |fits: fn(&Why) -> bool| failures.iter().any(|failure| fits(&failure.why));
    if any(|why| matches!(why, Why::NoLink)) {
        Code::NOT_FOUND
    } else if any(|why| {
        matches!(why, Why::Kernel(KernelError::Refused { .. }) | Why::Setting(_) | Why::Undone)
    }) {
        Code::FAILED_PRECONDITION
    } else {
        Code::INTERNAL
    }
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Error {
        refuse(code_of(&error), error)
    }
}

impl From<FreezeError> for Error {
    fn from(error: FreezeError) -> Error {
        let code = match &error {
            // spinbox's guest has no better one for these.
            FreezeError::Freeze { .. } | FreezeError::Thaw { .. } => Code::UNKNOWN,
            FreezeError::Mounts(_) => Code::INTERNAL,
            FreezeError::Refused(Refused::Frozen) => Code::FAILED_PRECONDITION,
            FreezeError::Refused(Refused::TooMany) => Code::RESOURCE_EXHAUSTED,
            FreezeError::Refused(Refused::Stopping) => Code::UNAVAILABLE,
            FreezeError::Blocking(error) => blocking_code(error),
        };
        refuse(code, error)
    }
}

impl From<HotplugError> for Error {
    fn from(error: HotplugError) -> Error {
        let code = match &error {
            HotplugError::BootCpu => Code::INVALID_ARGUMENT,
            HotplugError::Absent { .. } | HotplugError::Late { .. } => Code::NOT_FOUND,
            HotplugError::InUse(_) | HotplugError::Needed(_) => Code::FAILED_PRECONDITION,
            HotplugError::Write { .. } => Code::UNKNOWN,
            HotplugError::Uevents(_) => Code::INTERNAL,
            HotplugError::Blocking(error) => blocking_code(error),
        };
        refuse(code, error)
    }
}

fn code_of(error: &TaskError) -> Code {
    match error {
        TaskError::NoContainer(_)
        | TaskError::NoExec { .. }
        | TaskError::NoStream(_)
        | TaskError::CgroupGone(_)
        | TaskError::Finished(_) => Code::NOT_FOUND,
        TaskError::ContainerExists(_) | TaskError::ExecExists(_) | TaskError::BundleExists(_) => {
            Code::ALREADY_EXISTS
        }
        TaskError::WrongState { .. }
        | TaskError::NotStarted(_)
        | TaskError::InitGone(_)
        | TaskError::ProcessGone(_)
        | TaskError::NotServed { .. }
        | TaskError::Stdin { source: InputError::Closed, .. }
        | TaskError::NoCriu
        | TaskError::BundleInUse { .. }
        | TaskError::NoCgroup => Code::FAILED_PRECONDITION,
        TaskError::Stdin { source: InputError::Full, .. }
        | TaskError::TooManyExecs(_)
        | TaskError::TooManySpecs(_)
        | TaskError::TooManyProcesses => Code::RESOURCE_EXHAUSTED,
        TaskError::Blocking(error) | TaskError::Stdio(OpenError::Blocking(error)) => blocking_code(error),
        TaskError::Stopping => Code::UNAVAILABLE,
        TaskError::Deadline(_) => Code::DEADLINE_EXCEEDED,
        TaskError::Stdio(OpenError::NamedTwice(_)) => Code::INVALID_ARGUMENT,
        TaskError::Spec(error) => spec_code(error),
        TaskError::Rootfs(error) => rootfs_code(error),
        TaskError::Runc(error) => runc_code(error),
        TaskError::Stdio(OpenError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Code::NOT_FOUND
        }
        TaskError::Stdio(OpenError::File { .. }) => Code::UNKNOWN,
        TaskError::Stdio(OpenError::Io(_))
        | TaskError::Reaper(_)
        | TaskError::Signal { .. }
        | TaskError::Resize { .. }
        | TaskError::Bundle { .. }
        | TaskError::Stats { .. } => Code::INTERNAL,
    }
}

/// Nothing was begun, so the caller may try again.
fn blocking_code(error: &BlockingError) -> Code {
    match error {
        BlockingError::Busy(_) => Code::UNAVAILABLE,
        BlockingError::Interrupted(_) => Code::INTERNAL,
    }
}

fn rootfs_code(error: &RootfsError) -> Code {
    match error {
        RootfsError::NoDevice { .. } | RootfsError::NoNode { .. } => Code::NOT_FOUND,
        RootfsError::Unsupported { .. } => Code::UNIMPLEMENTED,
        RootfsError::Invalid { .. } | RootfsError::Escape { .. } | RootfsError::OptionsTooLong { .. } => {
            Code::INVALID_ARGUMENT
        }
        RootfsError::Loop { .. }
        | RootfsError::Mount { .. }
        | RootfsError::Unmount { .. }
        | RootfsError::Path { .. } => Code::UNKNOWN,
    }
}

/// A spec that cannot be read or makes no sense is the caller's.
fn spec_code(error: &SpecError) -> Code {
    match error {
        SpecError::Replace { .. } => Code::INTERNAL,
        _ => Code::INVALID_ARGUMENT,
    }
}

/// containerd's own shim answers UNKNOWN with runc's words when runc refuses; so do we.
fn runc_code(error: &RuncError) -> Code {
    match error {
        _ if error.is_not_found() => Code::NOT_FOUND,
        RuncError::Deadline { .. } => Code::DEADLINE_EXCEEDED,
        RuncError::Stopping { .. } => Code::UNAVAILABLE,
        RuncError::Ended { .. } => Code::FAILED_PRECONDITION,
        RuncError::Exists { .. } => Code::ALREADY_EXISTS,
        RuncError::Refused { .. } => Code::UNKNOWN,
        RuncError::Start { .. } | RuncError::Result { .. } | RuncError::Reaper { .. } => Code::INTERNAL,
    }
}
