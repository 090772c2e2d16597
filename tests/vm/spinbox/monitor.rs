//! The health monitor of that host: a connection, a ping and a close, twice a second for as long as the machine lives.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::RwLock;
use tokio::task::JoinHandle;
use tokio::time::{interval, Instant};
use vminit_shim::client::Endpoint;

use super::host::{dial_and_ping, Host};

const EVERY: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Report {
    answered: u32,
    slowest: Duration,
    /// When, and why: it ends then.
    failed: Option<(Instant, String)>,
}

/// The monitor at work; dropped, it stops.
pub struct Monitor {
    report: Arc<Mutex<Report>>,
    task: JoinHandle<()>,
}

impl Monitor {
    pub fn start(host: &Host) -> Monitor {
        let report = Arc::new(Mutex::new(Report::default()));
        let task = tokio::spawn(watch(host.vm.rpc(), host.quiet.clone(), report.clone()));
        Monitor { report, task }
    }

    /// Stops, and asserts that every ping was answered that began before `end`.
    pub fn was_answered_until(self, end: Instant) {
        let report = self.report.lock().expect("nothing panicked");
        println!("the monitor: {} pings answered, the slowest in {:.1?}", report.answered, report.slowest);
        assert!(report.answered > 0, "the monitor never got an answer");
        if let Some((at, error)) = &report.failed {
            assert!(*at >= end, "the monitor was not answered: {error}");
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(rpc: Endpoint, quiet: Arc<RwLock<()>>, report: Arc<Mutex<Report>>) {
    let mut ticks = interval(EVERY);
    loop {
        ticks.tick().await;
        let _asking = quiet.read().await;
        let begun = Instant::now();
        let answered = dial_and_ping(&rpc).await;
        let mut report = report.lock().expect("nothing panicked");
        match answered {
            Ok(()) => {
                report.answered += 1;
                report.slowest = report.slowest.max(begun.elapsed());
            }
            Err(error) => {
                report.failed = Some((Instant::now(), error.to_string()));
                return;
            }
        }
    }
}
