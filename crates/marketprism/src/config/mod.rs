//! The configuration file: how it is read, and what it says.
//!
//! Every room owns the meaning of its section and judges it; this room only puts the sections side by side,
//! so that a pasted `prometheus.yml` and the guide's keys can stand in one file. Bare numbers are seconds,
//! Prometheus' keys keep Prometheus' durations.
//!
//! The way of a file: [`fill::masked`] hides variables, [`tree::read`] makes a tree with places, [`lift`] brings older
//! forms into the present one, [`fill`] puts variables and secret files in, [`reader`] makes the rooms' structures of
//! it and [`judge`] asks the rooms. Whatever is faulty is told and taken out, and the rest is read again, so that
//! all faults are told at once.
//! Deliberately absent: the meaning of any key, and rule files, which have their own life and reload.

pub mod dotenv;
mod fault;
mod fill;
mod foreign;
mod include;
mod judge;
mod lift;
mod migrate;
#[cfg(test)]
mod notification_tests;
mod paths;
mod performance;
mod reader;
mod seconds;
mod sections;
#[cfg(test)]
mod shipped_tests;
mod shown;
#[cfg(test)]
mod tests;
mod tree;
mod unreached;
mod watched;
mod words;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use marketprism_collect::config::PoolConfig;
use marketprism_model::Secret;
use marketprism_net::Egress;
use serde::Deserialize as _;

pub use dotenv::{DotEnv, Variable};
pub use fault::{ConfigError, Fault};
pub use fill::read_secret;
pub use lift::VERSION;
pub use migrate::{Migrated, migrate};
pub use performance::{
    AnomalyDetection, BatchProcessing, Caching, Concurrency, Learning, Performance, Statistical,
};
pub use seconds::Seconds;
pub use sections::{
    AlertManager, Config, EgressSection, Flapping, NotificationManager, Security, Storage, Storm, Watching,
};
pub use shown::shown;
pub use tree::Place;
pub use watched::{Snapshot, Watched};

use fill::{Filling, ReadSecret};
use judge::Judged;
use reader::{ReadError, Reader};
use tree::{Node, Step, Value};

/// A configuration file may have this many bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// A file is read anew at most so often to find further faults,
const ROUNDS_MAX: usize = 100;
/// and in all rounds together at most so many bytes of it.
const ROUNDS_BYTES_MAX: usize = 64 << 20;

/// A configuration that has been read and judged.
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// The jobs, complete.
    pub pools: Vec<PoolConfig>,
    /// The store's settings.
    pub storage: marketprism_storage::Config,
    /// The lifecycle's settings.
    pub alerts: marketprism_alerts::Config,
    /// The channels in use.
    pub channels: marketprism_notify::Prepared,
    /// Where the program may connect to.
    pub egress: Egress,
    /// The key that signs sessions, where the file or the environment gives one.
    pub jwt_secret: Option<Secret>,
    /// The folder that relative paths start from.
    pub folder: PathBuf,
    /// The text as it was read, variables not filled in.
    pub text: String,
    /// Things to say once at the start: keys without effect, channels that are off.
    pub remarks: Vec<String>,
    /// Files that it includes, with what was read in them.
    included: Vec<(PathBuf, String)>,
    /// The variables beside the configuration.
    pub dotenv: DotEnv,
    /// What a change is looked for in.
    pub watched: Watched,
    /// What stood there when it was read.
    pub snapshot: Snapshot,
}

impl Loaded {
    /// Gives the environment with `.env` under it.
    pub fn variables(&self, environment: Variable) -> Variable {
        self.dotenv.under(environment)
    }
}

/// Reads and judges a file; without one, the defaults.
///
/// `variable` gives values of the environment, under which `.env` is laid. `data_dir` is where the store keeps its
/// files.
pub fn load(
    path: Option<&Path>,
    data_dir: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigError> {
    let name = path.map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
    let mut watched = dotenv::places(path);
    watched.extend(path.map(Path::to_owned));
    let with_files = |mut error: ConfigError| {
        error.watched.extend(watched.iter().cloned());
        error
    };
    let dotenv = DotEnv::find(path, variable).map_err(with_files)?;
    let (text, folder) = match path {
        Some(path) => (read(path).map_err(with_files)?, folder_of(path).to_owned()),
        None => (String::new(), PathBuf::from(".")),
    };
    let folder =
        std::path::absolute(&folder).map_err(|error| ConfigError::of_file(&name, error.to_string()))?;
    let source = Source {
        text: &text,
        name: &name,
        folder: &folder,
        data_dir,
        variable: &|name| variable(name).or_else(|| dotenv.get(name).map(str::to_owned)),
        read_secret: &fill::read_secret,
        read_text: &|path| read(path).map_err(|error| error.reason()),
    };
    let mut loaded = parse(&source).map_err(with_files)?;
    loaded.dotenv = dotenv;
    loaded.watched.files.splice(0..0, watched);
    let mut as_read: Vec<(&Path, &str)> = path.map(|path| (path, text.as_str())).into_iter().collect();
    let included = std::mem::take(&mut loaded.included);
    as_read.extend(
        included
            .iter()
            .map(|(path, text)| (path.as_path(), text.as_str())),
    );
    loaded.snapshot = Snapshot::take(&loaded.watched, &as_read);
    Ok(loaded)
}

/// Gives the folder of a file; a bare name stands in the working folder.
fn folder_of(file: &Path) -> &Path {
    file.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Reads a file within its limit, for what a device or a pipe will give is not known beforehand.
fn read(path: &Path) -> Result<String, ConfigError> {
    let name = path.display().to_string();
    let fault = |reason: String| ConfigError::of_file(&name, reason);
    let file = std::fs::File::open(path).map_err(|error| fault(error.to_string()))?;
    let mut bytes = Vec::new();
    let outcome = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    outcome.map_err(|error| fault(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fault(format!("longer than the {FILE_BYTES_MAX} bytes allowed")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let line_start = good
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let column = 1 + String::from_utf8_lossy(&good[line_start..]).chars().count();
        let fault = Fault::at(
            Place {
                file: 0,
                line,
                column,
            },
            "is no UTF-8",
        );
        ConfigError::new(&name, vec![fault], Vec::new())
    })
}

/// A text, and what it needs of its surroundings.
pub struct Source<'a> {
    /// The text.
    pub text: &'a str,
    /// What the file is called in messages.
    pub name: &'a str,
    /// Where relative paths start.
    pub folder: &'a Path,
    /// Where the store keeps its files.
    pub data_dir: &'a Path,
    /// Gives values of variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Gives what stands in a secret's file.
    pub read_secret: ReadSecret<'a>,
    /// Gives what stands in a file that is included.
    pub read_text: ReadSecret<'a>,
}

/// Reads and judges a text. All faults are told at once, each with its line.
pub fn parse(source: &Source<'_>) -> Result<Loaded, ConfigError> {
    let name = source.name;
    let tree::Read { mut root, mut faults } = tree::read(&fill::masked(source.text));
    let lifted = lift::lift(&mut root, &mut faults);
    faults.extend(foreign::take_out(&mut root));
    let mut remarks: Vec<String> = lifted
        .into_iter()
        .map(|lifted| {
            let (line, remark) = (lifted.at.line, lifted.remark);
            format!("{name}:{line}: {remark}; `marketprism config migrate {name}` rewrites the file")
        })
        .collect();
    let mut filling = Filling {
        variable: source.variable,
        read_secret: source.read_secret,
        folder: source.folder,
        faults: Vec::new(),
        files: Vec::new(),
    };
    filling.fill(&mut root);
    paths::resolve(&mut root, source.folder);
    let mut files = std::mem::take(&mut filling.files);
    let mut filling_faults = std::mem::take(&mut filling.faults);
    let included = include::include(&mut root, source);
    faults.extend(included.faults);
    filling_faults.extend(included.unfilled);
    files.extend(included.files);
    for fault in &mut filling_faults {
        let steps = root.resolve(&fault.path);
        // As the rooms would call it, so that nothing is told twice.
        fault.path = root.written(&steps);
    }
    for fault in &filling_faults {
        let steps = root.resolve(&fault.path);
        root.remove(&steps);
    }
    faults.extend(filling_faults);
    let mut search = Search::new(root, faults);
    let Some((mut config, judged)) = search.run(source) else {
        let mut error = ConfigError::new(name, search.faults, files);
        error.included = included.names;
        return Err(error);
    };
    let placed = |key: &str| {
        let at = search.place_of(key);
        let (name, key) = fault::name_and_path(name, &included.names, at, key);
        let line = at.map_or_else(String::new, |at| format!("{}:", at.line));
        (format!("{name}:{line}"), key.to_owned())
    };
    for key in config.ignored() {
        if search.place_of(&key).is_some() {
            let (place, key) = placed(&key);
            remarks.push(format!("{place} {key} has no effect in this version"));
        }
    }
    remarks.extend(judged.channels.warnings.iter().map(|warning| {
        let key = warning.split([' ', ':']).next().unwrap_or("");
        format!("{} {warning}", placed(key).0)
    }));
    remarks.extend(judged.remarks.into_iter().map(|(key, remark)| {
        let (place, key) = placed(&key);
        format!("{place} {key} {remark}")
    }));
    config.server = config.server.clone().resolved(
        &config.performance.concurrency.of_server(),
        config.performance.caching.of_server(),
    );
    config.server.ssl = config.server.ssl.resolved(source.folder);
    files.extend(config.server.ssl.paths());
    Ok(Loaded {
        jwt_secret: judged.jwt_secret,
        pools: judged.pools,
        storage: judged.storage,
        alerts: judged.alerts,
        channels: judged.channels,
        egress: judged.egress,
        folder: source.folder.to_owned(),
        text: source.text.to_owned(),
        remarks,
        included: included.texts,
        dotenv: DotEnv::default(),
        watched: Watched {
            files,
            folder: source.folder.to_owned(),
            patterns: config.rule_files.clone(),
        },
        snapshot: Snapshot::default(),
        config,
    })
}

/// The search for all faults: what is faulty is told, taken out, and the rest is judged again.
struct Search {
    root: Node,
    faults: Vec<Fault>,
    /// Paths that have been told; what follows from their absence is no fault of its own.
    told: BTreeSet<String>,
}

impl Search {
    fn new(root: Node, faults: Vec<Fault>) -> Self {
        let told = faults.iter().map(|fault| fault.path.clone()).collect();
        Search { root, faults, told }
    }

    /// Gives the configuration when nothing is wrong with it.
    fn run(&mut self, source: &Source<'_>) -> Option<(Config, Judged)> {
        let rounds = (ROUNDS_BYTES_MAX / source.text.len().max(1)).clamp(2, ROUNDS_MAX);
        for _ in 0..rounds {
            let found = match Config::deserialize(Reader(&self.root)) {
                Err(error) => vec![self.unreadable(error)],
                Ok(config) => match judge::judge(&config, source.data_dir, source.variable) {
                    Ok(judged) if self.faults.is_empty() => return Some((config, judged)),
                    Ok(_) => return None,
                    Err(reasons) => reasons
                        .0
                        .into_iter()
                        .map(|(path, reason)| self.misjudged(&path, reason))
                        .collect(),
                },
            };
            if !self.take_out(found) {
                return None;
            }
        }
        let reason = format!("was read {rounds} times; further faults may follow when these are corrected");
        self.faults.push(Fault::of_file(reason));
        None
    }

    /// Tells faults and removes their entries; says whether anything was removed.
    fn take_out(&mut self, found: Vec<(Vec<Step>, Fault)>) -> bool {
        let mut is_smaller = false;
        for (steps, fault) in found {
            is_smaller |= self.root.remove(&steps);
            let is_consequence = self.is_consequence(&fault);
            if self.told.insert(fault.path.clone()) && !is_consequence {
                self.faults.push(fault);
            }
        }
        is_smaller
    }

    /// Says whether a fault follows from one that was told already: it speaks of a key beside its own, as
    /// `request_timeout` is compared with `query_timeout`, and would be with a default; or of a list whose items were
    /// taken out.
    fn is_consequence(&self, fault: &Fault) -> bool {
        // A list without the items that were faulty may be too short.
        let is_shortened = |told: &String| {
            told.strip_prefix(&fault.path)
                .is_some_and(|rest| rest.starts_with('['))
        };
        if self.told.iter().any(is_shortened) {
            return true;
        }
        let parent = fault.path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let mut words = fault.reason.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| word.contains('_') && self.told.contains(&join(parent, word)))
    }

    /// Places a fault of the shape.
    fn unreadable(&self, error: ReadError) -> (Vec<Step>, Fault) {
        let mut steps = error.steps();
        let (mut node, mut at, _) = self.root.follow(&steps);
        let mut path = self.root.written(&steps);
        if let Some(at_error) = error.at {
            at = at_error;
        }
        if let Some(field) = &error.field {
            let is_last = matches!(steps.last(), Some(Step::Key(key)) if key == field);
            if error.is_missing {
                path = join(&path, field);
            } else if !is_last && let Some(pair) = node.get(field) {
                // A channel of its own name is read twice, and the second reader knows no places.
                (node, at) = (&pair.value, pair.at);
                steps.push(Step::Key(field.clone()));
                path = self.root.written(&steps);
            }
        }
        let mut reason = redacted(node, error.reason.into_string());
        if let Some(field) = error.field.filter(|_| !error.is_missing) {
            // A key that stands there already was probably not meant.
            let (parent, _, _) = self.root.follow(&steps[..steps.len().saturating_sub(1)]);
            let known = error.known.iter().copied();
            let absent: Vec<&str> = known.filter(|key| parent.get(key).is_none()).collect();
            let known = match words::hint(&field, absent.iter().copied()).is_empty() {
                true => error.known,
                false => &absent,
            };
            reason.push_str(&words::hint_of_key(&field, known));
        }
        (steps, Fault::of_key(at, path, reason))
    }

    /// Places a fault of the meaning; a key that is not in the file is shown where it would stand.
    fn misjudged(&self, path: &str, reason: String) -> (Vec<Step>, Fault) {
        let whole = self.root.resolve_whole(path);
        let is_whole = whole.is_some();
        let steps = whole.unwrap_or_else(|| self.root.resolve(path));
        let (node, at, _) = self.root.follow(&steps);
        let at = match node.value {
            Value::Scalar(_) if is_whole => node.at,
            _ => at,
        };
        (steps, Fault::of_key(at, path, redacted(node, reason)))
    }

    /// Gives the place of a key when it stands in a file.
    fn place_of(&self, path: &str) -> Option<Place> {
        let steps = self.root.resolve_whole(path).filter(|steps| !steps.is_empty())?;
        Some(self.root.follow(&steps).1)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// What came from a variable or a file is not shown: whoever wrote the file does not know it either.
fn redacted(node: &Node, reason: String) -> String {
    match &node.value {
        Value::Scalar(scalar) if scalar.is_filled && scalar.text.chars().count() > 2 => {
            let quoted = format!("{:?}", scalar.text);
            let escaped = &quoted[1..quoted.len() - 1];
            reason.replace(escaped, "***").replace(&scalar.text, "***")
        }
        _ => reason,
    }
}

/// Reads any text, for the fuzzer.
///
/// # Panics
/// When a fault has no line of the text, or no reason; when a migration leaves something to migrate.
pub fn fuzz(text: &str) {
    let source = Source {
        text,
        name: "config.yaml",
        folder: Path::new("/etc/marketprism"),
        data_dir: Path::new("data"),
        variable: &|name| name.ends_with('D').then(|| "a: [b".to_owned()),
        read_secret: &|path| match path.to_string_lossy().len() % 2 {
            0 => Ok("hunter2".to_owned()),
            _ => Err("no such file".to_owned()),
        },
        read_text: &|_| Ok("route: {receiver: a}\nreceivers: [{name: a}]\n".to_owned()),
    };
    if let Err(error) = parse(&source) {
        let lines = 1 + text.lines().count();
        let told = error.to_string();
        for fault in &error.faults {
            let is_placed = fault
                .at
                .is_some_and(|at| at.file > 0 || (1..=lines).contains(&at.line));
            assert!(
                is_placed || fault.reason.contains("faults"),
                "no line of the text: {told}"
            );
            assert!(!fault.reason.is_empty(), "no reason: {told}");
        }
        assert!(!error.faults.is_empty(), "an error without a fault");
    }
    if let Ok(migrated) = migrate(text) {
        let again = migrate(&migrated.text).map(|again| again.changes);
        assert!(
            again.as_ref().is_ok_and(Vec::is_empty),
            "not at the end after {:?}: {again:?}",
            migrated.changes
        );
    }
    _ = shown(text);
    _ = dotenv::parse(text, &|_| None);
}
