//! Errors of tasks as codes of the wire: the one place that decides them.

use vminitd_api::ttrpc::{self, get_status, Code};

use crate::stdio::UriError;
use crate::task::TaskError;

/// The answer for an error. What the guest answered goes through as it is.
pub(super) fn to_ttrpc(error: TaskError) -> ttrpc::Error {
    if let TaskError::Guest(status) = error {
        return ttrpc::Error::RpcStatus(status);
    }
    ttrpc::Error::RpcStatus(get_status(code(&error), error))
}

/// The answer for a request that makes no sense.
pub(super) fn invalid(text: impl ToString) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(get_status(Code::INVALID_ARGUMENT, text))
}

fn code(error: &TaskError) -> Code {
    use TaskError as E;
    match error {
        E::NoTask(_) | E::NoProcess { .. } | E::Finished(_) => Code::NOT_FOUND,
        E::Exists(_) => Code::ALREADY_EXISTS,
        E::Second { .. } | E::Busy { .. } | E::Unwired(_) | E::Left(_) => Code::FAILED_PRECONDITION,
        E::Uri(UriError::Unsupported { .. }) => Code::UNIMPLEMENTED,
        // Not UNIMPLEMENTED: containerd 2 would take that for a shim of the older API, and ask again.
        E::Refused(_) | E::Annotation(_) | E::Json { .. } | E::Uri(_) => Code::INVALID_ARGUMENT,
        E::Abandoned => Code::CANCELLED,
        E::Late { .. } | E::NoExit(_) => Code::DEADLINE_EXCEEDED,
        E::Lost(_) | E::Client(_) | E::NotReady { .. } => Code::UNAVAILABLE,
        // As containerd's own shim answers what its runtime or the system refuses.
        E::Config { .. } | E::Stdio(_) | E::Rootfs(_) | E::Hook(_) | E::Network(_) => Code::UNKNOWN,
        E::Guest(_) | E::Holder(_) | E::Machine(_) | E::State(_) | E::Blocking(_) => Code::INTERNAL,
    }
}
