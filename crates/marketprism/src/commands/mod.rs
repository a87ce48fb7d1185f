//! What the program does besides serving: short commands that answer and end.

pub mod access;
pub mod backtest;
mod backtest_text;
pub mod backup;
pub mod healthcheck;
pub mod test_rules;
pub mod told_to_stop;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use marketprism_access::{Access, Parts};
use marketprism_model::{Clock, Entropy, Secret};
use marketprism_rules::Language;
use marketprism_state::Database;
use prometheus_client::registry::Registry;

use crate::cli::{self, Place};
use crate::clock::{SystemChance, SystemClock, SystemEntropy};
use crate::config::{self, Loaded};
use crate::records::{Records, shared_database};

/// What a command works with: the records of a service that may run meanwhile.
pub struct Toolbox {
    /// Decides about users and tokens.
    pub access: Access,
    /// The machine's time.
    pub clock: Arc<dyn Clock>,
}

impl Toolbox {
    /// Reads the configuration and opens the records.
    pub fn open(place: &Place) -> anyhow::Result<Self> {
        let loaded = load(place)?;
        let url = database_url(&loaded);
        let records = Records::open_beside(url.as_ref(), &place.data_dir)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let parts = Parts {
            store: records.access(),
            clock: Arc::clone(&clock),
            chance: Arc::new(SystemChance::default()),
            entropy,
        };
        // No session is begun or read here, so the key that signs them is not needed.
        let mut registry = Registry::default();
        let access = Access::open(
            &loaded.config.security.access(),
            Secret::default(),
            parts,
            &mut registry,
        );
        Ok(Toolbox { access, clock })
    }
}

/// Reads the configuration that a command is given, or the defaults.
pub fn load(place: &Place) -> anyhow::Result<Loaded> {
    let file = config_file(place.config.as_deref());
    Ok(config::load(file, &place.data_dir, &variable)?)
}

/// Gives the file to read. One that is not there at the image's own place means the defaults, for a folder that was
/// mounted over it may be empty.
pub fn config_file(given: Option<&Path>) -> Option<&Path> {
    given.filter(|path| *path != Path::new(IMAGE_CONFIG) || path.exists())
}

/// Shows what a configuration file must change to be of the present form, and writes it when asked to.
pub fn migrate(file: &Path, write: bool) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let migrated = config::migrate(&text)?;
    let name = file.display().to_string();
    let mut said = String::new();
    for change in &migrated.by_hand {
        said += &format!("{name}: by hand: {change}\n");
    }
    if migrated.text == text {
        if said.is_empty() {
            said = format!("{name}: is of the present form\n");
        }
        return Ok(said);
    }
    said += &migrated.difference(&text, &name);
    if write {
        let kept = file.with_extension(match file.extension() {
            Some(extension) => format!("{}.bak", extension.to_string_lossy()),
            None => "bak".to_owned(),
        });
        std::fs::copy(file, &kept).with_context(|| format!("keep {}", kept.display()))?;
        std::fs::write(file, &migrated.text).with_context(|| format!("write {name}"))?;
        said += &format!("{name} was written; the old form is {}\n", kept.display());
    }
    Ok(said)
}

/// Takes the records' schema back; gives what to say about it.
pub fn downgrade(options: &cli::Downgrade) -> anyhow::Result<String> {
    let _lock = crate::opening::lock_data(&options.place.data_dir)?;
    match database_url(&load(&options.place)?) {
        Some(url) => Database::downgrade_server(url.expose(), options.to)?,
        None => Database::downgrade(&Records::file(&options.place.data_dir), options.to)?,
    }
    Ok(format!(
        "the records have schema version {}; install the older release before the next start\n",
        options.to
    ))
}

/// Where the image keeps its configuration.
const IMAGE_CONFIG: &str = "/app/config/config.yaml";

/// Chooses the language of what is printed: the one that is asked for, or that of the environment.
pub fn language(asked: Option<cli::Language>) -> Language {
    match asked {
        Some(cli::Language::Zh) => Language::Chinese,
        Some(cli::Language::En) => Language::English,
        None => {
            let variables = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter();
            let named = variables.filter_map(variable).find(|value| !value.is_empty());
            match named.is_some_and(|value| value.starts_with("zh")) {
                true => Language::Chinese,
                false => Language::English,
            }
        }
    }
}

/// Counts things in English.
pub fn several(count: &impl ToString, noun: &str) -> String {
    match count.to_string().as_str() {
        "1" => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// Says that a running program does not do what it is asked, and what helps where a credential does.
pub fn refused(url: &str, status: u16, detail: &str) -> String {
    let hint = match status {
        401 => {
            "; make a token with `marketprism token create NAME --role operator`, and name its file with --token"
        }
        _ => "",
    };
    format!("{url} answers {status}: {detail}{hint}")
}

/// Gives a variable of the environment.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Gives the database that replicas share, if the environment or `.env` names one.
pub fn database_url(loaded: &Loaded) -> Option<Secret> {
    shared_database(loaded, Arc::new(variable))
}
