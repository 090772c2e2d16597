//! The container's network namespace, joined to the NICs of its virtual machine: what is in it at Start, a tap for each
//! interface with everything redirected between the two, what the guest is to configure, and the removal of all that.
//! Never speaks to QEMU or to the guest: it gives descriptors and a request.

mod error;
mod kernel;
mod message;
mod namespace;
mod resolver;
mod routes;
mod survey;
mod user;
mod wire;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

pub use error::NetError;
pub use resolver::unreachable_resolver;
pub use user::{user_mode, UserNic};
pub use wire::unwire;

use crate::api::network;
use namespace::Namespace;
use survey::Found;

/// For reading or changing all interfaces of one namespace: milliseconds, but the requests of a whole host are done one
/// after the other, and a host that takes down many containers is at it for seconds.
const KERNEL: Duration = Duration::from_secs(10);

/// What was found in a namespace at Start. The namespace lives as long as this does.
#[derive(Debug, Clone)]
pub struct Survey {
    namespace: Namespace,
    /// In the order of their indexes.
    links: Vec<Found>,
    left_out: Vec<String>,
}

/// One interface as a NIC of the virtual machine is to have it.
#[derive(Debug)]
pub struct Nic {
    /// Of a tap with `virtio_net_hdr`, for QEMU's `netdev` of that kind; it goes when the last descriptor is closed.
    pub tap: OwnedFd,
    /// Six bytes in lower-case hexadecimal, with colons.
    pub mac: String,
    /// In bytes.
    pub mtu: u32,
    /// Of the interface in the namespace, and so in the guest.
    pub name: String,
}

/// Reads the interfaces of the namespace at this path, such as `/proc/<pid>/ns/net`.
///
/// The loopback is passed over, and so are interfaces that are down and have no address: kernels make some by
/// themselves in every namespace, such as `tunl0`.
///
/// # Errors
/// `Taken` and `NotEthernet`, with the name of the interface; `Namespace`, `Kernel`; `Late` after [`KERNEL`].
pub async fn survey(netns: &Path) -> Result<Survey, NetError> {
    let namespace = Namespace::open(netns)?;
    let read = async |kernel| survey::read(&kernel).await;
    let (links, left_out) = namespace.inside(KERNEL, read).await?;
    Ok(Survey { namespace, links, left_out })
}

impl Survey {
    /// Whether there is nothing to join, as with `--net none`. Sysctls are to be applied all the same.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// What [`Survey::connect`] makes: the names of taps, and those of interfaces that get an ingress qdisc. To be
    /// recorded before.
    pub fn wiring(&self) -> (Vec<String>, Vec<String>) {
        self.links.iter().map(|found| (found.tap(), found.wanted.name.clone())).unzip()
    }

    /// Makes a tap beside each interface, with a higher index, because clients take the lowest for the container's, and
    /// redirects all that comes in at one of the two to the other. The addresses stay where they are. All or nothing:
    /// after an error there is none of it, nor anything to [`unwire`], unless it is `Late`.
    ///
    /// # Errors
    /// `Kernel`; `Late` after [`KERNEL`].
    pub async fn connect(&self) -> Result<Vec<Nic>, NetError> {
        let links = self.links.clone();
        self.namespace.inside(KERNEL, async move |kernel| wire::connect(&kernel, &links).await).await
    }

    /// What the guest is to have for the namespace to be its own: the interfaces with addresses, routes and fixed
    /// neighbours, and these sysctls, those of single interfaces too. The resolver is the container's own file.
    ///
    /// It lacks what the guest's kernel makes by itself (link-local IPv6 addresses, routes to the networks of
    /// addresses, what routers advertise), rules and the tables that only they lead to, and [`Survey::left_out`].
    pub fn apply(&self, sysctls: &BTreeMap<String, String>) -> network::ApplyRequest {
        network::ApplyRequest {
            links: self.links.iter().map(|found| found.wanted.clone()).collect(),
            sysctls: message::sysctls(sysctls),
            ..Default::default()
        }
    }

    /// Routes that the namespace has and the guest cannot get as they are, a line each, for the log.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }
}
