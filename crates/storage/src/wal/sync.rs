//! Waiting for the disk: one fsync answers all who wait.
//!
//! Positions count bytes over all segments. Who needs a position on the disk either runs the fsync, or waits for
//! the one that runs and looks again. A failed fsync fails every position it might have covered, for good.
//!
//! Appends that nobody waits for are gathered: a thread synchronises as soon as so many are not on the disk, or
//! when the first of them has waited so long. An append never waits because a batch is full, for a disk that hangs
//! must not hang the judging of rules. Nor does an fsync answer fewer than it could: it takes all that was written
//! before it, and leaving some of those who wait to another one would only make both slower.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Clock, Timestamp, kill_point};
use parking_lot::{Condvar, Mutex};

use crate::config::SyncPolicy;
use crate::files::LogFile;

/// What is on its way to the disk, and how the last of it arrived.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Waiting {
    /// Appends that are written and not on the disk.
    pub appends: u64,
    /// How long the oldest of them has waited at most; `None` without any.
    pub age: Option<Duration>,
    /// Fsyncs that went well.
    pub syncs: u64,
    /// When the last of them ended.
    pub last_sync: Option<Timestamp>,
    /// How long it took.
    pub last_sync_took: Duration,
}

#[derive(Default)]
struct State {
    /// The segment being written; `None` before the first write and after a failure.
    file: Option<(u64, Arc<dyn LogFile>)>,
    written: u64,
    synced: u64,
    appends_written: u64,
    appends_synced: u64,
    /// By the monotonic clock: no append that waits was written before.
    waiting_since: Duration,
    syncs: u64,
    last_sync: Option<Timestamp>,
    last_sync_took: Duration,
    is_syncing: bool,
    is_stopping: bool,
    failed: Vec<(u64, u64, Arc<str>)>,
    failures: u64,
    last_error: Option<Arc<str>>,
}

impl State {
    /// Gives up the current segment: nothing after the last good fsync can be vouched for any more.
    fn fail(&mut self, reason: &str) {
        let reason: Arc<str> = Arc::from(reason);
        self.failed.push((self.synced, self.written, Arc::clone(&reason)));
        self.synced = self.written;
        self.appends_synced = self.appends_written;
        self.file = None;
        self.failures += 1;
        self.last_error = Some(reason);
    }

    fn verdict(&self, position: u64) -> Option<Result<(), Arc<str>>> {
        let failed = self.failed.iter().rev();
        let mut covering = failed.filter(|(after, to, _)| *after < position && position <= *to);
        if let Some((_, _, reason)) = covering.next() {
            return Some(Err(Arc::clone(reason)));
        }
        (self.synced >= position).then_some(Ok(()))
    }
}

/// What the log and those who wait for it share.
pub struct Sync {
    clock: Arc<dyn Clock>,
    policy: SyncPolicy,
    state: Mutex<State>,
    done: Condvar,
    wake: Condvar,
}

/// An fsync that runs.
struct Running {
    segment: u64,
    position: u64,
    appends: u64,
    began: Duration,
}

impl Sync {
    /// Makes the meeting place; nothing is written yet.
    pub(crate) fn new(clock: Arc<dyn Clock>, policy: SyncPolicy) -> Self {
        Sync {
            clock,
            policy,
            state: Mutex::default(),
            done: Condvar::new(),
            wake: Condvar::new(),
        }
    }

    fn is_full(&self, state: &State) -> bool {
        let waiting = state.appends_written - state.appends_synced;
        matches!(self.policy, SyncPolicy::Gathered { appends, .. } if waiting >= appends)
    }

    /// Says whether the segment may still be written.
    pub fn is_usable(&self, segment: u64) -> bool {
        matches!(&self.state.lock().file, Some((number, _)) if *number == segment)
    }

    /// Makes a new segment the current one; the one before must be synced or given up.
    pub fn open(&self, segment: u64, file: Arc<dyn LogFile>) {
        self.state.lock().file = Some((segment, file));
    }

    /// Notes that `bytes` were written to a segment; gives the position to wait for.
    ///
    /// Fails when the segment was given up while the write was under way.
    pub fn wrote(&self, segment: u64, bytes: u64) -> Result<u64, Arc<str>> {
        let mut state = self.state.lock();
        let is_current = matches!(&state.file, Some((number, _)) if *number == segment);
        if !is_current {
            let reason = state.last_error.clone();
            return Err(reason.unwrap_or_else(|| Arc::from("segment given up")));
        }
        let was_clean = state.written == state.synced;
        state.written += bytes;
        if self.policy != SyncPolicy::Never {
            state.appends_written += 1;
            if was_clean {
                state.waiting_since = self.clock.monotonic();
            }
            if was_clean || self.is_full(&state) {
                self.wake.notify_all();
            }
        }
        Ok(state.written)
    }

    /// Notes that a write to the current segment failed.
    pub fn give_up(&self, reason: &str) {
        self.state.lock().fail(reason);
        self.done.notify_all();
    }

    /// Notes a failure outside of any segment, such as a new one that cannot be made.
    pub fn note_error(&self, reason: &str) {
        let mut state = self.state.lock();
        state.failures += 1;
        state.last_error = Some(Arc::from(reason));
    }

    /// Waits until everything up to `position` is on the disk; `Err` when that will never be certain.
    pub fn wait(&self, position: u64) -> Result<(), Arc<str>> {
        let mut state = self.state.lock();
        loop {
            if let Some(verdict) = state.verdict(position) {
                return verdict;
            }
            if state.is_syncing {
                self.done.wait(&mut state);
                continue;
            }
            let Some((segment, file)) = state.file.clone() else {
                return Err(Arc::from("no segment is open"));
            };
            state.is_syncing = true;
            let running = Running {
                segment,
                position: state.written,
                appends: state.appends_written,
                began: self.clock.monotonic(),
            };
            drop(state);
            kill_point("wal.before_fsync");
            let outcome = file.sync();
            kill_point("wal.after_fsync");
            state = self.state.lock();
            self.settle(&mut state, &running, outcome);
            self.done.notify_all();
        }
    }

    fn settle(&self, state: &mut State, running: &Running, outcome: std::io::Result<()>) {
        let segment = running.segment;
        state.is_syncing = false;
        let is_current = matches!(&state.file, Some((number, _)) if *number == segment);
        match outcome {
            Ok(()) => {
                state.syncs += 1;
                state.last_sync = Some(self.clock.now());
                state.last_sync_took = self.clock.monotonic().saturating_sub(running.began);
                if is_current {
                    state.synced = running.position;
                    state.appends_synced = running.appends;
                    // What waits now was written while the fsync ran.
                    state.waiting_since = running.began;
                }
            }
            Err(error) if is_current => state.fail(&format!("fsync of segment {segment}: {error}")),
            Err(_) => {}
        }
        if self.is_full(state) {
            self.wake.notify_all();
        }
    }

    /// Waits until everything written so far is on the disk.
    pub fn flush(&self) -> Result<(), Arc<str>> {
        let position = {
            let state = self.state.lock();
            if state.written == state.synced {
                return Ok(());
            }
            state.written
        };
        self.wait(position)
    }

    /// Synchronises when a batch is full or has waited for `interval`; returns after [`Self::stop`].
    ///
    /// Runs on a thread of its own and on the machine's time, for a loss of power is never simulated.
    pub fn run(&self, interval: Duration) {
        loop {
            {
                let mut state = self.state.lock();
                while state.written == state.synced && !state.is_stopping {
                    self.wake.wait(&mut state);
                }
                // Woken in between, and neither full nor at the end: somebody has synchronised all, and what waits
                // now has only begun to wait.
                while !state.is_stopping
                    && !self.is_full(&state)
                    && !self.wake.wait_for(&mut state, interval).timed_out()
                {}
                if state.is_stopping {
                    return;
                }
            }
            // A failure is kept in the state, for the statistics and whoever waits.
            let _ = self.flush();
        }
    }

    /// Ends [`Self::run`].
    pub fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.wake.notify_all();
    }

    /// Gives the number of failed writes and fsyncs, and the last one's words.
    pub fn errors(&self) -> (u64, Option<String>) {
        let state = self.state.lock();
        (state.failures, state.last_error.as_ref().map(|e| e.to_string()))
    }

    /// Tells what is on its way to the disk.
    pub fn waiting(&self) -> Waiting {
        let state = self.state.lock();
        let appends = state.appends_written - state.appends_synced;
        let age = self.clock.monotonic().saturating_sub(state.waiting_since);
        Waiting {
            appends,
            age: (appends > 0).then_some(age),
            syncs: state.syncs,
            last_sync: state.last_sync,
            last_sync_took: state.last_sync_took,
        }
    }
}
