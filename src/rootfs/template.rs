//! The calls that a mount of type `format/…` may make, to name what the mounts before it became. Pure.
//!
//! The syntax is that of Go's text/template, of which containerd's mount manager uses four calls and nothing else:
//! `{{ source N }}`, `{{ target N }}`, `{{ mount N }}` and `{{ overlay A B }}`.

use std::path::PathBuf;

use super::{Mount, RootfsError};

/// What all texts of one mount may grow to, in bytes: 500 layers, the most that overlayfs takes, with paths of 256.
/// Without a bound each of many mounts could double what the one before it says.
const EXPANDED_MAX: usize = 128 * 1024;

/// A mount that comes before the one at hand.
#[derive(Debug)]
pub(super) struct Earlier {
    pub(super) source: String,
    pub(super) target: String,
    /// Where it is mounted.
    pub(super) point: PathBuf,
}

/// Carries out the calls in the options, the source and the target of `mount`.
pub(super) fn expand(mount: &mut Mount, earlier: &[Earlier]) -> Result<(), RootfsError> {
    let mut room = EXPANDED_MAX;
    for text in mount.options.iter_mut().chain([&mut mount.source, &mut mount.target]) {
        if text.contains("{{") {
            *text = expand_text(text, earlier, &mut room)?;
        }
    }
    Ok(())
}

fn expand_text(text: &str, earlier: &[Earlier], room: &mut usize) -> Result<String, RootfsError> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (call, after) = after.split_once("}}").ok_or_else(|| bad(after, "has no end"))?;
        put(&mut expanded, before, room)?;
        evaluate(call, earlier, &mut |value| put(&mut expanded, value, room))?;
        rest = after;
    }
    put(&mut expanded, rest, room)?;
    Ok(expanded)
}

fn put(expanded: &mut String, text: &str, room: &mut usize) -> Result<(), RootfsError> {
    *room = room.checked_sub(text.len()).ok_or_else(|| bad(text, "makes the options too long"))?;
    expanded.push_str(text);
    Ok(())
}

/// Hands the value of one call to `put`, in pieces.
fn evaluate(
    call: &str,
    earlier: &[Earlier],
    put: &mut impl FnMut(&str) -> Result<(), RootfsError>,
) -> Result<(), RootfsError> {
    let words: Vec<&str> = call.split_ascii_whitespace().collect();
    let index = |word: &str| match word.parse::<usize>() {
        Ok(index) if index < earlier.len() => Ok(index),
        Ok(_) => Err(bad(call, "names a mount that does not come before this one")),
        Err(_) => Err(bad(call, "has no number where one belongs")),
    };
    match words[..] {
        ["source", n] => put(&earlier[index(n)?].source),
        ["target", n] => put(&earlier[index(n)?].target),
        ["mount", n] => put(point(&earlier[index(n)?])?),
        ["overlay", a, b] => put_layers(earlier, index(a)?, index(b)?, put),
        _ => Err(bad(call, "is not a call that is known here")),
    }
}

/// The mount points from `a` to `b`, both included, as overlayfs reads them: the first is the topmost.
fn put_layers(
    earlier: &[Earlier],
    a: usize,
    b: usize,
    put: &mut impl FnMut(&str) -> Result<(), RootfsError>,
) -> Result<(), RootfsError> {
    let layers = &earlier[a.min(b)..=a.max(b)];
    for place in 0..layers.len() {
        if place > 0 {
            put(":")?;
        }
        let layer = if a > b { layers.len() - 1 - place } else { place };
        put(point(&layers[layer])?)?;
    }
    Ok(())
}

/// A mount point with one of these characters would be taken for two paths, or for another one.
fn point(earlier: &Earlier) -> Result<&str, RootfsError> {
    let text = earlier.point.to_str().filter(|text| !text.contains([',', ':', '\\']));
    let shown =
        || RootfsError::invalid("mount point", &earlier.point.to_string_lossy(), "cannot stand in an option");
    text.ok_or_else(shown)
}

fn bad(call: &str, why: &'static str) -> RootfsError {
    RootfsError::invalid("template call", call.trim(), why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn earlier() -> Vec<Earlier> {
        let one = |(source, target, point): (&str, &str, &str)| Earlier {
            source: source.into(),
            target: target.into(),
            point: point.into(),
        };
        [("/dev/vda", "", "/b/mounts/0"), ("/dev/vdb", "x", "/b/mounts/1/x"), ("t", "", "/b/mounts/2")]
            .map(one)
            .into()
    }

    fn expanded(text: &str) -> Result<String, RootfsError> {
        let mut mount = Mount {
            kind: String::new(),
            source: text.into(),
            target: text.into(),
            options: vec![text.into()],
        };
        expand(&mut mount, &earlier())?;
        assert!(mount.source == mount.target && mount.options == [mount.source.clone()]);
        Ok(mount.source)
    }

    #[test]
    fn calls_name_what_earlier_mounts_became() {
        for (text, expected) in [
            ("", ""),
            ("plain } }} {", "plain } }} {"),
            ("{{ source 0 }}", "/dev/vda"),
            ("{{source 1}}", "/dev/vdb"),
            ("{{\t target\n 1 }}!", "x!"),
            ("upperdir={{ mount 1 }}/upper", "upperdir=/b/mounts/1/x/upper"),
            ("{{ mount 0 }}{{ mount 2 }}", "/b/mounts/0/b/mounts/2"),
            ("lowerdir={{ overlay 0 2 }}", "lowerdir=/b/mounts/0:/b/mounts/1/x:/b/mounts/2"),
            ("lowerdir={{ overlay 2 0 }}:/z", "lowerdir=/b/mounts/2:/b/mounts/1/x:/b/mounts/0:/z"),
            ("{{ overlay 1 1 }}", "/b/mounts/1/x"),
        ] {
            assert_eq!(expanded(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn any_other_call_is_refused() {
        for text in [
            "{{",
            "{{ mount 0",
            "{{}}",
            "{{ mount }}",
            "{{ mount 3 }}",
            "{{ mount -1 }}",
            "{{ mount 99999999999999999999999 }}",
            "{{ mount x }}",
            "{{ mount 0 0 }}",
            "{{ mount0 }}",
            "{{ overlay 0 }}",
            "{{ overlay 0 3 }}",
            "{{ overlay 3 0 }}",
            "{{ {{ mount 0 }} }}",
            "{{ printf \"%s\" 0 }}",
            "{{ Mount 0 }}",
        ] {
            assert!(matches!(expanded(text), Err(RootfsError::Invalid { .. })), "{text}");
        }
    }

    #[test]
    fn a_mount_point_that_options_cannot_hold_is_refused() {
        for point in ["/b,c", "/b:c", "/b\\c"] {
            let earlier = [Earlier { source: String::new(), target: String::new(), point: point.into() }];
            for text in ["{{ mount 0 }}", "{{ overlay 0 0 }}"] {
                assert!(expand_text(text, &earlier, &mut 1000).is_err(), "{point} {text}");
            }
        }
    }

    #[test]
    fn what_calls_may_grow_to_is_bounded() {
        assert!(expanded(&"{{ source 0 }}".repeat(1000)).is_ok());
        let much = expanded(&"{{ overlay 0 2 }}".repeat(EXPANDED_MAX / 10));
        assert!(matches!(much, Err(RootfsError::Invalid { value, .. }) if value.len() < 1000));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_none_without_a_call_changes(text in "[ a-z0-9{}]{0,40}|.*") {
            match expanded(&text) {
                Ok(after) => prop_assert_eq!(text.contains("{{"), after != text || after.contains("{{")),
                Err(_) => prop_assert!(text.contains("{{")),
            }
        }

        #[test]
        fn blanks_do_not_matter(before in "[ \t\r\n]*", between in "[ \t\r\n]+", after in "[ \t\r\n]*") {
            let text = format!("{{{{{before}overlay{between}2{between}1{after}}}}}");
            prop_assert_eq!(expanded(&text).unwrap(), "/b/mounts/2:/b/mounts/1/x");
        }
    }
}
