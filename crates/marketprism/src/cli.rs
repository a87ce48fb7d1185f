//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use marketprism_model::Role;

/// Intelligent monitoring and alerting in one binary.
#[derive(Debug, Parser)]
#[command(name = "marketprism", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service
    Serve(Serve),
    /// Judge a file without running it
    #[command(subcommand)]
    Check(Check),
    /// Test what files say by running it
    #[command(subcommand)]
    Test(Test),
    /// Show what rules would have done in the past: what fired, when, how long, how often people would have heard
    Backtest(Backtest),
    /// Work with configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Work with the rules inside the program
    #[command(subcommand)]
    Rules(Rules),
    /// Work with people who log in
    #[command(subcommand)]
    User(User),
    /// Work with credentials of programs
    #[command(subcommand)]
    Token(Token),
    /// Save data and configuration to one file, while the service runs
    Backup(Backup),
    /// Put a backup in place, while the service is stopped
    Restore(Restore),
    /// Take the records' schema back before an older release is installed
    Downgrade(Downgrade),
    /// Ask a running service whether it is well; exits with 1 when it is not
    Healthcheck(Healthcheck),
}

/// Where configuration and data are.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// The configuration; without it, the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where samples and records are kept
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
}

/// Options of `serve`; each beats the file.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Where configuration and data are.
    #[command(flatten)]
    pub place: Place,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where other replicas on the same database reach this one, host:port
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "MARKETPRISM_ADVERTISE",
        hide_env_values = true
    )]
    pub advertise: Option<String>,
}

/// What can be judged.
#[derive(Debug, Subcommand)]
pub enum Check {
    /// A configuration file and the rule files it names
    Config {
        /// The file
        file: PathBuf,
    },
    /// Rule files, and what in them is valid but likely wrong
    Rules(CheckRules),
}

/// Options of `check rules`.
#[derive(Debug, Args)]
pub struct CheckRules {
    /// The files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// End with 1 when there is a warning
    #[arg(long)]
    pub strict: bool,
    /// A lint that is to say nothing; may be given several times
    #[arg(long, value_name = "NAME")]
    pub allow: Vec<String>,
    /// Show remarks as well as warnings
    #[arg(long)]
    pub info: bool,
    /// Print everything as JSON, in English
    #[arg(long)]
    pub json: bool,
    /// The language of what is printed; that of the environment when absent
    #[arg(long, value_enum)]
    pub language: Option<Language>,
    /// How often targets are scraped at the most
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    pub scrape_interval: String,
    /// Look for the series in the data of a stopped program
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub data_dir: Option<PathBuf>,
    /// Its configuration
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    pub config: Option<PathBuf>,
    /// Look for the series in a running program
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// A file with the token that the running program wants
    #[arg(long, value_name = "FILE", requires = "url")]
    pub token: Option<PathBuf>,
}

/// What can be tested.
#[derive(Debug, Subcommand)]
pub enum Test {
    /// Rules, by unit tests in promtool's format; exits with 1 when anything is not as expected
    Rules(TestRules),
}

/// Options of `test rules`.
#[derive(Debug, Args)]
pub struct TestRules {
    /// The files of tests
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Run only tests whose name this regular expression finds; may be given several times
    #[arg(long, value_name = "REGEX")]
    pub run: Vec<String>,
    /// Write the outcome to this file too, as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Colour what differs even when no terminal shows it
    #[arg(long)]
    pub diff: bool,
}

/// Options of `backtest`.
#[derive(Debug, Args)]
pub struct Backtest {
    /// The rule files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Run only the rules of this name
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// From when: RFC 3339, or seconds since 1970
    #[arg(long, value_name = "TIME", conflicts_with = "last")]
    pub start: Option<String>,
    /// Until when; now when absent
    #[arg(long, value_name = "TIME")]
    pub end: Option<String>,
    /// How long before the end to begin, such as 7d; 1d when nothing is said
    #[arg(long, value_name = "DURATION")]
    pub last: Option<String>,
    /// The distance of evaluations, in place of each group's interval
    #[arg(long, value_name = "DURATION")]
    pub step: Option<String>,
    /// Ask a running program instead of reading data here
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    pub url: Option<String>,
    /// A file with the token that the running program wants
    #[arg(long, value_name = "FILE", requires = "url")]
    pub token: Option<PathBuf>,
    /// Compare with the rules of these files
    #[arg(long, value_name = "FILE")]
    pub compare: Vec<PathBuf>,
    /// Compare with the rules of the same names that run now
    #[arg(long, requires = "url")]
    pub compare_running: bool,
    /// How to evaluate; both come to the same
    #[arg(long, value_enum, default_value = "auto")]
    pub method: BacktestMethod,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
    /// Draw the outcome into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// The language of what is printed and drawn; that of the environment when absent
    #[arg(long, value_enum)]
    pub language: Option<Language>,
    /// Where configuration and data are.
    #[command(flatten)]
    pub place: Place,
}

/// How a backtest evaluates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum BacktestMethod {
    /// In columns where the rules allow it
    Auto,
    /// Many moments at once
    Columns,
    /// One moment after the other
    Ticks,
}

/// In which language people are told what was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Language {
    /// Chinese
    Zh,
    /// English
    En,
}

/// What can be done with configuration files.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show what an older file must change to be of the current form
    Migrate {
        /// The file
        file: PathBuf,
        /// Write the new form; the old one is kept as FILE.bak
        #[arg(long)]
        write: bool,
    },
}

/// What can be done with the rules inside the program.
#[derive(Debug, Subcommand)]
pub enum Rules {
    /// Print them
    ShowDefaults,
}

/// What can be done with users.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Add one; asks for the password, or reads it from standard input
    Add {
        /// What is typed at the login
        name: String,
        /// viewer, operator or admin
        #[arg(long, default_value = "viewer")]
        role: Role,
        /// Make a password and print it
        #[arg(long)]
        generate: bool,
        /// Where configuration and data are.
        #[command(flatten)]
        place: Place,
    },
    /// Give one a new password; asks for it, or reads it from standard input
    ResetPassword {
        /// Whose
        name: String,
        /// Make a password and print it
        #[arg(long)]
        generate: bool,
        /// Where configuration and data are.
        #[command(flatten)]
        place: Place,
    },
    /// List them
    List {
        /// Where configuration and data are.
        #[command(flatten)]
        place: Place,
    },
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make one and print it; it is shown this once
    Create {
        /// What it is for
        name: String,
        /// viewer, operator or admin
        #[arg(long, default_value = "viewer")]
        role: Role,
        /// Days until it ends; without, it does not
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: Option<u32>,
        /// Where configuration and data are.
        #[command(flatten)]
        place: Place,
    },
    /// List them
    List {
        /// Where configuration and data are.
        #[command(flatten)]
        place: Place,
    },
    /// End one
    Revoke {
        /// Its name
        name: String,
        /// Where configuration and data are.
        #[command(flatten)]
        place: Place,
    },
}

/// Options of `backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// Where configuration and data are; the configuration's folder is saved with the data.
    #[command(flatten)]
    pub place: Place,
    /// The file to write; by default marketprism-backup-TIME.tar.gz here
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Options of `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup
    pub archive: PathBuf,
    /// Where the data goes
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Where the saved configuration goes; without it, it is left in the archive
    #[arg(long, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// Set what is there aside, in the same folder, instead of refusing
    #[arg(long)]
    pub replace: bool,
}

/// Options of `downgrade`.
#[derive(Debug, Args)]
pub struct Downgrade {
    /// The schema's version that the older release knows; its own message names it
    #[arg(long, value_name = "VERSION")]
    pub to: u32,
    /// Where configuration and data are.
    #[command(flatten)]
    pub place: Place,
}

/// Options of `healthcheck`.
#[derive(Debug, Args)]
pub struct Healthcheck {
    /// What to ask; by default /health at the address of the configuration
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Where configuration and data are.
    #[command(flatten)]
    pub place: Place,
}
