//! What the shim tells the process that is to be a holder, as arguments. Owns both directions; acts on none of it.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::plan::Network;

/// The hidden action of the command line, whose arguments are an [`Order`].
pub const ACTION: &str = "hold";
/// Neither is an absolute path, which is what stands in their place for a namespace that exists.
const NEW: &str = "new";
const HOST: &str = "host";

/// What to hold, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// Without whom there is nothing to hold.
    pub(super) parent: u32,
    pub(super) network: Network,
    pub(super) root: Option<PathBuf>,
}

impl Order {
    /// The arguments, with the action as the first.
    pub(super) fn to_args(&self) -> [OsString; 4] {
        let network = match &self.network {
            Network::New => NEW.into(),
            Network::Host => HOST.into(),
            Network::At(path) => path.into(),
        };
        let root = self.root.clone().unwrap_or_default();
        [ACTION.into(), self.parent.to_string().into(), network, root.into()]
    }

    /// Reads what is behind the action; none if this process was not called by the shim.
    pub(super) fn parse(args: &[String]) -> Option<Order> {
        let [parent, network, root] = args else { return None };
        let network = match network.as_str() {
            NEW => Network::New,
            HOST => Network::Host,
            path if path.starts_with('/') => Network::At(path.into()),
            _ => return None,
        };
        let root = Some(root).filter(|root| !root.is_empty()).map(PathBuf::from);
        Some(Order { parent: parent.parse().ok()?, network, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_reads_what_the_shim_wrote() {
        for network in [Network::New, Network::Host, Network::At("/run/netns/x".into())] {
            for root in [None, Some(PathBuf::from("/run/vminit/0/share/rootfs"))] {
                let order = Order { parent: 7, network: network.clone(), root };
                let args = order.to_args().map(|arg| arg.into_string().unwrap());
                assert_eq!(args[0], "hold");
                assert_eq!(Order::parse(&args[1..]), Some(order));
            }
        }
    }

    #[test]
    fn anything_else_is_no_order() {
        for line in [&[][..], &["7", "new"], &["x", "new", ""], &["7", "netns", ""], &["7", "new", "", ""]] {
            let args: Vec<String> = line.iter().map(|arg| arg.to_string()).collect();
            assert_eq!(Order::parse(&args), None, "{line:?}");
        }
    }
}
