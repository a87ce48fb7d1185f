//! What is drawn before a life begins: who can fire, who can hear, and the trees of routes.
//!
//! The tree is walked here a second time, by Alertmanager's words alone and without the room's code, so that the
//! oracle knows by itself who should hear of what. Deliberately simple: equality matchers, everything written out.

use std::time::Duration;

use marketprism_alerts::escalation::{PolicyConfig, RepeatConfig, StepConfig};
use marketprism_alerts::flapping::FlappingConfig;
use marketprism_alerts::routing::{InhibitRuleConfig, NamedTimeInterval, RouteConfig};
use marketprism_alerts::storm::StormConfig;
use marketprism_alerts::{ChannelRoute, Config, Receiver};
use marketprism_model::time_interval::DayTimes;
use marketprism_model::{Chance, Labels, TimeInterval, Timestamp};
use marketprism_testkit::SeededChance;

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
/// After this long a sender that is silent is no longer believed.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(180);
pub const SETTLE: Duration = Duration::from_secs(30);
/// After this long a message is given up.
pub const DEADLINE: Duration = Duration::from_secs(600);
pub const FLAP_HOLD: Duration = Duration::from_secs(240);
pub const POLICY: &str = "policy";
pub const STEP_AFTER: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(600)];
pub const ROUND_EVERY: Duration = Duration::from_secs(600);
/// Rules, and last what another program sends.
pub const NAMES: [&str; 5] = ["Down", "Slow", "Full", "Hot", "Sent"];
const TEAMS: [&str; 2] = ["db", "web"];
const SEVERITIES: [&str; 3] = ["critical", "high", "low"];
/// Who hears: the receiver, the channel, and whether it hears of ends.
pub const CHANNELS: [(&str, &str, bool); 9] = [
    ("r0", "r0a", true),
    ("r0", "r0b", false),
    ("r1", "r1a", true),
    ("r2", "r2a", true),
    ("r2", "r2b", true),
    ("r3", "r3a", true),
    ("e1", "e1a", true),
    ("e2", "e2a", true),
    ("fallback", "fa", true),
];
const ROUTED: [&str; 4] = ["r0", "r1", "r2", "r3"];

/// Dice that a seed repeats.
pub struct Dice(SeededChance);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(SeededChance::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(1)))
    }

    pub fn below(&self, n: u64) -> u64 {
        self.0.next_u64() % n
    }

    /// True once in `n` times.
    pub fn once_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// One thing that can fire.
pub struct Identity {
    pub labels: Labels,
    pub fingerprint: u64,
    /// Its place in [`NAMES`].
    pub name: usize,
    pub is_critical: bool,
}

impl Identity {
    pub fn is_sent(&self) -> bool {
        self.name == NAMES.len() - 1
    }
}

pub fn identities(dice: &Dice) -> Vec<Identity> {
    let mut all = Vec::new();
    for (name, alertname) in NAMES.iter().enumerate() {
        for i in 0..4 {
            let severity = dice.pick(&SEVERITIES);
            let labels = Labels::from_pairs([
                ("alertname", *alertname),
                ("i", &i.to_string()),
                ("severity", severity),
                ("team", dice.pick(&TEAMS)),
            ]);
            all.push(Identity {
                fingerprint: labels.fingerprint(),
                labels,
                name,
                is_critical: severity == "critical",
            });
        }
    }
    all
}

/// One node of a tree, with what it inherits.
#[derive(Clone)]
pub struct Node {
    path: String,
    pub receiver: &'static str,
    matchers: Vec<(&'static str, &'static str)>,
    is_continuing: bool,
    mute: Option<usize>,
    active: Option<usize>,
    /// As written; an empty list inherits.
    said_group_by: Vec<&'static str>,
    group_by: Vec<&'static str>,
    pub wait: Duration,
    pub interval: Duration,
    pub repeat: Duration,
    pub has_escalation: bool,
    children: Vec<Node>,
}

impl Node {
    fn drawn(dice: &Dice, depth: u32, path: &str, parent: Option<&Node>) -> Node {
        let is_root = parent.is_none();
        let matchers = match dice.below(3) {
            _ if is_root => vec![],
            0 => vec![("team", dice.pick(&TEAMS))],
            1 => vec![("severity", dice.pick(&SEVERITIES))],
            _ => vec![("alertname", dice.pick(&NAMES))],
        };
        let may_mute = !is_root && dice.once_in(3);
        let is_mute = dice.once_in(2);
        let interval = dice.below(2) as usize;
        let said_group_by = dice
            .pick(&[&["alertname"][..], &["alertname", "i"], &["team"], &[]])
            .to_vec();
        let group_by = match parent {
            Some(parent) if said_group_by.is_empty() => parent.group_by.clone(),
            _ => said_group_by.clone(),
        };
        let mut node = Node {
            path: path.to_owned(),
            receiver: dice.pick(&ROUTED),
            matchers,
            is_continuing: !is_root && dice.once_in(2),
            mute: (may_mute && is_mute).then_some(interval),
            active: (may_mute && !is_mute).then_some(interval),
            said_group_by,
            group_by,
            wait: dice.pick(&[Duration::ZERO, 15 * SECOND, 30 * SECOND]),
            interval: dice.pick(&[MINUTE, 2 * MINUTE, 5 * MINUTE]),
            repeat: dice.pick(&[30 * MINUTE, 60 * MINUTE, 240 * MINUTE]),
            has_escalation: parent.is_some_and(|parent| parent.has_escalation) || dice.once_in(4),
            children: Vec::new(),
        };
        if depth < 2 {
            let count = if is_root { 2 + dice.below(3) } else { dice.below(3) };
            for at in 0..count {
                let child = Node::drawn(dice, depth + 1, &format!("{path}/{at}"), Some(&node));
                node.children.push(child);
            }
        }
        node
    }

    fn matches(&self, labels: &Labels) -> bool {
        self.matchers
            .iter()
            .all(|(name, value)| labels.get(name) == Some(value))
    }

    /// Gives the nodes whose receivers hear of an alert.
    pub fn find<'a>(&'a self, labels: &Labels, found: &mut Vec<&'a Node>) {
        let before = found.len();
        for child in self.children.iter().filter(|child| child.matches(labels)) {
            child.find(labels, found);
            if !child.is_continuing {
                break;
            }
        }
        if found.len() == before {
            found.push(self);
        }
    }

    fn stop_continuing(&mut self) {
        self.is_continuing = false;
        self.children.iter_mut().for_each(Node::stop_continuing);
    }

    /// The group of an alert in this node.
    pub fn group(&self, labels: &Labels) -> String {
        let values = self.group_by.iter().map(|name| labels.get(name).unwrap_or(""));
        format!("{}:{}", self.path, values.collect::<Vec<_>>().join(","))
    }

    /// Gives the longest that a group of this node waits.
    pub fn longest(&self) -> Duration {
        self.wait.max(self.interval)
    }

    fn longest_of_all(&self) -> Duration {
        self.children
            .iter()
            .map(Node::longest_of_all)
            .fold(self.longest(), Duration::max)
    }

    fn config(&self) -> RouteConfig {
        let named = |at: &Option<usize>| at.iter().map(|at| interval_name(*at)).collect();
        RouteConfig {
            receiver: Some(self.receiver.to_owned()),
            group_by: Some(self.said_group_by.iter().map(|name| (*name).to_owned()).collect()),
            group_wait: Some(self.wait),
            group_interval: Some(self.interval),
            repeat_interval: Some(self.repeat),
            matchers: self
                .matchers
                .iter()
                .map(|(name, value)| format!("{name}=\"{value}\""))
                .collect(),
            mute_time_intervals: named(&self.mute),
            active_time_intervals: named(&self.active),
            is_continuing: self.is_continuing,
            routes: self.children.iter().map(Node::config).collect(),
            escalation: self.has_escalation.then(|| POLICY.to_owned()),
            ..RouteConfig::default()
        }
    }
}

fn interval_name(at: usize) -> String {
    format!("interval{at}")
}

/// While `source` fires, `target` is not told where `equal` is the same.
pub struct Inhibition {
    pub source: usize,
    pub target: usize,
    pub equal: &'static str,
}

/// One configuration.
pub struct Plan {
    pub root: Node,
    pub inhibitions: Vec<Inhibition>,
    /// Minutes of the day within which the named intervals hold.
    intervals: [(u16, u16); 2],
    pub has_storms: bool,
    pub has_flapping: bool,
    pub has_fallback: bool,
}

impl Plan {
    /// Draws a configuration; but for the tree and inhibition it is like `like`.
    pub fn drawn(dice: &Dice, identities: &[Identity], like: Option<&Plan>) -> Plan {
        let mut root = Node::drawn(dice, 0, "", None);
        let hears_twice = identities.iter().any(|identity| {
            let mut found = Vec::new();
            root.find(&identity.labels, &mut found);
            let mut receivers: Vec<&str> = found.iter().map(|node| node.receiver).collect();
            receivers.sort_unstable();
            let escalating = found.iter().filter(|node| node.has_escalation).count();
            escalating > 1 || receivers.windows(2).any(|pair| pair[0] == pair[1])
        });
        // Whoever hears of one alert by two routes hears of it twice, as with Alertmanager; nothing could be told of that.
        if hears_twice {
            root.stop_continuing();
        }
        let inhibitions = (0..dice.below(3))
            .map(|_| Inhibition {
                source: dice.below(2) as usize,
                target: 2 + dice.below(3) as usize,
                equal: dice.pick(&["team", "i"]),
            })
            .collect();
        let span = |from: u64| {
            let start = from + dice.below(120);
            (start as u16, (start + 20 + dice.below(90)) as u16)
        };
        Plan {
            root,
            inhibitions,
            intervals: [span(60), span(120)],
            has_storms: like.map_or_else(|| dice.once_in(2), |like| like.has_storms),
            has_flapping: like.map_or_else(|| dice.once_in(3), |like| like.has_flapping),
            has_fallback: like.map_or_else(|| dice.once_in(2), |like| like.has_fallback),
        }
    }

    pub fn find(&self, labels: &Labels) -> Vec<&Node> {
        let mut found = Vec::new();
        self.root.find(labels, &mut found);
        found
    }

    fn is_within(&self, at: usize, wall: Timestamp) -> bool {
        let minute = (wall.millis().div_euclid(60_000)).rem_euclid(1440) as u16;
        let (start, end) = self.intervals[at];
        start <= minute && minute < end
    }

    pub fn is_muted(&self, node: &Node, wall: Timestamp) -> bool {
        node.mute.is_some_and(|at| self.is_within(at, wall))
            || node.active.is_some_and(|at| !self.is_within(at, wall))
    }

    pub fn longest(&self) -> Duration {
        self.root.longest_of_all()
    }

    pub fn config(&self) -> Config {
        let mut receivers: Vec<Receiver> = Vec::new();
        for (receiver, channel, send_resolved) in CHANNELS {
            let route = ChannelRoute::new(channel, send_resolved);
            match receivers.iter_mut().find(|known| known.name == receiver) {
                Some(known) => known.channels.push(route),
                None => receivers.push(Receiver {
                    name: receiver.to_owned(),
                    channels: vec![route],
                }),
            }
        }
        let intervals = self
            .intervals
            .iter()
            .enumerate()
            .map(|(at, (start, end))| NamedTimeInterval {
                name: interval_name(at),
                time_intervals: vec![TimeInterval {
                    times: vec![DayTimes {
                        start_minute: *start,
                        end_minute: *end,
                    }],
                    ..TimeInterval::default()
                }],
            });
        let named = |at: usize| vec![format!("alertname=\"{}\"", NAMES[at])];
        let inhibit_rules = self.inhibitions.iter().map(|rule| InhibitRuleConfig {
            source_matchers: named(rule.source),
            target_matchers: named(rule.target),
            equal: vec![rule.equal.to_owned()],
            ..InhibitRuleConfig::default()
        });
        Config {
            route: self.root.config(),
            receivers,
            time_intervals: intervals.collect(),
            inhibit_rules: inhibit_rules.collect(),
            fallback_receiver: self.has_fallback.then(|| "fallback".to_owned()),
            settle: SETTLE,
            notification_deadline: DEADLINE,
            resolve_timeout: RESOLVE_TIMEOUT,
            storm: StormConfig {
                threshold: if self.has_storms { 4 } else { 0 },
                window: MINUTE,
            },
            flapping: FlappingConfig {
                threshold: if self.has_flapping { 3 } else { 0 },
                window: 15 * MINUTE,
                hold: FLAP_HOLD,
            },
            escalation_policies: vec![policy()],
            ..Config::default()
        }
    }
}

fn policy() -> PolicyConfig {
    let step = |after, who: &str| StepConfig {
        after,
        notify: vec![who.to_owned()],
    };
    PolicyConfig {
        name: POLICY.to_owned(),
        steps: vec![step(STEP_AFTER[0], "e1"), step(STEP_AFTER[1], "e2")],
        repeat: Some(RepeatConfig {
            every: ROUND_EVERY,
            times: 1,
        }),
        levels: Vec::new(),
    }
}
