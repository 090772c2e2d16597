//! What the kernel's own initialisation cost, from its log. The kernel tells it only with `initcall_debug` on its
//! command line. Read once, for a host that profiles the boot.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

use crate::logging;

/// Calls that are listed, the dearest first.
const LISTED: usize = 25;

/// A record is at most this long (PRINTK_MESSAGE_MAX, `CONSOLE_EXT_LOG_MAX` before it, in the kernel's printk).
const RECORD: usize = 8192;

/// Characters of a name: those of the kernel have half of it.
const NAME_MAX: usize = 64;

/// Records that are read: four times what a boot with `initcall_debug` writes. The log goes on while it is read.
const RECORDS: usize = 16_384;

/// Writes the summary and the dearest calls to the console. Blocks for as long as the console takes.
pub fn tell() -> io::Result<()> {
    let log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
    for line in read(log)?.lines() {
        logging::console_line(line);
    }
    Ok(())
}

/// Each read(2) of /dev/kmsg gives one record (Documentation/ABI/testing/dev-kmsg in the kernel).
fn read(mut log: File) -> io::Result<Initcalls> {
    let mut calls = Initcalls::default();
    let mut record = vec![0; RECORD];
    for _ in 0..RECORDS {
        match log.read(&mut record) {
            Ok(len) => calls.note(&String::from_utf8_lossy(&record[..len])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // The next record was overwritten before it was read; the one after is there.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(calls)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Initcalls {
    calls: Vec<(u64, String)>,
    last_us: u64,
}

impl Initcalls {
    /// Takes a record: `prio,seq,timestamp_us,flags;message` and further lines.
    fn note(&mut self, record: &str) {
        let Some((head, message)) = record.split_once(';') else { return };
        if let Some(at_us) = head.split(',').nth(2).and_then(|field| field.parse().ok()) {
            self.last_us = at_us;
        }
        self.calls.extend(message.lines().next().and_then(initcall));
    }

    fn lines(mut self) -> Vec<String> {
        let sum: u64 = self.calls.iter().map(|(us, _)| us).sum();
        let summary =
            format!("KMSG_PROFILE initcalls={} sum_us={sum} last_ts_us={}", self.calls.len(), self.last_us);
        self.calls.sort_unstable_by(|one, other| other.cmp(one));
        let dearest = self.calls.iter().take(LISTED);
        let listed = dearest.map(|(us, name)| format!("KMSG_PROFILE {us:8} us  {name}"));
        std::iter::once(summary).chain(listed).collect()
    }
}

/// Reads `initcall NAME returned N after N usecs`; a module's name may stand behind that of the call.
fn initcall(message: &str) -> Option<(u64, String)> {
    let (name, rest) = message.split_once("initcall ")?.1.split_once(" returned ")?;
    let name: String = name.split_whitespace().next()?.chars().take(NAME_MAX).collect();
    let us = rest.split_once(" after ")?.1.split_once(" usecs")?.0;
    Some((us.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(record: &str, expected: Option<(u64, &str)>, last_us: u64) {
        let mut calls = Initcalls::default();
        calls.note(record);
        let expected = expected.map(|(us, name)| (us, name.to_owned()));
        assert_eq!(calls, Initcalls { calls: expected.into_iter().collect(), last_us }, "{record:?}");
    }

    #[test]
    fn a_record_is_an_initcall_or_only_a_time() {
        let acpi = "7,300,123456,-;initcall acpi_init+0x0/0x4a0 returned 0 after 21000 usecs\n";
        check(acpi, Some((21000, "acpi_init+0x0/0x4a0")), 123456);
        let failed = "7,1,5,c;initcall x returned -19 after 0 usecs\n SUBSYSTEM=acpi\n";
        check(failed, Some((0, "x")), 5);
        let module = "7,1,5,-;initcall init+0x0/0xf [loop] returned 0 after 7 usecs\n";
        check(module, Some((7, "init+0x0/0xf")), 5);
        check("6,1,5,-;calling  x+0x0/0x1 @ 1", None, 5);
        check("6,1,5,-;initcall x returned 0 after many usecs", None, 5);
        check("6,1,5,-;initcall  returned 0 after 1 usecs", None, 5);
        check("6,1,x,-;initcall", None, 0);
        check("no record", None, 0);
        check("", None, 0);
    }

    #[test]
    fn the_dearest_calls_are_listed_below_the_sum_of_all() {
        let mut calls = Initcalls::default();
        for us in 0..30 {
            calls.note(&format!("7,1,{us},-;initcall c{us} returned 0 after {us} usecs\n"));
        }
        let lines = calls.lines();
        assert_eq!(lines.len(), 1 + LISTED);
        assert_eq!(lines[0], "KMSG_PROFILE initcalls=30 sum_us=435 last_ts_us=29");
        assert_eq!(lines[1], "KMSG_PROFILE       29 us  c29");
        assert_eq!(lines[LISTED], "KMSG_PROFILE        5 us  c5");
    }

    #[test]
    fn without_initcall_debug_there_is_a_summary_of_nothing() {
        assert_eq!(Initcalls::default().lines(), ["KMSG_PROFILE initcalls=0 sum_us=0 last_ts_us=0"]);
    }
}
