//! How a target is spoken to: authentication, TLS, headers, redirects.

use std::collections::BTreeMap;
use std::path::PathBuf;

use marketprism_net::transport::TlsPolicy;
use serde::Deserialize;

use super::ignored::present_keys;
use super::{ConfigError, Ignored, Secret};

/// User and password, each given or read from a file at every scrape.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuth {
    /// The user's name.
    pub username: String,
    /// A file that holds it.
    pub username_file: Option<PathBuf>,
    /// The password.
    pub password: Option<Secret>,
    /// A file that holds it.
    pub password_file: Option<PathBuf>,
    username_ref: Ignored,
    password_ref: Ignored,
}

/// An `Authorization` header of another type than `Basic`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authorization {
    /// The scheme, `Bearer` by default.
    #[serde(rename = "type")]
    pub scheme: String,
    /// What follows it.
    pub credentials: Option<Secret>,
    /// A file that holds what follows it.
    pub credentials_file: Option<PathBuf>,
    credentials_ref: Ignored,
}

impl Default for Authorization {
    fn default() -> Self {
        Authorization {
            scheme: "Bearer".to_owned(),
            credentials: None,
            credentials_file: None,
            credentials_ref: Ignored::default(),
        }
    }
}

impl Authorization {
    pub(super) fn bearer(credentials: Option<Secret>, credentials_file: Option<PathBuf>) -> Self {
        Authorization {
            credentials,
            credentials_file,
            ..Authorization::default()
        }
    }
}

/// How TLS is spoken.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file of the authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the certificate we show.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
    /// The name to expect in the target's certificate.
    pub server_name: Option<String>,
    /// Whether any certificate is accepted.
    pub insecure_skip_verify: bool,
    ca: Ignored,
    cert: Ignored,
    key: Ignored,
    ca_ref: Ignored,
    cert_ref: Ignored,
    key_ref: Ignored,
    min_version: Ignored,
    max_version: Ignored,
}

impl TlsConfig {
    /// Gives it in the words of the outbound door.
    pub fn policy(&self) -> TlsPolicy {
        TlsPolicy {
            pinned_file: None,
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
            server_name: self.server_name.clone(),
            is_verification_skipped: self.insecure_skip_verify,
        }
    }
}

/// One further header: all its values are sent.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpHeader {
    /// Values that may be seen.
    pub values: Vec<String>,
    /// Values that may not.
    pub secrets: Vec<Secret>,
    /// Files that hold one value each.
    pub files: Vec<PathBuf>,
}

/// The keys of Prometheus' HTTP client, gathered; in the file they stand beside `job_name`.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpClientConfig {
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// Another kind of authorization.
    pub authorization: Option<Authorization>,
    /// TLS.
    pub tls: TlsConfig,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Further headers by name.
    pub headers: BTreeMap<String, HttpHeader>,
}

impl Default for HttpClientConfig {
    fn default() -> Self {
        HttpClientConfig {
            basic_auth: None,
            authorization: None,
            tls: TlsConfig::default(),
            follow_redirects: true,
            headers: BTreeMap::new(),
        }
    }
}

impl HttpClientConfig {
    /// Checks what cannot stand together; `at` is the path for the message.
    pub(super) fn validate(&self, at: &str) -> Result<(), ConfigError> {
        if self.basic_auth.is_some() && self.authorization.is_some() {
            return Err(ConfigError::value(
                at,
                "at most one of basic_auth and authorization may be set",
            ));
        }
        if let Some(basic) = &self.basic_auth {
            let field = format!("{at}.basic_auth");
            if !basic.username.is_empty() && basic.username_file.is_some() {
                return Err(ConfigError::value(
                    field,
                    "at most one of username and username_file may be set",
                ));
            }
            if basic.password.is_some() && basic.password_file.is_some() {
                return Err(ConfigError::value(
                    field,
                    "at most one of password and password_file may be set",
                ));
            }
        }
        if let Some(other) = &self.authorization {
            let field = format!("{at}.authorization");
            if other.credentials.is_some() && other.credentials_file.is_some() {
                return Err(ConfigError::value(
                    field,
                    "at most one of credentials and credentials_file may be set",
                ));
            }
            if other.scheme.trim().is_empty() {
                return Err(ConfigError::value(format!("{field}.type"), "must not be empty"));
            }
            if other.scheme.eq_ignore_ascii_case("basic") {
                return Err(ConfigError::value(
                    format!("{field}.type"),
                    "for Basic use basic_auth",
                ));
            }
        }
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            return Err(ConfigError::value(
                format!("{at}.tls_config"),
                "cert_file and key_file belong together",
            ));
        }
        for (name, header) in &self.headers {
            let field = format!("{at}.http_headers.{name}");
            let parsed: Result<http::HeaderName, _> = name.parse();
            let name = parsed.map_err(|error| ConfigError::value(&field, error.to_string()))?;
            if [
                http::header::AUTHORIZATION,
                http::header::HOST,
                http::header::ACCEPT,
            ]
            .contains(&name)
            {
                return Err(ConfigError::value(
                    field,
                    "this header has a key of its own or is set by the scrape",
                ));
            }
            let bad = header
                .values
                .iter()
                .any(|value| http::HeaderValue::from_str(value).is_err());
            if bad {
                return Err(ConfigError::value(
                    field,
                    "a value holds characters that no header may hold",
                ));
            }
        }
        Ok(())
    }

    pub(super) fn ignored(&self) -> Vec<String> {
        let mut names = Vec::new();
        if let Some(basic) = &self.basic_auth {
            names.extend(
                present_keys!(basic, username_ref, password_ref).map(|key| format!("basic_auth.{key}")),
            );
        }
        if let Some(other) = &self.authorization {
            names.extend(present_keys!(other, credentials_ref).map(|key| format!("authorization.{key}")));
        }
        let tls = present_keys!(
            self.tls,
            ca,
            cert,
            key,
            ca_ref,
            cert_ref,
            key_ref,
            min_version,
            max_version
        );
        names.extend(tls.map(|key| format!("tls_config.{key}")));
        names
    }
}
