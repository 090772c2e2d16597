//! The extras disk: files that the host adds to the VM's own root, as a tar archive on a disk. It knows of no container.
//!
//! What is on the disk is checked before anything is made of it. Files appear whole or not at all, and only files and
//! directories do. Nothing here ends the boot.

mod tar;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use tracing::{debug, info};

use super::Boot;
use crate::config::ExtrasDisk;
use crate::sys::mount::Place;
use tar::{Archive, Entry, Kind, TarError};

/// Says, with the text `done`, that the archive was read to its end. `/run` is new with each boot.
const MARKER: &str = "run/spin-stack/.extras-extracted";

/// What a file is called until it is whole.
const TEMPORARY: &str = ".vminitd-extras";

/// Directories that are missing on the way to a file.
const DIRECTORY_MODE: u32 = 0o755;

/// Entries that are reported each; of more only the number is, as an archive has any number of them.
const REPORTED_MAX: u64 = 16;

/// What is read at once.
const READ_BYTES: usize = 64 << 10;

/// Why an entry was left out.
#[derive(Debug, thiserror::Error)]
enum ExtrasError {
    #[error("its name is not absolute")]
    Relative,
    #[error("it has no name")]
    Nameless,
    #[error("it is neither a file nor a directory (type {0:?})")]
    NoFile(char),
    #[error(transparent)]
    Write(#[from] io::Error),
    /// Nothing after it can be read either.
    #[error(transparent)]
    Archive(#[from] TarError),
}

/// The device that the setting means; an index is that of the kernel's naming.
pub(super) fn device_name(disk: &ExtrasDisk) -> String {
    match disk {
        ExtrasDisk::Index(index) => format!("/dev/vd{}", letters(u32::from(*index))),
        ExtrasDisk::Named(name) => name.clone(),
    }
}

/// `a` to `z`, then `aa`, `ab` and so on (`sd_format_disk_name` and its like in Linux).
fn letters(index: u32) -> String {
    let last = char::from(b'a' + (index % 26) as u8);
    match index / 26 {
        0 => last.to_string(),
        above => letters(above - 1) + &last.to_string(),
    }
}

/// Extracts the disk that the step before has found, unless that was done before.
pub(super) fn extract(boot: &mut Boot<'_>) {
    if let Some(node) = boot.extras_node.take() {
        let force = boot.machine.extras_force;
        extract_once(boot, Path::new(&node), Path::new("/"), force);
    }
}

fn extract_once(boot: &mut Boot<'_>, device: &Path, root: &Path, force: bool) {
    let marker = root.join(MARKER);
    if !force && marker.exists() {
        return debug!("extras were extracted before");
    }
    match unpack(boot, device, root) {
        Ok(files) => {
            info!(files, device = %device.display(), "extras extracted");
            boot.attempt(marker.display(), mark(&marker));
        }
        Err(error) => boot.failed(device.display(), &io::Error::other(error)),
    }
}

fn mark(marker: &Path) -> io::Result<()> {
    fs::create_dir_all(marker.parent().unwrap_or(Path::new("/")))?;
    fs::write(marker, "done\n")
}

/// Extracts what can be; how many files that were.
fn unpack(boot: &mut Boot<'_>, device: &Path, root: &Path) -> Result<u64, ExtrasError> {
    let mut device = File::open(device)?;
    let length = device.seek(SeekFrom::End(0))?;
    device.rewind()?;
    let root = Place::open(root)?;
    let mut archive = Archive::new(BufReader::with_capacity(READ_BYTES, device), length);
    let (mut files, mut refused) = (0, 0);
    while let Some(entry) = archive.next()? {
        match unpack_entry(&root, &entry, &mut archive) {
            Ok(()) => files += u64::from(entry.kind == Kind::File),
            Err(ExtrasError::Archive(error)) => return Err(error.into()),
            Err(error) => {
                refused += 1;
                if refused <= REPORTED_MAX {
                    boot.failed(entry.path.display(), &io::Error::other(error));
                }
            }
        }
    }
    if refused > REPORTED_MAX {
        let more = refused - REPORTED_MAX;
        boot.failed("more entries", &io::Error::other(format!("{more} of them were left out")));
    }
    Ok(files)
}

fn unpack_entry(
    root: &Place,
    entry: &Entry,
    archive: &mut Archive<impl io::Read>,
) -> Result<(), ExtrasError> {
    if !entry.path.is_absolute() {
        return Err(ExtrasError::Relative);
    }
    let inside = clean(&entry.path);
    let name = inside.file_name().ok_or(ExtrasError::Nameless)?;
    let above = inside.parent().unwrap_or(Path::new(""));
    match entry.kind {
        Kind::Directory => {
            let above = directory(root, above)?;
            match above.within(name.as_ref()) {
                Err(error) if error.kind() == ErrorKind::NotFound => make(&above, name.as_ref(), entry.mode)?,
                found => found?,
            };
            Ok(())
        }
        Kind::File => write_file(&directory(root, above)?.handle(), name.as_ref(), entry, archive),
        Kind::Other(flag) => Err(ExtrasError::NoFile(flag)),
    }
}

/// The path from the root, without `..`, which is as in a shell: no directory is looked at for it.
fn clean(path: &Path) -> PathBuf {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => drop(inside.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    inside
}

/// Opens a directory, making those that are missing. The image's own symlinks are followed, as `/bin` often is one,
/// from the root as they are for every program; the archive makes none.
fn directory(root: &Place, inside: &Path) -> io::Result<Place> {
    if let Ok(found) = root.within(inside) {
        return Ok(found);
    }
    let mut place = root.within(Path::new(""))?;
    let mut path = PathBuf::new();
    for part in inside.components() {
        path.push(part);
        place = match root.within(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => make(&place, part.as_ref(), DIRECTORY_MODE),
            found => found,
        }?;
    }
    Ok(place)
}

fn make(parent: &Place, name: &Path, mode: u32) -> io::Result<Place> {
    parent.make_dir(name.as_os_str())?;
    let made = parent.beneath(name)?;
    made.adorn(mode, None, None)?;
    Ok(made)
}

/// Writes a file beside its place and moves it there, over any other, when it is whole.
fn write_file(
    folder: &Path,
    name: &Path,
    entry: &Entry,
    archive: &mut Archive<impl io::Read>,
) -> Result<(), ExtrasError> {
    let temporary = folder.join(TEMPORARY);
    // It may have been left where the root outlives a boot that was cut off.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = fill(&mut file, entry.size, archive).and_then(|()| {
        // Last of all: writing clears set-id bits, and the umask has no say in it.
        file.set_permissions(Permissions::from_mode(entry.mode))?;
        Ok(fs::rename(&temporary, folder.join(name))?)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn fill(file: &mut File, size: u64, archive: &mut Archive<impl io::Read>) -> Result<(), ExtrasError> {
    // Most files are small. The byte at least is what the end of the content is told with.
    let mut buffer = vec![0; size.clamp(1, READ_BYTES as u64) as usize];
    loop {
        match archive.read(&mut buffer)? {
            0 => return Ok(()),
            length => file.write_all(&buffer[..length])?,
        }
    }
}
