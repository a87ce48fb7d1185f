//! `receivers` and `global` as Alertmanager writes them, and what they become here.
//!
//! A receiver is a name and ways to reach it: Alertmanager's integrations, and the guide's channels by their names.
//! Each integration that this version can deliver becomes a channel called `receiver/webhook[0]`; the others are named,
//! so that whoever starts the program knows whom nobody reaches, and what is meant for them goes to the fallback
//! receiver.
//! Deliberately absent: which alerts a receiver hears of; that belongs to `alerts`.

mod foreign;
mod given;
pub mod http;
mod integrations;
mod prepare;
#[cfg(test)]
mod tests;

use std::time::Duration;

use marketprism_model::Secret;
use serde::{Deserialize, Serialize};

pub use integrations::{EmailIntegration, SlackIntegration, WebhookIntegration};
pub use prepare::PreparedReceiver;
pub(crate) use prepare::prepare;

use crate::language::Language;
use given::Given;
use http::{HttpConfig, TlsConfig};

/// One entry of `receivers`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiverConfig {
    /// The name that routes use.
    pub name: String,
    /// Channels of `notification_manager.channels`, by their names. Ours.
    pub channels: Vec<String>,
    /// The language of its integrations' messages; `zh-CN` by default. Ours.
    pub language: Language,
    /// The zone of their times; `Asia/Shanghai` by default. Ours.
    pub time_zone: Option<String>,
    /// HTTP receivers of Alertmanager's payload.
    pub webhook_configs: Vec<WebhookIntegration>,
    /// Mail.
    pub email_configs: Vec<EmailIntegration>,
    /// Slack.
    pub slack_configs: Vec<SlackIntegration>,
    labels: Given,
    discord_configs: Vec<foreign::Discord>,
    incidentio_configs: Vec<foreign::Incidentio>,
    jira_configs: Vec<foreign::Jira>,
    mattermost_configs: Vec<foreign::Mattermost>,
    msteams_configs: Vec<foreign::MsTeams>,
    msteamsv2_configs: Vec<foreign::MsTeamsV2>,
    opsgenie_configs: Vec<foreign::OpsGenie>,
    pagerduty_configs: Vec<foreign::PagerDuty>,
    pushover_configs: Vec<foreign::Pushover>,
    rocketchat_configs: Vec<foreign::RocketChat>,
    sns_configs: Vec<foreign::Sns>,
    telegram_configs: Vec<foreign::Telegram>,
    victorops_configs: Vec<foreign::VictorOps>,
    webex_configs: Vec<foreign::Webex>,
    wechat_configs: Vec<foreign::WeChat>,
}

/// The section `global`: what integrations have that name nothing of their own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Global {
    /// An alert of another program that gives no end is over after this long without news.
    #[serde(with = "marketprism_model::duration")]
    pub resolve_timeout: Duration,
    /// How requests get in.
    pub http_config: Option<HttpConfig>,
    /// The sender of mails.
    pub smtp_from: String,
    /// The name by which we introduce ourselves to mail servers.
    pub smtp_hello: String,
    /// The mail server, `host:port`.
    pub smtp_smarthost: String,
    /// The user.
    pub smtp_auth_username: String,
    /// The password; or `smtp_auth_password_file`.
    pub smtp_auth_password: Secret,
    smtp_auth_password_file: Given,
    smtp_auth_secret: Secret,
    smtp_auth_secret_file: Given,
    smtp_auth_identity: Given,
    /// Whether no mail goes without TLS.
    pub smtp_require_tls: bool,
    /// Whom to trust.
    pub smtp_tls_config: Option<TlsConfig>,
    /// Whether TLS begins with the first byte.
    pub smtp_force_implicit_tls: Option<bool>,
    /// Slack's webhook; or `slack_api_url_file`.
    pub slack_api_url: Secret,
    slack_api_url_file: Given,
    /// A bot's token; or `slack_app_token_file`.
    pub slack_app_token: Secret,
    slack_app_token_file: Given,
    /// Where a bot posts.
    pub slack_app_url: String,
    jira_api_url: Given,
    pagerduty_url: Given,
    opsgenie_api_url: Given,
    opsgenie_api_key: Given,
    opsgenie_api_key_file: Given,
    wechat_api_url: Given,
    wechat_api_secret: Given,
    wechat_api_secret_file: Given,
    wechat_api_corp_id: Given,
    victorops_api_url: Given,
    victorops_api_key: Given,
    victorops_api_key_file: Given,
    telegram_api_url: Given,
    telegram_bot_token: Given,
    telegram_bot_token_file: Given,
    webex_api_url: Given,
    rocketchat_api_url: Given,
    rocketchat_token: Given,
    rocketchat_token_file: Given,
    rocketchat_token_id: Given,
    rocketchat_token_id_file: Given,
    mattermost_webhook_url: Given,
    mattermost_webhook_url_file: Given,
}

impl Default for Global {
    fn default() -> Self {
        Global {
            resolve_timeout: Duration::from_secs(300),
            http_config: None,
            smtp_from: String::new(),
            smtp_hello: String::new(),
            smtp_smarthost: String::new(),
            smtp_auth_username: String::new(),
            smtp_auth_password: Secret::default(),
            smtp_auth_password_file: Given::default(),
            smtp_auth_secret: Secret::default(),
            smtp_auth_secret_file: Given::default(),
            smtp_auth_identity: Given::default(),
            smtp_require_tls: true,
            smtp_tls_config: None,
            smtp_force_implicit_tls: None,
            slack_api_url: Secret::default(),
            slack_api_url_file: Given::default(),
            slack_app_token: Secret::default(),
            slack_app_token_file: Given::default(),
            slack_app_url: "https://slack.com/api/chat.postMessage".to_owned(),
            jira_api_url: Given::default(),
            pagerduty_url: Given::default(),
            opsgenie_api_url: Given::default(),
            opsgenie_api_key: Given::default(),
            opsgenie_api_key_file: Given::default(),
            wechat_api_url: Given::default(),
            wechat_api_secret: Given::default(),
            wechat_api_secret_file: Given::default(),
            wechat_api_corp_id: Given::default(),
            victorops_api_url: Given::default(),
            victorops_api_key: Given::default(),
            victorops_api_key_file: Given::default(),
            telegram_api_url: Given::default(),
            telegram_bot_token: Given::default(),
            telegram_bot_token_file: Given::default(),
            webex_api_url: Given::default(),
            rocketchat_api_url: Given::default(),
            rocketchat_token: Given::default(),
            rocketchat_token_file: Given::default(),
            rocketchat_token_id: Given::default(),
            rocketchat_token_id_file: Given::default(),
            mattermost_webhook_url: Given::default(),
            mattermost_webhook_url_file: Given::default(),
        }
    }
}

/// Secrets of `global` that may stand in the text or in a file, not in both.
const EITHER: [&str; 11] = [
    "smtp_auth_password",
    "smtp_auth_secret",
    "slack_api_url",
    "slack_app_token",
    "opsgenie_api_key",
    "wechat_api_secret",
    "victorops_api_key",
    "telegram_bot_token",
    "rocketchat_token",
    "rocketchat_token_id",
    "mattermost_webhook_url",
];

impl Global {
    /// Says whether a key has a value.
    fn has(&self, key: &str) -> bool {
        match key {
            "smtp_auth_password" => !self.smtp_auth_password.is_empty(),
            "smtp_auth_password_file" => self.smtp_auth_password_file.0,
            "smtp_auth_secret" => !self.smtp_auth_secret.is_empty(),
            "smtp_auth_secret_file" => self.smtp_auth_secret_file.0,
            "slack_api_url" => !self.slack_api_url.is_empty(),
            "slack_api_url_file" => self.slack_api_url_file.0,
            "slack_app_token" => !self.slack_app_token.is_empty(),
            "slack_app_token_file" => self.slack_app_token_file.0,
            "jira_api_url" => self.jira_api_url.0,
            "opsgenie_api_key" => self.opsgenie_api_key.0,
            "opsgenie_api_key_file" => self.opsgenie_api_key_file.0,
            "wechat_api_secret" => self.wechat_api_secret.0,
            "wechat_api_secret_file" => self.wechat_api_secret_file.0,
            "wechat_api_corp_id" => self.wechat_api_corp_id.0,
            "victorops_api_key" => self.victorops_api_key.0,
            "victorops_api_key_file" => self.victorops_api_key_file.0,
            "telegram_bot_token" => self.telegram_bot_token.0,
            "telegram_bot_token_file" => self.telegram_bot_token_file.0,
            "rocketchat_token" => self.rocketchat_token.0,
            "rocketchat_token_file" => self.rocketchat_token_file.0,
            "rocketchat_token_id" => self.rocketchat_token_id.0,
            "rocketchat_token_id_file" => self.rocketchat_token_id_file.0,
            "mattermost_webhook_url" => self.mattermost_webhook_url.0,
            "mattermost_webhook_url_file" => self.mattermost_webhook_url_file.0,
            _ => false,
        }
    }
}
