//! The loop that empties the outbox.
//!
//! Every attempt is recorded before its first byte leaves and after its answer, so that a crash leaves at
//! most one attempt uncertain, never one forgotten. Channels go on side by side; within one group and channel
//! order is kept by the outbox itself. Nothing here is lost when the database is away: what cannot be
//! recorded is not sent.
//! Deliberately absent: who should hear; that was decided when the notification was made.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use marketprism_model::{Chance, Clock, Id, Notification, Outbox, StoreError, Timestamp};
use marketprism_net::Transport;
use marketprism_net::smtp::MailTransport;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::backlog::Backlog;
use crate::bell::OutboxBell;
use crate::build::{self, Doors};
use crate::channel::{Attempt, Channel, Delivery};
use crate::compose::compose;
use crate::config::Prepared;
use crate::delivery::{Deliverer, Ending};
use crate::links::Links;
use crate::metrics::Metrics;
use crate::sample;
use crate::trace::Trace;
use crate::window::Window;

/// How many due notifications are asked for at first, and at most when others stand in the way.
const DUE_FIRST: usize = 64;
const DUE_MAX: usize = 4096;
/// How often the outbox is looked at although nothing rang: another replica may have filled it.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// How soon it is looked at again while something due stands behind something under way.
const LOOK_BEHIND: Duration = Duration::from_secs(1);
/// How long the loop leaves a database alone that refuses.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// How long attempts that are under way at the end may take to come to theirs.
const GRACE: Duration = Duration::from_secs(10);
/// A wall clock that shows this much less than it should was set back. Less is waited for.
const SET_BACK_MIN: Duration = Duration::from_secs(1);
/// Nothing is planned further ahead than this: the longest wish of a provider that is granted. What stands further
/// away was planned by a clock that has been set back since.
const PLANNED_AHEAD_MAX: Duration = crate::http_answer::RETRY_AFTER_MAX;
/// How often the waiting notifications are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);

/// No channel has that name, or it is not in use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no channel {0:?} is in use")]
pub struct UnknownChannel(pub String);

/// Delivers what the outbox holds.
pub struct Notifier {
    deliverer: Arc<Deliverer>,
    doors: Doors,
    lineup: ArcSwap<Lineup>,
    windows: Mutex<HashMap<String, Window>>,
    bell: OutboxBell,
    turned_at: AtomicI64,
}

/// How busy the delivery is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Attempts under way.
    pub running: u64,
    /// Notifications that wait, for a turn, a retry or a free worker.
    pub waiting: u64,
    /// The most attempts at the same time.
    pub running_max: u64,
}

/// What a configuration makes of the notifier; replaced whole.
struct Lineup {
    is_enabled: bool,
    channels: BTreeMap<String, Arc<dyn Channel>>,
    max_workers: usize,
}

impl Lineup {
    fn new(prepared: &Prepared, doors: &Doors) -> Self {
        Lineup {
            is_enabled: prepared.is_enabled,
            channels: build::channels(prepared, doors),
            max_workers: prepared.max_workers,
        }
    }
}

impl Notifier {
    /// Makes a notifier. `links` say where links in messages lead; its figures join `registry`.
    pub fn new(
        prepared: &Prepared,
        links: Links,
        outbox: Arc<dyn Outbox>,
        transport: Arc<dyn Transport>,
        mailer: Arc<dyn MailTransport>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        registry: &mut Registry,
    ) -> Self {
        let doors = Doors {
            transport,
            mailer,
            links,
        };
        let lineup = Lineup::new(prepared, &doors);
        let metrics = Metrics::register(registry);
        metrics.introduce(lineup.channels.keys(), lineup.max_workers);
        Notifier {
            lineup: ArcSwap::from_pointee(lineup),
            doors,
            turned_at: AtomicI64::new(clock.now().millis()),
            deliverer: Arc::new(Deliverer {
                outbox,
                clock,
                chance,
                metrics,
                given_up: Mutex::new(None),
            }),
            windows: Mutex::default(),
            bell: OutboxBell::new(),
        }
    }

    /// Gives the bell to ring after a commit that filled the outbox.
    pub fn bell(&self) -> OutboxBell {
        self.bell.clone()
    }

    /// Calls `heard` with each notification that is given up at its deadline, after that is recorded; what was
    /// refused for good is not among them. It must not wait. A later call replaces it.
    pub fn when_given_up(&self, heard: impl Fn(&Notification) + Send + Sync + 'static) {
        *self.deliverer.given_up.lock() = Some(Arc::new(heard));
    }

    /// Names the channels in use.
    pub fn channel_names(&self) -> Vec<String> {
        self.lineup.load().channels.keys().cloned().collect()
    }

    /// Puts other channels in the place of those in use, and another number of workers; attempts under way end
    /// as they began, and turns taken with a credential stay taken.
    pub fn set_channels(&self, prepared: &Prepared) {
        let lineup = Lineup::new(prepared, &self.doors);
        let metrics = &self.deliverer.metrics;
        for gone in self.channel_names() {
            if !lineup.channels.contains_key(&gone) {
                metrics.forget(&gone);
            }
        }
        metrics.introduce(lineup.channels.keys(), lineup.max_workers);
        self.lineup.store(Arc::new(lineup));
        self.bell.ring();
    }

    /// Says how busy the delivery is. What waits was counted at most half a minute ago.
    pub fn load(&self) -> Load {
        let metrics = &self.deliverer.metrics;
        let count = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or_default();
        let running = count(&metrics.running);
        Load {
            running,
            waiting: count(&metrics.pending).saturating_sub(running),
            running_max: self.lineup.load().max_workers as u64,
        }
    }

    /// Gives when the loop last turned; it turns at least every half minute, or it is stuck.
    pub fn turned_at(&self) -> Timestamp {
        Timestamp::from_millis(self.turned_at.load(Ordering::Relaxed))
    }

    /// Sends a test message through one channel, past the outbox, and gives the provider's answer.
    pub async fn test_send(&self, channel: &str) -> Result<Delivery, UnknownChannel> {
        let unknown = || UnknownChannel(channel.to_owned());
        let lineup = self.lineup.load_full();
        let found = lineup.channels.get(channel).ok_or_else(unknown)?;
        let now = self.deliverer.clock.now();
        let notification = sample::test_notification(channel, now, &*self.deliverer.chance);
        let message = compose(&notification, found.audience());
        let attempt = Attempt::at(notification.id, 1, now);
        Ok(found.deliver(&notification, &message, attempt).await)
    }

    /// Delivers until `cancel`; attempts under way then have ten seconds to end.
    pub async fn run(&self, cancel: CancellationToken) {
        let mut shift = Shift::default();
        tokio::select! {
            () = cancel.cancelled() => return,
            () = self.recover() => {}
        }
        while !cancel.is_cancelled() {
            self.turned_at
                .store(self.deliverer.clock.now().millis(), Ordering::Relaxed);
            let next_look = self.start_due(&mut shift).await;
            self.deliverer.metrics.running.set(shift.workers.len() as i64);
            let clock = &self.deliverer.clock;
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.bell.rung() => {}
                Some(ending) = shift.workers.join_next() => self.take_back(&mut shift, ending),
                () = clock.sleep_until(next_look) => {}
                // The wall clock may be set back; then this one brings the loop round.
                () = clock.sleep(LOOK_ANYWAY) => {}
            }
        }
        self.wind_up(shift).await;
    }

    /// Makes attempts that a crash cut due again; does not rest until the database has done it.
    async fn recover(&self) {
        loop {
            let now = self.deliverer.clock.now();
            let recovered = self.deliverer.store(move |outbox| {
                outbox.bring_forward(now + PLANNED_AHEAD_MAX)?;
                outbox.recover(now)
            });
            match recovered.await {
                Ok(0) => return,
                Ok(count) => {
                    tracing::warn!(count, "attempts were cut short and are made again");
                    self.deliverer.metrics.uncertain(count);
                    return;
                }
                Err(error) => {
                    self.note_store_error(&error);
                    self.deliverer.clock.sleep(STORE_PAUSE).await;
                }
            }
        }
    }

    /// Starts whatever is due and may start; says when to look again.
    ///
    /// A moment and not a span, so that what the clock shows meanwhile is never slept through.
    async fn start_due(&self, shift: &mut Shift) -> Timestamp {
        let looked = Look {
            at: self.deliverer.clock.now(),
            monotonic: self.deliverer.clock.monotonic(),
        };
        if let Some(until) = shift.paused_until.filter(|until| *until > looked.monotonic) {
            return looked.moment_of(until);
        }
        if let Err(error) = self.follow_clock(shift, &looked).await {
            return self.pause_for_store(shift, &looked, &error);
        }
        self.count_pending(shift, &looked).await;
        let lineup = self.lineup.load_full();
        if !lineup.is_enabled {
            return looked.at + LOOK_ANYWAY;
        }
        let mut limit = DUE_FIRST;
        loop {
            let at = looked.at;
            let due = match self.deliverer.store(move |outbox| outbox.due(at, limit)).await {
                Ok(due) => due,
                Err(error) => return self.pause_for_store(shift, &looked, &error),
            };
            let found = due.len();
            for notification in due {
                self.start(shift, &lineup, notification);
            }
            let is_full = shift.workers.len() >= lineup.max_workers;
            if found < limit || is_full || limit >= DUE_MAX {
                break;
            }
            // Everything that was given stands behind held channels; look past it.
            limit *= 4;
        }
        self.next_look(shift, &looked).await
    }

    /// Makes everything that waits due when the wall clock was set back since the last look: an attempt too early does
    /// no harm, and what a provider wished is kept by the monotonic clock.
    async fn follow_clock(&self, shift: &mut Shift, looked: &Look) -> Result<(), StoreError> {
        let expected = shift.looked.map(|before| before.moment_of(looked.monotonic));
        let back = expected.map_or(Duration::ZERO, |expected| expected.since(looked.at));
        if back > SET_BACK_MIN {
            let now = looked.at;
            let count = self
                .deliverer
                .store(move |outbox| outbox.bring_forward(now))
                .await?;
            tracing::warn!(
                count,
                "the wall clock was set back; what waited for a later time is due now"
            );
        }
        shift.looked = Some(*looked);
        Ok(())
    }

    /// Starts one delivery, unless it is under way, its channel has no turn, or all workers are busy.
    fn start(&self, shift: &mut Shift, lineup: &Lineup, notification: Notification) {
        if shift.under_way.contains(&notification.id) || shift.workers.len() >= lineup.max_workers {
            return;
        }
        let monotonic = self.deliverer.clock.monotonic();
        if shift
            .held
            .get(&notification.channel)
            .is_some_and(|until| *until > monotonic)
        {
            return;
        }
        let channel = lineup.channels.get(&notification.channel).cloned();
        if let Some(channel) = &channel
            && let Some(rate) = channel.rate()
        {
            let mut windows = self.windows.lock();
            let window = windows
                .entry(rate.credential.clone())
                .or_insert_with(|| Window::new(&rate));
            if let Err(free_at) = window.take(monotonic) {
                shift.held.insert(notification.channel.clone(), free_at);
                return;
            }
        }
        shift.under_way.insert(notification.id);
        let number = notification.attempts + 1;
        let trace_id = Trace::of(notification.id, number).trace_id();
        let span = tracing::info_span!("delivery", trace_id, channel = notification.channel, number);
        let deliverer = Arc::clone(&self.deliverer);
        let attempt = async move { deliverer.attempt(notification, channel).await };
        shift.workers.spawn(attempt.instrument(span));
    }

    /// Takes a worker back and draws the consequences for the channel or for all.
    fn take_back(&self, shift: &mut Shift, ending: Result<Ending, tokio::task::JoinError>) {
        let ending = match ending {
            Ok(ending) => ending,
            Err(error) => {
                tracing::error!(error = %error, "a delivery ended without an outcome; it is uncertain until the next start");
                return;
            }
        };
        shift.under_way.remove(&ending.notification);
        if let Some(until) = ending.held_until {
            shift.held.insert(ending.channel, until);
        }
        if !ending.is_recorded {
            shift.paused_until = Some(self.deliverer.clock.monotonic() + STORE_PAUSE);
        }
    }

    /// Says when to look again: when the next one is due, when a channel has a turn, or soon anyway.
    async fn next_look(&self, shift: &mut Shift, looked: &Look) -> Timestamp {
        shift.held.retain(|_, until| *until > looked.monotonic);
        let next_turn = shift.held.values().min().map(|until| looked.moment_of(*until));
        let due = match self.deliverer.store(|outbox| outbox.next_due()).await {
            Ok(due) => due,
            Err(error) => return self.pause_for_store(shift, looked, &error),
        };
        // What was due at the look and did not start stands behind something, and so may hide from us when the
        // next one is due.
        let next_due = due.map(|due| match due <= looked.at {
            true => looked.at + LOOK_BEHIND,
            false => due,
        });
        let anyway = looked.at + LOOK_ANYWAY;
        [next_turn, next_due]
            .into_iter()
            .flatten()
            .fold(anyway, Timestamp::min)
    }

    fn pause_for_store(&self, shift: &mut Shift, looked: &Look, error: &StoreError) -> Timestamp {
        self.note_store_error(error);
        shift.paused_until = Some(looked.monotonic + STORE_PAUSE);
        looked.at + STORE_PAUSE
    }

    fn note_store_error(&self, error: &StoreError) {
        self.deliverer.metrics.store_errors.inc();
        tracing::warn!(error = %error, "the outbox cannot be used; nothing is sent meanwhile");
    }

    async fn count_pending(&self, shift: &mut Shift, looked: &Look) {
        let is_fresh = |at| looked.monotonic < at + COUNT_INTERVAL;
        if shift.counted_at.is_some_and(is_fresh) {
            return;
        }
        shift.counted_at = Some(looked.monotonic);
        let counted = self.deliverer.store(Backlog::count).await;
        // Whoever reads the outbox next says what is wrong with it.
        if let Ok(backlog) = counted {
            self.deliverer.metrics.backlog(&backlog, looked.at);
        }
    }

    /// Lets attempts end, and cuts those that do not; the next start finds them uncertain.
    async fn wind_up(&self, mut shift: Shift) {
        let deadline = self.deliverer.clock.sleep(GRACE);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                ending = shift.workers.join_next() => match ending {
                    None => return,
                    Some(ending) => self.take_back(&mut shift, ending),
                },
                () = &mut deadline => {
                    let count = shift.workers.len();
                    tracing::warn!(count, "deliveries were cut short by the shutdown");
                    shift.workers.shutdown().await;
                    return;
                }
            }
        }
    }
}

/// What the loop keeps in mind between two looks at the outbox. Moments are monotonic.
#[derive(Default)]
struct Shift {
    workers: JoinSet<Ending>,
    under_way: HashSet<Id>,
    /// Channels without a turn, until when.
    held: HashMap<String, Duration>,
    /// Nothing starts before this, because the database refused.
    paused_until: Option<Duration>,
    counted_at: Option<Duration>,
    /// The last look, by which a clock that was set back is noticed.
    looked: Option<Look>,
}

/// One look at both clocks.
#[derive(Clone, Copy)]
struct Look {
    at: Timestamp,
    monotonic: Duration,
}

impl Look {
    /// Says when the wall clock will show a monotonic moment, if nobody sets it meanwhile.
    fn moment_of(&self, monotonic: Duration) -> Timestamp {
        self.at + monotonic.saturating_sub(self.monotonic)
    }
}
