//! The folder that a machine shares with its host: its virtiofsd. Knows the options of the two programs of this name;
//! never mounts anything.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::child::{Child, Program, FIRST_FD};
use super::{remove_stale, Part, Share, VmConfig, VmError};

/// virtiofsd ends some 20 ms after its QEMU, with its child, which a killed one would leave for a moment.
pub(super) const GRACE: Duration = Duration::from_secs(1);
/// It writes a page of text and ends.
const HELP: Duration = Duration::from_secs(5);
/// An option that only the one in Rust has.
const RUST_OPTION: &[u8] = b"--shared-dir";

/// Starts a virtiofsd; gives the connection that is QEMU's.
///
/// It listens on a socket of ours, so that the connection is there before it runs. It forks a child into namespaces of
/// its own once it has taken that; the child ends by itself when its parent or QEMU dies.
pub(super) async fn start(
    config: &VmConfig,
    share: &Share,
    began: &mut impl FnMut(Part, u32),
) -> Result<(Child, OwnedFd), VmError> {
    let socket = config.share_socket();
    remove_stale(&socket)?;
    let (listener, connection) =
        connected(config).map_err(|source| VmError::Dir { path: socket.clone(), source })?;
    let args = match is_rust(share).await? {
        true => rust_args(share),
        false => c_args(share),
    };
    let program = Program { args, fds: vec![listener], ..Program::new(Part::Virtiofsd, &share.virtiofsd) };
    let child = Child::start(Program { grace: GRACE, ..program })?;
    began(Part::Virtiofsd, child.pid());
    Ok((child, connection))
}

fn connected(config: &VmConfig) -> io::Result<(OwnedFd, OwnedFd)> {
    let socket = config.share_socket();
    let listener = UnixListener::bind(&socket)?;
    let connection = UnixStream::connect(&socket)?;
    // It has served: virtiofsd takes one connection, and this is the one.
    std::fs::remove_file(&socket)?;
    Ok((listener.into(), connection.into()))
}

async fn is_rust(share: &Share) -> Result<bool, VmError> {
    let failed = |source| VmError::Start { part: Part::Virtiofsd, source };
    let mut help = Command::new(&share.virtiofsd);
    let help = help.arg("--help").stdin(Stdio::null()).kill_on_drop(true).output();
    let help = timeout(HELP, help).await.map_err(|late| failed(late.into()))?.map_err(failed)?;
    Ok(help.stdout.windows(RUST_OPTION.len()).any(|text| text == RUST_OPTION))
}

/// Without `xattr` file capabilities are lost, without `sys_admin` the opaque folders of overlays; without
/// `announce_submounts` files of different mounts may look like one to the guest.
fn c_args(share: &Share) -> Vec<String> {
    // libfuse's parser splits options at commas that no backslash precedes.
    let source = share.dir.display().to_string().replace('\\', "\\\\").replace(',', "\\,");
    let options = "sandbox=namespace,xattr,modcaps=+sys_admin,announce_submounts,cache=auto";
    vec![format!("--fd={FIRST_FD}"), "-o".into(), format!("source={source}"), "-o".into(), options.into()]
}

/// The same; and no file handles, which reach what lies outside of the folder.
fn rust_args(share: &Share) -> Vec<String> {
    let mut args = vec![format!("--fd={FIRST_FD}"), format!("--shared-dir={}", share.dir.display())];
    let options = "--sandbox=namespace --xattr --modcaps=+sys_admin --announce-submounts --cache=auto \
        --inode-file-handles=never";
    args.extend(options.split_whitespace().map(str::to_string));
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_the_folders_name_ends_no_option() {
        let share = Share { dir: "/a,b".into(), virtiofsd: "/v".into(), tag: "t".into() };
        assert_eq!(c_args(&share)[2], "source=/a\\,b");
        assert_eq!(rust_args(&share)[1], "--shared-dir=/a,b");
    }
}
