//! What the operator sets: how many alerts may be told, how they are grouped, who hears of them.

use std::collections::HashSet;
use std::time::Duration;

use marketprism_model::duration;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The group_by word for "all labels".
pub const GROUP_BY_ALL: &str = "...";

/// Everything that this room is set by.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether anybody is told anything. While nobody is, alerts live on, and the logs of what was told stand:
    /// when telling goes on, news is told, and what ended meanwhile is closed for whoever heard of it. Default true.
    pub is_telling: bool,
    /// Firing alerts that are told; those beyond are stored but not told. 1 to 1,000,000, default 1000.
    pub max_active_alerts: usize,
    /// How alerts are grouped and paced.
    pub route: Route,
    /// Who can hear of alerts.
    pub receivers: Vec<Receiver>,
    /// How long after a start, and after telling was switched on, nothing is told, so that every rule has had its say. Default 30 s: one
    /// evaluation interval.
    #[serde(with = "duration")]
    pub settle: Duration,
    /// A message that is not delivered after this long is given up. 1 s to 7 d, default 1 h.
    #[serde(with = "duration")]
    pub notification_deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            is_telling: true,
            max_active_alerts: 1000,
            route: Route::default(),
            receivers: vec![Receiver::default()],
            settle: Duration::from_secs(30),
            notification_deadline: Duration::from_secs(3600),
        }
    }
}

/// How alerts are grouped and paced; Alertmanager's words and defaults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// The receiver's name.
    pub receiver: String,
    /// Labels that make a group, `...` alone for all. Default `alertname`. With levels `severity` belongs to
    /// no group, for it changes while the alert stays.
    pub group_by: Vec<String>,
    /// How long a new group waits for company. Up to 1 d, default 30 s.
    #[serde(with = "duration")]
    pub group_wait: Duration,
    /// How long until news of a group is told. 1 s to 1 d, default 5 min.
    #[serde(with = "duration")]
    pub group_interval: Duration,
    /// How long until the same is told again; rounded up to a multiple of `group_interval`. At least that,
    /// default 4 h.
    #[serde(with = "duration")]
    pub repeat_interval: Duration,
}

impl Default for Route {
    fn default() -> Self {
        Route {
            receiver: "default".to_owned(),
            group_by: vec![marketprism_model::labels::ALERT_NAME.to_owned()],
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(300),
            repeat_interval: Duration::from_secs(4 * 3600),
        }
    }
}

/// Who hears of alerts: a name and the ways to reach it. Without channels its alerts are shown, not sent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// The name that routes use.
    pub name: String,
    /// The channels, each told on its own.
    #[serde(default)]
    pub channels: Vec<ChannelRoute>,
}

impl Default for Receiver {
    fn default() -> Self {
        Receiver {
            name: "default".to_owned(),
            channels: Vec::new(),
        }
    }
}

/// One way to reach a receiver.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRoute {
    /// The channel's configured name.
    pub name: String,
    /// Whether the end of an alert is told too. Default true.
    #[serde(default = "yes")]
    pub send_resolved: bool,
}

const fn yes() -> bool {
    true
}

/// What is wrong with the settings; names the field, the value and the limit.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A number or a duration is out of its limits.
    #[error("{field}: {value} is out of range; use {limits}")]
    Range {
        /// The field.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is taken.
        limits: &'static str,
    },
    /// `...` stands beside other labels.
    #[error("route.group_by: \"...\" means all labels and must stand alone")]
    GroupByAll,
    /// A group_by label is empty or repeated.
    #[error("route.group_by: label {0:?} is empty or repeated")]
    GroupByLabel(String),
    /// The route names a receiver that is not there.
    #[error("route.receiver: no receiver is called {name:?}; known are {known}")]
    UnknownReceiver {
        /// The name.
        name: String,
        /// The names that are known.
        known: String,
    },
    /// Two receivers, or two channels of one, have the same name.
    #[error("{kind} {name:?} is there twice")]
    Twice {
        /// `receiver` or `channel`.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

impl Config {
    /// Checks every field against its limits.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let range = |field, value: String, limits| ConfigError::Range { field, value, limits };
        if !(1..=1_000_000).contains(&self.max_active_alerts) {
            let value = self.max_active_alerts.to_string();
            return Err(range("max_active_alerts", value, "1 to 1000000"));
        }
        let day = Duration::from_secs(86_400);
        let second = Duration::from_secs(1);
        let route = &self.route;
        let spans = [
            (
                "route.group_wait",
                route.group_wait,
                Duration::ZERO,
                day,
                "0s to 1d",
            ),
            (
                "route.group_interval",
                route.group_interval,
                second,
                day,
                "1s to 1d",
            ),
            (
                "route.repeat_interval",
                route.repeat_interval,
                route.group_interval,
                365 * day,
                "group_interval to 1y",
            ),
            ("settle", self.settle, Duration::ZERO, day, "0s to 1d"),
            (
                "notification_deadline",
                self.notification_deadline,
                second,
                7 * day,
                "1s to 7d",
            ),
        ];
        for (field, value, least, most, limits) in spans {
            if value < least || value > most {
                return Err(range(field, duration::format(value), limits));
            }
        }
        let mut labels = HashSet::new();
        for label in &route.group_by {
            if label == GROUP_BY_ALL && route.group_by.len() > 1 {
                return Err(ConfigError::GroupByAll);
            }
            if label.is_empty() || !labels.insert(label) {
                return Err(ConfigError::GroupByLabel(label.clone()));
            }
        }
        self.validate_receivers()
    }

    fn validate_receivers(&self) -> Result<(), ConfigError> {
        let mut names = HashSet::new();
        for receiver in &self.receivers {
            let twice = |kind, name: &str| ConfigError::Twice {
                kind,
                name: name.to_owned(),
            };
            if !names.insert(receiver.name.as_str()) {
                return Err(twice("receiver", &receiver.name));
            }
            let mut channels = HashSet::new();
            if let Some(again) = receiver
                .channels
                .iter()
                .find(|channel| !channels.insert(&channel.name))
            {
                return Err(twice("channel", &again.name));
            }
        }
        if names.contains(self.route.receiver.as_str()) {
            return Ok(());
        }
        let known: Vec<&str> = self
            .receivers
            .iter()
            .map(|receiver| receiver.name.as_str())
            .collect();
        Err(ConfigError::UnknownReceiver {
            name: self.route.receiver.clone(),
            known: known.join(", "),
        })
    }

    /// Gives the channels of the route's receiver.
    pub(crate) fn channels(&self) -> &[ChannelRoute] {
        self.receivers
            .iter()
            .find(|receiver| receiver.name == self.route.receiver)
            .map_or(&[], |receiver| &receiver.channels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_alertmanagers_and_valid() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        let route = &config.route;
        let seconds =
            [route.group_wait, route.group_interval, route.repeat_interval].map(|span| span.as_secs());
        assert_eq!(seconds, [30, 300, 14_400]);
    }

    #[test]
    fn what_is_out_of_its_limits_is_named() {
        let check = |change: fn(&mut Config), words: &[&str]| {
            let mut config = Config::default();
            change(&mut config);
            let text = config.validate().expect_err("refused").to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        };
        check(
            |c| c.max_active_alerts = 0,
            &["max_active_alerts", "0", "1 to 1000000"],
        );
        check(
            |c| c.route.group_interval = Duration::ZERO,
            &["route.group_interval", "0s", "1s to 1d"],
        );
        check(
            |c| c.route.repeat_interval = Duration::from_secs(60),
            &["route.repeat_interval", "1m"],
        );
        check(|c| c.route.group_by = vec!["...".into(), "job".into()], &["..."]);
        check(
            |c| c.route.group_by = vec!["job".into(), "job".into()],
            &["\"job\""],
        );
        check(|c| c.route.receiver = "ops".into(), &["ops", "default"]);
        check(
            |c| c.receivers.push(Receiver::default()),
            &["receiver", "default", "twice"],
        );
        check(
            |c| {
                let mail = ChannelRoute {
                    name: "mail".into(),
                    send_resolved: true,
                };
                c.receivers[0].channels = vec![mail.clone(), mail];
            },
            &["channel", "mail", "twice"],
        );
    }
}
