//! Many processes at once, beside the same calls of runc made by a shell in the same guest. The times are printed,
//! not asserted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use vminit_shim::client::{Container, Stdio, INIT};
use vminit_shim::spec;
use vminit_shim::vm::VmConfig;

use crate::machine::{root_disk, Machine};
use crate::observer::Observer;

const EXECS: usize = 64;
const CONTAINERS: usize = 8;
/// Each runc takes some 15 MiB, and all of them run at once.
const MEMORY_MB: u32 = 2048;

/// Starts `$count` commands at once, gives the hundredths of a second until all have ended, and fails if one did.
/// Uptime is the only clock that a shell reads without a further process.
const TIMED: &str = r#"
uptime() { read -r up _ </proc/uptime; now=${up%.*}${up#*.}; }
uptime; start=$now; pids=; i=0
while [ $i -lt $count ]; do one $i </dev/null >/dev/null 2>&1 & pids="$pids $!"; i=$((i + 1)); done
for pid in $pids; do wait $pid; done
uptime; echo $((now - start))
"#;

#[tokio::test]
async fn execs_and_containers_at_once_all_succeed() {
    let Some(machine) = Machine::boot(wide).await else { return };
    let machine = Arc::new(machine);
    let observer = Observer::start(&machine).await;
    machine.start("c", &spec::container(&["/bin/sleep", "1000"])).await;

    let ours = execs(&machine).await;
    let bare = bare_execs(&machine, &observer).await;
    report(&format!("{EXECS} execs at once"), ours, bare);

    let ours = creates(&machine).await;
    let bare = bare_creates(&machine, &observer).await;
    report(&format!("{CONTAINERS} containers created at once"), ours, bare);

    machine.remove("c").await;
    observer.stop().await;
    Arc::into_inner(machine).expect("the calls have ended").power_off().await;
}

/// Two processors, so that what runs at once does so.
fn wide(config: &mut VmConfig) {
    config.memory_mb = MEMORY_MB;
    config.cpus = 2;
}

fn report(what: &str, ours: Duration, bare: Duration) {
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    println!("{what}: {:.2} s, bare runc {:.2} s, ratio {ratio:.2}", ours.as_secs_f64(), bare.as_secs_f64());
}

/// The time until all are started; that they end as they should is looked at after it.
async fn execs(machine: &Arc<Machine>) -> Duration {
    let start = Instant::now();
    let mut starts = JoinSet::new();
    for number in 0..EXECS {
        let machine = machine.clone();
        starts.spawn(async move {
            machine
                .start_exec("c", &format!("e{number}"), &["/bin/sh", "-c", &format!("exit {number}")])
                .await
        });
    }
    let pids = starts.join_all().await;
    let took = start.elapsed();
    assert_eq!(pids.len(), EXECS);
    for number in 0..EXECS {
        let id = format!("e{number}");
        let exit = machine.guest.wait("c", &id).await.expect("wait");
        assert_eq!(exit.status as usize, number);
        machine.guest.delete("c", &id).await.expect("delete");
    }
    took
}

/// The same number of `runc exec` with the arguments that the guest gives it.
async fn bare_execs(machine: &Machine, observer: &Observer<'_>) -> Duration {
    let process = spec::process(&["/bin/sh", "-c", "exit 0"]);
    let bundle = machine.guest.bundle("bare-process", &process).await.expect("bundle");
    let one = format!(
        "count={EXECS}
        one() {{ /sbin/runc --root /run/runc --log /run/bare-$1.log --log-format json \
            exec --process {bundle}/config.json --detach --pid-file /run/bare-$1.pid c; }}"
    );
    timed(observer, &one).await
}

/// The time until all are created.
async fn creates(machine: &Arc<Machine>) -> Duration {
    let start = Instant::now();
    let mut creates = JoinSet::new();
    for number in 0..CONTAINERS {
        let machine = machine.clone();
        creates.spawn(async move {
            let config = spec::container(&["/bin/sh", "-c", &format!("exit {number}")]);
            let id = format!("c{number}");
            let container = Container { id: &id, config: &config, rootfs: &[root_disk()] };
            machine.guest.create(container, &Stdio::default()).await.expect("create")
        });
    }
    creates.join_all().await;
    let took = start.elapsed();
    for number in 0..CONTAINERS {
        let id = format!("c{number}");
        machine.guest.start(&id, INIT).await.expect("start");
        assert_eq!(machine.guest.wait(&id, INIT).await.expect("wait").status as usize, number);
        machine.guest.delete(&id, INIT).await.expect("delete");
    }
    took
}

/// The same number of `runc create`, on the root file system of a container that is there.
async fn bare_creates(machine: &Machine, observer: &Observer<'_>) -> Duration {
    let mut config = spec::container(&["/bin/true"]);
    config["root"]["path"] = "/run/bundles/c/rootfs".into();
    for number in 0..CONTAINERS {
        machine.guest.bundle(&format!("bare-{number}"), &config).await.expect("bundle");
    }
    let one = format!(
        "count={CONTAINERS}
        one() {{ /sbin/runc --root /run/bare-runc --log /run/bare-$1.log --log-format json \
            create --bundle /run/bundles/bare-$1 --pid-file /run/bare-$1.pid bare-$1; }}"
    );
    let took = timed(observer, &one).await;
    let delete = "/sbin/runc --root /run/bare-runc delete --force bare-$i; i=$((i + 1))";
    observer.run_beside_pid_1(&format!("i=0; while [ $i -lt {CONTAINERS} ]; do {delete}; done")).await;
    took
}

async fn timed(observer: &Observer<'_>, one: &str) -> Duration {
    let printed = observer.run_beside_pid_1(&format!("{one}\n{TIMED}")).await;
    let hundredths: u64 = printed.parse().unwrap_or_else(|_| panic!("not a time: {printed:?}"));
    Duration::from_millis(hundredths * 10)
}
