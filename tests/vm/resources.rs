//! Limits and usage of containers, against what the kernel's cgroup v2 files say.

use serde_json::json;
use vminit_shim::api::containerd::api::StatsRequest;
use vminit_shim::api::containerd::cgroups_v2::metrics::Metrics;
use vminit_shim::api::protobuf::Message;
use vminit_shim::api::type_url;
use vminit_shim::spec;
use vminitd_test_support::calls::{brief, update};

use crate::machine::Machine;
use crate::observer::Observer;

const BEFORE_BYTES: u64 = 64 << 20;
const AFTER_BYTES: u64 = 48 << 20;

#[tokio::test]
async fn an_update_changes_memory_max_and_stats_tell_of_use() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let observer = Observer::start(&machine).await;
    let mut config = spec::container(&["/bin/sleep", "1000"]);
    spec::limit_memory(&mut config, BEFORE_BYTES);
    machine.start("c", &config).await;
    assert_eq!(read(&observer, "c", "memory.max").await, BEFORE_BYTES.to_string());

    let resources = json!({"memory": {"limit": AFTER_BYTES, "swap": AFTER_BYTES}}).to_string();
    update(&machine.guest, "c", Some(&resources)).await.expect("update");
    assert_eq!(read(&observer, "c", "memory.max").await, AFTER_BYTES.to_string());

    let stats = stats(&machine, "c").await;
    println!("a sleeping container: {} us of cpu, {} bytes", stats.cpu.usage_usec, stats.memory.usage);
    assert!(stats.cpu.usage_usec > 0 && stats.memory.usage > 0, "{stats:?}");
    assert_eq!(stats.memory.usage_limit, AFTER_BYTES);
    assert_eq!((stats.pids.current, stats.pids.limit), (1, u64::MAX));
    machine.remove("c").await;
    observer.stop().await;
    machine.power_off().await;
}

#[tokio::test]
async fn limits_survive_the_relaxed_spec() {
    let Some(machine) = Machine::boot(|config| config.init_args.push("-spec=relaxed".into())).await else {
        return;
    };
    let observer = Observer::start(&machine).await;
    let mut config = spec::container(&["/bin/sleep", "1000"]);
    config["linux"]["resources"] = json!({
        "memory": {"limit": BEFORE_BYTES, "swap": BEFORE_BYTES},
        "pids": {"limit": 17},
        "cpu": {"quota": 20_000, "period": 100_000, "shares": 512},
    });
    machine.start("c", &config).await;
    let memory_max = BEFORE_BYTES.to_string();
    for (file, wanted) in [
        ("memory.max", memory_max.as_str()),
        ("pids.max", "17"),
        ("cpu.max", "20000 100000"),
        ("cpu.weight", "20"),
    ] {
        assert_eq!(read(&observer, "c", file).await, wanted, "{file}");
    }
    machine.remove("c").await;
    observer.stop().await;
    machine.power_off().await;
}

/// A file of the container's cgroup, which runc names after the container.
async fn read(observer: &Observer<'_>, id: &str, file: &str) -> String {
    observer.run(&format!("cat /sys/fs/cgroup/{id}/{file}")).await
}

async fn stats(machine: &Machine, id: &str) -> Metrics {
    let request = StatsRequest { id: id.into(), ..Default::default() };
    let reply = machine.guest.client.task().stats(brief(), &request).await.expect("stats");
    assert_eq!(reply.stats.type_url, type_url::METRICS);
    Metrics::parse_from_bytes(&reply.stats.value).expect("metrics")
}
