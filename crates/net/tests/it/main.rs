//! The door in use: against real servers on loopback.

mod http;
mod smtp;
