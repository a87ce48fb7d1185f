//! The settings as they are used: the tree built, names looked up, intervals read.
//!
//! Built once from the whole [`Config`], which fails with what is wrong; afterwards nothing can be missing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::records::GroupRecord;
use marketprism_model::{TimeInterval, Timestamp};

use crate::calendar::Calendars;
use crate::config::{ChannelRoute, Config, ConfigError};
use crate::escalation::{Policies, Policy};
use crate::groups::{Group, Kind};
use crate::inhibition::Inhibitor;
use crate::join::storm_key;
use crate::routing::{KnownNames, Route, RouteIndex, RoutingTree};
use crate::schedule::Schedules;
use crate::silences::Recurrence;
use crate::time_interval::{self, Interval, TimeIntervals};

/// Settings that were found to be right.
pub(crate) struct Plan {
    pub config: Config,
    pub tree: RoutingTree,
    pub calendars: Calendars,
    pub intervals: TimeIntervals,
    pub schedules: Schedules,
    policies: Policies,
    /// Without sources: a template for the book's own.
    pub inhibitor: Inhibitor,
    /// Routes by their keys.
    routes: HashMap<String, RouteIndex>,
    /// Receivers by name, as places in the configuration.
    receivers: HashMap<String, usize>,
    /// Channels by name: the first receiver that has it, and the place there.
    channels: HashMap<String, (usize, usize)>,
}

impl Plan {
    /// Builds it; fails with the first kind of fault, and of that kind with all.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate_values()?;
        let calendars = Calendars::new(&config.calendars)?;
        let intervals = TimeIntervals::new(&config.time_intervals, &calendars)?;
        let inhibitor = Inhibitor::new(&config.inhibit_rules)?;
        let names: Vec<&str> = config
            .receivers
            .iter()
            .map(|receiver| receiver.name.as_str())
            .collect();
        let schedules = Schedules::new(&config.schedules, &names, &config.time_intervals, &calendars)?;
        let policies = Policies::new(&config.escalation_policies, &names, &schedules)?;
        let escalations: Vec<&str> = policies.names().collect();
        let known = KnownNames {
            receivers: &names,
            time_intervals: &intervals.names(),
            escalations: &escalations,
        };
        let tree = RoutingTree::new(&config.route, known)?;
        let routes = tree
            .routes()
            .map(|(index, route)| (route.key.clone(), index))
            .collect();
        let (mut receivers, mut channels) = (HashMap::new(), HashMap::new());
        for (at, receiver) in config.receivers.iter().enumerate() {
            receivers.insert(receiver.name.clone(), at);
        }
        // A channel belongs to whoever has it as its own before those for whom it stands in.
        for is_own in [true, false] {
            for (at, receiver) in config.receivers.iter().enumerate() {
                let all = receiver.channels.iter().enumerate();
                for (place, channel) in all.filter(|(_, channel)| channel.stands_in_for.is_none() == is_own) {
                    channels.entry(channel.name.clone()).or_insert((at, place));
                }
            }
        }
        Ok(Plan {
            config,
            tree,
            calendars,
            intervals,
            schedules,
            policies,
            inhibitor,
            routes,
            receivers,
            channels,
        })
    }

    /// Gives the route by whose pace a group moves: a storm's is the root.
    fn route(&self, kind: &Kind) -> &Route {
        match kind {
            Kind::Route(index) => self.tree.route(*index),
            Kind::Storm(_) => self.tree.route(RouteIndex::ROOT),
        }
    }

    /// Gives how long a new group waits for company.
    pub fn wait(&self, kind: &Kind) -> Duration {
        self.route(kind).group_wait
    }

    /// Gives how long until news of a group is told.
    pub fn interval(&self, kind: &Kind) -> Duration {
        self.route(kind).group_interval
    }

    /// Gives how long until the same is told again.
    pub fn repeat(&self, kind: &Kind) -> Duration {
        self.route(kind).repeat_interval
    }

    /// Gives how far away the next flush of a group can be.
    pub fn longest_wait(&self, kind: &Kind) -> Duration {
        let route = self.route(kind);
        route.group_wait.max(route.group_interval)
    }

    /// Gives the policy by which a group escalates: a storm's alerts do as their own routes say.
    pub fn policy(&self, kind: &Kind) -> Option<&Policy> {
        let name = match kind {
            Kind::Route(index) => self.tree.route(*index).escalation.as_deref(),
            Kind::Storm(policy) => policy.as_deref(),
        };
        self.policies.get(name?)
    }

    /// Gives what makes a storm group that was kept; `None` when it is none, or its receiver or policy is not there.
    pub fn storm_of(&self, record: &GroupRecord) -> Option<Kind> {
        if !self.has_receiver(&record.receiver) {
            return None;
        }
        let names = self.policies.names().map(|name| Some(Arc::from(name)));
        [None]
            .into_iter()
            .chain(names)
            .find(|policy| storm_key(&record.receiver, policy.as_deref()) == record.key)
            .map(Kind::Storm)
    }

    /// Gives who hears of a group.
    pub fn receiver(&self, group: &Group) -> String {
        match &group.kind {
            Kind::Route(index) => self.tree.route(*index).receiver.clone(),
            Kind::Storm(_) => group.record.receiver.clone(),
        }
    }

    /// Gives the channels of a receiver; none when it is not there.
    pub fn channels(&self, receiver: &str) -> &[ChannelRoute] {
        self.receivers
            .get(receiver)
            .map_or(&[], |at| &self.config.receivers[*at].channels)
    }

    /// Says whether there is such a receiver.
    pub fn has_receiver(&self, name: &str) -> bool {
        self.receivers.contains_key(name)
    }

    /// Gives a channel and a receiver that has it.
    pub fn channel(&self, name: &str) -> Option<(&str, &ChannelRoute)> {
        let (receiver, channel) = self.channels.get(name)?;
        let receiver = &self.config.receivers[*receiver];
        Some((&receiver.name, &receiver.channels[*channel]))
    }

    /// Gives the route of a group that was kept, when it is still there.
    pub fn route_of(&self, record: &GroupRecord) -> Option<RouteIndex> {
        let end = format!(":{}", record.labels);
        let key = record.key.strip_suffix(&end)?;
        self.routes.get(key).copied()
    }
}

impl Recurrence for Plan {
    fn contains(&self, interval: &TimeInterval, now: Timestamp) -> bool {
        time_interval::contains(interval, now, &self.calendars)
    }

    fn next_change(&self, interval: &TimeInterval, now: Timestamp) -> Option<Timestamp> {
        // A record whose zone or calendar is gone does not recur any more.
        let interval = Interval::new(interval, &self.calendars).ok()?;
        time_interval::next_change([&interval], now)
    }
}
