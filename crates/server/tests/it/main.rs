//! The server as its clients see it: in this process, over real sockets, with the real rooms behind it.

mod errors;
mod limits;
mod own_api;
mod page;
mod push;
mod reply;
mod rig;
mod startup;
