//! What the operator sets under `security`: who must show what, and from where.
//!
//! Secure by default: without a word in the file everybody needs credentials. Deliberately absent: where the
//! JWT secret comes from when the file names none; the binary reads the environment and makes the first one.

use std::time::Duration;

use marketprism_model::Secret;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::allow_list::{NetworksError, networks};

/// Fewest bytes of a JWT secret; fewer can be guessed.
const SECRET_BYTES_MIN: usize = 16;
/// Fewest bytes of a JWT secret that match the strength of HS256 (RFC 7518, section 3.2).
const SECRET_BYTES_GOOD: usize = 32;
/// Most networks in a list.
const NETWORKS_MAX: usize = 1000;

/// Everything that this room is set by.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who must show what.
    pub api_auth: ApiAuth,
    /// Who may connect at all.
    pub access_control: AccessControl,
}

/// Users, sessions and tokens.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiAuth {
    /// Whether credentials are asked for. Default true; when false everybody may do everything.
    pub enabled: bool,
    /// Signs the sessions' tokens; at least 16 bytes, better 32. When absent here, `jwt_secret_file` and the
    /// environment are asked, and at the first start one is made.
    pub jwt_secret: Option<Secret>,
    /// The file that holds the secret.
    pub jwt_secret_file: Option<String>,
    /// Hours that a session lasts. 1 to 8760, default 24. Lowering it shortens the sessions that run.
    pub token_expiry_hours: u32,
    /// How failed logins are slowed down.
    pub login_attempts: LoginAttempts,
    /// Seconds that entries of the audit log are kept. 1 day to 10 years, default 365 days.
    pub audit_retention: u64,
}

impl Default for ApiAuth {
    fn default() -> Self {
        ApiAuth {
            enabled: true,
            jwt_secret: None,
            jwt_secret_file: None,
            token_expiry_hours: 24,
            login_attempts: LoginAttempts::default(),
            audit_retention: 365 * 86_400,
        }
    }
}

impl ApiAuth {
    /// Gives how long a session lasts.
    pub fn token_expiry(&self) -> Duration {
        Duration::from_secs(u64::from(self.token_expiry_hours) * 3600)
    }
}

/// How failed logins are slowed down: so many are free, then each waits twice as long as the one before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginAttempts {
    /// Failures that are free for one user name from one address. 1 to 100, default 5.
    pub per_user: u32,
    /// Failures that are free for one address (IPv6: one /64), all names together. 1 to 10,000, default 30.
    pub per_address: u32,
    /// The longest wait in seconds; one failure is forgotten each time it passes. 1 to 86,400, default 900.
    pub delay_max_seconds: u32,
}

impl Default for LoginAttempts {
    fn default() -> Self {
        LoginAttempts {
            per_user: 5,
            per_address: 30,
            delay_max_seconds: 900,
        }
    }
}

/// The allow list of addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessControl {
    /// Whether the list counts. Default false: every address may connect.
    pub enabled: bool,
    /// Addresses and blocks (`10.0.0.0/8`, `fd00::/8`) that may connect; loopback always may. Up to 1000.
    pub allowed_ips: Vec<String>,
    /// Proxies whose `X-Forwarded-For` counts. Up to 1000; empty: the header counts for nothing.
    pub trusted_proxies: Vec<String>,
}

/// What is wrong with the settings; names the key, the value and the limit.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A number is out of its limits.
    #[error("security.{key} is {value}; it must be {limits}")]
    Range {
        /// The key below `security`.
        key: &'static str,
        /// What was given.
        value: u64,
        /// What is taken.
        limits: &'static str,
    },
    /// An entry is no network, or a list is too long.
    #[error("security.access_control.{key}: {fault}")]
    Networks {
        /// The list.
        key: &'static str,
        /// What does not fit.
        fault: NetworksError,
    },
    /// The list counts and lets nobody in.
    #[error(
        "security.access_control.allowed_ips is empty while enabled is true; it must name an address or block, \
         127.0.0.1 for this machine alone"
    )]
    NobodyAllowed,
    /// Two sources of one secret.
    #[error("security.api_auth.jwt_secret and jwt_secret_file are both set; it must be one of them")]
    TwoSecrets,
    /// The secret is unfit.
    #[error("security.api_auth.jwt_secret {0}")]
    Secret(#[from] SecretError),
}

impl Config {
    /// Judges the settings; gives every fault.
    pub fn faults(&self) -> Vec<ConfigError> {
        let mut faults = Vec::new();
        let auth = &self.api_auth;
        let attempts = &auth.login_attempts;
        let ranges: [(&'static str, u64, std::ops::RangeInclusive<u64>, &'static str); 5] = [
            (
                "api_auth.token_expiry_hours",
                u64::from(auth.token_expiry_hours),
                1..=8760,
                "1 to 8760",
            ),
            (
                "api_auth.login_attempts.per_user",
                u64::from(attempts.per_user),
                1..=100,
                "1 to 100",
            ),
            (
                "api_auth.login_attempts.per_address",
                u64::from(attempts.per_address),
                1..=10_000,
                "1 to 10000",
            ),
            (
                "api_auth.login_attempts.delay_max_seconds",
                u64::from(attempts.delay_max_seconds),
                1..=86_400,
                "1 to 86400 (one day)",
            ),
            (
                "api_auth.audit_retention",
                auth.audit_retention,
                86_400..=315_360_000,
                "86400 (one day) to 315360000 (ten years)",
            ),
        ];
        for (key, value, range, limits) in ranges {
            if !range.contains(&value) {
                faults.push(ConfigError::Range { key, value, limits });
            }
        }
        if auth.jwt_secret.is_some() && auth.jwt_secret_file.is_some() {
            faults.push(ConfigError::TwoSecrets);
        }
        if let Some(secret) = auth.jwt_secret.as_ref().filter(|_| auth.enabled)
            && let Err(fault) = judge_secret(secret.expose())
        {
            faults.push(fault.into());
        }
        self.access_control.judge(&mut faults);
        faults
    }

    /// Judges the settings; gives the first fault.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.faults().into_iter().next().map_or(Ok(()), Err)
    }
}

impl AccessControl {
    fn judge(&self, faults: &mut Vec<ConfigError>) {
        let lists = [
            ("allowed_ips", &self.allowed_ips),
            ("trusted_proxies", &self.trusted_proxies),
        ];
        for (key, list) in lists {
            let (_, network_faults) = networks(list, NETWORKS_MAX);
            faults.extend(
                network_faults
                    .into_iter()
                    .map(|fault| ConfigError::Networks { key, fault }),
            );
        }
        if self.enabled && self.allowed_ips.is_empty() {
            faults.push(ConfigError::NobodyAllowed);
        }
    }
}

/// Why a JWT secret is not taken; continues a sentence that begins with the key. Never shows the secret.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SecretError {
    /// Everybody knows it.
    #[error(
        "is a placeholder that everybody knows; it must be a secret, made for example by `openssl rand -hex 32`"
    )]
    Placeholder,
    /// It can be guessed.
    #[error("has {0} bytes; it must have at least 16, better 32, made for example by `openssl rand -hex 32`")]
    Short(usize),
    /// It repeats itself.
    #[error(
        "repeats fewer than 5 different characters; it must be a secret, made for example by `openssl rand -hex 32`"
    )]
    Monotonous,
    /// More than anybody needs.
    #[error("has {0} bytes; it must have at most 4096")]
    Long(usize),
}

/// Judges a JWT secret; gives a warning when it is taken although it is weaker than HS256 deserves.
///
/// The warning continues a sentence that begins with the key.
pub fn judge_secret(secret: &str) -> Result<Option<String>, SecretError> {
    const PLACEHOLDERS: [&str; 14] = [
        "yourjwtsecretkey",
        "yourjwtsecret",
        "yoursecretkey",
        "yoursecret",
        "yoursecretkeyhere",
        "jwtsecret",
        "jwtsecretkey",
        "secret",
        "supersecret",
        "supersecretkey",
        "changeme",
        "changethis",
        "password",
        "pleasechangeme",
    ];
    let letters: String = secret
        .chars()
        .filter(|c| c.is_ascii_alphabetic())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let is_hint =
        letters.contains("changeme") || letters.contains("placeholder") || letters.contains("replaceme");
    if PLACEHOLDERS.contains(&letters.as_str()) || is_hint || secret.starts_with("${") {
        return Err(SecretError::Placeholder);
    }
    if secret.len() < SECRET_BYTES_MIN {
        return Err(SecretError::Short(secret.len()));
    }
    if secret.len() > 4096 {
        return Err(SecretError::Long(secret.len()));
    }
    let mut bytes: Vec<u8> = secret.bytes().collect();
    bytes.sort_unstable();
    bytes.dedup();
    if bytes.len() < 5 {
        return Err(SecretError::Monotonous);
    }
    Ok((secret.len() < SECRET_BYTES_GOOD).then(|| {
        format!(
            "has {} bytes; {SECRET_BYTES_GOOD} or more match the strength of HS256",
            secret.len()
        )
    }))
}
