//! Looks for changes in the configuration's files, and has them put in force.
//!
//! Looking every few seconds was chosen over the kernel's notices: it works on network mounts and container volumes,
//! follows the swap of a ConfigMap's link without a special case, and runs in simulated time. One look is a few
//! system calls a file; contents are read only when these say that something changed.
//! A change is put in force when two looks in a row saw the same, for a file may be half written. A content that was
//! refused is not tried again until it changes.
//! Deliberately absent: reading and judging, which are the same as for SIGHUP and `POST /-/reload`.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{BoxFuture, Clock};
use tokio_util::sync::CancellationToken;

use crate::config::Snapshot;
use crate::reload::{Reloader, Trigger, Watching};

/// How often a change is looked at again before it is put in force,
const SETTLE: Duration = Duration::from_secs(1);
/// and how often at most; what never comes to rest is read as it is.
const SETTLING_LOOKS_MAX: usize = 10;
/// While looking is switched off: how soon it is noticed that it is on again.
const OFF: Duration = Duration::from_secs(5);

/// Watches until `cancel`.
pub async fn run(reloader: Arc<Reloader>, cancel: CancellationToken) {
    let asked = Arc::clone(&reloader);
    let watch = Watch {
        clock: reloader.clock(),
        watching: Box::new(move || asked.watching()),
        reload: Box::new(move || {
            let reloader = Arc::clone(&reloader);
            // The outcome is in the log and in a metric.
            Box::pin(async move { drop(reloader.reload_for(Trigger::File).await) })
        }),
    };
    watch.run(cancel).await;
}

/// What the watching needs of whoever reads.
struct Watch {
    clock: Arc<dyn Clock>,
    watching: Box<dyn Fn() -> Watching + Send + Sync>,
    reload: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Watch {
    async fn run(&self, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            let interval = (self.watching)().interval;
            let pause = if interval.is_zero() { OFF } else { interval };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.clock.sleep(pause) => {}
            }
            if (self.watching)().interval.is_zero() {
                continue;
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                // A share that is away may keep a look waiting, and must not keep the program from stopping.
                () = self.once() => {}
            }
        }
    }

    /// Looks once; a change is waited out and put in force.
    async fn once(&self) {
        let known = (self.watching)().snapshot;
        let Some(mut seen) = self.look(known.clone()).await else {
            return;
        };
        if seen == known {
            return;
        }
        for _ in 0..SETTLING_LOOKS_MAX {
            self.clock.sleep(SETTLE).await;
            let Some(again) = self.look(seen.clone()).await else {
                return;
            };
            let is_at_rest = again == seen;
            seen = again;
            if is_at_rest {
                break;
            }
        }
        // Somebody else may have had it read meanwhile, or the change was taken back.
        if seen != (self.watching)().snapshot {
            tracing::info!("a file of the configuration has changed");
            (self.reload)().await;
        }
    }

    async fn look(&self, before: Snapshot) -> Option<Snapshot> {
        let watched = (self.watching)().watched;
        tokio::task::spawn_blocking(move || before.again(&watched))
            .await
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use marketprism_model::Timestamp;
    use marketprism_testkit::ManualClock;

    use super::*;
    use crate::config::Watched;

    /// A reader that takes whatever stands there, and counts.
    struct Reader {
        clock: Arc<ManualClock>,
        watching: Arc<Mutex<Watching>>,
        readings: Arc<AtomicUsize>,
        cancel: CancellationToken,
    }

    impl Reader {
        fn start(file: &Path) -> Self {
            let watched = Watched {
                files: vec![PathBuf::from(file)],
                ..Watched::default()
            };
            let watching = Arc::new(Mutex::new(Watching {
                snapshot: Snapshot::take(&watched, &[]),
                watched,
                interval: Duration::from_secs(5),
            }));
            let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
            let (readings, cancel) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
            let (asked, read, counted) = (
                Arc::clone(&watching),
                Arc::clone(&watching),
                Arc::clone(&readings),
            );
            let watch = Watch {
                clock: Arc::clone(&clock) as _,
                watching: Box::new(move || asked.lock().expect("unpoisoned").clone()),
                reload: Box::new(move || {
                    let mut watching = read.lock().expect("unpoisoned");
                    // Whether it is good or bad, it was read.
                    watching.snapshot = watching.snapshot.again(&watching.watched);
                    counted.fetch_add(1, Ordering::SeqCst);
                    Box::pin(async {})
                }),
            };
            let stopped = cancel.clone();
            tokio::spawn(async move { watch.run(stopped).await });
            Reader {
                clock,
                watching,
                readings,
                cancel,
            }
        }

        /// Lets the clock go on second by second, and the watching with it.
        async fn after(&self, seconds: u64) -> usize {
            for _ in 0..seconds {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                    std::thread::yield_now();
                }
                // A look runs on another thread, which knows no simulated time.
                tokio::task::spawn_blocking(|| {}).await.expect("a thread");
                self.clock.advance(Duration::from_secs(1));
            }
            self.readings.load(Ordering::SeqCst)
        }
    }

    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).expect("write the file");
    }

    #[tokio::test]
    async fn a_change_is_read_once_it_is_at_rest_and_what_was_read_is_not_read_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.yaml");
        write(&file, "a: 1");
        let reader = Reader::start(&file);
        assert_eq!(reader.after(20).await, 0, "nothing has changed");
        write(&file, "a: [");
        assert_eq!(reader.after(30).await, 1, "read once, however bad it is");
        write(&file, "a: 2");
        assert_eq!(reader.after(30).await, 2);
        write(&file, "a: 2");
        assert_eq!(reader.after(30).await, 2, "the same content");
        reader.cancel.cancel();
    }

    #[tokio::test]
    async fn zero_switches_it_off_and_a_later_value_on_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.yaml");
        write(&file, "a: 1");
        let reader = Reader::start(&file);
        reader.watching.lock().expect("unpoisoned").interval = Duration::ZERO;
        write(&file, "a: 2");
        assert_eq!(reader.after(30).await, 0);
        reader.watching.lock().expect("unpoisoned").interval = Duration::from_secs(2);
        assert_eq!(reader.after(30).await, 1);
        reader.cancel.cancel();
    }
}
