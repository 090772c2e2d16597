//! Payloads that are made while they are written and forgotten while they are read: only their lengths and checksums
//! are kept.

use std::fmt;
use std::io;
use std::time::Duration;

use crc32fast::Hasher;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use vminitd_test_support::chance::Chance;
use vminitd_test_support::PATIENCE;

/// Bytes of one read or write.
const BLOCK_BYTES: usize = 64 * 1024;

/// Without a single byte for so long, a stream has stopped.
const SILENCE: Duration = PATIENCE;

/// What a payload amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    pub bytes: usize,
    pub crc: u32,
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with checksum {:08x}", self.bytes, self.crc)
    }
}

impl Sum {
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len(), crc: crc32fast::hash(bytes) }
    }
}

/// Writes so much noise.
///
/// # Errors
/// Those of the stream; `TimedOut` if it takes nothing more.
pub async fn write(to: &mut (impl AsyncWrite + Unpin), noise: &mut Chance, bytes: usize) -> io::Result<Sum> {
    let (mut hasher, mut left) = (Hasher::new(), bytes);
    while left > 0 {
        let block = noise.bytes(left.min(BLOCK_BYTES));
        hasher.update(&block);
        timeout(SILENCE, to.write_all(&block)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        left -= block.len();
    }
    Ok(Sum { bytes, crc: hasher.finalize() })
}

/// Reads so many bytes, or fewer if the stream ends before.
///
/// # Errors
/// Those of the stream; `TimedOut` if nothing more comes.
pub async fn read(from: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<Sum> {
    let (mut hasher, mut bytes, mut block) = (Hasher::new(), 0, vec![0; BLOCK_BYTES]);
    while bytes < most {
        let room = (most - bytes).min(BLOCK_BYTES);
        match timeout(SILENCE, from.read(&mut block[..room])).await.map_err(|_| io::ErrorKind::TimedOut)?? {
            0 => break,
            n => {
                hasher.update(&block[..n]);
                bytes += n;
            }
        }
    }
    Ok(Sum { bytes, crc: hasher.finalize() })
}

/// Reads to the end of the stream.
///
/// # Errors
/// As [`read`].
pub async fn read_all(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Sum> {
    read(from, usize::MAX).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_and_what_is_read_have_one_sum() {
        let bytes = 2 * BLOCK_BYTES + 5;
        let mut all = Vec::new();
        let written = write(&mut all, &mut Chance::new(1, 2), bytes).await.unwrap();
        assert_eq!(written, Sum::of(&all));
        assert_eq!(read_all(&mut all.as_slice()).await.unwrap(), written);
        assert_eq!(read(&mut all.as_slice(), 9).await.unwrap(), Sum::of(&all[..9]));
    }
}
