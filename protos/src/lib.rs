//! The wire of vminitd, for the guest, the host side and the tests: generated code, service names, type URLs.
//!
//! containerd's own messages are re-exported from `containerd-shim-protos`; they are not declared again here.

mod time;

pub use containerd_shim_protos as containerd;
pub use protobuf;
pub use time::{system_time, timestamp};
pub use ttrpc;

/// Names of the ttrpc services, exactly as they stand on the wire.
pub mod service {
    /// containerd's Task API, version 3.
    pub const TASK_V3: &str = "containerd.task.v3.Task";
    /// containerd's Task API, version 2: the same messages under another name.
    pub const TASK_V2: &str = "containerd.task.v2.Task";
    /// The virtual machine itself.
    pub const SYSTEM: &str = "containerd.vminitd.services.system.v1.System";
    /// Bundle directories.
    pub const BUNDLE: &str = "containerd.vminitd.services.bundle.v1.Bundle";
    /// The guest's network after boot.
    pub const NETWORK: &str = "vminitd.services.network.v1.Network";
    /// Stdin and output of processes, as calls.
    pub const STDIO: &str = "containerd.vminitd.services.stdio.v1.StdIO";
    /// containerd's streams over the RPC connection.
    pub const STREAMING: &str = "containerd.services.streaming.v1.Streaming";
    /// Events, under the name the nerdbox host uses.
    pub const EVENTS_NERDBOX: &str = "nerdbox.services.vmevents.v1.Events";
    /// Events, under the name the spinbox host uses.
    pub const EVENTS_SPINBOX: &str = "spinbox.services.vmevents.v1.Events";
}

/// Names that stand in the `type_url` of an `Any`.
pub mod type_url {
    /// JSON of an OCI process, as containerd's client labels it in Exec.
    pub const OCI_PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
    /// What Task.Pids says of a process that is an exec.
    pub const PROCESS_DETAILS: &str = "containerd.runc.v1.ProcessDetails";
    /// What a Create may choose of how runc is called.
    pub const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";
    /// What a Checkpoint may choose.
    pub const CHECKPOINT_OPTIONS: &str = "containerd.runc.v1.CheckpointOptions";
    /// The options of a Create as the spinbox host sends them.
    pub const SPINBOX_OPTIONS: &str = "io.containerd.spinbox.v1.SpinboxOpts";
    /// What Task.Stats answers; hosts compare it as a string.
    pub const METRICS: &str = "io.containerd.cgroups.v2.Metrics";
    /// The first message on a stream of the Streaming service: its id.
    pub const STREAM_INIT: &str = "containerd.services.streaming.v1.StreamInit";
    /// The answer to it.
    pub const EMPTY: &str = "google.protobuf.Empty";
    /// Bytes on such a stream.
    pub const DATA: &str = "containerd.types.transfer.Data";
    /// How many bytes more the other side may send.
    pub const WINDOW_UPDATE: &str = "containerd.types.transfer.WindowUpdate";
}

/// The metadata key under which a caller names containerd's namespace.
pub const NAMESPACE_METADATA: &str = "containerd-namespace-ttrpc";

#[allow(warnings, clippy::all)]
mod generated {
    pub mod bundle {
        include!(concat!(env!("OUT_DIR"), "/bundle/bundle.rs"));
    }
    pub mod bundle_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/bundle/bundle_ttrpc.rs"));
    }
    pub mod network {
        include!(concat!(env!("OUT_DIR"), "/network/network.rs"));
    }
    pub mod network_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/network/network_ttrpc.rs"));
    }
    pub mod spinbox {
        include!(concat!(env!("OUT_DIR"), "/spinbox/spinbox.rs"));
    }
    pub mod stdio {
        include!(concat!(env!("OUT_DIR"), "/stdio/stdio.rs"));
    }
    pub mod stdio_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/stdio/stdio_ttrpc.rs"));
    }
    pub mod streaming {
        include!(concat!(env!("OUT_DIR"), "/streaming/streaming.rs"));
    }
    pub mod streaming_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/streaming/streaming_ttrpc.rs"));
    }
    pub mod system {
        include!(concat!(env!("OUT_DIR"), "/system/system.rs"));
    }
    pub mod system_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/system/system_ttrpc.rs"));
    }
    pub mod transfer {
        include!(concat!(env!("OUT_DIR"), "/transfer/transfer.rs"));
    }
    pub mod vmevents {
        include!(concat!(env!("OUT_DIR"), "/vmevents/vmevents.rs"));
    }
    pub mod vmevents_ttrpc {
        include!(concat!(env!("OUT_DIR"), "/vmevents/vmevents_ttrpc.rs"));
    }
    // The modules that generated code expects beside it, one for each imported file.
    pub(crate) mod any {
        pub use protobuf::well_known_types::any::*;
    }
    pub(crate) mod empty {
        pub use containerd_shim_protos::types::empty::*;
    }
    pub(crate) mod event {
        pub use containerd_shim_protos::shim::event::*;
    }
}

pub use generated::{
    bundle, bundle_ttrpc, network, network_ttrpc, spinbox, stdio, stdio_ttrpc, streaming, streaming_ttrpc,
    system, system_ttrpc, transfer, vmevents_ttrpc,
};
