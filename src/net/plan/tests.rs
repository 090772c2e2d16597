//! Plans, and a kernel that does what it is told, on which they are carried out.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::net::entry::Counters;
use crate::net::types::{Mac, Prefix};

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: None,
        mtu: 1500,
        up: false,
        running: false,
        kind: String::new(),
        counters: Counters::default(),
    }
}

fn prefix(last: u8, length: u8) -> Prefix {
    Prefix::new(Ipv4Addr::new(10, 0, 0, last).into(), length).unwrap()
}

fn address(link: u32, last: u8) -> Item {
    Item::Address(Address { link, prefix: prefix(last, 24) })
}

fn neighbour(link: u32, last: u8) -> Item {
    Item::Neighbour(Neighbour { link, address: prefix(last, 32).address, mac: Mac([2, 0, 0, 0, 0, last]) })
}

fn route(link: u32, last: u8, gateway: Option<u8>) -> Item {
    Item::Route(Route {
        link,
        destination: prefix(last, 32),
        gateway: gateway.map(|last| prefix(last, 32).address),
        source: None,
        scope: 0,
        metric: 0,
        on_link: false,
    })
}

fn name(text: &str) -> LinkName {
    LinkName::parse(text).unwrap()
}

fn setting(place: u8) -> SysctlName {
    SysctlName::parse(&format!("net.ipv4.s{place}")).unwrap()
}

fn items(items: &[Item]) -> Target {
    Target { items: items.to_vec(), ..Target::default() }
}

#[test]
fn things_are_added_in_the_order_in_which_they_need_one_another() {
    let target = items(&[
        route(1, 9, Some(1)),
        route(1, 1, None),
        neighbour(1, 1),
        address(1, 7),
        Item::Up(1),
        Item::Up(1),
    ]);
    let added: Vec<_> = plan(&Current::default(), &Owned::default(), &target)
        .into_iter()
        .map(|step| match step {
            Step::Add { item, nodad: false } => item,
            other => panic!("{other:?}"),
        })
        .collect();
    let order = [Item::Up(1), address(1, 7), neighbour(1, 1), route(1, 1, None), route(1, 9, Some(1))];
    assert_eq!(added, order);
}

#[test]
fn only_what_was_set_is_removed_last_things_first() {
    let all = [Item::Up(1), address(1, 7), address(1, 8), route(1, 1, None)];
    let current = Current { items: all.to_vec(), ..Current::default() };
    // Of what was set, one thing is not there any more.
    let owned = [Item::Up(1), address(1, 7), route(1, 1, None), route(1, 2, None)];
    let owned = Owned { items: owned.to_vec(), ..Owned::default() };
    let expected = [route(1, 1, None), address(1, 7), Item::Up(1)].map(Step::Remove);
    assert_eq!(plan(&current, &owned, &Target::default()), expected);
}

#[test]
fn a_link_steps_aside_only_for_another_that_gets_its_name() {
    let current = Current { links: vec![link(1, "a"), link(2, "b")], ..Current::default() };
    let renames = |names: &[(u32, &str)]| {
        let names = names.iter().map(|(link, text)| (*link, name(text))).collect();
        let steps = plan(&current, &Owned::default(), &Target { names, ..Target::default() });
        let shown = steps.into_iter().map(|step| match step {
            Step::Rename { link, name, was_up: false } => format!("{link} {name}"),
            other => panic!("{other:?}"),
        });
        shown.collect::<Vec<_>>()
    };
    assert_eq!(renames(&[(1, "a"), (2, "b")]), [""; 0]);
    assert_eq!(renames(&[(1, "c")]), ["1 c"]);
    assert_eq!(renames(&[(1, "b")]), ["1 b"]);
    assert_eq!(renames(&[(1, "b"), (2, "c")]), ["2 aside2", "1 b", "2 c"]);
    assert_eq!(renames(&[(1, "b"), (2, "a")]), ["1 aside1", "2 aside2", "1 b", "2 a"]);
}

/// Carries steps out, as a kernel would that refuses nothing; notes them.
fn carry_out(steps: Vec<Step>, current: &mut Current, owned: &mut Owned) {
    for step in steps {
        let mut before = None;
        match &step {
            Step::Remove(item) => current.items.retain(|found| found != item),
            Step::Add { item, .. } => current.items.push(*item),
            Step::Rename { link, name, .. } => {
                assert!(current.links.iter().all(|found| found.name != name.as_str()), "{name} is taken");
                let found = current.links.iter_mut().find(|found| found.index == *link).unwrap();
                found.name = name.as_str().to_owned();
            }
            Step::Mtu { link, mtu } => {
                current.links.iter_mut().find(|found| found.index == *link).unwrap().mtu = *mtu;
            }
            Step::Set { name, value } | Step::Restore { name, value } => {
                let (_, found) = current.sysctls.iter_mut().find(|(found, _)| found == name).unwrap();
                before = Some(std::mem::replace(found, value.clone()));
            }
        }
        owned.note(&step, before);
    }
}

fn any_item() -> impl Strategy<Value = Item> {
    (1..4_u32, 0..4_u8, 0..5).prop_map(|(link, last, kind)| match kind {
        0 => Item::Up(link),
        1 => address(link, last),
        2 => neighbour(link, last),
        3 => route(link, last, None),
        _ => route(link, last, Some(3 - last)),
    })
}

fn any_items() -> impl Strategy<Value = Vec<Item>> {
    prop::collection::btree_set(any_item(), 0..12).prop_map(|items| items.into_iter().collect())
}

/// Names are a permutation, so that none is wanted twice.
fn any_target() -> impl Strategy<Value = Target> {
    let names = Just(["a", "b", "c", "d"]).prop_shuffle();
    let settings = prop::collection::btree_map(0..4_u8, 0..3_u8, 0..4);
    (names, 0..4_usize, any_items(), prop::collection::vec((1..4_u32, 1000..1003_u32), 0..2), settings)
        .prop_map(|(names, named, items, mtus, settings)| Target {
            names: (1..).zip(names).take(named.min(3)).map(|(link, text)| (link, name(text))).collect(),
            mtus,
            items,
            sysctls: settings.into_iter().map(|(place, value)| (setting(place), value.to_string())).collect(),
            ..Target::default()
        })
}

proptest! {
    #[test]
    fn a_plan_leads_to_what_is_wanted_and_then_there_is_nothing_to_do(
        before in any_items(),
        targets in prop::collection::vec(any_target(), 1..4),
    ) {
        // No name that a link which is not wanted may hold is among those that are given.
        let links = vec![link(1, "x"), link(2, "y"), link(3, "z")];
        let sysctls: Vec<_> = (0..4).map(|place| (setting(place), "before".to_owned())).collect();
        let mut current = Current { links, items: before.clone(), sysctls: sysctls.clone() };
        let mut owned = Owned::default();
        for target in &targets {
            for (index, found) in current.links.iter_mut().enumerate() {
                found.name = ["x", "y", "z"][index].to_owned();
            }
            let steps = plan(&current, &owned, target);
            carry_out(steps, &mut current, &mut owned);
            owned.forget_lost(&current, target);
            prop_assert_eq!(plan(&current, &owned, target), vec![]);
            for item in target.items.iter().chain(&before) {
                prop_assert!(current.items.contains(item), "{:?} is missing", item);
            }
            prop_assert!(current.items.iter().all(|item| target.items.contains(item) || before.contains(item)));
        }
        carry_out(plan(&current, &owned, &Target::default()), &mut current, &mut owned);
        owned.forget_lost(&current, &Target::default());
        current.items.sort_unstable();
        prop_assert_eq!((current.items, current.sysctls, owned), (before, sysctls, Owned::default()));
    }
}
