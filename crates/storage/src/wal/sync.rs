//! Waiting for the disk: one fsync answers all who wait.
//!
//! Positions count bytes over all segments. Who needs a position on the disk either runs the fsync, or waits for
//! the one that runs and looks again. A failed fsync fails every position it might have covered, for good.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::kill_point;
use parking_lot::{Condvar, Mutex};

use crate::files::LogFile;

#[derive(Default)]
struct State {
    /// The segment being written; `None` before the first write and after a failure.
    file: Option<(u64, Arc<dyn LogFile>)>,
    written: u64,
    synced: u64,
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
#[derive(Default)]
pub struct Sync {
    state: Mutex<State>,
    done: Condvar,
    wake: Condvar,
}

impl Sync {
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
        if was_clean {
            self.wake.notify_all();
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
            let target = state.written;
            drop(state);
            kill_point("wal.before_fsync");
            let outcome = file.sync();
            kill_point("wal.after_fsync");
            state = self.state.lock();
            state.is_syncing = false;
            let is_current = matches!(&state.file, Some((number, _)) if *number == segment);
            match outcome {
                Ok(()) if is_current => state.synced = target,
                Ok(()) => {}
                Err(error) if is_current => state.fail(&format!("fsync of segment {segment}: {error}")),
                Err(_) => {}
            }
            self.done.notify_all();
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

    /// Synchronises every `interval` as long as there is something to synchronise; returns after [`Self::stop`].
    ///
    /// Runs on a thread of its own and on the machine's time, for a loss of power is never simulated.
    pub fn run(&self, interval: Duration) {
        loop {
            {
                let mut state = self.state.lock();
                while state.written == state.synced && !state.is_stopping {
                    self.wake.wait(&mut state);
                }
                if !state.is_stopping {
                    self.wake.wait_for(&mut state, interval);
                }
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
}
