//! A room with records in memory, a clock with hands, and one user of each role.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use marketprism_access::{
    Access, Client, Config, Credential, Identity, NewToken, NewUser, Parts, Refusal, Session,
};
use marketprism_model::{Clock, Role, Secret, Timestamp};
use marketprism_testkit::{ManualClock, MemoryAccess, SeededChance, SeededEntropy};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub const SECRET: &str = "a-secret-of-this-test-0123456789-abcdef";
pub const PASSWORD: &str = "correct horse";

/// 2026-08-01T00:00:00Z.
pub const START: Timestamp = Timestamp::from_millis(1_785_542_400_000);

pub struct Rig {
    pub store: Arc<MemoryAccess>,
    pub clock: ManualClock,
    pub access: Arc<Access>,
    registry: Registry,
}

impl Rig {
    pub fn new() -> Self {
        Rig::with(&Config::default())
    }

    pub fn with(config: &Config) -> Self {
        let clock = ManualClock::new(START);
        // Far from zero, as on a machine that has been up for a while.
        clock.advance(Duration::from_secs(1000));
        clock.jump_to(START);
        Rig::on(config, Arc::new(MemoryAccess::new()), clock, 7)
    }

    /// Opens a replica on given records.
    pub fn on(config: &Config, store: Arc<MemoryAccess>, clock: ManualClock, seed: u64) -> Self {
        config.validate().expect("a good configuration");
        let mut registry = Registry::with_prefix("marketprism");
        let parts = Parts {
            store: store.clone(),
            clock: Arc::new(clock.clone()),
            chance: Arc::new(SeededChance::new(seed)),
            entropy: Arc::new(SeededEntropy::new(seed)),
        };
        let access = Arc::new(Access::open(config, Secret::new(SECRET), parts, &mut registry));
        Rig {
            store,
            clock,
            access,
            registry,
        }
    }

    /// Makes a user whose password is [`PASSWORD`].
    pub fn user(&self, name: &str, role: Role) {
        let new = NewUser {
            name: name.to_owned(),
            role,
            password: Secret::new(PASSWORD),
        };
        self.access.create_user(new).expect("a new user");
    }

    pub fn login(&self, name: &str) -> Session {
        let password = Secret::new(PASSWORD);
        self.access.login(&here(), name, &password).expect("a login")
    }

    pub fn try_login(&self, client: &Client, name: &str, password: &str) -> Result<Session, Refusal> {
        self.access.login(client, name, &Secret::new(password))
    }

    pub fn bearer(&self, token: &Secret) -> Result<Identity, Refusal> {
        self.access
            .identify(&here(), Some(&Credential::Bearer(token.clone())))
    }

    pub fn basic(&self, client: &Client, user: &str, password: &str) -> Result<Identity, Refusal> {
        let credential = Credential::Basic {
            user: user.to_owned(),
            password: Secret::new(password),
        };
        self.access.identify(client, Some(&credential))
    }

    pub fn api_token(&self, name: &str, role: Role, expires_at: Option<Timestamp>) -> Secret {
        let new = NewToken {
            name: name.to_owned(),
            role,
            expires_at,
        };
        let made = self.access.create_token(&Identity::anybody(), new);
        made.expect("a new token").1
    }

    /// Gives a figure of `/metrics`, 0 when it is not there yet.
    pub fn figure(&self, name: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("figures encode");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().expect("a whole number"))
    }

    /// Counts the runs of argon2.
    pub fn hashes(&self) -> u64 {
        self.figure("marketprism_access_password_hashes_total")
    }

    pub fn pass(&self, span: Duration) {
        self.clock.advance(span);
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

pub fn at(address: &str) -> Client {
    Client::direct(address.parse::<IpAddr>().expect(address))
}

pub fn here() -> Client {
    at("10.0.0.1")
}

/// Gives the reason of a refusal, or `in` when there was none.
pub fn word<T>(result: &Result<T, Refusal>) -> &'static str {
    result.as_ref().map_or_else(Refusal::reason, |_| "in")
}
