//! What the bytes of the guest binary are: its symbols, counted by crate. Reads two files; runs nothing.
//!
//! A function counts as of the first crate that its name names. Where that is a type that implements a trait, it is the
//! type's; where the type is of no crate, a generic or a primitive one, it is the trait's. A function that drops a value
//! is of the value's crate. Generic code is thus of the crate that declares it, whoever uses it. What Rust has not named
//! is of the C library. Bytes of a section without symbols are counted by its name, and so is what is in no section.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SectionIndex};

use crate::error::BenchError;
use crate::figure::{Budget, Figure, Unit};

/// Of the design: 2 MiB, stripped and static.
const BUDGET: f64 = 2_097_152.0;

/// Rows that are shown by themselves.
const ROWS: usize = 15;

const C_LIBRARY: &str = "the C library";

/// Reads `vminitd` and `vminitd.symbols` in `build`, as deploy/guest.sh leaves them.
pub fn measure(build: &Path) -> Result<Vec<Figure>, BenchError> {
    let stripped = read(build, "vminitd")?.len() as u64;
    let symbols = read(build, "vminitd.symbols")?;
    let elf = ElfFile64::parse(&*symbols).map_err(|source| BenchError::Elf { source })?;
    let total = Figure::alone("binary, stripped", Unit::Bytes, vec![stripped as f64]);
    let rows = rows(by_owner(&elf, stripped), stripped);
    let rows = rows
        .into_iter()
        .map(|(name, bytes)| Figure::alone(format!("  {name}"), Unit::Bytes, vec![bytes as f64]));
    Ok([total.within(Budget::AtMost(BUDGET))].into_iter().chain(rows).collect())
}

fn read(build: &Path, name: &str) -> Result<Vec<u8>, BenchError> {
    let path = build.join(name);
    fs::read(&path).map_err(|source| BenchError::File { path, source })
}

/// The largest, and then the rest of `total`.
fn rows(owners: BTreeMap<String, u64>, total: u64) -> Vec<(String, u64)> {
    let mut rows: Vec<(String, u64)> = owners.into_iter().collect();
    rows.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    rows.truncate(ROWS);
    let shown: u64 = rows.iter().map(|(_, bytes)| bytes).sum();
    rows.push(("the rest".to_owned(), total.saturating_sub(shown)));
    rows
}

/// How many bytes of the file are whose.
fn by_owner(elf: &ElfFile64<'_>, stripped: u64) -> BTreeMap<String, u64> {
    // Sections that are loaded and have bytes in the file: what is left of it when it is stripped.
    let mut unnamed: HashMap<SectionIndex, (String, u64)> = HashMap::new();
    for section in elf.sections().filter(|section| section.address() != 0) {
        if let (Ok(name), Some((_, bytes))) = (section.name(), section.file_range()) {
            unnamed.insert(section.index(), (format!("section {name}"), bytes));
        }
    }
    let loaded: u64 = unnamed.values().map(|(_, bytes)| bytes).sum();
    let mut owners = BTreeMap::from([("no section".to_owned(), stripped.saturating_sub(loaded))]);
    // Functions that were folded into one have several names and one address.
    let symbols: BTreeMap<u64, _> = elf.symbols().map(|symbol| (symbol.address(), symbol)).collect();
    for symbol in symbols.values() {
        let section = symbol.section_index().and_then(|index| unnamed.get_mut(&index));
        if let (Some((_, left)), Ok(name)) = (section, symbol.name()) {
            let bytes = symbol.size().min(*left);
            *left -= bytes;
            *owners.entry(owner(name)).or_default() += bytes;
        }
    }
    for (name, left) in unnamed.into_values() {
        *owners.entry(name).or_default() += left;
    }
    owners
}

/// The crate of a symbol.
fn owner(symbol: &str) -> String {
    match rustc_demangle::try_demangle(symbol) {
        Ok(name) => crate_of(&format!("{name:#}")).unwrap_or("core").to_owned(),
        Err(_) => C_LIBRARY.to_owned(),
    }
}

/// The crate that a demangled name or type names first; `None` if it is of none.
fn crate_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix("core::ptr::drop_in_place<").unwrap_or(name);
    if let Some(implementation) = name.strip_prefix('<') {
        let (of_type, of_trait) = divide(implementation);
        return crate_of(of_type).or_else(|| crate_of(of_trait));
    }
    let name = name.trim_start_matches(['&', '*', '(', '[']);
    for word in ["mut ", "const ", "dyn "] {
        if let Some(name) = name.strip_prefix(word) {
            return crate_of(name);
        }
    }
    let length = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    name[length..].starts_with("::").then(|| &name[..length])
}

/// `T` and `Trait>…` of `T as Trait>…`, at the level of the outermost brackets; nothing in place of an absent trait.
fn divide(implementation: &str) -> (&str, &str) {
    let mut depth = 0;
    for (at, c) in implementation.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            // The `>` of `->` closes nothing.
            '>' if implementation[..at].ends_with('-') => {}
            '>' if depth == 0 => return (&implementation[..at], ""),
            '>' | ')' | ']' => depth -= 1,
            ' ' if depth == 0 && implementation[at..].starts_with(" as ") => {
                return (&implementation[..at], &implementation[at + " as ".len()..]);
            }
            _ => {}
        }
    }
    (implementation, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_of_the_crate_its_name_begins_with() {
        assert_eq!(crate_of("vminitd::wire::serve::{{closure}}"), Some("vminitd"));
        assert_eq!(crate_of("alloc::raw_vec::RawVec<T,A>::grow_one"), Some("alloc"));
    }

    #[test]
    fn an_implementation_is_of_the_types_crate() {
        for (name, owner) in [
            ("<tokio::net::TcpStream as std::io::Read>::read", "tokio"),
            ("<&mut alloc::vec::Vec<u8> as core::fmt::Debug>::fmt", "alloc"),
            ("<dyn nix::A as core::any::Any>::type_id", "nix"),
            ("<<runc::A as runc::B>::C as core::fmt::Debug>::fmt", "runc"),
            ("<ttrpc::error::Error>::new", "ttrpc"),
        ] {
            assert_eq!(crate_of(name), Some(owner), "{name}");
        }
    }

    #[test]
    fn an_implementation_for_a_type_of_no_crate_is_of_the_traits() {
        for (name, owner) in [
            ("<T as protobuf::message_dyn::MessageDyn>::write", "protobuf"),
            ("<&T as core::fmt::Debug>::fmt", "core"),
            ("<[u8] as std::io::Read>::read", "std"),
            ("<fn(&str) -> u8 as tracing::A<T>>::b", "tracing"),
        ] {
            assert_eq!(crate_of(name), Some(owner), "{name}");
        }
    }

    #[test]
    fn what_drops_a_value_is_of_the_values_crate() {
        assert_eq!(crate_of("core::ptr::drop_in_place<vminitd::tasks::Task>"), Some("vminitd"));
        assert_eq!(crate_of("core::ptr::drop_in_place<&mut tokio::A>"), Some("tokio"));
    }

    #[test]
    fn what_rust_has_not_named_is_of_the_c_library() {
        assert_eq!(owner("memcpy"), C_LIBRARY);
        assert_eq!(owner("_ZN7vminitd4main17h0123456789abcdefE"), "vminitd");
    }

    #[test]
    fn the_rows_are_sorted_and_the_rest_makes_up_the_whole() {
        let owners = (0..20).map(|n| (format!("crate{n}"), n)).collect();
        let rows = rows(owners, 200);
        assert_eq!((rows.len(), rows[0].1, rows[ROWS - 1].1), (ROWS + 1, 19, 5));
        assert_eq!(rows.iter().map(|(_, bytes)| bytes).sum::<u64>(), 200);
    }
}
