//! Creating a container: reserve the id, take the streams, assemble the root file system, run `runc create`.
//!
//! A step that fails undoes those before it, and leaves the id and the bundle as they were.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::container::{Container, Fixed};
use super::error::TaskError;
use super::ids::{ContainerId, ProcessId};
use super::registry::Tasks;
use super::RuntimeOptions;
use crate::blocking::Disks;
use crate::cgroup::Cgroup;
use crate::events::{Happening, StdioUris};
use crate::io::{Owner, Relays, Served, Stdio, StdioSpec, Streams};
use crate::reaper::{ExitOf, Process};
use crate::rootfs::{self, Assembled, Mount};
use crate::runc;
use crate::runc::spec::{self, Facts, SpecError};

/// The guest's own resolver file, for containers whose spec is relaxed.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What a Create asks for.
pub struct CreateRequest {
    pub id: ContainerId,
    pub namespace: String,
    pub bundle: PathBuf,
    pub rootfs: Vec<Mount>,
    pub stdio: StdioSpec,
    pub uris: StdioUris,
    /// How runc is called for this container.
    pub runtime: RuntimeOptions,
    /// Whose the pipes of its processes are.
    pub owner: Owner,
}

impl Tasks {
    /// Creates a container and answers the pid of its init. When it fails, the streams it names are closed.
    pub async fn create(&self, request: CreateRequest) -> Result<u32, TaskError> {
        let streams = request.stdio.streams();
        let created = self.create_container(request).await;
        if created.is_err() {
            self.parts().streams.discard(&streams);
        }
        created
    }

    async fn create_container(&self, request: CreateRequest) -> Result<u32, TaskError> {
        let reservation = self.reserve(&request.id)?;
        let streams = self.parts().streams.claim(&request.stdio.streams()).map_err(TaskError::NoStream)?;
        let runc = self.parts().runtime.container(request.id.as_str(), request.runtime.clone());
        let (rootfs, facts) = self.prepare(&request).await?;
        let (process, exit, stdio) = match self.create_init(&runc, &request, streams).await {
            Ok(created) => created,
            Err(error) => {
                unwind(&self.parts().disks, rootfs)
                    .await
                    .unwrap_or_else(|error| tracing::warn!(%error, "cannot unwind a create"));
                return Err(error);
            }
        };
        let pid = process.pid.as_u32();
        let created = created_event(&request, pid);
        let fixed = Fixed {
            id: request.id,
            namespace: request.namespace,
            bundle: request.bundle,
            rootfs,
            runc,
            cgroup: cgroup_of(&process),
            owner: request.owner,
            private_pid_namespace: facts.private_pid_namespace,
        };
        let exchange = self.parts().exchange.clone();
        let container = Arc::new(Container::new(fixed, exchange, process, request.uris, stdio));
        tracing::info!(container = %container.id, pid, "created");
        container.publish(created);
        self.watch_oom(&container);
        reservation.fill(container.clone());
        self.follow(&container, ProcessId::Init, exit);
        Ok(pid)
    }

    /// Reserves the bundle, reads what has to be known of the spec, and mounts: each may wait for a disk, so it is not
    /// done on this thread.
    async fn prepare(&self, request: &CreateRequest) -> Result<(Assembled, Facts), TaskError> {
        let mounts = rootfs::await_devices(request.rootfs.clone(), self.parts().bounds.device_wait).await?;
        let (bundle, policy, terminal) = (request.bundle.clone(), self.parts().spec, request.uris.terminal);
        let (tasks, id) = (self.clone(), request.id.clone());
        let work = move || {
            tasks.reserve_bundle(&id, canonical(&bundle)?)?;
            let facts = spec::prepare(&bundle, policy, terminal, Path::new(RESOLV_CONF))?;
            Ok((rootfs::assemble(&mounts, &bundle)?, facts))
        };
        self.parts().disks.run("mounting the rootfs", work).await?
    }

    async fn create_init(
        &self,
        runc: &runc::Container,
        request: &CreateRequest,
        streams: Streams,
    ) -> Result<(Process, ExitOf, (Relays, Served)), TaskError> {
        let (ends, tasks) = (request.stdio.open(&self.parts().disks).await?, &self.parts().relays);
        let Stdio { ends, pending, served } = Stdio::open(ends, streams, request.owner, tasks)?;
        let mut relays = pending.start(tasks);
        let created = runc.create(&request.bundle, ends).await?;
        match created.claim("create") {
            Ok((process, exit, console)) => {
                relays.attach(console, tasks);
                Ok((process, exit, (relays, served)))
            }
            Err(error) => {
                runc.roll_back().await;
                Err(error.into())
            }
        }
    }
}

/// The one path of a bundle, however the request names it. Blocks.
fn canonical(bundle: &Path) -> Result<PathBuf, SpecError> {
    fs::canonicalize(bundle).map_err(|source| SpecError::Read { path: bundle.to_owned(), source })
}

/// The cgroup that the runtime made for a container, where cgroups are of version 2. Without it there are no stats and
/// no OOM events, and that is all.
fn cgroup_of(init: &Process) -> Option<Cgroup> {
    let cgroup = Cgroup::made_for(init.pid).unwrap_or_else(|error| {
        tracing::warn!(pid = %init.pid, %error, "cannot tell the cgroup");
        None
    });
    // If the init has been reaped by now, its number may have been another's when it was asked about.
    cgroup.filter(|_| init.is_there())
}

fn created_event(request: &CreateRequest, pid: u32) -> Happening {
    let rootfs = request.rootfs.iter().map(|mount| crate::events::RootfsMount {
        kind: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    });
    Happening::Created {
        bundle: request.bundle.clone(),
        rootfs: rootfs.collect(),
        stdio: request.uris.clone(),
        pid,
    }
}

/// Unmounts what was assembled.
pub(super) async fn unwind(disks: &Disks, rootfs: Assembled) -> Result<(), TaskError> {
    Ok(disks.run("unmounting the rootfs", move || rootfs.unwind()).await??)
}
