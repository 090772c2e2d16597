//! The guest's ends of what is timed one by one: the echo, which is the floor of a call, and the last word of a process
//! that ends. Owns both talks; measures nothing.

use std::io::{self, Read, Write};

/// Bytes of a message that an echo can take in one piece; a request has some hundred.
const MESSAGE_BYTES: usize = 4096;

/// Writes back whatever comes, until the host closes.
pub fn echo(mut socket: impl Read + Write) -> io::Result<()> {
    let mut message = [0; MESSAGE_BYTES];
    loop {
        match socket.read(&mut message)? {
            0 => return Ok(()),
            n => socket.write_all(&message[..n])?,
        }
    }
}

/// Awaits one byte and writes one. The caller exits at once: what the host gets after the byte is news of that.
pub fn last_word(mut socket: impl Read + Write) -> io::Result<()> {
    socket.read_exact(&mut [0])?;
    socket.write_all(&[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::net::UnixStream;
    use std::thread;

    #[test]
    fn an_echo_writes_back_what_comes_until_it_is_closed() {
        let (mut host, guest) = UnixStream::pair().unwrap();
        let echo = thread::spawn(move || echo(guest));
        for message in [&b"a"[..], b"bcd"] {
            host.write_all(message).unwrap();
            let mut back = vec![0; message.len()];
            host.read_exact(&mut back).unwrap();
            assert_eq!(back, message);
        }
        drop(host);
        echo.join().unwrap().unwrap();
    }

    #[test]
    fn a_last_word_is_said_once_it_is_asked_for() {
        let (mut host, guest) = UnixStream::pair().unwrap();
        host.write_all(&[0]).unwrap();
        last_word(guest).unwrap();
        let mut said = Vec::new();
        host.read_to_end(&mut said).unwrap();
        assert_eq!(said, [0]);
    }
}
