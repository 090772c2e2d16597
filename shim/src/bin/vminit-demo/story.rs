//! What the demo does and what it expects of each step. Owns the order; `screen` says how it looks.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinHandle;
use vminit_shim::api::containerd::api::{Empty, Mount};
use vminit_shim::client::{
    context, ClientError, Container, Event, EventStream, Exec, Guest, Received, Stdio, Stream, INIT,
};
use vminit_shim::spec;
use vminit_shim::vm::{Disk, ExitReason, Vm, VmConfig};

use crate::error::DemoError;
use crate::screen::Screen;

/// An emulated boot takes 2 s on an idle machine.
const BOOT: Duration = Duration::from_secs(60);
/// Each part of the story; a container's start takes half a second in emulation.
const STEP: Duration = Duration::from_secs(60);
const SERIAL: &str = "rootfs";
const SIGKILL: u32 = 9;
/// How much of the console is quoted when something hangs.
const CONSOLE_LINES: usize = 30;

const FIRST: &str = "first";
const SECOND: &str = "second";
const EXEC: &str = "visitor";

/// Every event of the story, in order, as [`name`] writes them.
const EVENTS: [&str; 11] = [
    "create first",
    "start first",
    "exit first/first status 7",
    "delete first status 7",
    "create second",
    "start second",
    "exec-added second/visitor",
    "exec-started second/visitor",
    "exit second/visitor status 0",
    "exit second/second status 137",
    "delete second status 137",
];

/// The story's stage: a guest, and how long each step took so far.
struct Stage<'a> {
    guest: Guest,
    screen: &'a Screen,
    took: Vec<(&'static str, Duration)>,
}

/// Runs the whole demo.
pub async fn tell(build: &Path, screen: &Screen) -> Result<(), DemoError> {
    let dir = tempfile::tempdir().map_err(|source| DemoError::Io { what: "make a folder", source })?;
    let disk = copy_of_the_rootfs(build, dir.path())?;
    screen.heading("Boot");
    let mut vm =
        Vm::launch(VmConfig { disks: vec![disk], ..VmConfig::new(build, dir.path().join("vm")) }).await?;
    screen.boot(if vm.has_kvm() { "QEMU runs, with KVM" } else { "QEMU runs, emulating the processor" });
    let mut stage = boot(&vm, screen).await?;
    let events = tokio::spawn(watch(stage.guest.client.events().await?, *screen));
    in_time("end the first container", &vm, stage.first()).await?;
    in_time("end the second container", &vm, stage.second()).await?;
    screen.heading("Power off");
    in_time("shut down", &vm, stage.shutdown()).await?;
    let asked = Instant::now();
    let reason = vm.wait_exit(STEP).await?;
    screen.boot(&format!("QEMU ended: {reason:?}"));
    stage.took.push(("power off", asked.elapsed()));
    expect("the end of the virtual machine", &ExitReason::GuestShutdown, &reason)?;
    let seen = in_time("end the event stream", &vm, async { Ok(joined(events).await) }).await?;
    expect("the order of events", &EVENTS.map(str::to_string).to_vec(), &seen)?;
    screen.heading("What took how long");
    stage.took.iter().for_each(|(what, time)| screen.took(what, *time));
    Ok(())
}

fn copy_of_the_rootfs(build: &Path, dir: &Path) -> Result<Disk, DemoError> {
    let path = dir.join("rootfs.ext4");
    fs::copy(build.join("rootfs.ext4"), &path)
        .map_err(|source| DemoError::Io { what: "copy rootfs.ext4 from the build folder", source })?;
    Ok(Disk { path, serial: SERIAL.to_string(), read_only: false })
}

/// Shows the milestones until the guest answers.
async fn boot<'a>(vm: &Vm, screen: &'a Screen) -> Result<Stage<'a>, DemoError> {
    let launched = Instant::now();
    let mut took = Vec::new();
    let milestones = async {
        let mut index = 0;
        while let Some(milestone) = vm.milestone(index).await {
            let (phase, uptime_us) = (&milestone.phase, milestone.uptime_us);
            screen.boot(&format!("{phase}, {:.1} ms after the kernel's start", uptime_us as f64 / 1e3));
            if index == 0 {
                took.push(("boot, launch to PID 1", milestone.at));
            }
            if phase == "first-accept" {
                return Ok(());
            }
            index += 1;
        }
        Err(DemoError::Unexpected {
            what: "the end of the boot".to_string(),
            expected: "the milestone first-accept".to_string(),
            got: format!("the end of the console:\n{}", console_tail(vm)),
        })
    };
    let connect = async { Ok(Guest::connect(vm.rpc(), vm.stream(), BOOT).await?) };
    let (guest, ()) = in_time("boot", vm, async { tokio::try_join!(connect, milestones) }).await?;
    took.push(("boot, launch to the first answer", launched.elapsed()));
    let info = guest.client.system().info(context(STEP, "default"), &Empty::new()).await;
    let info = info.map_err(|source| ClientError::Rpc { call: "System.Info", source })?;
    screen.info(&format!("vminitd {}, {}", info.version, info.kernel_version.trim_end()));
    Ok(Stage { guest, screen, took })
}

impl Stage<'_> {
    /// Prints on both outputs and exits with 7.
    async fn first(&mut self) -> Result<(), DemoError> {
        self.screen.heading("A container that exits by itself");
        let args = ["/bin/sh", "-c", "echo hello from a container; echo and its complaint >&2; exit 7"];
        let output = self.create(FIRST, &args).await?;
        self.start(FIRST, INIT, "start").await?;
        self.exit(FIRST, INIT, 7).await?;
        self.delete(FIRST, INIT, "delete").await?;
        output.expect("hello from a container\n", "and its complaint\n").await
    }

    /// Sleeps, is visited by an exec, and is killed.
    async fn second(&mut self) -> Result<(), DemoError> {
        self.screen.heading("A container with a visitor, killed afterwards");
        let output = self.create(SECOND, &["/bin/sleep", "1000"]).await?;
        self.start(SECOND, INIT, "start, again").await?;
        let stdio = self.guest.stdio(false).await?;
        let process = spec::process(&["/bin/echo", "hello from an exec"]);
        self.screen.call(&format!("exec {EXEC} in {SECOND}"));
        self.guest.exec(Exec { container_id: SECOND, exec_id: EXEC, process: &process }, &stdio).await?;
        let visitor = Output::of(stdio, self.screen);
        self.start(SECOND, EXEC, "start of an exec").await?;
        self.exit(SECOND, EXEC, 0).await?;
        self.delete(SECOND, EXEC, "delete of an exec").await?;
        visitor.expect("hello from an exec\n", "").await?;
        self.screen.call(&format!("kill {SECOND} with SIGKILL"));
        self.guest.kill(SECOND, INIT, SIGKILL).await?;
        self.exit(SECOND, INIT, 128 + SIGKILL).await?;
        self.delete(SECOND, INIT, "delete, again").await?;
        output.expect("", "").await
    }

    async fn create(&mut self, id: &'static str, args: &[&str]) -> Result<Output, DemoError> {
        let begun = Instant::now();
        let stdio = self.guest.stdio(false).await?;
        let rootfs =
            [Mount { type_: "ext4".into(), source: format!("serial:{SERIAL}"), ..Default::default() }];
        self.screen.call(&format!("create {id}: {}", args.join(" ")));
        let container = Container { id, config: &spec::container(args), rootfs: &rootfs };
        self.guest.create(container, &stdio).await?;
        self.took.push((if id == FIRST { "create" } else { "create, again" }, begun.elapsed()));
        Ok(Output::of(stdio, self.screen))
    }

    async fn start(&mut self, id: &str, exec_id: &str, what: &'static str) -> Result<(), DemoError> {
        let begun = Instant::now();
        self.guest.start(id, exec_id).await?;
        self.took.push((what, begun.elapsed()));
        Ok(())
    }

    async fn exit(&self, id: &str, exec_id: &str, expected: u32) -> Result<(), DemoError> {
        let exit = self.guest.wait(id, exec_id).await?;
        self.screen.call(&format!("{}: exit {}", full_name(id, exec_id), exit.status));
        expect(&format!("the exit status of {}", full_name(id, exec_id)), &expected, &exit.status)
    }

    async fn delete(&mut self, id: &str, exec_id: &str, what: &'static str) -> Result<(), DemoError> {
        let begun = Instant::now();
        self.screen.call(&format!("delete {}", full_name(id, exec_id)));
        self.guest.delete(id, exec_id).await?;
        self.took.push((what, begun.elapsed()));
        Ok(())
    }

    async fn shutdown(&mut self) -> Result<(), DemoError> {
        self.screen.call("shut down");
        Ok(self.guest.shutdown().await?)
    }
}

/// The output of one process, shown as it comes.
struct Output {
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Output {
    fn of(stdio: Stdio, screen: &Screen) -> Output {
        Output {
            stdout: tokio::spawn(follow(stdio.stdout, *screen, Screen::stdout)),
            stderr: tokio::spawn(follow(stdio.stderr, *screen, Screen::stderr)),
        }
    }

    async fn expect(self, stdout: &str, stderr: &str) -> Result<(), DemoError> {
        expect("what came on stdout", &stdout.to_string(), &joined(self.stdout).await)?;
        expect("what came on stderr", &stderr.to_string(), &joined(self.stderr).await)
    }
}

/// Shows each line; gives all of it. A stream that breaks shows in what is missing.
async fn follow(stream: Option<Stream>, screen: Screen, show: fn(&Screen, &str)) -> String {
    let Some(stream) = stream else { return String::new() };
    let (mut lines, mut all) = (BufReader::new(stream.socket), String::new());
    loop {
        let begin = all.len();
        match lines.read_line(&mut all).await {
            Ok(n) if n > 0 => show(&screen, all[begin..].trim_end()),
            _ => return all,
        }
    }
}

/// Shows each event; gives their names once the guest is gone.
async fn watch(mut events: EventStream, screen: Screen) -> Vec<String> {
    let mut names = Vec::new();
    while let Ok(Some(received)) = events.receive().await {
        let name = name(&received.event);
        screen.event(&format!("{name}  {}", clock(&received)));
        names.push(name);
    }
    names
}

fn name(event: &Event) -> String {
    match event {
        Event::Create { container_id, .. } => format!("create {container_id}"),
        Event::Start { container_id, .. } => format!("start {container_id}"),
        Event::ExecAdded { container_id, exec_id } => format!("exec-added {container_id}/{exec_id}"),
        Event::ExecStarted { container_id, exec_id, .. } => format!("exec-started {container_id}/{exec_id}"),
        Event::Exit { container_id, id, status, .. } => format!("exit {container_id}/{id} status {status}"),
        Event::Delete { container_id, status, .. } => format!("delete {container_id} status {status}"),
        Event::Oom { container_id } => format!("oom {container_id}"),
        Event::Paused { container_id } => format!("paused {container_id}"),
        Event::Resumed { container_id } => format!("resumed {container_id}"),
        Event::Checkpointed { container_id, .. } => format!("checkpointed {container_id}"),
        Event::Other { topic } => topic.clone(),
    }
}

/// The time of day at which the guest published the event, in UTC.
fn clock(received: &Received) -> String {
    let since = received.timestamp.duration_since(UNIX_EPOCH).unwrap_or_default();
    let day = since.as_secs() % 86_400;
    format!("at {:02}:{:02}:{:02}.{:06}", day / 3600, day / 60 % 60, day % 60, since.subsec_micros())
}

fn full_name(id: &str, exec_id: &str) -> String {
    if exec_id == INIT {
        id.to_string()
    } else {
        format!("{id}/{exec_id}")
    }
}

async fn joined<T>(task: JoinHandle<T>) -> T {
    task.await.expect("it does not panic and nobody aborts it")
}

async fn in_time<T>(
    step: &'static str,
    vm: &Vm,
    work: impl Future<Output = Result<T, DemoError>>,
) -> Result<T, DemoError> {
    match tokio::time::timeout(STEP, work).await {
        Ok(result) => result,
        Err(_) => Err(DemoError::Late { step, within: STEP, console: console_tail(vm) }),
    }
}

fn console_tail(vm: &Vm) -> String {
    let console = fs::read(vm.console_log()).unwrap_or_default();
    let console = String::from_utf8_lossy(&console);
    let lines: Vec<&str> = console.lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, got: &T) -> Result<(), DemoError> {
    if expected == got {
        return Ok(());
    }
    Err(DemoError::Unexpected {
        what: what.to_string(),
        expected: format!("{expected:?}"),
        got: format!("{got:?}"),
    })
}
