//! The guest's serial console: its beginning copied to a file, all of it to the log, searched for milestones. Never
//! writes to the guest.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::tail::Tail;
use super::VmError;

/// What a milestone line begins with; the kernel may have written something before it on the same line.
const MARK: &str = "VMINITD_READY ";
/// What is kept of a console on the disk: dozens of boots. A guest that writes for ever must not fill the host.
const LOG_MAX: usize = 256 << 10;
/// What the log ends with if there was more.
const CUT: &[u8] = b"\n[the rest of the console is not kept]\n";
/// Milestones that are kept, of the dozen that a boot has: a guest may write what looks like them for ever.
const MILESTONES: usize = 64;
/// A longer line is cut into pieces: a guest that never writes a newline must not fill our memory.
const LINE_MAX: usize = 4096;

/// A point that the guest's boot has reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Milestone {
    pub phase: String,
    /// Microseconds of the guest's own clock since its kernel started.
    pub uptime_us: u64,
    /// By the host's clock, since the launch.
    pub at: Duration,
}

/// What the console has shown so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    milestones: Vec<Milestone>,
    ended: bool,
}

/// The console of one machine.
#[derive(Debug)]
pub(super) struct Console {
    seen: watch::Receiver<Seen>,
    tail: Tail,
}

impl Console {
    /// A machine without a console: every wait fails at once.
    pub(super) fn none() -> Console {
        let (_, seen) = watch::channel(Seen { ended: true, ..Seen::default() });
        Console { seen, tail: Tail::default() }
    }

    /// Begins to copy `from` to the file `to`, in the background, until it ends.
    pub(super) fn copy(
        from: impl AsyncRead + Unpin + Send + 'static,
        to: PathBuf,
        launch: Instant,
    ) -> Console {
        let (tell, seen) = watch::channel(Seen::default());
        let tail = Tail::default();
        let said = tail.clone();
        tokio::spawn(async move {
            if let Err(e) = copy(from, &to, &said, launch, &tell).await {
                tracing::warn!(file = %to.display(), "console copy ended: {e}");
            }
            tell.send_modify(|seen| seen.ended = true);
        });
        Console { seen, tail }
    }

    /// The last of it, as much as a [`Tail`] keeps.
    pub(super) fn tail(&self) -> String {
        self.tail.text()
    }

    /// Waits for the milestone number `index`, counted from 0; `None` once the console has ended without it.
    pub(super) async fn nth(&self, index: usize) -> Option<Milestone> {
        let mut seen = self.seen.clone();
        let seen = seen.wait_for(|seen| seen.ended || seen.milestones.len() > index).await.ok()?;
        seen.milestones.get(index).cloned()
    }

    pub(super) async fn wait(&self, phase: &str, within: Duration) -> Result<Milestone, VmError> {
        let found = timeout(within, async {
            let mut index = 0;
            while let Some(milestone) = self.nth(index).await {
                if milestone.phase == phase {
                    return Some(milestone);
                }
                index += 1;
            }
            None
        });
        match found.await {
            Ok(Some(milestone)) => Ok(milestone),
            Ok(None) => Err(VmError::NoConsole { phase: phase.to_string() }),
            Err(_) => Err(VmError::Timeout { what: format!("phase {phase}"), within }),
        }
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    to: &PathBuf,
    tail: &Tail,
    launch: Instant,
    tell: &watch::Sender<Seen>,
) -> std::io::Result<()> {
    let mut file = File::create(to).await?;
    let (mut chunk, mut line, mut room) = ([0; LINE_MAX], Vec::new(), LOG_MAX);
    loop {
        let n = from.read(&mut chunk).await?;
        if n == 0 {
            return Ok(());
        }
        tail.add(&chunk[..n]);
        keep(&mut file, &chunk[..n], &mut room).await?;
        for byte in &chunk[..n] {
            if *byte != b'\n' && line.len() < LINE_MAX {
                line.push(*byte);
                continue;
            }
            show(&String::from_utf8_lossy(&line), launch, tell);
            line.clear();
        }
    }
}

/// Writes what there is room for, and at the end of it that there was more.
async fn keep(file: &mut File, bytes: &[u8], room: &mut usize) -> std::io::Result<()> {
    if *room == 0 {
        return Ok(());
    }
    let kept = bytes.len().min(*room);
    *room -= kept;
    file.write_all(&bytes[..kept]).await?;
    if *room == 0 {
        file.write_all(CUT).await?;
    }
    // tokio's files write in the background; someone may read this one as soon as the line is announced.
    file.flush().await
}

fn show(line: &str, launch: Instant, tell: &watch::Sender<Seen>) {
    let line = line.trim_end();
    tracing::debug!(target: "console", "{line}");
    if let Some((phase, uptime_us)) = parse(line) {
        let milestone = Milestone { phase, uptime_us, at: launch.elapsed() };
        tell.send_if_modified(|seen| {
            let room = seen.milestones.len() < MILESTONES;
            if room {
                seen.milestones.push(milestone);
            }
            room
        });
    }
}

/// Reads `VMINITD_READY uptime_us=<n> phase=<name>`.
fn parse(line: &str) -> Option<(String, u64)> {
    let fields = &line[line.find(MARK)? + MARK.len()..];
    let field = |key: &str| fields.split_whitespace().find_map(|f| f.strip_prefix(key)?.strip_prefix('='));
    Some((field("phase")?.to_string(), field("uptime_us")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_milestone_is_found_anywhere_in_its_line() {
        let seen = parse("[    1.3] VMINITD_READY uptime_us=1412345 phase=serve");
        assert_eq!(seen, Some(("serve".to_string(), 1_412_345)));
    }

    #[test]
    fn a_damaged_milestone_is_none() {
        for line in ["", "VMINITD_READY", "VMINITD_READY phase=x", "VMINITD_READY uptime_us=x phase=y"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[tokio::test]
    async fn a_console_that_ends_without_the_phase_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let text = b"hello\nVMINITD_READY uptime_us=1 phase=serve\r\n".as_slice();
        let console = Console::copy(text, dir.path().join("console.log"), Instant::now());
        let minute = Duration::from_secs(60);
        assert_eq!(console.wait("serve", minute).await.unwrap().uptime_us, 1);
        assert!(matches!(console.wait("other", minute).await, Err(VmError::NoConsole { .. })));
        assert_eq!(std::fs::read(dir.path().join("console.log")).unwrap(), text);
    }

    #[tokio::test]
    async fn a_guest_that_writes_for_ever_fills_neither_disk_nor_memory() {
        let dir = tempfile::tempdir().unwrap();
        let (log, line) =
            (dir.path().join("console.log"), b"VMINITD_READY uptime_us=1 phase=again\n".as_slice());
        let text = line.repeat(2 * LOG_MAX / line.len());
        let console = Console::copy(std::io::Cursor::new(text), log.clone(), Instant::now());
        assert_eq!(console.nth(MILESTONES).await, None);
        let kept = std::fs::read(log).unwrap();
        assert_eq!(kept.len(), LOG_MAX + CUT.len());
        assert!(kept.ends_with(CUT));
        assert!(console.tail().ends_with("phase=again"));
    }
}
