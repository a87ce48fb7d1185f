//! Older forms of the configuration file, and what became of their keys.
//!
//! Form 0 is the Python program that came before, form 1 MarketPrism 0.1, form 2 the present one, which is the
//! deployment guide's. A file says its form by `version`; without it the form is the present one. Keys of older forms
//! are taken all the same, with a remark, so that an upgrade starts; `marketprism config migrate` rewrites them.

use super::fault::Fault;
use super::tree::{Node, Pair, Place, Step, Value};

/// The present form.
pub const VERSION: u64 = 2;

/// A key that stands elsewhere now.
pub struct Move {
    /// Where it stood.
    pub from: &'static str,
    /// Where it stands.
    pub to: &'static str,
}

const fn moved(from: &'static str, to: &'static str) -> Move {
    Move { from, to }
}

/// Keys that moved, sections before what is in them.
pub const MOVES: [Move; 4] = [
    // Form 0.
    moved("notifications", "notification_manager"),
    moved(
        "alert_rules.evaluation_interval",
        "alert_manager.evaluation_interval",
    ),
    moved(
        "anomaly_detection.statistical_threshold",
        "anomaly_detection.statistical.threshold",
    ),
    // Form 1.
    moved(
        "notification_manager.max_workers",
        "performance.concurrency.max_workers",
    ),
];

/// Keys of form 0 that nothing here corresponds to.
pub const GONE: [&str; 5] = [
    "alert_rules",
    "failure_prediction",
    "anomaly_detection.statistical_window",
    "anomaly_detection.seasonal_window",
    "anomaly_detection.seasonal_period",
];

/// Two keys of form 0 that became one: host and port of `server.listen`.
pub const LISTEN: (&str, &str, &str) = ("server.host", "server.port", "server.listen");

/// Splits a path of plain keys.
pub fn steps(path: &str) -> Vec<Step> {
    path.split('.').map(|key| Step::Key(key.to_owned())).collect()
}

/// Gives the value at a path of plain keys, and the place of its key.
pub fn find<'a>(root: &'a Node, path: &str) -> Option<(&'a Node, Place)> {
    let steps = steps(path);
    let (node, at, taken) = root.follow(&steps);
    (taken == steps.len()).then_some((node, at))
}

/// Gives the text that host and port of form 0 become, when one of them is there.
pub fn listen(root: &Node) -> Option<(String, Place)> {
    let (host, port) = (find(root, LISTEN.0), find(root, LISTEN.1));
    let at = host.or(port)?.1;
    let text = |found: Option<(&Node, Place)>, default: &str| {
        let text = found.and_then(|(node, _)| node.as_text());
        text.map_or_else(|| default.to_owned(), str::to_owned)
    };
    let host = text(host, "0.0.0.0");
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host
    };
    Some((format!("{host}:{}", text(port, "8082")), at))
}

/// What an older key has become, for a remark.
pub struct Lifted {
    /// Where it stands.
    pub at: Place,
    /// What is said about it.
    pub remark: String,
}

/// Brings a tree into the present form. Says what it changed; a key in both forms is a fault.
pub fn lift(root: &mut Node, faults: &mut Vec<Fault>) -> Vec<Lifted> {
    let mut lifted = Vec::new();
    judge_version(root, faults);
    let both = |at, old: &str, new: &str| {
        Fault::of_key(
            at,
            old,
            format!("is {new} now, which stands there too; remove one of them"),
        )
    };
    for Move { from, to } in &MOVES {
        let Some((node, at)) = find(root, from).map(|(node, at)| (node.clone(), at)) else {
            continue;
        };
        root.remove(&steps(from));
        if find(root, to).is_some() {
            faults.push(both(at, from, to));
            continue;
        }
        insert(root, &steps(to), at, node);
        lifted.push(Lifted {
            at,
            remark: format!("{from} is {to} now"),
        });
    }
    if let Some((text, at)) = listen(root) {
        let (host, port, to) = LISTEN;
        for key in [host, port] {
            root.remove(&steps(key));
        }
        if find(root, to).is_some() {
            faults.push(both(at, &format!("{host} and port"), to));
        } else {
            insert(root, &steps(to), at, Node::text(at, text));
            lifted.push(Lifted {
                at,
                remark: format!("{host} and port are {to} now"),
            });
        }
    }
    for gone in GONE {
        let Some((node, at)) = find(root, gone) else {
            continue;
        };
        let is_emptied = matches!(&node.value, Value::Map(pairs) if pairs.is_empty());
        root.remove(&steps(gone));
        if !is_emptied {
            lifted.push(Lifted {
                at,
                remark: format!("{gone} has no effect any more"),
            });
        }
    }
    lifted
}

fn judge_version(root: &Node, faults: &mut Vec<Fault>) {
    let Some(pair) = root.get("version") else { return };
    let version = pair.value.as_text().and_then(|text| text.parse::<u64>().ok());
    // What is no number is told by whoever reads the value.
    if version.is_some_and(|version| version > VERSION) {
        let reason = format!("is newer than {VERSION}, the newest form that this program knows");
        faults.push(Fault::of_key(pair.value.at, "version", reason));
    }
}

/// Puts a value at a path; whatever is missing on the way is made.
fn insert(root: &mut Node, steps: &[Step], at: Place, node: Node) {
    let mut parent = root;
    for (index, step) in steps.iter().enumerate() {
        let Step::Key(key) = step else { return };
        if parent.is_null() {
            *parent = Node::empty(parent.at);
        }
        let Value::Map(pairs) = &mut parent.value else {
            return;
        };
        let position = pairs.iter().position(|pair| pair.key == *key);
        let position = position.unwrap_or_else(|| {
            let value = Node::empty(at);
            pairs.push(Pair {
                key: key.clone(),
                at,
                value,
            });
            pairs.len() - 1
        });
        if index + 1 == steps.len() {
            pairs[position].value = node;
            return;
        }
        parent = &mut pairs[position].value;
    }
}
