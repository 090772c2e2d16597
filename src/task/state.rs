//! The state of one process: what may happen to it, and what it answers meanwhile. Pure.

use crate::reaper::Reaped;

/// Where a process is in its life, as containerd names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Pausing,
    Paused,
    Stopped,
}

/// The life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Added, and not started. There is no process yet if it is an exec.
    Created,
    /// A start is under way.
    Starting,
    /// Its start failed: it can only be deleted (execs).
    NotStarted,
    Running,
    /// A pause is under way (inits only, as the next two).
    Pausing,
    Paused,
    /// A resume is under way.
    Resuming,
    /// It ended while its start was under way.
    StoppedStarting(Reaped),
    Stopped(Reaped),
    /// A delete is under way.
    Deleting(Before),
}

/// What a process was before its delete began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Created,
    NotStarted,
    /// Or it has ended since: deleting a created init kills it.
    Stopped(Reaped),
}

/// What can happen to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A Start was asked for.
    Start,
    /// It succeeded.
    Started,
    /// It failed, and the process is as it was.
    StartFailed,
    /// It failed for good.
    StartFailedForGood,
    /// A Pause was asked for.
    Pause,
    /// It succeeded.
    PauseDone,
    /// It failed, and the container runs.
    PauseFailed,
    /// A Resume was asked for.
    Resume,
    /// It succeeded.
    ResumeDone,
    /// It failed: the container is paused as before.
    ResumeFailed,
    /// The process was reaped.
    Exited(Reaped),
    /// A Delete was asked for.
    Delete,
    /// It failed: the process is as it was.
    DeleteFailed,
}

/// What cannot happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub from: State,
    pub op: Op,
}

impl State {
    /// The state after `op`; everything that is not listed is refused.
    pub fn after(self, op: Op) -> Result<State, Refused> {
        use {Op::*, State::*};
        match (self, op) {
            (Created, Start) => Ok(Starting),
            (Starting, Started) => Ok(Running),
            (Starting, StartFailed) => Ok(Created),
            (Starting, StartFailedForGood) => Ok(NotStarted),
            // A process may die before its start has answered, whatever that answers then.
            (Starting, Exited(reaped)) => Ok(StoppedStarting(reaped)),
            (StoppedStarting(reaped), Started | StartFailed | StartFailedForGood) => Ok(Stopped(reaped)),
            (Running, Pause) => Ok(Pausing),
            (Pausing, PauseDone) => Ok(Paused),
            (Pausing, PauseFailed) => Ok(Running),
            (Paused, Resume) => Ok(Resuming),
            (Resuming, ResumeDone) => Ok(Running),
            (Resuming, ResumeFailed) => Ok(Paused),
            // What is frozen can be killed.
            (Created | Running | Pausing | Paused | Resuming, Exited(reaped)) => Ok(Stopped(reaped)),
            (Created, Delete) => Ok(Deleting(Before::Created)),
            (NotStarted, Delete) => Ok(Deleting(Before::NotStarted)),
            (Stopped(reaped), Delete) => Ok(Deleting(Before::Stopped(reaped))),
            (Deleting(Before::Created), Exited(reaped)) => Ok(Deleting(Before::Stopped(reaped))),
            (Deleting(Before::Created), DeleteFailed) => Ok(Created),
            (Deleting(Before::NotStarted), DeleteFailed) => Ok(NotStarted),
            (Deleting(Before::Stopped(reaped)), DeleteFailed) => Ok(Stopped(reaped)),
            (from, op) => Err(Refused { from, op }),
        }
    }

    /// The end of the process, once it was reaped.
    pub fn reaped(self) -> Option<Reaped> {
        match self {
            State::StoppedStarting(reaped) | State::Stopped(reaped) => Some(reaped),
            State::Deleting(Before::Stopped(reaped)) => Some(reaped),
            State::Deleting(Before::Created | Before::NotStarted) => None,
            State::Created | State::Starting | State::NotStarted | State::Running => None,
            State::Pausing | State::Paused | State::Resuming => None,
        }
    }

    /// Whether the container of an init in this state is frozen, or about to be.
    pub fn is_frozen(self) -> bool {
        matches!(self, State::Pausing | State::Paused | State::Resuming)
    }

    /// Whether the container of an init in this state may get other limits.
    pub fn takes_limits(self) -> bool {
        self.takes_execs() || self.is_frozen()
    }

    /// Whether execs may be added to, or started in, the container of an init in this state.
    pub fn takes_execs(self) -> bool {
        matches!(self, State::Created | State::Starting | State::Running)
    }

    /// Whether an exec in this state may get another size for its terminal, now or when it is started.
    pub fn takes_size(self) -> bool {
        !matches!(self, State::StoppedStarting(_) | State::Stopped(_) | State::Deleting(_))
    }

    /// Whether there are processes to be written to a disk.
    pub fn is_checkpointable(self) -> bool {
        matches!(self, State::Running | State::Paused)
    }

    /// What State answers.
    pub fn status(self) -> Status {
        match self {
            State::Created | State::Starting | State::NotStarted => Status::Created,
            State::Deleting(Before::Created | Before::NotStarted) => Status::Created,
            State::Running => Status::Running,
            State::Pausing => Status::Pausing,
            State::Paused | State::Resuming => Status::Paused,
            State::StoppedStarting(_) | State::Stopped(_) => Status::Stopped,
            State::Deleting(Before::Stopped(_)) => Status::Stopped,
        }
    }

    /// The word for it in an error.
    pub fn name(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Starting => "starting",
            State::NotStarted => "not started",
            State::Running => "running",
            State::Pausing => "pausing",
            State::Paused => "paused",
            State::Resuming => "resuming",
            State::StoppedStarting(_) | State::Stopped(_) => "stopped",
            State::Deleting(_) => "deleting",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;
    use Op::*;
    use State::*;

    use super::*;
    use crate::reaper::Exit;

    const DEAD: Reaped = Reaped { exit: Exit::Code(1), at: SystemTime::UNIX_EPOCH };

    const UNTOUCHED: State = Deleting(Before::Created);

    fn check(from: State, op: Op, expected: Option<State>) {
        assert_eq!(from.after(op).ok(), expected, "{from:?} after {op:?}");
    }

    #[test]
    fn a_process_is_started_once() {
        check(Created, Start, Some(Starting));
        for from in [Starting, NotStarted, Running, StoppedStarting(DEAD), Stopped(DEAD), UNTOUCHED] {
            check(from, Start, None);
        }
    }

    #[test]
    fn a_process_that_dies_before_start_answers_is_stopped() {
        check(Created, Exited(DEAD), Some(Stopped(DEAD)));
        check(Starting, Exited(DEAD), Some(StoppedStarting(DEAD)));
        check(StoppedStarting(DEAD), Started, Some(Stopped(DEAD)));
        check(StoppedStarting(DEAD), StartFailed, Some(Stopped(DEAD)));
        assert_eq!(StoppedStarting(DEAD).status(), Status::Stopped);
    }

    #[test]
    fn an_exec_whose_start_failed_can_only_be_deleted() {
        check(Starting, StartFailedForGood, Some(NotStarted));
        check(NotStarted, Start, None);
        check(NotStarted, Delete, Some(Deleting(Before::NotStarted)));
        assert_eq!(NotStarted.status(), Status::Created);
    }

    #[test]
    fn what_runs_or_is_being_started_cannot_be_deleted() {
        for from in [Running, Starting, StoppedStarting(DEAD), UNTOUCHED] {
            check(from, Delete, None);
        }
        check(Created, Delete, Some(UNTOUCHED));
        check(Stopped(DEAD), Delete, Some(Deleting(Before::Stopped(DEAD))));
    }

    #[test]
    fn a_failed_delete_can_be_tried_again() {
        for from in [Created, NotStarted, Stopped(DEAD)] {
            let deleting = from.after(Delete).expect("it can be deleted");
            check(deleting, DeleteFailed, Some(from));
        }
        let killed = UNTOUCHED.after(Exited(DEAD)).expect("it can die");
        check(killed, DeleteFailed, Some(Stopped(DEAD)));
    }

    #[test]
    fn only_what_runs_is_paused_and_only_what_is_paused_is_resumed() {
        check(Running, Pause, Some(Pausing));
        check(Pausing, PauseDone, Some(Paused));
        check(Pausing, PauseFailed, Some(Running));
        check(Paused, Resume, Some(Resuming));
        check(Resuming, ResumeDone, Some(Running));
        check(Resuming, ResumeFailed, Some(Paused));
        for from in [Created, Starting, NotStarted, Stopped(DEAD), UNTOUCHED] {
            check(from, Pause, None);
            check(from, Resume, None);
        }
        assert_eq!(
            [Pausing, Paused, Resuming].map(State::status),
            [Status::Pausing, Status::Paused, Status::Paused]
        );
    }

    #[test]
    fn what_is_frozen_can_die_and_cannot_be_deleted() {
        for from in [Pausing, Paused, Resuming] {
            check(from, Exited(DEAD), Some(Stopped(DEAD)));
            check(from, Delete, None);
        }
        for late in [PauseDone, PauseFailed, ResumeDone, ResumeFailed] {
            check(Stopped(DEAD), late, None);
        }
    }

    #[test]
    fn what_each_state_allows_besides() {
        // Execs, limits, a checkpoint, a size of the terminal.
        let table = [
            (Created, [true, true, false, true]),
            (Starting, [true, true, false, true]),
            (NotStarted, [false, false, false, true]),
            (Running, [true, true, true, true]),
            (Pausing, [false, true, false, true]),
            (Paused, [false, true, true, true]),
            (Resuming, [false, true, false, true]),
            (StoppedStarting(DEAD), [false; 4]),
            (Stopped(DEAD), [false; 4]),
            (UNTOUCHED, [false; 4]),
        ];
        for (state, expected) in table {
            let allowed =
                [state.takes_execs(), state.takes_limits(), state.is_checkpointable(), state.takes_size()];
            assert_eq!(allowed, expected, "{state:?}");
        }
    }

    fn op() -> impl Strategy<Value = Op> {
        prop::sample::select(vec![
            Start,
            Started,
            StartFailed,
            StartFailedForGood,
            Pause,
            PauseDone,
            PauseFailed,
            Resume,
            ResumeDone,
            ResumeFailed,
            Exited(DEAD),
            Delete,
            DeleteFailed,
        ])
    }

    proptest! {
        #[test]
        fn once_reaped_a_process_stays_dead(ops in prop::collection::vec(op(), 0..40)) {
            let (mut state, mut dead) = (Created, false);
            for op in ops {
                if let Ok(next) = state.after(op) {
                    state = next;
                }
                dead |= state.reaped().is_some();
                prop_assert_eq!(dead, state.reaped().is_some());
                prop_assert_eq!(dead, state.status() == Status::Stopped);
            }
        }
    }
}
