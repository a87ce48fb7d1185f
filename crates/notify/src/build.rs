//! From a checked configuration to channels that deliver.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use lettre::message::Mailbox;
use marketprism_model::Secret;
use marketprism_net::smtp::{MailTransport, SmtpSecurity, SmtpServer};
use marketprism_net::{TlsPolicy, Transport};
use ring::hmac;

use crate::channel::Channel;
use crate::compose::Audience;
use crate::config::{
    ChannelConfig, DingTalkConfig, EmailConfig, MailSecurity, Prepared, SlackConfig, WebhookConfig,
};
use crate::dingtalk::{self, DingTalk};
use crate::email::{self, Email};
use crate::language::Language;
use crate::links::Links;
use crate::redact::Redactor;
use crate::slack::{self, Slack};
use crate::webhook::{self, Webhook};

/// What channels send through.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) mailer: Arc<dyn MailTransport>,
    pub(crate) links: Links,
}

/// Makes all channels of a configuration.
pub(crate) fn channels(prepared: &Prepared, doors: &Doors) -> BTreeMap<String, Arc<dyn Channel>> {
    let made = prepared.channels.iter().map(|(name, config)| {
        let channel: Arc<dyn Channel> = match config {
            ChannelConfig::Email(config) => Arc::new(doors.email(name, config)),
            ChannelConfig::Slack(config) => Arc::new(doors.slack(config)),
            ChannelConfig::DingTalk(config) => Arc::new(doors.dingtalk(config)),
            ChannelConfig::Webhook(config) => Arc::new(doors.webhook(config)),
        };
        (name.clone(), channel)
    });
    made.collect()
}

impl Doors {
    fn audience(&self, language: Language, time_zone: &str, alerts_max: usize) -> Audience {
        Audience {
            language,
            zone: TimeZone::get(time_zone).expect("checked by Config::prepare"),
            links: self.links.clone(),
            alerts_max,
        }
    }

    fn email(&self, name: &str, config: &EmailConfig) -> Email {
        let mailbox = |text: &str| text.parse::<Mailbox>().expect("checked by Config::prepare");
        let password = config.password.clone().unwrap_or_default();
        let security = match config.security {
            None => SmtpSecurity::usual_on(config.smtp_port),
            Some(MailSecurity::Implicit) => SmtpSecurity::Implicit,
            Some(MailSecurity::StartTls) => SmtpSecurity::StartTls,
            Some(MailSecurity::None) => SmtpSecurity::None,
        };
        Email {
            mailer: Arc::clone(&self.mailer),
            audience: self.audience(config.language, &config.time_zone, email::ALERTS_MAX),
            server: SmtpServer {
                host: config.smtp_server.clone(),
                port: config.smtp_port,
                security,
                username: config.username.clone().filter(|user| !user.is_empty()),
                password: password.expose().to_owned(),
                tls: config.policy.clone().unwrap_or_else(|| TlsPolicy {
                    ca_file: config.ca_file.clone(),
                    is_verification_skipped: config.insecure_skip_verify,
                    ..TlsPolicy::default()
                }),
                hello_name: config.hello.clone(),
                timeout: config.timeout,
            },
            from: mailbox(config.from.as_deref().unwrap_or_default()),
            to: config.to.0.iter().map(|address| mailbox(address)).collect(),
            headers: config.headers.clone(),
            name: name.to_owned(),
            redactor: Redactor::new([password.expose()]),
        }
    }

    fn slack(&self, config: &SlackConfig) -> Slack {
        Slack {
            transport: Arc::clone(&self.transport),
            audience: self.audience(config.language, &config.time_zone, slack::ALERTS_MAX),
            url: config.webhook_url.expose().to_owned(),
            channel: config.channel.clone(),
            headers: webhook::headers(&config.headers, &Secret::default())
                .expect("checked by Config::prepare"),
            tls: config.policy.clone().unwrap_or_default(),
            timeout: config.timeout,
            redactor: Redactor::new(
                [config.webhook_url.expose()]
                    .into_iter()
                    .chain(config.headers.values().map(Secret::expose)),
            ),
        }
    }

    fn dingtalk(&self, config: &DingTalkConfig) -> DingTalk {
        DingTalk {
            transport: Arc::clone(&self.transport),
            audience: self.audience(config.language, &config.time_zone, dingtalk::ALERTS_MAX),
            url: config.webhook_url.expose().to_owned(),
            secret: Some(config.secret.clone()).filter(|secret| !secret.is_empty()),
            at_mobiles: config.at_mobiles.clone(),
            is_at_all: config.is_at_all,
            timeout: config.timeout,
            redactor: Redactor::new([config.webhook_url.expose(), config.secret.expose()]),
        }
    }

    fn webhook(&self, config: &WebhookConfig) -> Webhook {
        let headers = webhook::headers(&config.headers, &config.bearer_token);
        let key = (!config.secret.is_empty())
            .then(|| hmac::Key::new(hmac::HMAC_SHA256, config.secret.expose().as_bytes()));
        let secrets = [&config.url, &config.secret, &config.bearer_token];
        let secrets = secrets.into_iter().chain(config.headers.values());
        Webhook {
            transport: Arc::clone(&self.transport),
            // Nobody reads the message of a webhook; the payload carries all alerts.
            audience: self.audience(config.language, &config.time_zone, 1),
            url: config.url.expose().to_owned(),
            headers: headers.expect("checked by Config::prepare"),
            key,
            alerts_max: config.max_alerts as usize,
            tls: config.tls(),
            timeout: config.timeout,
            redactor: Redactor::new(secrets.map(|secret| secret.expose())),
        }
    }
}
