//! The table: every method of the Task service in every state of a container and of its processes.

use vminit_shim::api::containerd::api::Status;
use vminit_shim::api::ttrpc::Code;

use crate::call::Answer::{self, Blocks, Done, Exit, Is, Process, Processes, Refused};
use crate::call::Method::*;
use crate::row::Init::*;
use crate::row::{idle, row, Row, Who, CREATED, GONE, PAUSED, PAUSING, RUNNING, STOPPED};

const NOT_FOUND: Answer = Refused(Code::NOT_FOUND);
const EXISTS: Answer = Refused(Code::ALREADY_EXISTS);
const WRONG_STATE: Answer = Refused(Code::FAILED_PRECONDITION);
const INVALID: Answer = Refused(Code::INVALID_ARGUMENT);
const NOT_BUILT: Answer = Refused(Code::UNIMPLEMENTED);

/// An OCI LinuxResources that every runc takes.
pub const LIMIT: Option<&str> = Some(r#"{"pids":{"limit":64}}"#);

pub const CREATE: &[Row] = &[
    row(Create, (Missing, Who::Init), Done, &["create"], &["create"], CREATED),
    idle(Create, (Created, Who::Init), EXISTS, CREATED),
    idle(Create, (Running, Who::Init), EXISTS, RUNNING),
    idle(Create, (Pausing, Who::Init), EXISTS, PAUSING),
    idle(Create, (Paused, Who::Init), EXISTS, PAUSED),
    idle(Create, (Stopped, Who::Init), EXISTS, STOPPED),
    row(Create, (Deleted, Who::Init), Done, &["create"], &["create"], CREATED),
    idle(Restore, (Missing, Who::Init), NOT_BUILT, GONE),
];

pub const START: &[Row] = &[
    idle(Start, (Missing, Who::Init), NOT_FOUND, GONE),
    row(Start, (Created, Who::Init), Done, &["start"], &["start"], RUNNING),
    idle(Start, (Running, Who::Init), WRONG_STATE, RUNNING),
    idle(Start, (Pausing, Who::Init), WRONG_STATE, PAUSING),
    idle(Start, (Paused, Who::Init), WRONG_STATE, PAUSED),
    idle(Start, (Stopped, Who::Init), WRONG_STATE, STOPPED),
    idle(Start, (Deleted, Who::Init), NOT_FOUND, GONE),
    idle(Start, (Missing, Who::Unknown), NOT_FOUND, GONE),
    idle(Start, (Running, Who::Unknown), NOT_FOUND, GONE),
    row(Start, (Created, Who::Added), Done, &["exec-started e"], &["exec"], RUNNING),
    row(Start, (Running, Who::Added), Done, &["exec-started e"], &["exec"], RUNNING),
    idle(Start, (Pausing, Who::Added), WRONG_STATE, CREATED),
    idle(Start, (Paused, Who::Added), WRONG_STATE, CREATED),
    idle(Start, (Stopped, Who::Added), WRONG_STATE, CREATED),
    idle(Start, (Deleted, Who::Added), NOT_FOUND, GONE),
    idle(Start, (Running, Who::Running), WRONG_STATE, RUNNING),
    idle(Start, (Paused, Who::Running), WRONG_STATE, PAUSED),
    idle(Start, (Running, Who::Failed), WRONG_STATE, CREATED),
    idle(Start, (Running, Who::Exited), WRONG_STATE, STOPPED),
    idle(Start, (Stopped, Who::Exited), WRONG_STATE, STOPPED),
    idle(Start, (Running, Who::Deleted), NOT_FOUND, GONE),
];

pub const EXEC: &[Row] = &[
    idle(Exec, (Running, Who::Init), INVALID, RUNNING),
    idle(ExecOfNothing, (Running, Who::Unknown), INVALID, GONE),
    idle(Exec, (Missing, Who::Unknown), NOT_FOUND, GONE),
    row(Exec, (Created, Who::Unknown), Done, &["exec-added e"], &[], CREATED),
    row(Exec, (Running, Who::Unknown), Done, &["exec-added e"], &[], CREATED),
    idle(Exec, (Pausing, Who::Unknown), WRONG_STATE, GONE),
    idle(Exec, (Paused, Who::Unknown), WRONG_STATE, GONE),
    idle(Exec, (Stopped, Who::Unknown), WRONG_STATE, GONE),
    idle(Exec, (Deleted, Who::Unknown), NOT_FOUND, GONE),
    idle(Exec, (Created, Who::Added), EXISTS, CREATED),
    idle(Exec, (Running, Who::Added), EXISTS, CREATED),
    idle(Exec, (Paused, Who::Added), EXISTS, CREATED),
    idle(Exec, (Stopped, Who::Added), EXISTS, CREATED),
    idle(Exec, (Running, Who::Running), EXISTS, RUNNING),
    idle(Exec, (Running, Who::Failed), EXISTS, CREATED),
    idle(Exec, (Running, Who::Exited), EXISTS, STOPPED),
    row(Exec, (Running, Who::Deleted), Done, &["exec-added e"], &[], CREATED),
];

pub const KILL: &[Row] = &[
    idle(Kill(9), (Missing, Who::Init), NOT_FOUND, GONE),
    row(Kill(9), (Created, Who::Init), Done, &["exit 137"], &[], STOPPED),
    row(Kill(9), (Running, Who::Init), Done, &["exit 137"], &[], STOPPED),
    row(Kill(9), (Pausing, Who::Init), Done, &["exit 137"], &[], STOPPED),
    row(Kill(9), (Paused, Who::Init), Done, &["exit 137"], &[], STOPPED),
    idle(Kill(9), (Stopped, Who::Init), NOT_FOUND, STOPPED),
    idle(Kill(9), (Deleted, Who::Init), NOT_FOUND, GONE),
    idle(Kill(0), (Running, Who::Init), INVALID, RUNNING),
    idle(Kill(65), (Running, Who::Init), INVALID, RUNNING),
    idle(Kill(9999), (Running, Who::Init), INVALID, RUNNING),
    idle(Kill(9), (Missing, Who::Unknown), NOT_FOUND, GONE),
    idle(Kill(9), (Running, Who::Unknown), NOT_FOUND, GONE),
    idle(Kill(9), (Created, Who::Added), WRONG_STATE, CREATED),
    idle(Kill(9), (Running, Who::Added), WRONG_STATE, CREATED),
    idle(Kill(9), (Paused, Who::Added), WRONG_STATE, CREATED),
    idle(Kill(9), (Stopped, Who::Added), WRONG_STATE, CREATED),
    row(Kill(9), (Running, Who::Running), Done, &["exit e 137"], &[], STOPPED),
    row(Kill(9), (Paused, Who::Running), Done, &["exit e 137"], &[], STOPPED),
    idle(Kill(0), (Running, Who::Running), INVALID, RUNNING),
    idle(Kill(65), (Running, Who::Running), INVALID, RUNNING),
    idle(Kill(9), (Running, Who::Failed), WRONG_STATE, CREATED),
    idle(Kill(9), (Running, Who::Exited), NOT_FOUND, STOPPED),
    idle(Kill(9), (Running, Who::Deleted), NOT_FOUND, GONE),
    idle(KillAll(9), (Missing, Who::Init), NOT_FOUND, GONE),
    row(KillAll(9), (Created, Who::Init), Done, &["exit 137"], &["kill"], STOPPED),
    row(KillAll(9), (Running, Who::Init), Done, &["exit 137"], &["kill"], STOPPED),
    row(KillAll(9), (Pausing, Who::Init), Done, &["exit 137"], &["kill"], STOPPED),
    row(KillAll(9), (Paused, Who::Init), Done, &["exit 137"], &["kill"], STOPPED),
    idle(KillAll(9), (Stopped, Who::Init), NOT_FOUND, STOPPED),
    idle(KillAll(9), (Deleted, Who::Init), NOT_FOUND, GONE),
];

pub const DELETE: &[Row] = &[
    idle(Delete, (Missing, Who::Init), NOT_FOUND, GONE),
    row(Delete, (Created, Who::Init), Exit(137), &["exit 137", "delete"], &["delete"], GONE),
    idle(Delete, (Running, Who::Init), WRONG_STATE, RUNNING),
    idle(Delete, (Pausing, Who::Init), WRONG_STATE, PAUSING),
    idle(Delete, (Paused, Who::Init), WRONG_STATE, PAUSED),
    row(Delete, (Stopped, Who::Init), Exit(137), &["delete"], &["delete"], GONE),
    idle(Delete, (Deleted, Who::Init), NOT_FOUND, GONE),
    idle(Delete, (Missing, Who::Unknown), NOT_FOUND, GONE),
    idle(Delete, (Running, Who::Unknown), NOT_FOUND, GONE),
    idle(Delete, (Created, Who::Added), Exit(0), GONE),
    idle(Delete, (Running, Who::Added), Exit(0), GONE),
    idle(Delete, (Paused, Who::Added), Exit(0), GONE),
    idle(Delete, (Stopped, Who::Added), Exit(0), GONE),
    idle(Delete, (Running, Who::Running), WRONG_STATE, RUNNING),
    idle(Delete, (Paused, Who::Running), WRONG_STATE, PAUSED),
    idle(Delete, (Running, Who::Failed), Exit(0), GONE),
    idle(Delete, (Paused, Who::Failed), Exit(0), GONE),
    idle(Delete, (Running, Who::Exited), Exit(3), GONE),
    idle(Delete, (Paused, Who::Exited), Exit(3), GONE),
    idle(Delete, (Stopped, Who::Exited), Exit(3), GONE),
    idle(Delete, (Running, Who::Deleted), NOT_FOUND, GONE),
];

pub const STATE: &[Row] = &[
    idle(State, (Missing, Who::Init), NOT_FOUND, GONE),
    idle(State, (Created, Who::Init), Is(Status::CREATED), CREATED),
    idle(State, (Running, Who::Init), Is(Status::RUNNING), RUNNING),
    idle(State, (Pausing, Who::Init), Is(Status::PAUSING), PAUSING),
    idle(State, (Paused, Who::Init), Is(Status::PAUSED), PAUSED),
    idle(State, (Stopped, Who::Init), Is(Status::STOPPED), STOPPED),
    idle(State, (Deleted, Who::Init), NOT_FOUND, GONE),
    idle(State, (Missing, Who::Unknown), NOT_FOUND, GONE),
    idle(State, (Running, Who::Unknown), NOT_FOUND, GONE),
    idle(State, (Created, Who::Added), Is(Status::CREATED), CREATED),
    idle(State, (Running, Who::Added), Is(Status::CREATED), CREATED),
    idle(State, (Paused, Who::Added), Is(Status::CREATED), CREATED),
    idle(State, (Stopped, Who::Added), Is(Status::CREATED), CREATED),
    idle(State, (Running, Who::Running), Is(Status::RUNNING), RUNNING),
    idle(State, (Pausing, Who::Running), Is(Status::PAUSING), PAUSING),
    idle(State, (Paused, Who::Running), Is(Status::PAUSED), PAUSED),
    idle(State, (Running, Who::Failed), Is(Status::CREATED), CREATED),
    idle(State, (Running, Who::Exited), Is(Status::STOPPED), STOPPED),
    idle(State, (Paused, Who::Exited), Is(Status::STOPPED), STOPPED),
    idle(State, (Running, Who::Deleted), NOT_FOUND, GONE),
];

pub const WAIT: &[Row] = &[
    idle(Wait, (Missing, Who::Init), NOT_FOUND, GONE),
    idle(Wait, (Created, Who::Init), Blocks, CREATED),
    idle(Wait, (Running, Who::Init), Blocks, RUNNING),
    idle(Wait, (Pausing, Who::Init), Blocks, PAUSING),
    idle(Wait, (Paused, Who::Init), Blocks, PAUSED),
    idle(Wait, (Stopped, Who::Init), Exit(137), STOPPED),
    idle(Wait, (Deleted, Who::Init), NOT_FOUND, GONE),
    idle(Wait, (Missing, Who::Unknown), NOT_FOUND, GONE),
    idle(Wait, (Running, Who::Unknown), NOT_FOUND, GONE),
    idle(Wait, (Created, Who::Added), Blocks, CREATED),
    idle(Wait, (Running, Who::Added), Blocks, CREATED),
    idle(Wait, (Running, Who::Running), Blocks, RUNNING),
    idle(Wait, (Paused, Who::Running), Blocks, PAUSED),
    idle(Wait, (Running, Who::Failed), WRONG_STATE, CREATED),
    idle(Wait, (Stopped, Who::Failed), WRONG_STATE, CREATED),
    idle(Wait, (Running, Who::Exited), Exit(3), STOPPED),
    idle(Wait, (Stopped, Who::Exited), Exit(3), STOPPED),
    idle(Wait, (Running, Who::Deleted), NOT_FOUND, GONE),
];

pub const PAUSE_AND_RESUME: &[Row] = &[
    idle(Pause, (Missing, Who::Init), NOT_FOUND, GONE),
    idle(Pause, (Created, Who::Init), WRONG_STATE, CREATED),
    row(Pause, (Running, Who::Init), Done, &["paused"], &["pause"], PAUSED),
    row(Pause, (Running, Who::Running), Done, &["paused"], &["pause"], PAUSED),
    idle(Pause, (Pausing, Who::Init), WRONG_STATE, PAUSING),
    idle(Pause, (Paused, Who::Init), WRONG_STATE, PAUSED),
    idle(Pause, (Stopped, Who::Init), WRONG_STATE, STOPPED),
    idle(Pause, (Deleted, Who::Init), NOT_FOUND, GONE),
    idle(Resume, (Missing, Who::Init), NOT_FOUND, GONE),
    idle(Resume, (Created, Who::Init), WRONG_STATE, CREATED),
    idle(Resume, (Running, Who::Init), WRONG_STATE, RUNNING),
    idle(Resume, (Pausing, Who::Init), WRONG_STATE, PAUSING),
    row(Resume, (Paused, Who::Init), Done, &["resumed"], &["resume"], RUNNING),
    row(Resume, (Paused, Who::Running), Done, &["resumed"], &["resume"], RUNNING),
    idle(Resume, (Stopped, Who::Init), WRONG_STATE, STOPPED),
    idle(Resume, (Deleted, Who::Init), NOT_FOUND, GONE),
];

pub const UPDATE: &[Row] = &[
    idle(Update(LIMIT), (Missing, Who::Init), NOT_FOUND, GONE),
    row(Update(LIMIT), (Created, Who::Init), Done, &[], &["update"], CREATED),
    row(Update(LIMIT), (Running, Who::Init), Done, &[], &["update"], RUNNING),
    row(Update(LIMIT), (Pausing, Who::Init), Done, &[], &["update"], PAUSING),
    row(Update(LIMIT), (Paused, Who::Init), Done, &[], &["update"], PAUSED),
    idle(Update(LIMIT), (Stopped, Who::Init), WRONG_STATE, STOPPED),
    idle(Update(LIMIT), (Deleted, Who::Init), NOT_FOUND, GONE),
    idle(Update(None), (Running, Who::Init), INVALID, RUNNING),
    idle(Update(Some("")), (Running, Who::Init), INVALID, RUNNING),
    idle(Update(Some("{")), (Running, Who::Init), INVALID, RUNNING),
    idle(Update(Some("[]")), (Running, Who::Init), INVALID, RUNNING),
    idle(Update(Some("\u{0}")), (Running, Who::Init), INVALID, RUNNING),
];

/// On a machine without criu.
pub const CHECKPOINT: &[Row] = &[
    idle(Checkpoint, (Missing, Who::Init), NOT_FOUND, GONE),
    idle(Checkpoint, (Created, Who::Init), WRONG_STATE, CREATED),
    idle(Checkpoint, (Running, Who::Init), WRONG_STATE, RUNNING),
    idle(Checkpoint, (Pausing, Who::Init), WRONG_STATE, PAUSING),
    idle(Checkpoint, (Paused, Who::Init), WRONG_STATE, PAUSED),
    idle(Checkpoint, (Stopped, Who::Init), WRONG_STATE, STOPPED),
    idle(Checkpoint, (Deleted, Who::Init), NOT_FOUND, GONE),
];

/// On a machine with cgroup v1.
pub const STATS: &[Row] = &[
    idle(Stats, (Missing, Who::Init), NOT_FOUND, GONE),
    idle(Stats, (Created, Who::Init), WRONG_STATE, CREATED),
    idle(Stats, (Running, Who::Init), WRONG_STATE, RUNNING),
    idle(Stats, (Pausing, Who::Init), WRONG_STATE, PAUSING),
    idle(Stats, (Paused, Who::Init), WRONG_STATE, PAUSED),
    idle(Stats, (Stopped, Who::Init), WRONG_STATE, STOPPED),
    idle(Stats, (Deleted, Who::Init), NOT_FOUND, GONE),
];

pub const PIDS: &[Row] = &[
    idle(Pids, (Missing, Who::Init), NOT_FOUND, GONE),
    row(Pids, (Created, Who::Init), Processes(1), &[], &["ps"], CREATED),
    row(Pids, (Running, Who::Init), Processes(1), &[], &["ps"], RUNNING),
    row(Pids, (Running, Who::Running), Processes(2), &[], &["ps"], RUNNING),
    row(Pids, (Running, Who::Exited), Processes(1), &[], &["ps"], STOPPED),
    row(Pids, (Pausing, Who::Init), Processes(1), &[], &["ps"], PAUSING),
    row(Pids, (Paused, Who::Init), Processes(1), &[], &["ps"], PAUSED),
    idle(Pids, (Stopped, Who::Init), Processes(0), STOPPED),
    idle(Pids, (Deleted, Who::Init), NOT_FOUND, GONE),
];

pub const CONNECT_AND_SHUTDOWN: &[Row] = &[
    idle(Connect, (Missing, Who::Init), Process(false), GONE),
    idle(Connect, (Created, Who::Init), Process(true), CREATED),
    idle(Connect, (Running, Who::Init), Process(true), RUNNING),
    idle(Connect, (Pausing, Who::Init), Process(true), PAUSING),
    idle(Connect, (Paused, Who::Init), Process(true), PAUSED),
    idle(Connect, (Stopped, Who::Init), Process(true), STOPPED),
    idle(Connect, (Deleted, Who::Init), Process(false), GONE),
    idle(Shutdown, (Missing, Who::Init), Done, GONE),
    idle(Shutdown, (Created, Who::Init), Done, CREATED),
    idle(Shutdown, (Running, Who::Init), Done, RUNNING),
    idle(Shutdown, (Pausing, Who::Init), Done, PAUSING),
    idle(Shutdown, (Paused, Who::Init), Done, PAUSED),
    idle(Shutdown, (Stopped, Who::Init), Done, STOPPED),
    idle(Shutdown, (Deleted, Who::Init), Done, GONE),
];

pub const ALL: [&[Row]; 13] = [
    CREATE,
    START,
    EXEC,
    KILL,
    DELETE,
    STATE,
    WAIT,
    PAUSE_AND_RESUME,
    UPDATE,
    CHECKPOINT,
    STATS,
    PIDS,
    CONNECT_AND_SHUTDOWN,
];
