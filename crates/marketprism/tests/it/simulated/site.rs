//! The program in this process, in a world of its own: a clock with hands, seeded chance, hosts in memory.
//!
//! Tests that use it run on a current-thread runtime whose own time is paused. Such a runtime lets its time pass only
//! when no task can go on and no blocking call is under way, so a sleep of it ends exactly when the program has done
//! all it can do at this moment of the simulated clock. That is how a step settles; no real time is waited for.

use std::sync::Arc;
use std::time::Duration;

use marketprism::app::{self, App, Environment, Options};
use marketprism::clock::SystemEntropy;
use marketprism::config;
use marketprism_model::{Clock, Timestamp};
use marketprism_testkit::{FakeWorld, ManualClock, SeededChance};
use serde_json::Value;

/// How far the clock's hands are turned at once.
pub const STEP: Duration = Duration::from_secs(1);

/// A data folder, a configuration, and the program on them.
pub struct Site {
    pub clock: ManualClock,
    pub world: FakeWorld,
    home: tempfile::TempDir,
    app: Option<App>,
    seed: u64,
    agent: ureq::Agent,
}

impl Site {
    /// Writes configuration and rules; starts nothing yet.
    pub fn prepare(seed: u64, start: Timestamp, config: &str, rules: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        // Who gets in is not the point here, and hashing passwords would take real time.
        let config = format!("{config}\nsecurity: {{api_auth: {{enabled: false}}}}\n");
        std::fs::write(home.path().join("config.yaml"), config).expect("write the configuration");
        std::fs::write(home.path().join("rules.yaml"), rules).expect("write the rules");
        let clock = ManualClock::new(start);
        Site {
            world: FakeWorld::new(Arc::new(clock.clone())),
            clock,
            home,
            app: None,
            seed,
            agent: ureq::Agent::config_builder()
                .timeout_global(Some(Duration::from_secs(60)))
                .build()
                .into(),
        }
    }

    /// Starts the program; each start has chance of its own.
    pub async fn start(&mut self) {
        let (config, data_dir) = (
            self.home.path().join("config.yaml"),
            self.home.path().join("data"),
        );
        let variable = |_: &str| None;
        let loaded = config::load(Some(&config), &data_dir, &variable).expect("the configuration is good");
        let options = Options {
            config: Some(config),
            data_dir,
            listen: Some("127.0.0.1:0".to_owned()),
            advertise: None,
        };
        self.seed = self.seed.wrapping_add(1);
        let environment = Environment {
            clock: Arc::new(self.clock.clone()),
            chance: Arc::new(SeededChance::new(self.seed)),
            entropy: Arc::new(SystemEntropy),
            transport: Some(Arc::new(self.world.clone())),
            variable: Arc::new(variable),
            logging: marketprism::logging::Handle::default(),
        };
        let app = app::start(loaded, options, environment).await;
        self.app = Some(app.expect("the program starts"));
    }

    /// Stops the program as a signal does; time passes meanwhile, for what is under way may wait for it.
    pub async fn stop(&mut self) {
        let app = self.app.take().expect("it runs");
        let stopping = app.stop();
        tokio::pin!(stopping);
        loop {
            tokio::select! {
                biased;
                () = &mut stopping => return,
                () = settle(STEP) => self.clock.advance(STEP),
            }
        }
    }

    /// Lets time pass, step by step; the program, if it runs, does at each step what it has to do.
    pub async fn pass(&self, span: Duration) {
        let until = self.clock.monotonic() + span;
        while self.clock.monotonic() < until {
            self.clock.advance(STEP);
            settle(STEP).await;
        }
    }

    /// Sets the wall clock by so many milliseconds, ahead or back, and lets the program notice.
    pub async fn jump(&self, millis: i64) {
        let wall = self.clock.now().millis() + millis;
        self.clock.jump_to(Timestamp::from_millis(wall));
        settle(Duration::from_millis(1)).await;
    }

    /// Asks the program over its real port.
    pub async fn get(&self, path: &str) -> Value {
        let address = self.app.as_ref().expect("it runs").address();
        let (agent, url) = (self.agent.clone(), format!("http://{address}{path}"));
        let asked = tokio::task::spawn_blocking(move || {
            let text = agent
                .get(&url)
                .call()
                .and_then(|mut answer| answer.body_mut().read_to_string());
            text.unwrap_or_else(|error| panic!("{url}: {error}"))
        });
        serde_json::from_str(&asked.await.expect("it answers")).expect("it answers JSON")
    }

    /// Gives the values of an instant query now.
    pub async fn query(&self, expression: &str) -> Vec<f64> {
        let at = self.clock.now().seconds_f64();
        let expression: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/prometheus/api/v1/query?query={expression}&time={at}");
        let answer = self.get(&path).await;
        let found = answer["data"]["result"].as_array().expect("a vector");
        let number = |series: &Value| series["value"][1].as_str().and_then(|text| text.parse().ok());
        found
            .iter()
            .map(|series| number(series).expect("a number"))
            .collect()
    }
}

/// Waits until nothing in the runtime can go on; the runtime's own time-outs keep the pace of the simulated clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the runtime's time is paused: this waits for idleness and for no real time"
)]
async fn settle(span: Duration) {
    tokio::time::sleep(span).await;
}
