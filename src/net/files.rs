//! The resolver's files, /etc/resolv.conf and /etc/hosts: their text, and how it gets there. They are rewritten in
//! place: containers have them bind-mounted, and would go on seeing the old file if another took its name.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::types::{invalid, Invalid};
use crate::sys::file;

/// What is read of such a file; a longer one is left alone.
const FILE_MAX: u64 = 1 << 20;
/// Longest name in them: that of a domain (RFC 1035).
const WORD_MAX: usize = 255;

/// Around the entries of /etc/hosts that are ours.
const BEGIN: &str = "# begin: set by Network.Apply\n";
const END: &str = "# end: set by Network.Apply\n";

/// What goes into /etc/resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    pub nameservers: Vec<IpAddr>,
    pub search: Vec<Word>,
    pub options: Vec<Word>,
}

/// An entry of /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub address: IpAddr,
    pub names: Vec<Word>,
}

/// A name in one of the files: nothing that ends a line or begins another word or a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    pub fn parse(text: &str) -> Result<Word, Invalid> {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#' && byte != b';';
        match (1..=WORD_MAX).contains(&text.len()) && text.bytes().all(plain) {
            true => Ok(Word(text.to_owned())),
            false => Err(invalid("name", text)),
        }
    }
}

impl Resolver {
    /// The text of resolv.conf(5).
    pub fn text(&self) -> String {
        let mut text = String::new();
        for nameserver in &self.nameservers {
            text.push_str("nameserver ");
            text.push_str(&nameserver.to_string());
            text.push('\n');
        }
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                text.push_str(keyword);
                push_words(&mut text, words);
            }
        }
        text
    }
}

fn push_words(text: &mut String, words: &[Word]) {
    for word in words {
        text.push(' ');
        text.push_str(&word.0);
    }
    text.push('\n');
}

/// The text of hosts(5) with these entries, and no others of ours; what is not ours stays as it is.
pub fn with_hosts(before: &str, hosts: &[Host]) -> String {
    let ours = before.rsplit_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let mut text = ours.map_or_else(|| before.to_owned(), |(head, tail)| [head, tail].concat());
    if hosts.is_empty() {
        return text;
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(BEGIN);
    for host in hosts {
        text.push_str(&host.address.to_string());
        push_words(&mut text, &host.names);
    }
    text.push_str(END);
    text
}

/// The file's text; empty if there is no such file. What is not UTF-8 in it is replaced: a container to which it is
/// mounted may have written it.
///
/// # Errors
/// As [`file::read_text`].
pub fn read(path: &Path) -> io::Result<String> {
    match file::read_text(path, FILE_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text,
    }
}

/// Gives the file this text, unless it has it; makes it with mode 0644, and its folder, if there is none.
///
/// # Errors
/// Those of mkdir(2), open(2) and write(2).
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    if path.exists() && read(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file =
        file::open_regular(path, OpenOptions::new().write(true).create(true).truncate(false).mode(0o644))?;
    // The new text first and the cut afterwards, so that no reader finds it empty.
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn words(words: &[&str]) -> Vec<Word> {
        words.iter().map(|word| Word::parse(word).unwrap()).collect()
    }

    fn host(address: &str, names: &[&str]) -> Host {
        Host { address: address.parse().unwrap(), names: words(names) }
    }

    #[test]
    fn a_resolver_is_written_as_resolv_conf() {
        let resolver = Resolver {
            nameservers: ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap()).to_vec(),
            search: words(&["a.example", "example"]),
            options: words(&["ndots:2"]),
        };
        let text =
            "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.example example\noptions ndots:2\n";
        assert_eq!(resolver.text(), text);
        assert_eq!(Resolver::default().text(), "");
    }

    #[test]
    fn no_word_makes_a_line_or_a_comment() {
        for bad in ["", "a b", "a\nnameserver", "a#b", "a;b", "a\tb", "é"] {
            assert!(Word::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn entries_of_ours_are_replaced_and_the_others_stay() {
        let base = "127.0.0.1 localhost";
        let one = with_hosts(base, &[host("192.0.2.1", &["db", "db.example"])]);
        assert_eq!(one, format!("{base}\n{BEGIN}192.0.2.1 db db.example\n{END}"));
        let more = format!("{one}::1 ip6-localhost\n");
        let other = with_hosts(&more, &[host("::2", &["x"])]);
        assert_eq!(other, format!("{base}\n::1 ip6-localhost\n{BEGIN}::2 x\n{END}"));
        assert_eq!(with_hosts(&other, &[]), format!("{base}\n::1 ip6-localhost\n"));
        assert_eq!(with_hosts(base, &[]), base);
    }

    #[test]
    fn a_file_is_rewritten_in_place_and_made_if_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/resolv.conf");
        assert_eq!(read(&path).unwrap(), "");
        write(&path, "a longer text\n").unwrap();
        let before = fs::metadata(&path).unwrap();
        assert_eq!(before.permissions().mode() & 0o777, 0o644);
        write(&path, "short\n").unwrap();
        assert_eq!(read(&path).unwrap(), "short\n");
        assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());
    }

    #[test]
    fn a_stray_line_of_comment_does_not_make_entries_pile_up() {
        let hosts = [host("192.0.2.1", &["db"])];
        for before in [END.to_owned(), format!("{END}{BEGIN}"), format!("{END}{BEGIN}::9 old\n{END}")] {
            let once = with_hosts(&before, &hosts);
            assert_eq!(with_hosts(&once, &hosts), once, "{before:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_replaced_and_a_fifo_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        fs::write(&path, b"# \xff\n").unwrap();
        assert_eq!(read(&path).unwrap(), "# \u{fffd}\n");
        write(&path, "text\n").unwrap();
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&path).is_err() && write(&path, "x").is_err());
    }
}
