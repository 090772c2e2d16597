//! Processors, by the kernel's numbers.

use std::fs;
use std::path::PathBuf;

use super::{appears, Hotplug, HotplugError};
use crate::blocking;

const WHAT: &str = "cpu";

impl Hotplug {
    /// Has a processor run processes; waits for one that is about to be plugged. Done if it does already.
    pub async fn online_cpu(&self, id: u32) -> Result<(), HotplugError> {
        // The one that has booted cannot be off, and need not have a file.
        if id == 0 {
            return Ok(());
        }
        let path = self.switch_of(id);
        match appears(WHAT, || path.exists().then_some(())).await? {
            Some(()) => self.switch(id, path, "1").await,
            None => Err(HotplugError::Late { what: WHAT, id, path }),
        }
    }

    /// Moves everything off a processor. Done if it is off already.
    pub async fn offline_cpu(&self, id: u32) -> Result<(), HotplugError> {
        if id == 0 {
            return Err(HotplugError::BootCpu);
        }
        let path = self.switch_of(id);
        match path.exists() {
            true => self.switch(id, path, "0").await,
            false => Err(HotplugError::Absent { what: WHAT, id }),
        }
    }

    fn switch_of(&self, id: u32) -> PathBuf {
        self.0.cpus.join(format!("cpu{id}/online"))
    }

    async fn switch(&self, id: u32, path: PathBuf, wanted: &'static str) -> Result<(), HotplugError> {
        let _switching = self.0.switching.lock().await;
        let work = move || {
            if fs::read_to_string(&path).is_ok_and(|text| text.trim() == wanted) {
                return Ok(());
            }
            fs::write(&path, wanted).map_err(|source| HotplugError::Write {
                what: WHAT,
                id,
                path,
                source,
            })?;
            tracing::info!(cpu = id, online = wanted, "switched");
            Ok(())
        };
        blocking::run("switching a processor", work).await?
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A machine with processors 0 (without a switch), 1 (on) and 2 (off).
    fn machine() -> (TempDir, Hotplug) {
        let sys = tempfile::tempdir().expect("a folder");
        let cpus = sys.path().join("devices/system/cpu");
        for name in ["cpu0", "cpu1", "cpu2"] {
            fs::create_dir_all(cpus.join(name)).expect("a folder");
        }
        fs::write(cpus.join("cpu1/online"), "1\n").expect("a file");
        fs::write(cpus.join("cpu2/online"), "0\n").expect("a file");
        let hotplug = Hotplug::new(sys.path());
        (sys, hotplug)
    }

    fn switch(hotplug: &Hotplug, id: u32) -> String {
        fs::read_to_string(hotplug.switch_of(id)).expect("a switch")
    }

    #[tokio::test]
    async fn a_processor_is_switched_only_if_it_has_to_be() {
        let (_sys, hotplug) = machine();
        hotplug.online_cpu(1).await.expect("it is on");
        hotplug.offline_cpu(2).await.expect("it is off");
        // As they were written by the kernel, so nothing was written since.
        assert_eq!([switch(&hotplug, 1), switch(&hotplug, 2)], ["1\n", "0\n"]);
        hotplug.offline_cpu(1).await.expect("off");
        hotplug.online_cpu(2).await.expect("on");
        assert_eq!([switch(&hotplug, 1), switch(&hotplug, 2)], ["0", "1"]);
    }

    #[tokio::test]
    async fn the_processor_that_has_booted_stays_on() {
        let (_sys, hotplug) = machine();
        hotplug.online_cpu(0).await.expect("it is on");
        let refused = hotplug.offline_cpu(0).await.expect_err("it cannot be");
        assert_eq!(refused.to_string(), "cpu 0 cannot be offlined (boot processor): invalid argument");
    }

    #[tokio::test(start_paused = true)]
    async fn a_processor_that_is_not_there_is_named() {
        let (_sys, hotplug) = machine();
        let refused = hotplug.offline_cpu(7).await.expect_err("it is absent");
        assert_eq!(refused.to_string(), "cpu 7 not present: not found");
        let late = hotplug.online_cpu(7).await.expect_err("it does not come");
        let path = hotplug.switch_of(7);
        let expected = format!("cpu 7: timeout waiting for {}: not found", path.display());
        assert_eq!(late.to_string(), expected);
    }
}
