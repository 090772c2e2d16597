//! containerd is killed and comes back while a task runs.

use std::fs;
use std::path::Path;

use ttrpc::asynchronous::Client;
use ttrpc::context::with_duration;
use vminit_shim::api::containerd::api::{DeleteRequest, KillRequest, WaitRequest};
use vminit_shim::api::containerd::shim_async::TaskClient;

use crate::alone::alone;
use crate::traces::bundles;
use crate::until::until;
use crate::world::{text, Said, DIR, PATIENCE, SOON};

#[test]
fn a_task_outlives_containerd_and_loses_nothing() {
    alone(async |world| {
        let (output, signs) = (Path::new(DIR).join("output"), Path::new(DIR).join("signs"));
        fs::create_dir(&signs).expect("make a folder");
        let sign = |name: &str| fs::write(signs.join(name), "").expect("give a sign");
        let uri = format!("file://{}", output.display());
        let mount = format!("type=bind,src={},dst=/signs,options=rbind:ro", signs.display());
        let wait = |name: &str| format!("until [ -e /signs/{name} ]; do sleep 0.02; done");
        let (away, back) = (wait("away"), wait("back"));
        let script = format!("seq 1 100; {away}; seq 101 200; {back}; seq 201 300; exit 4");
        let flags = ["--detach", "--log-uri", &uri, "--mount", &mount];
        world.ctr(&world.run(&flags, "c1", &["sh", "-c", &script])).await.succeeds();
        reaches(&output, 100).await;
        world.kill_containerd().await;
        sign("away");
        reaches(&output, 200).await;
        world.start_containerd().await;
        assert_eq!(world.tasks().await["c1"], "RUNNING");
        sign("back");
        world.becomes("c1", "STOPPED", SOON).await;
        assert_eq!(world.delete("c1").await, 4);
        let expected: String = (1..=300).map(|line| format!("{line}\n")).collect();
        assert_eq!(fs::read_to_string(output).expect("read the output"), expected);
    });
}

#[test]
fn an_end_that_containerd_does_not_see_is_seen_later() {
    alone(async |world| {
        let signs = Path::new(DIR).join("signs");
        fs::create_dir(&signs).expect("make a folder");
        let mount = format!("type=bind,src={},dst=/signs,options=rbind:rw", signs.display());
        let script = "until [ -e /signs/end ]; do sleep 0.02; done; echo > /signs/ended; exit 5";
        world.ctr(&world.run(&["--detach", "--mount", &mount], "c1", &["sh", "-c", script])).await.succeeds();
        world.kill_containerd().await;
        fs::write(signs.join("end"), "").expect("give a sign");
        reaches(&signs.join("ended"), 1).await;
        world.start_containerd().await;
        world.becomes("c1", "STOPPED", SOON).await;
        assert_eq!(world.delete("c1").await, 5);
    });
}

#[test]
fn a_task_is_entered_after_containerd_came_back() {
    alone(async |world| {
        world.detach("c1", &["sleep", "1000"]).await;
        world.kill_containerd().await;
        world.start_containerd().await;
        assert_eq!(world.tasks().await["c1"], "RUNNING");
        let exec = world.exec("c1", &["sh", "-c", "echo in; exit 9"]).await;
        assert_eq!((text(&exec.stdout).as_str(), exec.status.code()), ("in\n", Some(9)), "{exec:?}");
        world.kill_containerd().await;
        world.start_containerd().await;
        world.ctr(&["task", "kill", "--signal", "KILL", "c1"]).await.succeeds();
        world.becomes("c1", "STOPPED", SOON).await;
        assert_eq!(world.delete("c1").await, 137);
    });
}

/// containerd 1.6 takes up a shim that has no task, and never calls it again.
#[test]
fn a_shim_that_lost_its_task_while_containerd_was_away_ends() {
    alone(async |world| {
        if !world.has_machines() {
            return;
        }
        world.detach("c1", &["sleep", "1000"]).await;
        world.kill_containerd().await;
        let address = fs::read_to_string(Path::new(&bundles()).join("c1/address")).expect("read the address");
        let task = TaskClient::new(Client::connect(&address).await.expect("connect to the shim"));
        let id = || "c1".to_owned();
        let soon = || with_duration(PATIENCE);
        task.kill(soon(), &KillRequest { id: id(), signal: 9, ..Default::default() }).await.expect("kill");
        task.wait(soon(), &WaitRequest { id: id(), ..Default::default() }).await.expect("wait");
        task.delete(soon(), &DeleteRequest { id: id(), ..Default::default() }).await.expect("delete");
        drop(task);
        world.start_containerd().await;
        world.remove("c1").await;
    });
}

/// Waits until the file has so many lines.
async fn reaches(file: &Path, lines: usize) {
    let enough = async || match fs::read_to_string(file).unwrap_or_default().lines().count() {
        count if count >= lines => Ok(()),
        count => Err(format!("{} has {count} lines, not {lines}", file.display())),
    };
    until(SOON, enough).await;
}
