//! The paths in the options of an overlay, and options too long for mount(2). Pure.
//!
//! Linux 6.1 has no other way to name layers than one string of at most a page. A hundred paths of layers do not fit,
//! but their names as seen from the directory they have in common do.

use std::iter;
use std::path::{Component, Path, PathBuf};

use super::RootfsError;

/// One page less the byte that ends the string (mount(2)).
const MAX_DATA: usize = 4095;

/// Options that hold one path each. `lowerdir` holds many.
const ONE_PATH: [&str; 2] = ["upperdir", "workdir"];
const LAYERS: &str = "lowerdir";

/// Options for a file system to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) text: String,
    /// The directory from which the paths in the text are named; `None` if they are whole.
    pub(super) from: Option<PathBuf>,
}

impl Data {
    /// Leaves `text` as it is if it fits a page. An overlay's is made shorter if it does not.
    pub(super) fn fit(kind: &str, text: String) -> Result<Data, RootfsError> {
        let length = text.len();
        if length <= MAX_DATA {
            return Ok(Data { text, from: None });
        }
        let short = if kind == "overlay" { shorten(&text) } else { None };
        short.filter(|data| data.text.len() <= MAX_DATA).ok_or(RootfsError::OptionsTooLong { length })
    }
}

/// The paths that an overlay with these options is made of.
pub(super) fn paths(data: &str) -> impl Iterator<Item = &str> {
    data.split(',').filter_map(|option| option.split_once('=')).flat_map(|(key, value)| paths_of(key, value))
}

fn paths_of<'a>(key: &str, value: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
    match key {
        LAYERS => Box::new(value.split(':')),
        _ if ONE_PATH.contains(&key) => Box::new(iter::once(value)),
        _ => Box::new(iter::empty()),
    }
}

/// Names all paths from the directory that the layers have in common. `None` where a path would mean something else
/// from there: a relative one, or one with an escaped character.
fn shorten(data: &str) -> Option<Data> {
    let is_plain = |path: &str| path.starts_with('/') && !path.contains('\\');
    if !paths(data).all(is_plain) {
        return None;
    }
    let layers = data.split(',').filter_map(|option| option.strip_prefix(LAYERS)?.strip_prefix('='));
    let from = layers.flat_map(|layers| layers.split(':')).map(Path::new).fold(None, common)?;
    let text: Vec<String> = data.split(',').map(|option| shorten_option(option, &from)).collect();
    Some(Data { text: text.join(","), from: Some(from) })
}

fn common(so_far: Option<PathBuf>, path: &Path) -> Option<PathBuf> {
    let Some(so_far) = so_far else { return Some(path.to_owned()) };
    let both = so_far.components().zip(path.components());
    Some(both.take_while(|(a, b)| a == b).map(|(a, _)| a).collect())
}

fn shorten_option(option: &str, from: &Path) -> String {
    match option.split_once('=') {
        Some((LAYERS, layers)) => {
            let layers: Vec<&str> = layers.split(':').map(|layer| shorten_path(layer, from)).collect();
            format!("{LAYERS}={}", layers.join(":"))
        }
        Some((key, path)) if ONE_PATH.contains(&key) => format!("{key}={}", shorten_path(path, from)),
        _ => option.to_owned(),
    }
}

/// A path that is not beneath `from`, or goes up on its way, stays whole.
fn shorten_path<'a>(path: &'a str, from: &Path) -> &'a str {
    match Path::new(path).strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => ".",
        Ok(rest) if !rest.components().any(|part| part == Component::ParentDir) => {
            rest.to_str().unwrap_or(path)
        }
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(dir: &str, count: usize) -> String {
        (0..count).map(|n| format!("{dir}/{n}")).collect::<Vec<_>>().join(":")
    }

    #[test]
    fn what_fits_a_page_is_left_alone() {
        for (kind, text) in [("overlay", "lowerdir=/a/b:/a/c".to_owned()), ("ext4", "x".repeat(MAX_DATA))] {
            assert_eq!(Data::fit(kind, text.clone()).unwrap(), Data { text, from: None });
        }
    }

    #[test]
    fn a_hundred_layers_are_named_from_their_common_directory() {
        let dir = format!("/run/vminitd/bundles/{}/mounts", "c".repeat(76));
        let text = format!("ro,{LAYERS}={},upperdir={dir}/1/upper,workdir=/w,index=off", layers(&dir, 100));
        assert!(text.len() > 2 * MAX_DATA);
        let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let expected = format!("ro,{LAYERS}={},upperdir=1/upper,workdir=/w,index=off", expected.join(":"));
        assert_eq!(Data::fit("overlay", text).unwrap(), Data { text: expected, from: Some(dir.into()) });
    }

    #[test]
    fn what_cannot_be_made_to_fit_is_refused() {
        let long = "x".repeat(MAX_DATA);
        for (kind, text) in [
            ("ext4", format!("{long}y")),
            ("overlay", format!("{long}y")),
            ("overlay", format!("lowerdir=/a/{long}:/b/{long}")),
            ("overlay", format!("lowerdir={}", layers("relative/directory", 400))),
            ("overlay", format!("lowerdir={}", layers("/a\\:b/directory", 400))),
            ("overlay", format!("lowerdir=/a::{}", layers("/a/directory", 400))),
        ] {
            let length = text.len();
            let refused = Data::fit(kind, text);
            assert!(matches!(refused, Err(RootfsError::OptionsTooLong { length: l }) if l == length));
        }
    }

    #[test]
    fn names_from_a_directory_mean_the_same_paths() {
        let check = |text: &str, from: &str, short: &str| {
            assert_eq!(
                shorten(text).unwrap(),
                Data { text: short.into(), from: Some(from.into()) },
                "{text}"
            );
        };
        check("lowerdir=/a/1:/a/10", "/a", "lowerdir=1:10");
        check("lowerdir=/a:/a/b,upperdir=/a,workdir=/aa", "/a", "lowerdir=.:b,upperdir=.,workdir=/aa");
        check("lowerdir=/a/1:/b/1", "/", "lowerdir=a/1:b/1");
        check("lowerdir=/a/../b:/a/c", "/a", "lowerdir=/a/../b:c");
        check("lowerdir=/a/b,upperdir=/a/b/u", "/a/b", "lowerdir=.,upperdir=u");
        assert_eq!(shorten("upperdir=/a/b"), None);
    }

    #[test]
    fn paths_are_those_of_layers_upper_and_work() {
        let data = "ro,lowerdir=/a:/b,index=/no,upperdir=/c:d,workdir=/e,volatile";
        assert_eq!(paths(data).collect::<Vec<_>>(), ["/a", "/b", "/c:d", "/e"]);
    }
}
