//! The lifecycle in simulated time: who would have been told, and how often.
//!
//! It is the same [`Alerts`], with its grouping, waiting and repeating, over records that are kept only to be counted
//! and a clock that its user moves. Nothing of it is sent, and nothing is logged when the user sees to that.
//! Deliberately absent: rules, and the past itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use marketprism_model::{
    Alert, AlertCommit, AlertEvent, AlertFilter, AlertSnapshot, AlertState, AlertStore, BoxFuture, Chance,
    Clock, Id, Incident, IncidentEvent, IncidentFilter, Lifecycle, LifecycleError, Page, Silence,
    SilenceFilter, StoreError, Timestamp,
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use crate::alerts::{Alerts, StartError};
use crate::config::{ChannelRoute, Config};

/// The most messages that are kept one by one; the others are counted.
const MESSAGES_MAX: usize = 10_000;
/// The channel that counts when nobody is configured to be told.
pub const SUPPOSED_CHANNEL: &str = "supposed";

/// A message that would have been sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SupposedMessage {
    /// When.
    pub at: Timestamp,
    /// Through which channel.
    pub channel: String,
    /// How many firing alerts it tells of.
    pub firing: usize,
    /// How many ended ones.
    pub resolved: usize,
}

/// What would have been told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// All messages.
    pub total: u64,
    /// By channel.
    pub by_channel: BTreeMap<String, u64>,
    /// The first of them, at most [`MESSAGES_MAX`].
    pub messages: Vec<SupposedMessage>,
    /// Whether no channel is configured, so that one was supposed that hears everything.
    pub is_supposed: bool,
}

/// The lifecycle of a backtest.
pub struct Rehearsal {
    alerts: Arc<Alerts>,
    records: Arc<Counted>,
    clock: Arc<Standing>,
}

impl Rehearsal {
    /// Begins at a moment. The settings are those of the program, but nothing waits to settle, for a past has no start.
    pub fn new(mut config: Config, start: Timestamp) -> Result<Self, StartError> {
        config.settle = Duration::ZERO;
        config.is_telling = true;
        let is_supposed = config
            .receivers
            .iter()
            .all(|receiver| receiver.channels.is_empty());
        if is_supposed {
            for receiver in &mut config.receivers {
                receiver.channels.push(ChannelRoute::new(SUPPOSED_CHANNEL, true));
            }
        }
        let clock = Arc::new(Standing(AtomicI64::new(start.millis())));
        let records = Arc::new(Counted::default());
        records.told.lock().is_supposed = is_supposed;
        let alerts = Alerts::load(
            config,
            Arc::clone(&records) as Arc<dyn AlertStore>,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(Sequence::default()),
            &mut Registry::default(),
        )?;
        Ok(Rehearsal {
            alerts,
            records,
            clock,
        })
    }

    /// Gives the lifecycle that observations go to.
    pub fn lifecycle(&self) -> &dyn Lifecycle {
        &*self.alerts
    }

    /// Lets time pass up to a moment: every group that is due until then is told of. Between two of them it asks whether
    /// to stop, and then stands where it is.
    pub fn move_to(&self, at: Timestamp, is_stopped: &dyn Fn() -> bool) -> Result<(), LifecycleError> {
        while let Some(due) = self.alerts.next_flush().filter(|due| *due <= at) {
            if is_stopped() {
                return Ok(());
            }
            // What is due already is due now; time never goes back.
            let due = due.max(self.clock.now());
            self.clock.0.store(due.millis(), Ordering::Relaxed);
            self.alerts.flush(due)?;
            if self.alerts.next_flush().is_some_and(|next| next <= due) {
                break;
            }
        }
        self.clock.0.store(at.millis(), Ordering::Relaxed);
        Ok(())
    }

    /// Gives what would have been told so far.
    pub fn told(&self) -> Told {
        self.records.told.lock().clone()
    }
}

/// A clock that shows what it was set to.
struct Standing(AtomicI64);

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.now().since(Timestamp::from_millis(0))
    }

    fn sleep_until(&self, _due: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn sleep(&self, _span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// Numbers one after the other: identities need only differ here.
#[derive(Default)]
struct Sequence(AtomicU64);

impl Chance for Sequence {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Records that are counted and forgotten.
#[derive(Default)]
struct Counted {
    told: Mutex<Told>,
}

fn unkept() -> StoreError {
    StoreError::Database {
        operation: "read",
        reason: "a rehearsal keeps no records".to_owned(),
    }
}

impl AlertStore for Counted {
    fn load(&self) -> Result<AlertSnapshot, StoreError> {
        Ok(AlertSnapshot::default())
    }

    fn commit(&self, commit: &AlertCommit) -> Result<(), StoreError> {
        if commit.outbox.is_empty() {
            return Ok(());
        }
        let mut told = self.told.lock();
        for message in &commit.outbox {
            told.total += 1;
            *told.by_channel.entry(message.channel.clone()).or_default() += 1;
            if told.messages.len() < MESSAGES_MAX {
                let alerts = &message.content.alerts;
                let firing = alerts
                    .iter()
                    .filter(|alert| alert.state == AlertState::Firing)
                    .count();
                told.messages.push(SupposedMessage {
                    at: message.created_at,
                    channel: message.channel.clone(),
                    firing,
                    resolved: alerts.len() - firing,
                });
            }
        }
        Ok(())
    }

    fn heartbeat(&self, _at: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    fn alerts(&self, _filter: &AlertFilter) -> Result<Page<Alert>, StoreError> {
        Err(unkept())
    }

    fn alert(&self, _id: Id) -> Result<Option<Alert>, StoreError> {
        Err(unkept())
    }

    fn events(&self, _alert: Id) -> Result<Vec<AlertEvent>, StoreError> {
        Err(unkept())
    }

    fn silences(&self, _filter: &SilenceFilter) -> Result<Page<Silence>, StoreError> {
        Err(unkept())
    }

    fn silence(&self, _id: Id) -> Result<Option<Silence>, StoreError> {
        Err(unkept())
    }

    fn incidents(&self, _filter: &IncidentFilter) -> Result<Page<Incident>, StoreError> {
        Err(unkept())
    }

    fn incident(&self, _id: Id) -> Result<Option<Incident>, StoreError> {
        Err(unkept())
    }

    fn incident_events(&self, _incident: Id) -> Result<Vec<IncidentEvent>, StoreError> {
        Err(unkept())
    }

    fn clean(&self, _now: Timestamp, _keep: Duration) -> Result<u64, StoreError> {
        Ok(0)
    }
}

impl Alerts {
    /// Begins a rehearsal with the settings that stand.
    pub fn rehearsal(&self, start: Timestamp) -> Result<Rehearsal, StartError> {
        let config = self.plan().config.clone();
        Rehearsal::new(config, start)
    }
}
