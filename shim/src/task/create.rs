//! From Task.Create to a created container in a machine: the order of the steps, and its undoing when one fails. Owns no
//! step itself.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use vminitd_api::bundle;
use vminitd_api::containerd::api::{CreateTaskRequest, Mount};

use super::container::Container;
use super::ground::{Ground, Wiring};
use super::link::{Link, LONG, LONGEST};
use super::machine::{Machine, Ready};
use super::record::Record;
use super::timing::Timing;
use super::{fate, Entry, Host, TaskError};
use crate::config::Choice;
use crate::events::{Names, Stdio};
use crate::holder::{Holder, HolderSpec, OWN_PROGRAM};
use crate::hooks::{ContainerState, Status};
use crate::plan::{self, Plan, World};
use crate::rootfs;
use crate::state::{self, Role, State};
use crate::stdio::{Ends, Owner, Relays, StdioSpec};
use crate::vm::{Accel, Share, User, VmConfig, Vsock};

/// The file of a bundle, on the host and in the guest.
const CONFIG: &str = "config.json";
/// NICs that can be plugged into a machine. nerdctl and docker make one for each network of a container; more than a few are
/// not heard of.
const NIC_PORTS: u8 = 8;
/// A guest that is ready takes a stream within milliseconds.
const DIAL: Duration = Duration::from_secs(15);

/// A container to be created, in containerd's words.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: Vec<Mount>,
    pub stdio: Stdio,
}

/// Makes all of it, or nothing.
///
/// # Errors
/// That of the step that failed.
pub(super) async fn create(
    host: &Host,
    request: CreateRequest,
    gone: CancellationToken,
) -> Result<Entry, TaskError> {
    let begun = Instant::now();
    let spec = {
        let Stdio { stdin, stdout, stderr, terminal } = &request.stdio;
        StdioSpec::parse(*terminal, stdin, stdout, stderr)?
    };
    let (config, plan) = read_plan(&request).await?;
    let choice = host.config.choose(&plan.annotations)?;
    for what in &plan.left_out {
        tracing::warn!(id = request.id, what, "left out: it has no meaning in a microVM");
    }
    let record = Arc::new(begin_record(host, &request, &config, &plan)?);
    let mut ground = Ground { plan, record, staged: None, holder: None, wiring: Wiring::None };
    let mut machine = None;
    let steps = Steps { host, request: &request, spec: &spec, choice: &choice, gone: &gone, begun };
    match steps.take(&mut ground, &mut machine).await {
        Ok(Made { container, machine, link, watch, timing }) => {
            Ok(Entry { container, ground: Mutex::new(ground), machine, link, watch, timing })
        }
        Err(error) => {
            undo(ground, machine).await;
            Err(error)
        }
    }
}

/// What a Create makes besides the ground.
struct Made {
    container: Arc<Container>,
    machine: Machine,
    link: Link,
    watch: AbortOnDropHandle<()>,
    timing: Timing,
}

/// Takes down what a failed Create had made.
async fn undo(mut ground: Ground, machine: Option<Machine>) {
    if let Some(machine) = machine {
        machine.stop().await;
    }
    if let Err(error) = ground.take_down().await {
        tracing::error!("what a failed create leaves: {error}");
    }
}

/// The process that stands for the container.
struct Held {
    pid: u32,
    died: Pin<Box<dyn Future<Output = ()> + Send>>,
}

struct Steps<'a> {
    host: &'a Host,
    request: &'a CreateRequest,
    spec: &'a StdioSpec,
    choice: &'a Choice,
    gone: &'a CancellationToken,
    begun: Instant,
}

impl Steps<'_> {
    /// What is made is put into `ground` and `machine` at once, so that the caller can undo it.
    async fn take(&self, ground: &mut Ground, machine: &mut Option<Machine>) -> Result<Made, TaskError> {
        self.stage(ground).await?;
        let holder = self.hold(ground).await?;
        ground.create_hooks().await?;
        // What is wrong with these is told at once, and not when a machine has booted.
        let owner = Owner { namespace: &self.host.namespace, id: &self.request.id };
        let ends = Ends::open(self.spec, owner).await?;
        let prepared = self.begun.elapsed();
        let config = self.vm_config(ground);
        let booting = Machine::boot(config, &ground.record, &self.host.namespace);
        let Ready { machine: booted, link, boot } = self.wanted(booting).await??;
        *machine = Some(booted.clone());
        let begun = Instant::now();
        let events = link.client.events().await?;
        let (relays, uris) = match relay(&link, self.spec, ends).await {
            Ok(relayed) => relayed,
            Err(error) => return Err(booted.explain(error).await),
        };
        let (publisher, record) = (self.host.publisher.clone(), Arc::clone(&ground.record));
        let container = Arc::new(Container::new(self.names(holder.pid), publisher, record, relays));
        // From here on the calls end with the machine.
        let watch = fate::watch(booted.clone(), link.clone(), Arc::clone(&container), events, holder.died);
        let watch = AbortOnDropHandle::new(tokio::spawn(watch));
        self.wanted(self.guest_create(ground, &link, uris)).await??;
        container.created();
        // One that ended before that has told no exit.
        if link.is_lost() {
            return Err(link.lost().await);
        }
        if self.gone.is_cancelled() {
            return Err(TaskError::Abandoned);
        }
        let timing = Timing::new(self.begun, prepared, boot, begun.elapsed());
        Ok(Made { container, machine: booted, link, watch, timing })
    }

    /// Waits for a step that may be dropped half-way, as long as somebody waits for the whole.
    async fn wanted<T>(&self, step: impl Future<Output = T>) -> Result<T, TaskError> {
        self.gone.run_until_cancelled(step).await.ok_or(TaskError::Abandoned)
    }

    /// Puts the container's files together, on a thread that may wait for disks.
    async fn stage(&self, ground: &mut Ground) -> Result<(), TaskError> {
        let (dir, bundle) = (ground.record.dir().to_owned(), self.request.bundle.clone());
        let (root, volumes) = (ground.plan.root.clone(), ground.plan.volumes.clone());
        let mounts = self.request.rootfs.clone();
        let stage = move || {
            let request = rootfs::Request {
                dir: &dir,
                bundle: &bundle,
                root: &root,
                volumes: &volumes,
                mounts: &mounts,
            };
            rootfs::stage(&request)
        };
        ground.staged = Some(spawn_blocking(stage).await??);
        Ok(())
    }

    async fn hold(&self, ground: &mut Ground) -> Result<Held, TaskError> {
        let root = ground.staged.as_ref().and_then(|staged| staged.root()).map(Path::to_owned);
        let network = ground.plan.network.clone();
        let holder = Holder::start(HolderSpec {
            program: OWN_PROGRAM.into(),
            id: self.request.id.clone(),
            network,
            root,
        })
        .await?;
        let held = Held { pid: holder.pid(), died: Box::pin(holder.died()) };
        ground.record.began(Role::Holder, held.pid);
        ground.holder = Some(holder);
        Ok(held)
    }

    fn vm_config(&self, ground: &Ground) -> VmConfig {
        let (file, choice) = (&self.host.config.machine, self.choice);
        let size = self.host.config.size(choice, &ground.plan.demand);
        if size.is_below(&ground.plan.demand) {
            tracing::warn!(
                id = self.request.id,
                ?size,
                "the machine is smaller than what its container may use"
            );
        }
        let staged = ground.staged.as_ref().expect("it was staged before");
        let kernel_args = choice.kernel_args.as_deref().unwrap_or_default();
        // The holder has its pid for as long as there is a machine.
        let id = file.uid_base + ground.holder.as_ref().map_or(0, Holder::pid);
        let config = VmConfig {
            kernel: choice.kernel.clone().unwrap_or_else(|| file.kernel.clone()),
            initrd: choice.initrd.clone().unwrap_or_else(|| file.initrd.clone()),
            memory_mb: size.memory_mb,
            cpus: size.cpus,
            disks: staged.disks().to_vec(),
            vsock: Vsock::Backend(file.vsock_backend.clone()),
            append_extra: format!("{} {kernel_args}", file.kernel_args).trim().to_owned(),
            accel: if file.kvm { Accel::Auto } else { Accel::Tcg },
            share: Some(Share {
                dir: staged.share().to_owned(),
                virtiofsd: file.virtiofsd.clone(),
                tag: rootfs::TAG.to_owned(),
            }),
            nic_ports: NIC_PORTS,
            user: Some(User { uid: id, gid: id }),
            cpuset: ground.plan.demand.cpuset.clone(),
            ..VmConfig::new(Path::new("/"), ground.record.dir().join("vm"))
        };
        if self.host.config.vsock.kernel {
            config.on_kernel_vsock()
        } else {
            config
        }
    }

    fn names(&self, init_pid: u32) -> Names {
        let CreateRequest { id, bundle, rootfs, stdio } = self.request.clone();
        let bundle = bundle.to_string_lossy().into_owned();
        Names { container_id: id, bundle, rootfs, stdio, init_pid }
    }

    async fn guest_create(&self, ground: &Ground, link: &Link, uris: [String; 3]) -> Result<(), TaskError> {
        let id = &self.request.id;
        let mut files = bundle::CreateRequest { id: id.clone(), ..Default::default() };
        files.files.insert(CONFIG.into(), ground.plan.guest.to_string().into_bytes());
        let made = link
            .call("Bundle.Create", LONG, |ctx| async { link.client.bundle().create(ctx, &files).await })
            .await?;
        let [stdin, stdout, stderr] = uris;
        let staged = ground.staged.as_ref().expect("it was staged before");
        let request = CreateTaskRequest {
            id: id.clone(),
            bundle: made.bundle,
            rootfs: staged.guest_mounts().to_vec(),
            terminal: self.request.stdio.terminal,
            stdin,
            stdout,
            stderr,
            ..Default::default()
        };
        link.call("Task.Create", LONGEST, |ctx| async { link.client.task().create(ctx, &request).await })
            .await?;
        Ok(())
    }
}

/// Begins to relay between the host's ends of a process's stdio and new streams of the guest; gives the names of these
/// for the guest's request.
pub(super) async fn relay(
    link: &Link,
    spec: &StdioSpec,
    ends: Ends,
) -> Result<(Relays, [String; 3]), TaskError> {
    let dialed = link.alive(spec.dial(link.streams(), || link.next_stream()));
    let mut guest = tokio::time::timeout(DIAL, dialed)
        .await
        .map_err(|_| TaskError::Late { call: "a stream", within: DIAL })???;
    let uris = std::mem::take(&mut guest.uris);
    Ok((ends.relay(guest), uris))
}

/// Reads `config.json` and divides it, on a thread that may wait for the disks that its binds are on.
async fn read_plan(request: &CreateRequest) -> Result<(Value, Plan), TaskError> {
    let (id, bundle, mounts) = (request.id.clone(), request.bundle.clone(), request.rootfs.clone());
    spawn_blocking(move || {
        let path = bundle.join(CONFIG);
        let bytes = fs::read(&path).map_err(|source| TaskError::Config { path: path.clone(), source })?;
        let config = serde_json::from_slice(&bytes).map_err(|source| TaskError::Json { path, source })?;
        let volume_in_guest = |index| rootfs::volume_in_guest(&id, &mounts, index);
        let world =
            World { id: &id, bundle: &bundle, kind_of: &rootfs::kind_of, volume_in_guest: &volume_in_guest };
        let plan = plan::plan(&config, &world)?;
        Ok((config, plan))
    })
    .await?
}

fn begin_record(
    host: &Host,
    request: &CreateRequest,
    config: &Value,
    plan: &Plan,
) -> Result<Record, TaskError> {
    let container = ContainerState {
        oci_version: config["ociVersion"].as_str().unwrap_or_default().to_owned(),
        id: request.id.clone(),
        status: Status::Creating,
        pid: None,
        bundle: request.bundle.clone(),
        annotations: plan.annotations.clone(),
    };
    let mut state = State::new(host.namespace.clone(), container);
    if let plan::Network::At(path) = &plan.network {
        state.wiring.namespace = Some(path.clone());
    }
    let record = Record::begin(state::dir(&host.address, &host.namespace, &request.id), state)?;
    record.began(Role::Shim, std::process::id());
    Ok(record)
}
