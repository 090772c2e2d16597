//! What the VM does after its boot besides running containers: its clock is kept, its file systems stand still for a
//! snapshot, its processors and its memory come and go, its power button is read. It knows no protobuf, and nothing of
//! containers.

pub mod clock;
pub mod freeze;
pub mod hotplug;
pub mod power_button;
