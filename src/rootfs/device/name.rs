//! What a block device is called by those who ask for it, and which of the devices that are there it is. Every look
//! blocks: a serial, a label and a UUID are read from the device, which asks the host.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::RootfsError;
use super::superblock::{self, Superblock};

/// A block device that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Device {
    /// By a path in `/dev`. It may be anything: mount(2) has the better words for what is no disk.
    Node(String),
    /// By what the host calls it.
    Serial(String),
    /// By the file system on it.
    Label(String),
    Uuid(String),
}

/// Bytes of a name: more than any path in `/dev`, serial, label or UUID has.
const NAME_MAX: usize = 255;

type Form = (&'static str, fn(String) -> Device);

const FORMS: [Form; 5] = [
    ("serial:", Device::Serial),
    ("label:", Device::Label),
    ("LABEL=", Device::Label),
    ("uuid:", Device::Uuid),
    ("UUID=", Device::Uuid),
];

impl Device {
    /// `None` if the text names no device.
    pub(super) fn named(text: &str) -> Option<Device> {
        let of_form = |(prefix, form): &Form| text.strip_prefix(prefix).map(|rest| form(rest.to_owned()));
        let node = || text.starts_with("/dev/").then(|| Device::Node(text.to_owned()));
        FORMS.iter().find_map(of_form).or_else(node)
    }

    pub(super) fn not_found(self) -> RootfsError {
        let (by, name) = match self {
            Device::Node(path) => return RootfsError::NoNode { path },
            Device::Serial(name) => ("serial", name),
            Device::Label(name) => ("label", name),
            Device::Uuid(name) => ("uuid", name),
        };
        RootfsError::NoDevice { by, name }
    }

    fn is_by_serial(&self) -> bool {
        matches!(self, Device::Serial(_))
    }

    fn is_by_content(&self) -> bool {
        matches!(self, Device::Label(_) | Device::Uuid(_))
    }
}

/// Whether a text names a device, of which there may be none.
pub fn names_device(text: &str) -> bool {
    text.len() <= NAME_MAX && Device::named(text).is_some()
}

/// Where the kernel shows its devices.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) sys: PathBuf,
    pub(super) dev: PathBuf,
}

impl Places {
    /// Of each of `sought` the node, if the device is there. One that comes or goes meanwhile is as good as absent.
    pub(super) fn look(&self, sought: &[Device]) -> Vec<Option<String>> {
        let mut found: Vec<Option<String>> = sought.iter().map(node_by_path).collect();
        let missing = |found: &[Option<String>], by: fn(&Device) -> bool| {
            sought.iter().zip(found).any(|(device, found)| found.is_none() && by(device))
        };
        let mut disks = self.devices("block").into_iter();
        while missing(&found, Device::is_by_serial) {
            let Some(disk) = disks.next() else { break };
            self.note_by_serial(&disk, sought, &mut found);
        }
        // With the partitions of the disks.
        let mut devices = self.devices("class/block").into_iter();
        while missing(&found, Device::is_by_content) {
            let Some(device) = devices.next() else { break };
            self.note_by_content(&device, sought, &mut found);
        }
        found
    }

    fn note_by_serial(&self, disk: &Path, sought: &[Device], found: &mut [Option<String>]) {
        let serial = fs::read_to_string(disk.join("serial")).unwrap_or_default();
        let serial = serial.trim();
        let is_sought = |device: &Device| matches!(device, Device::Serial(name) if name == serial);
        if !serial.is_empty() {
            note(self.node_of(disk), sought, found, is_sought);
        }
    }

    fn note_by_content(&self, device: &Path, sought: &[Device], found: &mut [Option<String>]) {
        // A loop device to which nothing is attached, an empty drive.
        let is_empty = fs::read_to_string(device.join("size")).map_or(true, |size| size.trim() == "0");
        let Some(node) = self.node_of(device).filter(|_| !is_empty) else { return };
        let mut bytes = [0; superblock::BYTES];
        let length = File::open(&node).and_then(|mut file| file.read(&mut bytes)).unwrap_or(0);
        let Some(block) = Superblock::parse(&bytes[..length]) else { return };
        note(Some(node), sought, found, |device| match device {
            Device::Label(label) => block.has_label(label),
            Device::Uuid(uuid) => block.has_uuid(uuid),
            Device::Node(_) | Device::Serial(_) => false,
        });
    }

    /// The folders of the devices, by name: of two that are called the same the first is taken, each time.
    fn devices(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.sys.join(folder)).into_iter().flatten().flatten();
        let mut devices: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        devices.sort_unstable();
        devices
    }

    /// The kernel makes the node a moment after the folder, and writes `!` in place of a slash in the folder's name.
    fn node_of(&self, device: &Path) -> Option<String> {
        let name = device.file_name()?.to_str()?.replace('!', "/");
        let node = self.dev.join(name).into_os_string().into_string().ok()?;
        fs::metadata(&node).is_ok().then_some(node)
    }
}

fn node_by_path(device: &Device) -> Option<String> {
    match device {
        Device::Node(path) if fs::metadata(path).is_ok() => Some(path.clone()),
        _ => None,
    }
}

fn note(
    node: Option<String>,
    sought: &[Device],
    found: &mut [Option<String>],
    is_it: impl Fn(&Device) -> bool,
) {
    let Some(node) = node else { return };
    for (device, found) in sought.iter().zip(found) {
        if found.is_none() && is_it(device) {
            *found = Some(node.clone());
        }
    }
}
