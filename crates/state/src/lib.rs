//! Keeps records: alerts with their events, clocks and groups, silences, incidents, and the outbox of notifications.
//!
//! One database holds them all, because a transition, its event and the message about it must be written together
//! or not at all: an embedded SQLite file for one process, a PostgreSQL server for several replicas. The rooms see only
//! the ports of `model`, and the same SQL runs on both; the engines differ in how a transaction is had.
//! Deliberately absent: decisions about alerts, clocks, and a cache; samples stand in `storage`.

mod access_store;
mod alert_rows;
mod alert_search;
mod alert_store;
mod cleaning;
mod database;
mod incident_rows;
mod lease_store;
mod migration;
mod outbox;
mod postgres;
mod postgres_runtime;
mod postgres_session;
mod postgres_url;
mod row;
mod rule_store;
mod session;
mod silence_rows;
mod spool;
mod spooled;
mod sqlite;
mod sqlite_files;
mod sqlite_session;

pub use database::{Database, OpenError, POINTS};
pub use spooled::SpooledRecords;
pub use sqlite_files::{BackupProgress, OpenReport, backup, restore};
