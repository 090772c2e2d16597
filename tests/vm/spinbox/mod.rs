//! A spinbox host: what its shim does from the boot to the end, in its order, at its pace, against the image that
//! `deploy/spinbox` builds. Each step is a function named after what it is in that host's script, so that a failure
//! names it. docs/TESTING.md has the table of what that host depends on, and the tests for it.

mod create;
mod events;
mod exec;
mod host;
mod monitor;
mod pause;
mod stats;
mod stop;

use std::sync::Arc;

use host::Host;
use monitor::Monitor;
use pause::BackendLost;

/// Machines that the script may take: the tests' vsock backend is lost to QMP's stop in one of ten.
const MACHINES: usize = 5;

#[tokio::test]
async fn the_script_of_the_spinbox_host_is_played_from_boot_to_power_off() {
    for _ in 0..MACHINES {
        let Some(host) = Host::launch().await else { return };
        match play(host).await {
            Ok(()) => return,
            Err(BackendLost) => println!("the vsock backend was lost to QMP's stop: once more"),
        }
    }
    panic!("the vsock backends of {MACHINES} machines were lost to QMP's stop");
}

async fn play(host: Host) -> Result<(), BackendLost> {
    let c1 = host.ready().await;
    let monitor = Monitor::start(&host);
    let c1 = events::stream(c1).await;

    let c2 = host.client().await;
    let mut init = create::create(&host, &c2).await;
    c1.until("create").await;

    let c3 = Arc::new(host.client().await);
    let stats = stats::loops(&host, &c3);
    create::wait_and_start(&c3, &mut init).await;
    c1.until("start").await;
    create::look(&c3, &mut init).await;
    exec::cat(&host, &c3).await;
    exec::terminal(&host, &c3).await;
    exec::network(&host, &c3).await;
    exec::kill(&c3, &init).await;
    exec::missing_command(&c3).await;
    exec::limit(&host, &c3).await;

    pause::pause_and_resume(&host, &c3).await?;
    let c1 = events::loss(&host, c1, &c3).await;

    stats.end().await;
    stop::end_container(&c1, &c3, init).await;
    stop::power_off_by_itself(host, c1, monitor).await;
    Ok(())
}

#[tokio::test]
async fn keys_that_arrive_during_the_power_off_do_no_harm() {
    let Some(host) = Host::launch().await else { return };
    let c1 = host.ready().await;
    let c1 = events::stream(c1).await;
    stop::power_off_with_keys(host, c1).await;
}
