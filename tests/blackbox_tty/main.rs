//! Processes with a terminal, as their host sees them. The real runc needs root and says so where it is missing; what
//! a runtime may do wrong with a console is up to the scripted one.

mod faults;
mod input;
mod life;
mod output;
mod rig;
mod size;
