//! The end of what a program says. Owns a bound: whatever a guest makes its machine say, this keeps the last of it
//! only, and nothing on a disk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What fits an error message: some 25 lines, which have the cause as a rule.
const TAIL: usize = 2000;
/// A pipe gives up to a page at a time when lines are written.
const CHUNK: usize = 4096;

/// The last [`TAIL`] bytes; clones are of the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    pub(super) fn add(&self, bytes: &[u8]) {
        let mut kept = self.kept();
        kept.extend(bytes);
        let surplus = kept.len().saturating_sub(TAIL);
        kept.drain(..surplus);
    }

    /// As text; bytes that are none are replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(self.kept().make_contiguous()).trim().to_string()
    }

    /// Takes all of `from` until it ends, and passes it on to the log of the host, under `name`.
    pub(super) async fn follow(self, name: &'static str, mut from: impl AsyncRead + Unpin) {
        let mut chunk = [0; CHUNK];
        while let Ok(n @ 1..) = from.read(&mut chunk).await {
            self.add(&chunk[..n]);
            tracing::debug!(target: "vm", part = name, "{}", String::from_utf8_lossy(&chunk[..n]).trim_end());
        }
    }

    /// Bytes are whole whatever happened to who wrote them.
    fn kept(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_last_bytes_are_kept() {
        let tail = Tail::default();
        let said = [vec![b'x'; 3 * CHUNK], b"the end\xff\n".to_vec()].concat();
        tail.clone().follow("test", said.as_slice()).await;
        let text = tail.text();
        assert!(text.ends_with("xthe end\u{fffd}"), "{text}");
        assert_eq!(tail.kept().len(), TAIL);
    }
}
