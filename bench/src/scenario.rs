//! The scenarios: what is done to every peer, and which figures come out of it.

pub mod history;
pub mod live;
pub mod scale;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::peer::Launch;

/// How much is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Hosts of 100 series.
    pub hosts: usize,
    /// Samples of each series in the history.
    pub history_steps: usize,
    /// Repetitions of each measured query.
    pub rounds: usize,
    /// Seconds between two evaluations of the alert rules.
    pub alert_interval_s: usize,
    /// Windows of measurement of the alert rules, a minute each.
    pub alert_windows: usize,
    /// Seconds between two evaluations of the aggregations; a multiple of 15.
    pub aggregation_interval_s: usize,
    /// Windows of measurement of the aggregations, one interval each.
    pub aggregation_windows: usize,
    /// Hosts of 100 series and ten alert rules of the run at scale.
    pub scale_hosts: usize,
    /// Windows of measurement of the run at scale, 15 s each.
    pub scale_windows: usize,
    /// Where everything is written.
    pub work: PathBuf,
}

impl Plan {
    /// The run whose figures are published: 20k series.
    pub fn full(work: &Path) -> Self {
        Plan {
            hosts: 200,
            history_steps: 1_000,
            rounds: 5,
            alert_interval_s: 5,
            alert_windows: 4,
            aggregation_interval_s: 30,
            aggregation_windows: 4,
            scale_hosts: 10_000,
            scale_windows: 8,
            work: work.to_owned(),
        }
    }

    /// A short run for a look: 4k series.
    pub fn quick(work: &Path) -> Self {
        Plan {
            hosts: 40,
            history_steps: 1_000,
            rounds: 3,
            alert_interval_s: 5,
            alert_windows: 1,
            aggregation_interval_s: 15,
            aggregation_windows: 1,
            scale_hosts: 1_000,
            scale_windows: 4,
            work: work.to_owned(),
        }
    }

    fn launch(&self, name: &str, rules: Option<&str>) -> Result<Launch> {
        let folder = self.work.join(name);
        std::fs::create_dir_all(&folder)?;
        let rules = match rules {
            None => None,
            Some(text) => {
                let path = folder.join("rules.yml");
                std::fs::write(&path, text)?;
                Some(path)
            }
        };
        Ok(Launch { folder, rules })
    }

    fn launch_with_files(&self, name: &str, files: &[String]) -> Result<Launch> {
        let mut launch = self.launch(name, None)?;
        for (number, text) in files.iter().enumerate() {
            std::fs::write(launch.folder.join(format!("rules-{number}.yml")), text)?;
        }
        launch.rules = Some(launch.folder.join("rules-*.yml"));
        Ok(launch)
    }
}

/// The same data on every run and for every peer.
const SEED: u64 = 20_261_124;
