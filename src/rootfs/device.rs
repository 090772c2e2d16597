//! Block devices: by their serial, which the host gives each disk because the order of disks is chance, or by their
//! node in `/dev`, which may be late.
//!
//! A serial is read from the device (virtio-blk asks the host each time), and a host that does not answer holds the
//! reader for good. So each look has a thread for blocking work that may be lost, and never more than a few are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{Mount, RootfsError};

/// How often to look; a disk that is there at the first look costs little.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks at a time in the whole process, and so the threads that can be lost. Mounts have a share of the threads for
/// blocking work as well, and some have to be left for everything else.
const LOOKS_MAX: usize = 2;

static TURNS: Semaphore = Semaphore::const_new(LOOKS_MAX);

/// File systems of block devices. Of any other type a source in `/dev` may be but a name (the tag of a virtiofs), or
/// what is to be bound. /proc/filesystems would tell, but not of those whose module has yet to be loaded.
const ON_DISK: [&str; 14] = [
    "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "msdos", "ntfs3", "squashfs",
    "udf", "vfat", "xfs",
];

/// What mount(2) takes for the source of `mount`: `serial:<id>` becomes `/dev/<name>`, all else stays. Waits up to
/// `wait` for the device, or for the node in `/dev` that a file system of disks is on; a look that has not ended by
/// then has found nothing. Holds no thread between two looks.
pub(super) async fn resolve(mount: &Mount, wait: Duration) -> Result<String, RootfsError> {
    let source = &mount.source;
    match source.strip_prefix("serial:") {
        Some(serial) => by_serial(&TURNS, Path::new("/sys/block"), serial, wait).await,
        None if is_node(mount) => by_node(&TURNS, source, wait).await,
        None => Ok(source.clone()),
    }
}

/// A template has no device yet: it names that of an earlier mount.
fn is_node(mount: &Mount) -> bool {
    let kind = mount.kind.rsplit('/').next().unwrap_or_default();
    ON_DISK.contains(&kind) && mount.source.starts_with("/dev/") && !mount.source.contains("{{")
}

async fn by_serial(
    turns: &'static Semaphore,
    sys_block: &Path,
    serial: &str,
    wait: Duration,
) -> Result<String, RootfsError> {
    let sought = (sys_block.to_owned(), serial.to_owned());
    let name = appears(turns, wait, sought, |(sys_block, serial)| find(sys_block, serial)).await;
    name.map(|name| format!("/dev/{name}")).ok_or_else(|| RootfsError::NoDevice { serial: serial.to_owned() })
}

/// The node may be anything: mount(2) has the better words for what is no disk.
async fn by_node(turns: &'static Semaphore, path: &str, wait: Duration) -> Result<String, RootfsError> {
    let found = appears(turns, wait, PathBuf::from(path), |path| fs::metadata(path).ok()).await;
    found.map(|_| path.to_owned()).ok_or_else(|| RootfsError::NoNode { path: path.to_owned() })
}

/// Looks at once, then again and again until `wait` is over, with one look at a time.
async fn appears<S, T>(
    turns: &'static Semaphore,
    wait: Duration,
    sought: S,
    look: fn(&S) -> Option<T>,
) -> Option<T>
where
    S: Clone + Send + 'static,
    T: Send + 'static,
{
    let looking = async {
        loop {
            if let Some(found) = look_once(turns, sought.clone(), look).await {
                return found;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(wait, looking).await.ok()
}

/// The turn goes with the look: one that hangs keeps it, whoever has ceased to wait.
async fn look_once<S, T>(turns: &'static Semaphore, sought: S, look: fn(&S) -> Option<T>) -> Option<T>
where
    S: Send + 'static,
    T: Send + 'static,
{
    let turn = turns.acquire().await.expect("this semaphore is never closed");
    let looked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        look(&sought)
    });
    looked.await.ok().flatten()
}

/// A device that comes or goes during the look is as good as absent.
fn find(sys_block: &Path, serial: &str) -> Option<String> {
    let has_serial = |entry: &fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        !serial.is_empty() && text.trim() == serial
    };
    let entry = fs::read_dir(sys_block).ok()?.flatten().find(has_serial)?;
    entry.file_name().into_string().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt;

    use nix::sys::stat::Mode;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);
    /// For what never comes; some looks long.
    const SHORT: Duration = Duration::from_millis(200);

    fn disk(sys_block: &Path, name: &str, serial: &str) {
        fs::create_dir(sys_block.join(name)).unwrap();
        fs::write(sys_block.join(name).join("serial"), serial).unwrap();
    }

    fn source(kind: &str, source: &str) -> Mount {
        Mount { kind: kind.into(), source: source.into(), target: String::new(), options: Vec::new() }
    }

    /// Turns of this test's own.
    fn turns() -> &'static Semaphore {
        Box::leak(Box::new(Semaphore::new(LOOKS_MAX)))
    }

    #[tokio::test]
    async fn a_disk_is_found_by_its_whole_serial() {
        let sys_block = tempfile::tempdir().unwrap();
        disk(sys_block.path(), "vda", "sbxblk10\n");
        disk(sys_block.path(), "vdb", "sbxblk1\n");
        disk(sys_block.path(), "vdc", "");
        fs::create_dir(sys_block.path().join("loop0")).unwrap();
        let found = |serial, wait| by_serial(turns(), sys_block.path(), serial, wait);
        assert_eq!(found("sbxblk1", LONG).await.unwrap(), "/dev/vdb");
        assert_eq!(found("sbxblk10", LONG).await.unwrap(), "/dev/vda");
        for absent in ["sbxblk", "sbxblk2", ""] {
            let refused = found(absent, SHORT).await;
            assert!(matches!(refused, Err(RootfsError::NoDevice { serial }) if serial == absent));
        }
    }

    #[tokio::test]
    async fn a_disk_that_appears_late_is_waited_for() {
        let sys_block = tempfile::tempdir().unwrap();
        let plug = async { disk(sys_block.path(), "vda", "late\n") };
        let (found, ()) = tokio::join!(by_serial(turns(), sys_block.path(), "late", LONG), plug);
        assert_eq!(found.unwrap(), "/dev/vda");
    }

    #[tokio::test]
    async fn a_node_that_appears_late_is_waited_for() {
        let dev = tempfile::tempdir().unwrap();
        let node = dev.path().join("vdx");
        let plug = async { fs::write(&node, "").unwrap() };
        let (found, ()) = tokio::join!(by_node(turns(), node.to_str().unwrap(), LONG), plug);
        assert_eq!(found.unwrap(), node.to_str().unwrap());
        for kind in ["ext4", "format/mkdir/erofs"] {
            let absent = resolve(&source(kind, "/dev/no-such-disk"), SHORT).await;
            assert!(matches!(absent, Err(RootfsError::NoNode { path }) if path == "/dev/no-such-disk"));
        }
    }

    #[tokio::test]
    async fn what_is_no_device_is_left_as_it_is() {
        for (kind, text) in [
            ("ext4", "/dev/null"),
            ("ext4", "/no/such/path"),
            ("format/ext4", "/dev/{{ source 0 }}"),
            ("tmpfs", "tmpfs"),
            ("virtiofs", "/dev/root"),
            ("mkdir/9p", "/dev/root"),
            ("overlay", "/dev/overlay"),
            ("bind", "/dev/no-such-node"),
        ] {
            assert_eq!(resolve(&source(kind, text), LONG).await.unwrap(), text);
        }
    }

    /// As a FIFO without a writer does, so does a disk hang whose host does not answer.
    #[tokio::test]
    async fn looks_that_hang_are_few_and_hold_up_nobody_beyond_the_wait() {
        let [hanging, fine] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        disk(fine.path(), "vda", "fine");
        let fifo = hanging.path().join("vda").join("serial");
        fs::create_dir(hanging.path().join("vda")).unwrap();
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let turns = turns();
        for left in (0..LOOKS_MAX).rev() {
            let stalled = by_serial(turns, hanging.path(), "stalled", SHORT).await;
            assert!(matches!(stalled, Err(RootfsError::NoDevice { .. })));
            assert_eq!(turns.available_permits(), left, "a wait of many looks holds one thread");
        }
        let out_of_turn = by_serial(turns, fine.path(), "fine", SHORT).await;
        assert!(matches!(out_of_turn, Err(RootfsError::NoDevice { .. })));

        let all_back = async {
            while turns.available_permits() < LOOKS_MAX {
                // It fails as long as nobody reads; closed again, it is the end of what there is to read.
                let _ = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&fifo);
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, all_back).await.unwrap();
        assert_eq!(by_serial(turns, fine.path(), "fine", LONG).await.unwrap(), "/dev/vda");
    }
}
