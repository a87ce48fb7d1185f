//! The server as its clients see it: in this process, over real sockets, with the real rooms behind it.

mod documentation;
mod errors;
mod limits;
mod own_api;
mod page;
mod peer;
mod push;
mod reply;
mod rig;
mod shape;
mod startup;
