//! The edge: each handler decodes a request, makes one call of the domain, and encodes the answer. No policy.

mod after_boot;
mod bundle;
mod error;
mod events;
mod network;
mod options;
mod stats;
mod stdio;
mod streaming;
mod system;
mod task;

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use protobuf::well_known_types::any::Any;
use protobuf::Message;
use tokio::sync::{mpsc, watch};
use ttrpc::r#async::{Service, TtrpcContext};
use vminitd_api::bundle_ttrpc::create_bundle;
use vminitd_api::containerd::shim_async::create_task;
use vminitd_api::network_ttrpc::create_network;
use vminitd_api::{service, NAMESPACE_METADATA};

use crate::events::Exchange;
use crate::guest::booting::Booting;
use crate::guest::freeze::Freezer;
use crate::guest::hotplug::Hotplug;
use crate::io::{Outlet, StreamIds, StreamTable};
use crate::net::Network;
use crate::task::{ContainerId, ProcessId, Tasks};
use crate::wire::Router;
pub use system::{Prepare, Unprepared};

/// The namespace of a caller that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// What the services need.
#[derive(Clone)]
pub struct Domain {
    pub tasks: Tasks,
    pub exchange: Exchange,
    pub streams: StreamTable,
    pub freezer: Freezer,
    pub hotplug: Hotplug,
    pub network: Network,
    /// Set to true, it asks for the ordered stop.
    pub stop: Arc<watch::Sender<bool>>,
    /// Where a PrepareShutdown goes.
    pub prepare: mpsc::Sender<Prepare>,
    /// What System.Info and Connect answer as version.
    pub version: String,
    /// What System.Info tells of, and what some calls wait for.
    pub booting: Booting,
    /// How stdio URIs name streams.
    pub stream_ids: StreamIds,
}

/// All services under all of their names.
pub fn router(domain: &Domain) -> Router {
    let task = Arc::new(task::TaskService::new(domain.clone()));
    let bundle = Arc::new(bundle::BundleService::new(domain.tasks.clone(), domain.freezer.clone()));
    let network = Arc::new(network::NetworkService::new(domain.network.clone()));
    let events = Arc::new(events::EventStream::new(domain.exchange.clone()));
    let output = |outlet| Arc::new(stdio::OutputStream::new(domain.tasks.clone(), outlet));
    let streaming = Arc::new(streaming::Streaming::new(domain.streams.clone()));
    let waiting = |name, service| after_boot::waiting(name, only(service), &domain.booting);
    Router::new()
        .unary(service::TASK_V3, waiting(service::TASK_V3, create_task(task)), &task::ABANDONABLE)
        .alias(service::TASK_V2, service::TASK_V3)
        .unary(service::SYSTEM, waiting(service::SYSTEM, system::methods(domain)), &["Info"])
        .unary(service::BUNDLE, waiting(service::BUNDLE, create_bundle(bundle)), &[])
        .unary(service::NETWORK, waiting(service::NETWORK, create_network(network)), &network::ABANDONABLE)
        .unary(service::STDIO, stdio::unary(&domain.tasks), &stdio::ABANDONABLE)
        .stream(service::STDIO, "ReadStdout", output(Outlet::Stdout))
        .stream(service::STDIO, "ReadStderr", output(Outlet::Stderr))
        .stream(service::STREAMING, "Stream", streaming)
        .stream(service::EVENTS_NERDBOX, "Stream", events.clone())
        .stream(service::EVENTS_SPINBOX, "Stream", events)
}

/// The generated constructors yield a map with one service, under the name it has in its proto file.
fn only(services: HashMap<String, Service>) -> Service {
    services.into_values().next().expect("generated code registers its service")
}

/// containerd's namespace of the caller.
fn namespace(ctx: &TtrpcContext) -> String {
    let named = ctx.metadata.get(NAMESPACE_METADATA).and_then(|values| values.first());
    named.filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

/// The container and the process that a request names.
fn names(id: &str, exec_id: &str) -> ttrpc::Result<(ContainerId, ProcessId)> {
    Ok((ContainerId::parse(id)?, ProcessId::parse(exec_id)?))
}

/// The name of the type of what is in an `Any`: the last segment of its type URL. Hosts write it bare, or behind
/// `types.containerd.io/` or another prefix.
fn type_name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

/// An `Any` with the bare name as type URL, as containerd writes it.
fn any(name: &str, message: &impl Message) -> Any {
    let value = message.write_to_bytes().expect("no message of ours has required fields");
    Any { type_url: name.to_owned(), value, ..Default::default() }
}

/// A path of the guest, as a request names it. INVALID_ARGUMENT unless it is absolute and only goes down.
fn guest_path(field: &str, text: &str) -> ttrpc::Result<PathBuf> {
    let path = Path::new(text);
    let leads_upwards = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || leads_upwards || text.contains('\0') {
        return Err(error::invalid(format_args!("{field} {text:?} is no absolute path without ..")));
    }
    Ok(path.to_owned())
}
