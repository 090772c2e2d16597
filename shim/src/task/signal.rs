//! What is done to processes that are there: signals, pauses, terminals, stdin, limits and figures. Owns that a task can be
//! killed whose guest does not answer; the rest is passed on.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use vminitd_api::containerd::api::{
    CloseIORequest, KillRequest, PauseRequest, PidsRequest, ProcessInfo, ResizePtyRequest, ResumeRequest,
    StatsRequest, UpdateTaskRequest,
};
use vminitd_api::protobuf::well_known_types::any::Any;
use vminitd_api::protobuf::MessageField;

use super::link::{Fate, LONG, SHORT};
use super::{Entry, TaskError, Tasks};
use crate::client::INIT;
use crate::plan;
use crate::state::Exit;

const SIGKILL: u32 = 9;

/// What a guest may take to kill, before its machine is ended for it. docker waits 10 s for a kill.
const KILL: Duration = Duration::from_secs(8);
/// What a container may take to end once its guest says that it has been killed: after that its machine is ended. An
/// emulated guest beside nine others takes some seconds, and an exit waits for its output in between.
const DEATH: Duration = Duration::from_secs(20);

impl Tasks {
    /// Sends a signal to a process, or with `all` to every process of the container.
    ///
    /// SIGKILL of an init ends the machine if the guest does not see to it within 8 s, or the init does not end within
    /// 20 s more: it may hang in its kernel, and a guest may say what is not so.
    ///
    /// # Errors
    /// `Finished`, and `Guest` with the guest's words.
    pub async fn kill(&self, id: &str, exec_id: &str, signal: u32, all: bool) -> Result<(), TaskError> {
        let entry = self.find(id)?;
        let finished = || TaskError::Finished(entry.container.process_name(exec_id));
        if entry.container.snapshot(exec_id)?.exit.is_some() {
            return Err(finished());
        }
        let request =
            KillRequest { id: id.into(), exec_id: exec_id.into(), signal, all, ..Default::default() };
        let task = entry.link.client.task();
        let answer = entry.link.call("Task.Kill", KILL, |ctx| async { task.kill(ctx, &request).await }).await;
        let for_good = signal == SIGKILL && exec_id == INIT;
        match answer {
            Ok(_) if for_good => entry.see_it_dead(),
            Ok(_) => Ok(()),
            Err(TaskError::Lost(_)) => Err(finished()),
            Err(TaskError::Late { .. } | TaskError::Client(_)) if for_good => {
                let reason = format!("the guest did not kill its container within {KILL:?}");
                entry.link.doom(Fate { status: Exit::KILLED, reason });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Stops all processes of the container where they are.
    ///
    /// # Errors
    /// `Guest`, as for every call below; `Lost` when its machine has ended.
    pub async fn pause(&self, id: &str) -> Result<(), TaskError> {
        let entry = self.find(id)?;
        let (task, request) =
            (entry.link.client.task(), PauseRequest { id: id.into(), ..Default::default() });
        entry.link.call("Task.Pause", LONG, |ctx| async { task.pause(ctx, &request).await }).await?;
        entry.container.paused(true);
        Ok(())
    }

    /// Lets them go on.
    pub async fn resume(&self, id: &str) -> Result<(), TaskError> {
        let entry = self.find(id)?;
        let (task, request) =
            (entry.link.client.task(), ResumeRequest { id: id.into(), ..Default::default() });
        entry.link.call("Task.Resume", LONG, |ctx| async { task.resume(ctx, &request).await }).await?;
        entry.container.paused(false);
        Ok(())
    }

    /// Sets the size of a terminal.
    pub async fn resize(&self, id: &str, exec_id: &str, width: u32, height: u32) -> Result<(), TaskError> {
        let entry = self.find(id)?;
        entry.container.snapshot(exec_id)?;
        let request =
            ResizePtyRequest { id: id.into(), exec_id: exec_id.into(), width, height, ..Default::default() };
        let task = entry.link.client.task();
        entry
            .link
            .call("Task.ResizePty", SHORT, |ctx| async { task.resize_pty(ctx, &request).await })
            .await?;
        Ok(())
    }

    /// Lets stdin end, when all that clients have written was passed on. Answers at once: a client may keep its end open.
    pub fn close_stdin(&self, id: &str, exec_id: &str) -> Result<(), TaskError> {
        let entry = self.find(id)?;
        let Some(ended) = entry.container.close_stdin(exec_id)? else { return Ok(()) };
        let request =
            CloseIORequest { id: id.into(), exec_id: exec_id.into(), stdin: true, ..Default::default() };
        // One for each process; it ends with the stdin or, at the latest, with the relays.
        tokio::spawn(async move {
            ended.await;
            let task = entry.link.client.task();
            let closed = entry
                .link
                .call("Task.CloseIO", SHORT, |ctx| async { task.close_io(ctx, &request).await })
                .await;
            if let Err(error) = closed {
                tracing::debug!(id = request.id, exec_id = request.exec_id, %error, "stdin was closed before");
            }
        });
        Ok(())
    }

    /// Changes the container's limits; those of the machine stay.
    pub async fn update(&self, id: &str, mut resources: Value) -> Result<(), TaskError> {
        let entry = self.find(id)?;
        plan::divide_resources(&mut resources)?;
        let json = Any { value: resources.to_string().into_bytes(), ..Default::default() };
        let request =
            UpdateTaskRequest { id: id.into(), resources: MessageField::some(json), ..Default::default() };
        let task = entry.link.client.task();
        entry.link.call("Task.Update", LONG, |ctx| async { task.update(ctx, &request).await }).await?;
        Ok(())
    }

    /// The processes of the container, by the pids that are reported for them.
    pub async fn pids(&self, id: &str) -> Result<Vec<ProcessInfo>, TaskError> {
        let entry = self.find(id)?;
        let (task, request) = (entry.link.client.task(), PidsRequest { id: id.into(), ..Default::default() });
        let answer =
            entry.link.call("Task.Pids", SHORT, |ctx| async { task.pids(ctx, &request).await }).await?;
        let report = |process: ProcessInfo| {
            let pid = entry.container.report_pid(process.pid);
            ProcessInfo { pid, ..process }
        };
        Ok(answer.processes.into_iter().map(report).collect())
    }

    /// The figures of its cgroup, as the guest packs them.
    pub async fn stats(&self, id: &str) -> Result<Option<Any>, TaskError> {
        let entry = self.find(id)?;
        let (task, request) =
            (entry.link.client.task(), StatsRequest { id: id.into(), ..Default::default() });
        let answer =
            entry.link.call("Task.Stats", SHORT, |ctx| async { task.stats(ctx, &request).await }).await?;
        Ok(answer.stats.into_option())
    }
}

impl Entry {
    /// Sees to it that the init ends, which the guest has said it has killed.
    fn see_it_dead(&self) -> Result<(), TaskError> {
        let (mut exit, link) = (self.container.watch(INIT)?, self.link.clone());
        // It ends with the init, or with the task.
        tokio::spawn(async move {
            if timeout(DEATH, exit.wait_for(Option::is_some)).await.is_err() {
                let reason = format!("its container did not end within {DEATH:?} of SIGKILL");
                link.doom(Fate { status: Exit::KILLED, reason });
            }
        });
        Ok(())
    }
}
