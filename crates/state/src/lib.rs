//! Keeps records: alerts with their events, clocks and groups, and the outbox of notifications.
//!
//! One SQLite file holds them all, because a transition, its event and the message about it must be
//! written together or not at all. The rooms see only the ports of `model::records`; a second database can
//! stand behind the same ports.
//! Deliberately absent: decisions about alerts, clocks, and a cache; samples stand in `storage`.

mod access_store;
mod alert_rows;
mod alert_search;
mod alert_store;
mod database;
mod lease_store;
mod migration;
mod outbox;
mod row;
mod session;
mod sqlite;
mod sqlite_files;
mod sqlite_session;

pub use database::{Database, OpenError, POINTS};
pub use sqlite_files::{BackupProgress, OpenReport, backup, restore};
