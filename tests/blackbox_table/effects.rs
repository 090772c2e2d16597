//! What the table cannot say: the values behind an answer, and what the kernel has done.

use std::fs;
use std::path::PathBuf;

use vminit_shim::api::containerd::api::{CheckpointTaskRequest, Status};
use vminit_shim::api::containerd::shim::oci::ProcessDetails;
use vminit_shim::api::protobuf::Message;
use vminit_shim::api::ttrpc;
use vminit_shim::client::INIT;
use vminitd_test_support::calls::{brief, exec, pids, state};
use vminitd_test_support::{poll_until, rootfs, LIMIT};

use crate::call::{Answer, Method};
use crate::rig::{Rig, EXEC};
use crate::{criu_is_there, table};

#[tokio::test]
async fn a_checkpoint_without_criu_says_what_is_missing() {
    if criu_is_there() {
        return eprintln!("skipped: this machine has criu");
    }
    let rig = Rig::on_fake_runc().await;
    rig.running("c").await;
    let path = rig.daemon.dir().join("image").display().to_string();
    let request = CheckpointTaskRequest { id: "c".into(), path, ..Default::default() };
    let refused = rig.guest.client.task().checkpoint(brief(), &request).await.expect_err("there is no criu");
    let ttrpc::Error::RpcStatus(status) = refused else { panic!("not an answer: {refused}") };
    assert!(status.message().contains("criu"), "{}", status.message());
    rig.daemon.stop().await;
}

#[tokio::test]
async fn an_update_reaches_runc_as_it_was_sent() {
    let rig = Rig::on_fake_runc().await;
    rig.running("c").await;
    assert_eq!(Method::Update(table::LIMIT).call(&rig, "c", INIT).await, Answer::Done);
    let kept = fs::read_to_string(rig.daemon.dir().join("runc/c/resources.json")).expect("the fake keeps it");
    assert_eq!(Some(kept.as_str()), table::LIMIT);
    rig.daemon.stop().await;
}

#[tokio::test]
async fn pids_tell_execs_from_the_rest() {
    let rig = Rig::on_fake_runc().await;
    rig.running("c").await;
    exec(&rig.guest, "c", EXEC, &["forever"]).await.expect("exec");
    let exec_pid = rig.guest.start("c", EXEC).await.expect("start");
    let init_pid = state(&rig.guest, "c", INIT).await.expect("state").pid;
    let mut named: Vec<(u32, Option<String>)> = Vec::new();
    for process in pids(&rig.guest, "c").await.expect("pids") {
        let details = process.info.into_option();
        let exec_id = details.map(|any| {
            assert_eq!(any.type_url, "containerd.runc.v1.ProcessDetails");
            ProcessDetails::parse_from_bytes(&any.value).expect("details").exec_id
        });
        named.push((process.pid, exec_id));
    }
    assert_eq!(named, [(init_pid, None), (exec_pid, Some(EXEC.to_owned()))]);
    rig.guest.kill("c", EXEC, 9).await.expect("kill");
    rig.daemon.stop().await;
}

#[tokio::test]
async fn an_exit_is_told_with_the_same_time_by_wait_state_and_delete() {
    let rig = Rig::on_fake_runc().await;
    rig.running("c").await;
    exec(&rig.guest, "c", EXEC, &["exit", "3"]).await.expect("exec");
    rig.guest.start("c", EXEC).await.expect("start");
    let first = rig.guest.wait("c", EXEC).await.expect("wait");
    assert_eq!(rig.guest.wait("c", EXEC).await.expect("wait again"), first);
    let told = state(&rig.guest, "c", EXEC).await.expect("state");
    let seconds = first.at.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert_eq!((told.exit_status, told.exited_at.seconds as u64), (3, seconds));
    assert_eq!(rig.guest.delete("c", EXEC).await.expect("delete"), first);
    rig.daemon.stop().await;
}

async fn a_killed_container_is_deleted_though_it_was_paused(rig: Rig) {
    let id = "killed";
    rig.running(id).await;
    assert_eq!(Method::Pause.call(&rig, id, INIT).await, Answer::Done);
    rig.guest.kill(id, INIT, 9).await.expect("kill");
    assert_eq!(rig.guest.wait(id, INIT).await.expect("wait").status, 137);
    assert_eq!(rig.guest.delete(id, INIT).await.expect("delete").status, 137);
    assert_eq!(rig.told(id).await, ["create", "start", "paused", "exit 137", "delete"]);
    rig.daemon.stop().await;
}

#[tokio::test]
async fn a_paused_container_ends_and_goes_with_the_fake_runc() {
    a_killed_container_is_deleted_though_it_was_paused(Rig::on_fake_runc().await).await;
}

#[tokio::test]
async fn a_paused_container_ends_and_goes_with_the_real_runc() {
    let Some(rig) = Rig::on_real_runc("killed").await else { return };
    a_killed_container_is_deleted_though_it_was_paused(rig).await;
}

// ---- what the kernel has done

/// A file of the container's cgroup: below the controller's own hierarchy (v1), or the only one (v2).
fn cgroup_file(rig: &Rig, controller: &str, id: &str, file: &str) -> PathBuf {
    let name = format!("{}{id}", rootfs::cgroup_prefix(rig.daemon.dir()));
    let hierarchy = PathBuf::from("/sys/fs/cgroup").join(controller);
    let v1 = hierarchy.join(&name).join(file);
    if hierarchy.is_dir() {
        v1
    } else {
        PathBuf::from("/sys/fs/cgroup").join(name).join(file)
    }
}

async fn reads(path: PathBuf, wanted: &str) {
    let look = || match fs::read_to_string(&path) {
        Ok(text) if text.trim() == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    };
    poll_until(LIMIT, &format!("{} says {wanted}", path.display()), look).await;
}

#[tokio::test]
async fn an_update_sets_the_limit_and_a_pause_freezes() {
    let Some(rig) = Rig::on_real_runc("effects").await else { return };
    rig.running("effects").await;
    let pids_max = cgroup_file(&rig, "pids", "effects", "pids.max");
    assert_eq!(Method::Update(table::LIMIT).call(&rig, "effects", INIT).await, Answer::Done);
    reads(pids_max, "64").await;

    let (file, frozen, thawed) = match cgroup_file(&rig, "freezer", "effects", "freezer.state") {
        v1 if v1.exists() => (v1, "FROZEN", "THAWED"),
        _ => (cgroup_file(&rig, "freezer", "effects", "cgroup.freeze"), "1", "0"),
    };
    assert_eq!(Method::Pause.call(&rig, "effects", INIT).await, Answer::Done);
    reads(file.clone(), frozen).await;
    assert_eq!(Method::State.call(&rig, "effects", INIT).await, Answer::Is(Status::PAUSED));
    assert_eq!(Method::Resume.call(&rig, "effects", INIT).await, Answer::Done);
    reads(file, thawed).await;
    rig.daemon.stop().await;
}
