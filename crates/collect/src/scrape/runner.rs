//! The loop of one target: waits for its place in the interval, asks, hands the body to its road.
//!
//! Due times come from the plan (the interval counted from the epoch, plus the target's offset), never from when the
//! last scrape ended, so that a fleet stays spread and timestamps stay even.
//!
//! Invariant: while a body is on the road it runs to its end, also when the loop is told to stop; a wait or a request
//! is cut short.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use marketprism_model::sample::AppendError;
use marketprism_model::{Clock, SampleSink, Timestamp};
use marketprism_net::Transport;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::road::{Fetched, Report, Road, SampleRules};
use super::snapshot::{ActiveTarget, TargetHealth, TargetStatus};
use super::source::{Answer, Source, SourceError};
use crate::metadata::MetadataStore;
use crate::metrics::CollectMetrics;
use crate::target::next_due;

/// A scrape that starts no later than this after its due time bears the due time, so that timestamps compress.
const ALIGN_TOLERANCE: Duration = Duration::from_millis(2);

/// What all loops share.
pub(super) struct Shared {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) sink: Arc<dyn SampleSink>,
    pub(super) metrics: CollectMetrics,
    pub(super) metadata: MetadataStore,
    /// Bounds the requests and bodies that are held at once.
    pub(super) slots: Semaphore,
    pub(super) offset_seed: u64,
    pub(super) is_store_refusing: AtomicBool,
}

impl Shared {
    /// Logs when the store begins and ceases to refuse, not every scrape in between.
    pub(super) fn note_store(&self, active: &ActiveTarget, appended: Result<(), AppendError>) {
        let was_refusing = self.is_store_refusing.swap(appended.is_err(), Ordering::Relaxed);
        match appended {
            Err(error) if !was_refusing => {
                tracing::error!(logger = "scrape", target = active.target.shown_url(), %error, "store takes no samples");
            }
            Ok(()) if was_refusing => tracing::info!(logger = "scrape", "store takes samples again"),
            _ => {}
        }
    }
}

/// Whether the job has more targets than it may; read at every scrape.
#[derive(Default)]
pub(super) struct TargetCount {
    pub(super) count: AtomicUsize,
    pub(super) limit: AtomicUsize,
}

impl TargetCount {
    fn check(&self) -> Result<(), SourceError> {
        let (count, limit) = (
            self.count.load(Ordering::Relaxed),
            self.limit.load(Ordering::Relaxed),
        );
        if limit > 0 && count > limit {
            Err(SourceError::TargetLimit { count, limit })
        } else {
            Ok(())
        }
    }
}

pub(super) struct Runner {
    pub(super) shared: Arc<Shared>,
    pub(super) active: Arc<ActiveTarget>,
    pub(super) source: Source,
    pub(super) count: Arc<TargetCount>,
    pub(super) rules: SampleRules,
    pub(super) stop: CancellationToken,
}

impl Runner {
    /// Scrapes until told to stop, and gives the road back.
    pub(super) async fn run(self, mut road: Box<Road>) -> Box<Road> {
        let target = &self.active.target;
        let offset = target.offset(self.shared.offset_seed);
        let mut due = next_due(self.shared.clock.now(), target.interval, offset);
        while let Some(()) = self.until_stop(self.wait_for(&mut due, offset)).await {
            let Some(permit) = self.until_stop(self.shared.slots.acquire()).await else {
                break;
            };
            let start = self.shared.clock.now();
            let at = if start.since(due) <= ALIGN_TOLERANCE.min(target.interval / 100) && start >= due {
                due
            } else {
                start
            };
            let began = self.shared.clock.monotonic();
            let Some(answer) = self.until_stop(self.ask()).await else {
                break;
            };
            road = self.take(road, answer, at, began).await;
            drop(permit);
            due = self.after(due, offset);
        }
        road
    }

    async fn until_stop<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// Waits until due, and never longer than an interval: when the wall clock was set back meanwhile, the scrape of
    /// this interval is due by the time that passed, and the plan goes on from the new wall time.
    async fn wait_for(&self, due: &mut Timestamp, offset: Duration) {
        let (clock, interval) = (&self.shared.clock, self.active.target.interval);
        loop {
            tokio::select! {
                biased;
                () = clock.sleep_until(*due) => return,
                () = clock.sleep(interval) => {}
            }
            let now = clock.now();
            if now >= *due {
                return;
            }
            let next = next_due(now, interval, offset);
            if next < *due {
                *due = next - interval;
                return;
            }
        }
    }

    /// Gives the next due time; scrapes that could not begin in time are left out, not made up for.
    fn after(&self, due: Timestamp, offset: Duration) -> Timestamp {
        let (now, interval) = (self.shared.clock.now(), self.active.target.interval);
        let next = due + interval;
        if next <= now || next.since(now) > interval {
            next_due(now, interval, offset)
        } else {
            next
        }
    }

    async fn ask(&self) -> Answer {
        self.count.check()?;
        self.source
            .ask(&*self.shared.transport, self.active.target.timeout)
            .await
    }

    async fn take(&self, road: Box<Road>, answer: Answer, at: Timestamp, began: Duration) -> Box<Road> {
        let (shared, active) = (Arc::clone(&self.shared), Arc::clone(&self.active));
        let work = tokio::task::spawn_blocking(move || {
            let mut road = road;
            take_blocking(&shared, &active, &mut road, answer, at, began);
            road
        });
        match work.await {
            Ok(road) => road,
            Err(error) => {
                // A fault of ours in one body must not silence the target for good: it starts afresh.
                tracing::error!(logger = "scrape", target = self.active.target.shown_url(), %error, "scrape road broke");
                Box::new(Road::new(self.rules.clone(), self.shared.metrics.clone()))
            }
        }
    }
}

fn take_blocking(
    shared: &Shared,
    active: &ActiveTarget,
    road: &mut Road,
    answer: Answer,
    at: Timestamp,
    began: Duration,
) {
    let clock = &shared.clock;
    let mut duration = Duration::ZERO;
    let mut measure = || {
        duration = clock.monotonic().saturating_sub(began);
        duration
    };
    let fetched = match &answer {
        Ok((bytes, format)) => Fetched::Body {
            bytes,
            format: *format,
        },
        Err(error) => Fetched::Failed {
            is_too_long: error.is_too_long(),
        },
    };
    let (report, read, appended) = road.take(&fetched, at, &mut measure, &*shared.sink);
    let error = match (&answer, read) {
        (Err(error), _) => error.to_string(),
        (_, Err(error)) => error.to_string(),
        _ => String::new(),
    };
    let mut status = TargetStatus::clone(&active.status.load());
    if let (Ok((bytes, format)), true) = (&answer, error.is_empty())
        && let Some(metadata) = road.metadata_of(bytes, *format, &shared.metadata)
    {
        status.metadata = metadata;
    }
    shared.note_store(active, appended);
    count(shared, active, &error, report, &status);
    status.health = if error.is_empty() {
        TargetHealth::Up
    } else {
        TargetHealth::Down
    };
    status.last_error = error;
    status.last_scrape = Some(at);
    status.last_scrape_duration = duration;
    active.status.store(Arc::new(status));
}

/// Counts the scrape, and logs a change for the worse or the better, but not every scrape of a target that is down.
fn count(shared: &Shared, active: &ActiveTarget, error: &str, report: Report, before: &TargetStatus) {
    shared.metrics.scrapes.inc();
    let pool = &active.pool;
    if !error.is_empty() {
        shared.metrics.scrape_failures.inc();
        if before.health != TargetHealth::Down {
            let target = active.target.shown_url();
            tracing::warn!(logger = "scrape", target, pool, error, "scrape failed");
        }
    } else if before.health == TargetHealth::Down {
        tracing::info!(
            logger = "scrape",
            target = active.target.shown_url(),
            pool,
            samples = report.scraped,
            "target is up again"
        );
    }
}
