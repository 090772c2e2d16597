//! The network as a whole: who may change it, in which order, and what is said of failures.

use super::*;
use crate::sys::testing::in_private_network;

/// Nothing a test waits for takes so long.
const LONG: Duration = Duration::from_secs(20);

fn named(name: &str) -> Wanted {
    let links = vec![WantedLink::named(LinkName::parse(name).unwrap())];
    Wanted { links, ..Wanted::default() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn an_ordinary_process_changes_nothing_and_may_look() {
    in_private_network(|| {
        runtime().block_on(async {
            let network = Network::new(None);
            let refused = network.apply(named("lo"), LONG).await;
            assert!(matches!(refused, Err(NetworkError::NotOurs)));
            let status = network.get().await.unwrap();
            assert_eq!((status.links[0].name.as_str(), status.links[0].up), ("lo", false));
        });
    });
}

/// The first waits for a link. If the second overtook it, the link would be up in the end.
#[test]
fn calls_are_done_in_the_order_in_which_they_came() {
    in_private_network(|| {
        let etc = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let network = Network::new(Some(etc.path()));
            let plug = async { Kernel::open().unwrap().add_link("late0", "veth", "late1") };
            let (first, second, ()) = tokio::join!(
                network.apply(named("late0"), LONG),
                network.apply(Wanted::default(), LONG),
                plug
            );
            first.unwrap();
            second.unwrap();
            let links = network.get().await.unwrap().links;
            assert!(links.iter().any(|link| link.name == "late0" && !link.up), "{links:?}");
        });
    });
}

#[test]
fn a_long_list_of_failures_is_cut_and_says_so() {
    let failure = |place: usize| Failure { what: format!("link l{place}"), why: Why::NoLink };
    let some: Vec<_> = (0..2).map(failure).collect();
    assert_eq!(list(&some), "link l0: no such link; link l1: no such link");
    let many: Vec<_> = (0..1000).map(failure).collect();
    let text = list(&many);
    assert!(text.len() < LIST_MAX + 50 && text.ends_with(" more"), "{text}");
}
