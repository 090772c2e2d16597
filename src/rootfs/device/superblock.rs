//! The label and the UUID that a file system bears, read from its first bytes. Pure. It knows ext2, ext3 and ext4, which
//! are alike here, erofs and xfs; whatever else is on a device has neither.

/// How much of a device [`Superblock::parse`] looks at.
pub(super) const BYTES: usize = 4096;

/// Where a kind of file system keeps what is sought, in bytes from the beginning of the device.
struct Format {
    magic: (usize, &'static [u8]),
    uuid: usize,
    /// Where, and how long at most; a shorter one ends with a NUL.
    label: (usize, usize),
}

/// The superblocks of ext and erofs begin at 1,024. Offsets in them: Linux, fs/ext4/ext4.h (`struct ext4_super_block`),
/// fs/erofs/erofs_fs.h (`struct erofs_super_block`), fs/xfs/libxfs/xfs_format.h (`struct xfs_dsb`).
const FORMATS: [Format; 3] = [
    Format { magic: (1024 + 56, &[0x53, 0xef]), uuid: 1024 + 104, label: (1024 + 120, 16) },
    Format { magic: (1024, &[0xe2, 0xe1, 0xf5, 0xe0]), uuid: 1024 + 48, label: (1024 + 64, 16) },
    Format { magic: (0, b"XFSB"), uuid: 32, label: (108, 12) },
];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Superblock<'a> {
    uuid: &'a [u8],
    label: &'a [u8],
}

impl Superblock<'_> {
    /// `None` if no file system is known by these bytes, which are the first of a device.
    pub(super) fn parse(bytes: &[u8]) -> Option<Superblock<'_>> {
        let part = |at: usize, length| bytes.get(at..)?.get(..length);
        let format = FORMATS.iter().find(|format| {
            let (at, magic) = format.magic;
            part(at, magic.len()) == Some(magic)
        })?;
        let label = part(format.label.0, format.label.1)?;
        let label = label.split(|byte| *byte == 0).next()?;
        Some(Superblock { uuid: part(format.uuid, 16)?, label })
    }

    /// A file system without a label has none that could be asked for.
    pub(super) fn has_label(&self, label: &str) -> bool {
        !label.is_empty() && self.label == label.as_bytes()
    }

    /// `text` has the digits in any case, and dashes where it likes.
    pub(super) fn has_uuid(&self, text: &str) -> bool {
        let asked = text.chars().filter(|char| *char != '-').map(|char| char.to_digit(16));
        let nibbles = self.uuid.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        asked.eq(nibbles.map(|nibble| Some(u32::from(nibble))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
    const UUID_BYTES: [u8; 16] =
        [0x0f, 0x1e, 0x2d, 0x3c, 0x4b, 0x5a, 0x69, 0x78, 0x87, 0x96, 0xa5, 0xb4, 0xc3, 0xd2, 0xe1, 0xf0];

    /// The first bytes of a device with these at these places.
    fn device(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        for (at, part) in parts {
            bytes[*at..*at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn each_kind_is_told_by_its_magic() {
        let xfs = device(&[(0, b"XFSB"), (32, &UUID_BYTES), (108, b"twelve bytes")]);
        let ext = device(&[(1080, &[0x53, 0xef]), (1128, &UUID_BYTES), (1144, b"scratch")]);
        let erofs = device(&[(1024, &0xe0f5_e1e2u32.to_le_bytes()), (1072, &UUID_BYTES), (1088, b"layer")]);
        for (bytes, label) in [(xfs, "twelve bytes"), (ext, "scratch"), (erofs, "layer")] {
            let found = Superblock::parse(&bytes).unwrap();
            assert!(found.has_label(label) && found.has_uuid(UUID), "{found:?}");
        }
    }

    #[test]
    fn what_has_no_magic_or_is_cut_off_is_no_file_system() {
        let ext = device(&[(1080, &[0x53, 0xef])]);
        assert!(Superblock::parse(&ext).is_some());
        for bytes in [&ext[..1100], &ext[..0], &device(&[])] {
            assert_eq!(Superblock::parse(bytes), None);
        }
    }

    #[test]
    fn a_label_is_asked_for_exactly_and_a_uuid_in_any_writing() {
        let block = Superblock { uuid: &UUID_BYTES, label: b"Data" };
        assert!(block.has_label("Data"));
        for label in ["data", "Dat", "Data1", ""] {
            assert!(!block.has_label(label), "{label}");
        }
        assert!(!Superblock { uuid: &UUID_BYTES, label: b"" }.has_label(""));
        for uuid in [UUID, &UUID.to_uppercase(), &UUID.replace('-', "")] {
            assert!(block.has_uuid(uuid), "{uuid}");
        }
        for uuid in ["", "-", "0f1e2d3c", &UUID[..35], &format!("{UUID}0"), &UUID.replace('f', "g")] {
            assert!(!block.has_uuid(uuid), "{uuid}");
        }
    }

    /// 256 bytes of each superblock, of mke2fs 1.47, mkfs.xfs 6.1 and mkfs.erofs 1.5, which gives no label.
    #[test]
    fn file_systems_as_their_tools_make_them_are_read() {
        for (at, made, label) in [
            (1024, include_bytes!("superblock/ext4"), "a label"),
            (1024, include_bytes!("superblock/erofs"), ""),
            (0, include_bytes!("superblock/xfs"), "a label"),
        ] {
            let bytes = device(&[(at, made)]);
            let found = Superblock::parse(&bytes).unwrap();
            assert!(found.label == label.as_bytes() && found.has_uuid(UUID), "{found:?}");
        }
    }
}
