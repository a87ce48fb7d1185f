//! What a case is: a subtree of routes, and what happens at which second.

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_model::{Chance, Timestamp};
use marketprism_testkit::SeededChance;
use serde_json::{Value, json};

use super::compare::Difference;
use super::{kinds, mutes};

pub type Labels = BTreeMap<String, String>;

/// One thing that happens.
pub enum Act {
    Fire(Labels),
    /// And the second at which it had fired.
    Resolve(Labels, u64),
    Silence {
        key: String,
        matchers: Vec<Value>,
    },
    Unsilence {
        key: String,
    },
}

impl Act {
    /// Says it in a few words.
    pub fn told(&self) -> String {
        let names = |labels: &Labels| labels.values().cloned().collect::<Vec<_>>().join("/");
        match self {
            Act::Fire(labels) => format!("fires {}", names(labels)),
            Act::Resolve(labels, _) => format!("ends {}", names(labels)),
            Act::Silence { key, matchers } => format!("silence {key} {}", json!(matchers)),
            Act::Unsilence { key } => format!("end of silence {key}"),
        }
    }
}

pub struct Case {
    /// The value of its label `case`, and the begin of its receivers' names.
    pub name: String,
    pub kind: &'static str,
    /// Names, and whether they are told the end.
    pub receivers: Vec<(String, bool)>,
    pub route: Value,
    pub inhibit_rules: Vec<Value>,
    pub time_intervals: Vec<Value>,
    pub steps: Vec<(u64, Act)>,
    /// How we differ; not at all when `None`.
    pub difference: Option<Difference>,
}

/// Whole numbers from a seed.
pub struct Dice(SeededChance);

impl Dice {
    pub fn below(&self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    pub fn one_of<T: Clone>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }

    pub fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Generates all cases. The timeline begins within `minute`, and the next minute begins at its second `turn`.
pub fn all(minute: i64, turn: u64) -> Vec<Case> {
    let dice = Dice(SeededChance::new(20_260_822));
    let mut cases = Vec::new();
    let mut add = |count: usize, make: &dyn Fn(String, &Dice) -> Case| {
        for _ in 0..count {
            let name = format!("c{:03}", cases.len());
            cases.push(make(name, &dice));
        }
    };
    add(30, &kinds::grouping);
    add(20, &kinds::repeat);
    add(20, &kinds::inhibition);
    add(25, &kinds::silence);
    add(20, &kinds::ways);
    add(15, &kinds::send_resolved);
    // Half of them begin two seconds later, so that not all is sent at once.
    cases.iter_mut().step_by(2).for_each(Case::begin_later);
    let mut add = |count: usize, make: &dyn Fn(String, &Dice) -> Case| {
        for _ in 0..count {
            let name = format!("c{:03}", cases.len());
            cases.push(make(name, &dice));
        }
    };
    add(24, &|name, dice| mutes::plain(name, dice, minute, turn));
    add(3, &|name, _| kinds::closed_under_silence(name));
    add(3, &|name, _| kinds::closed_under_inhibition(name));
    add(3, &|name, dice| {
        mutes::closed_under_mute(name, dice, minute, turn)
    });
    add(3, &|name, _| kinds::untold_end(name));
    add(3, &|name, _| kinds::told_again(name));
    add(3, &|name, _| kinds::fired_again(name));
    cases
}

/// A case of one receiver and one route, told by `group_by` and the three times in seconds.
pub fn case(name: String, kind: &'static str, group_by: &[&str], [wait, interval, repeat]: [u64; 3]) -> Case {
    let route = json!({
        "receiver": name,
        "matchers": [format!("case=\"{name}\"")],
        "group_by": group_by,
        "group_wait": format!("{wait}s"),
        "group_interval": format!("{interval}s"),
        "repeat_interval": format!("{repeat}s"),
    });
    Case {
        receivers: vec![(name.clone(), true)],
        name,
        kind,
        route,
        inhibit_rules: Vec::new(),
        time_intervals: Vec::new(),
        steps: Vec::new(),
        difference: None,
    }
}

impl Case {
    /// Gives labels of an alert of this case.
    pub fn labels(&self, pairs: &[(&str, &str)]) -> Labels {
        let own = [("case", self.name.as_str())];
        let pairs = own.iter().chain(pairs).filter(|(_, value)| !value.is_empty());
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn begin_later(&mut self) {
        for (at, act) in &mut self.steps {
            *at += 2;
            if let Act::Resolve(_, fired) = act {
                *fired += 2;
            }
        }
    }

    pub fn fire(&mut self, second: u64, labels: &Labels) {
        self.steps.push((second, Act::Fire(labels.clone())));
    }

    pub fn resolve(&mut self, second: u64, labels: &Labels) {
        let fired = self.steps.iter().rev().find_map(|(at, act)| match act {
            Act::Fire(fired) if fired == labels => Some(*at),
            _ => None,
        });
        let fired = fired.expect("it fires");
        self.steps.push((second, Act::Resolve(labels.clone(), fired)));
    }

    pub fn silence(&mut self, second: u64, key: &str, matchers: Vec<Value>) {
        let key = key.to_owned();
        self.steps.push((second, Act::Silence { key, matchers }));
    }

    pub fn unsilence(&mut self, second: u64, key: &str) {
        let key = key.to_owned();
        self.steps.push((second, Act::Unsilence { key }));
    }
}

/// A matcher in the words of the API.
pub fn matcher(name: &str, op: &str, value: &str) -> Value {
    json!({"name": name, "value": value, "isRegex": op.contains('~'), "isEqual": op.starts_with('=')})
}

/// An alert in the words of the API.
pub fn alert(labels: &Labels, started: Timestamp, ended: Option<Timestamp>) -> Value {
    let mut alert = json!({
        "labels": labels,
        "annotations": {"summary": "生成的用例", "runbook": format!("https://runbooks.example/{}", labels["case"])},
        "startsAt": started.to_string(),
        "generatorURL": "http://prometheus.example/graph?g0.expr=up",
    });
    if let Some(ended) = ended {
        alert["endsAt"] = json!(ended.to_string());
    }
    alert
}

/// A silence of an hour in the words of the API.
pub fn silence(matchers: &[Value], now: Timestamp) -> Value {
    json!({
        "matchers": matchers,
        "startsAt": now.to_string(),
        "endsAt": (now + Duration::from_secs(3600)).to_string(),
        "createdBy": "wang",
        "comment": "generated",
    })
}

/// Writes the configuration of all cases; JSON is YAML too.
pub fn configuration(cases: &[Case], url: &str) -> String {
    let receiver = |(name, send_resolved): &(String, bool)| json!({"name": name, "webhook_configs": [{"url": url, "send_resolved": send_resolved}]});
    let mut receivers = vec![json!({"name": "nobody"})];
    receivers.extend(cases.iter().flat_map(|case| &case.receivers).map(receiver));
    let all = |part: fn(&Case) -> &Vec<Value>| cases.iter().flat_map(part).collect::<Vec<_>>();
    let configuration = json!({
        "route": {
            "receiver": "nobody",
            "group_by": ["alertname"],
            "routes": cases.iter().map(|case| &case.route).collect::<Vec<_>>(),
        },
        "receivers": receivers,
        "inhibit_rules": all(|case| &case.inhibit_rules),
        "time_intervals": all(|case| &case.time_intervals),
    });
    serde_json::to_string_pretty(&configuration).expect("plain data")
}
