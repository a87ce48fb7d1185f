//! Compares the messages of both sides, and knows where we mean to differ.

use std::collections::BTreeMap;

use marketprism_testkit::ReceivedRequest;
use serde_json::{Value, json};

use super::cases::Case;

/// A message may come this many seconds earlier or later than Alertmanager's: one interval of a group, and the width
/// of the windows in which arrivals are noted.
const APART: u64 = 6;

/// Where we mean to differ from Alertmanager.
#[derive(Clone, Copy, Debug)]
pub enum Difference {
    /// Whatever was opened is closed, even while it is silenced, inhibited or muted. Alertmanager says nothing, and a
    /// pager stays open (alertmanager#226, #3664).
    ClosedWhileQuiet,
    /// The end of an alert of which nobody heard is not told; Alertmanager sends a message about it.
    UntoldEnd,
    /// An alert that was told and fell silent for a while was told all the same. Alertmanager forgets that with the
    /// next message of its group, and tells it a second time as if it were new.
    ToldAgain,
    /// An alert that ended and fires again is news. A receiver that hears no ends heard none of the first, so
    /// Alertmanager takes the second for it and says nothing.
    FiredAgain,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// What it says, without what differs by nature: the order of alerts and the program's own address.
    pub says: Value,
    /// The second of the timeline until which it had come.
    pub at: u64,
}

/// Sorts messages by receiver and group, in the order of arrival.
pub fn by_group(received: &[ReceivedRequest], at: impl Fn(usize) -> u64) -> BTreeMap<String, Vec<Message>> {
    let mut groups: BTreeMap<String, Vec<Message>> = BTreeMap::new();
    for (nth, request) in received.iter().enumerate() {
        let says = normal(&request.json());
        let key = format!("{} {}", text(&says["receiver"]), text(&says["groupKey"]));
        groups.entry(key).or_default().push(Message { says, at: at(nth) });
    }
    groups
}

/// Picks the groups of a case.
pub fn of_case(messages: &BTreeMap<String, Vec<Message>>, case: &Case) -> BTreeMap<String, Vec<Message>> {
    let is_own = |key: &str| {
        let receiver = key.split(' ').next().unwrap_or("");
        case.receivers.iter().any(|(name, _)| name == receiver)
    };
    let own = messages.iter().filter(|(key, _)| is_own(key));
    own.map(|(key, messages)| (key.clone(), messages.clone()))
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// Writes a moment without zeros at its end; that of an alert that has no end yet as nothing.
fn moment(value: &Value) -> String {
    let text = text(value).trim_end_matches('Z');
    let moment = match text.split_once('.') {
        Some((_, fraction)) if !fraction.trim_end_matches('0').is_empty() => text.trim_end_matches('0'),
        Some((seconds, _)) => seconds,
        None => text,
    };
    if moment.starts_with("0001-01-01") {
        String::new()
    } else {
        moment.to_owned()
    }
}

fn normal(message: &Value) -> Value {
    let no_alerts = Vec::new();
    let alerts = message["alerts"].as_array().unwrap_or(&no_alerts);
    let mut alerts: Vec<Value> = alerts
        .iter()
        .map(|alert| {
            json!({
                "status": alert["status"],
                "labels": alert["labels"],
                "annotations": alert["annotations"],
                "startsAt": moment(&alert["startsAt"]),
                "endsAt": if alert["status"] == "firing" { String::new() } else { moment(&alert["endsAt"]) },
                "generatorURL": alert["generatorURL"],
                "fingerprint": alert["fingerprint"],
            })
        })
        .collect();
    alerts.sort_by_key(|alert| text(&alert["fingerprint"]).to_owned());
    let same = [
        "version",
        "status",
        "receiver",
        "groupKey",
        "groupLabels",
        "commonLabels",
        "commonAnnotations",
        "truncatedAlerts",
    ];
    let mut says: serde_json::Map<String, Value> = same
        .iter()
        .map(|field| ((*field).to_owned(), message[*field].clone()))
        .collect();
    says.insert("alerts".to_owned(), Value::Array(alerts));
    Value::Object(says)
}

type Groups = BTreeMap<String, Vec<Message>>;

/// Says what is wrong, if the two sides are not as the case wants them.
pub fn judge(case: &Case, theirs: &Groups, ours: &Groups) -> Result<(), String> {
    let is_right = match case.difference {
        None => {
            let has_same_keys = theirs.keys().eq(ours.keys());
            has_same_keys && theirs.iter().all(|(key, theirs)| is_same(theirs, &ours[key]))
        }
        Some(difference) => is_meant(difference, theirs, ours),
    };
    if is_right {
        return Ok(());
    }
    let steps: Vec<String> = case
        .steps
        .iter()
        .map(|(at, act)| format!("    {at:2} {}", act.told()))
        .collect();
    let shown = |groups: &Groups| {
        let lines = groups.iter().flat_map(|(key, messages)| {
            let lines = messages
                .iter()
                .map(|message| format!("      {:2} {}", message.at, summary(&message.says)));
            std::iter::once(format!("    {key}"))
                .chain(lines)
                .collect::<Vec<_>>()
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    Err(format!(
        "{} ({}), {:?}\n  route {}\n  steps\n{}\n  Alertmanager\n{}\n  MarketPrism\n{}\n{}",
        case.name,
        case.kind,
        case.difference,
        case.route,
        steps.join("\n"),
        shown(theirs),
        shown(ours),
        first_difference(theirs, ours),
    ))
}

/// Shows two messages in full when summaries look alike.
fn first_difference(theirs: &Groups, ours: &Groups) -> String {
    for (key, theirs) in theirs {
        let ours = ours.get(key).map_or(&[][..], Vec::as_slice);
        if let Some((one, other)) = theirs
            .iter()
            .zip(ours)
            .find(|(one, other)| one.says != other.says)
        {
            return format!(
                "  first difference in {key}\n    {}\n    {}",
                one.says, other.says
            );
        }
    }
    String::new()
}

fn summary(says: &Value) -> String {
    let alerts = says["alerts"].as_array().map_or(&[][..], Vec::as_slice);
    let alerts = alerts.iter().map(|alert| {
        let labels = &alert["labels"];
        let names = ["alertname", "instance", "severity", "number"].map(|name| text(&labels[name]));
        format!("{} {}", names.join("/"), text(&alert["status"]))
    });
    format!(
        "{}: {}",
        text(&says["status"]),
        alerts.collect::<Vec<_>>().join(", ")
    )
}

fn is_same(theirs: &[Message], ours: &[Message]) -> bool {
    theirs.len() == ours.len()
        && theirs
            .iter()
            .zip(ours)
            .all(|(theirs, ours)| theirs.says == ours.says && theirs.at.abs_diff(ours.at) <= APART)
}

/// Finds a message of the first that satisfies `is_extra` and without which it is the second.
fn is_same_but_one(more: &Groups, less: &Groups, is_extra: impl Fn(&[Message], &Message) -> bool) -> bool {
    more.iter().any(|(key, messages)| {
        (0..messages.len()).any(|nth| {
            let mut rest = messages.clone();
            let extra = rest.remove(nth);
            let mut others = more.clone();
            if rest.is_empty() {
                others.remove(key);
            } else {
                others.insert(key.clone(), rest);
            }
            let is_rest_same = others.keys().eq(less.keys())
                && others.iter().all(|(key, others)| is_same(others, &less[key]));
            is_rest_same && is_extra(&messages[..nth], &extra)
        })
    })
}

fn statuses<'a>(message: &'a Message, status: &str) -> Vec<&'a Value> {
    let alerts = message.says["alerts"].as_array().map_or(&[][..], Vec::as_slice);
    alerts
        .iter()
        .filter(|alert| alert["status"] == status)
        .map(|alert| &alert["fingerprint"])
        .collect()
}

fn is_meant(difference: Difference, theirs: &Groups, ours: &Groups) -> bool {
    let was_told = |before: &[Message], fingerprint: &Value| {
        before
            .iter()
            .any(|message| statuses(message, "firing").contains(&fingerprint))
    };
    match difference {
        Difference::ClosedWhileQuiet => is_same_but_one(ours, theirs, |before, extra| {
            let ended = statuses(extra, "resolved");
            extra.says["status"] == "resolved"
                && !ended.is_empty()
                && ended.iter().all(|one| was_told(before, one))
        }),
        Difference::FiredAgain => is_same_but_one(ours, theirs, |before, extra| {
            let firing = statuses(extra, "firing");
            firing.len() == 2 && firing.iter().all(|one| was_told(before, one))
        }),
        Difference::UntoldEnd => is_same_but_one(theirs, ours, |before, extra| {
            let ended = statuses(extra, "resolved");
            !ended.is_empty() && ended.iter().all(|one| !was_told(before, one))
        }),
        Difference::ToldAgain => is_same_but_one(theirs, ours, |before, extra| {
            let firing = statuses(extra, "firing");
            firing.len() == 3 && firing.iter().all(|one| was_told(before, one))
        }),
    }
}
