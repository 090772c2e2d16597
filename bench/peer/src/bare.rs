//! Runs commands past the daemon and times them: the floor of what the daemon does by them. Owns those processes until
//! they have ended; whatever they leave behind is PID 1's.
#![allow(clippy::disallowed_methods, reason = "no process of this is PID 1's")]

use std::error::Error;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What stands for the number of the command in its arguments.
const NUMBER: char = '%';

/// Runs `count` of a command at once; how long it took from the first fork until the last has ended.
///
/// # Errors
/// If one cannot be started or does not end well.
pub fn run(count: usize, command: &[&str]) -> Result<Duration, Box<dyn Error>> {
    let mut commands = (0..count).map(|n| prepared(n, command)).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    let children = commands.iter_mut().map(Command::spawn).collect::<Result<Vec<_>, _>>();
    let ended = children?.into_iter().map(end_of).collect::<Result<Vec<()>, _>>();
    let took = begun.elapsed();
    ended.map(|_| took)
}

fn prepared(number: usize, command: &[&str]) -> Result<Command, Box<dyn Error>> {
    let [program, arguments @ ..] = command else { return Err("a command is needed".into()) };
    let number = number.to_string();
    let mut prepared = Command::new(program);
    prepared.args(arguments.iter().map(|argument| argument.replace(NUMBER, &number)));
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
        let ran = run(2, &["/bin/mkdir", &path]);
        let made = [0, 1].map(|n| folder.join(n.to_string()).is_dir());
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(ran.is_ok());
        assert_eq!(made, [true, true]);
    }

    #[test]
    fn a_command_that_ends_badly_or_is_not_there_is_an_error() {
        assert!(run(1, &["/bin/false"]).is_err());
        assert!(run(1, &["/no/such"]).is_err());
        assert!(run(1, &[]).is_err());
    }
}
