//! The power button: found among the input devices, whenever it appears, and waited for. What a press means is not its
//! business.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::task::JoinSet;

use crate::sys::inotify::Changes;
use crate::sys::input::{Device, Keys, KEY_POWER, KEY_SPACE};

/// Where the kernel makes input devices; the folder comes with the first.
const DEVICES: &str = "/dev";
const FOLDER: &str = "input";

/// Power buttons that are waited for at once. A machine has one or two; whoever makes devices of his own must not get a
/// task of ours for each.
const BUTTONS_MAX: usize = 8;

/// Waits until a power button is pressed; for ever where there is none. Dropping the future may lose a press.
pub async fn pressed() {
    let mut buttons = Buttons::default();
    loop {
        // Watched before the look, so that none appears in between.
        let changes = watch(Path::new(DEVICES));
        buttons.look(&Path::new(DEVICES).join(FOLDER));
        tokio::select! {
            pressed = buttons.pressed() => if pressed {
                return;
            },
            () = changed(changes) => {}
        }
    }
}

/// Watches `/dev/input` for devices, or `/dev` for that folder.
fn watch(devices: &Path) -> io::Result<Changes> {
    Changes::in_folders(&[&devices.join(FOLDER)]).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Changes::in_folders(&[devices]),
        _ => Err(error),
    })
}

/// Without a watch no device is seen to come; those that are there are waited for all the same.
async fn changed(changes: io::Result<Changes>) {
    let failed = match changes {
        Ok(changes) => changes.next().await,
        Err(error) => Err(error),
    };
    if let Err(error) = failed {
        tracing::warn!(%error, "cannot watch for a power button");
        std::future::pending::<()>().await;
    }
}

/// The kernel's name of an input device, and a device. A container may share the VM's `/dev` and make files in it: those
/// are not opened.
fn is_input_device(path: &Path) -> bool {
    let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("event"));
    let numbered = number.is_some_and(|number| number.parse::<u32>().is_ok());
    numbered && fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_char_device())
}

/// The buttons that there are.
#[derive(Default)]
struct Buttons {
    waits: JoinSet<Waited>,
    known: HashSet<PathBuf>,
}

/// One button was pressed, or has gone.
struct Waited {
    path: PathBuf,
    pressed: io::Result<()>,
}

impl Buttons {
    /// Begins to wait for the buttons that are new in `folder`.
    fn look(&mut self, folder: &Path) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_input_device(path))
        {
            if self.known.len() < BUTTONS_MAX && !self.known.contains(&path) {
                self.consider(path);
            }
        }
    }

    fn consider(&mut self, path: PathBuf) {
        // Most are no buttons, and some no devices; one that is not there any more is none either.
        let Ok(device) = Device::open(&path) else { return };
        if !device.keys().is_ok_and(|keys| is_power_button(&keys)) {
            return;
        }
        tracing::info!(path = %path.display(), name = device.name().unwrap_or_default(), "power button");
        self.known.insert(path.clone());
        self.waits.spawn(async move {
            let pressed = device.pressed(KEY_POWER).await;
            Waited { path, pressed }
        });
    }

    /// Waits for a press, or (false) for a button to go: another may have come under its name before that was seen. For
    /// ever while there is no button. Cancel safe.
    async fn pressed(&mut self) -> bool {
        loop {
            match self.waits.join_next().await {
                Some(Ok(Waited { pressed: Ok(()), .. })) => return true,
                Some(Ok(Waited { path, pressed: Err(error) })) => {
                    tracing::info!(path = %path.display(), %error, "a power button has gone");
                    self.known.remove(&path);
                    return false;
                }
                Some(Err(error)) => tracing::error!(%error, "waiting for a power button panicked"),
                None => std::future::pending().await,
            }
        }
    }
}

/// A device whose purpose is the key. A keyboard may have it too (that of an AT machine says so), but to wait for it there
/// would be to read all that is typed.
fn is_power_button(keys: &Keys) -> bool {
    keys.has(KEY_POWER) && !keys.has(KEY_SPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyboard_with_a_power_key_is_no_power_button() {
        for (keys, expected) in
            [(&[KEY_POWER][..], true), (&[KEY_POWER, KEY_SPACE], false), (&[KEY_SPACE], false), (&[], false)]
        {
            assert_eq!(is_power_button(&keys.iter().copied().collect()), expected, "{keys:?}");
        }
    }

    #[tokio::test]
    async fn a_button_that_has_gone_is_looked_for_again() {
        let mut buttons = Buttons::default();
        let path = PathBuf::from("event0");
        buttons.known.insert(path.clone());
        buttons.waits.spawn(async move { Waited { path, pressed: Err(io::ErrorKind::NotFound.into()) } });
        assert!(!buttons.pressed().await);
        assert!(buttons.known.is_empty());
    }

    #[tokio::test]
    async fn the_folder_of_devices_is_seen_to_come_and_its_entries_after_it() {
        let devices = tempfile::tempdir().expect("a folder");
        let changes = watch(devices.path()).expect("watch for the folder");
        let folder = devices.path().join(FOLDER);
        fs::create_dir(&folder).expect("make the folder");
        changes.next().await.expect("the folder is seen");
        let changes = watch(devices.path()).expect("watch the folder");
        fs::write(folder.join("event0"), "").expect("make an entry");
        changes.next().await.expect("the entry is seen");
        let mut buttons = Buttons::default();
        buttons.look(&folder);
        assert!(buttons.known.is_empty(), "a file is no button");
    }
}
