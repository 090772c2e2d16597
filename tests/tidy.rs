//! Holds the tree to its own rules: the order of the layers, the sizes, the home of `unsafe`, the header of each file;
//! and the guides to the tree: the map of the layers, the tests that are named, the width of lines.
//!
//! The rules and their reasons are in docs/ARCHITECTURE.md. This file reads source as text, line by line, and relies on
//! rustfmt's layout; each rule is a function from text to complaints, and is tested below on text that breaks it.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines a file may have.
const FILE_MAX: usize = 600;
/// Lines a function may have, from its signature to its closing brace.
const FUNCTION_MAX: usize = 70;
/// Columns of a line of prose in the guides: what two windows beside each other show.
const PROSE_MAX: usize = 120;

/// Which rooms of the guest each room may name: those below it, never those above or beside it.
///
/// The configuration stands above the rooms whose settings it fills in, so that besides `main` only `daemon` and `boot`
/// read it. `services` names the errors of what `task` stands on, since one file of it maps all errors to codes.
const MAY_USE: [(&str, &[&str]); 24] = [
    ("main", &["blocking", "boot", "config", "daemon", "logging", "shutdown", "sys"]),
    (
        "daemon",
        &[
            "blocking",
            "boot",
            "config",
            "events",
            "flag",
            "guest",
            "io",
            "logging",
            "net",
            "profile",
            "reaper",
            "runc",
            "services",
            "shutdown",
            "supervisor",
            "sys",
            "task",
            "tracked",
            "wire",
        ],
    ),
    (
        "shutdown",
        &[
            "blocking",
            "events",
            "flag",
            "guest",
            "io",
            "services",
            "supervisor",
            "sys",
            "task",
            "tracked",
            "wire",
        ],
    ),
    ("boot", &["config", "guest", "logging", "net", "rootfs", "sys"]),
    (
        "config",
        &[
            "guest",
            "io",
            "logging",
            "net",
            "profile",
            "rootfs",
            "runc",
            "shutdown",
            "supervisor",
            "sys",
            "task",
            "wire",
        ],
    ),
    ("profile", &["io", "runc"]),
    ("logging", &["lock", "sys"]),
    (
        "services",
        &["blocking", "cgroup", "events", "guest", "io", "net", "rootfs", "runc", "sys", "task", "wire"],
    ),
    ("task", &["blocking", "cgroup", "events", "io", "lock", "reaper", "rootfs", "runc", "sys", "tracked"]),
    ("guest", &["blocking", "flag", "sys", "tracked"]),
    ("supervisor", &["blocking", "flag", "reaper", "sys", "tracked"]),
    ("cgroup", &["sys"]),
    ("runc", &["flag", "reaper", "sys"]),
    ("io", &["blocking", "flag", "lock", "sys", "tracked"]),
    ("reaper", &["lock", "sys"]),
    ("events", &["lock"]),
    ("rootfs", &["blocking", "sys"]),
    ("net", &["blocking", "sys"]),
    ("wire", &["flag", "lock", "sys"]),
    ("tracked", &["lock"]),
    ("blocking", &[]),
    ("flag", &[]),
    ("lock", &[]),
    ("sys", &[]),
];

/// Arrows of the table that may be there without a file that uses them.
const SPARE: [(&str, &str); 4] =
    [("config", "net"), ("config", "rootfs"), ("rootfs", "blocking"), ("shutdown", "blocking")];

#[test]
fn rooms_use_only_what_is_below_them() {
    check(&["src"], &layers);
}

#[test]
fn every_arrow_of_the_table_is_used() {
    let mut used: BTreeSet<Arrow> = SPARE.iter().map(|(room, other)| arrow(room, other)).collect();
    for file in files_below("src", "rs") {
        let room = room_of(&file);
        used.extend(rooms_named(room, &code_of(&read(&file))).iter().map(|other| arrow(room, other)));
    }
    let idle: Vec<_> = arrows_of_the_table().difference(&used).cloned().collect();
    assert!(idle.is_empty(), "no file uses these arrows: {idle:?}");
}

#[test]
fn the_map_draws_the_arrows_of_the_table() {
    let map = read(Path::new(MAP));
    assert_eq!(arrows_drawn(&map), arrows_of_the_table(), "{MAP}, on the left, and tests/tidy.rs");
}

#[test]
fn the_picture_of_the_map_has_every_room_above_what_it_uses() {
    let map = read(Path::new(MAP));
    let picture = picture(&map);
    let mut rooms: Vec<&str> = picture.iter().flatten().copied().collect();
    rooms.sort_unstable();
    assert_eq!(rooms, rooms_of_the_table(), "{MAP}, on the left, and tests/tidy.rs");
    let row = |room: &str| picture.iter().position(|row| row.contains(&room));
    let level: Vec<_> =
        arrows_of_the_table().into_iter().filter(|(room, other)| row(room) >= row(other)).collect();
    assert!(level.is_empty(), "the picture does not show these: {level:?}");
}

#[test]
fn the_map_says_once_what_each_room_owns() {
    let map = read(Path::new(MAP));
    assert_eq!(rooms_with_a_row(&map), rooms_of_the_table(), "{MAP}, on the left, and tests/tidy.rs");
}

#[test]
fn lines_of_prose_keep_their_width() {
    let guides = files_below("docs", "md");
    assert!(guides.len() > 5, "only {guides:?}");
    check_each(guides.into_iter().chain(["README.md".into()]), &prose);
}

#[test]
fn files_and_functions_keep_their_size() {
    check(OURS, &sizes);
}

#[test]
fn unsafe_lives_in_sys_alone() {
    check(&["src"], &home_of_unsafe);
}

#[test]
fn every_file_says_what_it_owns() {
    check(OURS, &header);
}

#[test]
fn children_are_started_by_the_reaper_alone() {
    check(&["src"], &home_of_children);
}

/// What the spinbox host depends on is shown by tests that are there.
#[test]
fn the_guide_names_tests_that_exist() {
    let guide = read(Path::new("docs/TESTING.md"));
    let named = tests_named(&guide);
    assert!(named.len() > 50, "the guide names only {} tests", named.len());
    let files = OURS.iter().flat_map(|folder| files_below(folder, "rs"));
    let text: String = files.map(|file| read(&file)).collect();
    let known: HashSet<&str> = text.lines().flat_map(words).collect();
    let missing: Vec<&str> = named.into_iter().filter(|name| !known.contains(name)).collect();
    assert!(missing.is_empty(), "docs/TESTING.md names tests that do not exist: {missing:?}");
}

/// The section of the guide whose tables name tests.
const SECTION: &str = "## What the spinbox host depends on";

/// Names between backticks in that section that look like those of tests: at least three words.
fn tests_named(guide: &str) -> Vec<&str> {
    let is_name = |text: &&str| {
        text.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
            && text.matches('_').count() >= 2
    };
    section(guide, SECTION).split('`').skip(1).step_by(2).filter(is_name).collect()
}

/// Every folder with Rust of our own.
const OURS: &[&str] = &["src", "shim", "deploy", "protos", "tests", "bench"];

/// A rule: a file's path from the root of the repository, its text, and what is wrong with it.
type Rule<'a> = &'a dyn Fn(&Path, &str) -> Vec<String>;

fn check(folders: &[&str], rule: Rule<'_>) {
    check_each(folders.iter().flat_map(|folder| files_below(folder, "rs")), rule);
}

fn check_each(files: impl IntoIterator<Item = PathBuf>, rule: Rule<'_>) {
    let mut complaints = Vec::new();
    for file in files {
        let found = rule(&file, &read(&file));
        complaints.extend(found.into_iter().map(|why| format!("{}: {why}", file.display())));
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file that is named from the root of the repository.
fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// All files of a folder with this extension, named from the root of the repository.
fn files_below(folder: impl AsRef<Path>, extension: &str) -> Vec<PathBuf> {
    let folder = root().join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("list {}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("read a folder").path());
    let files = paths.flat_map(|path| match path.is_dir() {
        true if path.ends_with("target") => Vec::new(),
        true => files_below(path, extension),
        false => vec![path.strip_prefix(root()).expect("it is listed below the root").to_owned()],
    });
    files.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// A room and one that it uses.
type Arrow = (String, String);

fn arrow(room: &str, other: &str) -> Arrow {
    (room.to_owned(), other.to_owned())
}

fn arrows_of_the_table() -> BTreeSet<Arrow> {
    let arrows = MAY_USE.iter().flat_map(|(room, uses)| uses.iter().map(|other| arrow(room, other)));
    arrows.collect()
}

/// Sorted.
fn rooms_of_the_table() -> Vec<&'static str> {
    let mut rooms = MAY_USE.map(|(room, _)| room).to_vec();
    rooms.sort_unstable();
    rooms
}

/// The map of the rooms, and the section that draws it: first the arrows, then the picture, then the table.
const MAP: &str = "docs/ARCHITECTURE.md";
const MAP_SECTION: &str = "## Rooms and layers";

/// The lines of each indented block of the section.
fn blocks(map: &str) -> Vec<Vec<&str>> {
    let section = section(map, MAP_SECTION);
    let blocks = section.split("\n\n").filter(|block| block.trim_matches('\n').starts_with("    "));
    blocks.map(|block| block.trim_matches('\n').lines().collect()).collect()
}

/// The arrows in lines of the form `room, room ──► room, room`; a line without an arrow continues the one above.
fn arrows_drawn(map: &str) -> BTreeSet<Arrow> {
    let mut arrows = BTreeSet::new();
    let mut rooms = Vec::new();
    for line in blocks(map).first().into_iter().flatten() {
        let used = match line.split_once('►') {
            Some((left, right)) => {
                rooms = names(left).collect();
                right
            }
            None => line,
        };
        for other in names(used).filter(|name| *name != "nothing") {
            arrows.extend(rooms.iter().map(|room| arrow(room, other)));
        }
    }
    arrows
}

/// The rooms in each row of the picture, from the top.
fn picture(map: &str) -> Vec<Vec<&str>> {
    let blocks = blocks(map);
    blocks.get(1).into_iter().flatten().map(|line| names(line).collect()).collect()
}

/// The rooms in the first column of the section's table, sorted: folders and files between backticks.
fn rooms_with_a_row(map: &str) -> Vec<&str> {
    let rows = section(map, MAP_SECTION).lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let named = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let mut rooms: Vec<&str> = named.map(|name| name.trim_end_matches('/').trim_end_matches(".rs")).collect();
    rooms.sort_unstable();
    rooms
}

/// What stands below a heading, up to the next of its kind.
fn section<'a>(guide: &'a str, heading: &str) -> &'a str {
    let section = guide.split(heading).nth(1).unwrap_or_default();
    section.split("\n## ").next().unwrap_or_default()
}

/// Lines outside tables, indented blocks and code fences that are too long.
fn prose(_: &Path, text: &str) -> Vec<String> {
    let mut in_fence = false;
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        in_fence ^= line.starts_with("```");
        let free = in_fence || line.starts_with('|') || line.starts_with("    ");
        let width = line.chars().count();
        if !free && width > PROSE_MAX {
            complaints.push(format!("line {}: {width} columns, at most {PROSE_MAX}", index + 1));
        }
    }
    complaints
}

fn layers(path: &Path, text: &str) -> Vec<String> {
    let room = room_of(path);
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == room) else {
        return vec![format!("the room {room} has no line in the table of tests/tidy.rs")];
    };
    let code = code_of(text);
    let named = rooms_named(room, &code).into_iter();
    let strangers = named.filter(|other| *other != room && !allowed.contains(other));
    strangers.map(|other| format!("{room} may not use {other}")).collect()
}

/// The room of a file below `src`: its folder, or its own name.
fn room_of(path: &Path) -> &str {
    let room = path.iter().nth(1).and_then(|part| part.to_str()).expect("a source file has a name");
    room.trim_end_matches(".rs")
}

/// The rooms that the code of a room names: in every `crate::room` and `crate::{room, room::Type}`, and in main.rs, from
/// where all paths lead, at the head of every path.
fn rooms_named<'a>(room: &str, code: &'a str) -> Vec<&'a str> {
    let mut rooms = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(group_heads(group)),
            None => rooms.extend(words(rest).next()),
        }
    }
    if room == "main" {
        rooms.extend(code.match_indices("::").filter_map(|(at, _)| head_before(&code[..at])));
    }
    // `crate::CONSTANT` and macros named by path belong to no room.
    rooms.retain(|room| MAY_USE.iter().any(|(name, _)| name == room));
    rooms
}

/// The word at the end of the text, if a path begins with it.
fn head_before(text: &str) -> Option<&str> {
    let before = text.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
    (!before.ends_with(':')).then(|| &text[before.len()..])
}

/// The first word of each member of `a, b::{c, d}, e::F}`, up to the brace that ends the group.
fn group_heads(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut heads = Vec::new();
    for part in group.split_inclusive([',', '{', '}']) {
        if depth == 0 {
            heads.extend(words(part.trim()).next());
        }
        match part.chars().last() {
            Some('{') => depth += 1,
            Some('}') => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            break;
        }
    }
    heads
}

fn sizes(_: &Path, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let mut complaints = Vec::new();
    if lines > FILE_MAX {
        complaints.push(format!("{lines} lines, at most {FILE_MAX} are allowed"));
    }
    let long = functions(text).into_iter().filter(|(_, length)| *length > FUNCTION_MAX);
    complaints.extend(
        long.map(|(line, length)| {
            format!("line {line}: a function of {length} lines, at most {FUNCTION_MAX}")
        }),
    );
    complaints
}

/// The first line and the length of each function. rustfmt puts the closing brace under the signature's first letter.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| is_signature(line));
    starts.filter_map(|(start, line)| Some((start + 1, length_of(line, &lines[start..])?))).collect()
}

/// `None` for a signature without a body.
fn length_of(signature: &str, lines: &[&str]) -> Option<usize> {
    let indent = &signature[..signature.len() - signature.trim_start().len()];
    let ends = |line: &str| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}'));
    let body =
        lines.iter().position(|line| line.ends_with('{') || line.ends_with(';') || line.ends_with('}'))?;
    if !lines[body].ends_with('{') {
        return None;
    }
    Some(lines.iter().skip(body + 1).position(|line| ends(line))? + body + 2)
}

fn is_signature(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let prefix = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
    words.find(|word| !prefix.contains(word)) == Some("fn")
}

fn home_of_unsafe(path: &Path, text: &str) -> Vec<String> {
    if room_of(path) == "sys" {
        return Vec::new();
    }
    let used = code_lines(text).filter(|(_, line)| words(line).any(|word| word == "unsafe"));
    used.map(|(number, _)| format!("line {number}: unsafe outside src/sys")).collect()
}

fn home_of_children(path: &Path, text: &str) -> Vec<String> {
    // `sys` wraps the system calls, the reaper is the one that calls them.
    if ["reaper", "sys"].contains(&room_of(path)) {
        return Vec::new();
    }
    let banned = ["process::Command", "Command::new", "waitpid", "waitid", "fork("];
    let used = code_lines(text).filter(|(_, line)| banned.iter().any(|name| line.contains(name)));
    used.map(|(number, _)| format!("line {number}: starts or waits for a child outside src/reaper")).collect()
}

fn header(_: &Path, text: &str) -> Vec<String> {
    match text.starts_with("//! ") {
        true => Vec::new(),
        false => vec!["does not open with a //! paragraph".to_owned()],
    }
}

/// The numbered lines outside comments. Text in strings counts as code, which no rule has minded so far.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.map(|(number, line)| (number, line.split("//").next().unwrap_or_default()))
}

/// The code of a file without its comments.
fn code_of(text: &str) -> String {
    code_lines(text).map(|(_, line)| line).collect::<Vec<_>>().join("\n")
}

/// The words of a line that says nothing else.
fn names(line: &str) -> impl Iterator<Item = &str> {
    words(line).filter(|word| !word.is_empty())
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

#[cfg(test)]
mod the_rules_bite {
    use super::*;

    fn complaints(rule: Rule<'_>, path: &str, text: &str) -> usize {
        rule(Path::new(path), text).len()
    }

    #[test]
    fn the_table_of_rooms_has_no_circle() {
        let mut left: Vec<_> = MAY_USE.to_vec();
        while let Some(bottom) = left
            .iter()
            .position(|(_, uses)| uses.iter().all(|used| !left.iter().any(|(room, _)| room == used)))
        {
            left.remove(bottom);
        }
        assert!(left.is_empty(), "each of these is above another of them: {left:?}");
    }

    #[test]
    fn a_room_that_reaches_upwards_is_found() {
        assert_eq!(complaints(&layers, "src/reaper/mod.rs", "use crate::task::Registry;\n"), 1);
        assert_eq!(
            complaints(&layers, "src/reaper/mod.rs", "use crate::{sys::pid, task::{A, B}, wire};\n"),
            2
        );
        assert_eq!(complaints(&layers, "src/events/mod.rs", "    let x = crate::io::Relay::new();\n"), 1);
        assert_eq!(complaints(&layers, "src/newroom/mod.rs", "\n"), 1);
    }

    #[test]
    fn a_room_that_uses_what_is_below_it_is_left_alone() {
        assert_eq!(
            complaints(&layers, "src/task/exit.rs", "use crate::reaper::Exit;\nuse crate::task::Id;\n"),
            0
        );
        assert_eq!(complaints(&layers, "src/reaper/mod.rs", "// crate::task is above this\n"), 0);
    }

    #[test]
    fn main_names_rooms_at_the_head_of_a_path() {
        let code = "use config::{Config, Start};\nlet x = sys::clock::uptime();\nuse std::io::Write;\n";
        assert_eq!(rooms_named("main", code), ["config", "sys"]);
        assert_eq!(complaints(&layers, "src/main.rs", "task::Registry::new();\n"), 1);
    }

    const A_MAP: &str = "\
        # Map\n\n| `wire/` | before |\n\n## Rooms and layers\n\nWords, `sys`.\n\n    task, io ──► reaper, sys,\n             wire\n    \
        sys ──► nothing\n\nAs a picture:\n\n    task  io\n    sys\n\n| room | owns |\n|---|---|\n| `io/` `lock.rs` | a \
        `word` |\n| `sys/` | b |\n\n## Next\n\n| `task/` | after |\n";

    #[test]
    fn the_map_is_read_line_by_line() {
        let uses = ["reaper", "sys", "wire"].map(|other| [arrow("io", other), arrow("task", other)]);
        assert_eq!(arrows_drawn(A_MAP), uses.into_iter().flatten().collect());
        assert_eq!(picture(A_MAP), [vec!["task", "io"], vec!["sys"]]);
        assert_eq!(rooms_with_a_row(A_MAP), ["io", "lock", "sys"]);
    }

    #[test]
    fn a_long_line_of_prose_is_found_and_one_of_a_table_or_of_code_is_not() {
        let long = "é".repeat(PROSE_MAX + 1);
        assert_eq!(complaints(&prose, "docs/A.md", &format!("{long}\n- {long}\n")), 2);
        let free = format!("| {long}\n    {long}\n```\n{long}\n```\n{}\n", &long[2..]);
        assert_eq!(complaints(&prose, "docs/A.md", &free), 0);
    }

    #[test]
    fn a_long_file_and_a_long_function_are_found() {
        assert_eq!(complaints(&sizes, "src/main.rs", &"\n".repeat(FILE_MAX + 1)), 1);
        let body = "        step();\n".repeat(FUNCTION_MAX - 1);
        let method =
            format!("impl T {{\n    pub async fn run(\n        &self,\n    ) {{\n{body}    }}\n}}\n");
        assert_eq!(complaints(&sizes, "src/main.rs", &method), 1);
    }

    #[test]
    fn functions_are_measured_from_signature_to_brace() {
        assert_eq!(functions("fn a() {\n    b();\n}\n\nfn c();\nfn d() {}\n"), [(1, 3)]);
    }

    #[test]
    fn unsafe_outside_sys_is_found_and_talk_of_it_is_not() {
        assert_eq!(complaints(&home_of_unsafe, "src/io/relay.rs", "    unsafe { f() }\n"), 1);
        assert_eq!(complaints(&home_of_unsafe, "src/io/relay.rs", "// unsafe\nlet unsafe_one = 1;\n"), 0);
        assert_eq!(complaints(&home_of_unsafe, "src/sys/fd.rs", "    unsafe { f() }\n"), 0);
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(complaints(&header, "src/io/mod.rs", "use std::io;\n"), 1);
        assert_eq!(complaints(&header, "src/io/mod.rs", "//! Owns stdio.\n"), 0);
    }

    #[test]
    fn a_second_waiter_is_found() {
        assert_eq!(complaints(&home_of_children, "src/runc/call.rs", "    Command::new(path)\n"), 1);
        assert_eq!(complaints(&home_of_children, "src/reaper/spawn.rs", "    Command::new(path)\n"), 0);
    }

    #[test]
    fn names_of_tests_are_taken_from_their_section_alone() {
        let guide = format!("`not_this_one_here`\n{SECTION}\n| a | `this_is_a_test`, `-no_flag_at_all`, `exec` |\n## Next\n`nor_this_one`\n");
        assert_eq!(tests_named(&guide), ["this_is_a_test"]);
    }
}
