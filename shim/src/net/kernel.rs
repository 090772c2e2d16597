//! The kernel's tables of one network namespace, by rtnetlink(7): what is read of them and the few things that are
//! changed. Decides nothing.

use std::io;

use futures_util::{Stream, TryStreamExt};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::tc::TcHandle;
use rtnetlink::{Handle, LinkUnspec};

use super::NetError;

/// The parent of the filters of an ingress qdisc, `ffff:` of tc(8).
const INGRESS_FILTERS: u32 = 0xffff_0000;
/// Frames of every protocol (linux/if_ether.h); tc has it in the order of the network.
const ETH_P_ALL: u16 = 0x0003_u16.to_be();

/// A connection to the kernel, in the namespace of the thread that made it.
pub(super) struct Kernel(Handle);

impl Kernel {
    /// Needs a tokio runtime, which does the work of the connection as long as it runs.
    ///
    /// # Errors
    /// As of socket(2).
    pub(super) fn open() -> io::Result<Kernel> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Kernel(handle))
    }

    /// The number of the interface with this name, if there is one.
    pub(super) fn index_of(&self, name: &str) -> Option<u32> {
        if_nametoindex(name).ok()
    }

    // All of the following fail with `Kernel`.

    pub(super) async fn links(&self) -> Result<Vec<LinkMessage>, NetError> {
        list("the interfaces", self.0.link().get().execute()).await
    }

    /// Indexes of the interfaces that have an ingress qdisc, or a `clsact`, which sits in the same place.
    pub(super) async fn ingress_qdiscs(&self) -> Result<Vec<u32>, NetError> {
        let qdiscs = list("the qdiscs", self.0.qdisc().get().execute()).await?;
        let ingress = qdiscs.into_iter().map(|qdisc| qdisc.header).filter(|q| q.parent == TcHandle::INGRESS);
        Ok(ingress.map(|header| header.index.unsigned_abs()).collect())
    }

    pub(super) async fn addresses(&self) -> Result<Vec<AddressMessage>, NetError> {
        list("the addresses", self.0.address().get().execute()).await
    }

    pub(super) async fn routes(&self) -> Result<Vec<RouteMessage>, NetError> {
        list("the routes", self.0.route().get(RouteMessage::default()).execute()).await
    }

    pub(super) async fn neighbours(&self) -> Result<Vec<NeighbourMessage>, NetError> {
        list("the neighbours", self.0.neighbours().get().execute()).await
    }

    /// Gives the interface its MTU in bytes, lets it make itself no IPv6 address, and brings it up.
    pub(super) async fn bring_up(&self, link: u32, mtu: u32) -> Result<(), NetError> {
        // The kernel takes the mode for something that has IPv6, which a small MTU ends (net/ipv6/addrconf.c).
        let no_address = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let no_address = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![no_address])]);
        let quiet = LinkUnspec::new_with_index(link).append_extra_attribute(no_address).build();
        match self.0.link().set(quiet).execute().await.map_err(cause) {
            // A host without IPv6.
            Err(error) if is(&error, &[Errno::EAFNOSUPPORT]) => Ok(()),
            other => other,
        }
        .map_err(step(|| "keep IPv6 addresses off a tap".into()))?;
        let up = LinkUnspec::new_with_index(link).mtu(mtu).up().build();
        self.0.link().set(up).execute().await.map_err(cause).map_err(step(|| "bring a tap up".into()))
    }

    /// Sends all that comes in at one interface out by another, and leaves nothing behind when it cannot.
    pub(super) async fn redirect(&self, from: u32, to: u32) -> Result<(), NetError> {
        let add = self.0.qdisc().add(index(from)).ingress().execute().await;
        add.map_err(cause).map_err(step(|| format!("add an ingress qdisc to interface number {from}")))?;
        let filter = self.0.traffic_filter(index(from)).add().parent(INGRESS_FILTERS).protocol(ETH_P_ALL);
        let filtered = match filter.redirect(to) {
            Ok(filter) => filter.execute().await,
            Err(error) => Err(error),
        };
        let filtered = filtered.map_err(cause).map_err(step(|| format!("redirect interface number {from}")));
        if filtered.is_err() {
            self.remove_ingress(from).await?;
        }
        filtered
    }

    /// Removes the ingress qdisc with its filters; none is no error.
    pub(super) async fn remove_ingress(&self, link: u32) -> Result<(), NetError> {
        let mut request = self.0.qdisc().del(index(link));
        request.message_mut().header.parent = TcHandle::INGRESS;
        unless_gone(request.execute().await)
            .map_err(step(|| format!("remove the ingress qdisc of interface number {link}")))
    }

    /// Removes the interface; none is no error.
    pub(super) async fn remove_link(&self, link: u32) -> Result<(), NetError> {
        unless_gone(self.0.link().del(link).execute().await)
            .map_err(step(|| format!("remove interface number {link}")))
    }
}

async fn list<T>(
    what: &str,
    entries: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, NetError> {
    entries.try_collect().await.map_err(cause).map_err(step(|| format!("list {what}")))
}

fn step(step: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> NetError {
    move |source| NetError::Kernel { step: step(), source }
}

/// What the kernel said, without what the crate says about it.
fn cause(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(refusal) => refusal.to_io(),
        other => io::Error::other(other),
    }
}

fn unless_gone(removed: Result<(), rtnetlink::Error>) -> io::Result<()> {
    match removed.map_err(cause) {
        Err(error) if is(&error, &[Errno::ENODEV, Errno::ENOENT]) => Ok(()),
        other => other,
    }
}

fn is(error: &io::Error, any: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|errno| any.contains(&Errno::from_raw(errno)))
}

/// As tc has it; the kernel numbers interfaces with an int.
fn index(link: u32) -> i32 {
    link.try_into().unwrap_or(i32::MAX)
}
