//! The order of rooms, of the guest and of the shim: which room may name which, held against the sources and against the
//! map that draws it. Owns the two tables; never says what a room owns, which the maps do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{check_each, code_of, files_below, names, read, room_of, section, words};

/// The rooms of one crate: those below each, and never those above or beside it.
struct Rooms {
    /// Where they are.
    source: &'static str,
    /// The page that draws them, in the section [`MAP_SECTION`]: first the arrows, then the picture, then the table.
    map: &'static str,
    may_use: &'static [(&'static str, &'static [&'static str])],
    /// Arrows that may be there without a file that uses them.
    spare: &'static [(&'static str, &'static str)],
}

const MAP_SECTION: &str = "## Rooms and layers";

const ALL: [Rooms; 2] = [GUEST, SHIM];

/// The configuration stands above the rooms whose settings it fills in, so that besides `main` only `daemon` and `boot`
/// read it. `services` names the errors of what `task` stands on, since one file of it maps all errors to codes.
const GUEST: Rooms = Rooms {
    source: "src",
    map: "docs/ARCHITECTURE.md",
    may_use: &[
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
        (
            "task",
            &["blocking", "cgroup", "events", "io", "lock", "reaper", "rootfs", "runc", "sys", "tracked"],
        ),
        ("guest", &["blocking", "flag", "lock", "sys", "tracked"]),
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
    ],
    spare: &[("config", "net"), ("config", "rootfs"), ("rootfs", "blocking"), ("shutdown", "blocking")],
};

/// `bin` is both programs, the shim and the demo, which lead to the rooms from outside of their crate.
const SHIM: Rooms = Rooms {
    source: "shim/src",
    map: "docs/SHIM.md",
    may_use: &[
        (
            "bin",
            &[
                "cli", "client", "config", "events", "holder", "net", "rootfs", "serve", "service", "spec",
                "state", "task", "vm",
            ],
        ),
        ("cli", &["holder", "state"]),
        ("serve", &["caller"]),
        ("service", &["caller", "events", "state", "stdio", "task"]),
        (
            "task",
            &[
                "client", "config", "events", "holder", "hooks", "net", "plan", "rootfs", "state", "stdio",
                "vm",
            ],
        ),
        ("net", &["state", "sys"]),
        ("state", &["hooks", "plan", "sys"]),
        ("rootfs", &["plan", "sys", "vm"]),
        ("events", &["client"]),
        ("stdio", &["client"]),
        ("vm", &["client", "sys"]),
        ("config", &["plan"]),
        ("holder", &["plan", "sys"]),
        ("hooks", &["plan"]),
        ("caller", &[]),
        ("client", &[]),
        ("plan", &[]),
        ("spec", &[]),
        ("sys", &[]),
    ],
    spare: &[],
};

/// By which the code of a crate names its rooms; the programs of the shim use the name of its library.
const HEADS: [&str; 2] = ["crate::", "vminit_shim::"];

#[test]
fn rooms_use_only_what_is_below_them() {
    for rooms in &ALL {
        check_each(rooms.files(), &|path, text| rooms.layers(path, text));
    }
}

#[test]
fn every_arrow_of_a_table_is_used() {
    for rooms in &ALL {
        let mut used: BTreeSet<Arrow> = rooms.spare.iter().map(|(room, other)| arrow(room, other)).collect();
        for file in rooms.files() {
            let room = room_of(&file);
            used.extend(rooms.named(room, &code_of(&read(&file))).iter().map(|other| arrow(room, other)));
        }
        let idle: Vec<_> = rooms.arrows().difference(&used).cloned().collect();
        assert!(idle.is_empty(), "no file of {} uses these arrows: {idle:?}", rooms.source);
    }
}

#[test]
fn a_map_draws_the_arrows_of_its_table() {
    for rooms in &ALL {
        let map = read(Path::new(rooms.map));
        assert_eq!(arrows_drawn(&map), rooms.arrows(), "{}, on the left, and tests/tidy/rooms.rs", rooms.map);
    }
}

#[test]
fn the_picture_of_a_map_has_every_room_above_what_it_uses() {
    for rooms in &ALL {
        let map = read(Path::new(rooms.map));
        let picture = picture(&map);
        let mut drawn: Vec<&str> = picture.iter().flatten().copied().collect();
        drawn.sort_unstable();
        assert_eq!(drawn, rooms.sorted(), "{}, on the left, and tests/tidy/rooms.rs", rooms.map);
        let row = |room: &str| picture.iter().position(|row| row.contains(&room));
        let level: Vec<_> =
            rooms.arrows().into_iter().filter(|(room, other)| row(room) >= row(other)).collect();
        assert!(level.is_empty(), "the picture of {} does not show these: {level:?}", rooms.map);
    }
}

#[test]
fn a_map_says_once_what_each_room_owns() {
    for rooms in &ALL {
        let map = read(Path::new(rooms.map));
        assert_eq!(
            rooms_with_a_row(&map),
            rooms.sorted(),
            "{}, on the left, and tests/tidy/rooms.rs",
            rooms.map
        );
    }
}

/// A room and one that it uses.
type Arrow = (String, String);

fn arrow(room: &str, other: &str) -> Arrow {
    (room.to_owned(), other.to_owned())
}

impl Rooms {
    /// The files in rooms: a library's root only lists them.
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        files_below(self.source, "rs").into_iter().filter(|file| !file.ends_with("src/lib.rs"))
    }

    fn arrows(&self) -> BTreeSet<Arrow> {
        let arrows = self.may_use.iter().flat_map(|(room, uses)| uses.iter().map(|other| arrow(room, other)));
        arrows.collect()
    }

    /// The names of all rooms.
    fn sorted(&self) -> Vec<&'static str> {
        let mut rooms: Vec<&str> = self.may_use.iter().map(|(room, _)| *room).collect();
        rooms.sort_unstable();
        rooms
    }

    fn layers(&self, path: &Path, text: &str) -> Vec<String> {
        let room = room_of(path);
        let Some((_, allowed)) = self.may_use.iter().find(|(name, _)| *name == room) else {
            return vec![format!("the room {room} has no line in the table of tests/tidy/rooms.rs")];
        };
        let code = code_of(text);
        let named = self.named(room, &code).into_iter();
        let strangers = named.filter(|other| *other != room && !allowed.contains(other));
        strangers.map(|other| format!("{room} may not use {other}")).collect()
    }

    /// The rooms that the code of a room names: in every `crate::room` and `crate::{room, room::Type}`, and in main.rs,
    /// from where all paths lead, at the head of every path.
    fn named<'a>(&self, room: &str, code: &'a str) -> Vec<&'a str> {
        let mut rooms = Vec::new();
        for head in HEADS {
            for (at, found) in code.match_indices(head) {
                let rest = &code[at + found.len()..];
                match rest.strip_prefix('{') {
                    Some(group) => rooms.extend(group_heads(group)),
                    None => rooms.extend(words(rest).next()),
                }
            }
        }
        if room == "main" {
            rooms.extend(code.match_indices("::").filter_map(|(at, _)| head_before(&code[..at])));
        }
        // `crate::CONSTANT` and macros named by path belong to no room.
        rooms.retain(|room| self.may_use.iter().any(|(name, _)| name == room));
        rooms
    }
}

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

#[cfg(test)]
mod the_rules_bite {
    use super::*;

    fn guest(path: &str, text: &str) -> usize {
        GUEST.layers(Path::new(path), text).len()
    }

    fn shim(path: &str, text: &str) -> usize {
        SHIM.layers(Path::new(path), text).len()
    }

    #[test]
    fn no_table_of_rooms_has_a_circle() {
        for rooms in &ALL {
            let mut left = rooms.may_use.to_vec();
            while let Some(bottom) = left
                .iter()
                .position(|(_, uses)| uses.iter().all(|used| !left.iter().any(|(room, _)| room == used)))
            {
                left.remove(bottom);
            }
            assert!(left.is_empty(), "each of these is above another of them: {left:?}");
        }
    }

    #[test]
    fn a_room_that_reaches_upwards_is_found() {
        assert_eq!(guest("src/reaper/mod.rs", "use crate::task::Registry;\n"), 1);
        assert_eq!(guest("src/reaper/mod.rs", "use crate::{sys::pid, task::{A, B}, wire};\n"), 2);
        assert_eq!(guest("src/events/mod.rs", "    let x = crate::io::Relay::new();\n"), 1);
        assert_eq!(guest("src/newroom/mod.rs", "\n"), 1);
    }

    #[test]
    fn a_room_that_uses_what_is_below_it_is_left_alone() {
        assert_eq!(guest("src/task/exit.rs", "use crate::reaper::Exit;\nuse crate::task::Id;\n"), 0);
        assert_eq!(guest("src/reaper/mod.rs", "// crate::task is above this\n"), 0);
    }

    #[test]
    fn the_shim_has_a_table_of_its_own_and_its_programs_name_rooms_by_the_library() {
        assert_eq!(shim("shim/src/state/cleanup.rs", "use crate::cli::Deleted;\n"), 1);
        assert_eq!(shim("shim/src/task/mod.rs", "use crate::{net, vm::Vm};\n"), 0);
        assert_eq!(shim("shim/src/bin/x.rs", "use vminit_shim::{cli, task::Tasks};\n"), 0);
        assert_eq!(shim("shim/src/bin/x.rs", "use vminit_shim::stdio::Ends;\n"), 1);
    }

    #[test]
    fn main_names_rooms_at_the_head_of_a_path() {
        let code = "use config::{Config, Start};\nlet x = sys::clock::uptime();\nuse std::io::Write;\n";
        assert_eq!(GUEST.named("main", code), ["config", "sys"]);
        assert_eq!(guest("src/main.rs", "task::Registry::new();\n"), 1);
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
}
