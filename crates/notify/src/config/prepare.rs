//! Fills a configuration in from the environment, and checks it.

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_model::duration;

use super::{ChannelConfig, Config, DingTalkConfig, EmailConfig, MailSecurity, WebhookConfig};
use crate::receivers::{self, PreparedReceiver};
use marketprism_model::Secret;

/// Longer timeouts would hold a worker for too long.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
const WORKERS_MAX: usize = 256;
const RECIPIENTS_MAX: usize = 100;
/// Where public DingTalk takes messages.
const DINGTALK_URL: &str = "https://oapi.dingtalk.com/robot/send";

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
    /// Whether anything is delivered; what waits keeps waiting while it is not.
    pub is_enabled: bool,
    /// The channels that are in use, complete, by name.
    pub channels: BTreeMap<String, ChannelConfig>,
    /// Who can hear of alerts; empty when the file names no receivers.
    pub receivers: Vec<PreparedReceiver>,
    /// What an administrator should know; log each once.
    pub warnings: Vec<String>,
    /// The same about receivers, by the path of the key within the section.
    pub remarks: Vec<(String, String)>,
    /// How many deliveries are under way at the same time.
    pub max_workers: usize,
}

impl Prepared {
    /// Names the channels in use, each with whether the end of alerts is told to it.
    pub fn channel_names(&self) -> impl Iterator<Item = (&str, bool)> {
        self.channels
            .iter()
            .map(|(name, channel)| (name.as_str(), channel.is_resolved_sent()))
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
        let (mut receivers, remarks) = self.prepare_receivers(&mut channels, &mut check);
        if !check.errors.is_empty() {
            return Err(check.errors);
        }
        if !self.enabled {
            channels.clear();
            for receiver in &mut receivers {
                receiver.channels.clear();
            }
        }
        Ok(Prepared {
            is_enabled: self.enabled,
            channels,
            receivers,
            warnings: check.warnings,
            remarks,
            max_workers: self.max_workers,
        })
    }

    /// Makes receivers, and joins the channels that their integrations have become.
    fn prepare_receivers(
        &self,
        channels: &mut BTreeMap<String, ChannelConfig>,
        check: &mut Check<'_>,
    ) -> (Vec<PreparedReceiver>, Vec<(String, String)>) {
        let made = receivers::prepare(&self.receivers, &self.global, &self.channels, channels);
        for (field, reason) in made.faults {
            check.fault(field, reason);
        }
        for (name, integrated) in made.channels {
            if self.channels.0.contains_key(&name) {
                let reason = format!("a receiver's integration is called {name:?} already; use another name");
                check.fault(format!("channels.{name}"), reason);
            }
            // What is wrong with it as a channel is told at its own keys; it has no other names for them.
            if let Some(channel) = self.prepare_channel_at(&integrated.field, &integrated.channel, check) {
                channels.insert(name, channel);
            }
        }
        (made.receivers, made.remarks)
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
        let (_, stated, kind, _, _) = channel.common();
        if stated.is_some_and(|stated| stated != kind) {
            check.fault(
                format!("{field}.type"),
                format!("the name {name:?} means {kind:?}; use another name"),
            );
        }
        self.prepare_channel_at(&field, channel, check)
    }

    fn prepare_channel_at(
        &self,
        field: &str,
        channel: &ChannelConfig,
        check: &mut Check<'_>,
    ) -> Option<ChannelConfig> {
        let (is_enabled, _, _, time_zone, timeout) = channel.common();
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
            ChannelConfig::Email(email) => prepare_email(email, field, check).map(ChannelConfig::Email),
            ChannelConfig::Slack(slack) => {
                if let Err(name) = crate::webhook::headers(&slack.headers, &Secret::default()) {
                    let reason = format!("{name:?} is no header that can be sent");
                    check.fault(format!("{field}.http_config"), reason);
                }
                is_reachable(&slack.webhook_url, field, "webhook_url", check).then(|| channel.clone())
            }
            ChannelConfig::DingTalk(robot) => {
                prepare_dingtalk(robot, field, check).map(ChannelConfig::DingTalk)
            }
            ChannelConfig::Webhook(webhook) => prepare_webhook(webhook, field, check),
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
        let hint = match field {
            "channels.slack" => "; is SLACK_WEBHOOK_URL set?",
            "channels.dingtalk" => "; is DINGTALK_WEBHOOK_URL set?",
            _ => "",
        };
        check.warnings.push(format!(
            "notification_manager.{field} is off: {key} is empty{hint}"
        ));
        return false;
    }
    let is_http = is_http_url(url.expose());
    if !is_http {
        check.fault(
            format!("{field}.{key}"),
            "is no http or https URL (it is secret and not shown)",
        );
    }
    is_http
}

/// Says whether a text is an absolute `http` or `https` URL.
pub(crate) fn is_http_url(url: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        uri.host().is_some_and(|host| !host.is_empty()) && matches!(uri.scheme_str(), Some("http" | "https"))
    })
}
