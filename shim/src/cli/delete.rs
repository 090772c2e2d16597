//! The action `delete`: what containerd calls when a shim is gone, or may be. Owns its deadline, its answer and the
//! removal of the socket; what there is to clean up is another's to know.

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use protobuf::{Message, MessageField};
use tokio::time::timeout;
use vminitd_api::containerd::api::DeleteResponse;
use vminitd_api::timestamp;

use super::start::ADDRESS_FILE;
use super::{socket, Call, DeleteError, UNIX};
use crate::state::Deleted;

/// containerd kills the command after 5 s; this leaves it time to say so.
const DEADLINE: Duration = Duration::from_millis(4500);

/// Runs `cleanup` and removes the task's socket; gives the bytes to answer on standard output.
///
/// # Errors
/// `Cleanup` and `Deadline`. containerd then keeps the bundle, and asks again when it starts anew.
pub async fn delete<F, E>(call: &Call, cleanup: F) -> Result<Vec<u8>, DeleteError<E>>
where
    F: Future<Output = Result<Deleted, E>>,
    E: std::error::Error + 'static,
{
    let cleaned = timeout(DEADLINE, cleanup).await.map_err(|_| DeleteError::Deadline(DEADLINE))?;
    let deleted = cleaned.map_err(DeleteError::Cleanup)?;
    if let Some(socket) = socket_left(call) {
        // A shim that ended in order has removed it.
        let _ = fs::remove_file(socket);
    }
    Ok(response(deleted))
}

/// The socket that the bundle names, or where it would be by default. A name that no `start` of this task has made is
/// not believed: it is about to be removed.
fn socket_left(call: &Call) -> Option<PathBuf> {
    let bundle = call.bundle.clone().unwrap_or_default();
    let address = fs::read_to_string(bundle.join(ADDRESS_FILE)).unwrap_or_default();
    let usual = socket::path(None, call);
    match address.trim_end().strip_prefix(UNIX).map(PathBuf::from) {
        Some(named) => (named.file_name() == usual.file_name()).then_some(named),
        None => Some(usual),
    }
}

fn response(deleted: Deleted) -> Vec<u8> {
    let response = DeleteResponse {
        pid: deleted.pid,
        exit_status: deleted.exit.status,
        exited_at: MessageField::some(timestamp(deleted.exit.at)),
        ..Default::default()
    };
    response.write_to_bytes().expect("the message has no required fields")
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::pending;
    use std::io;
    use std::path::Path;
    use std::time::UNIX_EPOCH;

    use crate::state::Exit;

    fn call(bundle: &Path) -> Call {
        let (namespace, id, address) = ("n".into(), "i".into(), "/c.sock".into());
        Call { namespace, id, address, bundle: Some(bundle.to_owned()), debug: false }
    }

    fn deleted() -> Deleted {
        Deleted { pid: 7, exit: Exit { status: 137, at: UNIX_EPOCH + Duration::new(5, 6) } }
    }

    #[tokio::test]
    async fn the_answer_names_pid_status_and_time_and_the_socket_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let call = call(dir.path());
        let socket = socket::path(Some(dir.path()), &call);
        fs::write(&socket, "").unwrap();
        fs::write(dir.path().join(ADDRESS_FILE), format!("{UNIX}{}\n", socket.display())).unwrap();
        let answer = delete(&call, async { Ok::<_, io::Error>(deleted()) }).await.unwrap();
        assert_eq!(answer, b"\x08\x07\x10\x89\x01\x1a\x04\x08\x05\x10\x06");
        assert!(!socket.exists());
    }

    #[tokio::test]
    async fn a_foreign_file_named_as_the_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("precious");
        fs::write(&file, "").unwrap();
        fs::write(dir.path().join(ADDRESS_FILE), format!("{UNIX}{}", file.display())).unwrap();
        delete(&call(dir.path()), async { Ok::<_, io::Error>(deleted()) }).await.unwrap();
        assert!(file.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cleanup_that_hangs_is_given_up_before_containerd_kills_us() {
        let dir = tempfile::tempdir().unwrap();
        let ended = delete(&call(dir.path()), pending::<Result<Deleted, io::Error>>()).await;
        assert!(matches!(ended, Err(DeleteError::Deadline(DEADLINE))));
    }
}
