//! Checkpoints by runc and criu, with the image that `./taskw test:vm` builds where criu can be had.

use vminit_shim::api::containerd::api::{CheckpointTaskRequest, Status};
use vminit_shim::api::ttrpc::Code;
use vminit_shim::client::INIT;
use vminit_shim::spec;
use vminitd_test_support::calls::{brief, rpc_code, status};
use vminitd_test_support::EventLog;

use crate::machine::{build_folder, Machine};
use crate::observer::Observer;

const IMAGES: &str = "/run/images";

#[tokio::test]
async fn a_checkpoint_leaves_images_and_the_container_running() {
    let Some(initrd) = build_folder().map(|build| build.join("initrd-criu.img")) else { return };
    if !initrd.exists() {
        eprintln!("skipped: {} is missing; ./taskw test:vm makes it", initrd.display());
        return;
    }
    let Some(machine) = Machine::boot(|config| config.initrd = initrd).await else { return };
    let events = EventLog::subscribe(&machine.guest).await;
    let observer = Observer::start(&machine).await;
    machine.start("c", &spec::container(&["/bin/sleep", "1000"])).await;
    checkpoint(&machine, "c")
        .await
        .unwrap_or_else(|code| panic!("{code:?}; the console:\n{}", machine.console()));
    // The memory of its processes, and the file that criu writes when all else is there.
    let images = observer.run_beside_pid_1(&format!("ls {IMAGES}")).await;
    assert!(images.contains("pages-1.img") && images.contains("inventory.img"), "{images}");
    assert_eq!(status(&machine.guest, "c", INIT).await, Status::RUNNING);
    machine.remove("c").await;
    assert_eq!(events.until("c", "delete").await, ["create", "start", "checkpointed", "exit 137", "delete"]);
    observer.stop().await;
    machine.power_off().await;
}

#[tokio::test]
async fn an_image_without_criu_refuses_a_checkpoint_and_the_container_runs_on() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    machine.start("c", &spec::container(&["/bin/sleep", "1000"])).await;
    assert_eq!(checkpoint(&machine, "c").await, Err(Code::FAILED_PRECONDITION));
    assert_eq!(status(&machine.guest, "c", INIT).await, Status::RUNNING);
    machine.remove("c").await;
    machine.power_off().await;
}

async fn checkpoint(machine: &Machine, id: &str) -> Result<(), Code> {
    let request = CheckpointTaskRequest { id: id.into(), path: IMAGES.into(), ..Default::default() };
    machine.guest.client.task().checkpoint(brief(), &request).await.map(drop).map_err(rpc_code)
}
