//! The machine of this shim, shared by its tasks: its launch, its readiness, the NICs that are plugged into it, and its end.
//! Owns no task, and nothing of the host that a task has for itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::link::Link;
use super::record::Record;
use super::timing::Boot;
use super::TaskError;
use crate::client::{Client, Streams};
use crate::net::{Nic, UserNic};
use crate::state::Role;
use crate::vm::{Part, Vm, VmConfig};

/// What a guest may take to answer its first ping. Emulated, beside nine others on two processors, it has taken 40 s.
const READY: Duration = Duration::from_secs(120);

/// When QEMU dies the connections break a moment before or after its death is seen, which says more than that they do.
pub(super) const SEEN: Duration = Duration::from_millis(300);

/// A machine, or none once it was stopped. The lock is held while a NIC is plugged, and while it is stopped, so that whoever
/// stops it a second time finds it gone; not for anything that the guest can hold up.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    vm: Arc<Mutex<Option<Vm>>>,
}

/// A machine whose guest answers.
pub(super) struct Ready {
    pub machine: Machine,
    pub link: Link,
    pub boot: Boot,
}

impl Machine {
    /// Launches a machine, takes its processes down in `record`, and waits until the guest answers.
    ///
    /// # Errors
    /// `Machine`, and `NotReady` with the end of the console. There is no machine then.
    pub async fn boot(config: VmConfig, record: &Record, namespace: &str) -> Result<Ready, TaskError> {
        let launched = Instant::now();
        let vm = Vm::launch_telling(config, |part, pid| record.began(role(part), pid)).await?;
        let running = launched.elapsed();
        match reach(&vm).await {
            Ok(client) => {
                let boot = Boot::of(&vm, launched, running).await;
                let link = Link::new(client, Streams { endpoint: vm.stream() }, namespace);
                Ok(Ready { machine: Machine { vm: Arc::new(Mutex::new(Some(vm))) }, link, boot })
            }
            Err(why) => {
                let console = vm.console_tail();
                vm.stop().await;
                Err(TaskError::NotReady { why, console })
            }
        }
    }

    /// Plugs the taps in, in their order.
    ///
    /// # Errors
    /// `Machine`, and `Lost` if there is none.
    pub async fn plug_taps(&self, nics: Vec<Nic>) -> Result<(), TaskError> {
        let vm = self.vm.lock().await;
        let vm = vm.as_ref().ok_or_else(gone)?;
        for (index, nic) in (0..).zip(nics) {
            vm.plug_tap(index, nic.tap, &nic.mac, nic.mtu).await?;
        }
        Ok(())
    }

    /// Plugs the NIC of user-mode networking in.
    ///
    /// # Errors
    /// As [`Machine::plug_taps`].
    pub async fn plug_user(&self, nic: &UserNic) -> Result<(), TaskError> {
        let vm = self.vm.lock().await;
        Ok(vm.as_ref().ok_or_else(gone)?.plug_user(0, &nic.mac).await?)
    }

    /// Ends it, if it has not been; its processes are gone then.
    pub async fn stop(&self) {
        let mut vm = self.vm.lock().await;
        if let Some(vm) = vm.take() {
            vm.stop().await;
        }
    }

    /// What a step failed for, before anybody watched the machine: its end, if that is it.
    pub async fn explain(&self, error: TaskError) -> TaskError {
        match timeout(SEEN, self.ended().await).await {
            Ok(reason) => TaskError::Lost(reason),
            Err(_) => error,
        }
    }

    /// Waits for the end of the machine by itself, and says which of its processes died, and how.
    pub async fn ended(&self) -> impl std::future::Future<Output = String> + Send + 'static {
        let ended = self.vm.lock().await.as_ref().map(Vm::ended);
        async move {
            match ended {
                Some(ended) => ended.await.to_string(),
                None => "it was stopped".to_owned(),
            }
        }
    }
}

/// Waits until the guest answers; no longer than the machine lives.
async fn reach(vm: &Vm) -> Result<Client, String> {
    let answer = async {
        vm.wait_vsock_driver(READY).await.map_err(|error| error.to_string())?;
        Client::connect_until(&vm.rpc(), READY).await.map_err(|error| error.to_string())
    };
    let why = tokio::select! {
        biased;
        answer = timeout(READY, answer) => match answer {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(why)) => why,
            Err(_) => format!("it did not answer within {READY:?}"),
        },
        ended = vm.ended() => return Err(ended.to_string()),
    };
    Err(timeout(SEEN, vm.ended()).await.map_or(why, |ended| ended.to_string()))
}

fn gone() -> TaskError {
    TaskError::Lost("it was stopped".to_owned())
}

fn role(part: Part) -> Role {
    match part {
        Part::Qemu => Role::Qemu,
        Part::Vsock => Role::Vsock,
        Part::Virtiofsd => Role::Virtiofsd,
    }
}
