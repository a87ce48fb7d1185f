//! What the operator sets: how many alerts may be told, how they are grouped, who hears of them.

use std::collections::HashSet;
use std::time::Duration;

use marketprism_model::duration;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::calendar::CalendarConfig;
use crate::escalation::PolicyConfig;
use crate::flapping::FlappingConfig;
use crate::incidents::IncidentsConfig;
use crate::plan::Plan;
use crate::routing::{InhibitRuleConfig, NamedTimeInterval, RouteConfig, RoutingError};
use crate::schedule::ScheduleConfig;
use crate::silences;
use crate::storm::StormConfig;

/// Everything that this room is set by.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether anybody is told anything. While nobody is, alerts live on, and the logs of what was told stand:
    /// when telling goes on, news is told, and what ended meanwhile is closed for whoever heard of it. Default true.
    pub is_telling: bool,
    /// Firing alerts that are told; those beyond are stored but not told. 1 to 1,000,000, default 1000.
    pub max_active_alerts: usize,
    /// How alerts find their receivers, are grouped and paced. By default all go to `default`, grouped by `alertname`.
    pub route: RouteConfig,
    /// Who can hear of alerts.
    pub receivers: Vec<Receiver>,
    /// Which alerts say so much that others are not told.
    pub inhibit_rules: Vec<InhibitRuleConfig>,
    /// Times that routes name.
    pub time_intervals: Vec<NamedTimeInterval>,
    /// Days that intervals name.
    pub calendars: Vec<CalendarConfig>,
    /// Who hears of what could not be delivered; nobody when `None`.
    pub fallback_receiver: Option<String>,
    /// How long after a start, and after telling was switched on, nothing is told, so that every rule has had its say. Default 30 s: one
    /// evaluation interval.
    #[serde(with = "duration")]
    pub settle: Duration,
    /// A message that is not delivered after this long is given up. 1 s to 7 d, default 1 h.
    #[serde(with = "duration")]
    pub notification_deadline: Duration,
    /// An alert that another program sent without an end is over this long after it was last sent. 1 s to 7 d,
    /// default 5 min.
    #[serde(with = "duration")]
    pub resolve_timeout: Duration,
    /// When one digest speaks for many alerts.
    pub storm: StormConfig,
    /// When ends are held back.
    pub flapping: FlappingConfig,
    /// Who is told next while nobody takes alerts in hand, by the names that routes use.
    pub escalation_policies: Vec<PolicyConfig>,
    /// Who is on call when.
    pub schedules: Vec<ScheduleConfig>,
    /// Which alerts become one story. Off by default.
    pub incidents: IncidentsConfig,
    /// How many silences there may be, and how wide.
    pub silences: silences::Config,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            is_telling: true,
            max_active_alerts: 1000,
            route: RouteConfig::root("default", &[marketprism_model::labels::ALERT_NAME]),
            receivers: vec![Receiver::default()],
            inhibit_rules: Vec::new(),
            time_intervals: Vec::new(),
            calendars: Vec::new(),
            fallback_receiver: None,
            settle: Duration::from_secs(30),
            notification_deadline: Duration::from_secs(3600),
            resolve_timeout: Duration::from_secs(300),
            storm: StormConfig::default(),
            flapping: FlappingConfig::default(),
            escalation_policies: Vec::new(),
            schedules: Vec::new(),
            incidents: IncidentsConfig {
                is_enabled: false,
                ..IncidentsConfig::default()
            },
            silences: silences::Config::default(),
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
    /// What of the receiver nobody can deliver, when this channel of another is told in its place.
    #[serde(default)]
    pub stands_in_for: Option<String>,
}

impl ChannelRoute {
    /// Makes a way of the receiver's own.
    pub fn new(name: impl Into<String>, send_resolved: bool) -> Self {
        ChannelRoute {
            name: name.into(),
            send_resolved,
            stands_in_for: None,
        }
    }
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
    /// The routes, the intervals, the calendars or the inhibition rules are faulty; all that is wrong there.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// The fallback is a receiver that is not there.
    #[error("fallback_receiver: no receiver is called {name:?}; known are {known}")]
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
    /// Checks all of it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        Plan::new(self.clone()).map(|_| ())
    }

    /// Checks every field against its limits, but for those that are checked when they are put together.
    pub(crate) fn validate_values(&self) -> Result<(), ConfigError> {
        let range = |field, value: String, limits| ConfigError::Range { field, value, limits };
        if !(1..=1_000_000).contains(&self.max_active_alerts) {
            let value = self.max_active_alerts.to_string();
            return Err(range("max_active_alerts", value, "1 to 1000000"));
        }
        let day = Duration::from_secs(86_400);
        let second = Duration::from_secs(1);
        let spans = [
            ("settle", self.settle, Duration::ZERO, day, "0s to 1d"),
            (
                "notification_deadline",
                self.notification_deadline,
                second,
                7 * day,
                "1s to 7d",
            ),
            (
                "resolve_timeout",
                self.resolve_timeout,
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
        self.storm.validate()?;
        self.flapping.validate()?;
        self.silences.validate()?;
        self.incidents.validate()?;
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
        match &self.fallback_receiver {
            Some(name) if !names.contains(name.as_str()) => {
                let known: Vec<&str> = self
                    .receivers
                    .iter()
                    .map(|receiver| receiver.name.as_str())
                    .collect();
                Err(ConfigError::UnknownReceiver {
                    name: name.clone(),
                    known: known.join(", "),
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_alertmanagers_and_valid() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        let plan = Plan::new(config).expect("a plan");
        let (_, root) = plan.tree.routes().next().expect("a root");
        let seconds = [root.group_wait, root.group_interval, root.repeat_interval].map(|span| span.as_secs());
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
            |c| c.route.group_interval = Some(Duration::ZERO),
            &["route.group_interval", "0s"],
        );
        check(
            |c| c.route.group_by = Some(vec!["...".into(), "job".into()]),
            &["..."],
        );
        check(
            |c| c.route.group_by = Some(vec!["job".into(), "job".into()]),
            &["\"job\""],
        );
        check(|c| c.route.receiver = Some("ops".into()), &["ops", "default"]);
        check(
            |c| c.fallback_receiver = Some("ops".into()),
            &["fallback_receiver", "ops", "default"],
        );
        check(
            |c| c.receivers.push(Receiver::default()),
            &["receiver", "default", "twice"],
        );
        check(
            |c| {
                let mail = ChannelRoute::new("mail", true);
                c.receivers[0].channels = vec![mail.clone(), mail];
            },
            &["channel", "mail", "twice"],
        );
    }
}
