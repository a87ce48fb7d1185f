//! Any HTTP receiver, in the form that Alertmanager made common.
//!
//! The body is Alertmanager's payload of version 4, field by field. Besides, each request names itself by
//! `Idempotency-Key`, the same on every attempt, and with a secret it is signed: `X-MarketPrism-Signature-256`
//! is `sha256=` and the hexadecimal HMAC-SHA256 of the body. `X-MarketPrism-Purpose` marks digests of storms, escalations
//! and what could not be delivered elsewhere.
//!
//! Source: prometheus.io, Alertmanager configuration, `webhook_config`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use marketprism_model::{
    AlertState, BoxFuture, Labels, Notification, NotifiedAlert, Purpose, Secret, Timestamp,
};
use marketprism_net::{Request, TlsPolicy, Transport};
use ring::hmac;
use serde::Serialize;

use crate::channel::{Attempt, Channel, Delivery};
use crate::compose::{Audience, Message};
use crate::http_answer;
use crate::links::Links;
use crate::redact::Redactor;

/// The header that carries the notification's id.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that carries the signature.
pub const SIGNATURE: &str = "x-marketprism-signature-256";
/// The header that says why a message comes, when it does not simply tell how a group stands: `storm`, `escalation`
/// or `fallback`. The body has no place for it.
pub const PURPOSE: &str = "x-marketprism-purpose";
/// What Go writes for "no time".
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A receiver of webhooks.
pub(crate) struct Webhook {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) audience: Audience,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) key: Option<hmac::Key>,
    /// At most this many alerts in one payload; 0 for all.
    pub(crate) alerts_max: usize,
    pub(crate) tls: TlsPolicy,
    pub(crate) timeout: Duration,
    pub(crate) redactor: Redactor,
}

impl Channel for Webhook {
    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
        _: &'a Message,
        attempt: Attempt,
    ) -> BoxFuture<'a, Delivery> {
        Box::pin(async move {
            let request = self.request(notification, attempt);
            let delivery = match self.transport.send(request).await {
                Ok(response) => http_answer::by_status(&response, attempt.now),
                Err(error) => http_answer::without_answer(&error),
            };
            delivery.recorded(&self.redactor)
        })
    }

    fn audience(&self) -> &Audience {
        &self.audience
    }
}

impl Webhook {
    fn request(&self, notification: &Notification, attempt: Attempt) -> Request {
        let payload = Payload::new(notification, &self.audience.links, self.alerts_max);
        let body = serde_json::to_vec(&payload).expect("maps of strings are JSON");
        let mut request = Request::new(Method::POST, &self.url);
        request.timeout = self.timeout;
        request.tls = self.tls.clone();
        request.headers = self.headers.clone();
        let json = HeaderValue::from_static("application/json");
        request.headers.insert(CONTENT_TYPE, json);
        attempt.trace.mark(&mut request.headers);
        let id = HeaderValue::from_str(&notification.id.to_string()).expect("an id is ASCII");
        request
            .headers
            .insert(HeaderName::from_static(IDEMPOTENCY_KEY), id);
        if let Some(purpose) = purpose(&notification.content.purpose) {
            let value = HeaderValue::from_static(purpose);
            request.headers.insert(HeaderName::from_static(PURPOSE), value);
        }
        if let Some(key) = &self.key {
            let value = HeaderValue::from_str(&signature(key, &body)).expect("hexadecimal is ASCII");
            request.headers.insert(HeaderName::from_static(SIGNATURE), value);
        }
        request.body = body.into();
        request
    }
}

/// Makes the headers of a configuration; gives the name of the one that cannot be sent.
pub(crate) fn headers(
    configured: &BTreeMap<String, Secret>,
    bearer_token: &Secret,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in configured {
        let parsed = HeaderName::try_from(name).ok().zip(secret_value(value.expose()));
        let (parsed, value) = parsed.ok_or_else(|| name.clone())?;
        headers.insert(parsed, value);
    }
    if !bearer_token.is_empty() {
        let value = secret_value(&format!("Bearer {}", bearer_token.expose()));
        headers.insert(
            AUTHORIZATION,
            value.ok_or_else(|| AUTHORIZATION.as_str().to_owned())?,
        );
    }
    Ok(headers)
}

fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

const fn purpose(purpose: &Purpose) -> Option<&'static str> {
    match purpose {
        Purpose::Group => None,
        Purpose::Storm => Some("storm"),
        Purpose::Escalation { .. } => Some("escalation"),
        Purpose::Fallback { .. } => Some("fallback"),
    }
}

fn signature(key: &hmac::Key, body: &[u8]) -> String {
    let tag = hmac::sign(key, body);
    let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

/// Alertmanager's payload, version 4.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    receiver: &'a str,
    status: &'static str,
    alerts: Vec<PayloadAlert<'a>>,
    group_labels: &'a Labels,
    common_labels: Cow<'a, Labels>,
    common_annotations: Cow<'a, Labels>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadAlert<'a> {
    status: &'static str,
    labels: &'a Labels,
    annotations: &'a Labels,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: Cow<'a, str>,
    fingerprint: &'a str,
}

impl<'a> Payload<'a> {
    fn new(notification: &'a Notification, links: &'a Links, alerts_max: usize) -> Self {
        let content = &notification.content;
        let kept = match alerts_max {
            0 => content.alerts.len(),
            most => content.alerts.len().min(most),
        };
        let (kept, left_out) = content.alerts.split_at(kept);
        // What is common is common to what is told.
        let common = |all: &'a Labels, of: fn(&NotifiedAlert) -> &Labels| match left_out {
            [] => Cow::Borrowed(all),
            _ => Cow::Owned(common(kept.iter().map(of))),
        };
        Payload {
            receiver: &notification.receiver,
            status: status(content.state),
            alerts: kept.iter().map(|alert| PayloadAlert::new(alert, links)).collect(),
            group_labels: &content.group_labels,
            common_labels: common(&content.common_labels, |alert| &alert.labels),
            common_annotations: common(&content.common_annotations, |alert| &alert.annotations),
            external_url: links.external_url(),
            version: "4",
            group_key: &notification.group_key,
            truncated_alerts: content
                .truncated_alerts
                .saturating_add(u32::try_from(left_out.len()).unwrap_or(u32::MAX)),
        }
    }
}

impl<'a> PayloadAlert<'a> {
    fn new(alert: &'a NotifiedAlert, links: &Links) -> Self {
        let ended = alert.ends_at.filter(|_| alert.state == AlertState::Resolved);
        PayloadAlert {
            status: status(alert.state),
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: go_time(alert.starts_at),
            ends_at: ended.map_or_else(|| NO_TIME.to_owned(), go_time),
            generator_url: match &alert.generator_url {
                Some(theirs) => Cow::Borrowed(theirs.as_str()),
                // Its sender gave neither a link nor an expression.
                None if alert.expr.is_empty() => Cow::Borrowed(""),
                None => Cow::Owned(links.graph(&alert.expr)),
            },
            fingerprint: &alert.fingerprint,
        }
    }
}

/// Gives what all have.
fn common<'a>(mut all: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = all.next() else {
        return Labels::empty();
    };
    let rest: Vec<&Labels> = all.collect();
    let shared = first
        .iter()
        .filter(|(name, value)| rest.iter().all(|other| other.get(name) == Some(*value)));
    Labels::from_pairs(shared)
}

fn status(state: AlertState) -> &'static str {
    match state {
        AlertState::Resolved => "resolved",
        AlertState::Pending | AlertState::Firing => "firing",
    }
}

/// Writes a moment as Go does: fractions of a second only as far as there are any.
fn go_time(at: Timestamp) -> String {
    let text = at.to_string();
    let whole = text
        .trim_end_matches('Z')
        .trim_end_matches('0')
        .trim_end_matches('.');
    format!("{whole}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_go_writes_them() {
        let check = |millis, text: &str| assert_eq!(go_time(Timestamp::from_millis(millis)), text);
        check(1_709_210_096_789, "2024-02-29T12:34:56.789Z");
        check(1_709_210_096_700, "2024-02-29T12:34:56.7Z");
        check(1_709_210_096_000, "2024-02-29T12:34:56Z");
        check(1_709_210_100_000, "2024-02-29T12:35:00Z");
        check(951_782_400_000, "2000-02-29T00:00:00Z");
    }

    #[test]
    fn the_signature_is_hmac_sha256_of_the_body() {
        // RFC 4231, test case 2.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        assert_eq!(
            signature(&key, b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
