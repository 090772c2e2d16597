//! What a setting takes: the kinds of values, how each is read, and how it is shown. Pure.

use std::fmt;

/// Items of a list. A VM has a handful of disks and NICs; each item costs a step of the boot.
const ITEMS_MAX: usize = 64;

/// Bytes of a text: the longest path of Linux (PATH_MAX, limits.h).
const TEXT_MAX: usize = 4_096;

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Bool,
    /// An order to this one start, which only a flag can give: `true` if it was given.
    Order,
    Number {
        min: u64,
        max: u64,
    },
    Choice(&'static [&'static str]),
    Text(Form),
    /// Items with commas between them.
    List(Form),
}

/// What a text looks like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Completes "expected ...".
    pub(super) expected: &'static str,
    pub(super) holds: fn(&str) -> bool,
}

/// What a source gives for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    Text(String),
    /// Items that need no commas between them; only a list takes them.
    Items(Vec<String>),
}

/// A value that is what its key takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Bool(bool),
    Number(u64),
    /// Also one of a choice.
    Text(String),
    List(Vec<String>),
}

impl Kind {
    /// Reads a value; `None` if it is not what the key takes. Total.
    pub(super) fn read(self, given: &Given) -> Option<Value> {
        let text = match (self, given) {
            (Kind::List(form), Given::Items(items)) => return list(form, items.clone()),
            (_, Given::Items(_)) => return None,
            (_, Given::Text(text)) => text,
        };
        if !is_utf8(text) {
            return None;
        }
        match self {
            Kind::Bool | Kind::Order => boolean(text).map(Value::Bool),
            Kind::Number { min, max } => number(text, min, max).map(Value::Number),
            Kind::Choice(names) => names.contains(&text.as_str()).then(|| Value::Text(text.clone())),
            Kind::Text(form) => form.takes(text).then(|| Value::Text(text.clone())),
            Kind::List(form) => list(form, split(text)),
        }
    }

    /// A flag of this kind may stand without a value, which then is `true`.
    pub(super) fn is_bool(self) -> bool {
        matches!(self, Kind::Bool | Kind::Order)
    }

    /// What a value looks like; completes "expected ...".
    pub(super) fn expected(self) -> String {
        match self {
            Kind::Bool | Kind::Order => "true or false".to_owned(),
            Kind::Number { min, max } => format!("a number from {min} to {max}"),
            Kind::Choice(names) => names.join(" or "),
            Kind::Text(form) => form.expected.to_owned(),
            Kind::List(form) => {
                format!("at most {ITEMS_MAX}, with commas between them, of {}", form.expected)
            }
        }
    }
}

impl Form {
    fn takes(self, text: &str) -> bool {
        // A null byte cannot be handed to the kernel, and no other control character has a meaning anywhere.
        text.len() <= TEXT_MAX && !text.chars().any(char::is_control) && (self.holds)(text)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => value.fmt(f),
            Value::Number(value) => value.fmt(f),
            Value::Text(value) => f.write_str(value),
            Value::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// A replacement character stands where the source was not UTF-8.
fn is_utf8(text: &str) -> bool {
    !text.contains(char::REPLACEMENT_CHARACTER)
}

/// The spellings that Go's `strconv.ParseBool` takes, because hosts write their flags for Go.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn number(text: &str, min: u64, max: u64) -> Option<u64> {
    text.parse().ok().filter(|number| (min..=max).contains(number))
}

fn list(form: Form, items: Vec<String>) -> Option<Value> {
    let fits = items.len() <= ITEMS_MAX && items.iter().all(|item| is_utf8(item) && form.takes(item));
    fits.then_some(Value::List(items))
}

/// The items of a text; an empty text has none.
fn split(text: &str) -> Vec<String> {
    text.split(',').filter(|_| !text.is_empty()).map(str::to_owned).collect()
}

/// The names in a table of names and what they mean.
pub(super) const fn names<T: Copy, const N: usize>(choices: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        names[at] = choices[at].0;
        at += 1;
    }
    names
}
