//! How the outbox's filler wakes its emptier.

use std::sync::Arc;

use tokio::sync::Notify;

/// Rung after a commit that put messages into the outbox. Clones ring the same bell; a ring while nobody
/// listens is kept, several rings are one.
#[derive(Clone, Default)]
pub struct OutboxBell(Arc<Notify>);

impl OutboxBell {
    /// Makes a bell.
    pub fn new() -> Self {
        OutboxBell::default()
    }

    /// Rings. Never waits.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn rung(&self) {
        self.0.notified().await;
    }
}
