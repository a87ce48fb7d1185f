//! The only outbound door: whatever leaves this program for the network leaves through here.
//!
//! One door, so that timeouts, limits, proxies and the egress guard cannot be forgotten by a room.
//! Deliberately absent: what is said. Formats belong to `collect` and `notify`.

pub mod transport;

pub use transport::{NetError, Request, Response, Transport};
