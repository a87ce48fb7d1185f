//! The room's front: the book behind its lock, the store behind the book.
//!
//! Two locks. `book` guards memory and is held for microseconds. `writing` is held across a transaction, so
//! that transactions reach the store in the order in which they were taken out of the book; evaluations go
//! on meanwhile. Every method blocks for as long as the store does, except [`Alerts::observe`],
//! [`Alerts::active`] and [`Alerts::next_flush`]: call the others off the async threads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use marketprism_model::kill_point::kill_point;
use marketprism_model::{
    ActiveAlert, Alert, AlertStore, Chance, Clock, Id, Lifecycle, LifecycleError, Notification, Observation,
    RuleContext, RuleId, StoreError, Timestamp,
};
use parking_lot::{Mutex, MutexGuard};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::Notify;

use crate::book::{Book, Notice};
use crate::config::{Config, ConfigError};
use crate::metrics::Metrics;
use crate::observe::keyed;
use crate::plan::Plan;
use crate::told;

/// The kill points of this room.
pub const POINTS: &[&str] = &[
    "alerts.commit.before",
    "alerts.commit.after",
    "alerts.flush.before",
    "alerts.flush.after",
];

/// Why the lifecycle could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is out of its limits.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The records could not be read.
    #[error("alert records: {0}")]
    Store(#[from] StoreError),
}

/// Alerts that pend or fire, the oldest first.
pub type ActiveAlerts = Arc<Vec<Arc<Alert>>>;

/// The life of all alerts, and the decision who hears of them.
pub struct Alerts {
    pub(crate) book: Mutex<Book>,
    writing: Mutex<()>,
    pub(crate) store: Arc<dyn AlertStore>,
    pub(crate) clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// The monotonic time from which groups are flushed.
    settled_at: Mutex<Duration>,
    /// When the loop last turned, in milliseconds.
    pub(crate) turned_at: AtomicI64,
    /// Whether the last transaction was refused, so that nothing new is decided before it is through.
    is_behind: AtomicBool,
    snapshot: Mutex<(u64, ActiveAlerts)>,
    pub(crate) wake: Notify,
    outbox_filled: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl Alerts {
    /// Takes up everything where the store left it.
    ///
    /// Nothing is told before `config.settle` has passed, so that every rule has had its say. Run
    /// [`Alerts::run`] beside it, and call [`Lifecycle::retain_rules`] once the rules are loaded.
    pub fn load(
        config: Config,
        store: Arc<dyn AlertStore>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        registry: &mut Registry,
    ) -> Result<Arc<Self>, StartError> {
        let plan = Plan::new(config)?;
        let settled_at = clock.monotonic() + plan.config.settle;
        let snapshot = store.load()?;
        let metrics = Metrics::registered(registry);
        let mut book = Book::new(Arc::new(plan), chance, metrics.clone());
        book.restore(snapshot, clock.now());
        let turned_at = AtomicI64::new(clock.now().millis());
        Ok(Arc::new(Alerts {
            book: Mutex::new(book),
            writing: Mutex::new(()),
            store,
            clock,
            metrics,
            settled_at: Mutex::new(settled_at),
            turned_at,
            is_behind: AtomicBool::new(false),
            snapshot: Mutex::new((u64::MAX, Arc::default())),
            wake: Notify::new(),
            outbox_filled: Mutex::new(None),
        }))
    }

    /// Puts new settings in place, after validating all of them; groups follow a new `group_by` without
    /// telling anybody twice. `settle` counts only at the start, and when telling is switched on. When the store refuses, the settings stand and the
    /// records are written with the next tick.
    pub fn set_config(&self, config: Config) -> Result<(), StartError> {
        let plan = Arc::new(Plan::new(config)?);
        let _writing = self.writing.lock();
        {
            let mut book = self.book.lock();
            let now = self.clock.now();
            if plan.config.is_telling && !book.plan.config.is_telling {
                *self.settled_at.lock() = self.clock.monotonic() + plan.config.settle;
                book.tell_soon(now);
            }
            book.set_plan(plan, now);
            book.settle_limit(now);
        }
        // The settings stand, and so does their pace, even while the store refuses.
        self.wake.notify_one();
        Ok(self.write()?)
    }

    /// Gives the alerts that pend or fire; cheap when nothing changed since the last call.
    pub fn active(&self) -> ActiveAlerts {
        let mut snapshot = self.snapshot.lock();
        let book = self.book.lock();
        if snapshot.0 != book.version {
            let mut alerts: Vec<Arc<Alert>> = book.active.values().map(Arc::clone).collect();
            alerts.sort_unstable_by_key(|alert| alert.id);
            *snapshot = (book.version, Arc::new(alerts));
        }
        Arc::clone(&snapshot.1)
    }

    /// Calls `ring` after each transaction that put messages into the outbox, so that whoever delivers need
    /// not look for them. It must not wait. A later call replaces it.
    pub fn when_outbox_filled(&self, ring: impl Fn() + Send + Sync + 'static) {
        *self.outbox_filled.lock() = Some(Arc::new(ring));
    }

    /// Gives the settings as they are used.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.book.lock().plan)
    }

    /// Takes note that a message was given up without having reached its channel: what still fires is told
    /// again with the next tick of its group, and not only when repeats are due; and the fallback receiver hears of it
    /// at once. Never waits for the store.
    pub fn undelivered(&self, message: &Notification) {
        let mut book = self.book.lock();
        book.tell_again(message);
        if book.note_fallen(message) {
            drop(book);
            self.wake.notify_one();
        }
    }

    /// Gives when the loop last turned; it turns at least every half minute, or it is stuck.
    pub fn turned_at(&self) -> Timestamp {
        Timestamp::from_millis(self.turned_at.load(Ordering::Relaxed))
    }

    /// Gives when the next group, or anything else, is due; `None` when there is nothing.
    pub fn next_flush(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        let unsettled = self.unsettled();
        let mut book = self.book.lock();
        book.note_time(now);
        let flush = book.next_flush().map(|due| due.max(now + unsettled));
        let fallen = (!book.fallen.is_empty()).then_some(now);
        [flush, book.next_timer(), fallen].into_iter().flatten().min()
    }

    /// Decides for every group that is due who hears what, and writes it in one transaction; gives the number
    /// of messages. While an earlier transaction is still refused nothing is decided, unless the store tells messages that it
    /// could not write.
    pub fn flush(&self, now: Timestamp) -> Result<usize, LifecycleError> {
        let _writing = self.writing.lock();
        if self.is_behind.load(Ordering::Acquire)
            && let Err(error) = self.write()
            && !self.may_go_on(&error)
        {
            return Err(error.into());
        }
        let strangers = match self.fallen_strangers() {
            // Who stands in is decided when the records can be read again.
            Err(error) if self.may_go_on(&error) => None,
            strangers => Some(strangers?),
        };
        let messages = {
            let mut book = self.book.lock();
            book.run_timers(now);
            book.settle_limit_alert(now);
            let fallen = strangers.map_or(0, |strangers| book.fall_back(&strangers, now));
            fallen + if self.has_settled() { book.flush(now) } else { 0 }
        };
        kill_point("alerts.flush.before");
        self.write()?;
        kill_point("alerts.flush.after");
        Ok(messages)
    }

    fn may_go_on(&self, error: &StoreError) -> bool {
        matches!(error, StoreError::Database { .. }) && self.store.tells_while_away()
    }

    /// Reads the alerts of messages that were given up, as far as they are over and not in memory any more.
    fn fallen_strangers(&self) -> Result<HashMap<Id, Arc<Alert>>, StoreError> {
        let mut strangers = HashMap::new();
        let ids = self.book.lock().fallen_strangers();
        for id in ids {
            match self.store.alert(id) {
                Ok(Some(alert)) => {
                    strangers.insert(id, Arc::new(alert));
                }
                Ok(None) => {}
                // One record that nobody can read must not keep everything else from being told.
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::error!(alert_id = %id, %error, "告警记录已损坏，备用接收人的消息略过它");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(strangers)
    }

    /// Flushes, and notes that the lifecycle runs, for the next start. Before the first flush nothing is
    /// noted, for a heartbeat says that every group that was due until then was flushed.
    pub fn heartbeat(&self, now: Timestamp) -> Result<usize, LifecycleError> {
        {
            let mut book = self.book.lock();
            book.silences.clean(now);
            self.metrics.count_silences(book.silences.counts(now));
        }
        let messages = self.flush(now)?;
        if self.has_settled() {
            self.store.heartbeat(now)?;
        }
        Ok(messages)
    }

    /// Gives how long nothing is told yet.
    pub(crate) fn unsettled(&self) -> Duration {
        self.settled_at.lock().saturating_sub(self.clock.monotonic())
    }

    fn has_settled(&self) -> bool {
        self.clock.monotonic() >= *self.settled_at.lock()
    }

    /// Writes what has changed in one transaction. The caller holds `writing`.
    fn write(&self) -> Result<(), StoreError> {
        let mut changes = self.book.lock().take_changes();
        let lost = changes.take_lost();
        if lost > 0 {
            self.metrics.records_lost.inc_by(lost);
            tracing::error!(lost, "告警记录积压过多，最旧的已丢弃");
        }
        if changes.is_empty() {
            self.is_behind.store(false, Ordering::Release);
            return Ok(());
        }
        let commit = changes.to_commit();
        kill_point("alerts.commit.before");
        let written = self.store.commit(&commit);
        self.is_behind.store(written.is_err(), Ordering::Release);
        match written {
            Ok(()) => {
                kill_point("alerts.commit.after");
                self.metrics.commits.inc();
                if changes.messages() > 0 {
                    commit.outbox.iter().for_each(told::notification);
                    for message in &commit.outbox {
                        self.metrics.count_notification(&message.content.purpose);
                    }
                    let ring = self.outbox_filled.lock().clone();
                    ring.iter().for_each(|ring| ring());
                }
                Ok(())
            }
            Err(error) => {
                self.metrics.commit_failures.inc();
                self.book.lock().changes.put_back(changes);
                Err(error)
            }
        }
    }

    /// Writes what has changed, for acts of people.
    pub(crate) fn write_now(&self) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        self.write()
    }

    /// Lets go of the book and says what began to fire.
    pub(crate) fn announce(&self, mut book: MutexGuard<'_, Book>) {
        let notices = std::mem::take(&mut book.notices);
        drop(book);
        if notices.is_empty() {
            return;
        }
        self.wake.notify_one();
        for Notice { alert, level } in notices {
            told::alert(&alert, level);
        }
    }
}

impl Lifecycle for Alerts {
    fn observe(
        &self,
        rule: &RuleContext,
        at: Timestamp,
        observations: Vec<Observation>,
    ) -> Result<Vec<ActiveAlert>, LifecycleError> {
        let observations = keyed(observations)?;
        let mut book = self.book.lock();
        let active = book.observe(rule, at, &observations);
        if !book.notices.is_empty() {
            self.announce(book);
        }
        Ok(active)
    }

    fn held(&self, rule: RuleId) -> Vec<ActiveAlert> {
        self.book.lock().held_by(rule)
    }

    fn commit(&self, _at: Timestamp) -> Result<(), LifecycleError> {
        let _writing = self.writing.lock();
        Ok(self.write()?)
    }

    fn retain_rules(&self, rules: &[RuleId], at: Timestamp) -> Result<(), LifecycleError> {
        let mut book = self.book.lock();
        book.retain_rules(rules, at);
        self.announce(book);
        Ok(self.write_now()?)
    }
}
