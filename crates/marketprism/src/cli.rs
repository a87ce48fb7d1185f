//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Work with the rules inside the program
    #[command(subcommand)]
    Rules(Rules),
}

/// Options of `serve`; each beats the file.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// The configuration; without it, the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where samples and records are kept
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

/// What can be judged.
#[derive(Debug, Subcommand)]
pub enum Check {
    /// A configuration file and the rule files it names
    Config {
        /// The file
        file: PathBuf,
    },
    /// Rule files
    Rules {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// What can be done with the rules inside the program.
#[derive(Debug, Subcommand)]
pub enum Rules {
    /// Print them
    ShowDefaults,
}
