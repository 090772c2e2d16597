//! The exit gate: when the exit of a process may be told. One pure value per process.
//!
//! It opens once, when all it waits for has come; then the exit is queued as an event and waiters are released.

/// What may come, in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The process was reaped.
    Reaped,
    /// A call began whose event is to come before the exit: a start, a checkpoint.
    CallBegan,
    /// Its event was published, or it failed and there will be none.
    CallEnded,
    /// Every byte of output was handed to its stream, or the bound of the wait passed.
    OutputDone,
    /// An exec of this container is being started (of an init's gate only).
    ExecBegan,
    /// Such an exec could not be started, or its own gate has opened.
    ExecEnded,
    /// The OOM counter was read after the reaping.
    OomRead,
    /// Whatever else was left of the container was killed, or need not be (of an init's gate only).
    KillAllDone,
}

/// Holds back one exit.
#[derive(Debug, Clone)]
pub struct Gate {
    reaped: bool,
    calls: usize,
    output_done: bool,
    execs_left: usize,
    oom_read: bool,
    kill_all_done: bool,
    opened: bool,
}

impl Gate {
    /// The gate of a container's init.
    pub fn init() -> Gate {
        Gate {
            reaped: false,
            calls: 0,
            output_done: false,
            execs_left: 0,
            oom_read: false,
            kill_all_done: false,
            opened: false,
        }
    }

    /// The gate of an exec: nothing of the container as a whole is its business.
    pub fn exec() -> Gate {
        Gate { kill_all_done: true, ..Gate::init() }
    }

    /// Takes an input. `true` exactly once: when it opens.
    pub fn feed(&mut self, input: Input) -> bool {
        match input {
            Input::Reaped => self.reaped = true,
            Input::CallBegan => self.calls += 1,
            Input::CallEnded => self.calls = self.calls.saturating_sub(1),
            Input::OutputDone => self.output_done = true,
            Input::ExecBegan => self.execs_left += 1,
            Input::ExecEnded => self.execs_left = self.execs_left.saturating_sub(1),
            Input::OomRead => self.oom_read = true,
            Input::KillAllDone => self.kill_all_done = true,
        }
        let opens = !self.opened && self.is_complete();
        self.opened |= opens;
        opens
    }

    fn is_complete(&self) -> bool {
        self.reaped
            && self.calls == 0
            && self.output_done
            && self.execs_left == 0
            && self.oom_read
            && self.kill_all_done
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use Input::*;

    use super::*;

    /// The place in `inputs` at which the gate opened.
    fn opened_at(mut gate: Gate, inputs: &[Input]) -> Option<usize> {
        let opened: Vec<usize> =
            inputs.iter().enumerate().filter(|(_, &input)| gate.feed(input)).map(|(n, _)| n).collect();
        assert!(opened.len() <= 1, "opened twice: {opened:?}");
        opened.first().copied()
    }

    fn check(gate: Gate, inputs: &[Input], opens_at: Option<usize>) {
        assert_eq!(opened_at(gate, inputs), opens_at, "{inputs:?}");
    }

    #[test]
    fn an_exec_waits_for_its_start_its_reaping_and_its_output() {
        check(Gate::exec(), &[CallBegan, CallEnded, Reaped, OomRead, OutputDone], Some(4));
        check(Gate::exec(), &[CallBegan, CallEnded, OutputDone, Reaped, OomRead], Some(4));
    }

    #[test]
    fn an_exit_before_the_start_was_published_is_held_back() {
        check(Gate::exec(), &[CallBegan, Reaped, OomRead, OutputDone, CallEnded], Some(4));
    }

    #[test]
    fn an_init_waits_for_all_of_its_execs() {
        let reaped = [Reaped, OutputDone, OomRead, KillAllDone];
        check(Gate::init(), &reaped, Some(3));
        let with_exec: Vec<Input> = [ExecBegan, ExecBegan].into_iter().chain(reaped).collect();
        check(Gate::init(), &with_exec, None);
        check(Gate::init(), &[with_exec, vec![ExecEnded, ExecEnded]].concat(), Some(7));
    }

    #[test]
    fn an_init_waits_for_the_oom_counter_and_for_kill_all() {
        check(Gate::init(), &[Reaped, OutputDone, KillAllDone], None);
        check(Gate::init(), &[Reaped, OutputDone, OomRead], None);
    }

    #[test]
    fn an_init_killed_before_any_start_needs_none() {
        check(Gate::init(), &[KillAllDone, OomRead, OutputDone, Reaped], Some(3));
    }

    fn input() -> impl Strategy<Value = Input> {
        prop::sample::select(vec![
            Reaped,
            CallBegan,
            CallEnded,
            OutputDone,
            ExecBegan,
            ExecEnded,
            OomRead,
            KillAllDone,
        ])
    }

    proptest! {
        #[test]
        fn it_opens_at_most_once_and_never_before_the_reaping(inputs in prop::collection::vec(input(), 0..40)) {
            if let Some(at) = opened_at(Gate::init(), &inputs) {
                prop_assert!(inputs[..=at].contains(&Reaped));
            }
        }

        #[test]
        fn any_order_of_all_inputs_opens_it_at_the_last(order in Just(vec![
            Reaped, OutputDone, OomRead, KillAllDone, ExecEnded,
        ]).prop_shuffle()) {
            let inputs: Vec<Input> = [ExecBegan].into_iter().chain(order).collect();
            prop_assert_eq!(opened_at(Gate::init(), &inputs), Some(inputs.len() - 1));
        }
    }
}
