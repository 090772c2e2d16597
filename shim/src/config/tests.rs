//! The file, annotations and sizes, as tables.

use std::collections::BTreeMap;

use super::*;
use crate::plan::Demand;

fn parsed(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/c.toml"), text).map_err(|error| error.to_string())
}

fn chosen(config: &Config, key: &str, value: &str) -> Result<Choice, String> {
    let annotations = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    config.choose(&annotations).map_err(|error| error.to_string())
}

#[test]
fn what_the_file_does_not_say_has_its_default() {
    assert_eq!(parsed(""), Ok(Config::default()));
    let config = parsed("[machine]\nmemory_mb = 1024\n[vsock]\nkernel = true\n").unwrap();
    assert_eq!((config.machine.memory_mb, config.machine.cpus, config.vsock.kernel), (1024, 1, true));
    assert_eq!(Config::read(Path::new("/no/such/file")).unwrap(), Config::default());
}

#[test]
fn a_mistake_in_the_file_is_told() {
    for (text, part) in [
        ("machine = 1", "use /c.toml: "),
        ("[machine]\nmemory = 1", "unknown field `memory`"),
        ("[machine]\nmemory_mb = 1", "use /c.toml: machine.memory_mb is 1, and must be from 192 to 4096"),
        ("[machine]\nfloor_mb = 1", "machine.floor_mb is 1, and must be from 64 to 1048576"),
        ("[machine]\ncpus = 5", "machine.cpus is 5, and must be from 1 to 4"),
        ("[machine]\nmax_cpus = 0", "machine.max_cpus is 0, and must be from 1 to 288"),
    ] {
        let error = parsed(text).expect_err(text);
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn annotations_choose_within_what_the_host_allows() {
    let config = parsed("[annotations]\nkernels = [\"/boot/k\"]\n").unwrap();
    assert_eq!(chosen(&config, "io.vminit.memory_mb", "1024").unwrap().memory_mb, Some(1024));
    assert_eq!(chosen(&config, "io.vminit.cpus", "4").unwrap().cpus, Some(4));
    assert_eq!(chosen(&config, "io.vminit.kernel", "/boot/k").unwrap().kernel, Some("/boot/k".into()));
    assert_eq!(chosen(&config, "nerdctl/name", "x"), Ok(Choice::default()));
    for (key, value) in [
        ("io.vminit.memory_mb", "191"),
        ("io.vminit.memory_mb", "4097"),
        ("io.vminit.memory_mb", "1G"),
        ("io.vminit.cpus", "0"),
        ("io.vminit.cpus", "5"),
        ("io.vminit.kernel", "/boot/../boot/k"),
        ("io.vminit.initrd", "/boot/i"),
        ("io.vminit.kernel_args", "quiet"),
        ("io.vminit.novel", "1"),
    ] {
        let error = chosen(&config, key, value).expect_err(key);
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn a_machine_is_larger_than_its_container() {
    let config = Config::default();
    let size = |memory: Option<u64>, millicpus| {
        let demand = Demand { memory, millicpus, cpuset: None };
        let size = config.size(&Choice::default(), &demand);
        (size.memory_mb, size.cpus)
    };
    assert_eq!(size(None, None), (512, 1));
    assert_eq!(size(Some(256 << 20), Some(500)), (352, 1));
    assert_eq!(size(Some((256 << 20) + 1), Some(1_001)), (353, 2));
    assert_eq!(size(Some(1), Some(1)), (192, 1));
    assert_eq!(size(Some(u64::MAX), Some(u64::MAX)), (4096, 4));
    let choice = Choice { memory_mb: Some(300), cpus: Some(3), ..Choice::default() };
    let demand = Demand { memory: Some(1 << 30), millicpus: Some(1_000), cpuset: None };
    assert_eq!(config.size(&choice, &demand), Size { memory_mb: 300, cpus: 3 });
}

/// The example that is installed: with every key taken in it says what holds without it, and no key is left out.
#[test]
fn the_example_has_every_key_with_its_default() {
    let example = include_str!("../../../deploy/containerd/config.toml");
    // A key that is commented out follows its `#` at once, prose does not.
    let is_key = |line: &&str| line.starts_with(|first: char| first.is_ascii_lowercase());
    let lines = example.lines().map(|line| line.strip_prefix('#').filter(is_key).unwrap_or(line));
    let text = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(parsed(&text), Ok(Config::default()));
    let told = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let told = told.map(|line| match line.strip_prefix('[') {
        Some(section) => section.trim_end_matches(']'),
        None => line.split(" = ").next().unwrap_or(line),
    });
    // The derived format names every field of every struct.
    let fields = format!("{:#?}", Config::default());
    let fields = fields.lines().filter_map(|line| line.trim_start().split_once(": "));
    assert_eq!(sorted(told), sorted(fields.map(|(name, _)| name)));
}

fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names
}
