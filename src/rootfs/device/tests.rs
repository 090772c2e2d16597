//! Devices that are there, that come late, and that hang, in folders that stand for `/sys` and `/dev`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::stat::Mode;
use tempfile::TempDir;

use super::*;

const LONG: Duration = Duration::from_secs(30);
/// For what never comes; some looks long.
const SHORT: Duration = Duration::from_millis(200);

/// Folders that stand for `/sys` and `/dev`.
struct Machine(TempDir);

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["dev", "block", "class/block"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        Machine(dir)
    }

    fn path(&self, of: &str) -> std::path::PathBuf {
        self.0.path().join(of)
    }

    fn node(&self, name: &str) -> String {
        self.path("dev").join(name).to_str().unwrap().to_owned()
    }

    /// A disk, its node last, as it is with the kernel.
    fn plug(&self, name: &str, serial: &str, content: &[u8]) {
        for folder in ["block", "class/block"] {
            let folder = self.path(folder).join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("serial"), serial).unwrap();
            fs::write(folder.join("size"), format!("{}\n", content.len())).unwrap();
        }
        fs::write(self.node(name), content).unwrap();
    }

    /// What looks in these folders, with turns of its own, and is told nothing.
    fn looks(&self) -> Looks {
        Looks {
            places: Places { sys: self.0.path().to_owned(), dev: self.path("dev") },
            turns: Box::leak(Box::new(Semaphore::new(LOOKS))),
            subscribe: || Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

fn devices(names: &[&str]) -> Vec<Device> {
    names.iter().map(|name| Device::named(name).unwrap()).collect()
}

async fn found(looks: &Looks, name: &str, wait: Duration) -> Option<String> {
    appear(looks, &devices(&[name]), wait).await.remove(0)
}

fn source(kind: &str, source: &str) -> Mount {
    Mount { kind: kind.into(), source: source.into(), target: String::new(), options: Vec::new() }
}

fn ext4(label: &str, uuid: [u8; 16]) -> Vec<u8> {
    let mut bytes = vec![0; superblock::BYTES];
    bytes[1080..1082].copy_from_slice(&[0x53, 0xef]);
    bytes[1128..1144].copy_from_slice(&uuid);
    bytes[1144..1144 + label.len()].copy_from_slice(label.as_bytes());
    bytes
}

#[tokio::test]
async fn a_disk_is_found_by_its_whole_serial() {
    let machine = Machine::new();
    machine.plug("vda", "sbxblk10\n", b"");
    machine.plug("vdb", "sbxblk1\n", b"");
    machine.plug("vdc", "", b"");
    fs::create_dir(machine.path("block/loop0")).unwrap();
    let looks = machine.looks();
    assert_eq!(found(&looks, "serial:sbxblk1", LONG).await.unwrap(), machine.node("vdb"));
    assert_eq!(found(&looks, "serial:sbxblk10", LONG).await.unwrap(), machine.node("vda"));
    for absent in ["serial:sbxblk", "serial:sbxblk2", "serial:"] {
        assert_eq!(found(&looks, absent, SHORT).await, None, "{absent}");
    }
}

#[tokio::test]
async fn a_disk_is_found_by_what_is_on_it() {
    let machine = Machine::new();
    machine.plug("vda", "", &ext4("data", [0xab; 16]));
    machine.plug("vdb", "", b"no file system");
    machine.plug("vdc", "", &ext4("scratch", [0x12; 16]));
    let looks = machine.looks();
    let uuid = "UUID=ABABABAB-abab-abab-abab-abababababab";
    let names = ["label:scratch", uuid, "LABEL=data", "uuid:12121212121212121212121212121212"];
    let nodes = ["vdc", "vda", "vda", "vdc"].map(|name| Some(machine.node(name)));
    assert_eq!(appear(&looks, &devices(&names), LONG).await, nodes);
    for absent in ["label:", "LABEL=dat", "uuid:", "uuid:12"] {
        assert_eq!(found(&looks, absent, SHORT).await, None, "{absent}");
    }
}

#[tokio::test]
async fn of_two_that_are_called_the_same_it_is_always_the_first() {
    let machine = Machine::new();
    for name in ["vdc", "vda", "vdb"] {
        machine.plug(name, "same", &ext4("same", [1; 16]));
    }
    let first = Some(machine.node("vda"));
    let names = devices(&["serial:same", "label:same"]);
    assert_eq!(appear(&machine.looks(), &names, LONG).await, [first.clone(), first]);
}

#[tokio::test]
async fn a_disk_without_its_node_is_not_there_yet() {
    let machine = Machine::new();
    machine.plug("vda", "early", b"");
    fs::remove_file(machine.node("vda")).unwrap();
    let looks = machine.looks();
    assert_eq!(found(&looks, "serial:early", SHORT).await, None);
    let node = async { fs::write(machine.node("vda"), "").unwrap() };
    let (found, ()) = tokio::join!(found(&looks, "serial:early", LONG), node);
    assert_eq!(found.unwrap(), machine.node("vda"));
}

#[tokio::test]
async fn those_that_appear_late_are_waited_for_together() {
    let machine = Machine::new();
    machine.plug("vda", "early", b"");
    let node = machine.node("vdx");
    let plug = async {
        machine.plug("vdb", "late", &ext4("late", [7; 16]));
        fs::write(&node, "").unwrap();
    };
    let names = ["serial:late", "serial:early", "label:late"];
    let mut sought = devices(&names);
    sought.push(Device::Node(node.clone()));
    let looks = machine.looks();
    let (found, ()) = tokio::join!(appear(&looks, &sought, LONG), plug);
    let nodes = ["vdb", "vda", "vdb", "vdx"].map(|name| Some(machine.node(name)));
    assert_eq!(found, nodes);
}

#[tokio::test]
async fn what_is_there_is_found_beside_what_is_missing() {
    let machine = Machine::new();
    machine.plug("vda", "here", b"");
    let names = devices(&["serial:gone", "serial:here", "label:gone"]);
    let nodes = [None, Some(machine.node("vda")), None];
    assert_eq!(appear(&machine.looks(), &names, SHORT).await, nodes);
}

/// The kernel is made to speak of a loop device, which has nothing to do with the disk; hearing it is a reason to look.
#[tokio::test]
async fn word_of_the_kernel_brings_a_look() {
    let uevent = Path::new("/sys/class/block/loop0/uevent");
    let may_be_told = OpenOptions::new().write(true).open(uevent).is_ok();
    if !may_be_told {
        return eprintln!("skipped: needs root and a loop device");
    }
    let machine = Machine::new();
    static SUBSCRIBED: AtomicUsize = AtomicUsize::new(0);
    let subscribe = || {
        SUBSCRIBED.fetch_add(1, Ordering::Relaxed);
        Uevents::subscribe()
    };
    let looks = Looks { subscribe, ..machine.looks() };
    let told = async {
        let heard = async {
            // Nothing but word of the kernel brings a second subscription.
            while SUBSCRIBED.load(Ordering::Relaxed) < 2 {
                fs::write(uevent, "change").unwrap();
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, heard).await.unwrap();
        machine.plug("vda", "late", b"");
        fs::write(uevent, "change").unwrap();
    };
    let (found, ()) = tokio::join!(found(&looks, "serial:late", LONG), told);
    assert_eq!(found.unwrap(), machine.node("vda"));
}

#[tokio::test]
async fn what_is_missing_is_named_in_the_manner_of_the_contract() {
    let refused = |kind: &str, text: &str| {
        let mut mounts = vec![source(kind, text)];
        async move { resolve(&mut mounts, Duration::from_millis(20)).await.unwrap_err().to_string() }
    };
    let by = |by: &str| format!("resolve block device by {by} \"x\": not found");
    assert_eq!(refused("ext4", "serial:x").await, by("serial"));
    assert_eq!(refused("ext4", "label:x").await, by("label"));
    assert_eq!(refused("ext4", "UUID=x").await, by("uuid"));
    for kind in ["ext4", "format/mkdir/erofs"] {
        let expected = "block device /dev/no-such-disk: not found";
        assert_eq!(refused(kind, "/dev/no-such-disk").await, expected);
    }
    let names = ["/dev/null", "vda", "serial:x"].map(str::to_owned);
    let found = find(&names, SHORT).await;
    assert_eq!(found[0].as_ref().unwrap(), "/dev/null");
    assert!(matches!(&found[1], Err(RootfsError::Invalid { value, .. }) if value == "vda"));
    assert!(matches!(&found[2], Err(RootfsError::NoDevice { name, .. }) if name == "x"));
}

#[tokio::test]
async fn what_is_no_device_is_left_as_it_is() {
    let mut mounts: Vec<Mount> = [
        ("ext4", "/dev/null"),
        ("ext4", "/no/such/path"),
        ("format/ext4", "/dev/{{ source 0 }}"),
        ("tmpfs", "tmpfs"),
        ("virtiofs", "/dev/root"),
        ("mkdir/9p", "/dev/root"),
        ("overlay", "/dev/overlay"),
        ("bind", "/dev/no-such-node"),
    ]
    .map(|(kind, text)| source(kind, text))
    .into();
    let before = mounts.clone();
    resolve(&mut mounts, LONG).await.unwrap();
    assert_eq!(mounts, before);
}

/// As a FIFO without a writer does, so does a disk hang whose host does not answer.
#[tokio::test]
async fn looks_that_hang_are_few_and_hold_up_nobody_beyond_the_wait() {
    let [hanging, fine] = [Machine::new(), Machine::new()];
    fine.plug("vda", "fine", b"");
    let fifo = hanging.path("block/vda/serial");
    fs::create_dir(hanging.path("block/vda")).unwrap();
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let stalling = hanging.looks();
    let others = Looks { turns: stalling.turns, ..fine.looks() };
    for left in (0..LOOKS).rev() {
        assert_eq!(found(&stalling, "serial:stalled", SHORT).await, None);
        assert_eq!(stalling.turns.available_permits(), left, "a wait of many looks holds one thread");
    }
    assert_eq!(found(&others, "serial:fine", SHORT).await, None, "out of turns");

    let all_back = async {
        while stalling.turns.available_permits() < LOOKS {
            // It fails as long as nobody reads; closed again, it is the end of what there is to read.
            let _ = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&fifo);
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, all_back).await.unwrap();
    assert_eq!(found(&others, "serial:fine", LONG).await.unwrap(), fine.node("vda"));
}
