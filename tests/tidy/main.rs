//! Holds the tree to its own rules: the order of the layers, the sizes, the home of `unsafe`, the header of each file;
//! and the guides to the tree: the map of the layers, the tests that are named, the width of lines.
//!
//! The rules and their reasons are in docs/ARCHITECTURE.md. This file reads source as text, line by line, and relies on
//! rustfmt's layout; each rule is a function from text to complaints, and is tested below on text that breaks it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

mod rooms;

/// Lines a file may have.
const FILE_MAX: usize = 600;
/// Lines a function may have, from its signature to its closing brace.
const FUNCTION_MAX: usize = 70;
/// Columns of a line of prose in the guides: what two windows beside each other show.
const PROSE_MAX: usize = 120;

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
    check(&["src", "shim/src"], &home_of_unsafe);
}

#[test]
fn every_file_says_what_it_owns() {
    check(OURS, &header);
}

#[test]
fn children_are_started_by_the_reaper_alone() {
    check(&["src"], &home_of_children);
}

/// The tasks name the targets of tests one by one.
#[test]
fn every_test_is_run_by_a_task() {
    let tasks = read(Path::new("Taskfile.yml"));
    let named: Vec<&str> = tasks.split("--test ").skip(1).filter_map(|rest| names(rest).next()).collect();
    let targets: Vec<String> = TESTS.iter().flat_map(|folder| targets(folder)).collect();
    assert!(targets.len() > 20, "only {targets:?}");
    let forgotten: Vec<_> = targets.iter().filter(|target| !is_named(target, &named)).collect();
    assert!(forgotten.is_empty(), "no task of Taskfile.yml runs {forgotten:?}");
}

/// Where cargo looks for tests.
const TESTS: &[&str] = &[
    "tests",
    "shim/tests",
    "deploy/tests",
    "protos/tests",
    "bench/tests",
    "bench/peer/tests",
    "tests/support/tests",
];

/// The targets of a folder of tests: its files, and its folders with a `main.rs`.
fn targets(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
    let targets =
        entries.filter(|path| path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists());
    targets.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
}

/// The black-box tests are named by their prefix.
fn is_named(target: &str, named: &[&str]) -> bool {
    named.contains(&target) || (target.starts_with("blackbox") && named.contains(&"blackbox"))
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

#[test]
fn the_guide_names_files_that_exist() {
    let guide = read(Path::new("docs/TESTING.md"));
    let named = files_named(&guide);
    assert!(named.len() > 40, "the guide names only {} files", named.len());
    let missing: Vec<&str> = named.into_iter().filter(|name| !root().join(name).exists()).collect();
    assert!(missing.is_empty(), "docs/TESTING.md names files that do not exist: {missing:?}");
}

/// Words between backticks that are paths from the root of the repository into a folder of ours.
fn files_named(guide: &str) -> Vec<&str> {
    let is_path = |text: &&str| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b))
            && text.split_once('/').is_some_and(|(folder, _)| OURS.contains(&folder))
    };
    guide.split('`').skip(1).step_by(2).flat_map(str::split_whitespace).filter(is_path).collect()
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

/// The room of a file below a folder `src`: its folder there, or its own name.
fn room_of(path: &Path) -> &str {
    let below = path.iter().skip_while(|part| *part != "src").nth(1);
    below.and_then(|part| part.to_str()).expect("a source file has a name").trim_end_matches(".rs")
}

fn home_of_unsafe(path: &Path, text: &str) -> Vec<String> {
    if room_of(path) == "sys" {
        return Vec::new();
    }
    let used = code_lines(text).filter(|(_, line)| words(line).any(|word| word == "unsafe"));
    used.map(|(number, _)| format!("line {number}: unsafe outside the room sys")).collect()
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
        assert_eq!(complaints(&home_of_unsafe, "shim/src/vm/mod.rs", "    unsafe { f() }\n"), 1);
        assert_eq!(complaints(&home_of_unsafe, "shim/src/sys/fd.rs", "    unsafe { f() }\n"), 0);
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
