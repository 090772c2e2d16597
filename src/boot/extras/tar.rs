//! A tar archive, read from its beginning to its end: headers of ustar, with the records of pax that change a name or a
//! size, and the long names of GNU (pax in POSIX.1-2017; tar(5) of the BSDs). It touches no file, and what it gives of an
//! entry is what the archive says: names can lead anywhere.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Headers are of this size, and contents are filled up to a multiple of it.
const BLOCK: usize = 512;

/// What records that belong to an entry may take, as with Go's archive/tar, which hosts write archives with. A path is
/// 4 KiB at most; the rest is room for records that are not looked at.
const RECORDS_MAX: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    #[error("there is no tar archive at its beginning")]
    NotTar,
    #[error("the header at byte {0} is damaged")]
    Damaged(u64),
    #[error("the archive is cut off in {path:?}: {left} bytes are there of {size}")]
    CutOff { path: PathBuf, left: u64, size: u64 },
    #[error("the archive is cut off at byte {0}: its end is missing")]
    NoEnd(u64),
    #[error("the records of a header take {0} bytes, which is too much")]
    LongRecords(u64),
    #[error("read at byte {at}: {source}")]
    Read { at: u64, source: io::Error },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    /// By its type flag; `S` is a file with holes, in any notation.
    Other(char),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// Permission bits, those of set-id and sticky included.
    pub(super) mode: u32,
    /// Bytes of content.
    pub(super) size: u64,
}

/// An archive, and how far it has been read.
pub(super) struct Archive<R> {
    from: R,
    at: u64,
    length: u64,
    /// Of the content of the last entry, what has not been read.
    content: u64,
    /// What fills its last block.
    padding: u64,
}

/// What records before a header say of the entry in place of the header.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    has_holes: bool,
}

impl<R: Read> Archive<R> {
    /// `from` has `length` bytes; what is behind the end of the archive is not read.
    pub(super) fn new(from: R, length: u64) -> Archive<R> {
        Archive { from, at: 0, length, content: 0, padding: 0 }
    }

    /// The next entry, whatever has been read of the last one; none at the end. All of its content is there, if
    /// `length` is right. After an error nothing more can be read.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut said = Said::default();
        loop {
            self.skip()?;
            let at = self.at;
            let Some(header) = self.header()? else { return Ok(None) };
            let field = |from: usize, length: usize| number(&header[from..from + length]);
            let damaged = TarError::Damaged(at);
            let (Some(mode), Some(size)) = (field(100, 8), field(124, 12)) else { return Err(damaged) };
            match header[156] {
                b'x' => said.read_pax(&self.records(size)?).ok_or(damaged)?,
                b'L' => said.path = Some(until_nul(&self.records(size)?).to_vec()),
                // For all entries (no name or size could be meant), and the long name of what a link leads to.
                b'g' | b'K' => self.begin(size, &PathBuf::new())?,
                flag => {
                    if flag == b'S' && header[482] != 0 {
                        self.skip_map()?;
                    }
                    return self.entry(&header, flag, mode, said.size.unwrap_or(size), said).map(Some);
                }
            }
        }
    }

    /// Reads on in the content of the last entry; 0 at its end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, TarError> {
        let most = usize::try_from(self.content).map_or(into.len(), |content| content.min(into.len()));
        self.read_exact(&mut into[..most])?;
        self.content -= most as u64;
        Ok(most)
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        flag: u8,
        mode: u64,
        size: u64,
        said: Said,
    ) -> Result<Entry, TarError> {
        let path = said.path.unwrap_or_else(|| name_of(header));
        let kind = match flag {
            _ if said.has_holes => Kind::Other('S'),
            b'5' => Kind::Directory,
            // Of a time before there was a flag for directories.
            b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            other => Kind::Other(other.into()),
        };
        // Links, devices, directories and pipes have no content, whatever their size says.
        let size = if matches!(flag, b'1'..=b'6') { 0 } else { size };
        let path = PathBuf::from(OsString::from_vec(path));
        self.begin(size, &path)?;
        Ok(Entry { path, kind, mode: (mode & 0o7777) as u32, size })
    }

    /// Content follows.
    fn begin(&mut self, size: u64, path: &std::path::Path) -> Result<(), TarError> {
        let left = self.length - self.at;
        if size > left {
            return Err(TarError::CutOff { path: path.to_owned(), left, size });
        }
        self.content = size;
        // A device need not end with a whole block.
        self.padding = (size.next_multiple_of(BLOCK as u64) - size).min(left - size);
        Ok(())
    }

    /// The next header; none at the end of the archive, which is an empty block (and another one).
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let (at, is_first) = (self.at, self.at == 0);
        if self.length - at < BLOCK as u64 {
            return Err(if is_first { TarError::NotTar } else { TarError::NoEnd(at) });
        }
        let mut header = [0; BLOCK];
        self.read_exact(&mut header)?;
        match (is_header(&header), header == [0; BLOCK]) {
            (true, _) => Ok(Some(header)),
            (false, true) if !is_first => Ok(None),
            (false, _) => Err(if is_first { TarError::NotTar } else { TarError::Damaged(at) }),
        }
    }

    /// The whole content, which is about the entry that follows.
    fn records(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > RECORDS_MAX {
            return Err(TarError::LongRecords(size));
        }
        self.begin(size, &PathBuf::new())?;
        let mut records = vec![0; size as usize];
        self.read(&mut records)?;
        Ok(records)
    }

    /// Leaves out the map of a file with holes that has no room in its header (GNU's `struct sparse_header`; a byte says
    /// whether another block follows). Its size does not count it.
    fn skip_map(&mut self) -> Result<(), TarError> {
        let mut block = [0; BLOCK];
        loop {
            if self.length - self.at < BLOCK as u64 {
                return Err(TarError::NoEnd(self.at));
            }
            self.read_exact(&mut block)?;
            if block[504] == 0 {
                return Ok(());
            }
        }
    }

    /// Leaves out what is left of the last entry.
    fn skip(&mut self) -> Result<(), TarError> {
        let mut nowhere = [0; BLOCK];
        while self.read(&mut nowhere)? > 0 {}
        let padding = std::mem::take(&mut self.padding) as usize;
        self.read_exact(&mut nowhere[..padding])
    }

    fn read_exact(&mut self, into: &mut [u8]) -> Result<(), TarError> {
        let at = self.at;
        self.from.read_exact(into).map_err(|source| TarError::Read { at, source })?;
        self.at += into.len() as u64;
        Ok(())
    }
}

impl Said {
    /// Reads records `<length> <key>=<value>\n`; none if they are not such.
    fn read_pax(&mut self, mut records: &[u8]) -> Option<()> {
        while !records.is_empty() {
            let blank = records.iter().position(|byte| *byte == b' ')?;
            let length = usize::try_from(decimal(&records[..blank])?).ok()?;
            let (key, value) = split_record(records.get(blank + 1..length)?)?;
            match key {
                b"path" => self.path = Some(value.to_vec()).filter(|path| !path.is_empty()),
                b"size" => self.size = Some(decimal(value)?),
                _ => self.has_holes |= key.starts_with(b"GNU.sparse."),
            }
            records = &records[length..];
        }
        Some(())
    }
}

fn split_record(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..]))
}

/// Whether this is a header, of POSIX or of GNU, with the right sum of its bytes.
fn is_header(block: &[u8; BLOCK]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    let of_rest =
        block.iter().enumerate().filter(|(at, _)| !SUM.contains(at)).map(|(_, byte)| u64::from(*byte));
    let sum = of_rest.sum::<u64>() + SUM.len() as u64 * u64::from(b' ');
    block[257..262] == *b"ustar" && number(&block[SUM]) == Some(sum)
}

/// The name of the header itself. GNU has other things in the place of ustar's prefix.
fn name_of(header: &[u8; BLOCK]) -> Vec<u8> {
    let (name, prefix) = (until_nul(&header[..100]), until_nul(&header[345..500]));
    let is_ustar = header[257..263] == *b"ustar\0";
    match is_ustar && !prefix.is_empty() {
        true => [prefix, b"/", name].concat(),
        false => name.to_vec(),
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number of a header: octal digits with blanks or NULs about them, or, if the first bit is set, the bytes of the
/// number itself. Negative ones make no sense here.
fn number(field: &[u8]) -> Option<u64> {
    match field {
        [0x80, bytes @ ..] => {
            bytes.iter().try_fold(0u64, |number, byte| number.checked_mul(256)?.checked_add(u64::from(*byte)))
        }
        _ => {
            let digits = field.trim_ascii_start();
            let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
            digits_of(&digits[..end], 8)
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    digits_of(digits, 10).filter(|_| !digits.is_empty())
}

/// No digits are 0.
fn digits_of(digits: &[u8], radix: u32) -> Option<u64> {
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = char::from(*byte).to_digit(radix)?;
        number.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
pub(super) mod tests;
