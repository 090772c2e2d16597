//! Processors and memory that are plugged into a running machine, by what its kernel says of them. The calls come before
//! what they are about, and wait for it.
//!
//! A processor is never unplugged here: QEMU 7.2 crashes on the next change of memory when it emulates. Memory is shared
//! with the vsock backend, as all of the machine's is.

use std::pin::pin;
use std::time::Duration;

use serde_json::{json, Value};
use vminit_shim::api::ttrpc::{self, Code};
use vminit_shim::client::ClientError;
use vminit_shim::vm::{Vm, VmConfig};
use vminitd_test_support::calls::answer_at_once;

use crate::machine::Machine;
use crate::observer::Observer;

const DIMM_BYTES: u64 = 128 << 20;
/// A guest that lets go of a device does so in milliseconds.
const UNPLUG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn processors_and_memory_come_and_go() {
    let extra = ["-smp", "1,maxcpus=2", "-m", "512,slots=3,maxmem=2G"].map(str::to_owned);
    let Some(machine) = Machine::boot(|config: &mut VmConfig| config.qemu_extra.extend(extra)).await else {
        return;
    };
    let observer = Observer::start(&machine).await;
    a_processor_comes_and_goes(&machine, &observer).await;
    memory_comes_and_goes(&machine, &observer).await;
    observer.stop().await;
    machine.power_off().await;
}

async fn a_processor_comes_and_goes(machine: &Machine, observer: &Observer<'_>) {
    let client = &machine.guest.client;
    let text = "cpu 1 not present: not found";
    refused(client.offline_cpu(1).await, Code::NOT_FOUND, text);
    let text = "cpu 0 cannot be offlined (boot processor): invalid argument";
    refused(client.offline_cpu(0).await, Code::INVALID_ARGUMENT, text);
    client.online_cpu(0).await.expect("it is online");

    let mut online = pin!(client.online_cpu(1));
    let early = answer_at_once(&machine.guest, &mut online).await;
    assert!(early.is_none(), "it is not there: {early:?}");
    plug_processor(&machine.vm).await;
    online.await.expect("online");
    let processors = || observer.run("cat /sys/devices/system/cpu/online");
    assert_eq!(processors().await, "0-1");
    client.online_cpu(1).await.expect("it is online");
    for _ in ["the first time", "again"] {
        client.offline_cpu(1).await.expect("offline");
        assert_eq!(processors().await, "0");
    }
    client.online_cpu(1).await.expect("online");
    assert_eq!(processors().await, "0-1");

    let path = "/sys/devices/system/cpu/cpu7/online";
    let text = format!("cpu 7: timeout waiting for {path}: not found");
    refused(client.online_cpu(7).await, Code::NOT_FOUND, &text);
}

async fn memory_comes_and_goes(machine: &Machine, observer: &Observer<'_>) {
    let (client, vm) = (&machine.guest.client, &machine.vm);
    let before = memory_kb(observer).await;
    let mut online = pin!(client.online_memory(0));
    let early = answer_at_once(&machine.guest, &mut online).await;
    assert!(early.is_none(), "it is not there: {early:?}");
    plug_memory(vm).await;
    online.await.expect("online");
    let grown = memory_kb(observer).await - before;
    // Of what goes online nothing is taken for the kernel's own tables, which are elsewhere.
    assert_eq!(grown, DIMM_BYTES >> 10);
    client.online_memory(0).await.expect("it is online");

    // More than there was before: the kernel would run out of memory, and have nobody to kill in the end.
    observer
        .run_beside_pid_1("mount -o remount,size=1g /tmp; dd if=/dev/zero of=/tmp/full bs=1M count=400")
        .await;
    let text = "memory block 0 is not removable (memory in use): failed precondition";
    refused(client.offline_memory(0).await, Code::FAILED_PRECONDITION, text);
    observer.run_beside_pid_1("rm /tmp/full").await;
    for _ in ["the first time", "again"] {
        client.offline_memory(0).await.expect("offline");
        assert_eq!(memory_kb(observer).await, before);
    }
    vm.qmp("device_del", json!({ "id": "dimm" })).await.expect("unplug");
    vm.wait_unplugged("dimm", UNPLUG).await.expect("the guest lets go of it");
    vm.qmp("object-del", json!({ "id": "dimm-memory" })).await.expect("free the memory");

    let text = "memory block 0 not present: not found";
    refused(client.offline_memory(0).await, Code::NOT_FOUND, text);
    let path = "/sys/devices/system/memory";
    let text = format!("memory block 5: timeout waiting for {path}: not found");
    refused(client.online_memory(5).await, Code::NOT_FOUND, &text);
}

/// The first of those that may be plugged: a machine with a hole in their order crawls.
async fn plug_processor(vm: &Vm) {
    let all = vm.qmp("query-hotpluggable-cpus", json!({})).await.expect("list the processors");
    let free = |processor: &&Value| processor.get("qom-path").is_none();
    let first = all.as_array().expect("a list").iter().filter(free);
    let first = first.min_by_key(|processor| processor["props"]["core-id"].as_u64()).expect("a free one");
    let mut device = first["props"].clone();
    device["driver"] = first["type"].clone();
    device["id"] = "processor".into();
    vm.qmp("device_add", device).await.expect("plug a processor");
}

async fn plug_memory(vm: &Vm) {
    let backend = json!({
        "qom-type": "memory-backend-memfd", "id": "dimm-memory", "size": DIMM_BYTES, "share": true,
    });
    vm.qmp("object-add", backend).await.expect("make the memory");
    let dimm = json!({ "driver": "pc-dimm", "id": "dimm", "memdev": "dimm-memory", "slot": 0 });
    vm.qmp("device_add", dimm).await.expect("plug memory");
}

async fn memory_kb(observer: &Observer<'_>) -> u64 {
    let kb = observer.run("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo").await;
    kb.parse().expect("a number")
}

fn refused(answer: Result<(), ClientError>, code: Code, text: &str) {
    match answer {
        Err(ClientError::Rpc { source: ttrpc::Error::RpcStatus(status), .. }) => {
            assert_eq!((status.code(), status.message()), (code, text));
        }
        other => panic!("not refused with {text:?}: {other:?}"),
    }
}
