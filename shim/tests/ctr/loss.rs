//! One process of a container's is killed: what containerd is told of it, and that the rest goes with it.

use std::time::Duration;

use vminit_shim::state::Role;

use crate::alone::alone;
use crate::parts::{kill_hard, part};
use crate::until::until;
use crate::world::{Said, World, SOON};

/// In which a death of the VM is the task's.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn the_death_of_qemu_is_the_tasks() {
    alone(async |world| is_the_tasks(world, Role::Qemu, 255, "QEMU was killed by signal 9").await);
}

#[test]
fn the_death_of_the_file_system_is_the_tasks() {
    alone(async |world| is_the_tasks(world, Role::Virtiofsd, 255, "virtiofsd was killed by signal 9").await);
}

#[test]
fn the_death_of_the_vsock_backend_is_the_tasks() {
    alone(async |world| {
        is_the_tasks(world, Role::Vsock, 255, "the vsock backend was killed by signal 9").await
    });
}

#[test]
fn the_death_of_the_holder_is_the_tasks() {
    alone(async |world| {
        is_the_tasks(world, Role::Holder, 137, "the process that stands for the container was killed").await
    });
}

/// Kills a part of a running container, whose task stops with this status at once, for a reason that the log names.
async fn is_the_tasks(world: &World, role: Role, status: u32, reason: &str) {
    if !world.has_machines() {
        return;
    }
    world.detach("c1", &["sleep", "1000"]).await;
    let before = world.log().len();
    kill_hard(part("c1", role).await);
    world.becomes("c1", "STOPPED", AT_ONCE).await;
    assert!(world.log()[before..].contains(reason), "the log does not say that {reason}");
    assert_eq!(world.delete("c1").await, status);
}

#[test]
fn a_shim_that_is_killed_takes_everything_with_it() {
    alone(async |world| {
        if !world.has_machines() {
            return;
        }
        world.detach("c1", &["sleep", "1000"]).await;
        kill_hard(part("c1", Role::Shim).await);
        gone(world).await;
    });
}

#[test]
fn a_shim_that_is_killed_while_containerd_is_away_is_cleaned_up_after() {
    alone(async |world| {
        if !world.has_machines() {
            return;
        }
        world.detach("c1", &["sleep", "1000"]).await;
        let shim = part("c1", Role::Shim).await;
        world.kill_containerd().await;
        kill_hard(shim);
        world.start_containerd().await;
        gone(world).await;
    });
}

/// Waits until containerd has no task `c1` that runs, and removes what it has.
async fn gone(world: &World) {
    let stopped = async || match world.tasks().await.remove("c1") {
        Some(status) if status != "STOPPED" => Err(format!("c1 is {status} without its shim")),
        _ => Ok(()),
    };
    until(SOON, stopped).await;
    if world.tasks().await.contains_key("c1") {
        world.ctr(&["task", "rm", "--force", "c1"]).await;
    }
    world.remove("c1").await;
    assert_eq!(world.ctr(&["container", "ls", "--quiet"]).await.succeeds(), "");
}
