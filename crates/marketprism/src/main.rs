//! The entrance of the program: command line, logs, start, signals, stop.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use marketprism::app::{self, App, Environment, Options};
use marketprism::cli::{Check, Cli, Command, Rules, Serve};
use marketprism::clock::{SystemChance, SystemClock};
use marketprism::{check, config, logging};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Serve(options) => serve(options),
        Command::Check(Check::Config { file }) => say(check::config(&file)),
        Command::Check(Check::Rules { files }) => say(check::rules(&files)),
        Command::Rules(Rules::ShowDefaults) => say(Ok(check::default_rules())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout)] // A command's answer belongs on standard output.
fn say(answer: anyhow::Result<String>) -> anyhow::Result<()> {
    print!("{}", answer?);
    Ok(())
}

#[allow(clippy::print_stderr)] // Also before, and after, there are logs.
fn complain(text: &str) {
    eprintln!("{text}");
}

fn serve(options: Serve) -> anyhow::Result<()> {
    let environment = Environment {
        clock: Arc::new(SystemClock::default()),
        chance: Arc::new(SystemChance::default()),
        transport: None,
        variable: Arc::new(|name| std::env::var(name).ok()),
    };
    let loaded = config::load(
        options.config.as_deref(),
        &options.data_dir,
        &*environment.variable,
    )?;
    let level = std::env::var("LOG_LEVEL").ok().filter(|level| !level.is_empty());
    logging::start(
        &loaded.config.logging,
        level.as_deref(),
        Arc::clone(&environment.clock),
    )?;
    raise_open_files();
    let options = Options {
        config: options.config,
        data_dir: options.data_dir,
        listen: options.listen,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let outcome = runtime.block_on(run(loaded, options, environment));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    outcome
}

/// Whoever is told to stop and stops has not failed.
fn stopped_early() -> anyhow::Result<()> {
    tracing::info!("told to stop while starting");
    Ok(())
}

/// Raises the limit of open files to what the system allows; the usual soft limit is below the connections allowed.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        tracing::warn!(error = %error, "limit of open files not raised");
    }
}

async fn run(loaded: config::Loaded, options: Options, environment: Environment) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("listen to SIGHUP")?;
    let app: App = tokio::select! {
        started = app::start(loaded, options, environment) => started?,
        _ = terminate.recv() => return stopped_early(),
        _ = interrupt.recv() => return stopped_early(),
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => tokio::select! {
                // The outcome is in the log and in a metric; a bad file leaves everything as it was.
                _ = app.reload() => {}
                // A file that does not end (a pipe, a share that is away) must not keep the program from stopping.
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            },
        }
    }
    app.stop().await;
    Ok(())
}
