//! The entrance of the program: command line, logs, start, signals, stop.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use marketprism::app::{self, App, Environment, Options};
use marketprism::cli::{Check, Cli, Command, ConfigCommand, Rules, Serve, Test};
use marketprism::clock::{SystemChance, SystemClock, SystemEntropy};
use marketprism::commands;
use marketprism::{check, check_rules, config, logging};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Serve(options) => serve(options),
        Command::Check(Check::Config { file }) => say(check::config(&file)),
        Command::Check(Check::Rules(options)) => return verdict(check_rules::rules(&options)),
        Command::Test(Test::Rules(options)) => return verdict(commands::test_rules::test_rules(&options)),
        Command::Backtest(options) => say(commands::backtest::backtest(&options)),
        Command::Config(ConfigCommand::Migrate { file, write }) => say(commands::migrate(&file, write)),
        Command::Rules(Rules::ShowDefaults) => say(Ok(check::default_rules())),
        Command::User(command) => say(commands::access::user(command)),
        Command::Token(command) => say(commands::access::token(command)),
        Command::Backup(options) => say(commands::backup::backup(&options)),
        Command::Restore(options) => say(commands::backup::restore(&options)),
        Command::Downgrade(options) => say(commands::downgrade(&options)),
        Command::Healthcheck(options) => say(commands::healthcheck::healthcheck(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Says what was found, and ends with 1 when it is not good.
fn verdict(answer: anyhow::Result<(String, bool)>) -> ExitCode {
    let is_good = answer.as_ref().is_ok_and(|(_, is_good)| *is_good);
    match say(answer.map(|(text, _)| text)) {
        Ok(()) if is_good => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
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
    let mut environment = Environment {
        clock: Arc::new(SystemClock::default()),
        chance: Arc::new(SystemChance::default()),
        entropy: Arc::new(SystemEntropy),
        transport: None,
        variable: Arc::new(commands::variable),
        logging: logging::Handle::default(),
    };
    let options = Options {
        config: commands::config_file(options.place.config.as_deref()).map(Into::into),
        data_dir: options.place.data_dir,
        listen: options.listen,
        advertise: options.advertise,
    };
    let loaded = load(&options, &environment)?;
    let level = loaded.variables(Arc::clone(&environment.variable))("LOG_LEVEL");
    environment.logging = logging::start(
        &loaded.config.logging,
        level.as_deref().filter(|level| !level.is_empty()),
        Arc::clone(&environment.clock),
    )?;
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let outcome = runtime.block_on(run(loaded, options, environment));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    outcome
}

fn load(options: &Options, environment: &Environment) -> anyhow::Result<config::Loaded> {
    let file = options.config.as_deref();
    Ok(config::load(file, &options.data_dir, &*environment.variable)?)
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

/// How often a configuration is read anew that a standby cannot start with.
const RELOAD_PACE: std::time::Duration = std::time::Duration::from_secs(30);

/// What people and supervisors tell a process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("listen to SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen to SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("listen to SIGHUP")?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}

/// What a signal means.
enum Told {
    Stop,
    Reload,
}

/// Why a start, or a run, ended.
enum End {
    Stop,
    /// From the beginning, with this configuration.
    Anew(Box<config::Loaded>),
}

async fn run(
    mut loaded: config::Loaded,
    mut options: Options,
    environment: Environment,
) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    loop {
        let end = match start(loaded, &options, &environment, &mut signals).await? {
            Ok(app) => {
                // Whoever was told this address asks there again.
                options.listen = Some(app.address().to_string());
                serve_until_end(app, &options, &environment, &mut signals).await?
            }
            Err(end) => end,
        };
        match end {
            End::Stop => return Ok(()),
            End::Anew(next) => loaded = *next,
        }
    }
}

/// Starts the program; a replica may stand by here for weeks, so signals are heard meanwhile.
async fn start(
    loaded: config::Loaded,
    options: &Options,
    environment: &Environment,
    signals: &mut Signals,
) -> anyhow::Result<Result<App, End>> {
    let cancel = CancellationToken::new();
    let starting = app::start_until(loaded, options.clone(), environment.clone(), &cancel);
    tokio::pin!(starting);
    let (mut is_stopping, mut next) = (false, None);
    loop {
        tokio::select! {
            started = &mut starting => {
                let app = started?;
                if !cancel.is_cancelled()
                    && let Some(app) = app
                {
                    return Ok(Ok(app));
                }
                // The start may have been past the point of calling it off.
                if let Some(app) = app {
                    app.stop().await;
                }
                return Ok(Err(next.map_or(End::Stop, End::Anew)));
            }
            told = signals.next() => match told {
                Told::Stop => {
                    tracing::info!("told to stop while starting");
                    (is_stopping, next) = (true, None);
                    cancel.cancel();
                }
                Told::Reload if is_stopping => {}
                Told::Reload => match load(options, environment) {
                    Ok(read) => {
                        tracing::info!("told to read the configuration anew while starting");
                        next = Some(Box::new(read));
                        cancel.cancel();
                    }
                    Err(error) => {
                        tracing::error!(error = %error, "configuration not reloaded; the running one stays");
                    }
                },
            },
        }
    }
}

async fn serve_until_end(
    app: App,
    options: &Options,
    environment: &Environment,
    signals: &mut Signals,
) -> anyhow::Result<End> {
    let is_superseded = loop {
        tokio::select! {
            () = app.superseded() => break true,
            told = signals.next() => match told {
                Told::Stop => break false,
                // The outcome is in the log and in a metric; a bad file leaves everything as it was. The reading goes
                // on by itself: a file that does not end (a pipe, a share that is away) must not keep the program
                // from stopping.
                Told::Reload => app.reload_aside(),
            },
        }
    };
    app.stop().await;
    if !is_superseded {
        return Ok(End::Stop);
    }
    // Another replica has the alerts; so a file that became bad meanwhile ends nothing, and is waited for.
    loop {
        match load(options, environment) {
            Ok(read) => return Ok(End::Anew(Box::new(read))),
            Err(error) => tracing::error!(error = %error, "cannot stand by with this configuration; mend it"),
        }
        tokio::select! {
            told = signals.next() => if matches!(told, Told::Stop) {
                return Ok(End::Stop);
            },
            () = environment.clock.sleep(RELOAD_PACE) => {}
        }
    }
}
