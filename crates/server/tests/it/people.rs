//! Users, their sessions, and how they are shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use http::request::Builder;
use marketprism_access::{Access, AccessControl, Client, Config, NewUser};
use marketprism_model::{Role, Secret};

/// The password of everybody here.
pub const PASSWORD: &str = "correct horse battery";

/// Makes a user.
pub fn user(access: &Access, name: &str, role: Role) {
    let new = NewUser {
        name: name.to_owned(),
        role,
        password: Secret::new(PASSWORD),
    };
    access.create_user(new).expect("the name is free");
}

/// Begins a session from this machine.
pub fn session(access: &Access, name: &str, password: &Secret) -> Secret {
    let client = Client::direct([127, 0, 0, 1].into());
    access
        .login(&client, name, password)
        .expect("the password is right")
        .token
}

/// Makes a user and begins a session; gives the value of `Authorization`.
pub fn bearer(access: &Access, name: &str, role: Role) -> String {
    user(access, name, role);
    format!(
        "Bearer {}",
        session(access, name, &Secret::new(PASSWORD)).expose()
    )
}

/// Gives the value of `Authorization` for a name and a password.
pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// Adds a credential to a request with a JSON body.
pub fn json(method: &str, path: &str, authorization: &str) -> Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header("authorization", authorization)
}

/// Settings with an allow list, and this machine as the proxy in front.
pub fn behind_a_proxy(allowed: &[&str]) -> Config {
    Config {
        access_control: AccessControl {
            enabled: true,
            allowed_ips: allowed.iter().map(|text| (*text).to_owned()).collect(),
            trusted_proxies: vec!["127.0.0.1".to_owned()],
        },
        ..Config::default()
    }
}
