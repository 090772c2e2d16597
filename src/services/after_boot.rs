//! Which calls wait for the end of the boot, because they need what it brings up. All others are served while it goes
//! on: there is no container yet that they could mean.

use async_trait::async_trait;
use ttrpc::proto::{Request, Response};
use ttrpc::r#async::{MethodHandler, Service, TtrpcContext};
use ttrpc::Code;
use vminitd_api::service;

use super::error::{refuse, stopping, too_late};
use crate::guest::booting::Booting;
use crate::wire::{patience, Caller};

/// Whether calls of a method wait.
fn waits(service: &str, method: &str) -> bool {
    match service {
        service::TASK_V3 => method == "Create",
        service::BUNDLE | service::NETWORK => true,
        // Neither to look nor to stop needs any of it.
        service::SYSTEM => !matches!(method, "Info" | "PrepareShutdown"),
        _ => false,
    }
}

/// The methods of a service, of which some wait.
pub fn waiting(service: &str, mut methods: Service, booting: &Booting) -> Service {
    let names: Vec<String> = methods.methods.keys().filter(|name| waits(service, name)).cloned().collect();
    for name in names {
        if let Some(handler) = methods.methods.remove(&name) {
            methods.methods.insert(name, Box::new(Waiting { booting: booting.clone(), handler }));
        }
    }
    methods
}

struct Waiting {
    booting: Booting,
    handler: Box<dyn MethodHandler + Send + Sync>,
}

#[async_trait]
impl MethodHandler for Waiting {
    /// What nobody waits for any longer is not begun.
    async fn handler(&self, ctx: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        let completed = tokio::select! {
            biased;
            completed = self.booting.over() => completed,
            () = Caller::current().gone() => return Err(refuse(Code::CANCELLED, "the client has gone")),
            () = deadline(ctx.timeout_nano) => return Err(too_late("the guest is still booting")),
        };
        match completed {
            true => self.handler.handler(ctx, request).await,
            false => Err(stopping()),
        }
    }
}

/// Waits for as long as the client does: for ever where it gives no time.
async fn deadline(timeout_nano: i64) {
    match patience(timeout_nano) {
        Some(patience) => tokio::time::sleep(patience).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use tokio::sync::watch;
    use ttrpc::MessageHeader;

    use super::*;

    #[test]
    fn what_needs_the_boot_waits_and_what_looks_or_stops_does_not() {
        let check = |waiting, service, methods: &[&str]| {
            for method in methods {
                assert_eq!(waits(service, method), waiting, "{service} {method}");
            }
        };
        check(true, service::TASK_V3, &["Create"]);
        check(false, service::TASK_V3, &["State", "Wait", "Kill", "Delete", "Connect", "Shutdown"]);
        check(true, service::BUNDLE, &["Create"]);
        check(true, service::NETWORK, &["Apply", "Get"]);
        check(true, service::SYSTEM, &["FreezeFilesystems", "OnlineMemory"]);
        check(false, service::SYSTEM, &["Info", "PrepareShutdown"]);
        check(false, service::STDIO, &["WriteStdin"]);
    }

    struct Answers;

    #[async_trait]
    impl MethodHandler for Answers {
        async fn handler(&self, _: TtrpcContext, _: Request) -> ttrpc::Result<Response> {
            Ok(Response::new())
        }
    }

    /// What becomes of a Create with this timeout while `meanwhile` goes on; `Ok` if it was begun.
    async fn created(
        booting: &Booting,
        timeout_nano: i64,
        gone: watch::Receiver<bool>,
        meanwhile: impl std::future::Future<Output = ()>,
    ) -> Result<(), Code> {
        let mut methods = Service { methods: HashMap::new(), streams: HashMap::new() };
        methods.methods.insert("Create".to_owned(), Box::new(Answers));
        let methods = waiting(service::TASK_V3, methods, booting);
        let (mh, metadata) = (MessageHeader::default(), HashMap::new());
        let ctx = TtrpcContext { mh, metadata, timeout_nano, connection_data: Arc::default() };
        let call = Caller::new(gone).scope(methods.methods["Create"].handler(ctx, Request::new()));
        match tokio::join!(call, meanwhile).0 {
            Ok(_) => Ok(()),
            Err(ttrpc::Error::RpcStatus(status)) => Err(status.code()),
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_begun_when_the_boot_is_over_and_not_when_nobody_waits_for_it_any_more() {
        let (left, here) = watch::channel(false);
        let nothing = || std::future::ready(());
        let booting = Booting::default();
        assert_eq!(created(&booting, 1_000, here.clone(), nothing()).await, Err(Code::DEADLINE_EXCEEDED));
        assert_eq!(created(&booting, 0, here.clone(), async { booting.end() }).await, Ok(()));
        assert_eq!(created(&booting, 1_000, here.clone(), nothing()).await, Ok(()));

        let booting = Booting::default();
        assert_eq!(
            created(&booting, 0, here.clone(), async { booting.give_up() }).await,
            Err(Code::UNAVAILABLE)
        );
        let leaves = async {
            left.send_replace(true);
        };
        assert_eq!(created(&Booting::default(), 0, here, leaves).await, Err(Code::CANCELLED));
    }
}
