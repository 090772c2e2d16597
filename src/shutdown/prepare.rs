//! PrepareShutdown: what makes the machine fit to be switched off while the guest goes on serving, and when the guest
//! then switches itself off. It decides nothing about the ordered stop.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::{disks, CONTAINERS};
use crate::blocking;
use crate::guest::freeze::Freezer;
use crate::services::{Prepare, Unprepared};
use crate::task::Tasks;
use crate::tracked::Tracked;
use crate::wire::Caller;

/// How long an answer may take: the spinbox host waits 5 s for it.
const ANSWER: Duration = Duration::from_millis(4_500);

/// How long the guest must have been left alone before it switches itself off. A host that goes on asks within that; one
/// that waits for the end still saves half of the 500 ms that it would wait after its key press.
const QUIET: Duration = Duration::from_millis(250);

/// Whoever serves PrepareShutdown, and what it needs.
pub struct Preparer {
    pub freezer: Freezer,
    pub tasks: Tasks,
    /// The folder of bundles.
    pub bundles: PathBuf,
    pub asked: mpsc::Receiver<Prepare>,
    /// Where runs are tracked: one that was begun is to be waited for.
    pub runs: Tracked,
    /// Changes whenever a call begins.
    pub begun: watch::Sender<()>,
    pub power_off_after: bool,
    /// Whether the machine's disks are this process's business: in PID 1.
    pub whole_machine: bool,
}

/// How far a run has come; `None` at its end.
type Progress = watch::Receiver<Option<&'static str>>;

impl Preparer {
    /// Answers every PrepareShutdown. It returns when the guest is to switch itself off; never, if it is not to. To be
    /// polled to the ordered stop.
    pub async fn serve(mut self) {
        let mut run = None;
        let mut left_alone = None;
        loop {
            let power_off = async {
                match left_alone.as_mut() {
                    Some(decision) => decision.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                asked = self.asked.recv() => {
                    // Nobody can ask any more.
                    let Some(first) = asked else { return std::future::pending().await };
                    let caller = self.answer(first, &mut run).await;
                    let ended = ended(run.clone());
                    let decision = is_left_alone(caller.gone(), ended, self.begun.subscribe());
                    left_alone = self.power_off_after.then(|| Box::pin(decision));
                }
                power_off = power_off => {
                    left_alone = None;
                    // A container of somebody who has not been heard of meanwhile is a reason too; one that is only
                    // left to be deleted is none.
                    if power_off && !self.tasks.is_in_use() {
                        return;
                    }
                    tracing::info!("not switched off: the guest is in use");
                }
            }
        }
    }

    /// Answers a request and those that come until its run has ended, all at once; gives the caller of the last. A run
    /// that goes on for longer than an answer may take serves the requests after it too.
    async fn answer(&mut self, first: Prepare, run: &mut Option<Progress>) -> Caller {
        // Of a run that has ended nobody tells any more.
        let under_way = run.take().filter(|progress| progress.has_changed().is_ok());
        let mut progress = under_way.unwrap_or_else(|| self.begin());
        let mut last = first.caller;
        // No more than the calls that connections may have in flight.
        let mut answers = vec![first.answer];
        let in_time = {
            let mut ended = pin!(timeout(ANSWER, progress.wait_for(Option::is_none)));
            loop {
                tokio::select! {
                    // An error in it: the run has panicked.
                    ended = &mut ended => break ended.is_ok_and(|ended| ended.is_ok()),
                    Some(next) = self.asked.recv() => {
                        last = next.caller;
                        answers.push(next.answer);
                    }
                }
            }
        };
        let step = progress.borrow().unwrap_or_default();
        if !in_time {
            tracing::warn!(step, "PrepareShutdown is answered before it has ended");
        }
        for waiting in answers {
            // Its caller may have gone.
            let _ = waiting.send(if in_time { Ok(()) } else { Err(Unprepared(step)) });
        }
        *run = Some(progress);
        last
    }

    fn begin(&self) -> Progress {
        let (tell, progress) = watch::channel(Some("the beginning"));
        let work = Work {
            freezer: self.freezer.clone(),
            tasks: self.tasks.clone(),
            bundles: self.bundles.clone(),
            whole_machine: self.whole_machine,
        };
        self.runs.spawn(async move {
            work.run(&tell).await;
            tell.send_replace(None);
        });
        progress
    }
}

/// What one run works on.
struct Work {
    freezer: Freezer,
    tasks: Tasks,
    bundles: PathBuf,
    whole_machine: bool,
}

impl Work {
    /// Each step has bounds of its own, so that it always ends; those of the disks are kept by threads beside the one that
    /// waits for them here.
    async fn run(self, tell: &watch::Sender<Option<&'static str>>) {
        let step = |name| {
            tracing::info!(step = name, "prepare for the shutdown");
            tell.send_replace(Some(name));
        };
        // First of all: a process that writes to what is frozen cannot even be killed.
        step("thawing");
        let _bar = self.freezer.bar();
        if let Err(error) = self.freezer.thaw_all().await {
            tracing::warn!(%error, "cannot thaw");
        }
        step("stopping the containers");
        // To the end: the root file system of one that began meanwhile would be unmounted, its bundle removed.
        let shut = self.tasks.shut();
        if !self.tasks.clear(&shut, CONTAINERS).await {
            tracing::warn!("containers were not stopped in time");
        }
        step("unmounting");
        in_time("unmounting", move || disks::release_below(self.bundles)).await;
        step("removing the bundles");
        self.tasks.remove_bundles().await;
        if self.whole_machine {
            step("writing the disks back");
            in_time("writing the disks back", disks::sync).await;
        }
    }
}

async fn in_time(what: &'static str, step: impl FnOnce() + Send + 'static) {
    if let Err(error) = blocking::run(what, step).await {
        tracing::error!(%error, "prepare for the shutdown");
    }
}

/// Waits for the end of a run, however it ends: one that was answered as late may go on.
async fn ended(run: Option<Progress>) {
    if let Some(mut progress) = run {
        // An error: it has panicked.
        let _ = progress.wait_for(Option::is_none).await;
    }
}

/// Whether nobody asks for anything in the time after a connection has `gone`, nor until the run has `ended`. `begun`
/// changes with the calls of all others.
async fn is_left_alone(
    gone: impl Future<Output = ()>,
    ended: impl Future<Output = ()>,
    mut begun: watch::Receiver<()>,
) -> bool {
    gone.await;
    begun.mark_unchanged();
    tokio::select! {
        // That nobody tells any more says as much as a call.
        _ = begun.changed() => false,
        ((), ()) = async { tokio::join!(sleep(QUIET), ended) } => true,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// What is decided when calls begin so many milliseconds after a connection that lasts for a second has gone.
    async fn decide(calls_ms: &[i64]) -> (bool, Duration) {
        decide_on_run(Duration::ZERO, calls_ms).await
    }

    /// The same with a run that takes so long.
    async fn decide_on_run(run: Duration, calls_ms: &[i64]) -> (bool, Duration) {
        const LASTS_MS: u64 = 1_000;
        let calls = watch::Sender::new(());
        let start = Instant::now();
        let gone = sleep(Duration::from_millis(LASTS_MS));
        let decision = is_left_alone(gone, sleep(run), calls.subscribe());
        let others = async {
            for after_ms in calls_ms {
                let at = start
                    + Duration::from_millis(LASTS_MS.checked_add_signed(*after_ms).expect("later than 0"));
                tokio::time::sleep_until(at).await;
                calls.send_replace(());
            }
            std::future::pending::<()>().await;
        };
        let left_alone = tokio::select! {
            left_alone = decision => left_alone,
            () = others => unreachable!("it waits for ever"),
        };
        (left_alone, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_is_left_alone_goes_after_a_quarter_of_a_second() {
        assert_eq!(decide(&[]).await, (true, Duration::from_millis(1_250)));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_before_the_connection_has_gone_are_its_own() {
        assert!(decide(&[-900, -1]).await.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_within_a_quarter_of_a_second_cancels_it_at_once() {
        assert_eq!(decide(&[100]).await, (false, Duration::from_millis(1_100)));
        assert_eq!(decide(&[-1, 249]).await, (false, Duration::from_millis(1_249)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_goes_on_is_waited_for_and_a_call_meanwhile_cancels_it() {
        let run = Duration::from_secs(9);
        assert!(decide_on_run(run, &[]).await.0);
        assert!(!decide_on_run(run, &[7_000]).await.0);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_decided_while_the_connection_lasts() {
        let calls = watch::Sender::new(());
        let ended = std::future::ready(());
        let decision = is_left_alone(std::future::pending(), ended, calls.subscribe());
        timeout(Duration::from_secs(3600), decision).await.expect_err("it lasts");
    }
}
