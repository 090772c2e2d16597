//! Who has frozen the file systems, and who writes to them. A pure value: no clock, no IO.

/// Freezes in force at a time. A host has one; one that repeats it for ever is told.
const HOLDS_MAX: usize = 64;

/// A freeze in force.
pub type Hold = u64;

/// The freezes in force, and the writers.
#[derive(Debug, Default)]
pub struct Holds {
    /// Calls under way that may write to a disk.
    writers: usize,
    /// A freeze is under way.
    freezing: bool,
    holds: Vec<Hold>,
    last: Hold,
    /// For good.
    stopped: bool,
    /// For a while.
    barred: bool,
}

/// Why something is refused. The words about frozen file systems are what hosts read (docs/PROTOCOL.md, System); their code
/// is given in `services/error.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("file systems are frozen: failed precondition")]
    Frozen,
    #[error("{HOLDS_MAX} freezes are in force")]
    TooMany,
    #[error("the guest is stopping")]
    Stopping,
}

impl Holds {
    /// A call that may write begins.
    pub fn enter(&mut self) -> Result<(), Refused> {
        if self.is_shut() {
            return Err(Refused::Frozen);
        }
        self.writers += 1;
        Ok(())
    }

    /// It has ended.
    pub fn leave(&mut self) {
        self.writers -= 1;
    }

    /// Whether nobody writes.
    pub fn is_quiet(&self) -> bool {
        self.writers == 0
    }

    /// A freeze begins: no further writer enters.
    pub fn begin(&mut self) -> Result<(), Refused> {
        match () {
            () if self.is_stopped() => Err(Refused::Stopping),
            () if self.holds.len() >= HOLDS_MAX => Err(Refused::TooMany),
            () => {
                self.freezing = true;
                Ok(())
            }
        }
    }

    /// It is over. If it has failed, those in force stay so.
    pub fn end(&mut self) {
        self.freezing = false;
    }

    /// It has succeeded, and is in force from now on.
    pub fn hold(&mut self) -> Hold {
        self.last += 1;
        self.holds.push(self.last);
        self.last
    }

    /// Whether `hold` is in force.
    pub fn has(&self, hold: Hold) -> bool {
        self.holds.contains(&hold)
    }

    /// Whether `hold` is in force and no other is.
    pub fn is_last(&self, hold: Hold) -> bool {
        self.has(hold) && self.holds.len() == 1
    }

    /// `hold` is over.
    pub fn let_go(&mut self, hold: Hold) {
        self.holds.retain(|other| *other != hold);
    }

    /// Everything is thawed.
    pub fn open(&mut self) {
        self.holds.clear();
    }

    /// There is to be no further freeze.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The same until it is said to be over.
    pub fn bar(&mut self, barred: bool) {
        self.barred = barred;
    }

    /// Whether there is to be none now.
    pub fn is_stopped(&self) -> bool {
        self.stopped || self.barred
    }

    fn is_shut(&self) -> bool {
        self.freezing || !self.holds.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Enter,
        Leave,
        Begin,
        End,
        Hold,
        LetGo(super::Hold),
        Open,
        Stop,
        Bar(bool),
    }
    use Step::*;

    /// The answer of the last step: whether a writer may enter afterwards, and whether a freeze may begin.
    fn check(steps: &[Step], enter: Result<(), Refused>, begin: Result<(), Refused>) {
        let mut holds = Holds::default();
        for step in steps {
            match step {
                Enter => holds.enter().expect("the case says that it may"),
                Leave => holds.leave(),
                Begin => holds.begin().expect("the case says that it may"),
                End => holds.end(),
                Hold => {
                    holds.hold();
                    holds.end();
                }
                LetGo(hold) => holds.let_go(*hold),
                Open => holds.open(),
                Stop => holds.stop(),
                Bar(barred) => holds.bar(*barred),
            }
        }
        assert_eq!(holds.enter(), enter, "after {steps:?}");
        assert_eq!(holds.begin(), begin, "after {steps:?}");
    }

    #[test]
    fn writers_are_refused_from_the_beginning_of_a_freeze_until_the_last_hold_is_over() {
        let frozen = Err(Refused::Frozen);
        check(&[], Ok(()), Ok(()));
        check(&[Begin], frozen, Ok(()));
        check(&[Begin, End], Ok(()), Ok(()));
        check(&[Begin, Hold], frozen, Ok(()));
        check(&[Begin, Hold, Open], Ok(()), Ok(()));
        check(&[Begin, Hold, Begin, End], frozen, Ok(()));
        check(&[Begin, Hold, Begin, Hold, LetGo(1)], frozen, Ok(()));
        check(&[Begin, Hold, Begin, Hold, LetGo(2), LetGo(2)], frozen, Ok(()));
        check(&[Begin, Hold, Begin, Hold, LetGo(2), LetGo(1)], Ok(()), Ok(()));
        check(&[Begin, Hold, Open, Begin, Hold, LetGo(1)], frozen, Ok(()));
        check(&[Enter, Begin, Leave], frozen, Ok(()));
        check(&[Stop], Ok(()), Err(Refused::Stopping));
        check(&[Bar(true)], Ok(()), Err(Refused::Stopping));
        check(&[Bar(true), Bar(false)], Ok(()), Ok(()));
        check(&[Bar(true), Stop, Bar(false)], Ok(()), Err(Refused::Stopping));
        check(&[[Begin, Hold]; HOLDS_MAX].concat(), frozen, Err(Refused::TooMany));
    }

    #[test]
    fn only_the_one_hold_in_force_is_the_last() {
        let mut holds = Holds::default();
        let (first, second) = (holds.hold(), holds.hold());
        assert!(!holds.is_last(first) && !holds.is_last(second));
        holds.let_go(first);
        assert!(!holds.is_last(first) && holds.is_last(second));
    }

    #[test]
    fn it_is_quiet_when_every_writer_has_left() {
        let mut holds = Holds::default();
        holds.enter().expect("it is open");
        holds.enter().expect("it is open");
        holds.leave();
        assert!(!holds.is_quiet());
        holds.leave();
        assert!(holds.is_quiet());
    }
}
