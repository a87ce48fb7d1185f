//! Who gets in, and what they may do: users, roles, tokens, sessions, the allow list, the audit log.
//!
//! One room, so that every request passes the same judgement, whether it comes from a browser, from Prometheus or
//! from another replica. Everything here is given its clock, its chance and its records, so a month of guessing
//! is tested in milliseconds. Deliberately absent: HTTP, files, sockets; the server asks, the binary brings.

mod access;
mod administration;
mod allow_list;
mod api_token;
mod attempts;
mod audit;
mod bounded;
mod config;
mod credentials;
mod identity;
mod jwt;
mod keys;
mod metrics;
mod password;
mod refusal;
mod remembered;
mod verified;
mod vouch;

pub use access::{Access, Parts};
pub use administration::{
    ChangeError, FIRST_ADMIN, NameError, NewToken, NewUser, UserChange, new_password, read_name,
};
pub use allow_list::{Client, NetworksError, hop_address, network};
pub use audit::Event;
pub use config::{AccessControl, ApiAuth, Config, ConfigError, LoginAttempts, SecretError, judge_secret};
pub use identity::{Credential, Identity, Session, SessionRef};
pub use password::PasswordError;
pub use refusal::Refusal;

/// Every parser of outside input in this room, for the fuzz targets: takes any text, never panics.
///
/// Asserts that nothing made up is taken for a session, a token or another replica's word.
pub fn fuzz(text: &str) {
    let keys = keys::Keys::new(b"the fuzzer does not know this secret");
    assert!(keys.jwt.read(text).is_none(), "a token was forged");
    let now = marketprism_model::Timestamp::from_millis(0);
    let mut headers = http::HeaderMap::new();
    for line in text.split('\n').take(4) {
        if let Ok(value) = http::HeaderValue::from_bytes(line.as_bytes()) {
            headers.append(vouch::HEADER, value.clone());
            headers.append("x-forwarded-for", value);
        }
    }
    assert!(
        keys.voucher.client(&headers, now).is_none(),
        "a replica's word was forged"
    );
    let everywhere = allow_list::AllowList {
        is_enabled: true,
        allowed: Vec::new(),
        trusted_proxies: ["0.0.0.0/0", "::/0"]
            .iter()
            .filter_map(|text| network(text).ok())
            .collect(),
    };
    _ = everywhere.client(std::net::Ipv4Addr::LOCALHOST.into(), &headers);
    _ = (
        api_token::digest(text),
        hop_address(text),
        network(text),
        read_name(text),
        judge_secret(text),
    );
    let claims = jwt::read_claims(text.as_bytes());
    _ = claims.map(|claims| {
        (
            claims.began_at(),
            claims.judge_times(now, std::time::Duration::from_secs(1)),
        )
    });
}
