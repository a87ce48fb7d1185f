//! Threads of their own for work that may wait: the system lets everything else of the program go first.
//!
//! Queries of dashboards and the ticks of rules share the processor. A thread that asks for less priority still gets
//! all that is left over, so a query alone is as fast as ever; but a storm of them cannot make a rule late. Priority can
//! be given away and not taken back, which is why these threads are not lent from the runtime's pool.
//! Deliberately absent: a queue with a limit of its own; whoever brings a task holds one of so many permits.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How much these threads step back: at 10 one gets about a tenth of what a thread at 0 gets while both want to run.
const NICENESS: i32 = 10;
/// The least priority there is.
const NICENESS_MAX: i32 = 19;

type Task = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    idle: usize,
    count: usize,
    is_closed: bool,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    count_max: usize,
    name: &'static str,
}

/// The threads; they end when this is dropped and their tasks are done.
pub(crate) struct Threads(Arc<Shared>);

impl Threads {
    /// Makes up to `count_max` threads, each when it is first needed.
    pub(crate) fn new(name: &'static str, count_max: usize) -> Self {
        Threads(Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            count_max,
            name,
        }))
    }

    /// Does a task on one of the threads; on the runtime's when the system has no thread left.
    pub(crate) fn run(&self, task: Task) {
        let mut state = self.0.state();
        state.tasks.push_back(task);
        if state.idle >= state.tasks.len() || state.count >= self.0.count_max {
            drop(state);
            self.0.wake.notify_one();
            return;
        }
        state.count += 1;
        drop(state);
        let shared = Arc::clone(&self.0);
        let started = std::thread::Builder::new()
            .name(self.0.name.to_owned())
            .spawn(move || {
                step_back();
                shared.work();
            });
        if started.is_err() {
            let mut state = self.0.state();
            state.count -= 1;
            if state.count == 0
                && let Some(task) = state.tasks.pop_back()
            {
                drop(state);
                tokio::task::spawn_blocking(task);
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.wake.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                drop(state);
                // Whoever waits for the outcome learns that there is none; the thread goes on.
                let _ = catch_unwind(AssertUnwindSafe(task));
                state = self.state();
                continue;
            }
            if state.is_closed {
                return;
            }
            state.idle += 1;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lowers the priority of the calling thread; without it the program works too, only less evenly.
fn step_back() {
    let own = rustix::thread::gettid();
    let current = rustix::process::getpriority_process(Some(own)).unwrap_or(0);
    let wanted = current.saturating_add(NICENESS).min(NICENESS_MAX);
    if let Err(error) = rustix::process::setpriority_process(Some(own), wanted) {
        tracing::debug!(error = %error, "a thread of queries kept its priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn own_priority() -> i32 {
        rustix::process::getpriority_process(Some(rustix::thread::gettid()))
            .expect("a thread knows its priority")
    }

    #[test]
    fn tasks_run_beside_each_other_and_after_the_rest_of_the_program() {
        let threads = Threads::new("query", 3);
        let (sender, told) = mpsc::channel();
        let barrier = Arc::new(std::sync::Barrier::new(3));
        for _ in 0..3 {
            let (sender, barrier) = (sender.clone(), Arc::clone(&barrier));
            threads.run(Box::new(move || {
                barrier.wait();
                let _ = sender.send(own_priority());
            }));
        }
        let before = own_priority();
        for _ in 0..3 {
            assert_eq!(told.recv(), Ok((before + NICENESS).min(NICENESS_MAX)));
        }
        assert_eq!(own_priority(), before, "only these threads step back");
    }

    #[test]
    fn a_panic_costs_no_thread_and_every_task_is_done() {
        let threads = Threads::new("query", 1);
        let (sender, told) = mpsc::channel();
        threads.run(Box::new(|| panic!("as a fault would")));
        for number in 0..50 {
            let sender = sender.clone();
            threads.run(Box::new(move || {
                let _ = sender.send(number);
            }));
        }
        let all: Vec<i32> = told.iter().take(50).collect();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
        assert!(threads.0.state().count <= 1);
    }
}
