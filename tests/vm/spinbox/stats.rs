//! The loops by which that host watches whether to plug in processors and memory: Stats, again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{watch, RwLock};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use vminit_shim::api::containerd::api::StatsRequest;
use vminit_shim::api::protobuf::Message;
use vminit_shim::api::type_url;
use vminit_shim::client::{context, Client, Guest};
use vminitd_test_support::{LIMIT, PATIENCE};

use super::create::ID;
use super::host::Host;

/// That host asks every 5 s for processors and every 10 s for memory.
const EVERY: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(500)];

/// Both loops; an answer that is not as it should be ends the one that got it.
pub struct Loops {
    answered: [watch::Receiver<u32>; 2],
    tasks: [JoinHandle<()>; 2],
}

/// Begins both.
pub fn loops(host: &Host, c3: &Guest) -> Loops {
    let [(cpu, cpu_task), (memory, memory_task)] = EVERY.map(|every| {
        let (answered, receiver) = watch::channel(0);
        (receiver, tokio::spawn(ask(c3.client.clone(), every, host.quiet.clone(), answered)))
    });
    Loops { answered: [cpu, memory], tasks: [cpu_task, memory_task] }
}

impl Loops {
    /// Ends both, after one more answer for each.
    pub async fn end(mut self) {
        for answered in &mut self.answered {
            let so_far = *answered.borrow();
            let next = timeout(LIMIT, answered.wait_for(|count| *count > so_far)).await;
            next.expect("Stats answers").expect("every answer was as it should be");
        }
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn ask(client: Client, every: Duration, quiet: Arc<RwLock<()>>, answered: watch::Sender<u32>) {
    let mut ticks = interval(every);
    loop {
        ticks.tick().await;
        let _asking = quiet.read().await;
        let request = StatsRequest { id: ID.into(), ..Default::default() };
        let reply = client.task().stats(context(PATIENCE, "default"), &request).await.expect("stats");
        let metrics = reply.stats.into_option().expect("there are stats");
        assert_eq!(metrics.type_url, type_url::METRICS);
        let metrics =
            vminit_shim::api::containerd::cgroups_v2::metrics::Metrics::parse_from_bytes(&metrics.value);
        let metrics = metrics.expect("metrics of cgroup v2");
        assert!(metrics.cpu.is_some() && metrics.memory.is_some(), "{metrics:?}");
        answered.send_modify(|count| *count += 1);
    }
}
