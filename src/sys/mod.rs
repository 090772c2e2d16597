//! Thin typed wrappers of the kernel; the only home of `unsafe`. No policy.
