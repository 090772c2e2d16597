//! Resources: what sizes the VM, what stays a limit inside it, and what is about hardware of the host.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::members::{object, strings};
use super::Refusal;

/// What the container may use of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// Its memory limit in bytes; none if it has none.
    pub memory: Option<u64>,
    /// Its processors in thousandths; none if it has no quota.
    pub millicpus: Option<u64>,
    /// Processors of the host that it may run on, in the form of cpuset(7): for QEMU.
    pub cpuset: Option<String>,
}

/// Members of `linux.resources` that are about devices and controllers of the host.
const MEMBERS_OF_THE_HOST: [&str; 4] = ["blockIO", "hugepageLimits", "network", "rdma"];

/// Reads the limits, and takes out what the guest cannot apply. Limits of memory, processors and pids stay: the VM is
/// larger than its container.
pub(super) fn divide(spec: &mut Map<String, Value>, left_out: &mut Vec<String>) -> Result<Demand, Refusal> {
    let linux = object(spec, "linux")?;
    if let Some(listener) = linux.get("seccomp").and_then(|seccomp| seccomp["listenerPath"].as_str()) {
        return Err(Refusal::SeccompListener(listener.to_owned()));
    }
    if linux.remove("intelRdt").is_some_and(|value| !value.is_null()) {
        left_out.push("linux.intelRdt".to_owned());
    }
    let resources = object(linux, "resources")?;
    remove_those_of_the_host(resources, left_out);
    Ok(Demand {
        memory: positive(resources.get("memory").map(|memory| &memory["limit"])),
        millicpus: millicpus(resources),
        cpuset: take_cpuset(resources)?,
    })
}

/// Takes out of an update what the guest cannot apply, as [`super::plan`] does of a spec.
///
/// # Errors
/// `Malformed`.
pub fn divide_resources(resources: &mut Value) -> Result<(), Refusal> {
    let resources = resources.as_object_mut().ok_or(Refusal::Malformed("resources"))?;
    remove_those_of_the_host(resources, &mut Vec::new());
    take_cpuset(resources).map(drop)
}

fn remove_those_of_the_host(resources: &mut Map<String, Value>, left_out: &mut Vec<String>) {
    for name in MEMBERS_OF_THE_HOST {
        if resources.remove(name).is_some_and(|value| says_something(&value)) {
            left_out.push(format!("linux.resources.{name}"));
        }
    }
}

/// Clients write empty members for what was not asked for.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(members) => members.values().any(says_something),
        Value::Array(members) => !members.is_empty(),
        _ => true,
    }
}

/// -1 and 0 mean that there is no limit.
fn positive(value: Option<&Value>) -> Option<u64> {
    value?.as_u64().filter(|number| *number > 0)
}

fn millicpus(resources: &Map<String, Value>) -> Option<u64> {
    let cpu = resources.get("cpu")?;
    let quota = positive(Some(&cpu["quota"]))?;
    let period = positive(Some(&cpu["period"])).unwrap_or(DEFAULT_PERIOD_US);
    quota.checked_mul(1000).map(|thousandths| thousandths.div_ceil(period))
}

/// Of the kernel's CFS bandwidth control, in µs (Documentation/scheduler/sched-bwc.rst).
const DEFAULT_PERIOD_US: u64 = 100_000;

fn take_cpuset(resources: &mut Map<String, Value>) -> Result<Option<String>, Refusal> {
    let cpu = object(resources, "cpu")?;
    cpu.remove("mems");
    let cpus = cpu.remove("cpus");
    Ok(cpus.and_then(|cpus| cpus.as_str().filter(|cpus| !cpus.is_empty()).map(str::to_owned)))
}

/// Takes out the settings of a network namespace: there is none in the guest, and its runtime refuses them without one.
pub(super) fn take_net_sysctls(spec: &mut Map<String, Value>) -> Result<BTreeMap<String, String>, Refusal> {
    let linux = object(spec, "linux")?;
    let all = strings(linux.get("sysctl"), "linux.sysctl")?;
    // Both spellings are in use (sysctl(8)).
    let of_the_network = |name: &str| name.starts_with("net.") || name.starts_with("net/");
    let (net, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
        all.into_iter().partition(|(name, _)| of_the_network(name));
    let rest = rest.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    linux.insert("sysctl".into(), Value::Object(rest));
    Ok(net)
}
