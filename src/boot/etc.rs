//! `/etc`, writable, with the files that containers are given from it, and the name of the host. What the image has is
//! kept.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{access, AccessFlags};

use super::Boot;
use crate::net;
use crate::sys::file;
use crate::sys::host_name::is_host_name;
use crate::sys::mount::{mount, MsFlags};

/// The host's name if nobody gave it one.
const DEFAULT_NAME: &str = "vminitd";

/// Bytes that are read of the image's file: a name, and comments before it.
const FILE_MAX: u64 = 64 << 10;

/// Where the writes go when the root cannot be written: in memory, and gone with the VM.
const UPPER: &str = "/run/vminitd/etc/upper";
const WORK: &str = "/run/vminitd/etc/work";

/// Makes `/etc` if there is none, and lays an overlay over it if it is read-only. After the modules: the overlay may
/// be one.
pub(super) fn make_writable(boot: &mut Boot<'_>) {
    boot.attempt("/etc", writable(Path::new("/etc")));
}

fn writable(etc: &Path) -> io::Result<()> {
    fs::create_dir_all(etc)?;
    match access(etc, AccessFlags::W_OK) {
        Err(Errno::EROFS) => {}
        checked => return Ok(checked?),
    }
    fs::create_dir_all(UPPER)?;
    fs::create_dir_all(WORK)?;
    let data = format!("lowerdir={},upperdir={UPPER},workdir={WORK}", etc.display());
    mount("etc", etc, "overlay", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, &data)
}

/// Names the host and makes the files that are not there: `hostname`, `hosts`, and an empty `resolv.conf`, without
/// which no container could be given the VM's.
pub(super) fn fill(boot: &mut Boot<'_>) {
    let name = host_name(boot, Path::new("/etc"));
    boot.attempt("hostname", fs::write("/proc/sys/kernel/hostname", &name));
    make_files(boot, Path::new("/etc"), &name);
}

fn make_files(boot: &mut Boot<'_>, etc: &Path, name: &str) {
    let files = [("hostname", format!("{name}\n")), ("hosts", hosts(name)), ("resolv.conf", String::new())];
    for (file, content) in files {
        boot.attempt(file, unless_there(&etc.join(file), &content));
    }
}

/// The name as configured, else the image's, else that of the kernel's command line.
fn host_name(boot: &mut Boot<'_>, etc: &Path) -> String {
    let image = beginning(&etc.join("hostname")).unwrap_or_default();
    let of_image = first_line(&image).map(str::to_owned);
    let of_kernel = boot.machine.ip.first().and_then(|ip| net::host_name(ip)).map(str::to_owned);
    for name in [boot.machine.hostname.clone(), of_image, of_kernel].into_iter().flatten() {
        if is_host_name(&name) {
            return name;
        }
        boot.failed(format_args!("host name {name:?}"), &io::Error::from(io::ErrorKind::InvalidInput));
    }
    DEFAULT_NAME.to_owned()
}

/// Waits for nobody, and takes no more memory than a file of this kind is worth.
fn beginning(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::from(file::open_to_read(path)?).take(FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The name in a file of the format of hostname(5), where lines that begin with `#` are comments.
fn first_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The host's own name has an address of its own on the loopback, as Debian has it: it may have no other.
fn hosts(name: &str) -> String {
    let fixed = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
    match name {
        "localhost" => fixed.to_owned(),
        name => format!("{fixed}127.0.1.1\t{name}\n"),
    }
}

/// Writes a file unless there is one. A symlink to nowhere, as images have for a resolver that would run in them,
/// gives way to it.
fn unless_there(path: &Path, content: &str) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::write(path, content),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::tests::{failures_of, in_empty_root, with_settings};
    use super::*;
    use crate::config::Machine;

    fn name_of(configured: Option<&str>, image: &str, ip: &str) -> (String, usize) {
        let etc = tempfile::tempdir().unwrap();
        fs::write(etc.path().join("hostname"), image).unwrap();
        let hostname = configured.map(str::to_owned);
        let machine = Machine { hostname, ip: vec![ip.to_owned()], ..Machine::default() };
        let mut name = String::new();
        let failures = with_settings(&machine, |boot| {
            name = host_name(boot, etc.path());
        });
        (name, failures)
    }

    #[test]
    fn the_first_source_with_a_name_gives_it() {
        let ip = "::::from-ip";
        let check = |configured, image, line, name: &str, failures| {
            assert_eq!(name_of(configured, image, line), (name.to_owned(), failures));
        };
        check(Some("mine"), "image\n", ip, "mine", 0);
        check(None, "# comment\n\n image \n", ip, "image", 0);
        check(None, "\n", ip, "from-ip", 0);
        check(None, "", "[2001:db8::7]::[2001:db8::1]:64:box:eth0", "box", 0);
        check(None, "", "", DEFAULT_NAME, 0);
        check(None, "", "[fd00:1:2:3:4::5]::[fd00::1]:64:of-ipv6:eth0", "of-ipv6", 0);
        check(None, "", "[fd00:1:2:3:4::5]::[fd00::1]:64::eth0", DEFAULT_NAME, 0);
        check(Some(""), "image", ip, "image", 1);
        check(Some("no name"), &"x".repeat(65), "::::a/b", DEFAULT_NAME, 3);
    }

    #[test]
    fn a_file_of_the_image_that_is_endless_or_a_fifo_holds_up_nothing() {
        let etc = tempfile::tempdir().unwrap();
        let path = etc.path().join("hostname");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(beginning(&path).unwrap(), "");
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert_eq!(beginning(&path).unwrap().len() as u64, FILE_MAX);
    }

    #[test]
    fn files_are_made_where_there_are_none() {
        let etc = tempfile::tempdir().unwrap();
        let read = |name| fs::read_to_string(etc.path().join(name)).unwrap();
        fs::write(etc.path().join("hosts"), "the image's").unwrap();
        symlink("../run/systemd/resolve/stub-resolv.conf", etc.path().join("resolv.conf")).unwrap();

        assert_eq!(failures_of(|boot| make_files(boot, etc.path(), "box")), 0);

        assert_eq!((read("hosts").as_str(), read("hostname").as_str()), ("the image's", "box\n"));
        assert_eq!(read("resolv.conf"), "");
        fs::remove_file(etc.path().join("hosts")).unwrap();
        assert_eq!(failures_of(|boot| make_files(boot, etc.path(), "box")), 0);
        assert!(
            read("hosts").starts_with("127.0.0.1\tlocalhost\n")
                && read("hosts").ends_with("127.0.1.1\tbox\n")
        );
    }

    #[test]
    fn a_root_without_etc_gets_one_and_keeps_it() {
        in_empty_root(|| {
            assert_eq!(failures_of(make_writable), 0);
            fs::write("/etc/file", "").unwrap();
            assert_eq!(failures_of(make_writable), 0);
            assert!(Path::new("/etc/file").exists());
        });
    }

    #[test]
    fn over_a_read_only_etc_lies_one_that_keeps_its_files_and_takes_others() {
        in_empty_root(|| {
            let tmpfs = |path: &str| {
                fs::create_dir(path).unwrap();
                mount("test", Path::new(path), "tmpfs", MsFlags::empty(), "").unwrap();
            };
            tmpfs("/run");
            tmpfs("/etc");
            fs::write("/etc/hosts", "the image's").unwrap();
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount("test", Path::new("/etc"), "tmpfs", read_only, "").unwrap();

            assert_eq!(failures_of(make_writable), 0);
            assert_eq!(failures_of(|boot| make_files(boot, Path::new("/etc"), "box")), 0);

            assert_eq!(fs::read_to_string("/etc/hosts").unwrap(), "the image's");
            assert_eq!(fs::read_to_string("/etc/hostname").unwrap(), "box\n");
        });
    }
}
