//! The bytes that the benchmarks count: written or read, over stdio or over a connection of the peer's own, the raw
//! floor. Owns the guest's end of that talk; never measures anything.
//!
//! The peer first writes one byte: it is ready. A source then awaits one byte, and writes its own; a sink reads its bytes,
//! and then writes one. A relay is a source to its connection; the bytes come from a source that it starts, through a
//! pipe.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::unistd::pipe2;

use crate::address;

/// Bytes of one read or write: what the budget's floor is measured with.
const BLOCK_BYTES: usize = 64 * 1024;

/// What the pipe of a bare relay holds, and what it moves at once: as much as a relay of the daemon does
/// (`RELAY_BYTES` in its io/relay.rs).
const RELAY_BYTES: usize = 256 * 1024;

#[derive(Clone, Copy)]
pub enum Role {
    Source,
    Sink,
    /// The least that stands between a process and its host, if its stdout is to be a pipe: a loop of two blocking calls.
    Relay,
}

/// Moves so many bytes over a connection to this address, or over stdio without one.
///
/// # Errors
/// Those of the address, and of the connection.
pub fn carry(role: Role, bytes: usize, address: &[&str]) -> Result<(), Box<dyn Error>> {
    if address.is_empty() {
        // Without the buffers of the standard library, which look for the ends of lines.
        let from = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        talk(role, bytes, from, File::from(io::stdout().as_fd().try_clone_to_owned()?))?;
    } else {
        let socket = address::accept(address)?;
        talk(role, bytes, &socket, &socket)?;
        until_closed(&socket)?;
    }
    Ok(())
}

fn talk(role: Role, bytes: usize, mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    match role {
        Role::Source => {
            say(&mut to)?;
            from.read_exact(&mut [0])?;
            write(bytes, &mut to)
        }
        Role::Sink => {
            say(&mut to)?;
            read(bytes, &mut from)?;
            say(&mut to)
        }
        Role::Relay => relay(bytes, &mut from, &mut to),
    }
}

/// Both bytes of the talk are passed on as well.
#[expect(clippy::disallowed_methods, reason = "the peer is not PID 1")]
fn relay(bytes: usize, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let (pipe, stdout) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(RELAY_BYTES as i32))?;
    let mut source = Command::new(env::current_exe()?)
        .args(["source", &bytes.to_string()])
        .stdin(Stdio::piped())
        .stdout(stdout)
        .spawn()?;
    let mut pipe = File::from(pipe);
    pipe.read_exact(&mut [0])?;
    say(to)?;
    from.read_exact(&mut [0])?;
    // Dropped with the word: the source reads no more.
    source.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(&[0]))?;
    let mut block = vec![0; RELAY_BYTES];
    while let n @ 1.. = pipe.read(&mut block)? {
        to.write_all(&block[..n])?;
    }
    source.wait().map(drop)
}

fn say(to: &mut impl Write) -> io::Result<()> {
    to.write_all(&[0])?;
    to.flush()
}

fn write(bytes: usize, to: &mut impl Write) -> io::Result<()> {
    let block = [0; BLOCK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let n = left.min(BLOCK_BYTES);
        to.write_all(&block[..n])?;
        left -= n;
    }
    to.flush()
}

fn read(bytes: usize, from: &mut impl Read) -> io::Result<()> {
    let mut block = [0; BLOCK_BYTES];
    let mut left = bytes;
    while left > 0 {
        match from.read(&mut block[..left.min(BLOCK_BYTES)])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => left -= n,
        }
    }
    Ok(())
}

/// The host closes once it has counted everything; a close of ours might overtake the last bytes.
fn until_closed(mut stream: impl Read) -> io::Result<()> {
    stream.read(&mut [0]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: Role, bytes: usize, input: &[u8]) -> io::Result<usize> {
        let mut output = Vec::new();
        talk(role, bytes, input, &mut output).map(|()| output.len())
    }

    #[test]
    fn a_source_writes_its_bytes_once_it_is_told_to() {
        let bytes = BLOCK_BYTES + 3;
        assert_eq!(said(Role::Source, bytes, &[0]).unwrap(), 1 + bytes);
        assert_eq!(said(Role::Source, bytes, &[]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_sink_answers_when_it_has_read_all() {
        let bytes = BLOCK_BYTES + 3;
        assert_eq!(said(Role::Sink, bytes, &vec![0; bytes]).unwrap(), 2);
        let too_few = said(Role::Sink, bytes, &vec![0; bytes - 1]);
        assert_eq!(too_few.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
