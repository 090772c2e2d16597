//! What the VM does while it serves besides running containers: its boot comes to its end, its clock is kept, its file
//! systems stand still for a snapshot, its processors and its memory come and go, its power button is read. It knows no
//! protobuf, and nothing of containers.

pub mod booting;
pub mod clock;
pub mod freeze;
pub mod hotplug;
pub mod power_button;
