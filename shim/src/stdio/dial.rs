//! The guest's side of the relays: which streams a process needs, and their names. Never moves a byte.

use tokio::net::UnixStream;

use super::uri::{Outputs, StdioSpec};
use crate::client::{ClientError, Streams};

/// The host's ends of the streams of one process. What its spec does not name is absent.
#[derive(Debug, Default)]
pub struct GuestEnds {
    /// The names for the guest's request: stdin, stdout, stderr.
    pub uris: [String; 3],
    pub stdin: Option<UnixStream>,
    /// Carries stderr too, if both go to one place: the guest gives a process that names one stream twice one pipe for
    /// both, so the order of its writes is kept.
    pub stdout: Option<UnixStream>,
    pub stderr: Option<UnixStream>,
}

impl StdioSpec {
    /// Opens a stream for each that goes somewhere, with an unused number from `next` for each. The guest's Create or
    /// Exec must name them within a minute. It waits for as long as the guest does not answer.
    ///
    /// # Errors
    /// `ClientError::Stream`.
    pub async fn dial(
        &self,
        streams: &Streams,
        mut next: impl FnMut() -> u32,
    ) -> Result<GuestEnds, ClientError> {
        let (stdout, stderr) = match &self.outputs {
            Outputs::Apart { stdout, stderr } => (stdout.is_some(), stderr.is_some()),
            Outputs::Together(_) => (true, false),
            Outputs::Logger { stderr, .. } => (true, *stderr),
        };
        let mut ends = GuestEnds::default();
        (ends.uris[0], ends.stdin) = open(streams, self.stdin.is_some(), &mut next).await?;
        (ends.uris[1], ends.stdout) = open(streams, stdout, &mut next).await?;
        (ends.uris[2], ends.stderr) = open(streams, stderr, &mut next).await?;
        if let Outputs::Together(_) = self.outputs {
            ends.uris[2] = ends.uris[1].clone();
        }
        Ok(ends)
    }
}

async fn open(
    streams: &Streams,
    wanted: bool,
    next: &mut impl FnMut() -> u32,
) -> Result<(String, Option<UnixStream>), ClientError> {
    if !wanted {
        return Ok(Default::default());
    }
    let id = next();
    let socket = streams.open(id).await.map_err(|source| ClientError::Stream { id, source })?;
    Ok((Streams::uri(id), Some(socket)))
}
