//! C1: the stream of events, and what becomes of events while there is none.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{timeout, Instant};
use vminit_shim::client::{Client, Guest};
use vminitd_test_support::EventLog;

use super::create::ID;
use super::exec;
use super::host::Host;

/// The host gives up the container when it has no stream again by then.
const RECONNECT: Duration = Duration::from_secs(2);

/// The connection with the stream of events; PrepareShutdown is called on it too.
pub struct C1 {
    pub client: Client,
    log: EventLog,
}

impl C1 {
    /// Waits until this happened; all that did.
    pub async fn until(&self, wanted: &str) -> Vec<String> {
        self.log.until(ID, wanted).await
    }
}

/// Events.Stream, the first request of the connection: stream id 1.
pub async fn stream(connection: UnixStream) -> C1 {
    let client = Client::over(connection);
    let log = EventLog::of_stream(client.events().await.expect("subscribe to events"));
    C1 { client, log }
}

/// C1 breaks, and a process exits while nobody listens. The next stream begins with what this one did not get.
pub async fn loss(host: &Host, c1: C1, c3: &Guest) -> C1 {
    exec::start(c3, "lost", &["/bin/sleep", "1000"]).await;
    c1.until("exec-started lost").await;
    drop(c1);
    // A later connection is served: so the guest has learned of the end of this one, and writes nothing to it any more.
    drop(host.ready().await);
    c3.kill(ID, "lost", 9).await.expect("kill");
    assert_eq!(c3.wait(ID, "lost").await.expect("wait").status, 137);
    let begun = Instant::now();
    let again = timeout(RECONNECT, async { stream(host.ready().await).await }).await;
    let c1 = again.expect("a new stream in time");
    println!("a new stream of events after {:.1?}", begun.elapsed());
    let first = c1.until("exit lost 137").await;
    assert_eq!(first, ["exit lost 137"], "only what the first stream did not get");
    c3.delete(ID, "lost").await.expect("delete");
    c1
}
