//! A bundle has one container at a time, whatever name it goes by: the Delete of one of two would take the root file
//! system from under the other.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::INIT;
use vminit_shim::spec;
use vminitd_test_support::calls::{create_in, status};
use vminitd_test_support::Daemon;

#[tokio::test]
async fn a_bundle_is_not_shared() {
    let daemon = Daemon::with_fake_runc().await;
    let guest = daemon.guest().await;
    let bundle = guest.bundle("b", &spec::container(&["forever"])).await.expect("bundle");
    let alias = daemon.dir().join("alias");
    symlink(&bundle, &alias).expect("make a link");
    daemon.script(&json!({"create": {"bad": {"fail": "no"}}}));
    create_in(&guest, "bad", &bundle).await.expect_err("runc fails");
    create_in(&guest, "c1", &bundle).await.expect("create after one that failed");
    for taken in [&bundle, alias.to_str().expect("a text"), &format!("{bundle}/.")] {
        assert_eq!(create_in(&guest, "c2", taken).await, Err(Code::FAILED_PRECONDITION), "{taken}");
    }
    status(&guest, "c1", INIT).await;
    assert!(fs::exists(&bundle).expect("look"));
    guest.delete("c1", INIT).await.expect("delete");
    assert!(!fs::exists(&bundle).expect("look"));
    let bundle = guest.bundle("b", &spec::container(&["forever"])).await.expect("bundle");
    create_in(&guest, "c2", &bundle).await.expect("create");
    daemon.stop().await;
}
