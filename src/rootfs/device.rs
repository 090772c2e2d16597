//! Block devices by their serial, which the host gives each disk because the order of disks is chance.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::RootfsError;

/// How often to look; a disk that is there at the first look costs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What mount(2) takes for a source: `serial:<id>` becomes `/dev/<name>`, all else stays. Waits up to `wait` for the
/// device, without holding a thread.
pub(super) async fn resolve(source: &str, wait: Duration) -> Result<String, RootfsError> {
    match source.strip_prefix("serial:") {
        None => Ok(source.to_owned()),
        Some(serial) => by_serial(Path::new("/sys/block"), serial, wait).await,
    }
}

async fn by_serial(sys_block: &Path, serial: &str, wait: Duration) -> Result<String, RootfsError> {
    let deadline = Instant::now() + wait;
    loop {
        if let Some(name) = find(sys_block, serial) {
            return Ok(format!("/dev/{name}"));
        }
        if Instant::now() >= deadline || serial.is_empty() {
            return Err(RootfsError::NoDevice { serial: serial.to_owned() });
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
    async fn other_sources_are_left_as_they_are() {
        assert_eq!(resolve("/dev/vda", Duration::ZERO).await.unwrap(), "/dev/vda");
        assert_eq!(resolve("tmpfs", Duration::ZERO).await.unwrap(), "tmpfs");
    }
}
