//! What each verb of runc does here. Error texts are runc 1.1's own: callers tell errors apart by them.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{json, Value};

use crate::args::Invocation;
use crate::console;
use crate::container::{read_json, signal_of, wait_for, Container, Process, PROMPT};
use crate::program::{self, Parent};
use crate::script::{Behaviour, Dead};

/// Does the job of one call.
pub fn run(call: &Invocation, behaviour: &Behaviour) -> Result<(), String> {
    match call.verb.as_str() {
        "create" => create(call, behaviour),
        "exec" => exec(call, behaviour),
        "start" => start(call),
        "kill" => kill(call),
        "delete" => delete(call),
        "state" => state(call),
        "ps" => ps(call),
        "pause" => pause(call),
        "resume" => resume(call),
        "checkpoint" => checkpoint(call),
        "update" => update(call),
        other => Err(format!("No help topic for '{other}'")),
    }
}

fn open(call: &Invocation) -> Result<Container, String> {
    Container::open(call.container_dir())
}

fn create(call: &Invocation, behaviour: &Behaviour) -> Result<(), String> {
    let bundle = call.required("bundle")?;
    let spec = read_json(&Path::new(bundle).join("config.json"))?;
    let container = Container::make(call.container_dir())?;
    let program = program_of(&spec["process"])?;
    let gate = container.gate();
    let terminal = console::open(call, &spec["process"], behaviour.console)?;
    let init = program::spawn(Some(&gate), &program, parent(behaviour), terminal)?;
    container.save_init(init, bundle)?;
    wait_for("init to be ready", PROMPT, || gate.exists())?;
    if behaviour.dead.is_some() {
        // Which status it dies with is the program's affair, so it is let go rather than killed.
        container.open_gate()?;
    }
    settle(init, behaviour.dead)?;
    report_pid(call, behaviour, init)
}

fn exec(call: &Invocation, behaviour: &Behaviour) -> Result<(), String> {
    let container = open(call)?;
    match container.status()? {
        "stopped" => return Err("cannot exec in a stopped container".to_owned()),
        "paused" => {
            return Err("cannot exec in a paused container (use --ignore-paused to override)".to_owned())
        }
        _ => {}
    }
    let spec = read_json(Path::new(call.required("process")?))?;
    let program = program_of(&spec)?;
    let terminal = console::open(call, &spec, behaviour.console)?;
    let process = program::spawn(None, &program, parent(behaviour), terminal)?;
    container.save_exec(process)?;
    settle(process, behaviour.dead)?;
    report_pid(call, behaviour, process)
}

/// A process is the caller's from the start only where the caller is to reap it under this runc's nose.
fn parent(behaviour: &Behaviour) -> Parent {
    match behaviour.dead {
        Some(Dead::Reaped) => Parent::Caller,
        _ => Parent::Runc,
    }
}

/// Waits until the process is as dead as the script wants it.
fn settle(process: Process, dead: Option<Dead>) -> Result<(), String> {
    match dead {
        None => Ok(()),
        Some(Dead::Zombie) => wait_for("the process to die", PROMPT, || !process.alive()),
        Some(Dead::Reaped) => wait_for("the process to be reaped", PROMPT, || process.gone()),
    }
}

fn report_pid(call: &Invocation, behaviour: &Behaviour, process: Process) -> Result<(), String> {
    if behaviour.no_pid_file {
        return Ok(());
    }
    let path = call.required("pid-file")?;
    fs::write(path, process.pid.to_string()).map_err(|e| format!("write {path}: {e}"))
}

fn program_of(process: &Value) -> Result<Vec<String>, String> {
    let args = process["args"].as_array().filter(|args| !args.is_empty());
    let args = args.ok_or("args must not be empty")?;
    Ok(args.iter().map(|arg| arg.as_str().unwrap_or_default().to_owned()).collect())
}

fn start(call: &Invocation) -> Result<(), String> {
    let container = open(call)?;
    match container.status()? {
        "created" if container.open_gate()? => Ok(()),
        "running" => Err("cannot start an already running container".to_owned()),
        _ => Err("cannot start a container that has stopped".to_owned()),
    }
}

fn kill(call: &Invocation) -> Result<(), String> {
    let container = open(call)?;
    let signal = signal_of(call.rest.first().map_or("SIGTERM", String::as_str))?;
    if call.option("all").is_some() {
        for process in container.living()? {
            process.signal(signal);
        }
        return Ok(());
    }
    if !container.init()?.signal(signal) {
        return Err("container not running".to_owned());
    }
    // runc thaws for this signal, without which cgroup v1 would not let it through.
    match container.status()? {
        "paused" if signal == Signal::SIGKILL => container.thaw(),
        _ => Ok(()),
    }
}

fn pause(call: &Invocation) -> Result<(), String> {
    let container = open(call)?;
    match container.status()? {
        "created" | "running" => container.freeze(),
        _ => Err("container not running".to_owned()),
    }
}

fn resume(call: &Invocation) -> Result<(), String> {
    let container = open(call)?;
    match container.status()? {
        "paused" => container.thaw(),
        _ => Err("container not paused".to_owned()),
    }
}

/// Makes the folder of the image, with nothing in it to restore from; ends the container unless it is to run on.
fn checkpoint(call: &Invocation) -> Result<(), String> {
    let container = open(call)?;
    let status = container.status()?;
    if status == "created" || status == "stopped" {
        return Err(format!("Container cannot be checkpointed in {status} state"));
    }
    let image = call.required("image-path")?;
    fs::create_dir_all(image).map_err(|e| format!("make {image}: {e}"))?;
    if call.option("leave-running").is_none() {
        for process in container.living()? {
            process.signal(Signal::SIGKILL);
        }
    }
    Ok(())
}

fn delete(call: &Invocation) -> Result<(), String> {
    let force = call.option("force").is_some();
    let container = match open(call) {
        Ok(container) => container,
        // runc answers a forced delete of nothing with success.
        Err(_) if force => return remove_remains(call),
        Err(text) => return Err(text),
    };
    let status = container.status()?;
    // runc kills a container that was only created by itself, and refuses one that runs or is paused.
    if !force && (status == "running" || status == "paused") {
        return Err(format!("cannot delete container {} that is not stopped: {status}", call.id));
    }
    let living = container.living()?;
    for process in &living {
        process.signal(Signal::SIGKILL);
    }
    wait_for("the processes to die", PROMPT, || living.iter().all(|process| !process.alive()))?;
    container.remove()
}

/// Removes the folder of a create that did not get far.
fn remove_remains(call: &Invocation) -> Result<(), String> {
    match fs::remove_dir_all(call.container_dir()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(format!("remove the remains: {e}")),
        _ => Ok(()),
    }
}

fn state(call: &Invocation) -> Result<(), String> {
    let container = open(call)?;
    let status = container.status()?;
    let pid = if status == "stopped" { 0 } else { container.init()?.pid };
    let bundle = container.bundle()?;
    let state = json!({
        "ociVersion": "1.0.2", "id": call.id, "pid": pid, "status": status, "bundle": bundle,
        "rootfs": format!("{bundle}/rootfs"), "created": "2026-01-01T00:00:00.000000000Z", "owner": "",
    });
    println!("{state}");
    Ok(())
}

fn ps(call: &Invocation) -> Result<(), String> {
    let pids: Vec<i32> = open(call)?.living()?.into_iter().map(|process| process.pid).collect();
    println!("{}", json!(pids));
    Ok(())
}

/// Reads the resources to the end, as runc does, and keeps them.
fn update(call: &Invocation) -> Result<(), String> {
    let container = open(call)?;
    let text = match call.required("resources")? {
        "-" => io::read_to_string(io::stdin()),
        path => fs::read_to_string(path),
    };
    let text = text.map_err(|e| format!("read the resources: {e}"))?;
    let resources: Value = serde_json::from_str(&text).map_err(|e| format!("parse the resources: {e}"))?;
    if container.status()? == "stopped" {
        return Err("container not running".to_owned());
    }
    container.save_resources(&resources)
}
