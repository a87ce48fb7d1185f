//! `notification_manager`: which channels there are, and how each is reached.
//!
//! Reading is separate from filling in: a section says what stands in the file; [`Config::prepare`] adds what
//! the environment gives, checks everything and reports all faults at once.
//! Deliberately absent: who hears of what; routes and receivers belong to `alerts`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use marketprism_model::duration;
use marketprism_net::TlsPolicy;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::language::Language;
use crate::secret::Secret;

/// The section `notification_manager`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether anything is delivered; what waits keeps waiting while it is not.
    pub enabled: bool,
    /// The channels by name. The names `email`, `slack`, `dingtalk` and `webhook` say their kind; others say it by `type`.
    pub channels: Channels,
    /// How many deliveries are under way at the same time, 1 to 256.
    pub max_workers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            enabled: true,
            channels: Channels::default(),
            max_workers: 10,
        }
    }
}

/// The channels as configured, by name.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Channels(pub BTreeMap<String, ChannelConfig>);

/// One channel.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ChannelConfig {
    /// Mail through an SMTP server.
    Email(EmailConfig),
    /// Slack through an incoming webhook.
    Slack(SlackConfig),
    /// DingTalk through a custom robot.
    DingTalk(DingTalkConfig),
    /// Any HTTP receiver of Alertmanager's payload.
    Webhook(WebhookConfig),
}

/// What all kinds of channels have. Written out in each, because a flattened struct could not refuse unknown keys.
macro_rules! channel_config {
    ($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $kind:ty = $default:expr,)* }) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Whether it is used.
            pub enabled: bool,
            /// Whether the end of alerts is told.
            pub send_resolved: bool,
            /// The language of its messages: `zh-CN` or `en`.
            pub language: Language,
            /// The zone of its times, by its IANA name.
            pub time_zone: String,
            /// The kind, where the name does not say it.
            #[serde(rename = "type", skip_serializing)]
            pub kind: Option<String>,
            $($(#[$field_about])* pub $field: $kind,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    enabled: true,
                    send_resolved: true,
                    language: Language::default(),
                    time_zone: "Asia/Shanghai".to_owned(),
                    kind: None,
                    $($field: $default,)*
                }
            }
        }
    };
}

channel_config! {
    /// Mail through an SMTP server.
    EmailConfig {
        /// The server's name or address; required.
        smtp_server: String = String::new(),
        /// The server's port.
        smtp_port: u16 = 587,
        /// How the connection is secured; by default `implicit` on port 465 and `starttls` elsewhere.
        security: Option<MailSecurity> = None,
        /// The user; by default `SMTP_USERNAME` of the environment. An empty text logs in nobody.
        username: Option<String> = None,
        /// The password; by default `SMTP_PASSWORD` of the environment.
        password: Option<Secret> = None,
        /// The sender, `name@host` or `Name <name@host>`; by default the user.
        from: Option<String> = None,
        /// The recipients, one text (commas between them) or a list; by default the user.
        to: Addresses = Addresses::default(),
        /// PEM file of authorities to trust instead of the system's.
        ca_file: Option<PathBuf> = None,
        /// Accepts any certificate.
        insecure_skip_verify: bool = false,
        /// The name by which we introduce ourselves to the server.
        hello: Option<String> = None,
        /// The whole dialogue must end within this time; seconds, or a duration such as `1m`.
        #[serde(with = "seconds")]
        timeout: Duration = crate::email::TIMEOUT,
    }
}

channel_config! {
    /// Slack through an incoming webhook.
    SlackConfig {
        /// The webhook's URL; an empty one turns the channel off.
        webhook_url: Secret = Secret::default(),
        /// The channel to post to, where the webhook allows the choice: `#alerts`.
        channel: Option<String> = None,
        /// The exchange must end within this time; seconds, or a duration.
        #[serde(with = "seconds")]
        timeout: Duration = HTTP_TIMEOUT,
    }
}

channel_config! {
    /// DingTalk through a custom robot. Either the URL or the token; an empty one turns the channel off.
    DingTalkConfig {
        /// The robot's URL, its token included.
        webhook_url: Secret = Secret::default(),
        /// The robot's token, for the public DingTalk.
        access_token: Secret = Secret::default(),
        /// The signing secret, `SEC…`, when the robot asks for signatures.
        secret: Secret = Secret::default(),
        /// Mobile numbers of people to mention.
        at_mobiles: Vec<String> = Vec::new(),
        /// Whether everybody is mentioned.
        is_at_all: bool = false,
        /// The exchange must end within this time; seconds, or a duration.
        #[serde(with = "seconds")]
        timeout: Duration = HTTP_TIMEOUT,
    }
}

channel_config! {
    /// Any HTTP receiver of Alertmanager's payload.
    WebhookConfig {
        /// The URL; an empty one turns the channel off.
        url: Secret = Secret::default(),
        /// The secret that signs each body.
        secret: Secret = Secret::default(),
        /// A token for the `Authorization` header.
        bearer_token: Secret = Secret::default(),
        /// Further headers.
        headers: BTreeMap<String, Secret> = BTreeMap::new(),
        /// PEM file of authorities to trust instead of the system's.
        ca_file: Option<PathBuf> = None,
        /// PEM file of the certificate we show.
        cert_file: Option<PathBuf> = None,
        /// PEM file of its key.
        key_file: Option<PathBuf> = None,
        /// Accepts any certificate.
        insecure_skip_verify: bool = false,
        /// The exchange must end within this time; seconds, or a duration.
        #[serde(with = "seconds")]
        timeout: Duration = HTTP_TIMEOUT,
    }
}

const HTTP_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer timeouts would hold a worker for too long.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
const WORKERS_MAX: usize = 256;
const RECIPIENTS_MAX: usize = 100;
/// Where public DingTalk takes messages.
const DINGTALK_URL: &str = "https://oapi.dingtalk.com/robot/send";

/// How the connection to a mail server is secured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailSecurity {
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS, and no mail without it.
    StartTls,
    /// None: the password goes in the clear.
    None,
}

/// Mail addresses: a list, or one text with commas.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Addresses(pub Vec<String>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            One(String),
            Many(Vec<String>),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Many(many) => Addresses(many),
            Written::One(one) => Addresses(
                one.split(',')
                    .map(str::trim)
                    .filter(|address| !address.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ),
        })
    }
}

impl<'de> Deserialize<'de> for Channels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Channels;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of channel names to channels")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Channels, A::Error> {
                let mut channels = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let channel = match name.as_str() {
                        "email" => ChannelConfig::Email(map.next_value()?),
                        "slack" => ChannelConfig::Slack(map.next_value()?),
                        "dingtalk" => ChannelConfig::DingTalk(map.next_value()?),
                        "webhook" => ChannelConfig::Webhook(map.next_value()?),
                        _ => map.next_value()?,
                    };
                    channels.insert(name, channel);
                }
                Ok(Channels(channels))
            }
            fn visit_unit<E>(self) -> Result<Channels, E> {
                Ok(Channels::default())
            }
        }
        deserializer.deserialize_map(Named)
    }
}

/// Reads seconds as a number, or a duration string.
mod seconds {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        duration::serialize(span, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Seconds(u32),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Seconds(seconds) => Ok(Duration::from_secs(seconds.into())),
            Written::Text(text) => duration::parse(&text).map_err(serde::de::Error::custom),
        }
    }
}

/// One fault of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("notification_manager.{field}: {reason}")]
pub struct ConfigError {
    /// Which key.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A configuration that has been filled in and checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Prepared {
    /// The channels that are in use, complete, by name.
    pub channels: BTreeMap<String, ChannelConfig>,
    /// What an administrator should know; log each once.
    pub warnings: Vec<String>,
    /// How many deliveries are under way at the same time.
    pub max_workers: usize,
}

impl Prepared {
    /// Names the channels in use, each with whether the end of alerts is told to it.
    pub fn receivers(&self) -> impl Iterator<Item = (&str, bool)> {
        self.channels
            .iter()
            .map(|(name, channel)| (name.as_str(), channel.is_resolved_sent()))
    }
}

impl ChannelConfig {
    /// Says whether the end of alerts is told.
    pub fn is_resolved_sent(&self) -> bool {
        match self {
            ChannelConfig::Email(c) => c.send_resolved,
            ChannelConfig::Slack(c) => c.send_resolved,
            ChannelConfig::DingTalk(c) => c.send_resolved,
            ChannelConfig::Webhook(c) => c.send_resolved,
        }
    }

    /// Gives enabled, kind as stated, kind as known, time zone and timeout, which all kinds have.
    fn common(&self) -> (bool, Option<&str>, &'static str, &str, Duration) {
        match self {
            ChannelConfig::Email(c) => (c.enabled, c.kind.as_deref(), "email", &c.time_zone, c.timeout),
            ChannelConfig::Slack(c) => (c.enabled, c.kind.as_deref(), "slack", &c.time_zone, c.timeout),
            ChannelConfig::DingTalk(c) => (c.enabled, c.kind.as_deref(), "dingtalk", &c.time_zone, c.timeout),
            ChannelConfig::Webhook(c) => (c.enabled, c.kind.as_deref(), "webhook", &c.time_zone, c.timeout),
        }
    }
}

/// Collects faults and warnings while channels are filled in.
struct Check<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
}

impl Check<'_> {
    fn fault(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.errors.push(ConfigError {
            field: field.into(),
            reason: reason.into(),
        });
    }
}

impl Config {
    /// Fills in what the environment gives, checks everything, and leaves out what is not in use.
    ///
    /// `environment` gives the value of a variable. All faults are reported together.
    pub fn prepare(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Prepared, Vec<ConfigError>> {
        let mut check = Check {
            environment,
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        if !(1..=WORKERS_MAX).contains(&self.max_workers) {
            check.fault(
                "max_workers",
                format!("{} is not within 1 to {WORKERS_MAX}", self.max_workers),
            );
        }
        let mut channels = BTreeMap::new();
        for (name, channel) in &self.channels.0 {
            if let Some(channel) = self.prepare_channel(name, channel, &mut check) {
                channels.insert(name.clone(), channel);
            }
        }
        if !check.errors.is_empty() {
            return Err(check.errors);
        }
        if !self.enabled {
            channels.clear();
        }
        Ok(Prepared {
            channels,
            warnings: check.warnings,
            max_workers: self.max_workers,
        })
    }

    /// Checks everything; gives what an administrator should know.
    pub fn validate(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<String>, Vec<ConfigError>> {
        self.prepare(environment).map(|prepared| prepared.warnings)
    }

    fn prepare_channel(
        &self,
        name: &str,
        channel: &ChannelConfig,
        check: &mut Check<'_>,
    ) -> Option<ChannelConfig> {
        let field = format!("channels.{name}");
        let (is_enabled, stated, kind, time_zone, timeout) = channel.common();
        if stated.is_some_and(|stated| stated != kind) {
            check.fault(
                format!("{field}.type"),
                format!("the name {name:?} means {kind:?}; use another name"),
            );
        }
        if jiff::tz::TimeZone::get(time_zone).is_err() {
            let reason =
                format!("unknown time zone {time_zone:?}; expected a name such as \"Asia/Shanghai\"");
            check.fault(format!("{field}.time_zone"), reason);
        }
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            let reason = format!(
                "{} is not within 1ms to {}",
                duration::format(timeout),
                duration::format(TIMEOUT_MAX)
            );
            check.fault(format!("{field}.timeout"), reason);
        }
        if !is_enabled || !self.enabled {
            return None;
        }
        match channel {
            ChannelConfig::Email(email) => prepare_email(email, &field, check).map(ChannelConfig::Email),
            ChannelConfig::Slack(slack) => {
                is_reachable(&slack.webhook_url, &field, "webhook_url", check).then(|| channel.clone())
            }
            ChannelConfig::DingTalk(robot) => {
                prepare_dingtalk(robot, &field, check).map(ChannelConfig::DingTalk)
            }
            ChannelConfig::Webhook(webhook) => prepare_webhook(webhook, &field, check),
        }
    }
}

fn prepare_email(email: &EmailConfig, field: &str, check: &mut Check<'_>) -> Option<EmailConfig> {
    let mut email = email.clone();
    let faults_before = check.errors.len();
    if email.smtp_server.is_empty() {
        check.fault(format!("{field}.smtp_server"), "is missing");
    }
    if email.username.is_none() {
        email.username = (check.environment)("SMTP_USERNAME");
    }
    if email.password.is_none() {
        email.password = (check.environment)("SMTP_PASSWORD").map(Secret::new);
    }
    match email.username.as_deref() {
        None => check.fault(
            format!("{field}.username"),
            "is missing; set SMTP_USERNAME, or write \"\" for a server without login",
        ),
        Some("") => {}
        Some(_) if email.password.as_ref().is_none_or(Secret::is_empty) => {
            check.fault(format!("{field}.password"), "is missing; set SMTP_PASSWORD");
        }
        Some(_) => {}
    }
    let user = email.username.clone().unwrap_or_default();
    let from = email.from.get_or_insert_with(|| user.clone()).clone();
    if email.to.0.is_empty() {
        email.to.0.push(user);
    }
    if email.username.is_some() {
        check_address(&from, &format!("{field}.from"), check);
        for to in &email.to.0 {
            check_address(to, &format!("{field}.to"), check);
        }
    }
    if email.to.0.len() > RECIPIENTS_MAX {
        check.fault(
            format!("{field}.to"),
            format!("more than {RECIPIENTS_MAX} recipients"),
        );
    }
    if email.security == Some(MailSecurity::None) && email.username.as_deref().is_some_and(|u| !u.is_empty())
    {
        check
            .warnings
            .push(format!("{field}: the password is sent without encryption"));
    }
    (check.errors.len() == faults_before).then_some(email)
}

fn check_address(address: &str, field: &str, check: &mut Check<'_>) {
    if address.parse::<lettre::message::Mailbox>().is_err() {
        check.fault(
            field,
            format!("{address:?} is no mail address; expected name@host or \"Name <name@host>\""),
        );
    }
}

fn prepare_dingtalk(robot: &DingTalkConfig, field: &str, check: &mut Check<'_>) -> Option<DingTalkConfig> {
    let mut robot = robot.clone();
    if !robot.webhook_url.is_empty() && !robot.access_token.is_empty() {
        check.fault(
            format!("{field}.access_token"),
            "give either webhook_url or access_token",
        );
        return None;
    }
    if !robot.access_token.is_empty() {
        let token: String = form_urlencoded::byte_serialize(robot.access_token.expose().as_bytes()).collect();
        robot.webhook_url = Secret::new(format!("{DINGTALK_URL}?access_token={token}"));
    }
    is_reachable(&robot.webhook_url, field, "webhook_url", check).then_some(robot)
}

fn prepare_webhook(webhook: &WebhookConfig, field: &str, check: &mut Check<'_>) -> Option<ChannelConfig> {
    if let Err(name) = crate::webhook::headers(&webhook.headers, &webhook.bearer_token) {
        check.fault(
            format!("{field}.headers"),
            format!("{name:?} is no header that can be sent"),
        );
    }
    if webhook.cert_file.is_some() != webhook.key_file.is_some() {
        check.fault(format!("{field}.cert_file"), "cert_file and key_file go together");
    }
    is_reachable(&webhook.url, field, "url", check).then(|| ChannelConfig::Webhook(webhook.clone()))
}

/// Says whether the channel has an address; an empty one turns it off with a warning, a malformed one is a fault.
fn is_reachable(url: &Secret, field: &str, key: &str, check: &mut Check<'_>) -> bool {
    if url.is_empty() {
        check
            .warnings
            .push(format!("notification_manager.{field} is off: {key} is empty"));
        return false;
    }
    let is_http = url.expose().parse::<http::Uri>().is_ok_and(|uri| {
        uri.host().is_some_and(|host| !host.is_empty()) && matches!(uri.scheme_str(), Some("http" | "https"))
    });
    if !is_http {
        check.fault(
            format!("{field}.{key}"),
            "is no http or https URL (it is secret and not shown)",
        );
    }
    is_http
}

impl WebhookConfig {
    pub(crate) fn tls(&self) -> TlsPolicy {
        TlsPolicy {
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
            server_name: None,
            is_verification_skipped: self.insecure_skip_verify,
        }
    }
}

#[cfg(test)]
mod tests;
