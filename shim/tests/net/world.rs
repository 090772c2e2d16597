//! Network namespaces of a test's own, which are gone with it. Never touches the machine's.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::{process, thread};

use nix::sched::{setns, unshare, CloneFlags};
use tokio::process::Command;
use vminit_shim::net::{survey, NetError, Survey};

/// A container's namespace, and what is outside of it.
pub struct World {
    pub inside: Namespace,
    pub outside: Namespace,
}

pub struct Namespace(File);

impl Namespace {
    fn new() -> Namespace {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
            File::open("/proc/thread-self/ns/net").expect("open a network namespace")
        });
        Namespace(made.join().expect("make a network namespace"))
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd()).into()
    }

    pub async fn sh(&self, script: &str) -> String {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).args(["sh", "-ec", script]);
        let output = command.kill_on_drop(true).output().await.expect("run a script");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8(output.stdout).expect("it prints text")
    }

    pub fn udp(&self, address: &'static str) -> UdpSocket {
        let namespace = self.0.try_clone().expect("clone a descriptor");
        let bound = thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter a network namespace");
            UdpSocket::bind(address).expect("bind a socket")
        });
        bound.join().expect("bind a socket")
    }

    /// The taps and ingress qdiscs in it.
    pub async fn wires(&self) -> String {
        self.sh("ip -o link | grep -o 'vmtap[0-9]*' || true; tc qdisc | grep ingress || true").await
    }
}

impl World {
    pub fn new() -> World {
        assert!(nix::unistd::geteuid().is_root(), "it takes root to make namespaces");
        World { inside: Namespace::new(), outside: Namespace::new() }
    }

    /// A pair of which this end is the container's, up, with these commands done to it.
    pub async fn veth(&self, name: &str, mac: &str, script: &str) {
        let outside = self.outside.path();
        let add = format!(
            "ip link add {name} address {mac} type veth peer name {name} netns {}",
            outside.display()
        );
        self.inside.sh(&format!("{add}; ip link set {name} up; {script}")).await;
        self.outside.sh(&format!("ip link set {name} up")).await;
    }

    pub async fn survey(&self) -> Result<Survey, NetError> {
        survey(&self.inside.path()).await
    }
}
