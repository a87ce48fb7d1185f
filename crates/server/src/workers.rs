//! Threads for work that must not stand in the way of the async ones: queries, pushes, look-ups.
//!
//! Queries have threads that step back for the rest of the program ([`Workers::stepping_back`]).
//! Bounded twice: so many tasks run, so many wait, and whoever comes then is refused at once, for a
//! client that is told "later" is better off than one that waits for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use serde::Serialize;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::threads::Threads;

/// Why a task was not done.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WorkError {
    /// All workers are busy and the queue is full.
    #[error("{running} requests of this kind are being handled and {waiting} wait; try again later")]
    Full {
        /// Tasks that run.
        running: usize,
        /// Tasks that wait.
        waiting: usize,
    },
    /// The task panicked; the panic itself is in the log.
    #[error("the task panicked")]
    Panicked,
}

/// A bounded set of workers. Clones share it.
#[derive(Clone)]
pub struct Workers {
    permits: Arc<Semaphore>,
    running_max: usize,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
    refused: Arc<AtomicU64>,
    /// Threads of their own; the runtime's when there are none.
    threads: Option<Arc<Threads>>,
}

/// How a set of workers stands, for pages and scrapes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct WorkerFigures {
    /// Tasks that run.
    pub running: usize,
    /// Tasks that wait.
    pub waiting: usize,
    /// The most tasks that run at once.
    pub running_max: usize,
    /// The most tasks that wait.
    pub waiting_max: usize,
    /// Tasks refused because the queue was full.
    pub refused: u64,
}

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Makes workers of which `running_max` work at once while `waiting_max` tasks may wait.
    pub fn new(running_max: usize, waiting_max: usize) -> Self {
        Workers {
            permits: Arc::new(Semaphore::new(running_max)),
            running_max,
            waiting: Arc::default(),
            waiting_max,
            refused: Arc::default(),
            threads: None,
        }
    }

    /// Makes workers whose threads let everything else of the program go first.
    pub fn stepping_back(name: &'static str, running_max: usize, waiting_max: usize) -> Self {
        Workers {
            threads: Some(Arc::new(Threads::new(name, running_max))),
            ..Workers::new(running_max, waiting_max)
        }
    }

    /// Tells how the workers stand.
    pub fn figures(&self) -> WorkerFigures {
        WorkerFigures {
            running: self.running(),
            waiting: self.waiting.load(Ordering::Relaxed).min(self.waiting_max),
            running_max: self.running_max,
            waiting_max: self.waiting_max,
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Counts the tasks that run.
    pub fn running(&self) -> usize {
        self.running_max - self.permits.available_permits()
    }

    /// Runs a task on a thread of its own kind. When the caller goes away, a waiting task is forgotten and
    /// a running one keeps its place until it ends, for it still takes a thread.
    pub async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let permit = self.place().await?;
        let span = tracing::Span::current();
        let work = move || {
            let _permit = permit;
            span.in_scope(task)
        };
        let Some(threads) = &self.threads else {
            return tokio::task::spawn_blocking(work)
                .await
                .map_err(|_| WorkError::Panicked);
        };
        let (outcome, done) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        threads.run(Box::new(move || {
            let _entered = runtime.enter();
            // Whoever asked may have gone. After a panic the sender is dropped, and so says that there is nothing.
            let _ = outcome.send(work());
        }));
        done.await.map_err(|_| WorkError::Panicked)
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, WorkError> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(Arc::clone(&self.waiting));
        if waiting >= self.waiting_max {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(WorkError::Full {
                running: self.running_max,
                waiting,
            });
        }
        Ok(Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed"))
    }
}

/// Tells a task that nobody wants its result any more. Dropping the guard tells it.
pub struct InterruptGuard(Arc<AtomicBool>);

impl InterruptGuard {
    /// Makes a guard and the flag that the task looks at.
    pub fn new() -> (Self, Arc<AtomicBool>) {
        let flag = Arc::new(AtomicBool::new(false));
        (InterruptGuard(Arc::clone(&flag)), flag)
    }
}

impl Drop for InterruptGuard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_task_beyond_the_queue_is_refused_and_the_waiting_one_is_done() {
        for workers in [Workers::new(1, 1), Workers::stepping_back("query", 1, 1)] {
            refuses_beyond_the_queue(workers).await;
        }
    }

    async fn refuses_beyond_the_queue(workers: Workers) {
        let (release, gate) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let workers = workers.clone();
            async move { workers.run(move || gate.recv().is_ok()).await }
        });
        while workers.running() == 0 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let workers = workers.clone();
            async move { workers.run(|| 2).await }
        });
        while workers.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            workers.run(|| 3).await,
            Err(WorkError::Full {
                running: 1,
                waiting: 1
            })
        );
        release.send(()).expect("the first task waits for it");
        assert_eq!(first.await.expect("no panic"), Ok(true));
        assert_eq!(second.await.expect("no panic"), Ok(2));
        let expected = WorkerFigures {
            running: 0,
            waiting: 0,
            running_max: 1,
            waiting_max: 1,
            refused: 1,
        };
        assert_eq!(workers.figures(), expected);
    }

    #[tokio::test]
    async fn a_panicking_task_frees_its_place() {
        for workers in [Workers::new(1, 0), Workers::stepping_back("query", 1, 0)] {
            let failed: Result<(), _> = workers.run(|| panic!("as a fault would")).await;
            assert_eq!(failed, Err(WorkError::Panicked));
            assert_eq!(workers.run(|| 1).await, Ok(1));
        }
    }
}
