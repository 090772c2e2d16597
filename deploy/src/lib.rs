//! Builds what a microVM boots: takes the kernel out of a `bzImage` and packs the initrd; and packs the OCI image that
//! containers are tried with. Reads files and writes files; it needs no root, starts no program and never looks at the
//! machine's own modules.

pub mod bzimage;
pub mod cpio;
pub mod initrd;
pub mod libraries;
pub mod modules;
pub mod oci;
pub mod spinbox;
