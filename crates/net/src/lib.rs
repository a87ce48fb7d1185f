//! The only outbound door: whatever leaves this program for the network leaves through here.
//!
//! One door, so that timeouts, limits, proxies and the egress guard cannot be forgotten by a room.
//! Deliberately absent: what is said. Formats belong to `collect` and `notify`.

mod address;
mod body;
mod connector;
mod dial;
pub mod egress;
mod http_client;
pub mod smtp;
mod tls;
pub mod transport;

pub use address::without_credentials;
pub use body::gunzip;
pub use egress::{Egress, EgressError, Network, NetworkError};
pub use http_client::HttpClient;
pub use transport::{NetError, Request, Response, TlsPolicy, Transport};
