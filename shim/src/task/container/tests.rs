//! Exits on their way from the guest, or from the end of its machine, to those who wait.

use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{timeout, Instant};

use super::*;
use crate::events::Stdio;
use crate::hooks::{ContainerState, Status as HookStatus};
use crate::state::State;
use crate::stdio::{Ends, GuestEnds, Owner, StdioSpec};
use crate::task::Status;

const SOON: Duration = Duration::from_secs(10);
const HOLDER: u32 = 4321;

/// A container whose init has a log file for its output.
struct World {
    dir: TempDir,
    container: Arc<Container>,
    /// The guest's end of the init's output.
    init: Option<UnixStream>,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let (relays, init) = output(&dir, "init").await;
        let state = ContainerState {
            oci_version: String::new(),
            id: "c".into(),
            status: HookStatus::Creating,
            pid: None,
            bundle: dir.path().into(),
            annotations: BTreeMap::new(),
        };
        let record = Record::begin(dir.path().join("run"), State::new("n".into(), state)).unwrap();
        let names = Names { container_id: "c".into(), init_pid: HOLDER, ..Names::default() };
        // Nobody listens there: what is published waits.
        let publisher = Publisher::start(&dir.path().join("none").to_string_lossy(), "n");
        let container = Arc::new(Container::new(names, publisher, Arc::new(record), relays));
        World { dir, container, init: Some(init) }
    }

    async fn exec(&self, id: &str) -> UnixStream {
        let (relays, guest) = output(&self.dir, id).await;
        self.container.add(id, Process::new(Stdio::default(), relays));
        guest
    }

    async fn exit(&self, id: &str) -> Exit {
        let mut exit = self.container.watch(id).unwrap();
        let exit = timeout(SOON, exit.wait_for(Option::is_some)).await.unwrap().unwrap();
        exit.unwrap()
    }

    fn status(&self, id: &str) -> Status {
        self.container.snapshot(id).unwrap().status
    }
}

/// Relays for one output, and the guest's end of it.
async fn output(dir: &TempDir, name: &str) -> (Relays, UnixStream) {
    let uri = format!("file://{}", dir.path().join(name).display());
    let spec = StdioSpec::parse(false, "", &uri, "").unwrap();
    let ends = Ends::open(&spec, Owner { namespace: "n", id: name }).await.unwrap();
    let (guest, host) = UnixStream::pair().unwrap();
    (ends.relay(GuestEnds { stdout: Some(host), ..GuestEnds::default() }), guest)
}

#[tokio::test]
async fn an_exit_is_told_when_the_output_has_been_written() {
    let mut world = World::new().await;
    world.container.created();
    world.container.started(INIT, 7);
    world.container.hear(exit_of("c", 3));
    assert_eq!(world.status(INIT), Status::Running);
    let mut guest = world.init.take().unwrap();
    guest.write_all(b"last words").await.unwrap();
    drop(guest);
    assert_eq!((world.exit(INIT).await.status, world.status(INIT)), (3, Status::Stopped));
    assert_eq!(std::fs::read(world.dir.path().join("init")).unwrap(), b"last words");
}

#[tokio::test(start_paused = true)]
async fn an_output_that_does_not_end_holds_an_exit_up_for_a_bounded_time() {
    let world = World::new().await;
    world.container.created();
    let begin = Instant::now();
    world.container.ended(INIT, 0);
    world.exit(INIT).await;
    assert!((EXIT_DRAIN..EXIT_DRAIN * 2).contains(&begin.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn the_inits_exit_comes_after_those_of_its_execs() {
    let mut world = World::new().await;
    world.container.created();
    let guest = world.exec("e").await;
    world.container.started("e", 8);
    world.container.hear(exit_of("e", 1));
    world.container.hear(exit_of("c", 0));
    drop(world.init.take());
    // The init's own output has ended; it is the exec's that does not.
    let begin = Instant::now();
    world.exit(INIT).await;
    assert!(begin.elapsed() >= EXIT_DRAIN);
    assert_eq!(world.status("e"), Status::Stopped);
    drop(guest);
}

#[tokio::test]
async fn the_end_of_a_machine_is_told_once_for_each_process_that_ran() {
    let mut world = World::new().await;
    world.container.created();
    let (ran, never) = (world.exec("ran").await, world.exec("never").await);
    world.container.started("ran", 8);
    drop((ran, never, world.init.take()));
    world.container.ended("ran", 5);
    world.container.all_ended(255);
    assert_eq!(world.exit("ran").await.status, 5);
    assert_eq!(world.exit(INIT).await.status, 255);
    assert_eq!(world.status("never"), Status::Created);
}

#[tokio::test]
async fn the_end_of_a_machine_before_the_container_was_created_tells_nothing() {
    let mut world = World::new().await;
    drop(world.init.take());
    world.container.all_ended(255);
    // What there was to be told would be on its way by now.
    world.container.exits.close();
    timeout(SOON, world.container.exits.wait()).await.unwrap();
    assert_eq!(world.container.snapshot(INIT).unwrap().exit, None);
}

#[tokio::test]
async fn an_exit_is_on_record_for_whoever_cleans_up() {
    let mut world = World::new().await;
    world.container.created();
    drop(world.init.take());
    world.container.hear(exit_of("c", 42));
    let told = world.exit(INIT).await;
    let state = State::load(&world.dir.path().join("run")).unwrap().unwrap();
    assert_eq!((state.exit, told.status), (Some(told), 42));
}

#[tokio::test]
async fn a_record_begins_neither_over_another_nor_with_what_one_has_left() {
    let world = World::new().await;
    let (dir, state) = (world.dir.path().join("run"), world.container.record.state());
    assert!(matches!(Record::begin(dir.clone(), state.clone()), Err(TaskError::Left(_))));
    std::fs::remove_file(dir.join("state.json")).unwrap();
    std::fs::write(dir.join("poststop"), ".").unwrap();
    Record::begin(dir.clone(), state).unwrap();
    assert!(dir.join("state.json").exists() && !dir.join("poststop").exists());
}

#[tokio::test]
async fn pids_name_the_holder_for_the_init_and_no_process_of_the_host_for_others() {
    let world = World::new().await;
    world.container.started(INIT, 7);
    let _guest = world.exec("e").await;
    assert_eq!(world.container.started("e", 8), (1 << 22) + 8);
    assert_eq!((world.container.report_pid(7), world.container.report_pid(8)), (HOLDER, (1 << 22) + 8));
    assert_eq!(world.container.snapshot("e").unwrap().pid, (1 << 22) + 8);
}

/// As the guest tells it.
fn exit_of(id: &str, status: u32) -> Guest {
    let at = std::time::UNIX_EPOCH;
    Guest::Exit { container_id: "c".into(), id: id.into(), pid: 7, status, exited_at: at }
}
