//! Keeps records: alerts, events, outbox.
