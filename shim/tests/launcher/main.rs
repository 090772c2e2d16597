//! Facts about real machines, with the artefacts of `./taskw image`: their launch, their rights, what they share, what
//! is plugged into them, their end. They fail where the artefacts are missing. As root: the machines are given away.

mod disks;
mod end;
mod launch;
mod machine;
mod nic;
mod rights;
mod share;
