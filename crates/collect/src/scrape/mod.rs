//! Scraping: which targets there are, and the loop of each.
//!
//! One task owns the list of targets; whoever wants it changed sends it a message, whoever wants to see it gets an
//! immutable snapshot. Each target has a task of its own, which owns what it remembers between scrapes.
//!
//! Deliberately absent: parsing ([`crate::exposition`]), discovery ([`crate::discovery`]), and the store.

mod fetch;
mod lines;
mod owner;
pub mod road;
mod runner;
mod sample_rules;
mod snapshot;
mod source;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use marketprism_model::{Clock, SampleSink};
use marketprism_net::Transport;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use snapshot::{ActiveTarget, DroppedTarget, TargetHealth, TargetStatus, TargetsSnapshot};
pub use source::{LocalSource, WriteExposition};

use crate::config::PoolConfig;
use crate::metadata::MetadataStore;
use crate::metrics::CollectMetrics;
use owner::{Command, Owner};
use runner::Shared;

/// Messages that wait for the target task; more senders wait in turn.
const COMMANDS_MAX: usize = 16;

/// What scraping needs from outside.
pub struct ScraperParts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The outbound door.
    pub transport: Arc<dyn Transport>,
    /// The store.
    pub sink: Arc<dyn SampleSink>,
    /// Counters.
    pub metrics: CollectMetrics,
    /// What targets say about their metrics.
    pub metadata: MetadataStore,
    /// As many scrapes run at once; at least 1. 64 suits two cores.
    pub concurrency: usize,
    /// Spreads replicas apart; any number, different in each.
    pub offset_seed: u64,
}

/// What is to be scraped.
#[derive(Clone, Debug, Default)]
pub struct ScrapePlan {
    /// Jobs, checked by [`crate::config::validate_all`].
    pub pools: Vec<PoolConfig>,
    /// Parts of this program.
    pub local: Vec<LocalSource>,
}

/// What a new plan changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// Targets that go on undisturbed.
    pub kept: usize,
    /// Targets that began, or go on under changed settings.
    pub started: usize,
    /// Targets that ended.
    pub ended: usize,
    /// Discovered addresses and files that could not be used; each is logged.
    pub failures: usize,
}

/// The target task has ended.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("scraping has stopped")]
pub struct ScraperStopped;

/// The handle to scraping. Clones speak to the same task.
#[derive(Clone)]
pub struct Scraper {
    commands: mpsc::Sender<Command>,
    snapshot: Arc<ArcSwap<TargetsSnapshot>>,
}

impl Scraper {
    /// Starts the task, with nothing to scrape yet. It ends, with all loops, on cancellation; series then get no
    /// marks of their end, because after a restart they go on.
    pub fn start(parts: ScraperParts, cancel: CancellationToken) -> (Scraper, JoinHandle<()>) {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let snapshot = Arc::new(ArcSwap::default());
        let shared = Shared {
            clock: parts.clock,
            transport: parts.transport,
            sink: parts.sink,
            metrics: parts.metrics,
            metadata: parts.metadata,
            slots: Semaphore::new(parts.concurrency.max(1)),
            offset_seed: parts.offset_seed,
            is_store_refusing: AtomicBool::new(false),
        };
        let owner = Owner::new(Arc::new(shared), Arc::clone(&snapshot), cancel);
        let task = tokio::spawn(owner.run(inbox));
        (Scraper { commands, snapshot }, task)
    }

    /// Puts a plan in force. Unchanged targets keep their clocks and what they remember.
    pub async fn apply(&self, plan: ScrapePlan) -> Result<Applied, ScraperStopped> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Apply(plan, reply))
            .await
            .map_err(|_| ScraperStopped)?;
        answer.await.map_err(|_| ScraperStopped)
    }

    /// Gives the targets as they stand.
    pub fn targets(&self) -> Arc<TargetsSnapshot> {
        self.snapshot.load_full()
    }
}
