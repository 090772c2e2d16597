//! Stdio as its host sees it, over Unix sockets: what arrives, what is kept apart, what ends when, and what the stream
//! port survives. On the scripted runc; nothing here needs root.

mod input;
mod output;
mod port;
mod rig;
mod uris;
