//! Runs commands past the daemon and times them: the floor of what the daemon does by them. Owns those processes until
//! they have ended; whatever they leave behind is PID 1's.
#![allow(clippy::disallowed_methods, reason = "no process of this is PID 1's")]

use std::error::Error;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{mount, umount2, MntFlags, MsFlags};

/// What stands for the number of the command in its arguments.
const NUMBER: char = '%';

/// What the daemon's call does besides its runc, and so belongs to the floor. Paths are as those of commands.
#[derive(Debug, Clone, Copy)]
pub enum Around<'a> {
    Nothing,
    /// Before: mounts `source` on the bundle's root; a bind mount, as a process in a container may open no disk.
    Mount {
        source: &'a str,
        bundle: &'a str,
    },
    /// Afterwards: unmounts that root and removes the bundle.
    Remove {
        bundle: &'a str,
    },
}

/// Runs `count` of a command at once; how long it took from before the first until the last has ended.
///
/// # Errors
/// If one cannot be started or does not end well, and those of mounting and removing.
pub fn run(count: usize, around: Around<'_>, command: &[&str]) -> Result<Duration, Box<dyn Error>> {
    let mut commands = (0..count).map(|n| prepared(n, command)).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    (0..count).try_for_each(|n| around.before(n))?;
    let children = commands.iter_mut().map(Command::spawn).collect::<Result<Vec<_>, _>>();
    let ended = children?.into_iter().map(end_of).collect::<Result<Vec<()>, _>>();
    (0..count).try_for_each(|n| around.after(n))?;
    let took = begun.elapsed();
    ended.map(|_| took)
}

impl Around<'_> {
    fn before(self, number: usize) -> Result<(), Box<dyn Error>> {
        if let Around::Mount { source, bundle } = self {
            let root = format!("{}/rootfs", numbered(bundle, number));
            mount(Some(source), root.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        }
        Ok(())
    }

    fn after(self, number: usize) -> Result<(), Box<dyn Error>> {
        if let Around::Remove { bundle } = self {
            let bundle = numbered(bundle, number);
            umount2(format!("{bundle}/rootfs").as_str(), MntFlags::empty())?;
            fs::remove_dir_all(bundle)?;
        }
        Ok(())
    }
}

fn numbered(text: &str, number: usize) -> String {
    text.replace(NUMBER, &number.to_string())
}

fn prepared(number: usize, command: &[&str]) -> Result<Command, Box<dyn Error>> {
    let [program, arguments @ ..] = command else { return Err("a command is needed".into()) };
    let mut prepared = Command::new(program);
    prepared.args(arguments.iter().map(|argument| numbered(argument, number)));
    prepared.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(prepared)
}

fn end_of(mut child: Child) -> Result<(), Box<dyn Error>> {
    let status = child.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("a command ended with {status}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_commands_has_its_number() {
        let folder = std::env::temp_dir().join(format!("bare-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("%").display().to_string();
        let ran = run(2, Around::Nothing, &["/bin/mkdir", &path]);
        let made = [0, 1].map(|n| folder.join(n.to_string()).is_dir());
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(ran.is_ok());
        assert_eq!(made, [true, true]);
    }

    #[test]
    fn a_command_that_ends_badly_or_is_not_there_is_an_error() {
        assert!(run(1, Around::Nothing, &["/bin/false"]).is_err());
        assert!(run(1, Around::Nothing, &["/no/such"]).is_err());
        assert!(run(1, Around::Nothing, &[]).is_err());
    }
}
