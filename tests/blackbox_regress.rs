//! What broke in other systems of this kind does not break here. Each test is named after what it guards and names the
//! issues it comes from; where an older test guards the same, that one names them. Scripted runc, no root needed but
//! where a test says so. What needs the real runc is in `blackbox_regress_runc.rs`.

#![allow(
    clippy::disallowed_methods,
    reason = "the ban keeps children away from PID 1's back; this is not PID 1"
)]

// Tests begin in the order of their names. The one that takes a minute is in the first of these.
#[path = "regress/bundles.rs"]
mod bundles;
#[path = "regress/deadlines.rs"]
mod deadlines;
#[path = "regress/disks.rs"]
mod disks;
#[path = "regress/execs.rs"]
mod execs;
#[path = "regress/exits.rs"]
mod exits;
#[path = "regress/growth.rs"]
mod growth;
#[path = "regress/held.rs"]
mod held;
#[path = "regress/init.rs"]
mod init;
#[path = "regress/runtime.rs"]
mod runtime;
#[path = "regress/verbs.rs"]
mod verbs;
