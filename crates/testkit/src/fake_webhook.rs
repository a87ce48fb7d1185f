//! A webhook's receiver that takes everything, or behaves as told.

use crate::scripted::{Behaviour, ReceivedRequest, Scripted, answer};

/// Takes any request with 200 and remembers it.
pub struct FakeWebhook(Scripted);

impl FakeWebhook {
    /// Starts it.
    pub fn start() -> Self {
        FakeWebhook(Scripted::start(|_| answer(200, &[], "")))
    }

    /// Gives the URL to post to.
    pub fn url(&self) -> String {
        self.0.server().url("/hook")
    }

    /// Orders how the next request that has no order yet is met.
    pub fn order(&self, behaviour: Behaviour) {
        self.0.order(behaviour);
    }

    /// Gives what arrived, oldest first.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.0.received()
    }

    /// Counts the connections accepted so far.
    pub fn connections(&self) -> usize {
        self.0.server().connections()
    }
}
