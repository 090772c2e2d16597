//! The guest's agent in the machine it is for: it arrives under `/run`, where nothing can be executed, ends three times
//! at once, and then does not want to end with the guest.

use std::time::Instant;

use vminit_shim::spec;
use vminitd_test_support::LIMIT;

use crate::machine::Machine;
use crate::observer::Observer;

/// Says when each of its lives begins. The guest has no shell of its own, so a busybox is its interpreter.
const AGENT: &str = r"#!/var/lib/spin-stack/busybox sh
echo >>/run/lives
cut -d' ' -f1 /proc/uptime
[ $(wc -l </run/lives) -gt 3 ] || exit 1
trap '' TERM
echo stays as $(cat /run/spin-supervisor.pid), $$, of $SPINBOX_OVERLAY_ROOT
while :; do sleep 1000; done";

#[tokio::test]
async fn an_agent_that_arrives_is_copied_restarted_after_1_2_and_4_s_and_killed_at_power_off() {
    let Some(mut machine) = Machine::boot(|_| ()).await else { return };
    let observer = Observer::start(&machine).await;
    let arrives = format!(
        "cp /proc/self/exe /var/lib/spin-stack/busybox
         mkdir -p /run/spin-stack/default/any
         cat >/run/spin-stack/default/any/spin-supervisor <<'END'\n{AGENT}\nEND"
    );
    observer.run_beside_pid_1(&arrives).await;
    let (status, _) = machine.run("next", &spec::container(&["/bin/true"])).await;
    assert_eq!(status, 0);

    let deadline = Instant::now() + 2 * LIMIT;
    let mut log = String::new();
    while !log.contains("stays") {
        assert!(Instant::now() < deadline, "it printed {log:?}; the console:\n{}", machine.console());
        log = observer.run_beside_pid_1("cat /var/log/spin-supervisor.log || true").await;
    }
    let starts: Vec<f64> = log.lines().map_while(|line| line.parse().ok()).collect();
    assert_eq!(starts.len(), 4, "{log}");
    for (pause, lives) in [1.0, 2.0, 4.0].into_iter().zip(starts.windows(2)) {
        let took = lives[1] - lives[0];
        println!("restarted {took:.2} s after its last start, of which {pause} s are the pause");
        assert!(took >= pause, "{log}");
    }
    let console = machine.console();
    for pause in ["pause_s=1\n", "pause_s=2\n", "pause_s=4\n"] {
        assert_eq!(console.replace('\r', "").matches(pause).count(), 1, "{pause:?}; the console:\n{console}");
    }
    let pid = observer.run_beside_pid_1("cat /run/spin-supervisor.pid").await;
    let last = log.lines().last().expect("a line");
    assert_eq!(last, format!("stays as {pid}, {pid}, of /run/bundles/observer/rootfs"));
    observer.stop().await;

    machine.guest.shutdown().await.expect("shutdown");
    machine.is_off().await;
    let console = machine.console();
    for said in ["the supervisor agent is killed", "the supervisor agent is stopped"] {
        assert!(console.contains(said), "{said}; the console:\n{console}");
    }
}
