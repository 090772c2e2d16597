//! The initrd of the spinbox host made from the one of `./taskw image`: the same programs and modules, and no folder
//! that PID 1 could find ready. Owns the reading of the archive.

use std::fs;
use std::path::Path;

/// What that image has not.
const ABSENT: [&str; 3] = ["dev", "etc", "var"];

/// Fixed part of an entry: the magic and thirteen fields of eight hexadecimal digits (Linux,
/// Documentation/driver-api/early-userspace/buffer-format.rst).
const HEADER: usize = 110;

/// Writes to `to` what of the initrd `from` is in the spinbox image too, with the OCI runtime at its place there.
pub fn write(from: &Path, to: &Path) {
    let image = fs::read(from).expect("read the initrd");
    let mut rest = image.as_slice();
    let mut bare = Vec::new();
    while let Some((name, entry, after)) = split_entry(rest) {
        let top = name.split('/').next().unwrap_or(name);
        if !ABSENT.contains(&top) {
            bare.extend_from_slice(entry);
            if name == "sbin/runc" {
                let at = bare.len() - entry.len() + HEADER;
                bare[at..at + name.len()].copy_from_slice(b"sbin/crun");
            }
        }
        rest = after;
    }
    fs::write(to, bare).expect("write the initrd");
}

/// The first entry of an archive: its name, its bytes, and what follows; none behind the trailer.
fn split_entry(archive: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let header = std::str::from_utf8(archive.get(..HEADER)?).ok()?;
    let field = |at: usize| usize::from_str_radix(&header[6 + at * 8..14 + at * 8], 16).ok();
    let (size, name_len) = (field(6)?, field(11)?);
    let name = std::str::from_utf8(archive.get(HEADER..HEADER + name_len - 1)?).ok()?;
    let end = (HEADER + name_len).next_multiple_of(4) + size.next_multiple_of(4);
    Some((name, archive.get(..end)?, &archive[end..]))
}
