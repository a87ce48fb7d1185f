//! Turns receivers into channels, and says what cannot be delivered.
//!
//! Three things may be wrong with an integration. A fault is what Alertmanager refuses too, or what cannot be
//! anything but a mistake; the configuration is refused. An obstacle is what this version cannot do (a kind without
//! a channel, a text that is a template where an address must stand); the integration is left out and named. A key
//! without effect is remarked.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use lettre::message::{Mailbox, Mailboxes};
use marketprism_model::{Secret, nearest};

use super::foreign::Foreign;
use super::http::HttpConfig;
use super::{EITHER, EmailIntegration, Global, ReceiverConfig, SlackIntegration, WebhookIntegration};
use crate::config::{
    Addresses, ChannelConfig, Channels, EmailConfig, MailSecurity, SlackConfig, WebhookConfig,
};
use crate::email::RESERVED_HEADERS;

/// A receiver as `alerts` needs to know it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PreparedReceiver {
    /// The name that routes use.
    pub name: String,
    /// The channels in use, each with whether the end of alerts is told.
    pub channels: Vec<(String, bool)>,
    /// Integrations that this version cannot deliver, as `pagerduty_configs[0]`, each with the reason.
    pub undelivered: Vec<(String, String)>,
}

/// What receivers have become.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) receivers: Vec<PreparedReceiver>,
    /// Channels that integrations have become, by name; not yet checked as channels.
    pub(crate) channels: BTreeMap<String, Integrated>,
    /// Faults by key.
    pub(crate) faults: Vec<(String, String)>,
    /// Remarks by key.
    pub(crate) remarks: Vec<(String, String)>,
}

/// A channel that an integration has become.
pub(crate) struct Integrated {
    /// The path of the integration.
    pub(crate) field: String,
    /// The channel.
    pub(crate) channel: ChannelConfig,
}

/// What stands in the way of an integration.
enum Hindrance {
    /// It is refused: key and reason.
    Faults(Vec<(String, String)>),
    /// It cannot be delivered: the reason.
    Obstacle(String),
}

type Outcome = Result<ChannelConfig, Hindrance>;

fn fault(key: &str, reason: impl Into<String>) -> Hindrance {
    Hindrance::Faults(vec![(key.to_owned(), reason.into())])
}

fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// Says of a key that its text is a template, for which it is too early.
fn templated(key: &str) -> Hindrance {
    Hindrance::Obstacle(format!(
        "{key} is a template, which this version does not render there"
    ))
}

/// Makes receivers and channels of a configuration; `used` says which of the guide's channels are in use.
pub(crate) fn prepare(
    receivers: &[ReceiverConfig],
    global: &Global,
    guide: &Channels,
    used: &BTreeMap<String, ChannelConfig>,
) -> Made {
    let mut made = Made::default();
    judge_global(global, &mut made);
    let mut names = HashSet::new();
    for (index, receiver) in receivers.iter().enumerate() {
        if receiver.name.is_empty() {
            let key = format!("receivers[{index}].name");
            made.faults.push((key, "is missing".to_owned()));
            continue;
        }
        let field = format!("receivers.{}", receiver.name);
        if !names.insert(receiver.name.as_str()) {
            let reason = format!("another receiver is called {:?} already", receiver.name);
            made.faults.push((format!("receivers[{index}].name"), reason));
            continue;
        }
        let mut maker = Maker {
            receiver,
            global,
            field,
            prepared: PreparedReceiver {
                name: receiver.name.clone(),
                ..PreparedReceiver::default()
            },
            made: &mut made,
        };
        maker.take_channels(guide, used);
        maker.integrate();
        maker.name_foreign();
        let prepared = maker.prepared;
        made.receivers.push(prepared);
    }
    if !receivers.is_empty() {
        for name in used.keys() {
            let is_named = receivers.iter().any(|receiver| receiver.channels.contains(name));
            if !is_named {
                let remark = "is named by no receiver, so nothing is sent through it".to_owned();
                made.remarks.push((format!("channels.{name}"), remark));
            }
        }
    }
    made
}

fn judge_global(global: &Global, made: &mut Made) {
    for key in EITHER {
        let file = format!("{key}_file");
        if global.has(key) && global.has(&file) {
            let reason = format!("give either {key} or {file}, not both");
            made.faults.push((format!("global.{file}"), reason));
        }
    }
    let is_workaround = global.slack_api_url.expose() == global.slack_app_url;
    let has_token = global.has("slack_app_token") || global.has("slack_app_token_file");
    let has_url = global.has("slack_api_url") || global.has("slack_api_url_file");
    if has_token && has_url && !is_workaround {
        let reason = "give either slack_api_url or slack_app_token, not both";
        made.faults
            .push(("global.slack_app_token".to_owned(), reason.to_owned()));
    }
    if let Some(http) = &global.http_config {
        let faults = http.faults().into_iter();
        made.faults
            .extend(faults.map(|(key, reason)| (format!("global.http_config.{key}"), reason)));
        for key in http.without_effect() {
            made.remarks
                .push((format!("global.http_config.{key}"), NO_EFFECT.to_owned()));
        }
    }
    if global.smtp_auth_identity.0 {
        made.remarks
            .push(("global.smtp_auth_identity".to_owned(), NO_EFFECT.to_owned()));
    }
}

const NO_EFFECT: &str = "has no effect in this version";

/// One receiver on its way.
struct Maker<'a> {
    receiver: &'a ReceiverConfig,
    global: &'a Global,
    field: String,
    prepared: PreparedReceiver,
    made: &'a mut Made,
}

impl Maker<'_> {
    fn take_channels(&mut self, guide: &Channels, used: &BTreeMap<String, ChannelConfig>) {
        for name in &self.receiver.channels {
            let key = format!("{}.channels", self.field);
            if !guide.0.contains_key(name) {
                let near = nearest(name, guide.0.keys().map(String::as_str));
                let hint = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
                let reason = format!("no channel is called {name:?}{hint}");
                self.made.faults.push((key, reason));
            } else if self.prepared.channels.iter().any(|(known, _)| known == name) {
                self.made
                    .faults
                    .push((key, format!("{name:?} stands there twice")));
            } else if let Some(channel) = used.get(name) {
                self.prepared
                    .channels
                    .push((name.clone(), channel.is_resolved_sent()));
            }
        }
        if self.receiver.labels.0 {
            self.remark("labels", NO_EFFECT);
        }
        if let Some(zone) = &self.receiver.time_zone
            && jiff::tz::TimeZone::get(zone).is_err()
        {
            let reason = format!("unknown time zone {zone:?}; expected a name such as \"Asia/Shanghai\"");
            self.made
                .faults
                .push((format!("{}.time_zone", self.field), reason));
        }
    }

    fn integrate(&mut self) {
        let (receiver, global) = (self.receiver, self.global);
        for (index, entry) in receiver.webhook_configs.iter().enumerate() {
            let outcome = webhook(entry, global);
            self.place("webhook", index, outcome, entry.without_effect());
        }
        for (index, entry) in receiver.email_configs.iter().enumerate() {
            let mut without_effect = entry.without_effect();
            without_effect.extend(headers_without_effect(entry));
            self.place("email", index, email(entry, global), without_effect);
        }
        for (index, entry) in receiver.slack_configs.iter().enumerate() {
            let mut without_effect = entry.without_effect();
            if is_template(&entry.channel) && entry.app_token.is_empty() {
                without_effect.push("channel".to_owned());
            }
            self.place("slack", index, slack(entry, global), without_effect);
        }
    }

    /// Puts the channel that an integration has become where it belongs, or says what stood in the way.
    fn place(&mut self, kind: &str, index: usize, outcome: Outcome, without_effect: Vec<String>) {
        let entry = format!("{kind}_configs[{index}]");
        let field = format!("{}.{entry}", self.field);
        match outcome {
            Err(Hindrance::Faults(faults)) => {
                let faults = faults.into_iter();
                self.made
                    .faults
                    .extend(faults.map(|(key, reason)| (format!("{field}.{key}"), reason)));
            }
            Err(Hindrance::Obstacle(reason)) => {
                self.made
                    .remarks
                    .push((field, format!("cannot be delivered: {reason}")));
                self.prepared.undelivered.push((entry, reason));
            }
            Ok(mut channel) => {
                channel.speak(self.receiver.language, self.receiver.time_zone.as_deref());
                if !without_effect.is_empty() {
                    let remark = format!(
                        "{} {}",
                        without_effect.join(", "),
                        plural_no_effect(&without_effect)
                    );
                    self.made.remarks.push((field.clone(), remark));
                }
                let name = format!("{}/{kind}[{index}]", self.receiver.name);
                self.prepared
                    .channels
                    .push((name.clone(), channel.is_resolved_sent()));
                self.made.channels.insert(name, Integrated { field, channel });
            }
        }
    }

    fn remark(&mut self, key: &str, remark: &str) {
        self.made
            .remarks
            .push((format!("{}.{key}", self.field), remark.to_owned()));
    }

    /// Judges the kinds that have no channel, and names them.
    fn name_foreign(&mut self) {
        let receiver = self.receiver;
        self.foreign("discord", &receiver.discord_configs);
        self.foreign("incidentio", &receiver.incidentio_configs);
        self.foreign("jira", &receiver.jira_configs);
        self.foreign("mattermost", &receiver.mattermost_configs);
        self.foreign("msteams", &receiver.msteams_configs);
        self.foreign("msteamsv2", &receiver.msteamsv2_configs);
        self.foreign("opsgenie", &receiver.opsgenie_configs);
        self.foreign("pagerduty", &receiver.pagerduty_configs);
        self.foreign("pushover", &receiver.pushover_configs);
        self.foreign("rocketchat", &receiver.rocketchat_configs);
        self.foreign("sns", &receiver.sns_configs);
        self.foreign("telegram", &receiver.telegram_configs);
        self.foreign("victorops", &receiver.victorops_configs);
        self.foreign("webex", &receiver.webex_configs);
        self.foreign("wechat", &receiver.wechat_configs);
    }

    fn foreign<F: Foreign>(&mut self, kind: &str, entries: &[F]) {
        for (index, entry) in entries.iter().enumerate() {
            let faults = entry.faults(self.global);
            let outcome = match faults.is_empty() {
                true => Hindrance::Obstacle(format!("this version has no channel for {kind}")),
                false => Hindrance::Faults(faults),
            };
            self.place(kind, index, Err(outcome), Vec::new());
        }
    }
}

fn plural_no_effect(keys: &[String]) -> &'static str {
    match keys.len() {
        1 => NO_EFFECT,
        _ => "have no effect in this version",
    }
}

/// Gives the receiver's own way in, or the one for all.
fn http_of<'a>(own: Option<&'a HttpConfig>, global: &'a Global) -> Option<&'a HttpConfig> {
    own.or(global.http_config.as_ref())
}

/// Judges a way in: what is refused, then what cannot be done.
fn judge_http(own: Option<&HttpConfig>, global: &Global) -> Result<(), Hindrance> {
    let faults = own.map(HttpConfig::faults).unwrap_or_default();
    if !faults.is_empty() {
        let faults = faults.into_iter();
        let placed = faults.map(|(key, reason)| (format!("http_config.{key}"), reason));
        return Err(Hindrance::Faults(placed.collect()));
    }
    match http_of(own, global).and_then(HttpConfig::obstacle) {
        Some(key) => Err(Hindrance::Obstacle(format!(
            "http_config.{key} is not understood"
        ))),
        None => Ok(()),
    }
}

/// Says that a URL is none that can be asked.
fn judge_url(key: &str, url: &str) -> Result<(), Hindrance> {
    if is_template(url) {
        return Err(templated(key));
    }
    match crate::config::is_http_url(url) {
        true => Ok(()),
        false => Err(fault(key, "is no http or https URL (it is secret and not shown)")),
    }
}

fn timeout_of(given: Duration, default: Duration) -> Duration {
    if given.is_zero() { default } else { given }
}

fn webhook(entry: &WebhookIntegration, global: &Global) -> Outcome {
    if entry.url.is_empty() && !entry.url_file.0 {
        return Err(fault("url", "is missing; give url or url_file"));
    }
    if entry.url_file.0 {
        return Err(fault(
            "url_file",
            "give either url or url_file, and a file that can be read",
        ));
    }
    judge_http(entry.http_config.as_ref(), global)?;
    judge_url("url", entry.url.expose())?;
    let http = http_of(entry.http_config.as_ref(), global);
    let default = WebhookConfig::default();
    Ok(ChannelConfig::Webhook(WebhookConfig {
        send_resolved: entry.send_resolved,
        url: entry.url.clone(),
        headers: http.map(HttpConfig::headers).unwrap_or_default(),
        max_alerts: entry.max_alerts,
        timeout: timeout_of(entry.timeout, default.timeout),
        policy: http.map(|http| http.tls_config.policy()),
        ..default
    }))
}

fn slack(entry: &SlackIntegration, global: &Global) -> Outcome {
    let has_url = !entry.api_url.is_empty() || entry.api_url_file.0;
    let has_token = !entry.app_token.is_empty() || entry.app_token_file.0;
    if has_url && has_token {
        return Err(fault("app_token", "give either api_url or app_token, not both"));
    }
    if entry.api_url_file.0 || entry.app_token_file.0 {
        let key = if entry.api_url_file.0 {
            "api_url_file"
        } else {
            "app_token_file"
        };
        return Err(fault(
            key,
            "give either the secret or its file, and a file that can be read",
        ));
    }
    let own_authorization = entry
        .http_config
        .as_ref()
        .is_some_and(|http| http.authorization.is_some());
    let app_url = match entry.app_url.as_str() {
        "" => global.slack_app_url.as_str(),
        own => own,
    };
    let token = match (has_url || own_authorization, entry.app_token.is_empty()) {
        (_, false) => entry.app_token.clone(),
        (false, true) => global.slack_app_token.clone(),
        (true, true) => Secret::default(),
    };
    let url = match (token.is_empty(), entry.api_url.is_empty()) {
        (false, _) => Secret::new(app_url),
        (true, false) => entry.api_url.clone(),
        (true, true) => global.slack_api_url.clone(),
    };
    if url.is_empty() {
        let reason = "is missing; give api_url, api_url_file, app_token, or global.slack_api_url";
        return Err(fault("api_url", reason));
    }
    if !token.is_empty() && own_authorization {
        return Err(fault(
            "http_config.authorization",
            "app_token is an authorization already",
        ));
    }
    if entry.update_message && url.expose() != "https://slack.com/api/chat.postMessage" {
        return Err(fault(
            "update_message",
            "needs a bot's token; a webhook cannot change what it posted",
        ));
    }
    judge_http(entry.http_config.as_ref(), global)?;
    judge_url("api_url", url.expose())?;
    if is_template(&entry.channel) && !token.is_empty() {
        return Err(templated("channel"));
    }
    let http = http_of(entry.http_config.as_ref(), global);
    let mut headers = http.map(HttpConfig::headers).unwrap_or_default();
    if !token.is_empty() {
        let bearer = Secret::new(format!("Bearer {}", token.expose()));
        headers.insert("Authorization".to_owned(), bearer);
    }
    let default = SlackConfig::default();
    Ok(ChannelConfig::Slack(SlackConfig {
        send_resolved: entry.send_resolved,
        webhook_url: url,
        channel: Some(entry.channel.clone()).filter(|name| !name.is_empty() && !is_template(name)),
        timeout: timeout_of(entry.timeout, default.timeout),
        headers,
        policy: http.map(|http| http.tls_config.policy()),
        ..default
    }))
}

fn email(entry: &EmailIntegration, global: &Global) -> Outcome {
    if entry.to.trim().is_empty() {
        return Err(fault("to", "is missing"));
    }
    if (!entry.auth_password.is_empty() && entry.auth_password_file.0)
        || (!entry.auth_secret.is_empty() && entry.auth_secret_file.0)
    {
        return Err(fault(
            "auth_password_file",
            "give either the secret or its file, not both",
        ));
    }
    let or_global = |own: &str, global: &str| if own.is_empty() { global } else { own }.to_owned();
    let smarthost = or_global(&entry.smarthost, &global.smtp_smarthost);
    if smarthost.is_empty() {
        return Err(fault(
            "smarthost",
            "is missing; give it here or as global.smtp_smarthost",
        ));
    }
    let Some((host, port)) = host_and_port(&smarthost) else {
        return Err(fault("smarthost", format!("{smarthost:?} is no host:port")));
    };
    let from = or_global(&entry.from, &global.smtp_from);
    if from.is_empty() {
        return Err(fault("from", "is missing; give it here or as global.smtp_from"));
    }
    let tls = entry.tls_config.as_ref().or(global.smtp_tls_config.as_ref());
    let mut faults = Vec::new();
    if let Some(tls) = &entry.tls_config {
        tls.faults(&mut faults);
    }
    judge_headers(entry, &mut faults);
    if !faults.is_empty() {
        return Err(Hindrance::Faults(faults));
    }
    for (key, text) in [("to", &entry.to), ("from", &from)] {
        if is_template(text) {
            return Err(templated(key));
        }
    }
    let recipients: Mailboxes = entry
        .to
        .parse()
        .map_err(|_| fault("to", format!("{:?} are no mail addresses", entry.to)))?;
    if from.parse::<Mailbox>().is_err() {
        return Err(fault("from", format!("{from:?} is no mail address")));
    }
    if let Some(key) = tls.and_then(super::http::TlsConfig::obstacle) {
        return Err(Hindrance::Obstacle(format!("tls_config.{key} is not understood")));
    }
    let username = or_global(&entry.auth_username, &global.smtp_auth_username);
    let password = match entry.auth_password.is_empty() {
        false => entry.auth_password.clone(),
        true => global.smtp_auth_password.clone(),
    };
    if !username.is_empty() && password.is_empty() {
        let reason = match entry.auth_secret.is_empty() && global.smtp_auth_secret.is_empty() {
            true => "auth_username has no password",
            false => "auth_secret (CRAM-MD5) is not spoken; give auth_password",
        };
        return Err(Hindrance::Obstacle(reason.to_owned()));
    }
    let is_implicit = entry.force_implicit_tls.or(global.smtp_force_implicit_tls);
    let is_tls_required = entry.require_tls.unwrap_or(global.smtp_require_tls);
    let security = match (is_implicit.unwrap_or(port == 465), is_tls_required) {
        (true, _) => MailSecurity::Implicit,
        (false, true) => MailSecurity::StartTls,
        (false, false) => MailSecurity::None,
    };
    let hello = or_global(&entry.hello, &global.smtp_hello);
    Ok(ChannelConfig::Email(EmailConfig {
        send_resolved: entry.send_resolved,
        smtp_server: host.to_owned(),
        smtp_port: port,
        security: Some(security),
        username: Some(username),
        password: Some(password),
        from: Some(from),
        to: Addresses(recipients.iter().map(Mailbox::to_string).collect()),
        hello: Some(hello).filter(|name| !name.is_empty()),
        headers: plain_headers(entry),
        policy: tls.map(super::http::TlsConfig::policy),
        ..EmailConfig::default()
    }))
}

/// Says which headers cannot be: names that are none, and names that stand there twice.
fn judge_headers(entry: &EmailIntegration, faults: &mut Vec<(String, String)>) {
    let mut names = HashSet::new();
    for (name, value) in &entry.headers {
        let key = format!("headers.{name}");
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if !is_name {
            faults.push((key, "is no name of a header".to_owned()));
        } else if !names.insert(name.to_ascii_lowercase()) {
            faults.push((
                key,
                "stands there twice, for letters' case means nothing".to_owned(),
            ));
        } else if value.contains(char::is_control) {
            faults.push((key, "a header is one line".to_owned()));
        }
    }
}

/// Gives the headers that a mail can carry as they stand.
fn plain_headers(entry: &EmailIntegration) -> BTreeMap<String, String> {
    let all = entry.headers.iter();
    let plain = all.filter(|(name, value)| !is_template(value) && !is_reserved(name));
    plain.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn headers_without_effect(entry: &EmailIntegration) -> impl Iterator<Item = String> {
    let all = entry.headers.iter();
    let others = all.filter(|(name, value)| is_template(value) || is_reserved(name));
    others.map(|(name, _)| format!("headers.{name}"))
}

fn is_reserved(name: &str) -> bool {
    RESERVED_HEADERS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// Splits `host:port`, the host of version 6 in brackets.
fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty()).then_some((host, port))
}
