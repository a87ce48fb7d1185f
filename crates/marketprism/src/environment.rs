//! What a start is given from outside: the machine or a test, and the command line.

use std::path::PathBuf;
use std::sync::Arc;

use marketprism_model::{Chance, Clock, Entropy};
use marketprism_net::Transport;

use crate::logging;

/// What the machine gives, or a test.
#[derive(Clone)]
pub struct Environment {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
    /// What secrets are drawn from.
    pub entropy: Arc<dyn Entropy>,
    /// The way out for HTTP; the real one when `None`.
    pub transport: Option<Arc<dyn Transport>>,
    /// Gives the environment's variables.
    pub variable: Arc<dyn Fn(&str) -> Option<String> + Send + Sync>,
    /// The running log, whose level a reload may change.
    pub logging: logging::Handle,
}

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Where samples and records are kept.
    pub data_dir: PathBuf,
    /// Where to listen; beats the file.
    pub listen: Option<String>,
    /// Where other replicas reach this one.
    pub advertise: Option<String>,
}
