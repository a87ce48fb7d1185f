//! What the documents say of keys and commands, held against the program and the shipped configuration.
//!
//! The program is asked for its keys, not its source: an unknown key is answered with all known ones. Both languages are
//! held against the same answers, so that neither falls behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use marketprism::config::Config;
use serde_json::{Value, json};

const PAGES: [&str; 2] = ["docs/configuration.md", "docs/configuration.zh-CN.md"];
const READMES: [&str; 2] = ["README.md", "README.zh-CN.md"];
const KINDS: [&str; 4] = ["email", "slack", "dingtalk", "webhook"];
const MANUALS: [&str; 2] = ["docs/operating/README.md", "docs/operating/README.zh-CN.md"];
const NOBODY: &str = "nobody_knows_this";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Gives what stands between backticks.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What a page says: each key with its default, empty where it says none; and the keys that have no effect.
#[derive(Default)]
struct Page {
    keys: BTreeMap<String, String>,
    without_effect: BTreeSet<String>,
}

impl Page {
    fn read(name: &str) -> Page {
        let (mut page, mut sections) = (Page::default(), vec![String::new()]);
        for line in read(name).lines() {
            if line.starts_with("## ") || line.starts_with("### ") {
                sections = sections_of(line);
                continue;
            }
            let cells: Vec<&str> = match line.strip_prefix("| ") {
                Some(row) => row
                    .strip_suffix('|')
                    .unwrap_or(row)
                    .split('|')
                    .map(str::trim)
                    .collect(),
                None => continue,
            };
            if let [key, _, default, _] = cells[..]
                && let [key] = spans(key)[..]
            {
                for section in &sections {
                    let default = spans(default).first().copied().unwrap_or_default();
                    let path = joined(section, key);
                    let is_new = page.keys.insert(path.clone(), default.to_owned()).is_none();
                    assert!(is_new, "{name} has {path} twice");
                }
            } else if let [place, keys] = cells[..]
                && place
                    .trim_matches('`')
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || "_[]".contains(c))
            {
                let place = place.trim_matches('`');
                page.without_effect
                    .extend(spans(keys).iter().map(|key| joined(place, key)));
            }
        }
        page
    }
}

/// Gives the sections that a heading names; one for all channels stands for each kind.
fn sections_of(heading: &str) -> Vec<String> {
    let named = spans(heading);
    let expanded = named
        .iter()
        .flat_map(|section| match section.strip_suffix(".channels.*") {
            Some(manager) => KINDS.map(|kind| format!("{manager}.channels.{kind}")).to_vec(),
            None => vec![(*section).to_owned()],
        });
    let sections: Vec<String> = expanded.collect();
    if sections.is_empty() {
        vec![String::new()]
    } else {
        sections
    }
}

fn joined(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

/// Wraps a value in the maps and lists of a path, `a.b[].c`.
fn wrapped(path: &str, innermost: Value) -> Value {
    path.split('.')
        .filter(|step| !step.is_empty())
        .rev()
        .fold(innermost, |value, step| match step.strip_suffix("[]") {
            Some(key) => json!({ key: [value] }),
            None => json!({ step: value }),
        })
}

/// Asks the program which keys it knows at a place; none when the place is a value and no section.
fn known_at(path: &str) -> Vec<String> {
    let answer = serde_json::from_value::<Config>(wrapped(path, json!({ NOBODY: 1 })));
    let said = answer.err().map(|error| error.to_string()).unwrap_or_default();
    let Some((unknown, known)) = said.split_once(", expected ") else {
        return Vec::new();
    };
    if !unknown.contains("unknown field") || !unknown.contains(NOBODY) {
        return Vec::new();
    }
    spans(known).into_iter().map(str::to_owned).collect()
}

/// Sections in Alertmanager's words. The pages name their keys in tables of another form, and refer to Alertmanager's own
/// documentation for the rest.
const ALERTMANAGERS: [&str; 7] = [
    "notification_manager.global",
    "notification_manager.inhibit_rules",
    "notification_manager.mute_time_intervals",
    "notification_manager.receivers",
    "notification_manager.route.routes",
    "notification_manager.schedules[].layers[].within",
    "notification_manager.time_intervals",
];

/// Lists of sections; in the shipped file each has an example in whatever form is short.
const LISTS: [&str; 3] = [
    "notification_manager.calendars",
    "notification_manager.escalation_policies",
    "notification_manager.schedules",
];

fn is_below(path: &str, sections: &[&str]) -> bool {
    sections.iter().any(|section| {
        path.strip_prefix(section)
            .is_some_and(|rest| rest.starts_with(['.', '[']))
    })
}

/// Collects the program's keys below a place.
fn collect(path: &str, leaves: &mut BTreeSet<String>) {
    if ALERTMANAGERS.contains(&path) {
        leaves.insert(path.to_owned());
        return;
    }
    let own = known_at(path);
    let listed = format!("{path}[]");
    if !own.is_empty() {
        for key in own {
            collect(&joined(path, &key), leaves);
        }
    } else if !path.ends_with("[]") && !known_at(&listed).is_empty() {
        collect(&listed, leaves);
    } else if path.ends_with(".channels") {
        for kind in KINDS {
            collect(&joined(path, kind), leaves);
        }
    } else if path.ends_with(".http_headers") {
        collect(&joined(path, "*"), leaves);
    } else {
        leaves.insert(path.to_owned());
    }
}

#[test]
fn both_pages_list_every_key_that_the_program_knows_and_no_other() {
    let mut known = BTreeSet::new();
    collect("", &mut known);
    assert!(known.len() > 250, "only {} keys were told", known.len());
    for name in PAGES {
        let page = Page::read(name);
        let written: BTreeSet<String> = page.keys.keys().chain(&page.without_effect).cloned().collect();
        let missing: Vec<_> = known.difference(&written).collect();
        let invented: Vec<_> = written.difference(&known).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
        assert!(invented.is_empty(), "the program knows no {invented:?} of {name}");
    }
}

#[test]
fn both_pages_name_what_receivers_and_routes_take_in_alertmanagers_words() {
    let places = [
        "notification_manager.receivers[]",
        "notification_manager.receivers[].webhook_configs[]",
        "notification_manager.receivers[].email_configs[]",
        "notification_manager.receivers[].slack_configs[]",
        "notification_manager.receivers[].webhook_configs[].http_config",
        "notification_manager.route.routes[]",
        "notification_manager.inhibit_rules[]",
    ];
    for name in PAGES {
        let text = read(name);
        let named: BTreeSet<&str> = spans(&text).into_iter().collect();
        let mut asked = 0;
        for place in places {
            let known = known_at(place);
            assert!(!known.is_empty(), "the program knows no {place}");
            for key in known {
                asked += 1;
                assert!(named.contains(key.as_str()), "{name} lacks {key} of {place}");
            }
        }
        assert!(asked > 90, "only {asked} keys were asked for");
    }
}

/// Reads the shipped file with every `#` taken away: each key with its value, and whether that is the default.
fn shipped() -> BTreeMap<String, (String, bool)> {
    let (mut keys, mut parents, mut is_default) = (BTreeMap::new(), Vec::<(usize, String)>::new(), true);
    for line in read("config/config.yaml").lines() {
        if line.starts_with("# ") && !line.starts_with("#  ") {
            is_default = !line.starts_with("# 示例") && (is_default || line.starts_with("# 默认"));
            is_default |= line.starts_with("# ---");
            continue;
        }
        let line = line.strip_prefix('#').unwrap_or(line).replace("- ", "  ");
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let depth = key.len() - key.trim_start().len();
        parents.retain(|(other, _)| *other < depth);
        let is_key = key.trim().bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !is_key {
            continue;
        }
        parents.push((depth, key.trim().to_owned()));
        let path: Vec<&str> = parents.iter().map(|(_, key)| key.as_str()).collect();
        let path = path.join(".").replace("second_robot", "dingtalk");
        let path = path.replace("scrape_configs.", "scrape_configs[].");
        let path = path.replace("static_configs.", "static_configs[].");
        let value = value
            .split("  ")
            .find(|part| !part.trim().is_empty())
            .unwrap_or_default();
        let value = value.trim().trim_matches('"').to_owned();
        keys.entry(path).or_insert((value, is_default));
    }
    keys
}

#[test]
fn the_pages_and_the_shipped_file_name_the_same_keys_and_defaults() {
    let shipped = shipped();
    for name in PAGES {
        let page = Page::read(name);
        let sections = |path: &str| {
            page.keys.keys().any(|key| {
                key.strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with(['.', '[']))
            })
        };
        let mut compared = 0;
        let own = shipped
            .iter()
            .filter(|(path, _)| !is_below(path, &ALERTMANAGERS) && !is_below(path, &LISTS));
        for (path, (value, is_default)) in own {
            let written = page.keys.get(path);
            assert!(
                written.is_some() || sections(path),
                "{name} lacks {path} of the shipped file"
            );
            let Some(default) = written.filter(|default| *is_default && !default.is_empty()) else {
                continue;
            };
            // The shipped file chooses these two itself, and both pages say so.
            if !["global.scrape_interval", "rule_files"].contains(&path.as_str()) {
                assert_eq!(default, value, "{name}: {path}");
                compared += 1;
            }
        }
        assert!(compared > 50, "only {compared} defaults were compared in {name}");
        for path in page
            .keys
            .keys()
            .filter(|path| !path.starts_with("scrape_configs") && !is_below(path, &LISTS))
        {
            // Names say the kind of a channel; the other is shown in a remark of the file.
            // So are keys that stand elsewhere than at the root of routes, and the file instead of all of them.
            let is_silent = path.ends_with(".type")
                || path.ends_with(".jwt_secret_file")
                || path.ends_with(".alertmanager_config")
                || path.starts_with("notification_manager.route.");
            assert!(
                is_silent || shipped.contains_key(path),
                "{path} of {name} is not in the shipped file"
            );
        }
    }
}

/// Gives the YAML examples of a page, moved to the left margin.
fn examples(name: &str) -> Vec<String> {
    let text = read(name);
    let blocks = text
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let to_margin = |block: &str| {
        let lines: Vec<&str> = block.lines().collect();
        let indents = lines.iter().filter(|line| !line.trim().is_empty());
        let margin = indents
            .map(|line| line.len() - line.trim_start().len())
            .min()
            .unwrap_or(0);
        let moved: Vec<&str> = lines
            .iter()
            .map(|line| line.get(margin..).unwrap_or(""))
            .collect();
        moved.join("\n") + "\n"
    };
    blocks.map(to_margin).collect()
}

#[test]
fn examples_of_the_documents_are_accepted_by_the_program() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let (config, rules) = (home.path().join("config.yaml"), home.path().join("rules.yaml"));
    let mut judged = 0;
    for name in READMES.iter().chain(&PAGES).chain(&MANUALS) {
        for example in examples(name) {
            let (kind, file, text) = if example.starts_with("channels:") {
                let indented = example.replace('\n', "\n  ");
                (
                    "config",
                    &config,
                    format!("notification_manager:\n  {}\n", indented.trim_end()),
                )
            } else if example.starts_with("- alert:") {
                let indented = example.replace('\n', "\n      ");
                let text = format!(
                    "groups:\n  - name: example\n    rules:\n      {}\n",
                    indented.trim_end()
                );
                ("rules", &rules, text)
            } else {
                ("rules", &rules, example)
            };
            std::fs::write(file, &text).expect("write the example");
            let output = Command::new(env!("CARGO_BIN_EXE_marketprism"))
                .args(["check", kind])
                .arg(file)
                .current_dir(home.path())
                .envs([("SMTP_USERNAME", "you@example.com"), ("SMTP_PASSWORD", "x")])
                .output()
                .expect("the program starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {said}\n{text}");
            judged += 1;
        }
    }
    assert_eq!(judged, 12, "four of each README, one of each other page");
}

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_marketprism"))
        .args(words)
        .arg("--help")
        .output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{words:?} --help");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Lists the commands below `words` as they are typed.
fn commands(words: &[&str], found: &mut Vec<String>) {
    let text = help(words);
    let Some((_, list)) = text.split_once("\nCommands:\n") else {
        found.push(words.join(" "));
        return;
    };
    for line in list.lines().take_while(|line| !line.is_empty()) {
        let name = line
            .split_whitespace()
            .next()
            .expect("a line of a list is not empty");
        if name != "help" {
            commands(&[words, &[name]].concat(), found);
        }
    }
}

#[test]
fn both_readmes_name_every_command_of_the_program_and_none_besides() {
    let mut known = Vec::new();
    commands(&[], &mut known);
    assert!(known.len() >= 14, "{known:?}");
    for name in READMES {
        let text = read(name);
        for command in &known {
            assert!(
                text.contains(&format!("marketprism {command}")),
                "{name} lacks `marketprism {command}`"
            );
        }
        let rows = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `marketprism "));
        for row in rows {
            let is_known = known.iter().any(|command| row.starts_with(command.as_str()));
            assert!(is_known, "{name} names `marketprism {row}`");
        }
    }
}

#[test]
fn links_of_the_documents_lead_to_files() {
    let mut checked = 0;
    for name in PAGES
        .iter()
        .chain(&READMES)
        .chain(&MANUALS)
        .chain(&["CONTRIBUTING.md"])
    {
        let text = read(name);
        let folder = root()
            .join(name)
            .parent()
            .expect("a file has a folder")
            .to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                assert!(folder.join(file).exists(), "{name} links to {link}");
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "only {checked} links");
}
