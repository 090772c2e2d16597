//! Arguments in the style of Go's `flag` package, split into keys and values. Pure; it knows no key's meaning.
//!
//! `-name=value` or `-name value` with one dash or two, booleans `-name` or `-name=value`, the end at `--` or at
//! the first other word. Three things differ from Go: words before the first flag are skipped, because the kernel
//! hands init every word of its command line that it does not know; so are `vminitd.<key>=<value>`, which are read from
//! the kernel command line wherever they stand; and a word after an unknown flag is taken for its value.

use std::ffi::OsString;

use super::key::Key;
use super::settings::{Assignment, Source};
use super::value::Given;
use super::{excerpt, Problem};

/// Splits the arguments (those after argv[0]); total, whatever they are.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Vec<Assignment> {
    let mut args = args.into_iter();
    let mut assignments = Vec::new();
    let mut words_are_skipped = true;
    while let Some(arg) = args.next() {
        let arg = arg.to_string_lossy();
        match Word::of(&arg) {
            Word::End => break,
            Word::Stray if words_are_skipped || arg.starts_with("vminitd.") => {}
            Word::Stray => break,
            Word::Flag(name, value) => {
                let unknown = Key::named(name).is_none();
                words_are_skipped = unknown && value.is_none();
                assignments.push(assignment(name, value, &mut args));
            }
            Word::Malformed => assignments.push(Err(Problem::Malformed(excerpt(&arg)))),
        }
    }
    assignments
}

fn assignment(name: &str, value: Option<&str>, rest: &mut impl Iterator<Item = OsString>) -> Assignment {
    let key = Key::named(name).ok_or_else(|| Problem::Unknown { from: Source::Flag, name: excerpt(name) })?;
    let value = match value {
        Some(value) => value.to_owned(),
        None if key.kind().is_bool() => "true".to_owned(),
        None => {
            let next = rest.next().ok_or(Problem::NoValue { from: Source::Flag, name: key.name() })?;
            next.to_string_lossy().into_owned()
        }
    };
    Ok((key, Given::Text(value)))
}

enum Word<'a> {
    Flag(&'a str, Option<&'a str>),
    Stray,
    End,
    Malformed,
}

impl Word<'_> {
    fn of(arg: &str) -> Word<'_> {
        if arg == "--" {
            return Word::End;
        }
        let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            return Word::Stray;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        match name {
            "" if arg == "-" => Word::Stray,
            "" => Word::Malformed,
            // A replacement character stands where the argument was not UTF-8.
            _ if name.starts_with('-') || arg.contains(char::REPLACEMENT_CHARACTER) => Word::Malformed,
            _ => Word::Flag(name, value),
        }
    }
}
