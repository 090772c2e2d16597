//! The process in a container whose bytes the benchmarks count: it writes or reads so many, over its stdio or over a
//! connection of its own, the raw floor. Owns both ends of that talk in the guest; never measures anything.
//!
//! `vminitd-bench-peer source|sink BYTES [unix PATH | vsock PORT]`; with an address it listens there and serves one
//! connection. First it writes one byte: it is ready. A source then awaits one byte, and writes its own; a sink reads
//! its bytes, and then writes one.
//!
//! `vminitd-bench-peer echo|exits ADDRESS` serves one connection there without that first byte: an echo writes back what
//! comes; one that exits awaits a byte, writes one, and exits.

mod address;
mod trips;

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

/// Bytes of one read or write: what the budget's floor is measured with.
const BLOCK_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy)]
enum Role {
    Source,
    Sink,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match serve(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vminitd-bench-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(words: &[&str]) -> Result<(), Box<dyn Error>> {
    match words {
        ["echo", address @ ..] => trips::echo(address::accept(address)?)?,
        ["exits", address @ ..] => trips::last_word(address::accept(address)?)?,
        ["source", bytes, address @ ..] => carry(Role::Source, bytes.parse()?, address)?,
        ["sink", bytes, address @ ..] => carry(Role::Sink, bytes.parse()?, address)?,
        _ => return Err("a role and what belongs to it are needed".into()),
    }
    Ok(())
}

fn carry(role: Role, bytes: usize, address: &[&str]) -> Result<(), Box<dyn Error>> {
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
    say(&mut to)?;
    match role {
        Role::Source => {
            from.read_exact(&mut [0])?;
            write(bytes, &mut to)
        }
        Role::Sink => {
            read(bytes, &mut from)?;
            say(&mut to)
        }
    }
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
