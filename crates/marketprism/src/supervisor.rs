//! The steps of the start, and their undoing in reverse.

use std::time::Duration;

use marketprism_model::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A step that does not end within this time is left behind, so that a stop always ends.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

/// What was started, in order.
#[derive(Default)]
pub struct Undo {
    steps: Vec<(&'static str, BoxFuture<'static, ()>)>,
}

impl Undo {
    /// Registers how a step is undone.
    pub fn push(&mut self, name: &'static str, undo: impl Future<Output = ()> + Send + 'static) {
        self.steps.push((name, Box::pin(undo)));
    }

    /// Registers a task that ends when its token is cancelled.
    pub fn push_task<T: Send + 'static>(
        &mut self,
        name: &'static str,
        cancel: CancellationToken,
        task: JoinHandle<T>,
    ) {
        self.push(name, async move {
            cancel.cancel();
            if let Err(error) = task.await
                && !error.is_cancelled()
            {
                tracing::error!(task = name, error = %error, "task failed");
            }
        });
    }

    /// Undoes everything, the last step first.
    pub async fn run(self) {
        for (name, step) in self.steps.into_iter().rev() {
            tracing::debug!(step = name, "stopping");
            if tokio::time::timeout(STEP_TIMEOUT, step).await.is_err() {
                tracing::warn!(step = name, "step did not stop in time and is left behind");
            }
        }
    }
}
