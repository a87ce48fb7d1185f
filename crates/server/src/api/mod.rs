//! Our own API under `/api/v1`: snake_case, RFC 3339 in UTC, lists of `{items, next_cursor}`.
//!
//! The documents are written here and not derived from the records, so that a change of a record does not
//! change what clients read. Deliberately absent: decisions. Acknowledging is a function of `alerts`.

pub mod acts;
pub mod alerts;
pub mod audit;
pub mod auth;
pub mod backtest;
pub mod document;
pub mod incidents;
pub mod list;
pub mod notifications;
pub mod routes;
pub mod rules;
pub mod schedules;
pub mod silences;
pub mod stats;
pub mod tokens;
pub mod users;
pub mod why;
