//! Listening: accept never gives up, sockets are private, and connections come and go without a trace.

use std::cell::RefCell;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use tempfile::TempDir;

use super::*;
use crate::wire::listen::Backoff;
use crate::wire::{accept_loop, Address, Listener};

fn bind(path: &Path) -> io::Result<Listener> {
    Listener::bind(&Address::Unix(path.to_owned()))
}

#[tokio::test]
async fn a_socket_is_private_and_replaces_a_stale_one_only() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("rpc.sock");
    drop(bind(&path).expect("it binds"));
    let _listener = bind(&path).expect("a stale socket is replaced");
    let mode = path.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let file = folder.path().join("precious");
    std::fs::write(&file, "kept").expect("it is written");
    assert_eq!(bind(&file).err().and_then(|e| e.raw_os_error()), Some(libc::EADDRINUSE));
    assert_eq!(std::fs::read(&file).expect("it is there"), b"kept");
}

#[test]
fn pauses_double_to_a_second_and_one_connections_errors_need_none() {
    let mut backoff = Backoff::default();
    let mut pause = |errno: Errno| backoff.next_pause(&errno.into()).map(|pause| pause.as_millis());
    for errno in [Errno::EINTR, Errno::ECONNABORTED] {
        assert_eq!(pause(errno), None, "ttrpc-rust#217, #239, #240");
    }
    for expected in [10, 20, 40, 80, 160, 320, 640, 1000, 1000] {
        assert_eq!(pause(Errno::EMFILE), Some(expected));
    }
}

/// ttrpc-rust#217, #239, #240, #270, #271, #297: no error of accept ends or spins the server.
#[tokio::test]
async fn accept_survives_every_error() {
    let script = [Errno::EINTR, Errno::ECONNABORTED, Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
    let script = RefCell::new(script.into_iter());
    let mut backoff = Backoff::default();
    let accept =
        || future::ready(script.borrow_mut().next().map_or(Ok("accepted"), |errno| Err(errno.into())));
    assert_eq!(soon(backoff.retry(accept)).await, "accepted");
    // The episode is over: the next one begins small.
    assert_eq!(backoff.next_pause(&Errno::EMFILE.into()), Some(Duration::from_millis(10)));
}

/// ttrpc-rust#284, #298, #300: hosts probe with a connection twice a second for ever.
#[tokio::test]
async fn a_thousand_connections_come_and_go() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("rpc.sock");
    let listener = bind(&path).expect("it binds");
    let (stop, stopped) = watch::channel(false);
    let router = router(&Probe::new());
    let ended = Arc::new(Semaphore::new(0));
    let accepting = tokio::spawn({
        let ended = ended.clone();
        accept_loop(listener, stopped.clone(), move |socket| {
            let (router, stopped, ended) = (router.clone(), stopped.clone(), ended.clone());
            tokio::spawn(async move {
                crate::wire::serve(socket, router, SETTINGS, stopped).await;
                ended.add_permits(1);
            });
        })
    });
    for n in 0..1000 {
        let mut socket = soon(UnixStream::connect(&path)).await.expect("it connects");
        if n % 2 == 0 {
            socket.write_all(&[0; HEADER_LEN]).await.expect("the server reads");
            let mut header = [0; HEADER_LEN];
            soon(socket.read_exact(&mut header)).await.expect("the ping is answered");
        }
    }
    happened(&ended, 1000).await;
    stop.send_replace(true);
    soon(accepting).await.expect("accepting does not panic");
    assert!(UnixStream::connect(&path).await.is_err(), "the listener is closed");
}
