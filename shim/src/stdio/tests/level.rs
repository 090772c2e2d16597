//! Nothing is left behind: the FIFOs and files of a test are open nowhere in this process once they were released.

use std::fs;
use std::path::Path;

use super::*;

/// What the descriptors of this process are. Others come and go with tests beside this one.
fn open() -> Vec<PathBuf> {
    let fds = fs::read_dir("/proc/self/fd").unwrap();
    fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).collect()
}

pub(super) fn is_open(what: &Path) -> bool {
    open().iter().any(|target| target == what)
}

fn open_in(dir: &Path) -> usize {
    open().iter().filter(|target| target.starts_with(dir)).count()
}

#[tokio::test]
async fn a_release_closes_every_end_even_of_relays_that_are_stuck() {
    let host = Host::new();
    let (stdin, stdout, file) = (host.fifo("i"), host.fifo("o"), host.uri("file://", "log"));
    for _ in 0..50 {
        let (relays, guest) = host.relay(&stdin, &stdout, &file).await;
        assert_eq!(open_in(host.dir.path()), 5);
        let stuck = send(guest.stdout.unwrap(), 1 << 20);
        assert!(!relays.drained(Duration::from_millis(1)).await);
        soon(relays.release()).await;
        assert_eq!(open_in(host.dir.path()), 0);
        assert!(soon(stuck).await.is_err());
    }
}

#[tokio::test]
async fn ends_that_cannot_all_be_opened_are_all_closed() {
    let host = Host::new();
    let (stdin, stdout) = (host.fifo("i"), host.fifo("o"));
    let spec = StdioSpec::parse(false, &stdin, &stdout, &host.uri("", "missing")).unwrap();
    assert!(Ends::open(&spec, OWNER).await.is_err());
    assert_eq!(open_in(host.dir.path()), 0);
}
