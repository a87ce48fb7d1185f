//! The integrations that a channel of this room delivers, in Alertmanager's words.
//!
//! Texts that Alertmanager renders by templates are read and kept for the day when templates are rendered here; until
//! then the message is the one that every channel sends, and a remark names what has no effect.

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_model::Secret;
use serde::{Deserialize, Serialize};

use super::given::{Given, fields};
use super::http::{HttpConfig, TlsConfig};
use crate::config::seconds;

/// One entry of `webhook_configs`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookIntegration {
    /// Whether the end of alerts is told.
    pub send_resolved: bool,
    /// Where the payload goes; or `url_file`.
    pub url: Secret,
    pub(super) url_file: Given,
    /// How to get in there.
    pub http_config: Option<HttpConfig>,
    /// At most this many alerts in one payload; 0 for all.
    pub max_alerts: u32,
    /// The exchange must end within this time; 0 for the default.
    #[serde(with = "seconds")]
    pub timeout: Duration,
    payload: Given,
}

impl Default for WebhookIntegration {
    fn default() -> Self {
        WebhookIntegration {
            send_resolved: true,
            url: Secret::default(),
            url_file: Given::default(),
            http_config: None,
            max_alerts: 0,
            timeout: Duration::ZERO,
            payload: Given::default(),
        }
    }
}

impl WebhookIntegration {
    pub(super) fn without_effect(&self) -> Vec<String> {
        let own = fields!(self: payload).map(str::to_owned);
        own.chain(http_without_effect(self.http_config.as_ref()))
            .collect()
    }
}

/// One entry of `email_configs`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmailIntegration {
    /// Whether the end of alerts is told; Alertmanager's default is no.
    pub send_resolved: bool,
    /// The recipients, commas between them.
    pub to: String,
    /// The sender; `global.smtp_from` by default.
    pub from: String,
    /// The name by which we introduce ourselves; `global.smtp_hello` by default.
    pub hello: String,
    /// The server, `host:port`; `global.smtp_smarthost` by default.
    pub smarthost: String,
    /// The user; `global.smtp_auth_username` by default.
    pub auth_username: String,
    /// The password, or `auth_password_file`; `global.smtp_auth_password` by default.
    pub auth_password: Secret,
    pub(super) auth_password_file: Given,
    pub(super) auth_secret: Secret,
    pub(super) auth_secret_file: Given,
    auth_identity: Given,
    /// Further headers of the mail.
    pub headers: BTreeMap<String, String>,
    html: Given,
    text: Given,
    /// Whether no mail goes without TLS; `global.smtp_require_tls` by default.
    pub require_tls: Option<bool>,
    /// Whether TLS begins with the first byte; by default on port 465.
    pub force_implicit_tls: Option<bool>,
    /// Whom to trust; `global.smtp_tls_config` by default.
    pub tls_config: Option<TlsConfig>,
    threading: Threading,
}

/// Threads are what our mails have anyway.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Threading {
    enabled: Given,
    thread_by_date: Given,
}

impl EmailIntegration {
    pub(super) fn without_effect(&self) -> Vec<String> {
        let own = fields!(self: html, text, auth_identity).map(str::to_owned);
        let threading = &self.threading;
        let threads = fields!(threading: thread_by_date).map(|key| format!("threading.{key}"));
        let tls = self.tls_config.iter().flat_map(TlsConfig::without_effect);
        own.chain(threads)
            .chain(tls.map(|key| format!("tls_config.{key}")))
            .collect()
    }
}

/// One entry of `slack_configs`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlackIntegration {
    /// Whether the end of alerts is told; Alertmanager's default is no.
    pub send_resolved: bool,
    /// How to get in there.
    pub http_config: Option<HttpConfig>,
    /// The webhook's URL, or `api_url_file`; `global.slack_api_url` by default.
    pub api_url: Secret,
    pub(super) api_url_file: Given,
    /// A bot's token, or `app_token_file`; `global.slack_app_token` by default.
    pub app_token: Secret,
    pub(super) app_token_file: Given,
    /// Where a bot posts; `global.slack_app_url` by default.
    pub app_url: String,
    /// The channel to post to.
    pub channel: String,
    /// The exchange must end within this time; 0 for the default.
    #[serde(with = "seconds")]
    pub timeout: Duration,
    pub(super) update_message: bool,
    username: Given,
    color: Given,
    title: Given,
    title_link: Given,
    pretext: Given,
    text: Given,
    message_text: Given,
    fields: Given,
    short_fields: Given,
    footer: Given,
    fallback: Given,
    callback_id: Given,
    icon_emoji: Given,
    icon_url: Given,
    image_url: Given,
    thumb_url: Given,
    link_names: Given,
    mrkdwn_in: Given,
    actions: Given,
}

impl SlackIntegration {
    pub(super) fn without_effect(&self) -> Vec<String> {
        let own = fields!(
            self: username, color, title, title_link, pretext, text, message_text, fields, short_fields, footer,
            fallback, callback_id, icon_emoji, icon_url, image_url, thumb_url, link_names, mrkdwn_in, actions
        );
        let update = Some("update_message").filter(|_| self.update_message);
        let own = own.chain(update).map(str::to_owned);
        own.chain(http_without_effect(self.http_config.as_ref()))
            .collect()
    }
}

fn http_without_effect(http: Option<&HttpConfig>) -> impl Iterator<Item = String> {
    let keys = http.map(HttpConfig::without_effect).unwrap_or_default();
    keys.into_iter().map(|key| format!("http_config.{key}"))
}
