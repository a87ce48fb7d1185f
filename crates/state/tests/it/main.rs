//! The records as their users see them: through the ports, on a file and in memory.

mod access;
mod durability;
mod files;
mod lists;
mod management;
mod outbox;
mod postgres;
mod records;
mod rules;
mod scale;
mod spool;
mod support;
