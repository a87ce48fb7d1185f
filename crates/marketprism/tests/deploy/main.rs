//! The ways of deployment, walked as far as a machine without a container engine can.
//!
//! The Dockerfile is replayed step by step in a bare chroot, and the program run from there as a container would run it:
//! own user, own network, own process numbers, 512 MiB. Compose files, manifests, the unit and the dashboard are read by
//! the tools and types of those who will read them.
//! Deliberately absent: the compiler's run inside the build stage; the program under test is this build's own.

mod compose;
mod container;
mod context;
mod dashboard;
mod dockerfile;
mod files;
mod guide;
mod image;
mod kubernetes;
mod pod;
#[path = "../it/program.rs"]
#[expect(dead_code, reason = "the other tests of the program need more of it")]
mod program;
mod prometheus;
mod service;
mod unit;
