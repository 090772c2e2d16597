//! What goes through the whole path comes out as it was: many bytes, and what a file system keeps besides them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{chown, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use crc32fast::Hasher;
use nix::sys::stat::{makedev, mknod, Mode, SFlag};
use rustix::fs::{getxattr, setxattr, XattrFlags};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;
use vminitd_test_support::chance::noise;
use vminitd_test_support::{rootfs, MIB};

use crate::alone::alone;
use crate::world::{build, text, Said, DIR, PATIENCE};

const COUNT: usize = 64 * MIB;
/// What the container writes again and again; no power of two divides its length, so that a lost block shows.
const LINE: &str = "0123456789abcdef\n";
/// A uid that some take for minus two.
const ODD: u32 = 4_294_967_294;
/// `security.capability` of capabilities(7), version 2: effective, with CAP_CHOWN permitted and nothing inheritable.
const CAP_CHOWN: [u8; 20] = [1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CAPABILITY: &str = "security.capability";

#[test]
fn no_byte_of_output_is_lost() {
    alone(async |world| {
        let script = format!("yes {} | head -c {COUNT}", LINE.trim_end());
        let mut ctr = world.command(&world.run(&["--rm"], "c1", &["sh", "-c", &script]));
        let mut ctr = ctr.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("run ctr");
        let sum = sum(ctr.stdout.take().expect("it is a pipe"));
        let sum = timeout(PATIENCE, sum).await.expect("the output ends");
        let mut expected = Hasher::new();
        expected.update(&LINE.repeat(COUNT / LINE.len() + 1).as_bytes()[..COUNT]);
        assert_eq!(sum, (COUNT, expected.finalize()));
        assert!(ctr.wait().await.expect("wait for ctr").success());
    });
}

#[test]
fn no_byte_of_input_is_lost() {
    alone(async |world| {
        let mut ctr = world.command(&world.run(&["--rm"], "c1", &["cat"]));
        let mut ctr = ctr.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run ctr");
        let sent = noise(COUNT);
        let mut stdin = ctr.stdin.take().expect("it is a pipe");
        let mut stdout = ctr.stdout.take().expect("it is a pipe");
        let send = async {
            stdin.write_all(&sent).await.expect("write to ctr");
            drop(stdin);
        };
        let (sum, ()) = timeout(PATIENCE, async { tokio::join!(sum(&mut stdout), send) })
            .await
            .expect("what goes in comes out");
        assert_eq!(sum, (COUNT, crc32fast::hash(&sent)));
        assert!(ctr.wait().await.expect("wait for ctr").success());
    });
}

/// Length and CRC32 of all that can be read.
async fn sum(mut from: impl AsyncRead + Unpin) -> (usize, u32) {
    let (mut hasher, mut length, mut block) = (Hasher::new(), 0, vec![0; MIB]);
    loop {
        match from.read(&mut block).await.expect("read from ctr") {
            0 => return (length, hasher.finalize()),
            count => {
                hasher.update(&block[..count]);
                length += count;
            }
        }
    }
}

#[test]
fn files_are_the_same_inside_and_outside() {
    alone(async |world| {
        let root = rootfs::busybox(Path::new(DIR));
        let odd = root.join("odd");
        fill(&odd);
        fs::write(root.join("etc/passwd"), "user:x:1000:1000::/:/bin/sh\n").expect("write the users");
        // Made inside; a user without any capability changes an owner, by those of the program.
        let script = "cd /odd && ln busybox-capable linked-inside && mknod whiteout-inside c 0 0 && \
                      touch odd-inside && chown 4294967294:4294967294 odd-inside && chmod 6750 odd-inside && \
                      touch given && chown 1000 given && \
                      start-stop-daemon -S -c user -x /odd/busybox-capable chown -- 5 /odd/given";
        let inside = format!("{script} && {}", listing("/odd"));
        let root = root.display().to_string();
        let run = ["run", "--rm", "--runtime", &world.runtime, "--allow-new-privs", "--rootfs", &root, "c1"];
        let inside = world.ctr(&[&run, ["/bin/sh", "-c", &inside].as_slice()].concat()).await.succeeds();
        let busybox = build().join("busybox");
        let outside =
            Command::new(busybox).args(["sh", "-c", &listing(&odd.display().to_string())]).output().await;
        let outside = outside.expect("list the files").succeeds();
        assert_eq!(inside, outside);
        for line in [
            "busybox-capable 0 0 755 3 regular file 0:0",
            "given 5 0 644 1 regular empty file 0:0",
            "odd 4294967294 3000000000 4711 1 regular empty file 0:0",
            "odd-inside 4294967294 4294967294 6750 1 regular empty file 0:0",
            "whiteout 0 0 600 1 character special file 0:0",
            "whiteout-inside 0 0 644 1 character special file 0:0",
        ] {
            assert!(outside.contains(line), "{line} is not in\n{outside}");
        }
        let mut value = [0; 64];
        let count = getxattr(odd.join("linked-inside"), CAPABILITY, &mut value).expect("read an attribute");
        assert_eq!(value[..count], CAP_CHOWN);
    });
}

#[test]
fn a_read_only_volume_cannot_be_written_to_by_root() {
    alone(async |world| {
        if !world.has_machines() {
            return;
        }
        let volume = Path::new(DIR).join("volume");
        fs::create_dir(&volume).expect("make a folder");
        fs::write(volume.join("file"), "as it was").expect("write a file");
        let mount = format!("type=bind,src={},dst=/v,options=rbind:ro", volume.display());
        let script =
            "echo 1 > /v/file; mount -o remount,rw /v; mount -o remount,bind,rw /v; echo 2 > /v/file; \
                      touch /v/new; rm /v/file; cat /v/file";
        let output = world.ctr_run(&["--privileged", "--mount", &mount], "c1", &["sh", "-c", script]).await;
        assert_eq!(text(&output.stdout), "as it was", "{output:?}");
        assert_eq!(fs::read_to_string(volume.join("file")).expect("read the file"), "as it was");
        assert_eq!(fs::read_dir(&volume).expect("list the folder").count(), 1);
    });
}

/// Makes files that many file systems and archives do not keep.
fn fill(odd: &Path) {
    fs::create_dir(odd).expect("make a folder");
    let capable = odd.join("busybox-capable");
    fs::copy(build().join("busybox"), &capable).expect("copy a program");
    fs::set_permissions(&capable, Permissions::from_mode(0o755)).expect("make it executable");
    setxattr(&capable, CAPABILITY, &CAP_CHOWN, XattrFlags::empty()).expect("give it a capability");
    fs::hard_link(&capable, odd.join("linked")).expect("link it");
    let whiteout = odd.join("whiteout");
    mknod(&whiteout, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(0, 0)).expect("make a whiteout");
    fs::write(odd.join("odd"), "").expect("write a file");
    chown(odd.join("odd"), Some(ODD), Some(3_000_000_000)).expect("give it away");
    fs::set_permissions(odd.join("odd"), Permissions::from_mode(0o4711)).expect("make it set-uid");
}

/// Name, owner, group, mode, links, kind and device of each file in a folder.
fn listing(folder: &str) -> String {
    format!("cd {folder} && stat -c '%n %u %g %a %h %F %t:%T' *")
}
