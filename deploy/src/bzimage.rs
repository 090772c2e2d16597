//! Takes the ELF `vmlinux` out of an x86 `bzImage`, so that QEMU can start it through PVH. Only the lz4 payload of
//! Debian's cloud kernel is understood; it never guesses by searching for magic numbers.

use lz4_flex::block::{decompress_into, DecompressError};

/// Offsets in the setup header (Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
const SETUP_SECTS: usize = 0x1f1;
const HEADER_MAGIC: usize = 0x202;
const PROTOCOL_VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The first boot protocol whose header tells where the payload lies (same document).
const FIRST_PROTOCOL_WITH_PAYLOAD: u16 = 0x0208;

/// First word of lz4's legacy frame, which the kernel's build uses (lz4_Frame_format.md, "Legacy frame").
const LZ4_LEGACY_MAGIC: u32 = 0x184c_2102;

/// What one block of a legacy frame decompresses to at most (same document).
const LZ4_LEGACY_BLOCK_MAX: usize = 8 << 20;

/// The kernel's build appends the payload's decompressed size, four bytes (scripts/Makefile.lib, `size_append`).
const SIZE_TRAILER_LEN: usize = 4;

const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Why a `bzImage` gave no kernel.
#[derive(Debug, thiserror::Error)]
pub enum BzImageError {
    /// The setup header's magic is missing.
    #[error("read the kernel: it is not an x86 bzImage")]
    NotBzImage,
    /// A kernel before 2.6.24.
    #[error("read the kernel: its boot protocol {0:#06x} does not say where the payload is")]
    TooOld(u16),
    /// The file ends before the part that its header promises.
    #[error("read the kernel: it ends within its {0}")]
    Truncated(&'static str),
    /// Compressed with something else than lz4.
    #[error(
        "read the kernel: its payload begins with {0:#010x}, and only lz4 (as in Debian 12) is understood"
    )]
    NotLz4(u32),
    /// The lz4 data is damaged.
    #[error("decompress the kernel")]
    Decompress(#[from] DecompressError),
    /// The size that the build recorded differs.
    #[error("decompress the kernel: {got} bytes came out where {wanted} were recorded")]
    Size { got: usize, wanted: usize },
    /// What came out is no ELF image.
    #[error("use the kernel: its payload is not an ELF image")]
    NotElf,
}

/// The ELF image inside `bzimage`.
pub fn vmlinux(bzimage: &[u8]) -> Result<Vec<u8>, BzImageError> {
    let (data, size) = split_trailer(payload(bzimage)?)?;
    let image = decompress_legacy(data, size)?;
    if image.len() != size {
        return Err(BzImageError::Size { got: image.len(), wanted: size });
    }
    if !image.starts_with(ELF_MAGIC) {
        return Err(BzImageError::NotElf);
    }
    Ok(image)
}

/// The compressed kernel with its size trailer.
fn payload(bzimage: &[u8]) -> Result<&[u8], BzImageError> {
    if bzimage.get(HEADER_MAGIC..HEADER_MAGIC + 4) != Some(b"HdrS") {
        return Err(BzImageError::NotBzImage);
    }
    let version = bzimage.get(PROTOCOL_VERSION..PROTOCOL_VERSION + 2);
    let version = version.map(|b| u16::from_le_bytes([b[0], b[1]])).ok_or(BzImageError::NotBzImage)?;
    if version < FIRST_PROTOCOL_WITH_PAYLOAD {
        return Err(BzImageError::TooOld(version));
    }
    // Zero means four, for loaders of the last century; the boot sector itself comes before these (boot.rst).
    let sectors = match bzimage[SETUP_SECTS] {
        0 => 4,
        n => usize::from(n),
    };
    let start = (sectors + 1) * 512 + word(bzimage, PAYLOAD_OFFSET, "header")?;
    let len = word(bzimage, PAYLOAD_LENGTH, "header")?;
    bzimage.get(start..start + len).ok_or(BzImageError::Truncated("payload"))
}

fn split_trailer(payload: &[u8]) -> Result<(&[u8], usize), BzImageError> {
    let at = payload.len().checked_sub(SIZE_TRAILER_LEN).ok_or(BzImageError::Truncated("payload"))?;
    Ok((&payload[..at], word(payload, at, "payload")?))
}

/// Decompresses a legacy frame: a magic word, then blocks that each begin with their compressed length.
fn decompress_legacy(frame: &[u8], size: usize) -> Result<Vec<u8>, BzImageError> {
    let magic = word(frame, 0, "payload")? as u32;
    if magic != LZ4_LEGACY_MAGIC {
        return Err(BzImageError::NotLz4(magic));
    }
    let mut out = Vec::with_capacity(size);
    let mut block = vec![0; LZ4_LEGACY_BLOCK_MAX];
    let mut rest = &frame[4..];
    while !rest.is_empty() {
        let len = word(rest, 0, "payload")?;
        let compressed = rest.get(4..4 + len).ok_or(BzImageError::Truncated("payload"))?;
        let written = decompress_into(compressed, &mut block)?;
        out.extend_from_slice(&block[..written]);
        rest = &rest[4 + len..];
    }
    Ok(out)
}

/// The little-endian 32-bit number at `at`.
fn word(bytes: &[u8], at: usize, part: &'static str) -> Result<usize, BzImageError> {
    let bytes = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or(BzImageError::Truncated(part))?;
    Ok(u32::from_le_bytes(bytes) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage with one setup sector whose payload is `blocks`, each compressed by itself.
    fn bzimage(blocks: &[&[u8]], recorded: usize) -> Vec<u8> {
        let mut payload = LZ4_LEGACY_MAGIC.to_le_bytes().to_vec();
        for block in blocks {
            let compressed = lz4_flex::block::compress(block);
            payload.extend((compressed.len() as u32).to_le_bytes());
            payload.extend(compressed);
        }
        payload.extend((recorded as u32).to_le_bytes());
        let mut image = vec![0; 1024 + 64];
        image[SETUP_SECTS] = 1;
        image[HEADER_MAGIC..HEADER_MAGIC + 4].copy_from_slice(b"HdrS");
        image[PROTOCOL_VERSION..PROTOCOL_VERSION + 2].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&64_u32.to_le_bytes());
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend(payload);
        image
    }

    #[test]
    fn the_blocks_of_the_payload_are_joined() {
        let image = bzimage(&[b"\x7fELF and ", b"more"], 13);
        assert_eq!(vmlinux(&image).unwrap(), b"\x7fELF and more");
    }

    #[test]
    fn a_file_without_the_header_magic_is_refused() {
        assert!(matches!(vmlinux(&[0; 2048]), Err(BzImageError::NotBzImage)));
    }

    #[test]
    fn every_shorter_file_is_an_error_and_never_a_panic() {
        let image = bzimage(&[b"\x7fELF and more"], 13);
        for len in 0..image.len() {
            assert!(vmlinux(&image[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn another_compression_is_named() {
        let mut image = bzimage(&[b"\x7fELF"], 4);
        image[1088..1092].copy_from_slice(&0xfd2f_b528_u32.to_le_bytes());
        assert!(matches!(vmlinux(&image), Err(BzImageError::NotLz4(0xfd2f_b528))));
    }

    #[test]
    fn a_payload_of_another_size_than_recorded_is_refused() {
        let image = bzimage(&[b"\x7fELF and more"], 14);
        assert!(matches!(vmlinux(&image), Err(BzImageError::Size { got: 13, wanted: 14 })));
    }

    #[test]
    fn a_payload_that_is_no_elf_is_refused() {
        assert!(matches!(vmlinux(&bzimage(&[b"text"], 4)), Err(BzImageError::NotElf)));
    }
}
