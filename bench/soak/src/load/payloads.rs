//! Execs in a container that lasts, with payloads through their stdin, stdout and stderr; some stand still meanwhile, as
//! their container is paused.

use vminit_shim::api::containerd::api::Status;
use vminit_shim::client::{Stream, INIT};
use vminitd_test_support::calls::{pause, resume, state};
use vminitd_test_support::chance::Chance;

use super::Worker;
use crate::fault::Fault;
use crate::ground::{is_payload, who, Ground, NOISE_FILE};
use crate::sum::{self, Sum};

/// Execs of one container.
const EXECS: u64 = 8;

/// Which way a payload goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Through stdin and back through stdout.
    Echo,
    /// The same, and the container is paused meanwhile.
    PausedEcho,
    /// Through stdin and back through both outputs.
    Both,
    /// Into stdin; its checksum comes back.
    Sink,
    /// Out of a file, to both outputs at once.
    Source,
}

const WAYS: [Way; 5] = [Way::Echo, Way::PausedEcho, Way::Both, Way::Sink, Way::Source];

pub async fn round(worker: &mut Worker) -> Result<(), Fault> {
    let id = worker.next_id();
    worker.ground.sleeper(&id).await?;
    for n in 0..EXECS {
        if worker.is_over() {
            break;
        }
        let way = worker.chance.pick(&WAYS);
        let (sizes, status) = ([worker.payload(), worker.payload()], worker.status());
        let (noise, exec_id) = (worker.noise(), format!("e{n}"));
        let process = Process { ground: &worker.ground, id: &id, exec_id: &exec_id, status, noise };
        worker.totals.bytes += process.go(way, sizes).await?;
        worker.totals.execs += 1;
        worker.totals.pauses += u64::from(matches!(way, Way::PausedEcho));
    }
    worker.ground.end_sleeper(&id).await?;
    worker.totals.lives += 1;
    Ok(())
}

/// One exec.
struct Process<'a> {
    ground: &'a Ground,
    id: &'a str,
    exec_id: &'a str,
    status: u32,
    noise: Chance,
}

/// What went in and what came out.
struct Carried {
    stdin: Sum,
    stdout: Sum,
    stderr: Sum,
}

impl Process<'_> {
    /// From its creation to its end; gives how many bytes were compared.
    async fn go(mut self, way: Way, [first, second]: [usize; 2]) -> Result<u64, Fault> {
        let nothing = Sum::of(&[]);
        let (carried, stdout, stderr) = match way {
            Way::Echo | Way::PausedEcho => {
                let carried = self.carry("cat", first, matches!(way, Way::PausedEcho)).await?;
                let stdin = carried.stdin;
                (carried, stdin, nothing)
            }
            Way::Both => {
                let carried = self.carry("busybox tee /dev/stderr", first, false).await?;
                let stdin = carried.stdin;
                (carried, stdin, stdin)
            }
            Way::Sink => {
                let carried = self.carry("busybox crc32", first, false).await?;
                let line = format!("{:08x}\n", carried.stdin.crc);
                (carried, Sum::of(line.as_bytes()), nothing)
            }
            Way::Source => {
                let script =
                    format!("head -c {first} {NOISE_FILE} & head -c {second} {NOISE_FILE} >&2; wait");
                let carried = self.carry(&script, 0, false).await?;
                (carried, self.ground.noise_sum(first), self.ground.noise_sum(second))
            }
        };
        let who = who(self.id, self.exec_id);
        is_payload(&who, "stdout", stdout, carried.stdout)?;
        is_payload(&who, "stderr", stderr, carried.stderr)?;
        Ok((carried.stdin.bytes + carried.stdout.bytes + carried.stderr.bytes) as u64)
    }

    /// Runs this script with so many bytes in its stdin.
    async fn carry(&mut self, script: &str, bytes: usize, paused: bool) -> Result<Carried, Fault> {
        let (ground, id, exec_id) = (self.ground, self.id, self.exec_id);
        let who = who(id, exec_id);
        let mut stdio = ground.stdio(&who, true).await?;
        let script = format!("{script}; exit {}", self.status);
        ground.add(id, exec_id, &["/bin/sh", "-c", &script], &stdio).await?;
        ground.start(id, exec_id, self.status).await?;
        let ends = (stdio.stdin.take(), stdio.stdout.take(), stdio.stderr.take());
        let (Some(stdin), Some(mut stdout), Some(mut stderr)) = ends else {
            unreachable!("all were asked for")
        };
        let pausing = async {
            if paused {
                stand_still(ground, id).await
            } else {
                Ok(())
            }
        };
        let noise = &mut self.noise;
        let (stdin, stdout, stderr, ()) = tokio::try_join!(
            async { fed(stdin, noise, bytes).await.map_err(Fault::io(&who, "write stdin")) },
            async { sum::read_all(&mut stdout.socket).await.map_err(Fault::io(&who, "read stdout")) },
            async { sum::read_all(&mut stderr.socket).await.map_err(Fault::io(&who, "read stderr")) },
            pausing,
        )?;
        ground.reap(id, exec_id, self.status).await?;
        Ok(Carried { stdin, stdout, stderr })
    }
}

/// Writes it all, and ends the stream by dropping it.
async fn fed(mut stdin: Stream, noise: &mut Chance, bytes: usize) -> std::io::Result<Sum> {
    sum::write(&mut stdin.socket, noise, bytes).await
}

/// Pauses a container and resumes it.
async fn stand_still(ground: &Ground, id: &str) -> Result<(), Fault> {
    pause(&ground.guest, id).await.map_err(Fault::call(id))?;
    let found = state(&ground.guest, id, INIT).await.map(|state| state.status.enum_value_or_default());
    resume(&ground.guest, id).await.map_err(Fault::call(id))?;
    match found {
        Ok(Status::PAUSED) => Ok(()),
        other => Err(Fault::Answer { who: id.into(), call: "State", found: format!("{other:?}") }),
    }
}
