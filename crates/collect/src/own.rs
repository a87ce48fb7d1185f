//! The program's own metrics, scraped like any other target but without a network between.

use std::sync::Arc;
use std::time::Duration;

use crate::exposition::Format;
use crate::scrape::LocalSource;

/// Makes a target of a closure that gives the program's exposition text.
pub struct SelfCollector;

impl SelfCollector {
    /// Makes the target `job="marketprism"`. `exposition` gives OpenMetrics text, as `prometheus-client` encodes it.
    pub fn source(
        instance: &str,
        interval: Duration,
        exposition: impl Fn() -> Result<String, String> + Send + Sync + 'static,
    ) -> LocalSource {
        LocalSource {
            job: "marketprism".to_owned(),
            instance: instance.to_owned(),
            interval,
            write: Arc::new(move |bytes| {
                bytes.extend_from_slice(exposition()?.as_bytes());
                Ok(Format::OpenMetrics)
            }),
        }
    }
}
