//! Carrying a plan out: it reads what is, asks [`plan`](super::plan) for the steps, takes them, and looks again. It
//! decides nothing itself, and goes on past whatever fails. It blocks; only the threads for that run it.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Instant;

use super::entry::{Address, Link};
use super::files;
use super::kernel::{Kernel, KernelError};
use super::plan::{plan, Current, Item, Owned, Step, Target};
use super::sysctl::SysctlName;
use super::types::LinkName;
use super::wanted::Wanted;
use crate::sys::netlink::RouteSocket;

/// How often what is there is compared with what is wanted. The second time finds what a step took with it (a link
/// that is renamed loses its routes), the third what that one did.
const ROUNDS: usize = 3;

/// Something that was asked for and was not done.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Failure {
    pub what: String,
    pub why: Why,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// There is no such link, and none came in time.
    #[error("no such link")]
    NoLink,
    /// The kernel took it, and it is not there.
    #[error("it did not stay")]
    Undone,
    /// The kernel's tables.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The kernel has no such setting, or refuses the value.
    #[error(transparent)]
    Setting(io::Error),
    /// One of the resolver's files.
    #[error(transparent)]
    File(io::Error),
}

/// What was set and what was there before, to be taken back when it is wanted no more.
#[derive(Debug, Default)]
pub struct Applied {
    owned: Owned,
    /// The text of resolv.conf before it was first written.
    resolver_before: Option<String>,
    hosts: bool,
}

/// Makes the network as it is wanted, and says what of it could not be done. Links are waited for until `deadline`;
/// `etc` is where the resolver's files are.
pub fn apply(wanted: &Wanted, applied: &mut Applied, etc: &Path, deadline: Instant) -> Vec<Failure> {
    let mut failures = match tables(wanted, &mut applied.owned, deadline) {
        Ok(failures) => failures,
        Err(error) => vec![Failure { what: "read the network".to_owned(), why: error.into() }],
    };
    let mut attempt = |what: &str, done: io::Result<()>| {
        failures.extend(done.err().map(|error| Failure { what: what.to_owned(), why: Why::File(error) }));
    };
    attempt("write resolv.conf", write_resolver(wanted, applied, &etc.join("resolv.conf")));
    attempt("write hosts", write_hosts(wanted, applied, &etc.join("hosts")));
    failures
}

fn tables(wanted: &Wanted, owned: &mut Owned, deadline: Instant) -> Result<Vec<Failure>, KernelError> {
    let mut kernel = Kernel::open()?;
    wait_for_links(&mut kernel, wanted, deadline)?;
    let mut failures = Vec::new();
    for _ in 0..ROUNDS {
        let (current, target) = look(&mut kernel, wanted, owned)?;
        let steps = plan(&current, owned, &target);
        failures =
            steps.iter().filter_map(|step| take(&mut kernel, step, owned, &current.links).err()).collect();
        // The same would fail again.
        if failures.len() == steps.len() {
            break;
        }
    }
    let (current, target) = look(&mut kernel, wanted, owned)?;
    owned.forget_lost(&current, &target);
    undone(&current, owned, &target, &mut failures);
    let no_link = |what: String| Failure { what, why: Why::NoLink };
    failures.extend(wanted.missing(&current.links).map(|link| no_link(format!("link {}", link.label()))));
    Ok(failures)
}

/// What was set and is not there all the same: something else that was asked for has undone it.
fn undone(current: &Current, owned: &Owned, target: &Target, failures: &mut Vec<Failure>) {
    for step in plan(current, owned, target).iter().filter(|step| matches!(step, Step::Add { .. })) {
        let what = Told { step, links: &current.links }.to_string();
        if failures.iter().all(|failure| failure.what != what) {
            failures.push(Failure { what, why: Why::Undone });
        }
    }
}

/// Waits until all links are there that are wanted. That they are not by the deadline is no error here.
fn wait_for_links(kernel: &mut Kernel, wanted: &Wanted, deadline: Instant) -> Result<(), KernelError> {
    // Before the first look, so that nothing comes unseen between the two.
    let news = RouteSocket::of_links()?;
    while wanted.missing(&kernel.links()?).next().is_some() {
        if !news.wait_for_news(deadline)? {
            break;
        }
    }
    Ok(())
}

/// What is, and what is wanted of the links that are there.
fn look(kernel: &mut Kernel, wanted: &Wanted, owned: &Owned) -> Result<(Current, Target), KernelError> {
    let links = kernel.links()?;
    let target = wanted.target(&links);
    let mut items: Vec<Item> = links.iter().filter(|link| link.up).map(|link| Item::Up(link.index)).collect();
    items.extend(kernel.addresses()?.into_iter().map(|found| Item::Address(found.address)));
    items.extend(kernel.neighbours()?.into_iter().map(Item::Neighbour));
    items.extend(kernel.routes()?.into_iter().map(Item::Route));
    let names = [&target.switches, &target.sysctls, &owned.sysctls].into_iter().flatten();
    let mut sysctls: Vec<(SysctlName, String)> = Vec::new();
    for (name, _) in names {
        if sysctls.iter().all(|(found, _)| found != name) {
            sysctls.extend(name.read().map(|value| (name.clone(), value)));
        }
    }
    Ok((Current { links, items, sysctls }, target))
}

fn take(kernel: &mut Kernel, step: &Step, owned: &mut Owned, links: &[Link]) -> Result<(), Failure> {
    let mut before = None;
    let done = match step {
        Step::Set { name, value } => {
            before = name.read();
            name.write(value).map_err(Why::Setting)
        }
        Step::Restore { name, value } => name.write(value).map_err(Why::Setting),
        Step::Rename { link, name, was_up } => rename(kernel, *link, name, *was_up).map_err(Why::from),
        Step::Mtu { link, mtu } => kernel.set_mtu(*link, *mtu).map_err(Why::from),
        Step::Add { item, nodad } => add(kernel, item, *nodad).map_err(Why::from),
        Step::Remove(item) => remove(kernel, item).map_err(Why::from),
    };
    match done {
        Ok(()) => {
            owned.note(step, before);
            Ok(())
        }
        Err(why) => Err(Failure { what: Told { step, links }.to_string(), why }),
    }
}

fn rename(kernel: &mut Kernel, link: u32, name: &LinkName, was_up: bool) -> Result<(), KernelError> {
    match kernel.rename(link, name) {
        // A link that is up is not renamed (dev_change_name in Linux before 6.3).
        Err(KernelError::Refused { errno: libc::EBUSY, .. }) if was_up => rename_down(kernel, link, name),
        done => done,
    }
}

/// A link that goes down loses its routes, its neighbours and its addresses of IPv6. It gets them again, whoever has set them.
fn rename_down(kernel: &mut Kernel, link: u32, name: &LinkName) -> Result<(), KernelError> {
    let (addresses, mut routes) = kernel.settled(link)?;
    let mut neighbours = kernel.neighbours()?;
    neighbours.retain(|neighbour| neighbour.link == link);
    kernel.set_up(link, false)?;
    let renamed = kernel.rename(link, name);
    kernel.set_up(link, true)?;
    let (left, _) = kernel.settled(link)?;
    for address in addresses.iter().filter(|address| !left.contains(address)) {
        // It was in use, so nobody else has it.
        kernel.add_address(address, true)?;
    }
    for neighbour in &neighbours {
        kernel.add_neighbour(neighbour)?;
    }
    let (_, left) = kernel.settled(link)?;
    routes.retain(|route| !left.contains(route));
    // A gateway is reached by the routes that have none.
    let (beyond, direct): (Vec<_>, Vec<_>) = routes.iter().partition(|route| route.gateway.is_some());
    for route in direct.into_iter().chain(beyond) {
        kernel.add_route(route)?;
    }
    renamed
}

fn add(kernel: &mut Kernel, item: &Item, nodad: bool) -> Result<(), KernelError> {
    match item {
        Item::Up(link) => kernel.set_up(*link, true),
        Item::Address(address) => kernel.add_address(address, nodad),
        Item::Neighbour(neighbour) => kernel.add_neighbour(neighbour),
        Item::Route(route) => kernel.add_route(route),
    }
}

fn remove(kernel: &mut Kernel, item: &Item) -> Result<(), KernelError> {
    match item {
        Item::Up(link) => kernel.set_up(*link, false),
        Item::Address(address) => remove_address(kernel, address),
        Item::Neighbour(neighbour) => kernel.remove_neighbour(neighbour),
        Item::Route(route) => kernel.remove_route(route),
    }
}

/// With the first IPv4 address of a subnet the kernel removes all others of it (promote_secondaries in
/// Documentation/networking/ip-sysctl.rst). They stay.
fn remove_address(kernel: &mut Kernel, address: &Address) -> Result<(), KernelError> {
    if address.prefix.is_ipv6() {
        return kernel.remove_address(address);
    }
    let (before, _) = kernel.settled(address.link)?;
    kernel.remove_address(address)?;
    let (left, _) = kernel.settled(address.link)?;
    for lost in before.iter().filter(|found| *found != address && !left.contains(found)) {
        kernel.add_address(lost, false)?;
    }
    Ok(())
}

/// Nothing happens to a file that nobody asked to be written.
fn write_resolver(wanted: &Wanted, applied: &mut Applied, path: &Path) -> io::Result<()> {
    let Some(resolver) = &wanted.resolver else {
        let Some(before) = &applied.resolver_before else { return Ok(()) };
        files::write(path, before)?;
        applied.resolver_before = None;
        return Ok(());
    };
    let before = match applied.resolver_before.take() {
        Some(before) => before,
        None => files::read(path)?,
    };
    applied.resolver_before = Some(before);
    files::write(path, &resolver.text())
}

fn write_hosts(wanted: &Wanted, applied: &mut Applied, path: &Path) -> io::Result<()> {
    if wanted.hosts.is_empty() && !applied.hosts {
        return Ok(());
    }
    files::write(path, &files::with_hosts(&files::read(path)?, &wanted.hosts))?;
    applied.hosts = !wanted.hosts.is_empty();
    Ok(())
}

/// A step in words, with the names of links.
struct Told<'a> {
    step: &'a Step,
    links: &'a [Link],
}

impl Told<'_> {
    fn name(&self, index: u32) -> &str {
        self.links.iter().find(|link| link.index == index).map_or("a link", |link| link.name.as_str())
    }

    fn item(&self, f: &mut fmt::Formatter<'_>, item: &Item) -> fmt::Result {
        match item {
            Item::Up(link) => write!(f, "{} up", self.name(*link)),
            Item::Address(address) => write!(f, "address {} of {}", address.prefix, self.name(address.link)),
            Item::Neighbour(found) => write!(f, "neighbour {} of {}", found.address, self.name(found.link)),
            Item::Route(route) => write!(f, "route to {} of {}", route.destination, self.name(route.link)),
        }
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Remove(item) => {
                f.write_str("remove ")?;
                self.item(f, item)
            }
            Step::Add { item, .. } => {
                f.write_str("set ")?;
                self.item(f, item)
            }
            Step::Rename { link, name, .. } => write!(f, "rename {} to {name}", self.name(*link)),
            Step::Mtu { link, mtu } => write!(f, "set mtu {mtu} of {}", self.name(*link)),
            Step::Set { name, .. } | Step::Restore { name, .. } => write!(f, "set {name}"),
        }
    }
}

#[cfg(test)]
mod tests;
