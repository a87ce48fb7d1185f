//! The user's deployment guide, walked from top to bottom.
//!
//! Its blocks are run and read as they stand: shell lines by bash, with functions in place of what a test machine lacks;
//! YAML by the program and by the manifests that are shipped. Each promise is held against a running program.
//! `walk.rs` fails when the guide has a block that no test claims.
//! Deliberately absent: the Dockerfile's steps, the schemas of compose and Kubernetes; `tests/deploy` has them.

mod backup;
mod compose;
mod configuration;
mod direct;
mod environment;
mod guide;
mod host;
mod kubernetes;
mod operating;
#[path = "../it/program.rs"]
#[expect(dead_code, reason = "the other tests of the program need more of it")]
mod program;
#[path = "../it/remote_write.rs"]
mod remote_write;
mod security;
mod settings;
mod walk;
mod watching;
mod web;
