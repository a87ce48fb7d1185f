//! `http_config` of Alertmanager's receivers: how a request proves who sends it, and whom it trusts.
//!
//! Secrets in files are put in before this is read, so only their keys are known here.
//! Deliberately absent: proxies, OAuth 2 and certificates within the text. What cannot be done without loss is told
//! by [`HttpConfig::obstacle`], and such a receiver is not asked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marketprism_model::Secret;
use marketprism_net::TlsPolicy;
use serde::{Deserialize, Serialize};

use super::given::{Given, fields};

/// User and password.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    username_file: Given,
    username_ref: Given,
    /// The password.
    pub password: Secret,
    password_file: Given,
    password_ref: Given,
}

/// Any other `Authorization` header.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// The first word of the header; `Bearer` when empty.
    #[serde(rename = "type")]
    pub scheme: String,
    /// What follows it.
    pub credentials: Secret,
    credentials_file: Given,
    credentials_ref: Given,
}

/// Whom to trust, and which certificate to show.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the certificate we show.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
    /// The name to expect in the certificate instead of the host's.
    pub server_name: String,
    /// Accepts any certificate.
    pub insecure_skip_verify: bool,
    ca: Given,
    cert: Given,
    key: Given,
    ca_ref: Given,
    cert_ref: Given,
    key_ref: Given,
    min_version: Given,
    max_version: Given,
}

/// One further header; all its values are sent.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpHeader {
    /// Values that may be seen.
    pub values: Vec<String>,
    /// Values that may not.
    pub secrets: Vec<Secret>,
    files: Given,
}

/// Prometheus' `http_config`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// Any other authorization.
    pub authorization: Option<Authorization>,
    /// The older way to write `authorization: {credentials: …}`.
    pub bearer_token: Secret,
    bearer_token_file: Given,
    /// TLS.
    pub tls_config: TlsConfig,
    /// Further headers by name.
    pub http_headers: BTreeMap<String, HttpHeader>,
    oauth2: Given,
    proxy_url: Given,
    no_proxy: Given,
    proxy_from_environment: Given,
    proxy_connect_header: Given,
    follow_redirects: Given,
    enable_http2: Given,
}

impl TlsConfig {
    /// Makes the policy that `net` follows.
    pub(super) fn policy(&self) -> TlsPolicy {
        let file = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        TlsPolicy {
            ca_file: file(&self.ca_file),
            cert_file: file(&self.cert_file),
            key_file: file(&self.key_file),
            server_name: Some(self.server_name.clone()).filter(|name| !name.is_empty()),
            pinned_file: None,
            is_verification_skipped: self.insecure_skip_verify,
        }
    }

    /// Names a key without which the peer cannot be reached as it was meant, and that is not understood.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        fields!(self: ca, cert, key, ca_ref, cert_ref, key_ref).next()
    }

    pub(super) fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        fields!(self: min_version, max_version)
    }

    /// Says what cannot stand together, as key and reason.
    pub(super) fn faults(&self, faults: &mut Vec<(String, String)>) {
        let policy = self.policy();
        if policy.cert_file.is_some() != policy.key_file.is_some() {
            let reason = "cert_file and key_file go together";
            faults.push(("tls_config.cert_file".to_owned(), reason.to_owned()));
        }
    }
}

impl HttpConfig {
    /// Names a key without which a request would mean something else, and that is not understood.
    pub(super) fn obstacle(&self) -> Option<String> {
        let own = fields!(self: oauth2, bearer_token_file).next().map(str::to_owned);
        let basic = self.basic_auth.as_ref().and_then(|basic| {
            fields!(basic: username_file, username_ref, password_file, password_ref)
                .next()
                .map(|key| format!("basic_auth.{key}"))
        });
        let other = self.authorization.as_ref().and_then(|other| {
            fields!(other: credentials_file, credentials_ref)
                .next()
                .map(|key| format!("authorization.{key}"))
        });
        let tls = self.tls_config.obstacle().map(|key| format!("tls_config.{key}"));
        let header = self.http_headers.iter().find(|(_, header)| header.files.0);
        let header = header.map(|(name, _)| format!("http_headers.{name}.files"));
        own.or(basic).or(other).or(tls).or(header)
    }

    /// Names keys that are taken and change nothing.
    pub(super) fn without_effect(&self) -> Vec<String> {
        let own = fields!(self: proxy_url, no_proxy, proxy_from_environment, proxy_connect_header);
        let tls = self.tls_config.without_effect();
        own.map(str::to_owned)
            .chain(tls.map(|key| format!("tls_config.{key}")))
            .collect()
    }

    /// Says whether a header proves who sends a request.
    pub(super) fn has_authorization(&self) -> bool {
        self.authorization.is_some() || !self.bearer_token.is_empty() || self.basic_auth.is_some()
    }

    /// Says what cannot stand together, as key and reason.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut note = |key: &str, reason: &str| faults.push((key.to_owned(), reason.to_owned()));
        let ways = [
            ("basic_auth", self.basic_auth.is_some()),
            ("authorization", self.authorization.is_some()),
            ("oauth2", self.oauth2.0),
            ("bearer_token", !self.bearer_token.is_empty()),
        ];
        let given: Vec<&str> = ways.iter().filter(|(_, is)| *is).map(|(key, _)| *key).collect();
        if given.len() > 1 {
            note(given[1], &format!("give one of {}", given.join(" and ")));
        }
        if let Some(other) = &self.authorization
            && other.scheme.trim().eq_ignore_ascii_case("basic")
        {
            note("authorization.type", "for Basic use basic_auth");
        }
        let no_proxy = self.no_proxy.0 && !self.proxy_url.0;
        if no_proxy || (self.proxy_from_environment.0 && self.proxy_url.0) {
            note(
                "proxy_url",
                "no_proxy needs it, and proxy_from_environment excludes it",
            );
        }
        for name in self.http_headers.keys() {
            if name.eq_ignore_ascii_case("authorization") {
                note("http_headers", "authorization has a key of its own");
            }
        }
        self.tls_config.faults(&mut faults);
        faults
    }

    /// Gives the headers that each request carries.
    pub(super) fn headers(&self) -> BTreeMap<String, Secret> {
        let mut headers: BTreeMap<String, Secret> = BTreeMap::new();
        for (name, header) in &self.http_headers {
            let values = header.values.iter().map(String::as_str);
            let values: Vec<&str> = values.chain(header.secrets.iter().map(Secret::expose)).collect();
            headers.insert(name.clone(), Secret::new(values.join(", ")));
        }
        let authorization = match (&self.basic_auth, &self.authorization) {
            (Some(basic), _) => {
                let pair = format!("{}:{}", basic.username, basic.password.expose());
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
            (None, Some(other)) => {
                let scheme = match other.scheme.trim() {
                    "" => "Bearer",
                    scheme => scheme,
                };
                Some(format!("{scheme} {}", other.credentials.expose()))
            }
            (None, None) if !self.bearer_token.is_empty() => {
                Some(format!("Bearer {}", self.bearer_token.expose()))
            }
            (None, None) => None,
        };
        headers.extend(authorization.map(|value| ("Authorization".to_owned(), Secret::new(value))));
        headers
    }
}
