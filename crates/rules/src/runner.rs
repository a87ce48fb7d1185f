//! The loop that runs the groups.
//!
//! One task owns the plan; a group's memory travels to a blocking thread with its tick and comes back with
//! the outcome, so nothing is locked. Groups of one moment travel together and share what they read. A
//! group that is still away when its next tick is due misses that tick. A reload waits until all groups
//! are home.
//! Deliberately absent: what a rule means; that is [`evaluate_group`].

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use marketprism_model::{
    BoxFuture, Clock, Id, Lifecycle, LifecycleError, RuleContext, RuleId, SampleSink, SeriesSource, Timestamp,
};
use marketprism_promql::Engine;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::deadline::Deadline;
use crate::evaluate::{Installation, Ports, Tick, evaluate_group};
use crate::group::{Group, take_over};
use crate::hold::{HasData, Hold};
use crate::metrics::{Metrics, Workers};
use crate::pace::{Pace, Step};
use crate::rule::GroupSpec;
use crate::set::RuleSet;
use crate::snapshot::{Health, RulesSnapshot};

/// What the loop is made of.
pub struct RunnerParts {
    /// Evaluates expressions; should serve `source` alone.
    pub engine: Arc<Engine>,
    /// Gives series.
    pub source: Arc<dyn SeriesSource>,
    /// Takes recorded series and `ALERTS`.
    pub sink: Arc<dyn SampleSink>,
    /// Takes observations.
    pub lifecycle: Arc<dyn Lifecycle>,
    /// Gives the time.
    pub clock: Arc<dyn Clock>,
    /// What templates may say about us.
    pub installation: Installation,
    /// How many batches of groups may be evaluated side by side; at least 1.
    pub workers: usize,
}

/// The loop, to be spawned.
pub struct Runner {
    parts: Arc<RunnerParts>,
    installation: Arc<Installation>,
    set: RuleSet,
    lanes: Vec<Lane>,
    commands: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    metrics: Metrics,
    running: JoinSet<Batch>,
    waiting: VecDeque<Vec<Due>>,
    hold: Hold,
}

/// The rules as others see them, and the way to replace them. Clones share it.
#[derive(Clone)]
pub struct RulesHandle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// How busy the evaluation is, in batches of groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Batches that are being evaluated.
    pub running: u64,
    /// Batches that wait for a free worker.
    pub waiting: u64,
    /// The most at the same time.
    pub running_max: u64,
}

/// Why the rules could not be replaced.
#[derive(Debug, Error)]
pub enum ReplaceError {
    /// The loop has ended.
    #[error("the rule loop has ended")]
    Stopped,
    /// The new rules run, but alerts of removed rules could not be resolved yet.
    #[error("alerts of removed rules: {0}")]
    Lifecycle(#[from] LifecycleError),
}

struct Shared {
    snapshot: ArcSwap<RulesSnapshot>,
    workers: Workers,
    turned_at: AtomicI64,
}

struct Command {
    set: RuleSet,
    resting: Vec<Id>,
    installation: Installation,
    done: oneshot::Sender<Result<(), ReplaceError>>,
}

/// One group in the plan; its memory is `None` while it is evaluated.
struct Lane {
    spec: Arc<GroupSpec>,
    pace: Pace,
    group: Option<Box<Group>>,
    /// Ticks that were skipped while the group was away, not told to it yet.
    missed_away: u64,
}

/// A group on its way.
struct Due {
    lane: usize,
    at: Timestamp,
    group: Box<Group>,
}

type Batch = Vec<(usize, Box<Group>, Tick)>;

/// The loop looks around at least this often, so that a clock that was set back is noticed.
const TURN_MAX: Duration = Duration::from_secs(5);
/// How often the loop looks for data while rules wait for it.
const HOLD_TURN: Duration = Duration::from_millis(100);
/// More rules than this go to another worker, when one is free.
const BATCH_RULES: usize = 200;

/// Makes the loop and its handle. Nothing runs before [`Runner::run`] is polled.
pub fn runner(set: RuleSet, parts: RunnerParts, registry: &mut Registry) -> (RulesHandle, Runner) {
    let (sender, commands) = mpsc::channel(4);
    let metrics = Metrics::register(registry);
    metrics.workers.running_max.set(parts.workers.max(1) as i64);
    let shared = Arc::new(Shared {
        snapshot: ArcSwap::default(),
        workers: metrics.workers.clone(),
        turned_at: AtomicI64::new(parts.clock.now().millis()),
    });
    let handle = RulesHandle {
        shared: Arc::clone(&shared),
        commands: sender,
    };
    let mut runner = Runner {
        installation: Arc::new(parts.installation.clone()),
        set: RuleSet::default(),
        lanes: Vec::new(),
        commands,
        shared,
        metrics,
        running: JoinSet::new(),
        waiting: VecDeque::new(),
        hold: Hold::default(),
        parts: Arc::new(parts),
    };
    let groups = set
        .groups
        .iter()
        .map(|spec| Group::new(spec, &runner.parts.engine))
        .collect();
    runner.install(set, groups);
    (handle, runner)
}

impl RulesHandle {
    /// Gives the rules as they stand after their last evaluation.
    pub fn snapshot(&self) -> Arc<RulesSnapshot> {
        self.shared.snapshot.load_full()
    }

    /// Says how busy the evaluation is, in batches of groups.
    pub fn load(&self) -> Load {
        let workers = &self.shared.workers;
        let count = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or_default();
        Load {
            running: count(&workers.running),
            waiting: count(&workers.waiting),
            running_max: count(&workers.running_max),
        }
    }

    /// Gives when the loop last turned; it turns at least every few seconds, or it is stuck.
    pub fn turned_at(&self) -> Timestamp {
        Timestamp::from_millis(self.shared.turned_at.load(Ordering::Relaxed))
    }

    /// Replaces all rules. Rules that are in both sets keep what they hold; alerts of rules that are gone
    /// resolve, and their series end. Returns when the new rules are in place.
    pub async fn replace(&self, set: RuleSet, installation: Installation) -> Result<(), ReplaceError> {
        self.replace_beside(Vec::new(), set, installation).await
    }

    /// The same, with the records that are there and whose groups are not in the set: their alerts stand while the set is
    /// incomplete.
    pub(crate) async fn replace_beside(
        &self,
        resting: Vec<Id>,
        set: RuleSet,
        installation: Installation,
    ) -> Result<(), ReplaceError> {
        let (done, outcome) = oneshot::channel();
        let command = Command {
            set,
            resting,
            installation,
            done,
        };
        self.commands
            .send(command)
            .await
            .map_err(|_| ReplaceError::Stopped)?;
        outcome.await.map_err(|_| ReplaceError::Stopped)?
    }
}

impl Runner {
    /// Lets rules wait after a start, and after each gap in the wall clock's time, until `has_data` says that what is
    /// scraped has come in since, or seventy seconds have passed: a target that is never asked must not stop the rules.
    pub fn waiting_for(mut self, has_data: HasData) -> Self {
        self.hold = Hold::new(has_data);
        self
    }

    /// Runs until `stop`, then waits for what is being evaluated.
    pub async fn run(mut self, stop: CancellationToken) {
        self.begin().await;
        let mut command: Option<Command> = None;
        let mut is_heard = true;
        while !stop.is_cancelled() {
            let now = self.parts.clock.now();
            self.shared.turned_at.store(now.millis(), Ordering::Relaxed);
            if let Some(taken) = command.take_if(|_| self.running.is_empty() && self.waiting.is_empty()) {
                self.replace(taken).await;
                continue;
            }
            let is_held = self.hold.is_on(now, self.parts.clock.monotonic());
            let next = match command {
                _ if is_held => self.put_off(now),
                Some(_) => now + TURN_MAX,
                None => self.plan(now),
            };
            self.dispatch(&stop);
            self.show_load();
            let pause = self.pause(next);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(batch) = self.running.join_next() => self.take_back(batch),
                received = self.commands.recv(), if command.is_none() && is_heard => match received {
                    Some(received) => command = Some(received),
                    // Nobody can ask any more; the rules run on.
                    None => is_heard = false,
                },
                () = pause => {}
            }
        }
        while let Some(batch) = self.running.join_next().await {
            self.take_back(batch);
        }
    }

    /// Tells the lifecycle which rules exist. Not when a file could not be read: its alerts must not resolve.
    async fn begin(&self) {
        if !self.set.is_complete {
            tracing::warn!(
                logger = "rules",
                "not all rules are known, for a file is faulty or rules are switched off: alerts of rules that are missing are kept"
            );
            return;
        }
        if let Err(error) = retain(&self.parts, self.set.alerting_ids()).await {
            tracing::error!(logger = "rules", error = %error, "alerts of removed rules could not be resolved");
        }
    }

    /// Waits for the wall clock to show `until`; a clock that was set back ends the waiting too.
    fn pause(&self, until: Timestamp) -> BoxFuture<'static, ()> {
        let clock = &self.parts.clock;
        let span = until.since(clock.now()).min(TURN_MAX) + Duration::from_millis(100);
        let (due, turn) = (clock.sleep_until(until), clock.sleep(span));
        Box::pin(async move {
            tokio::select! {
                () = due => {}
                () = turn => {}
            }
        })
    }

    /// Moves ticks that fall due while rules wait behind the waiting: at their moments there was nothing to see.
    fn put_off(&mut self, now: Timestamp) -> Timestamp {
        for lane in &mut self.lanes {
            lane.pace.put_off(now);
        }
        now + HOLD_TURN
    }

    /// Puts due groups in line and gives the next moment when one is due.
    fn plan(&mut self, now: Timestamp) -> Timestamp {
        let mut next = now + TURN_MAX;
        let mut due: BTreeMap<(Timestamp, Duration), Vec<Due>> = BTreeMap::new();
        for (lane_number, lane) in self.lanes.iter_mut().enumerate() {
            match lane.pace.step(now) {
                Step::Wait { until } => next = next.min(until),
                Step::Run { at, missed } => {
                    next = next.min(lane.pace.due());
                    let taken = lane.group.take();
                    let missed = missed + u64::from(taken.is_none());
                    if missed > 0 {
                        self.metrics.missed(&lane.spec, missed);
                        tracing::warn!(logger = "rules", group = %lane.spec.name, missed, "ticks were skipped");
                    }
                    let Some(mut group) = taken else {
                        lane.missed_away += missed;
                        continue;
                    };
                    group.missed += missed;
                    due.entry((at, lane.spec.query_offset)).or_default().push(Due {
                        lane: lane_number,
                        at,
                        group,
                    });
                }
            }
        }
        for groups in due.into_values() {
            let batches = self.split(groups);
            self.waiting.extend(batches);
        }
        next
    }

    /// Splits groups of one moment among the workers, whole groups and not too few rules each.
    fn split(&self, groups: Vec<Due>) -> Vec<Vec<Due>> {
        let rules: usize = groups.iter().map(|due| due.group.rules.len()).sum();
        let parts = (rules / BATCH_RULES).clamp(1, self.parts.workers.max(1));
        let share = rules.div_ceil(parts).max(1);
        let mut batches: Vec<Vec<Due>> = Vec::new();
        let mut filled = share;
        for due in groups {
            if filled >= share {
                batches.push(Vec::new());
                filled = 0;
            }
            filled += due.group.rules.len().max(1);
            if let Some(batch) = batches.last_mut() {
                batch.push(due);
            }
        }
        batches
    }

    /// Sends waiting batches to free workers, the oldest first.
    fn dispatch(&mut self, stop: &CancellationToken) {
        while self.running.len() < self.parts.workers.max(1) {
            let Some(batch) = self.waiting.pop_front() else {
                return;
            };
            let (parts, installation, stop) = (
                Arc::clone(&self.parts),
                Arc::clone(&self.installation),
                stop.clone(),
            );
            self.running
                .spawn_blocking(move || evaluate_batch(batch, &parts, &installation, stop));
        }
    }

    fn show_load(&self) {
        let workers = &self.metrics.workers;
        workers.running.set(self.running.len() as i64);
        workers.waiting.set(self.waiting.len() as i64);
    }

    fn take_back(&mut self, batch: Result<Batch, tokio::task::JoinError>) {
        let batch = match batch {
            Ok(batch) => batch,
            // Panics are caught inside, so this is a worker that was cut off by the runtime's end.
            Err(error) => {
                tracing::error!(logger = "rules", error = %error, "a worker was lost");
                return;
            }
        };
        let mut snapshot = RulesSnapshot::clone(&self.shared.snapshot.load());
        for (number, mut group, tick) in batch {
            self.metrics.ticked(&group, &tick);
            let Some(lane) = self.lanes.get_mut(number) else {
                continue;
            };
            group.missed += std::mem::take(&mut lane.missed_away);
            if let Some(shown) = snapshot.groups.get_mut(number) {
                *shown = Arc::new(group.snapshot());
            }
            lane.group = Some(group);
        }
        self.shared.snapshot.store(Arc::new(snapshot));
    }

    /// Puts a new set in the place of the old one; all groups are home.
    async fn replace(&mut self, command: Command) {
        let old: Vec<Group> = self
            .lanes
            .drain(..)
            .filter_map(|lane| lane.group)
            .map(|group| *group)
            .collect();
        for spec in &self.set.groups {
            self.metrics.forget(spec);
        }
        let (groups, leftovers) = take_over(old, &command.set, &self.parts.engine);
        self.installation = Arc::new(command.installation);
        let (ids, is_complete) = (command.set.alerting_ids(), command.set.is_complete);
        let gone = self.set.taken_away(&command.set, &command.resting);
        self.install(command.set, groups);
        let parts = Arc::clone(&self.parts);
        let ended = tokio::task::spawn_blocking(move || leftovers.end(&*parts.sink, parts.clock.now())).await;
        if let Err(error) = ended {
            tracing::error!(logger = "rules", error = %error, "series of removed rules were not ended");
        }
        let outcome = match is_complete {
            true => retain(&self.parts, ids).await,
            // What a faulty file held is not known; what somebody deleted is.
            false => end(&self.parts, gone).await,
        };
        let outcome = outcome.map_err(ReplaceError::from);
        // Whoever asked may have gone.
        let _ = command.done.send(outcome);
    }

    fn install(&mut self, set: RuleSet, groups: Vec<Group>) {
        let now = self.parts.clock.now();
        self.lanes = groups
            .into_iter()
            .map(|group| {
                let spec = Arc::clone(&group.spec);
                self.metrics.introduce(&spec);
                // A tick that ran before a reload must not come again after it, and one that fell due
                // meanwhile is not lost.
                let from = match group.last_at {
                    Some(last_at) if is_near(last_at, now, spec.interval) => {
                        last_at + Duration::from_millis(1)
                    }
                    _ => now,
                };
                Lane {
                    pace: Pace::of(&spec, from),
                    group: Some(Box::new(group)),
                    missed_away: 0,
                    spec,
                }
            })
            .collect();
        self.set = set;
        let groups = self.lanes.iter().filter_map(|lane| lane.group.as_ref());
        let groups = groups.map(|group| Arc::new(group.snapshot())).collect();
        self.shared.snapshot.store(Arc::new(RulesSnapshot { groups }));
    }
}

/// Says whether a tick is recent enough to plan on from it; a clock that was set back makes it the future.
fn is_near(tick: Timestamp, now: Timestamp, interval: Duration) -> bool {
    now.since(tick) <= interval.saturating_mul(2) && tick.since(now) <= interval
}

async fn retain(parts: &Arc<RunnerParts>, ids: Vec<RuleId>) -> Result<(), LifecycleError> {
    tell(parts, move |lifecycle, now| lifecycle.retain_rules(&ids, now)).await
}

/// Ends the alerts of rules that are gone for sure.
async fn end(parts: &Arc<RunnerParts>, gone: Vec<RuleContext>) -> Result<(), LifecycleError> {
    if gone.is_empty() {
        return Ok(());
    }
    tell(parts, move |lifecycle, now| {
        for rule in &gone {
            lifecycle.observe(rule, now, Vec::new())?;
        }
        lifecycle.commit(now)
    })
    .await
}

async fn tell(
    parts: &Arc<RunnerParts>,
    what: impl FnOnce(&dyn Lifecycle, Timestamp) -> Result<(), LifecycleError> + Send + 'static,
) -> Result<(), LifecycleError> {
    let parts = Arc::clone(parts);
    let work = move || what(&*parts.lifecycle, parts.clock.now());
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Evaluates groups of one moment one after another, on a blocking thread.
fn evaluate_batch(
    batch: Vec<Due>,
    parts: &RunnerParts,
    installation: &Installation,
    stop: CancellationToken,
) -> Batch {
    let deadline = Deadline::new(
        Arc::clone(&parts.clock),
        parts.engine.config().timeout,
        stop.clone(),
    );
    let ports = Ports {
        engine: &parts.engine,
        source: &*parts.source,
        sink: &*parts.sink,
        lifecycle: &*parts.lifecycle,
        clock: &*parts.clock,
        interrupt: &deadline,
        installation,
    };
    let mut session = None;
    let mut done = Vec::with_capacity(batch.len());
    for Due { lane, at, mut group } in batch {
        if stop.is_cancelled() {
            done.push((lane, group, Tick::default()));
            continue;
        }
        let session_now = session.get_or_insert_with(|| {
            ports
                .engine
                .session(ports.source, at - group.spec.query_offset, &deadline)
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            evaluate_group(&mut group, at, &ports, session_now)
        }));
        let tick = outcome.unwrap_or_else(|_| {
            // What was known half-way is not trusted any more; the other groups read anew.
            session = None;
            after_panic(&mut group, at)
        });
        done.push((lane, group, tick));
    }
    done
}

/// Notes that an evaluation ended in a panic: a fault of ours that must not stop the other rules.
fn after_panic(group: &mut Group, at: Timestamp) -> Tick {
    tracing::error!(logger = "rules", group = %group.spec.name, "evaluation panicked");
    let mut tick = Tick::default();
    for rule in group.rules.iter_mut().filter(|rule| rule.last_at != Some(at)) {
        rule.health = Health::Err;
        rule.last_error = Some(Arc::from("evaluation was cut short by a fault in the program"));
        tick.evaluations += 1;
        tick.failures += 1;
    }
    group.last_at = Some(at);
    tick
}
