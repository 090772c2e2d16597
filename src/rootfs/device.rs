//! Block devices: by their serial, which the host gives each disk because the order of disks is chance, or by their
//! node in `/dev`, which may be late.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::RootfsError;

/// How often to look; a disk that is there at the first look costs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What mount(2) takes for a source: `serial:<id>` becomes `/dev/<name>`, all else stays. Waits up to `wait` for the
/// device, or for what is named in `/dev`, without holding a thread.
pub(super) async fn resolve(source: &str, wait: Duration) -> Result<String, RootfsError> {
    match source.strip_prefix("serial:") {
        Some(serial) => by_serial(Path::new("/sys/block"), serial, wait).await,
        None if source.starts_with("/dev/") && !source.contains("{{") => by_node(source, wait).await,
        None => Ok(source.to_owned()),
    }
}

async fn by_serial(sys_block: &Path, serial: &str, wait: Duration) -> Result<String, RootfsError> {
    let name = appears(|| find(sys_block, serial), wait).await;
    name.map(|name| format!("/dev/{name}")).ok_or_else(|| RootfsError::NoDevice { serial: serial.to_owned() })
}

/// The node may be anything: a bind of `/dev/null` has nothing to wait for either.
async fn by_node(path: &str, wait: Duration) -> Result<String, RootfsError> {
    let found = appears(|| fs::metadata(path).ok(), wait).await;
    found.map(|_| path.to_owned()).ok_or_else(|| RootfsError::NoNode { path: path.to_owned() })
}

/// Looks at once, then again and again until `wait` is over.
async fn appears<T>(look: impl Fn() -> Option<T>, wait: Duration) -> Option<T> {
    let deadline = Instant::now() + wait;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        tokio::time::sleep_until(deadline.min(Instant::now() + LOOK_EVERY)).await;
    }
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
    use super::*;

    fn disk(sys_block: &Path, name: &str, serial: &str) {
        fs::create_dir(sys_block.join(name)).unwrap();
        fs::write(sys_block.join(name).join("serial"), serial).unwrap();
    }

    #[tokio::test]
    async fn a_disk_is_found_by_its_whole_serial() {
        let sys_block = tempfile::tempdir().unwrap();
        disk(sys_block.path(), "vda", "sbxblk10\n");
        disk(sys_block.path(), "vdb", "sbxblk1\n");
        disk(sys_block.path(), "vdc", "");
        fs::create_dir(sys_block.path().join("loop0")).unwrap();
        let found = |serial| by_serial(sys_block.path(), serial, Duration::ZERO);
        assert_eq!(found("sbxblk1").await.unwrap(), "/dev/vdb");
        assert_eq!(found("sbxblk10").await.unwrap(), "/dev/vda");
        for absent in ["sbxblk", "sbxblk2", ""] {
            assert!(matches!(found(absent).await, Err(RootfsError::NoDevice { serial }) if serial == absent));
        }
    }

    #[tokio::test]
    async fn a_disk_that_appears_late_is_waited_for() {
        let sys_block = tempfile::tempdir().unwrap();
        let plug = async { disk(sys_block.path(), "vda", "late\n") };
        let (found, ()) = tokio::join!(by_serial(sys_block.path(), "late", Duration::from_secs(30)), plug);
        assert_eq!(found.unwrap(), "/dev/vda");
    }

    #[tokio::test]
    async fn a_node_that_appears_late_is_waited_for() {
        let dev = tempfile::tempdir().unwrap();
        let node = dev.path().join("vdx");
        let plug = async { fs::write(&node, "").unwrap() };
        let (found, ()) = tokio::join!(by_node(node.to_str().unwrap(), Duration::from_secs(30)), plug);
        assert_eq!(found.unwrap(), node.to_str().unwrap());
        let absent = resolve("/dev/no-such-disk", Duration::ZERO).await;
        assert!(matches!(absent, Err(RootfsError::NoNode { path }) if path == "/dev/no-such-disk"));
    }

    #[tokio::test]
    async fn other_sources_are_left_as_they_are() {
        for source in ["/dev/null", "tmpfs", "/no/such/path", "/dev/{{ source 0 }}"] {
            assert_eq!(resolve(source, Duration::ZERO).await.unwrap(), source);
        }
    }
}
