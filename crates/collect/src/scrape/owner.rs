//! The task that owns the targets: puts plans in force, reads target files anew, publishes snapshots.
//!
//! A target is known by job, labels and URL. One that only changed its settings hands what it remembers to its
//! successor, so that series which go on are not marked as ended.
//!
//! Invariant: a snapshot never shows a state between two plans.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use marketprism_model::{Labels, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fetch::Asking;
use super::road::{Road, SampleRules};
use super::runner::{Runner, Shared, TargetCount};
use super::snapshot::{ActiveTarget, DroppedTarget, TargetsSnapshot};
use super::source::{LocalSource, Source};
use super::{Applied, ScrapePlan};
use crate::config::PoolConfig;
use crate::discovery::{FileSource, TargetGroup};
use crate::target::{Populated, Target, populate};

pub(super) enum Command {
    Apply(ScrapePlan, oneshot::Sender<Applied>),
}

/// A running loop.
struct Running {
    active: Arc<ActiveTarget>,
    source: Source,
    rules: SampleRules,
    stop: CancellationToken,
    task: JoinHandle<Box<Road>>,
}

/// What a plan wants to run.
struct Wanted {
    pool: String,
    target: Target,
    source: Source,
    rules: SampleRules,
}

/// A job with what its files held last.
struct Pool {
    config: Arc<PoolConfig>,
    files: FileSource,
    count: Arc<TargetCount>,
    refresh_due: Option<Timestamp>,
}

type Key = (String, Labels, String);
/// What a target that changed its settings leaves to its successor.
type Legacy = (Arc<ActiveTarget>, Box<Road>);

pub(super) struct Owner {
    shared: Arc<Shared>,
    snapshot: Arc<ArcSwap<TargetsSnapshot>>,
    cancel: CancellationToken,
    pools: Vec<Pool>,
    local: Vec<LocalSource>,
    running: HashMap<Key, Running>,
}

impl Owner {
    pub(super) fn new(
        shared: Arc<Shared>,
        snapshot: Arc<ArcSwap<TargetsSnapshot>>,
        cancel: CancellationToken,
    ) -> Self {
        Owner {
            shared,
            snapshot,
            cancel,
            pools: Vec::new(),
            local: Vec::new(),
            running: HashMap::new(),
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        loop {
            let clock = Arc::clone(&self.shared.clock);
            let due = self.pools.iter().filter_map(|pool| pool.refresh_due).min();
            let refresh = async move {
                match due {
                    Some(due) => clock.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                command = inbox.recv() => match command {
                    Some(Command::Apply(plan, reply)) => {
                        let applied = self.apply(plan).await;
                        // Whoever asked may have gone; the plan is in force all the same.
                        let _ = reply.send(applied);
                    }
                    None => break,
                },
                () = refresh => {
                    let failures = self.refresh_files(false).await;
                    self.synchronise(failures).await;
                }
            }
        }
        self.stop_all().await;
    }

    async fn apply(&mut self, plan: ScrapePlan) -> Applied {
        let mut old: HashMap<String, Pool> = self
            .pools
            .drain(..)
            .map(|pool| (pool.config.job_name.clone(), pool))
            .collect();
        self.pools = plan
            .pools
            .into_iter()
            .map(|config| Pool::new(config, &mut old))
            .collect();
        self.local = plan.local;
        let failures = self.refresh_files(true).await;
        let applied = self.synchronise(failures).await;
        tracing::info!(
            logger = "scrape",
            kept = applied.kept,
            started = applied.started,
            ended = applied.ended,
            failures = applied.failures,
            "scrape plan in force"
        );
        applied
    }

    /// Reads the target files that are due, or all; gives how many could not be used.
    async fn refresh_files(&mut self, is_forced: bool) -> usize {
        let now = self.shared.clock.now();
        let mut failures = 0;
        for pool in &mut self.pools {
            let Some(interval) = pool.refresh_interval() else {
                continue;
            };
            if !is_forced && pool.refresh_due.is_some_and(|due| due > now) {
                continue;
            }
            pool.refresh_due = Some(now + interval);
            let (config, mut files) = (Arc::clone(&pool.config), pool.files.clone());
            let read = tokio::task::spawn_blocking(move || {
                let errors = files.refresh(&config.file_discovery);
                (files, errors)
            });
            match read.await {
                Ok((files, errors)) => {
                    pool.files = files;
                    failures += errors.len();
                    for error in errors {
                        let pool = &pool.config.job_name;
                        tracing::warn!(logger = "discovery", pool, %error, "target file kept as it was");
                    }
                }
                Err(error) => tracing::error!(logger = "discovery", %error, "target files not read"),
            }
        }
        self.shared.metrics.discovery_failures.inc_by(failures as u64);
        failures
    }

    /// Brings the running loops to what the pools say, and publishes it.
    async fn synchronise(&mut self, failures: usize) -> Applied {
        let mut snapshot = TargetsSnapshot::default();
        let mut applied = Applied {
            failures,
            ..Applied::default()
        };
        let (wanted, order) = self.wanted(&mut snapshot, &mut applied);
        let roads = self.end_others(&wanted, &mut applied).await;
        self.start_missing(wanted, roads, &mut applied).await;
        snapshot.active = order
            .iter()
            .filter_map(|key| self.running.get(key))
            .map(|run| Arc::clone(&run.active))
            .collect();
        self.shared.metrics.targets.set(snapshot.active.len() as i64);
        self.snapshot.store(Arc::new(snapshot));
        applied
    }

    fn wanted(
        &self,
        snapshot: &mut TargetsSnapshot,
        applied: &mut Applied,
    ) -> (HashMap<Key, Wanted>, Vec<Key>) {
        let mut wanted = HashMap::new();
        let mut order = Vec::new();
        let mut add = |one: Wanted| {
            let key = one.key();
            let is_new = wanted.insert(key.clone(), one).is_none();
            if is_new {
                order.push(key);
            }
            usize::from(is_new)
        };
        for local in &self.local {
            add(Wanted::local(local));
        }
        for pool in &self.pools {
            let mut count = 0;
            for (address, group) in pool.addresses() {
                match populate(&pool.config, address, &group) {
                    Ok(Populated::Active(target)) => {
                        count += add(Wanted::http(&pool.config, target));
                    }
                    Ok(Populated::Dropped(discovered)) => note_dropped(snapshot, &pool.config, discovered),
                    Err(error) => {
                        applied.failures += 1;
                        self.shared.metrics.discovery_failures.inc();
                        let pool = &pool.config.job_name;
                        let address = marketprism_net::without_credentials(address);
                        tracing::warn!(logger = "discovery", pool, address, %error, "target left out");
                    }
                }
            }
            pool.count.count.store(count, Ordering::Relaxed);
            pool.count
                .limit
                .store(pool.config.target_limit, Ordering::Relaxed);
        }
        (wanted, order)
    }

    /// Stops loops that are not wanted as they are. Those whose target goes on give their road back, the others end
    /// their series.
    async fn end_others(
        &mut self,
        wanted: &HashMap<Key, Wanted>,
        applied: &mut Applied,
    ) -> HashMap<Labels, Legacy> {
        let successors: HashSet<&Labels> = wanted.values().map(|one| &one.target.labels).collect();
        let unwanted: Vec<Key> = self
            .running
            .iter()
            .filter(|(key, running)| !wanted.get(*key).is_some_and(|one| one.runs_like(running)))
            .map(|(key, _)| key.clone())
            .collect();
        let stopping: Vec<Running> = unwanted
            .iter()
            .filter_map(|key| self.running.remove(key))
            .collect();
        stopping.iter().for_each(|running| running.stop.cancel());
        applied.kept = self.running.len();
        let mut roads = HashMap::new();
        for Running { active, task, .. } in stopping {
            let Ok(road) = task.await else { continue };
            if successors.contains(&active.target.labels) {
                roads.insert(active.target.labels.clone(), (active, road));
            } else {
                applied.ended += 1;
                self.end_series(active, road).await;
            }
        }
        roads
    }

    async fn end_series(&self, active: Arc<ActiveTarget>, mut road: Box<Road>) {
        let shared = Arc::clone(&self.shared);
        let ended = tokio::task::spawn_blocking(move || {
            let result = road.end(shared.clock.now(), &*shared.sink);
            shared.note_store(&active, result);
        });
        if let Err(error) = ended.await {
            tracing::error!(logger = "scrape", %error, "marks of ended series not written");
        }
    }

    async fn start_missing(
        &mut self,
        wanted: HashMap<Key, Wanted>,
        mut roads: HashMap<Labels, Legacy>,
        applied: &mut Applied,
    ) {
        let counts: BTreeMap<String, Arc<TargetCount>> = self
            .pools
            .iter()
            .map(|pool| (pool.config.job_name.clone(), Arc::clone(&pool.count)))
            .collect();
        for (key, one) in wanted {
            if self.running.contains_key(&key) {
                continue;
            }
            applied.started += 1;
            let mut road = Box::new(Road::new(one.rules.clone(), self.shared.metrics.clone()));
            let active = Arc::new(ActiveTarget::new(&one.pool, one.target));
            if let Some((before, old)) = roads.remove(&active.target.labels) {
                road.follow(*old);
                active.status.store(before.status());
            }
            let stop = self.cancel.child_token();
            let runner = Runner {
                shared: Arc::clone(&self.shared),
                active: Arc::clone(&active),
                source: one.source.clone(),
                count: counts.get(&one.pool).cloned().unwrap_or_default(),
                rules: one.rules.clone(),
                stop: stop.clone(),
            };
            let task = tokio::spawn(runner.run(road));
            self.running.insert(
                key,
                Running {
                    active,
                    source: one.source,
                    rules: one.rules,
                    stop,
                    task,
                },
            );
        }
    }

    async fn stop_all(&mut self) {
        for (_, running) in self.running.drain() {
            running.stop.cancel();
            // A loop that broke has been logged; all that matters now is that none is left.
            let _ = running.task.await;
        }
    }
}

fn note_dropped(snapshot: &mut TargetsSnapshot, pool: &PoolConfig, discovered: Labels) {
    let count = snapshot.dropped_counts.entry(pool.job_name.clone()).or_default();
    *count += 1;
    if *count <= pool.dropped_max {
        snapshot.dropped.push(DroppedTarget {
            pool: pool.job_name.clone(),
            discovered,
        });
    }
}

impl Pool {
    /// Makes a pool, with what the files of the old one of that name held.
    fn new(config: PoolConfig, old: &mut HashMap<String, Pool>) -> Self {
        let config = Arc::new(config);
        let Some(old) = old.remove(&config.job_name) else {
            return Pool {
                config,
                files: FileSource::default(),
                count: Arc::default(),
                refresh_due: None,
            };
        };
        let has_same_files = old.config.file_discovery == config.file_discovery;
        let files = if has_same_files {
            old.files
        } else {
            FileSource::default()
        };
        // The count is shared with the loops that go on.
        Pool {
            config,
            files,
            count: old.count,
            refresh_due: None,
        }
    }

    fn refresh_interval(&self) -> Option<Duration> {
        self.config
            .file_discovery
            .iter()
            .map(|discovery| discovery.refresh_interval)
            .min()
    }

    fn addresses(&self) -> impl Iterator<Item = (&str, TargetGroup)> {
        let written = self.config.static_groups.iter().map(|group| {
            let bare = TargetGroup {
                targets: Vec::new(),
                labels: group.labels.clone(),
            };
            (&group.targets, bare)
        });
        let found = self.files.groups().map(|group| {
            let bare = TargetGroup {
                targets: Vec::new(),
                labels: group.labels.clone(),
            };
            (&group.targets, bare)
        });
        written
            .chain(found)
            .flat_map(|(targets, group)| targets.iter().map(move |target| (target.as_str(), group.clone())))
    }
}

impl Wanted {
    fn http(pool: &PoolConfig, target: Target) -> Self {
        Wanted {
            pool: pool.job_name.clone(),
            source: Source::Http(Box::new(Asking::new(pool, &target))),
            rules: SampleRules {
                target_labels: target.labels.clone(),
                honors_labels: pool.honor_labels,
                honors_timestamps: pool.honor_timestamps,
                tracks_timestamps_staleness: pool.track_timestamps_staleness,
                metric_relabel: Arc::clone(&pool.metric_relabel),
                histograms: pool.histograms,
                sample_limit: pool.sample_limit,
                label_limit: pool.label_limit,
                label_name_length_limit: pool.label_name_length_limit,
                label_value_length_limit: pool.label_value_length_limit,
                has_extra_metrics: pool.has_extra_metrics,
                timeout: target.timeout,
            },
            target,
        }
    }

    fn local(local: &LocalSource) -> Self {
        let target = local.target();
        Wanted {
            pool: local.job.clone(),
            source: Source::local(&local.write),
            rules: SampleRules::plain(&target),
            target,
        }
    }

    fn key(&self) -> Key {
        (
            self.pool.clone(),
            self.target.labels.clone(),
            self.target.url.clone(),
        )
    }

    fn runs_like(&self, running: &Running) -> bool {
        self.target == running.active.target && self.source == running.source && self.rules == running.rules
    }
}
