//! The wire: ttrpc frames as a pure state machine, connections, dispatch and their bounds, listening and peers.
//!
//! It never knows what a request means: handlers come in through [`Router`] and bytes go out.
//!
//! A connection is read by one loop ([`connection`]) that decodes frames ([`frame`]), asks the pure [`session`]
//! what each one asks for, and starts calls. Everything a peer is sent passes through one ordered [`outbox`].

pub mod connection;
pub mod frame;
pub mod listen;
pub mod router;
pub mod session;
pub mod stream;

mod caller;
mod calls;
mod outbox;

#[cfg(test)]
mod tests;

pub use caller::Caller;
pub use connection::{patience, serve, Farewell, Settings};
pub use listen::{accept_loop, Address, Listener};
pub use router::{Router, StreamCall, StreamMethod};
pub use stream::{Gone, Stream};
