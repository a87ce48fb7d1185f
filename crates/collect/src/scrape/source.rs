//! Where a target's text comes from: HTTP, or a part of this program.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use marketprism_model::Labels;
use marketprism_net::Transport;

use super::fetch::{Asking, FetchError};
use crate::exposition::Format;
use crate::target::Target;

/// Writes exposition text; the error says why there is none.
pub type WriteExposition = dyn Fn(&mut Vec<u8>) -> Result<Format, String> + Send + Sync;

/// A part of this program that is scraped like a target, without a network between.
#[derive(Clone)]
pub struct LocalSource {
    /// The job; `host` or `marketprism`.
    pub job: String,
    /// The label `instance`.
    pub instance: String,
    /// How often.
    pub interval: Duration,
    /// Gives the text; may block for as long as reading a few files takes.
    pub write: Arc<WriteExposition>,
}

impl fmt::Debug for LocalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "LocalSource({}, {}, {:?})",
            self.job, self.instance, self.interval
        )
    }
}

impl LocalSource {
    pub(super) fn target(&self) -> Target {
        let labels = Labels::from_pairs([("job", self.job.as_str()), ("instance", self.instance.as_str())]);
        Target {
            discovered: labels.clone(),
            labels,
            url: format!("internal://{}", self.job),
            interval: self.interval,
            timeout: self.interval.min(Duration::from_secs(10)),
        }
    }
}

/// How one target is asked.
#[derive(Clone)]
pub(super) enum Source {
    Http(Box<Asking>),
    Local {
        write: Arc<WriteExposition>,
        /// Whether a writing that outlasted its scrape still goes on.
        is_busy: Arc<AtomicBool>,
    },
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Source::Http(a), Source::Http(b)) => a == b,
            (Source::Local { write: a, .. }, Source::Local { write: b, .. }) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Ends the busy mark when the writing ends, also by a panic.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A body, or why there is none.
pub(super) type Answer = Result<(Bytes, Format), SourceError>;

#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    Local(String),
    #[error("target_limit exceeded (targets: {count}, limit: {limit})")]
    TargetLimit { count: usize, limit: usize },
    #[error("the collector still works on an earlier scrape")]
    Busy,
    #[error("no answer within {}", marketprism_model::duration::format(*.0))]
    Timeout(Duration),
}

impl SourceError {
    pub(super) fn is_too_long(&self) -> bool {
        matches!(self, SourceError::Fetch(FetchError::TooLong(_)))
    }
}

impl Source {
    pub(super) fn local(write: &Arc<WriteExposition>) -> Self {
        Source::Local {
            write: Arc::clone(write),
            is_busy: Arc::default(),
        }
    }

    pub(super) async fn ask(&self, transport: &dyn Transport, timeout: Duration) -> Answer {
        match self {
            Source::Http(asking) => {
                // The transport keeps the time-out itself; this one guards against a transport that does not.
                let guard = timeout + Duration::from_secs(1);
                match tokio::time::timeout(guard, asking.fetch(transport)).await {
                    Ok(answer) => Ok(answer?),
                    Err(_) => Err(SourceError::Timeout(timeout)),
                }
            }
            Source::Local { write, is_busy } => {
                let (write, busy) = (Arc::clone(write), Arc::clone(is_busy));
                if busy.swap(true, Ordering::AcqRel) {
                    return Err(SourceError::Busy);
                }
                let release = Release(busy);
                let written = tokio::task::spawn_blocking(move || {
                    let _release = release;
                    let mut text = Vec::new();
                    write(&mut text).map(|format| (Bytes::from(text), format))
                });
                match tokio::time::timeout(timeout, written).await {
                    Ok(Ok(result)) => result.map_err(SourceError::Local),
                    Ok(Err(error)) => Err(SourceError::Local(format!("collector failed: {error}"))),
                    Err(_) => Err(SourceError::Timeout(timeout)),
                }
            }
        }
    }
}
