//! How a connection of the stream port says which stream it is, and how it is answered. Keeps nothing.
//!
//! By number: u32, big-endian. By name: u32, big-endian, then so many bytes of text. The answer is the same again.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::uri::{StreamId, StreamIds, ID_MAX};

/// What a host says first.
pub(super) struct Hello {
    pub id: StreamId,
    /// As it was sent, which is the answer to a stream that was entered.
    pub bytes: Vec<u8>,
}

/// Reads an id. `InvalidData` if it is too long, empty, or not UTF-8: no URI could name it.
pub(super) async fn read(ids: StreamIds, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Hello> {
    let first = from.read_u32().await?;
    let mut bytes = first.to_be_bytes().to_vec();
    let id = match ids {
        StreamIds::Numeric => Some(StreamId::number(first)),
        StreamIds::Named => read_name(first, from, &mut bytes).await?,
    };
    let id = id.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Hello { id, bytes })
}

async fn read_name(
    len: u32,
    from: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> io::Result<Option<StreamId>> {
    let head = bytes.len();
    let Some(len) = usize::try_from(len).ok().filter(|len| *len <= ID_MAX) else { return Ok(None) };
    bytes.resize(head + len, 0);
    from.read_exact(&mut bytes[head..]).await?;
    Ok(std::str::from_utf8(&bytes[head..]).ok().and_then(|name| StreamIds::Named.parse(name)))
}

/// The answer to a stream whose id another has; `None` where a number is all that could be sent.
pub(super) fn taken(ids: StreamIds, id: &StreamId) -> Option<Vec<u8>> {
    let text = match ids {
        StreamIds::Numeric => return None,
        StreamIds::Named => format!("stream \"{id}\" already exists"),
    };
    // Names are no longer than ID_MAX.
    let len = text.len() as u32;
    Some([&len.to_be_bytes(), text.as_bytes()].concat())
}
