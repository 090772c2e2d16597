//! Waiting for the disks that the configuration names, and for no others: a guest without any boots at once.

use std::io;
use std::time::Duration;

use super::extras::device_name;
use super::Boot;
use crate::rootfs::{find_devices, RootfsError};

/// Waits for the disks that are named; what is missing is a failure of the boot. Notes where the extras disk is.
pub(super) fn await_all(boot: &mut Boot<'_>) {
    let machine = boot.machine;
    let mut names = machine.devices.clone();
    names.extend(machine.extras_disk.as_ref().map(device_name));
    if names.is_empty() {
        return;
    }
    let Some(found) = boot.attempt("look for disks", find_now(&names, boot.bounds.device_wait)) else {
        return;
    };
    let mut last = None;
    for (name, found) in names.iter().zip(found) {
        last = boot.attempt(name, found.map_err(io::Error::other));
    }
    boot.extras_node = last.filter(|_| machine.extras_disk.is_some());
}

/// On a runtime of its own, which ends with the wait: the looks are those of a Create, and like there one that hangs
/// must hold up nothing beyond its deadline. It looks at all of them at once, one look after another.
fn find_now(names: &[String], wait: Duration) -> io::Result<Vec<Result<String, RootfsError>>> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
    let found = runtime.block_on(find_devices(names, wait));
    runtime.shutdown_background();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::failures;
    use super::*;
    use crate::config::{Bounds, ExtrasDisk, Machine};
    use crate::guest::booting::Booting;

    fn boot(devices: &[&str], extras_disk: Option<ExtrasDisk>) -> (usize, Option<String>) {
        let machine = Machine {
            devices: devices.iter().map(|name| (*name).to_owned()).collect(),
            extras_disk,
            ..Machine::default()
        };
        let bounds = Bounds { device_wait: Duration::from_millis(200), ..Bounds::default() };
        let mut boot = Boot::new(&bounds, &machine, Booting::default());
        await_all(&mut boot);
        (failures(&boot), boot.extras_node)
    }

    #[test]
    fn each_disk_that_is_missing_is_a_failure_and_the_extras_disk_is_one_of_them() {
        assert_eq!(boot(&[], None), (0, None));
        assert_eq!(boot(&["/dev/null"], None), (0, None));
        assert_eq!(boot(&["/dev/null", "vda", "serial:no-such-disk"], None), (2, None));
        assert_eq!(
            boot(&["label:no-such-disk"], Some(ExtrasDisk::Named("/dev/null".to_owned()))),
            (1, Some("/dev/null".to_owned()))
        );
        assert_eq!(boot(&["/dev/null"], Some(ExtrasDisk::Index(u16::MAX))), (1, None));
    }

    #[test]
    fn a_guest_that_names_no_disk_does_not_wait() {
        let begun = std::time::Instant::now();
        let bounds = Bounds { device_wait: Duration::from_secs(600), ..Bounds::default() };
        await_all(&mut Boot::new(&bounds, &Machine::default(), Booting::default()));
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
