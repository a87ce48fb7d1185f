//! Asks a target over HTTP.
//!
//! Secrets in files are read anew at every scrape, so that a rotated token needs no reload.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use marketprism_net::{NetError, Request, Transport};
use thiserror::Error;

use crate::config::{HttpClientConfig, PoolConfig, Secret};
use crate::exposition::{Format, FormatError, accept_header};
use crate::target::{Target, without_secrets};

const REDIRECTS_MAX: u8 = 10;
/// A longer secret file is refused.
const SECRET_BYTES_MAX: u64 = 64 << 10;
const SENT_USER_AGENT: &str = concat!("MarketPrism/", env!("CARGO_PKG_VERSION"));

/// Why a target gave no body.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("server returned HTTP status {0}")]
    Status(u16),
    #[error("body_size_limit exceeded (limit: {0} bytes)")]
    TooLong(usize),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("cannot read {path}: {reason}")]
    SecretFile { path: String, reason: String },
    #[error("header {0} cannot hold its value")]
    Header(String),
}

/// What one target is asked, apart from its secrets.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Asking {
    url: String,
    accept: String,
    has_compression: bool,
    timeout: Duration,
    body_bytes_max: usize,
    http: HttpClientConfig,
    fallback: Option<crate::config::ScrapeProtocol>,
}

impl Asking {
    pub(super) fn new(pool: &PoolConfig, target: &Target) -> Self {
        Asking {
            url: target.url.clone(),
            accept: accept_header(&pool.protocols),
            has_compression: pool.has_compression,
            timeout: target.timeout,
            body_bytes_max: pool.body_bytes_max,
            http: pool.http.clone(),
            fallback: pool.fallback,
        }
    }

    /// Sends the request and gives the body with its format.
    pub(super) async fn fetch(&self, transport: &dyn Transport) -> Result<(Bytes, Format), FetchError> {
        let mut request = Request::new(Method::GET, self.url.clone());
        request.timeout = self.timeout;
        request.body_bytes_max = self.body_bytes_max;
        request.redirects_max = if self.http.follow_redirects {
            REDIRECTS_MAX
        } else {
            0
        };
        request.tls = self.http.tls.policy();
        request.headers = self.headers().await?;
        let answer = transport.send(request).await.map_err(|error| match error {
            NetError::TooLong { limit, .. } => FetchError::TooLong(limit),
            NetError::Address { url, reason } => FetchError::Net(NetError::Address {
                url: without_secrets(&url),
                reason,
            }),
            other => FetchError::Net(other),
        })?;
        if answer.status != 200 {
            return Err(FetchError::Status(answer.status));
        }
        if answer.body.is_empty() {
            return Ok((answer.body, Format::Prometheus));
        }
        let content_type = answer
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let format = Format::of_content_type(content_type, self.fallback)?;
        Ok((answer.body, format))
    }

    async fn headers(&self) -> Result<HeaderMap, FetchError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, plain_value(ACCEPT, &self.accept)?);
        let encoding = if self.has_compression { "gzip" } else { "identity" };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        headers.insert(USER_AGENT, HeaderValue::from_static(SENT_USER_AGENT));
        let timeout = self.timeout.as_secs_f64().to_string();
        let name = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
        headers.insert(name.clone(), plain_value(name, &timeout)?);
        if let Some(value) = self.authorization().await? {
            headers.insert(AUTHORIZATION, value);
        }
        for (name, header) in &self.http.headers {
            let name: HeaderName = name.parse().map_err(|_| FetchError::Header(name.clone()))?;
            for value in &header.values {
                headers.append(name.clone(), plain_value(name.clone(), value)?);
            }
            for secret in &header.secrets {
                headers.append(name.clone(), secret_value(name.clone(), secret.expose())?);
            }
            for file in &header.files {
                let secret = read_secret(file).await?;
                headers.append(name.clone(), secret_value(name.clone(), secret.expose())?);
            }
        }
        Ok(headers)
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, FetchError> {
        let text = if let Some(basic) = &self.http.basic_auth {
            let username = match &basic.username_file {
                Some(file) => read_secret(file).await?.expose().to_owned(),
                None => basic.username.clone(),
            };
            let password = secret_or_file(basic.password.as_ref(), basic.password_file.as_deref()).await?;
            format!(
                "Basic {}",
                BASE64.encode(format!("{username}:{}", password.expose()))
            )
        } else if let Some(other) = &self.http.authorization {
            let credentials =
                secret_or_file(other.credentials.as_ref(), other.credentials_file.as_deref()).await?;
            format!("{} {}", other.scheme.trim(), credentials.expose())
        } else {
            return Ok(None);
        };
        secret_value(AUTHORIZATION, &text).map(Some)
    }
}

async fn secret_or_file(secret: Option<&Secret>, file: Option<&Path>) -> Result<Secret, FetchError> {
    match (secret, file) {
        (Some(secret), _) => Ok(secret.clone()),
        (None, Some(file)) => read_secret(file).await,
        (None, None) => Ok(Secret::default()),
    }
}

async fn read_secret(path: &Path) -> Result<Secret, FetchError> {
    let failed = |reason: String| FetchError::SecretFile {
        path: path.display().to_string(),
        reason,
    };
    let size = tokio::fs::metadata(path)
        .await
        .map_err(|error| failed(error.to_string()))?
        .len();
    if size > SECRET_BYTES_MAX {
        return Err(failed(format!(
            "{size} bytes, more than the limit of {SECRET_BYTES_MAX}"
        )));
    }
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| failed(error.to_string()))?;
    Ok(Secret::new(text.trim()))
}

fn plain_value(name: HeaderName, text: &str) -> Result<HeaderValue, FetchError> {
    HeaderValue::from_str(text).map_err(|_| FetchError::Header(name.to_string()))
}

fn secret_value(name: HeaderName, text: &str) -> Result<HeaderValue, FetchError> {
    let mut value = plain_value(name, text)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ScrapeFile, parse_yaml};
    use crate::discovery::TargetGroup;
    use crate::target::{Populated, populate};
    use marketprism_net::{Egress, HttpClient};

    /// An address that cannot be used was named whole, with the token in its parameters.
    #[tokio::test]
    async fn an_address_that_cannot_be_used_is_named_without_its_secrets() {
        let yaml = "scrape_configs: [{job_name: a, params: {token: [hunter2]}}]";
        let file: ScrapeFile = parse_yaml(yaml).expect(yaml);
        let pool = file.validate().expect(yaml).remove(0);
        let group = TargetGroup::default();
        let Ok(Populated::Active(target)) = populate(&pool, "127.0.0.1:99999", &group) else {
            panic!("a target");
        };
        let asking = Asking::new(&pool, &target);
        let answer = asking.fetch(&HttpClient::new(Egress::default())).await;
        let error = answer.expect_err("there is no such port").to_string();
        assert!(error.contains(":99999/metrics?token=***"), "{error}");
    }
}
