//! Archives as GNU's tar and Go write them, damaged ones, and any bytes at all.

use proptest::prelude::*;

use super::*;

/// An entry with a ustar header, its sum included.
pub(in super::super) fn entry(path: &str, flag: u8, mode: u32, content: &[u8]) -> Vec<u8> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(124, format!("{:011o}", content.len()).as_bytes());
    put(156, &[flag]);
    put(257, b"ustar\x0000");
    sum(&mut header);
    let padding = content.len().next_multiple_of(BLOCK) - content.len();
    [&header[..], content, &vec![0; padding]].concat()
}

pub(in super::super) fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 2 * BLOCK]].concat()
}

fn sum(header: &mut [u8; BLOCK]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

type Read = (String, Kind, u32, Vec<u8>);

fn read_all(bytes: &[u8]) -> Result<Vec<Read>, TarError> {
    let mut archive = Archive::new(bytes, bytes.len() as u64);
    let mut all = Vec::new();
    while let Some(entry) = archive.next()? {
        let mut content = vec![0; entry.size as usize];
        // In two parts, as files larger than the buffer are.
        let half = content.len() / 2;
        assert_eq!(archive.read(&mut content[..half])?, half);
        archive.read(&mut content[half..])?;
        all.push((entry.path.to_string_lossy().into_owned(), entry.kind, entry.mode, content));
    }
    Ok(all)
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = format!(" {key}={value}\n");
        let length = (1..).find(|n: &usize| n.to_string().len() + rest.len() == *n).unwrap();
        format!("{length}{rest}")
    };
    entry("pax", b'x', 0, records.iter().map(record).collect::<String>().as_bytes())
}

#[test]
fn entries_have_a_name_a_kind_a_mode_and_content() {
    let bytes = archive(&[
        entry("/a", b'0', 0o644, b"content"),
        entry("/old", 0, 0o4755, &[7; 512]),
        entry("/contiguous", b'7', 0, &[8; 513]),
        entry("/dir", b'5', 0o700, b""),
        entry("/old-dir/", 0, 0o755, b""),
        entry("/link", b'2', 0o777, b""),
        entry("/pipe", b'6', 0, b""),
    ]);
    let of = |path: &str, kind, mode, content: &[u8]| (path.to_owned(), kind, mode, content.to_vec());
    let expected = vec![
        of("/a", Kind::File, 0o644, b"content"),
        of("/old", Kind::File, 0o4755, &[7; 512]),
        of("/contiguous", Kind::File, 0, &[8; 513]),
        of("/dir", Kind::Directory, 0o700, b""),
        of("/old-dir/", Kind::Directory, 0o755, b""),
        of("/link", Kind::Other('2'), 0o777, b""),
        of("/pipe", Kind::Other('6'), 0, b""),
    ];
    assert_eq!(read_all(&bytes).unwrap(), expected);
}

#[test]
fn content_that_is_not_read_is_left_out() {
    let bytes = archive(&[entry("/a", b'0', 0, &[1; 5000]), entry("/b", b'0', 0, b"b")]);
    let mut archive = Archive::new(&bytes[..], bytes.len() as u64);
    assert_eq!(archive.next().unwrap().unwrap().path, PathBuf::from("/a"));
    assert_eq!(archive.read(&mut [0; 600]).unwrap(), 600);
    assert_eq!(archive.next().unwrap().unwrap().path, PathBuf::from("/b"));
    assert_eq!(archive.next().unwrap(), None);
}

#[test]
fn records_change_the_entry_behind_them_and_no_other() {
    let long = format!("/{}", "long/".repeat(300));
    let named = entry("gnu", b'L', 0, format!("{long}gnu\0").as_bytes());
    // Of a size that only the record has right.
    let mut wrong_size = entry("/sized", b'0', 0, &[5; 512]);
    wrong_size[124..135].copy_from_slice(b"00000000000");
    sum((&mut wrong_size[..BLOCK]).try_into().unwrap());
    let bytes = archive(&[
        entry("all", b'g', 0, b"13 path=/no\n"),
        pax(&[("mtime", "1.5"), ("path", &format!("{long}pax"))]),
        entry("short", b'0', 0, b"1"),
        named,
        entry("link", b'K', 0, b"/target\0"),
        entry("short", b'0', 0, b"2"),
        pax(&[("size", "512")]),
        wrong_size,
        pax(&[("GNU.sparse.major", "1")]),
        entry("/holes", b'0', 0, b""),
        entry("/plain", b'0', 0, b""),
    ]);
    let read = read_all(&bytes).unwrap();
    let names: Vec<&str> = read.iter().map(|(path, ..)| path.as_str()).collect();
    let expected = [&format!("{long}pax"), &format!("{long}gnu"), "/sized", "/holes", "/plain"];
    assert_eq!(names, expected);
    assert_eq!(read[2].3, [5; 512]);
    assert_eq!((read[3].1, read[4].1), (Kind::Other('S'), Kind::File));
}

#[test]
fn a_name_may_stand_in_two_fields_in_ustar_alone() {
    let mut with_prefix = entry("name", b'0', 0, b"");
    with_prefix[345..352].copy_from_slice(b"/prefix");
    sum((&mut with_prefix[..BLOCK]).try_into().unwrap());
    assert_eq!(read_all(&archive(&[with_prefix.clone()])).unwrap()[0].0, "/prefix/name");
    with_prefix[257..265].copy_from_slice(b"ustar  \0");
    sum((&mut with_prefix[..BLOCK]).try_into().unwrap());
    assert_eq!(read_all(&archive(&[with_prefix])).unwrap()[0].0, "name");
}

#[test]
fn numbers_are_octal_or_binary() {
    let check = |field: &[u8], expected| assert_eq!(number(field), expected, "{field:?}");
    check(b"0000644\0", Some(0o644));
    check(b"   755 \0", Some(0o755));
    check(b"77777777", Some(0o77_777_777));
    check(b"\0\0\0\0", Some(0));
    check(&[0x80, 0, 0, 0, 2, 0, 0, 0, 1], Some((2 << 32) + 1));
    check(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0], None);
    check(&[0xff; 12], None);
    check(b"0000648\0", None);
    check(b"-1", None);
    check(b"+1", None);
}

#[test]
fn what_is_no_archive_is_told_from_a_damaged_one() {
    for bytes in [&[0; 4096][..], &[], &[1; 4096], b"short", &entry("/a", b'0', 0, b"")[..300]] {
        assert!(matches!(read_all(bytes), Err(TarError::NotTar)));
    }
    let mut damaged = archive(&[entry("/a", b'0', 0, b"a"), entry("/b", b'0', 0, b"b")]);
    damaged[1024] ^= 1;
    assert!(matches!(read_all(&damaged), Err(TarError::Damaged(1024))));
}

#[test]
fn an_archive_that_is_cut_off_is_an_error_wherever_it_is() {
    let whole = archive(&[entry("/a", b'0', 0, &[1; 700]), entry("/b", b'0', 0, &[2; 700])]);
    for length in 1..whole.len() - 2 * BLOCK {
        let refused = read_all(&whole[..length]).unwrap_err();
        match length {
            0..512 => assert!(matches!(refused, TarError::NotTar), "{length}: {refused}"),
            512..1212 => assert!(
                matches!(&refused, TarError::CutOff { path, size: 700, left } if path.as_os_str() == "/a"
                    && *left == length as u64 - 512),
                "{length}: {refused}"
            ),
            1212..2048 => assert!(matches!(refused, TarError::NoEnd(_)), "{length}: {refused}"),
            2048..2748 => assert!(matches!(refused, TarError::CutOff { .. }), "{length}: {refused}"),
            _ => assert!(matches!(refused, TarError::NoEnd(_)), "{length}: {refused}"),
        }
    }
    // One empty block is enough of an end.
    assert_eq!(read_all(&whole[..whole.len() - BLOCK]).unwrap().len(), 2);
}

#[test]
fn sizes_and_records_beyond_reason_are_refused_before_they_cost_anything() {
    let mut huge = entry("/huge", b'0', 0, b"");
    huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    sum((&mut huge[..BLOCK]).try_into().unwrap());
    let refused = read_all(&archive(&[huge])).unwrap_err();
    assert!(matches!(refused, TarError::CutOff { left: 1024, .. }), "{refused}");
    let records = archive(&[entry("pax", b'x', 0, &vec![b'1'; (1 << 20) + 1])]);
    assert!(matches!(read_all(&records), Err(TarError::LongRecords(_))));
    for records in ["9", "0 a=b\n", "99 a=b\n", "6 a=b ", "6 aab\n", "x a=b\n", "18446744073709551616 a=b\n"]
    {
        let bytes = archive(&[entry("pax", b'x', 0, records.as_bytes())]);
        assert!(matches!(read_all(&bytes), Err(TarError::Damaged(0))), "{records}");
    }
}

/// A small file, a symlink and a file with a long name, by GNU tar 1.34 with `--format` of these names. In ustar a name
/// of 100 bytes can stand behind a prefix; more takes the extensions of the others.
#[test]
fn archives_of_the_tar_program_are_read() {
    for (bytes, length) in [
        (&include_bytes!("ustar.tar")[..], 90),
        (&include_bytes!("pax.tar")[..], 160),
        (&include_bytes!("gnu.tar")[..], 160),
    ] {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(length));
        let expected = [
            ("small".to_owned(), Kind::File, 0o4711, b"small".to_vec()),
            ("symlink".to_owned(), Kind::Other('2'), 0o777, Vec::new()),
            (long, Kind::File, 0o644, vec![b'9'; 600]),
        ];
        assert_eq!(read_all(bytes).unwrap(), expected);
    }
}

/// `go.tar` is what spinbox's host would write: Go's archive/tar with a name, a mode and a size for each file.
#[test]
fn an_archive_of_go_is_read() {
    let read = read_all(include_bytes!("go.tar")).unwrap();
    let long = format!("/{}file", "long-directory/".repeat(20));
    let of =
        |path: &str, mode, content: &str| (path.to_owned(), Kind::File, mode, content.as_bytes().to_vec());
    let split = format!("/{}file", "directory/".repeat(12));
    let expected =
        vec![of("/etc/app.conf", 0o644, "plain"), of(&split, 0o755, "split"), of(&long, 0o4750, "pax")];
    assert_eq!(read, expected);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read_all(&bytes);
    }

    /// Headers that pass for such, with anything in the fields.
    #[test]
    fn no_header_panics(
        fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 500), 1..5),
        flags in prop::collection::vec(prop::sample::select(b"0157xgLKS\0".to_vec()), 5),
        length in 0usize..3000,
    ) {
        let mut bytes = Vec::new();
        for (field, flag) in fields.iter().zip(flags) {
            let mut header = [0; BLOCK];
            header[..500].copy_from_slice(field);
            header[124] = 0x80;
            header[125..134].fill(0);
            header[156] = flag;
            header[257..263].copy_from_slice(b"ustar\0");
            sum(&mut header);
            bytes.extend(header);
        }
        bytes.resize(length, 0);
        let _ = read_all(&bytes);
    }
}

/// As `tar -S --format=gnu` writes a file with more than four pieces, and with more than 25.
#[test]
fn the_map_of_a_file_with_many_holes_is_left_out_with_the_file() {
    for blocks in [1, 2] {
        let mut holes = entry("/holes", b'S', 0o644, b"pieces");
        let (header, content) = holes.split_at_mut(BLOCK);
        let header: &mut [u8; BLOCK] = header.try_into().unwrap();
        header[257..265].copy_from_slice(b"ustar  \0");
        header[482] = 1;
        sum(header);
        let mut map = vec![b'1'; blocks * BLOCK];
        map[(blocks - 1) * BLOCK + 504] = 0;
        let holes = [&header[..], &map, content].concat();
        let read = read_all(&archive(&[holes, entry("/after", b'0', 0o644, b"x")]));
        let read: Vec<_> = read.unwrap().into_iter().map(|(path, kind, ..)| (path, kind)).collect();
        assert_eq!(read, [("/holes".to_owned(), Kind::Other('S')), ("/after".to_owned(), Kind::File)]);
    }
}
