//! The file that is shipped: every key stands in it, is accepted, and is what it says to be the default.

use super::reader::ReadError;
use super::*;

const SHIPPED: &str = include_str!("../../../../config/config.yaml");

/// Keys that stand in the file with another value than the default, or whose default has no value.
const CHOSEN: [&str; 4] = [
    "version: 2",
    "  level: \"INFO\"",
    "  scrape_interval: 15s",
    "  - rules.d/*.yaml",
];

/// Keys of ours that are taken and have no effect here, so that nobody needs to read of them.
const SILENT: [&str; 26] = [
    "alerting",
    "remote_write",
    "remote_read",
    "scrape_config_files",
    "tracing",
    "otlp",
    "runtime",
    "tsdb",
    "exemplars",
    "query_log_file",
    "scrape_failure_log_file",
    "metric_name_validation_scheme",
    "metric_name_escaping_scheme",
    // The name of a channel says its kind.
    "type",
    // Its place is taken by another key of the same channel.
    "access_token",
    "jwt_secret_file",
    // A file beside this one, instead of the sections below it.
    "alertmanager_config",
    "templates",
    "event_recorder",
    // The root of routes has none of these; they stand at a route below it.
    "labels",
    "matchers",
    "match",
    "match_re",
    "mute_time_intervals",
    "active_time_intervals",
    "continue",
];

/// Takes the `#` from every key: `#key` and `#  key` are YAML, `# words` are words.
fn uncommented(has_examples: bool) -> String {
    let mut is_example = false;
    let mut text = String::new();
    for line in SHIPPED.lines() {
        if line.starts_with("# 示例") {
            is_example = true;
        } else if line.starts_with("# 默认") || line.starts_with("# ---") {
            is_example = false;
        }
        let is_words = line.starts_with("# ") && !line.starts_with("#  ");
        let line = match line.strip_prefix('#') {
            Some(_) if is_words => "",
            Some(yaml) => yaml,
            None => line,
        };
        let is_kept = has_examples || !(is_example || CHOSEN.contains(&line));
        text.push_str(if is_kept { line } else { "" });
        text.push('\n');
    }
    text
}

fn load_text(text: &str) -> Loaded {
    let source = Source {
        text,
        name: "config.yaml",
        folder: Path::new("/etc/marketprism"),
        data_dir: Path::new("data"),
        variable: &|name| match name {
            "SLACK_WEBHOOK_URL" | "DINGTALK_WEBHOOK_URL" => Some("https://example.com/x".to_owned()),
            "JWT_SECRET" => Some("0123456789abcdef0123456789abcdef".to_owned()),
            "DINGTALK_TOKEN" => Some("t".to_owned()),
            name if name.starts_with("SMTP") => Some("ops@example.com".to_owned()),
            _ => None,
        },
        read_secret: &|_| Err("no such file".to_owned()),
        read_text: &|_| Err("no such file".to_owned()),
    };
    parse(&source).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_shipped_file_is_good_and_says_nothing_odd() {
    assert_eq!(load_text(SHIPPED).remarks, [""; 0]);
}

#[test]
fn every_key_of_the_shipped_file_is_accepted() {
    let loaded = load_text(&uncommented(true));
    assert_eq!(loaded.channels.channels.len(), 6);
    assert_eq!(loaded.alerts.receivers.len(), 2);
    assert_eq!(loaded.alerts.schedules.len(), 1);
    assert_eq!(loaded.pools.len(), 1);
    let odd = loaded
        .remarks
        .iter()
        .find(|remark| !remark.contains("has no effect in this version"));
    assert_eq!(odd, None);
}

#[test]
fn what_the_shipped_file_calls_a_default_is_one() {
    let text = uncommented(false);
    let (file, default) = (load_text(&text).config, Config::default());
    let lines = text.lines().filter(|line| line.contains(": ")).count();
    assert!(lines > 50, "only {lines} defaults found");
    // Presence of what has no effect is no difference.
    let written = |config: &Config| format!("{config:#?}").replace("is_present: true", "is_present: false");
    assert_eq!(written(&file), written(&default));
}

/// Asks the program which keys it knows at a place: an unknown one is answered with all known ones.
fn known_at(root: &Node, steps: &[Step]) -> Vec<&'static str> {
    let mut root = root.clone();
    let mut node = &mut root;
    for step in steps {
        node = match (step, &mut node.value) {
            (Step::Key(key), Value::Map(pairs)) => {
                let pair = pairs.iter_mut().find(|pair| pair.key == *key);
                &mut pair.expect("a key of the file").value
            }
            (Step::Item(index), Value::List(items)) => items[*index].as_mut().expect("an item of the file"),
            _ => panic!("a way of the file"),
        };
    }
    let Value::Map(pairs) = &mut node.value else {
        return Vec::new();
    };
    pairs.push(tree::Pair {
        key: "nobody_knows_this".to_owned(),
        at: Place::default(),
        value: Node::text(Place::default(), "x".to_owned()),
    });
    match Config::deserialize(Reader(&root)) {
        Err(ReadError { field, known, .. }) if field.as_deref() == Some("nobody_knows_this") => {
            known.to_vec()
        }
        _ => Vec::new(),
    }
}

fn maps(node: &Node, steps: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    if let Value::Map(pairs) = &node.value {
        found.push(steps.clone());
        for pair in pairs {
            steps.push(Step::Key(pair.key.clone()));
            maps(&pair.value, steps, found);
            steps.pop();
        }
    }
}

#[test]
fn every_key_that_the_program_knows_stands_in_the_shipped_file() {
    let root = tree::read(&fill::masked(&uncommented(true))).root;
    let mut found = Vec::new();
    maps(&root, &mut Vec::new(), &mut found);
    let mut judged = 0;
    for steps in found {
        let (node, _, _) = root.follow(&steps);
        for key in known_at(&root, &steps) {
            judged += 1;
            // The second channel of a kind shows that there can be one; its keys stand at the first. Alertmanager's
            // many global keys stand in the pages.
            let path = join(&root.written(&steps), key);
            let is_again = path.contains("second_robot") || path.starts_with("notification_manager.global.");
            let is_there = node.get(key).is_some() || SILENT.contains(&key) || is_again;
            assert!(is_there, "{path} does not stand in config/config.yaml");
        }
    }
    assert!(judged > 100, "only {judged} keys were asked for");
}
