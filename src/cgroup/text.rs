//! The three forms in which cgroup files say numbers, and the line of `/proc/<pid>/cgroup` that names a group. Pure.
//!
//! Nothing here fails: what is missing or malformed counts as zero, since a kernel may leave out any key. The forms are
//! those of the kernel's `Documentation/admin-guide/cgroup-v2.rst`, "Interface Files".

/// A single value. `max`, the absence of a limit, is `u64::MAX`.
pub fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        digits => digits.parse().unwrap_or(0),
    }
}

/// Flat keyed: one `KEY VALUE` on each line.
#[derive(Debug, Clone, Copy)]
pub struct Flat<'a>(pub &'a str);

impl Flat<'_> {
    pub fn get(&self, key: &str) -> u64 {
        let pairs = self.0.lines().filter_map(|line| line.split_once(' '));
        pairs.into_iter().find(|(name, _)| *name == key).map_or(0, |(_, value)| number(value))
    }
}

/// The pairs of one line of a nested keyed file: `KEY=VALUE KEY=VALUE …`.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a>(&'a str);

impl<'a> Pairs<'a> {
    pub fn get(&self, key: &str) -> u64 {
        self.text(key).map_or(0, number)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        let pairs = self.0.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

/// Nested keyed: a name and its pairs on each line. A name without pairs is left out.
pub fn nested(text: &str) -> impl Iterator<Item = (&str, Pairs<'_>)> {
    let lines = text.lines().filter_map(|line| line.trim().split_once(' '));
    lines.map(|(name, pairs)| (name, Pairs(pairs)))
}

/// How long tasks were held up for want of a resource: one line of a `*.pressure` file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Share of the last 10, 60 and 300 seconds, in percent.
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    /// Microseconds since the group was made.
    pub total: u64,
}

/// Pressure stall information of one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Psi {
    /// Some task was held up. `None` if the kernel does not say.
    pub some: Option<Pressure>,
    /// All of them were at once.
    pub full: Option<Pressure>,
}

/// The form of `Documentation/accounting/psi.rst`. `None` if the kernel keeps no such account, and so has no text.
pub fn psi(text: &str) -> Option<Psi> {
    let line = |wanted| nested(text).find(|(name, _)| *name == wanted).map(|(_, pairs)| pressure(pairs));
    let psi = Psi { some: line("some"), full: line("full") };
    (psi.some.is_some() || psi.full.is_some()).then_some(psi)
}

fn pressure(pairs: Pairs<'_>) -> Pressure {
    let share = |key| pairs.text(key).and_then(percent).unwrap_or(0.0);
    Pressure {
        avg10: share("avg10"),
        avg60: share("avg60"),
        avg300: share("avg300"),
        total: pairs.get("total"),
    }
}

/// The kernel writes two digits behind the point. The parser of the standard library takes any number, and 15 kB.
fn percent(text: &str) -> Option<f64> {
    let (whole, hundredths) = text.split_once('.').filter(|(_, digits)| digits.len() == 2)?;
    let (whole, hundredths): (u16, u8) = (whole.parse().ok()?, hundredths.parse().ok()?);
    Some(f64::from(u32::from(whole) * 100 + u32::from(hundredths)) / 100.0)
}

/// The path of a process on the unified hierarchy, which cgroups(7) numbers 0: `0::/path`.
pub fn unified_path(proc_cgroup: &str) -> Option<&str> {
    proc_cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_is_what_its_digits_say() {
        for hundredths in 0..=10_000_u32 {
            let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
            assert_eq!(percent(&text), text.parse().ok(), "{text}");
        }
        for text in ["", "1", "1.", ".50", "1.5", "1.500", "-1.00", "1.x0", "nan", "65536.00"] {
            assert_eq!(percent(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_number_is_its_digits_or_max_or_nothing() {
        let cases = [
            ("0\n", 0),
            ("4096\n", 4096),
            ("max\n", u64::MAX),
            ("18446744073709551615", u64::MAX),
            ("18446744073709551616", 0),
            ("-1", 0),
            ("", 0),
            ("maximum", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_flat_key_is_matched_as_a_whole() {
        let flat = Flat("oom 3\noom_kill 2\nlonely\nmax max\nbad x\n");
        let cases =
            [("oom", 3), ("oom_kill", 2), ("max", u64::MAX), ("oom_", 0), ("lonely", 0), ("bad", 0), ("", 0)];
        for (key, expected) in cases {
            assert_eq!(flat.get(key), expected, "{key}");
        }
    }

    #[test]
    fn nested_keys_belong_to_their_line() {
        let text = "8:0 rbytes=1 wbytes=2\n8:16 \n253:0 rbytes=max junk wbytes=\n";
        let read = nested(text).map(|(name, pairs)| (name, pairs.get("rbytes"), pairs.get("wbytes")));
        assert_eq!(read.collect::<Vec<_>>(), [("8:0", 1, 2), ("253:0", u64::MAX, 0)]);
    }

    #[test]
    fn pressure_has_two_lines_that_may_be_missing() {
        let some = Pressure { avg10: 1.5, avg60: 0.25, avg300: 100.0, total: 77 };
        let line = "some avg10=1.50 avg60=0.25 avg300=100.00 total=77\n";
        let both = format!("{line}full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
        assert_eq!(psi(&both), Some(Psi { some: Some(some), full: Some(Pressure::default()) }));
        assert_eq!(psi(line), Some(Psi { some: Some(some), full: None }));
        assert_eq!(psi(""), None);
    }

    #[test]
    fn the_unified_hierarchy_is_the_one_numbered_0() {
        assert_eq!(unified_path("0::/runc/c1\n"), Some("/runc/c1"));
        assert_eq!(unified_path("9:name=systemd:/a\n4:memory:/b\n0::/c:d\n"), Some("/c:d"));
        assert_eq!(unified_path("10::/a\n4:memory:/b\n"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[a-z0-9:=. \n\\-\u{e9}]{0,200}", key in "[a-z=. ]{0,5}") {
            number(&text);
            Flat(&text).get(&key);
            nested(&text).for_each(|(_, pairs)| _ = pairs.get(&key));
            psi(&text);
            unified_path(&text);
        }

        #[test]
        fn any_text_at_all_is_read(text in any::<String>()) {
            number(&text);
            Flat(&text).get(&text);
            nested(&text).for_each(|(name, pairs)| _ = pairs.get(name));
            psi(&text);
        }

        #[test]
        fn what_is_written_is_read(values in prop::collection::btree_map("[a-z_]{1,12}", any::<u64>(), 0..20)) {
            let flat: String = values.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
            let pairs: String = values.iter().map(|(key, value)| format!(" {key}={value}")).collect();
            let line = format!("8:0{pairs}\n");
            for (key, value) in &values {
                prop_assert_eq!(Flat(&flat).get(key), *value);
                let (_, pairs) = nested(&line).next().expect("one line was written");
                prop_assert_eq!(pairs.get(key), *value);
            }
        }
    }
}
