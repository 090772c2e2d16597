//! What has to be done so that the network is as it is wanted: a pure function of what is, what was set before, and
//! what is wanted.
//!
//! What was set before and is wanted no more goes. What was not set by us stays, even if it is wanted for a while. One
//! step can undo more than it says (a link that goes down loses routes), so a plan is made again after it was carried
//! out, until there is nothing left to do.

use super::entry::{Address, Link, Neighbour, Route};
use super::sysctl::{same_value, SysctlName};
use super::types::LinkName;

/// Something that is there or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    Up(u32),
    Address(Address),
    Neighbour(Neighbour),
    Route(Route),
}

/// What is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Current {
    pub links: Vec<Link>,
    pub items: Vec<Item>,
    /// The settings that anybody asks about; those that are not here do not exist.
    pub sysctls: Vec<(SysctlName, String)>,
}

/// What is wanted, of links that are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    pub names: Vec<(u32, LinkName)>,
    pub mtus: Vec<(u32, u32)>,
    pub items: Vec<Item>,
    /// The addresses that are to be added without duplicate detection.
    pub nodad: Vec<Address>,
    /// Settings of links that must be right before a link is up.
    pub switches: Vec<(SysctlName, String)>,
    /// Settings that may be about anything, and come last.
    pub sysctls: Vec<(SysctlName, String)>,
}

/// What we have set, and may take away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owned {
    pub items: Vec<Item>,
    /// With the value that was there before.
    pub sysctls: Vec<(SysctlName, String)>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Remove(Item),
    Rename {
        link: u32,
        name: LinkName,
        was_up: bool,
    },
    Mtu {
        link: u32,
        mtu: u32,
    },
    Add {
        item: Item,
        nodad: bool,
    },
    Set {
        name: SysctlName,
        value: String,
    },
    /// As it was before.
    Restore {
        name: SysctlName,
        value: String,
    },
}

/// The steps from `current` to `target`, in the order in which they can be done. Empty if there is nothing to do.
pub fn plan(current: &Current, owned: &Owned, target: &Target) -> Vec<Step> {
    let mut steps = removals(current, owned, target);
    renames(current, target, &mut steps);
    settings(current, &target.switches, &mut steps);
    for (link, mtu) in &target.mtus {
        if current.links.iter().any(|found| found.index == *link && found.mtu != *mtu) {
            steps.push(Step::Mtu { link: *link, mtu: *mtu });
        }
    }
    additions(current, target, &mut steps);
    settings(current, &target.sysctls, &mut steps);
    steps
}

fn removals(current: &Current, owned: &Owned, target: &Target) -> Vec<Step> {
    let goes = |item: &&Item| !target.items.contains(item) && current.items.contains(item);
    let mut steps = Vec::new();
    for rank in RANKS.rev() {
        let of_rank = owned.items.iter().filter(|item| item.rank() == rank);
        steps.extend(of_rank.filter(goes).map(|item| Step::Remove(*item)));
    }
    for (name, value) in &owned.sysctls {
        let wanted = value_of(&target.switches, name).or_else(|| value_of(&target.sysctls, name));
        let differs = value_of(&current.sysctls, name).is_some_and(|found| !same_value(found, value));
        if wanted.is_none() && differs {
            steps.push(Step::Restore { name: name.clone(), value: value.clone() });
        }
    }
    steps
}

fn renames(current: &Current, target: &Target, steps: &mut Vec<Step>) {
    let wanted = |link: &Link| target.names.iter().find(|(index, _)| *index == link.index).map(|(_, n)| n);
    let due = |link: &&Link| wanted(link).is_some_and(|name| name.as_str() != link.name);
    for link in current.links.iter().filter(due) {
        // Links that change names with one another: whoever holds a name that another gets steps aside first.
        let held = |other: &(u32, LinkName)| other.0 != link.index && other.1.as_str() == link.name;
        if let (true, Ok(aside)) =
            (target.names.iter().any(held), LinkName::parse(&format!("aside{}", link.index)))
        {
            steps.push(Step::Rename { link: link.index, name: aside, was_up: link.up });
        }
    }
    for link in current.links.iter().filter(due) {
        if let Some(name) = wanted(link) {
            steps.push(Step::Rename { link: link.index, name: name.clone(), was_up: link.up });
        }
    }
}

fn settings(current: &Current, wanted: &[(SysctlName, String)], steps: &mut Vec<Step>) {
    for (name, value) in wanted {
        if !value_of(&current.sysctls, name).is_some_and(|found| same_value(found, value)) {
            steps.push(Step::Set { name: name.clone(), value: value.clone() });
        }
    }
}

fn additions(current: &Current, target: &Target, steps: &mut Vec<Step>) {
    for rank in RANKS {
        for item in target.items.iter().filter(|item| item.rank() == rank && !current.items.contains(item)) {
            let nodad = matches!(item, Item::Address(address) if target.nodad.contains(address));
            let step = Step::Add { item: *item, nodad };
            // What is wanted twice is there after the first time.
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
    }
}

impl Item {
    /// What has a lower one is added before, and removed after.
    fn rank(&self) -> u8 {
        match self {
            Item::Up(_) => 0,
            Item::Address(_) => 1,
            Item::Neighbour(_) => 2,
            // A gateway is reached by the routes that have none.
            Item::Route(Route { gateway: None, .. }) => 3,
            Item::Route(_) => 4,
        }
    }
}

/// All of them.
const RANKS: std::ops::Range<u8> = 0..5;

fn value_of<'a>(settings: &'a [(SysctlName, String)], name: &SysctlName) -> Option<&'a str> {
    settings.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

impl Owned {
    /// Notes a step that was carried out; `before` is the value that a setting had.
    pub fn note(&mut self, step: &Step, before: Option<String>) {
        match step {
            Step::Remove(item) => self.items.retain(|owned| owned != item),
            Step::Add { item, .. } if !self.items.contains(item) => self.items.push(*item),
            Step::Set { name, .. } if value_of(&self.sysctls, name).is_none() => {
                self.sysctls.extend(before.map(|value| (name.clone(), value)));
            }
            Step::Restore { name, .. } => self.sysctls.retain(|(owned, _)| owned != name),
            Step::Add { .. } | Step::Set { .. } | Step::Rename { .. } | Step::Mtu { .. } => {}
        }
    }

    /// Forgets what is neither there nor wanted: it went with its link, or somebody else took it away.
    pub fn forget_lost(&mut self, current: &Current, target: &Target) {
        self.items.retain(|item| current.items.contains(item) || target.items.contains(item));
        self.sysctls.retain(|(name, before)| {
            let wanted =
                [&target.switches, &target.sysctls].iter().any(|list| value_of(list, name).is_some());
            let found = value_of(&current.sysctls, name);
            found.is_some_and(|found| wanted || !same_value(found, before))
        });
    }
}

#[cfg(test)]
mod tests;
