//! Where the time of a container's first run goes. Owns the one line of log that says so; decides nothing.

use std::time::{Duration, Instant};

use crate::vm::Vm;

/// The milestone of PID 1's first instruction (docs/OPERATIONS.md, "The console").
const ENTRY: &str = "pid1-entry";
/// They are on the console before the guest answers, and read a moment later.
const SHOWN: Duration = Duration::from_millis(200);

/// How long the boot of a machine took, and what of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boot {
    /// Until QEMU ran the guest's first instruction.
    qemu: Duration,
    /// Until PID 1's first instruction.
    kernel: Duration,
    /// Until it answered.
    vminitd: Duration,
}

impl Boot {
    /// Of a machine that answers now; `running` is when QEMU took commands.
    pub async fn of(vm: &Vm, launched: Instant, running: Duration) -> Boot {
        let all = launched.elapsed();
        // Without a console nobody can tell the kernel from PID 1.
        let entry = vm.wait_milestone(ENTRY, SHOWN).await.ok();
        let uptime = entry.as_ref().map(|entry| Duration::from_micros(entry.uptime_us));
        let entered = entry.map_or(all, |entry| entry.at);
        let qemu = uptime.map_or(running, |uptime| entered.saturating_sub(uptime));
        Boot { qemu, kernel: entered.saturating_sub(qemu), vminitd: all.saturating_sub(entered) }
    }
}

/// The times of one task, from Create to the end of Start.
#[derive(Debug)]
pub(super) struct Timing {
    begun: Instant,
    /// Until everything on the host was there: mounts, namespace, holder, hooks.
    host: Duration,
    boot: Boot,
    /// The guest's Create, with its runc.
    create: Duration,
}

impl Timing {
    pub fn new(begun: Instant, host: Duration, boot: Boot, create: Duration) -> Timing {
        Timing { begun, host, boot, create }
    }

    /// Logs it; `start` is what the guest's Start took. Whatever is in no part of it went by on the way through containerd
    /// and its client.
    pub fn log(&self, id: &str, start: Duration) {
        let ms = |duration: Duration| duration.as_millis();
        tracing::info!(
            id,
            host_ms = ms(self.host),
            qemu_ms = ms(self.boot.qemu),
            kernel_ms = ms(self.boot.kernel),
            vminitd_ms = ms(self.boot.vminitd),
            runc_ms = ms(self.create + start),
            since_create_ms = ms(self.begun.elapsed()),
            "timing"
        );
    }
}
