//! The end of a machine: which of its parts died first, and of what. Owns the watch over the parts; ends and reaps
//! nothing itself.

use std::fmt;
use std::future::{pending, Future};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{waitid, WaitId, WaitIdOptions, WaitIdStatus};
use tokio::time::timeout;

use crate::sys::Pidfd;

/// How the status of a process begins that was not killed.
const EXITED: &str = "ended with status ";
/// A QEMU that ends closes its connections first, and virtiofsd may have ended of that before QEMU is seen to; a
/// millisecond earlier, on a host that is not too busy.
const FOLLOWS: Duration = Duration::from_millis(200);

/// A process of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    Qemu,
    /// The backend of the vsock device.
    Vsock,
    /// The backend of the shared folder.
    Virtiofsd,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Part::Qemu => "QEMU",
            Part::Vsock => "the vsock backend",
            Part::Virtiofsd => "virtiofsd",
        }
    }
}

/// Why a machine is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest rebooted, or its kernel panicked.
    GuestReset,
    /// The guest's kernel panicked and said so to its pvpanic device.
    GuestPanic,
    /// Another reason in QEMU's own words: the host ended it.
    Other(String),
    /// QEMU ended without a reason: it was killed, or it crashed.
    Unknown { status: String },
}

impl ExitReason {
    /// From what QEMU told of its shutdown, if it did.
    fn new(told: Option<&str>, status: String) -> ExitReason {
        match told {
            Some("guest-shutdown") => ExitReason::GuestShutdown,
            Some("guest-reset") => ExitReason::GuestReset,
            Some("guest-panic") => ExitReason::GuestPanic,
            Some(other) => ExitReason::Other(other.to_string()),
            None => ExitReason::Unknown { status },
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitReason::GuestShutdown => f.write_str("the guest powered itself off"),
            ExitReason::GuestReset => f.write_str("the guest rebooted, or its kernel panicked"),
            ExitReason::GuestPanic => f.write_str("the guest's kernel panicked"),
            ExitReason::Other(reason) => write!(f, "QEMU was ended: {reason}"),
            ExitReason::Unknown { status } => write!(f, "QEMU {status}"),
        }
    }
}

/// The death of a machine: no part of it lives on usefully without the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// QEMU ended, by itself or not.
    Qemu(ExitReason),
    /// A backend ended while QEMU ran; `status` reads after its name: "was killed by signal 9".
    Backend { part: Part, status: String },
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Qemu(reason) => reason.fmt(f),
            Ended::Backend { part, status } => write!(f, "{} {status}", part.name()),
        }
    }
}

/// The parts of a machine, as they are watched.
pub(super) struct Watch {
    pub qemu: Arc<Pidfd>,
    pub vsock: Option<Arc<Pidfd>>,
    pub virtiofsd: Option<Arc<Pidfd>>,
}

impl Watch {
    /// Waits for the first death. `told` is to give the reason of QEMU's shutdown once that has ended.
    pub(super) async fn ended(self, told: impl Future<Output = Option<String>>) -> Ended {
        let Watch { qemu, vsock, virtiofsd } = self;
        let (part, status) = tokio::select! {
            biased;
            () = qemu.ended() => (Part::Qemu, status(&qemu)),
            status = end_of(virtiofsd) => (Part::Virtiofsd, status),
            status = end_of(vsock) => (Part::Vsock, status),
        };
        match part {
            Part::Qemu => Ended::Qemu(ExitReason::new(told.await.as_deref(), status)),
            // One that was not killed has lost its QEMU as a rule.
            Part::Virtiofsd if status.starts_with(EXITED) && timeout(FOLLOWS, qemu.ended()).await.is_ok() => {
                Ended::Qemu(ExitReason::new(told.await.as_deref(), self::status(&qemu)))
            }
            _ => Ended::Backend { part, status },
        }
    }
}

async fn end_of(part: Option<Arc<Pidfd>>) -> String {
    match part {
        Some(part) => {
            part.ended().await;
            status(&part)
        }
        None => pending().await,
    }
}

/// How a child of ours that has ended did so; it is left to be reaped by its owner.
pub(super) fn status(child: &Pidfd) -> String {
    let leave = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    match waitid(WaitId::PidFd(child.as_fd()), leave) {
        Ok(Some(status)) => words(&status),
        _ => "ended".to_string(),
    }
}

fn words(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("{EXITED}{code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => "ended".to_string(),
    }
}
