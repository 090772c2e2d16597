//! The kernel command line, split into keys and values: `vminitd.<key>=<value>`, and the words that spinbox's host
//! writes. Pure; what is for the kernel or for others is left alone.

use super::key::Key;
use super::settings::{Assignment, Source};
use super::value::Given;
use super::{excerpt, Problem};

/// Words of spinbox's host and the keys they are for.
const SPIN: [(&str, Key); 2] =
    [("spin.extras_disk", Key::ExtrasDisk), ("spin.extras_force", Key::ExtrasForce)];

/// Splits the whole line, what is for init behind ` -- ` included; total, whatever it is.
pub(super) fn parse(line: &str) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    let mut ip = Vec::new();
    for Word { name, value } in words(line) {
        match (name.as_str(), value) {
            ("ip", Some(value)) => ip.push(value),
            // As spinbox's own guest reads them: by how they begin.
            (name, _) if name.starts_with("spin.profile") => assignments.push(truth(Key::Profile)),
            ("spin.metadata_addr", Some(_)) => assignments.push(truth(Key::MetadataAddr)),
            (name, value) => assignments.extend(assignment(name, value)),
        }
    }
    if !ip.is_empty() {
        assignments.push(Ok((Key::Ip, Given::Items(ip))));
    }
    assignments
}

fn assignment(name: &str, value: Option<String>) -> Option<Assignment> {
    let spin = SPIN.iter().find(|(word, _)| *word == name).map(|(_, key)| *key);
    let key = match (spin, name.strip_prefix("vminitd.")) {
        (Some(key), _) => key,
        (None, Some(ours)) => match Key::named(ours).filter(|key| key.is_setting()) {
            Some(key) => key,
            None => return Some(Err(Problem::Unknown { from: Source::CommandLine, name: excerpt(ours) })),
        },
        (None, None) => return None,
    };
    Some(match value {
        Some(value) => Ok((key, Given::Text(value))),
        None if key.kind().is_bool() => truth(key),
        None => Err(Problem::NoValue { from: Source::CommandLine, name: key.name() }),
    })
}

fn truth(key: Key) -> Assignment {
    Ok((key, Given::Text("true".to_owned())))
}

/// `name` or `name=value`.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    name: String,
    value: Option<String>,
}

/// The words, as the kernel takes a line apart (`next_arg` in lib/cmdline.c): a double quote begins and ends a part in
/// which blanks do not count; the quotes around a word or its value are no part of it, all others are.
fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let mut quoted = false;
        let end = rest.find(|c: char| {
            quoted ^= c == '"';
            c.is_ascii_whitespace() && !quoted
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(Word::of(word));
        rest = after.trim_start();
    }
    words
}

impl Word {
    fn of(word: &str) -> Word {
        let word = unquoted(word);
        match word.split_once('=') {
            Some((name, value)) => Word { name: name.to_owned(), value: Some(unquoted(value).to_owned()) },
            None => Word { name: word.to_owned(), value: None },
        }
    }
}

/// The quote at the end goes with the one at the beginning, and may be missing.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').map_or(text, |inner| inner.strip_suffix('"').unwrap_or(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_the_kernel_does() {
        for (line, expected) in [
            ("", &[][..]),
            (" quiet\n", &[("quiet", None)]),
            ("a=b=c  d= =e", &[("a", Some("b=c")), ("d", Some("")), ("", Some("e"))]),
            ("a=\"b c\" d", &[("a", Some("b c")), ("d", None)]),
            ("\"a=b c\" d", &[("a", Some("b c")), ("d", None)]),
            ("a=b\" \"c d", &[("a", Some("b\" \"c")), ("d", None)]),
            ("a=\"b c", &[("a", Some("b c"))]),
            ("\" \"", &[(" ", None)]),
        ] {
            let words = words(line);
            let words: Vec<_> =
                words.iter().map(|word| (word.name.as_str(), word.value.as_deref())).collect();
            assert_eq!(words, expected, "{line}");
        }
    }
}
