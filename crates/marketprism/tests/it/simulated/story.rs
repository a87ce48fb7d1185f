//! What happened in truth, what the receivers heard of it, and whether the two agree.

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_testkit::FakeWorld;

/// An alert's name and its instance.
pub type Name = (String, String);

/// One stretch of time in which something was wrong with one target. Times are the monotonic clock's.
#[derive(Clone, Debug)]
pub struct Episode {
    pub alert: &'static str,
    pub instance: String,
    /// The rule's `for`.
    pub hold_for: Duration,
    pub begin: Duration,
    pub end: Duration,
    /// Whether it lasted longer than the rule's `for`, and so must be told; it must not be otherwise.
    pub is_long: bool,
    /// How long after its begin it was told at the earliest; `None` where a jump of the clock shortens it.
    pub told_after: Option<Duration>,
    /// How long after its begin it was told at the latest; `None` where a receiver's weather decides.
    pub told_within: Option<Duration>,
    /// What else happened meanwhile.
    pub note: String,
}

impl Episode {
    /// Gives alert and instance.
    pub fn name(&self) -> Name {
        (self.alert.to_owned(), self.instance.clone())
    }
}

/// One message that a receiver has, though it may have come more than once.
#[derive(Clone, Debug)]
pub struct Message {
    pub status: String,
    pub severity: String,
    pub at: Duration,
}

/// What a receiver heard, by alert and instance, in the order of first arrival. Fails when one message came more often
/// than its cut connections explain.
pub fn heard(world: &FakeWorld, host: &str) -> BTreeMap<Name, Vec<Message>> {
    let mut heard: BTreeMap<Name, Vec<Message>> = BTreeMap::new();
    let (mut taken, mut cut): (BTreeMap<String, usize>, BTreeMap<String, usize>) = Default::default();
    for arrival in world.arrivals(host).iter().filter(|arrival| arrival.is_taken) {
        let key = arrival.header("idempotency-key").to_owned();
        assert!(!key.is_empty(), "a message without a name: {arrival:?}");
        let count = taken.entry(key.clone()).or_default();
        *count += 1;
        *cut.entry(key.clone()).or_default() += usize::from(arrival.is_cut);
        if *count > 1 {
            continue;
        }
        let body = arrival.json();
        for alert in body["alerts"].as_array().expect("a list of alerts") {
            let label = |name: &str| alert["labels"][name].as_str().unwrap_or("").to_owned();
            let message = Message {
                status: alert["status"].as_str().expect("a status").to_owned(),
                severity: label("severity"),
                at: arrival.elapsed,
            };
            heard
                .entry((label("alertname"), label("instance")))
                .or_default()
                .push(message);
        }
    }
    for (key, count) in &taken {
        assert!(
            count - 1 <= cut[key],
            "{host}: message {key} came {count} times, cut {} times",
            cut[key]
        );
    }
    heard
}

/// Holds what a receiver heard against what happened: every long episode once as firing and once as resolved, in time
/// and in order, and nothing else.
pub fn judge(host: &str, heard: &BTreeMap<Name, Vec<Message>>, episodes: &[Episode]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expected: BTreeMap<Name, Vec<&Episode>> = BTreeMap::new();
    for episode in episodes.iter().filter(|episode| episode.is_long) {
        expected.entry(episode.name()).or_default().push(episode);
    }
    for name in heard.keys().filter(|name| !expected.contains_key(*name)) {
        faults.push(format!(
            "{host}: {name:?} was told and never happened: {:?}",
            heard[name]
        ));
    }
    for (name, episodes) in expected {
        let mut messages = heard
            .get(&name)
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .peekable();
        for (number, episode) in episodes.iter().enumerate() {
            let until = episodes.get(number + 1).map_or(Duration::MAX, |next| next.begin);
            let mut own = Vec::new();
            while let Some(message) = messages.next_if(|message| message.at < until) {
                own.push(message);
            }
            if let Some(fault) = judge_one(episode, &own) {
                faults.push(format!(
                    "{host}: {fault}, {}\n  {episode:?}\n  {own:?}",
                    episode.note
                ));
            }
        }
    }
    faults
}

fn judge_one(episode: &Episode, own: &[Message]) -> Option<String> {
    let statuses: Vec<&str> = own.iter().map(|message| message.status.as_str()).collect();
    if statuses != ["firing", "resolved"] {
        return Some(format!("told as {statuses:?}"));
    }
    if own[0].at < episode.begin || own[1].at < episode.end {
        return Some("told before it was so".to_owned());
    }
    let took = own[0].at - episode.begin;
    if episode.told_after.is_some_and(|limit| took < limit) {
        return Some(format!(
            "told after {took:?}, before the condition held long enough"
        ));
    }
    match episode.told_within {
        Some(limit) if took > limit => Some(format!("told after {took:?}, later than {limit:?}")),
        _ => None,
    }
}
