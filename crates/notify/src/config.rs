//! `notification_manager`: which channels there are, and how each is reached.
//!
//! Reading is separate from filling in: a section says what stands in the file; [`Config::prepare`] adds what
//! the environment gives, checks everything and reports all faults at once.
//! Deliberately absent: who hears of what; routes and receivers belong to `alerts`.

mod prepare;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use marketprism_model::duration;
use marketprism_net::TlsPolicy;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use prepare::is_http_url;
pub use prepare::{ConfigError, Prepared};

use crate::language::Language;
use crate::receivers::{Global, ReceiverConfig};
use marketprism_model::Secret;

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
    /// Who can hear of alerts, in Alertmanager's words; without any all channels belong to one receiver.
    pub receivers: Vec<ReceiverConfig>,
    /// What Alertmanager's integrations have that name nothing of their own.
    pub global: Global,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            enabled: true,
            channels: Channels::default(),
            max_workers: 10,
            receivers: Vec::new(),
            global: Global::default(),
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
        /// Further headers, of Alertmanager's receivers.
        #[serde(skip)]
        headers: BTreeMap<String, String> = BTreeMap::new(),
        /// Whom to trust, of Alertmanager's receivers; beats the keys above.
        #[serde(skip)]
        policy: Option<TlsPolicy> = None,
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
        /// Headers of requests, of Alertmanager's receivers.
        #[serde(skip)]
        headers: BTreeMap<String, Secret> = BTreeMap::new(),
        /// Whom to trust, of Alertmanager's receivers.
        #[serde(skip)]
        policy: Option<TlsPolicy> = None,
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
        /// At most this many alerts in one payload, the number of the others beside them; 0 for all.
        max_alerts: u32 = 0,
        /// Whom to trust, of Alertmanager's receivers; beats the keys below.
        #[serde(skip)]
        policy: Option<TlsPolicy> = None,
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
pub(crate) mod seconds {
    use super::*;

    pub(crate) fn serialize<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        duration::serialize(span, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
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

    /// Sets language and zone of its messages.
    pub(crate) fn speak(&mut self, spoken: Language, zone: Option<&str>) {
        let (language, time_zone) = match self {
            ChannelConfig::Email(c) => (&mut c.language, &mut c.time_zone),
            ChannelConfig::Slack(c) => (&mut c.language, &mut c.time_zone),
            ChannelConfig::DingTalk(c) => (&mut c.language, &mut c.time_zone),
            ChannelConfig::Webhook(c) => (&mut c.language, &mut c.time_zone),
        };
        *language = spoken;
        if let Some(zone) = zone {
            zone.clone_into(time_zone);
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

impl WebhookConfig {
    pub(crate) fn tls(&self) -> TlsPolicy {
        if let Some(policy) = &self.policy {
            return policy.clone();
        }
        TlsPolicy {
            pinned_file: None,
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
