//! One process is killed at a random moment, again and again; after each time everything can be removed, and is. Owns
//! the choice of victim and moment; what is left is found by `traces`.
//!
//! `VMINIT_CHAOS` says how much of it there is among many, as `50x10`: rounds, and machines in each. `VMINITD_SEED`
//! repeats a run.

use std::env;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use vminit_shim::state::Role;
use vminitd_test_support::chance::{seed, Chance};

use crate::alone::alone_for;
use crate::parts::{kill_hard, recorded};
use crate::until::until;
use crate::world::{Said, World, IMAGE, PATIENCE};

/// What a machine may take in a round: they share the processors when they boot.
const MACHINE: Duration = Duration::from_secs(30);

/// Who is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Part(Role),
    Containerd,
}

const VICTIMS: [Victim; 6] = [
    Victim::Part(Role::Shim),
    Victim::Part(Role::Qemu),
    Victim::Part(Role::Virtiofsd),
    Victim::Part(Role::Vsock),
    Victim::Part(Role::Holder),
    Victim::Containerd,
];

/// What the victim's container is doing then.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Create,
    Running,
    Exec,
    Delete,
}

/// Each with the milliseconds within which it is over: a machine boots in some seconds, a call takes a fraction of one.
const MOMENTS: [(Moment, u64); 4] =
    [(Moment::Create, 4000), (Moment::Running, 50), (Moment::Exec, 400), (Moment::Delete, 400)];

#[test]
fn nothing_is_left_whoever_dies() {
    alone_for(limit(3, 2), async |world| rounds(world, 3, 2).await);
}

#[test]
#[ignore = "it takes an hour"]
fn nothing_is_left_whoever_dies_among_many() {
    let asked = env::var("VMINIT_CHAOS").unwrap_or_else(|_| "50x10".to_owned());
    let (count, machines) = asked.split_once('x').expect("VMINIT_CHAOS is like 50x10");
    let number = |text: &str| text.parse().expect("VMINIT_CHAOS has two numbers");
    let (count, machines) = (number(count), number(machines));
    alone_for(limit(count, machines), async |world| rounds(world, count, machines).await);
}

fn limit(count: u32, machines: u32) -> Duration {
    MACHINE * count * machines
}

async fn rounds(world: &mut World, count: u32, machines: u32) {
    if !world.has_machines() {
        return;
    }
    let seed = seed();
    eprintln!("VMINITD_SEED={seed}");
    for round in 0..count {
        let mut chance = Chance::new(seed, round.into());
        let (victim, moment) = (chance.pick(&VICTIMS), chance.pick(&MOMENTS));
        eprintln!("round {round}: {victim:?} dies in {moment:?}");
        play(world, machines, victim, moment, &mut chance).await;
        world.is_clean().await;
    }
}

/// One round, up to the removal of all that was made in it.
async fn play(world: &mut World, machines: u32, victim: Victim, moment: (Moment, u64), chance: &mut Chance) {
    let ids: Vec<String> = (0..machines).map(|number| format!("c{number}")).collect();
    let target = &ids[chance.below(machines.into()) as usize];
    let delay = Duration::from_millis(chance.below(moment.1));
    let containerd = world.containerd_pid();
    let die = async {
        // The moment is what is left to chance.
        sleep(delay).await;
        let pid = match victim {
            Victim::Part(role) => recorded(target, role),
            Victim::Containerd => containerd,
        };
        if let Some(pid) = pid {
            kill_hard(pid);
        }
    };
    let boot = async || drop(join_all(ids.iter().map(|id| start(world, id))).await);
    if !matches!(moment.0, Moment::Create) {
        boot().await;
    }
    let exec = ["task", "exec", "--exec-id", "e1", target, "sh", "-c", "echo in; sleep 0.1"];
    let act = async {
        match moment.0 {
            Moment::Create => boot().await,
            Moment::Running => {}
            Moment::Exec => drop(world.ctr(&exec).await),
            Moment::Delete => drop(world.ctr(&["task", "rm", "--force", target]).await),
        }
    };
    tokio::join!(act, die);
    if matches!(victim, Victim::Containerd) {
        world.kill_containerd().await;
        world.start_containerd().await;
    }
    join_all(ids.iter().map(|id| removed(world, id))).await;
}

/// Runs a container, or fails to.
async fn start(world: &World, id: &str) {
    world.ctr(&["run", "--detach", "--runtime", &world.runtime, IMAGE, id, "sleep", "1000"]).await;
}

/// Removes a container and all that is containerd's of it, until there is nothing.
async fn removed(world: &World, id: &str) {
    let gone = async || {
        world.ctr(&["task", "rm", "--force", id]).await;
        world.ctr(&["container", "rm", id]).await;
        // Left by a `ctr run` that failed between snapshot and container.
        world.ctr(&["snapshot", "rm", id]).await;
        let task = world.tasks().await.remove(id);
        let containers = world.ctr(&["container", "ls", "--quiet"]).await.succeeds();
        match (task, containers.lines().any(|line| line == id)) {
            (None, false) => Ok(()),
            left => Err(format!("the task and container {id} are {left:?}")),
        }
    };
    until(PATIENCE, gone).await;
}
