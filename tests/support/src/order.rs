//! The rules that every log of events obeys, whatever happened. Owns them as one checker; it knows nothing of how a
//! log came about.

use std::collections::BTreeMap;

use vminit_shim::client::Event;

/// Checks a log from its first event on; the complaint names the event and the rule. It holds for a daemon that
/// publishes deletes itself.
///
/// A container that was not deleted by the end of the log may have exits to come; one that was may not.
///
/// # Errors
/// The first event that breaks a rule.
pub fn check(events: &[Event]) -> Result<(), String> {
    let mut containers = BTreeMap::new();
    for (number, event) in events.iter().enumerate() {
        let rule = apply(&mut containers, event);
        rule.map_err(|rule| format!("event {number}, {event:?}: {rule}"))?;
    }
    Ok(())
}

/// What the log has told so far of a container that is there.
struct Container {
    init: Process,
    execs: BTreeMap<String, Process>,
    paused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Process {
    Added,
    Started { pid: u32 },
    Exited,
}

fn apply<'a>(containers: &mut BTreeMap<&'a str, Container>, event: &'a Event) -> Result<(), &'static str> {
    let Some(id) = owner(event) else { return Ok(()) };
    if let Event::Create { .. } = event {
        let new = Container { init: Process::Added, execs: BTreeMap::new(), paused: false };
        return match containers.insert(id, new) {
            None => Ok(()),
            Some(_) => Err("it was created already"),
        };
    }
    let container =
        containers.get_mut(id).ok_or("there is no such container: create is first, delete last")?;
    match event {
        Event::Exit { id: process, pid, .. } if process == id => container.init_exits(*pid),
        Event::Exit { id: process, pid, .. } => container.exec_exits(process, *pid),
        Event::Delete { id: process, .. } if process.is_empty() || process == id => {
            container.may_be_deleted()?;
            containers.remove(id);
            Ok(())
        }
        Event::Delete { .. } => Err("the delete of an exec is not told"),
        other => container.lives_through(other),
    }
}

/// The container that an event is about.
pub fn owner(event: &Event) -> Option<&str> {
    match event {
        Event::Create { container_id, .. }
        | Event::Start { container_id, .. }
        | Event::ExecAdded { container_id, .. }
        | Event::ExecStarted { container_id, .. }
        | Event::Exit { container_id, .. }
        | Event::Delete { container_id, .. }
        | Event::Oom { container_id }
        | Event::Paused { container_id }
        | Event::Resumed { container_id }
        | Event::Checkpointed { container_id, .. } => Some(container_id),
        Event::Other { .. } => None,
    }
}

impl Container {
    /// The events that only a container whose init has not exited has.
    fn lives_through(&mut self, event: &Event) -> Result<(), &'static str> {
        if self.init == Process::Exited {
            return Err("init has exited");
        }
        match event {
            Event::Start { pid, .. } => self.starts(*pid),
            Event::ExecAdded { exec_id, .. } => self.exec_is_added(exec_id),
            Event::ExecStarted { exec_id, pid, .. } => self.exec_starts(exec_id, *pid),
            Event::Paused { .. } => self.freezes(true),
            Event::Resumed { .. } => self.freezes(false),
            Event::Checkpointed { .. } => self.runs(),
            _ => Ok(()),
        }
    }

    fn runs(&self) -> Result<(), &'static str> {
        match self.init {
            Process::Started { .. } => Ok(()),
            Process::Added | Process::Exited => Err("init does not run"),
        }
    }

    fn starts(&mut self, pid: u32) -> Result<(), &'static str> {
        if self.init != Process::Added {
            return Err("init was started already");
        }
        self.init = Process::Started { pid };
        Ok(())
    }

    fn freezes(&mut self, paused: bool) -> Result<(), &'static str> {
        self.runs()?;
        if self.paused == paused {
            return Err("paused and resumed take turns");
        }
        self.paused = paused;
        Ok(())
    }

    fn exec_is_added(&mut self, exec: &str) -> Result<(), &'static str> {
        match self.execs.insert(exec.to_owned(), Process::Added) {
            // The delete of an exec is not told, so its id may come back unannounced.
            None | Some(Process::Added | Process::Exited) => Ok(()),
            Some(Process::Started { .. }) => Err("an exec of this id runs"),
        }
    }

    fn exec_starts(&mut self, exec: &str, pid: u32) -> Result<(), &'static str> {
        let process = self.execs.get_mut(exec).ok_or("the exec was not added")?;
        if *process != Process::Added {
            return Err("the exec was started already");
        }
        *process = Process::Started { pid };
        Ok(())
    }

    fn exec_exits(&mut self, exec: &str, pid: u32) -> Result<(), &'static str> {
        let process = self.execs.get_mut(exec).ok_or("the exec was not added")?;
        match *process {
            Process::Added => return Err("the exec was not started"),
            Process::Exited => return Err("the exec has exited already"),
            Process::Started { pid: started } if started != pid => return Err("the exec has another pid"),
            Process::Started { .. } => {}
        }
        *process = Process::Exited;
        Ok(())
    }

    /// An init may exit that was never started: killed, or deleted as it was.
    fn init_exits(&mut self, pid: u32) -> Result<(), &'static str> {
        match self.init {
            Process::Exited => return Err("init has exited already"),
            Process::Started { pid: started } if started != pid => return Err("init has another pid"),
            Process::Added | Process::Started { .. } => {}
        }
        if self.execs.values().any(|exec| matches!(exec, Process::Started { .. })) {
            return Err("an exec runs still");
        }
        self.init = Process::Exited;
        Ok(())
    }

    fn may_be_deleted(&self) -> Result<(), &'static str> {
        match self.init {
            Process::Exited => Ok(()),
            Process::Added | Process::Started { .. } => Err("init has not exited"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// An event of container `c` in a word: `exit E` is an exec's, `exit` init's. All pids of a process are equal.
    fn event(word: &str) -> Event {
        let (verb, id) = word.split_once(' ').unwrap_or((word, "c"));
        let (container_id, id, exec_id) = ("c".to_owned(), id.to_owned(), id.to_owned());
        let (pid, status, exited_at) = (id.len() as u32, 0, UNIX_EPOCH);
        match verb {
            "create" => Event::Create { container_id, bundle: String::new(), pid },
            "start" => Event::Start { container_id, pid },
            "exec-added" => Event::ExecAdded { container_id, exec_id },
            "exec-started" => Event::ExecStarted { container_id, exec_id, pid },
            "exit" => Event::Exit { container_id, id, pid, status, exited_at },
            "delete" => Event::Delete { container_id, id, pid, status, exited_at },
            "oom" => Event::Oom { container_id },
            "paused" => Event::Paused { container_id },
            "resumed" => Event::Resumed { container_id },
            "checkpointed" => Event::Checkpointed { container_id, checkpoint: String::new() },
            other => panic!("no such event: {other}"),
        }
    }

    fn log(words: &str) -> Vec<Event> {
        words.split(", ").map(event).collect()
    }

    #[track_caller]
    fn good(words: &str) {
        assert_eq!(check(&log(words)), Ok(()), "{words}");
    }

    /// The last event of the log is the one that must not be.
    #[track_caller]
    fn bad(words: &str, rule: &str) {
        let log = log(words);
        let complaint = check(&log).expect_err(words);
        assert!(complaint.contains(rule), "{words}: {complaint}");
        assert_eq!(check(&log[..log.len() - 1]), Ok(()), "{words}: wrong before its end");
    }

    #[test]
    fn whole_lives_are_good() {
        good("create, start, exit, delete");
        good("create, exit, delete, create, start, oom, exit, delete");
        good("create, exec-added e, exec-started e, start, exit e, exec-added e, exit, delete");
        good("create, start, paused, resumed, paused, exit, delete");
        good("create, start, checkpointed, exit, delete");
        good("create, start, exec-added e, exec-started e, exit e, exec-added e, exit, delete");
    }

    #[test]
    fn create_is_first_and_once() {
        for word in ["start", "exit", "delete", "exec-added e", "exec-started e", "exit e", "oom", "paused"] {
            bad(word, "no such container");
        }
        bad("create, create", "created already");
    }

    #[test]
    fn delete_is_last_once_and_after_the_exit() {
        bad("create, delete", "has not exited");
        bad("create, start, delete", "has not exited");
        bad("create, exit, delete, delete", "no such container");
        bad("create, exit, delete, exit", "no such container");
        bad("create, exit, delete, exit e", "no such container");
    }

    #[test]
    fn an_init_starts_once_and_exits_once_after_it() {
        bad("create, start, start", "started already");
        bad("create, start, exit, exit", "exited already");
        bad("create, exit, start", "init has exited");
    }

    #[test]
    fn an_exec_is_added_starts_and_exits_once_in_this_order() {
        bad("create, start, exec-started e", "not added");
        bad("create, start, exit e", "not added");
        bad("create, start, exec-added e, exit e", "not started");
        bad("create, start, exec-added e, exec-started e, exec-started e", "started already");
        bad("create, start, exec-added e, exec-started e, exec-added e", "of this id runs");
        bad("create, start, exec-added e, exec-started e, exit e, exit e", "exited already");
        bad("create, start, exec-added e, exec-started e, exit e, delete e", "not told");
    }

    #[test]
    fn the_exit_of_init_comes_after_all_of_its_execs() {
        bad("create, start, exec-added e, exec-started e, exit", "an exec runs still");
        bad("create, start, exec-added e, exit, exec-started e", "init has exited");
        bad("create, start, exit, exec-added e", "init has exited");
        bad("create, start, exit, oom", "init has exited");
    }

    #[test]
    fn paused_and_resumed_take_turns_while_init_runs() {
        bad("create, paused", "does not run");
        bad("create, checkpointed", "does not run");
        bad("create, start, resumed", "take turns");
        bad("create, start, paused, paused", "take turns");
        bad("create, start, paused, resumed, resumed", "take turns");
        bad("create, start, exit, paused", "init has exited");
        bad("create, start, paused, exit, resumed", "init has exited");
        bad("create, start, exit, checkpointed", "init has exited");
    }

    #[test]
    fn a_process_keeps_its_pid() {
        let other = |id: &str| Event::Exit {
            container_id: "c".into(),
            id: id.into(),
            pid: 77,
            status: 0,
            exited_at: UNIX_EPOCH,
        };
        let mut started = log("create, start, exec-added e, exec-started e");
        for (id, rule) in [("e", "the exec has another pid"), ("c", "init has another pid")] {
            started.push(other(id));
            assert!(check(&started).is_err_and(|complaint| complaint.contains(rule)));
            started.pop();
        }
    }

    #[test]
    fn containers_do_not_mix() {
        let mut two = log("create, start");
        two.push(Event::Exit {
            container_id: "d".into(),
            id: "d".into(),
            pid: 1,
            status: 0,
            exited_at: UNIX_EPOCH,
        });
        assert!(check(&two).is_err());
    }
}
