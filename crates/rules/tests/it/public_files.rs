//! Rule files that others wrote, and our own: all must load.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use marketprism_model::Level;
use marketprism_rules::{GroupDefaults, RuleKind, defaults, load, parse_file};

use crate::world::{World, minute};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path
            .extension()
            .is_some_and(|ending| ending == "yml" || ending == "yaml")
        {
            found.push(path);
        }
    }
}

/// Files of Debian packages that the tests need anyway.
const INSTALLED: &[(&str, &str)] = &[
    (
        "/etc/prometheus/ceph/ceph_default_alerts.yml",
        "ceph-prometheus-alerts",
    ),
    (
        "/usr/share/doc/prometheus-node-exporter/example-17-compatibility-rules.yml",
        "prometheus-node-exporter",
    ),
    (
        "/usr/share/doc/prometheus-node-exporter/example-17-compatibility-rules-new-to-old.yml",
        "prometheus-node-exporter",
    ),
    (
        "/usr/share/doc/prometheus-node-exporter/examples/example-rules.yml",
        "prometheus-node-exporter",
    ),
];

/// Gives the public files; see `tests/data/README.md`.
fn public_files() -> (Vec<PathBuf>, bool) {
    let mut found = Vec::new();
    for (path, package) in INSTALLED {
        assert!(
            Path::new(path).is_file(),
            "{path} is missing: apt-get install {package}"
        );
        found.push(PathBuf::from(path));
    }
    let named = std::env::var_os("MARKETPRISM_RULE_CORPORA").map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/rule-corpora");
    let has_corpora = named.is_some() || usual.is_dir();
    if has_corpora {
        files(&named.unwrap_or(usual), &mut found);
    }
    found.sort();
    (found, has_corpora)
}

#[test]
fn every_public_rule_file_loads_and_every_rule_evaluates() {
    let (found, has_corpora) = public_files();
    let mut names = HashSet::new();
    let mut faults = Vec::new();
    let mut rules = 0;
    for path in &found {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.display().to_string();
        if let Err(errors) = parse_file(&name, text.as_bytes(), &GroupDefaults::default()) {
            faults.extend(errors.iter().map(ToString::to_string));
            continue;
        }
        let mut world = World::new(&text);
        world.push(
            &[("__name__", "up"), ("job", "x"), ("instance", "a:1")],
            minute(0),
            Some(0.0),
        );
        world.tick(minute(0));
        for rule in world.groups.iter().flat_map(|group| group.snapshot().rules) {
            rules += 1;
            names.insert((rule.rule.kind_word(), rule.rule.name.to_string()));
            faults.extend(
                rule.last_error
                    .map(|error| format!("{name}: {}: {error}", rule.rule.name)),
            );
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    // Ceph's file alone has 58 rules, each of its own name.
    let least = if has_corpora { 500 } else { 58 };
    assert!(
        names.len() > least,
        "only {} names in {} files",
        names.len(),
        found.len()
    );
    println!("{} files, {rules} rules, {} names", found.len(), names.len());
}

#[test]
fn the_rules_inside_the_program_load_and_speak_two_languages() {
    let loaded = load(&[], Path::new("."), defaults(), &GroupDefaults::default());
    assert!(
        loaded.errors.is_empty() && loaded.warnings.is_empty(),
        "{:?} {:?}",
        loaded.errors,
        loaded.warnings
    );
    assert!(loaded.set.rule_count() >= 30, "{} rules", loaded.set.rule_count());
    let mut names = HashSet::new();
    for rule in loaded.set.groups().iter().flat_map(|group| &group.rules) {
        let RuleKind::Alerting(alert) = &rule.kind else {
            continue;
        };
        assert!(names.insert(rule.name.clone()), "{} stands twice", rule.name);
        for annotation in ["summary", "description", "action"] {
            let chinese = alert.annotations.get(annotation).unwrap_or_default();
            let english = alert
                .annotations
                .get(&format!("{annotation}_en"))
                .unwrap_or_default();
            assert!(
                chinese.chars().any(|c| c as u32 >= 0x4e00),
                "{} {annotation}: {chinese:?}",
                rule.name
            );
            assert!(
                !english.is_empty() && english.is_ascii(),
                "{} {annotation}_en: {english:?}",
                rule.name
            );
        }
        if alert.levels.is_empty() {
            let severity = rule.labels.get("severity").unwrap_or_default();
            // The sign of life is no trouble, so it has no level of its own.
            let is_sign_of_life = &*rule.name == "Watchdog" && severity == "none";
            assert!(
                severity.parse::<Level>().is_ok() || is_sign_of_life,
                "{} has severity {severity:?}",
                rule.name
            );
        }
    }
}

/// promtool knows no levels: it is asked about the same rules without them.
#[test]
fn promtool_accepts_the_rules_inside_the_program() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in defaults() {
        let mut plain = String::new();
        let mut depth = None;
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            if depth.is_some_and(|depth| indent <= depth && !line.trim().is_empty()) {
                depth = None;
            }
            if line.trim() == "levels:" {
                depth = Some(indent);
            }
            if depth.is_none() {
                plain += line;
                plain.push('\n');
            }
        }
        std::fs::write(folder.path().join(name.replace('/', "-")), plain).unwrap();
    }
    let files = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let run = Command::new("promtool")
        .args(["check", "rules"])
        .args(files)
        .output()
        .expect("promtool is missing: apt-get install prometheus");
    assert!(
        run.status.success(),
        "{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
}

#[test]
fn patterns_name_files_beside_the_configuration_and_faulty_files_do_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let group = |name: &str| format!("groups:\n- name: {name}\n  rules:\n  - {{record: {name}, expr: up}}\n");
    write("rules.d/b.yaml", &group("b"));
    write("rules.d/a.yaml", &group("a"));
    write("rules.d/deep/c.yaml", &group("c"));
    write("rules.d/bad.yaml", "groups:\n- nmae: x\n");
    write("single.yml", &group("single"));
    let patterns = [
        "rules.d/*.yaml",
        "single.yml",
        "rules.d/a.yaml",
        "none/*.yml",
        "missing.yml",
    ]
    .map(str::to_owned);
    let loaded = load(
        &patterns,
        folder.path(),
        &[("inside", &group("inside"))],
        &GroupDefaults::default(),
    );
    let names: Vec<&str> = loaded.set.groups().iter().map(|group| &*group.name).collect();
    assert_eq!(names, ["inside", "a", "b", "single"]);
    let told: Vec<String> = loaded
        .errors
        .iter()
        .map(|error| {
            error
                .to_string()
                .replace(&folder.path().display().to_string(), "")
        })
        .collect();
    assert_eq!(
        told,
        [
            "/rules.d/bad.yaml:2:3: unknown field \"nmae\"; did you mean \"name\"?",
            "/missing.yml: No such file or directory (os error 2)",
        ]
    );
}

#[test]
fn no_bytes_make_the_reader_panic() {
    use proptest::prelude::*;
    const PIECES: &[&str] = &[
        "groups:",
        "\n",
        "- ",
        "  ",
        "name: a",
        "rules:",
        "alert: A",
        "record: r",
        "expr: up",
        "for: 5m",
        "labels:",
        "{a: b}",
        "levels:",
        "level: low",
        "when: '> 1'",
        "annotations:",
        "missing: keep",
        "missing:",
        "recover: '< 1'",
        "interval: 1m",
        "jitter: 1s",
        "group: g\n",
        "name: g\n",
        "alert: A\nexpr: up > 2\n",
        "{\"group\": \"g\", \"record\": \"r\", \"expr\": \"1\"}",
        "'{{ $x }}'",
        "&a ",
        "*a",
        "<<: ",
        "|\n",
        ">-\n",
        "\"",
        "\t",
        "[",
        "]",
        "---\n",
        "!!binary ",
        "null",
        "1e9",
    ];
    proptest!(ProptestConfig::with_cases(2000), |(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..40), noise in proptest::collection::vec(any::<u8>(), 0..6))| {
        let mut bytes = pieces.concat().into_bytes();
        marketprism_rules::fuzz(&bytes);
        bytes.extend(noise);
        marketprism_rules::fuzz(&bytes);
    });
}
