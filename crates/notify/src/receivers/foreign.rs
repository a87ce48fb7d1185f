//! Integrations of Alertmanager for which this version has no channel: read, judged, named, not delivered.
//!
//! They are judged as Alertmanager judges them, so that a file which is good there is good here and one that is not
//! is refused for the same reason. What would have been sent by them goes to the fallback receiver.

use serde::{Deserialize, Serialize};

use super::Global;
use super::given::Given;
use super::http::HttpConfig;

/// What an integration must have.
pub(super) enum Rule {
    /// One of these keys, or of these of `global`.
    OneOf(&'static [&'static str], &'static [&'static str]),
    /// Not both keys.
    NotBoth(&'static str, &'static str),
    /// `http_config.authorization`, unless one of these keys stands there.
    Authorization(&'static [&'static str]),
}

/// What all of them answer.
pub(super) trait Foreign {
    /// The rules.
    const RULES: &'static [Rule];
    /// Says whether a key has a value.
    fn has(&self, key: &str) -> bool;
    /// How to get in there.
    fn http(&self) -> Option<&HttpConfig>;

    /// Gives what is wrong, as key and reason.
    fn faults(&self, global: &Global) -> Vec<(String, String)> {
        let mut faults: Vec<(String, String)> = Vec::new();
        for rule in Self::RULES {
            match rule {
                Rule::OneOf(keys, globals) => {
                    let is_there =
                        keys.iter().any(|key| self.has(key)) || globals.iter().any(|key| global.has(key));
                    if !is_there {
                        let globals = globals.iter().map(|key| format!("global.{key}"));
                        let known: Vec<String> =
                            keys.iter().map(|key| (*key).to_owned()).chain(globals).collect();
                        let reason = format!("is missing; give one of {}", known.join(", "));
                        faults.push((keys[0].to_owned(), reason));
                    }
                }
                Rule::NotBoth(first, second) => {
                    if self.has(first) && self.has(second) {
                        let reason = format!("give either {first} or {second}, not both");
                        faults.push(((*second).to_owned(), reason));
                    }
                }
                Rule::Authorization(keys) => {
                    let is_there = self.http().is_some_and(HttpConfig::has_authorization)
                        || keys.iter().any(|key| self.has(key));
                    if !is_there {
                        let reason = "authorization is missing".to_owned();
                        faults.push(("http_config".to_owned(), reason));
                    }
                }
            }
        }
        let http = self.http().map(HttpConfig::faults).unwrap_or_default();
        faults.extend(
            http.into_iter()
                .map(|(key, reason)| (format!("http_config.{key}"), reason)),
        );
        faults
    }
}

macro_rules! foreign {
    ($($name:ident { $($key:ident),+ $(,)? } [$($rule:expr),* $(,)?])+) => {
        $(
            #[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub(crate) struct $name {
                send_resolved: bool,
                http_config: Option<HttpConfig>,
                $($key: Given,)+
            }

            impl Foreign for $name {
                const RULES: &'static [Rule] = &[$($rule),*];
                fn has(&self, key: &str) -> bool {
                    $(if stringify!($key).trim_start_matches("r#") == key {
                        return self.$key.0;
                    })+
                    false
                }
                fn http(&self) -> Option<&HttpConfig> {
                    self.http_config.as_ref()
                }
            }
        )+
    };
}

use Rule::{Authorization, NotBoth, OneOf};

foreign! {
    Discord { webhook_url, webhook_url_file, content, title, message, username, avatar_url }
        [OneOf(&["webhook_url", "webhook_url_file"], &[]), NotBoth("webhook_url", "webhook_url_file")]
    Incidentio { url, url_file, alert_source_token, alert_source_token_file, max_alerts, timeout }
        [
            OneOf(&["url", "url_file"], &[]),
            NotBoth("url", "url_file"),
            NotBoth("alert_source_token", "alert_source_token_file"),
            Authorization(&["alert_source_token", "alert_source_token_file"]),
        ]
    Jira {
        api_url, api_type, project, summary, description, labels, priority, issue_type, reopen_transition,
        resolve_transition, wont_fix_resolution, reopen_duration, fields, custom_fields,
    } [
        OneOf(&["project"], &[]),
        OneOf(&["issue_type"], &[]),
        OneOf(&["api_url"], &["jira_api_url"]),
    ]
    Mattermost {
        webhook_url, webhook_url_file, channel, username, text, fallback, color, pretext, author_name, author_link,
        author_icon, title, title_link, fields, thumb_url, footer, footer_icon, image_url, icon_url, icon_emoji,
        attachments, r#type, props, priority,
    } [
        OneOf(&["webhook_url", "webhook_url_file"], &["mattermost_webhook_url", "mattermost_webhook_url_file"]),
        NotBoth("webhook_url", "webhook_url_file"),
    ]
    MsTeams { webhook_url, webhook_url_file, title, summary, text }
        [OneOf(&["webhook_url", "webhook_url_file"], &[]), NotBoth("webhook_url", "webhook_url_file")]
    MsTeamsV2 { webhook_url, webhook_url_file, title, text }
        [OneOf(&["webhook_url", "webhook_url_file"], &[]), NotBoth("webhook_url", "webhook_url_file")]
    OpsGenie {
        api_key, api_key_file, api_url, message, description, source, details, entity, responders, actions, tags, note,
        priority, update_alerts,
    } [
        OneOf(&["api_key", "api_key_file"], &["opsgenie_api_key", "opsgenie_api_key_file"]),
        NotBoth("api_key", "api_key_file"),
    ]
    PagerDuty {
        service_key, service_key_file, routing_key, routing_key_file, url, client, client_url, description, details,
        images, links, source, severity, class, component, group, timeout,
    } [
        OneOf(&["routing_key", "routing_key_file", "service_key", "service_key_file"], &[]),
        NotBoth("routing_key", "routing_key_file"),
        NotBoth("service_key", "service_key_file"),
    ]
    Pushover {
        user_key, user_key_file, token, token_file, title, message, url, url_title, device, sound, priority, retry,
        expire, ttl, html, monospace,
    } [
        OneOf(&["user_key", "user_key_file"], &[]),
        NotBoth("user_key", "user_key_file"),
        OneOf(&["token", "token_file"], &[]),
        NotBoth("token", "token_file"),
        NotBoth("html", "monospace"),
    ]
    RocketChat {
        api_url, token_id, token_id_file, token, token_file, channel, color, title, title_link, text, fields,
        short_fields, emoji, icon_url, image_url, thumb_url, link_names, actions,
    } [
        NotBoth("token", "token_file"),
        NotBoth("token_id", "token_id_file"),
        OneOf(&["token_id", "token_id_file"], &["rocketchat_token_id", "rocketchat_token_id_file"]),
        OneOf(&["token", "token_file"], &["rocketchat_token", "rocketchat_token_file"]),
    ]
    Sns {
        api_url, sigv4, topic_arn, phone_number, target_arn, subject, message, attributes, use_aws_http_client,
    } [
        OneOf(&["topic_arn", "target_arn", "phone_number"], &[]),
        NotBoth("topic_arn", "target_arn"),
        NotBoth("topic_arn", "phone_number"),
        NotBoth("target_arn", "phone_number"),
    ]
    Telegram {
        api_url, bot_token, bot_token_file, chat_id, chat_id_file, message_thread_id, message, disable_notifications,
        parse_mode,
    } [
        NotBoth("bot_token", "bot_token_file"),
        OneOf(&["bot_token", "bot_token_file"], &["telegram_bot_token", "telegram_bot_token_file"]),
        OneOf(&["chat_id", "chat_id_file"], &[]),
        NotBoth("chat_id", "chat_id_file"),
    ]
    VictorOps {
        api_key, api_key_file, api_url, routing_key, message_type, state_message, entity_display_name,
        monitoring_tool, custom_fields,
    } [
        OneOf(&["routing_key"], &[]),
        NotBoth("api_key", "api_key_file"),
        OneOf(&["api_key", "api_key_file"], &["victorops_api_key", "victorops_api_key_file"]),
    ]
    Webex { api_url, message, room_id } [OneOf(&["room_id"], &[]), Authorization(&[])]
    WeChat {
        api_secret, api_secret_file, corp_id, message, api_url, to_user, to_party, to_tag, agent_id, message_type,
    } [
        NotBoth("api_secret", "api_secret_file"),
        OneOf(&["api_secret", "api_secret_file"], &["wechat_api_secret", "wechat_api_secret_file"]),
        OneOf(&["corp_id"], &["wechat_api_corp_id"]),
    ]
}
