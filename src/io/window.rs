//! containerd's flow control for bytes in messages, as two counters without IO. Each receiver grants credit in windows
//! of 64 KiB; each sender sends no more than it was granted, in messages of at most 32 KiB.

/// What a receiver grants at a time, in bytes (containerd, core/transfer/streaming: `windowSize`).
pub const WINDOW_BYTES: usize = 64 * 1024;

/// The most bytes of one message (containerd, core/transfer/streaming: `maxRead`).
pub const MESSAGE_BYTES: usize = 32 * 1024;

/// The peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("{sent} bytes were sent on a credit of {credit}")]
    Overrun { sent: usize, credit: usize },
    #[error("window update of {0} bytes")]
    NoUpdate(i32),
}

/// The receiving side.
#[derive(Debug, Default)]
pub struct Window {
    /// What the peer may still send.
    credit: usize,
    /// What it has sent and nobody has taken yet.
    held: usize,
}

impl Window {
    /// What is to be granted now, if anything: less than a window is on its way or held. So no more than two windows
    /// are ever held.
    pub fn grant(&mut self) -> Option<usize> {
        (self.credit + self.held < WINDOW_BYTES).then(|| {
            self.credit += WINDOW_BYTES;
            WINDOW_BYTES
        })
    }

    /// The peer has sent so many bytes.
    pub fn receive(&mut self, sent: usize) -> Result<(), Broken> {
        let credit = self.credit;
        self.credit = credit.checked_sub(sent).ok_or(Broken::Overrun { sent, credit })?;
        self.held += sent;
        Ok(())
    }

    /// So many bytes have been taken.
    pub fn take(&mut self, taken: usize) {
        self.held -= taken;
    }
}

/// The sending side.
#[derive(Debug, Default)]
pub struct Credit(usize);

impl Credit {
    /// The peer has granted more.
    pub fn add(&mut self, update: i32) -> Result<(), Broken> {
        let granted = usize::try_from(update).ok().filter(|granted| *granted > 0);
        self.0 = self.0.saturating_add(granted.ok_or(Broken::NoUpdate(update))?);
        Ok(())
    }

    /// How many bytes the next message may have.
    pub fn message(&self) -> usize {
        self.0.min(MESSAGE_BYTES)
    }

    /// So many bytes were sent: no more than [`message`](Self::message) said.
    pub fn spend(&mut self, sent: usize) {
        self.0 -= sent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_thing_is_a_grant_and_no_second_before_bytes_are_taken() {
        let mut window = Window::default();
        assert_eq!(window.grant(), Some(WINDOW_BYTES));
        assert_eq!(window.grant(), None);
        window.receive(WINDOW_BYTES).expect("within the credit");
        assert_eq!(window.grant(), None, "all of it is held");
        window.take(1);
        assert_eq!(window.grant(), Some(WINDOW_BYTES));
        assert_eq!(window.grant(), None);
    }

    #[test]
    fn more_than_was_granted_breaks_the_window() {
        let mut window = Window::default();
        assert_eq!(window.receive(1), Err(Broken::Overrun { sent: 1, credit: 0 }));
        window.grant();
        assert_eq!(window.receive(0), Ok(()));
        let overrun = Broken::Overrun { sent: WINDOW_BYTES + 1, credit: WINDOW_BYTES };
        assert_eq!(window.receive(WINDOW_BYTES + 1), Err(overrun));
    }

    #[test]
    fn a_message_is_no_longer_than_credit_and_limit() {
        let mut credit = Credit::default();
        assert_eq!(credit.message(), 0);
        for bad in [0, -1, i32::MIN] {
            assert_eq!(credit.add(bad), Err(Broken::NoUpdate(bad)));
        }
        credit.add(i32::MAX).expect("a good update");
        assert_eq!(credit.message(), MESSAGE_BYTES);
        credit.spend(MESSAGE_BYTES);
        let mut little = Credit::default();
        little.add(7).expect("a good update");
        assert_eq!(little.message(), 7);
    }
}
