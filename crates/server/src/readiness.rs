//! Whether requests may come: starting, standing by, ready, draining.
//!
//! The binary turns it, the server reads it. Health is another question: it asks whether the process
//! should be restarted, and a process that replays its log should not.

use std::sync::{Arc, PoisonError, RwLock};

/// Where the process stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Not yet: the reason says what is being done, for example `replaying the log, 43 %`.
    Starting(String),
    /// Another replica leads; requests are welcome and passed on to it.
    StandingBy {
        /// Where the leader answers, `host:port`; empty while nobody knows.
        leader: String,
    },
    /// Requests are welcome.
    Ready,
    /// The process is about to stop; what is under way still ends.
    Draining,
}

impl Phase {
    /// Gives the word used in the API.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Phase::Starting(_) => "starting",
            Phase::StandingBy { .. } => "standby",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
        }
    }
}

/// The handle to the phase; clones share it.
#[derive(Clone)]
pub struct Readiness(Arc<RwLock<Phase>>);

impl Default for Readiness {
    fn default() -> Self {
        Readiness(Arc::new(RwLock::new(Phase::Starting("starting".to_owned()))))
    }
}

impl Readiness {
    /// Says what the start is busy with; ignored once the process drains.
    pub fn starting(&self, reason: impl Into<String>) {
        self.turn(Phase::Starting(reason.into()));
    }

    /// Says that another replica leads, and where; ignored once the process drains.
    pub fn standing_by(&self, leader: impl Into<String>) {
        self.turn(Phase::StandingBy {
            leader: leader.into(),
        });
    }

    /// Opens the doors; ignored once the process drains.
    pub fn ready(&self) {
        self.turn(Phase::Ready);
    }

    /// Announces the end. There is no way back.
    pub fn draining(&self) {
        self.turn(Phase::Draining);
    }

    /// Gives the phase.
    pub fn phase(&self) -> Phase {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn turn(&self, next: Phase) {
        let mut phase = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if *phase != Phase::Draining {
            *phase = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_process_never_becomes_ready_again() {
        let readiness = Readiness::default();
        readiness.starting("replaying the log, 43 %");
        assert_eq!(
            readiness.phase(),
            Phase::Starting("replaying the log, 43 %".to_owned())
        );
        readiness.standing_by("10.0.0.7:8082");
        assert_eq!(readiness.phase().as_str(), "standby");
        readiness.ready();
        assert_eq!(readiness.phase(), Phase::Ready);
        readiness.draining();
        readiness.ready();
        assert_eq!(readiness.phase(), Phase::Draining);
    }
}
