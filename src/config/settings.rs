//! The value of each key, and which source it comes from. Pure.

use std::fmt;
use std::time::Duration;

use super::key::Key;
use super::value::{Given, Value};
use super::{excerpt, Problem};

/// Who says what a value is; the later one here prevails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Default,
    /// The host's row of the table in `profile.rs`.
    Profile(&'static str),
    Environment,
    File,
    CommandLine,
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Profile(host) => write!(f, "profile {host}"),
            Source::Environment => f.write_str("environment"),
            Source::File => f.write_str("file"),
            Source::CommandLine => f.write_str("command line"),
            Source::Flag => f.write_str("flag"),
        }
    }
}

/// What one place of a source says.
pub(super) type Assignment = Result<(Key, Given), Problem>;

/// One value for each key that has any.
#[derive(Debug)]
pub(super) struct Settings(Vec<Option<(Source, Value)>>);

impl Default for Settings {
    /// Every key at its default.
    fn default() -> Settings {
        let read = |key: Key| match key.default() {
            "" => None,
            text => key.kind().read(&Given::Text(text.to_owned())).map(|value| (Source::Default, value)),
        };
        Settings(Key::all().map(read).collect())
    }
}

impl Settings {
    /// Gives `key` a value, unless a source that prevails over `from` has done so; of one source the last prevails.
    /// A value that cannot be read leaves what is there.
    pub(super) fn set(&mut self, from: Source, key: Key, given: &Given) -> Result<(), Problem> {
        if !key.is_taken_from(from) {
            return Err(Problem::Misplaced { from, name: key.name() });
        }
        let value = key.kind().read(given).ok_or_else(|| Problem::BadValue {
            from,
            name: key.name(),
            value: match given {
                Given::Text(text) => excerpt(text),
                Given::Items(items) => excerpt(&items.join(",")),
            },
            expected: key.kind().expected(),
        })?;
        let slot = &mut self.0[key as usize];
        if slot.as_ref().is_none_or(|(set_by, _)| *set_by <= from) {
            *slot = Some((from, value));
        }
        Ok(())
    }

    /// Puts the default in place of what is there.
    pub(super) fn reset(&mut self, key: Key) {
        self.0[key as usize] = Settings::default().0.swap_remove(key as usize);
    }

    /// Where the value comes from, and what it is if there is one.
    pub(super) fn shown(&self, key: Key) -> (Source, Option<&Value>) {
        self.0[key as usize].as_ref().map_or((Source::Default, None), |(from, value)| (*from, Some(value)))
    }

    /// Of a key that takes true or false; false if nobody said so.
    pub(super) fn bool(&self, key: Key) -> bool {
        self.shown(key).1 == Some(&Value::Bool(true))
    }

    /// Of a key that takes a number.
    pub(super) fn number(&self, key: Key) -> u64 {
        match self.shown(key).1 {
            Some(Value::Number(number)) => *number,
            _ => unreachable!("{} is a number and has a default", key.name()),
        }
    }

    pub(super) fn millis(&self, key: Key) -> Duration {
        Duration::from_millis(self.number(key))
    }

    pub(super) fn seconds(&self, key: Key) -> Duration {
        Duration::from_secs(self.number(key))
    }

    /// Of a key that takes a text, if it has one.
    pub(super) fn text(&self, key: Key) -> Option<&str> {
        match self.shown(key).1 {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Of a key that takes a list; empty if nobody gave one.
    pub(super) fn list(&self, key: Key) -> &[String] {
        match self.shown(key).1 {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    /// Of a key that takes one of the names in `choices`.
    pub(super) fn choice<T: Copy>(&self, key: Key, choices: &[(&'static str, T)]) -> (&'static str, T) {
        let chosen = |(name, _): &&(&str, T)| Some(*name) == self.text(key);
        match choices.iter().find(chosen) {
            Some(choice) => *choice,
            None => unreachable!("{} is one of its choices and has a default", key.name()),
        }
    }
}
