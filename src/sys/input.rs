//! Input devices: what keys one has, and which are pressed, as the kernel's evdev tells it
//! (Documentation/input/input.rst).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

/// The key of a power button (linux/input-event-codes.h, KEY_POWER).
pub const KEY_POWER: u16 = 116;
/// A key that every keyboard has (linux/input-event-codes.h, KEY_SPACE).
pub const KEY_SPACE: u16 = 57;

/// The type of the events of keys (linux/input-event-codes.h, EV_KEY), and their value when one goes down.
const EV_KEY: u16 = 1;
const DOWN: i32 = 1;

/// Room for one bit for each key there may be (linux/input-event-codes.h, KEY_MAX is 0x2ff).
const KEYS_BYTES: usize = 0x300 / 8;
/// The longest name that is asked for, its end included.
const NAME_BYTES: usize = 64;
/// Events that one read takes; a press of a key is two of them, and so is its release.
const EVENTS: usize = 16;
const EVENT_BYTES: usize = size_of::<libc::input_event>();

// EVIOCGNAME(len) and EVIOCGBIT(EV_KEY, len) of linux/input.h.
nix::ioctl_read_buf!(eviocgname, b'E', 0x06, u8);
nix::ioctl_read_buf!(eviocgbit_key, b'E', 0x20 + EV_KEY, u8);

/// One input device, open for reading.
#[derive(Debug)]
pub struct Device(AsyncFd<File>);

impl Device {
    /// Opens `/dev/input/event<n>`. Needs a tokio runtime; does not block.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Device> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        // SAFETY: the descriptor is owned by the File inside and closed with it, after it was deregistered.
        let registered = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) };
        Ok(Device(registered.map_err(|error| error.into_parts().1)?))
    }

    /// What its driver calls it.
    ///
    /// # Errors
    /// `ENOTTY` of what is no input device, `ENODEV` of one that has gone.
    pub fn name(&self) -> io::Result<String> {
        let mut name = [0; NAME_BYTES];
        // SAFETY: the kernel writes no more than the length of the slice.
        unsafe { eviocgname(self.0.get_ref().as_raw_fd(), &mut name) }?;
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        Ok(String::from_utf8_lossy(&name[..length]).into_owned())
    }

    /// Which keys it has.
    ///
    /// # Errors
    /// As [`name`](Self::name).
    pub fn keys(&self) -> io::Result<Keys> {
        let mut keys = Keys([0; KEYS_BYTES]);
        // SAFETY: the kernel writes no more than the length of the slice.
        unsafe { eviocgbit_key(self.0.get_ref().as_raw_fd(), &mut keys.0) }?;
        Ok(keys)
    }

    /// Waits until `key` goes down. Dropping the future may lose presses.
    ///
    /// # Errors
    /// `ENODEV` when the device has gone.
    pub async fn pressed(&self, key: u16) -> io::Result<()> {
        let mut events = [0; EVENTS * EVENT_BYTES];
        loop {
            let read = |mut device: &File| device.read(&mut events);
            let n = self.0.async_io(Interest::READABLE, read).await?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if events[..n].chunks_exact(EVENT_BYTES).any(|event| goes_down(event, key)) {
                return Ok(());
            }
        }
    }
}

/// Type, code and value are the last eight bytes of an event, behind its time (linux/input.h).
fn goes_down(event: &[u8], key: u16) -> bool {
    let mut expected = [0; 8];
    expected[..2].copy_from_slice(&EV_KEY.to_ne_bytes());
    expected[2..4].copy_from_slice(&key.to_ne_bytes());
    expected[4..].copy_from_slice(&DOWN.to_ne_bytes());
    event.ends_with(&expected)
}

/// A set of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys([u8; KEYS_BYTES]);

impl Keys {
    /// Whether `key` is one of them.
    pub fn has(&self, key: u16) -> bool {
        let (byte, bit) = (usize::from(key / 8), key % 8);
        self.0.get(byte).is_some_and(|bits| bits & 1 << bit != 0)
    }
}

#[cfg(test)]
impl FromIterator<u16> for Keys {
    fn from_iter<T: IntoIterator<Item = u16>>(keys: T) -> Keys {
        let mut bits = [0; KEYS_BYTES];
        keys.into_iter().for_each(|key| bits[usize::from(key / 8)] |= 1 << (key % 8));
        Keys(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut event = vec![0xff; EVENT_BYTES - 8];
        event.extend(kind.to_ne_bytes());
        event.extend(code.to_ne_bytes());
        event.extend(value.to_ne_bytes());
        event
    }

    #[test]
    fn a_press_is_neither_a_release_nor_a_repetition_nor_another_key() {
        for (kind, code, value, expected) in [
            (EV_KEY, KEY_POWER, 1, true),
            (EV_KEY, KEY_POWER, 0, false),
            (EV_KEY, KEY_POWER, 2, false),
            (EV_KEY, KEY_SPACE, 1, false),
            (0, 0, 0, false),
        ] {
            assert_eq!(goes_down(&event(kind, code, value), KEY_POWER), expected, "{kind} {code} {value}");
        }
    }

    #[test]
    fn a_set_has_the_keys_that_were_put_in() {
        let keys: Keys = [KEY_POWER, 0].into_iter().collect();
        assert_eq!(
            [0, 1, KEY_SPACE, KEY_POWER, u16::MAX].map(|key| keys.has(key)),
            [true, false, false, true, false]
        );
    }

    #[tokio::test]
    async fn what_is_no_input_device_has_no_keys() {
        let device = Device::open(Path::new("/dev/zero"));
        // It cannot be waited for either: epoll refuses some devices at once.
        if let Ok(device) = device {
            assert!(device.keys().is_err() && device.name().is_err());
        }
    }
}
