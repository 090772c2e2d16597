//! Writes `newc` cpio archives, the format of an initrd, in one way only: sorted by name, owned by root, dated 1970,
//! inodes counted from one. The same tree gives the same bytes. It never reads the file system.

use std::collections::BTreeMap;
use std::io::{self, Write};

/// Type bits of a mode (inode(7)).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

/// What names the end of an archive (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
const TRAILER: &str = "TRAILER!!!";

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CpioError {
    /// The format has 32 bits for a length.
    #[error("archive {name}: {len} bytes are more than the format can say")]
    TooLarge { name: String, len: usize },
    /// The writer failed.
    #[error("write the archive")]
    Write(#[from] io::Error),
}

#[derive(Debug)]
enum Node {
    Directory,
    File { permissions: u32, data: Vec<u8> },
    CharDevice { permissions: u32, major: u32, minor: u32 },
}

/// A tree of files to be archived. Parents of whatever is added exist by themselves.
#[derive(Debug, Default)]
pub struct Tree {
    /// By path relative to the root, so that a parent always sorts before what is in it.
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Adds a directory that anyone may read.
    pub fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        self.parents(path);
        self.nodes.entry(path.to_owned()).or_insert(Node::Directory);
    }

    /// Adds a file, or replaces the one of that path.
    pub fn file(&mut self, path: &str, permissions: u32, data: Vec<u8>) {
        self.add(path, Node::File { permissions, data });
    }

    /// Adds a character device node.
    pub fn char_device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) {
        self.add(path, Node::CharDevice { permissions, major, minor });
    }

    /// Writes the archive, uncompressed.
    pub fn write_to(&self, out: &mut impl Write) -> Result<(), CpioError> {
        for ((name, node), inode) in self.nodes.iter().zip(1..) {
            write_entry(out, name, inode, node)?;
        }
        let trailer = Node::File { permissions: 0, data: Vec::new() };
        write_entry(out, TRAILER, 0, &trailer)
    }

    fn add(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        self.parents(path);
        self.nodes.insert(path.to_owned(), node);
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.nodes.entry(path[..at].to_owned()).or_insert(Node::Directory);
        }
    }
}

/// One member: the header of thirteen 8-digit fields, the name and the data, each padded to four bytes.
fn write_entry(out: &mut impl Write, name: &str, inode: u32, node: &Node) -> Result<(), CpioError> {
    let (mode, links, (major, minor), data): (u32, u32, (u32, u32), &[u8]) = match node {
        Node::Directory => (DIRECTORY | 0o755, 2, (0, 0), &[]),
        Node::File { permissions, data } => (REGULAR | permissions, 1, (0, 0), data),
        Node::CharDevice { permissions, major, minor } => (CHARACTER | permissions, 1, (*major, *minor), &[]),
    };
    let size = u32::try_from(data.len())
        .map_err(|_| CpioError::TooLarge { name: name.to_owned(), len: data.len() })?;
    let name_len = name.len() as u32 + 1;
    // In order: owner, group and time of change are zero, as are the device and the checksum.
    let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_len, 0];
    let mut header = String::from("070701");
    for field in fields {
        header.push_str(&format!("{field:08x}"));
    }
    out.write_all(header.as_bytes())?;
    out.write_all(name.as_bytes())?;
    out.write_all(&[0])?;
    pad(out, header.len() + name.len() + 1)?;
    out.write_all(data)?;
    pad(out, data.len())?;
    Ok(())
}

fn pad(out: &mut impl Write, written: usize) -> io::Result<()> {
    out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Entry {
        name: String,
        mode: u32,
        inode: u32,
        device: (u32, u32),
        data: Vec<u8>,
    }

    /// Reads an archive back, by the format's own description.
    fn parse(mut bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let text = std::str::from_utf8(&bytes[6..110]).unwrap();
            let field = |i: usize| u32::from_str_radix(&text[i * 8..i * 8 + 8], 16).unwrap();
            let (size, name_len) = (field(6) as usize, field(11) as usize);
            assert_eq!((field(2), field(3), field(5)), (0, 0, 0), "uid, gid, mtime");
            assert_eq!(bytes[110 + name_len - 1], 0);
            let name = String::from_utf8(bytes[110..110 + name_len - 1].to_vec()).unwrap();
            let data_at = (110 + name_len).next_multiple_of(4);
            if name == TRAILER {
                assert_eq!(bytes.len(), data_at, "nothing follows the trailer");
                return entries;
            }
            let data = bytes[data_at..data_at + size].to_vec();
            entries.push(Entry {
                name,
                mode: field(1),
                inode: field(0),
                device: (field(9), field(10)),
                data,
            });
            bytes = &bytes[(data_at + size).next_multiple_of(4)..];
        }
    }

    fn bytes_of(tree: &Tree) -> Vec<u8> {
        let mut out = Vec::new();
        tree.write_to(&mut out).unwrap();
        out
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut tree = Tree::default();
        tree.file("/init", 0o755, b"hello".to_vec());
        tree.char_device("/dev/console", 0o600, 5, 1);
        tree.directory("/proc");
        let entry = |name: &str, mode, inode, device, data: &[u8]| Entry {
            name: name.to_owned(),
            mode,
            inode,
            device,
            data: data.to_vec(),
        };
        assert_eq!(
            parse(&bytes_of(&tree)),
            [
                entry("dev", 0o040_755, 1, (0, 0), b""),
                entry("dev/console", 0o020_600, 2, (5, 1), b""),
                entry("init", 0o100_755, 3, (0, 0), b"hello"),
                entry("proc", 0o040_755, 4, (0, 0), b""),
            ]
        );
    }

    #[test]
    fn a_parent_comes_before_what_is_in_it() {
        let mut tree = Tree::default();
        tree.file("lib/modules/a.ko", 0o644, vec![1, 2, 3]);
        tree.file("lib64/ld.so", 0o755, vec![]);
        tree.directory("lib");
        let names: Vec<String> = parse(&bytes_of(&tree)).into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["lib", "lib/modules", "lib/modules/a.ko", "lib64", "lib64/ld.so"]);
    }

    #[test]
    fn the_order_of_adding_does_not_show() {
        let mut one = Tree::default();
        one.file("a/x", 0o644, b"x".to_vec());
        one.file("b", 0o644, b"bb".to_vec());
        let mut other = Tree::default();
        other.file("b", 0o644, b"bb".to_vec());
        other.directory("a");
        other.file("a/x", 0o644, b"x".to_vec());
        assert_eq!(bytes_of(&one), bytes_of(&other));
    }
}
