//! A backtest in words, Chinese or English.

use std::fmt::Write as _;

use marketprism_rules::Language;
use marketprism_rules::backtest::span;
use serde_json::Value;

use crate::commands::several;

/// So many alerts of a rule are listed; the others are counted.
const ALERTS_SHOWN: usize = 20;
/// So many stretches of an alert are listed.
const STRETCHES_SHOWN: usize = 10;

/// Writes what the answer says.
pub fn text(found: &Value, language: Language) -> String {
    let mut out = String::new();
    let (start, end) = (moment(&found["start"]), moment(&found["end"]));
    let (evaluations, method) = (&found["evaluations"], string(&found["method"]));
    let _ = match language {
        Language::Chinese => writeln!(
            out,
            "回测区间 {start} 至 {end}，共评估 {evaluations} 次（{}）",
            if method == "columns" {
                "按列批量"
            } else {
                "逐个时刻"
            }
        ),
        Language::English => writeln!(
            out,
            "{start} to {end}, {} by {method}",
            several(evaluations, "evaluation")
        ),
    };
    for rule in array(&found["rules"]) {
        rule_text(&mut out, rule, language);
    }
    told_text(&mut out, &found["notifications"], language);
    if found["present"].is_object() {
        compared(&mut out, found, language);
    }
    out
}

fn rule_text(out: &mut String, rule: &Value, language: Language) {
    let name = string(&rule["name"]);
    let failures = rule["failures"].as_u64().unwrap_or(0);
    if rule["type"] == "alerting" {
        let (fired, flaps) = (&rule["fired"], &rule["flaps"]);
        let firing = span(rule["firing_s"].as_f64().unwrap_or(0.0));
        let _ = match language {
            Language::Chinese => writeln!(out, "\n{name}：触发 {fired} 次，累计 {firing}，抖动 {flaps} 次"),
            Language::English => writeln!(
                out,
                "\n{name}: fired {} for {firing} in all, {}",
                several(fired, "time"),
                several(flaps, "flap")
            ),
        };
    } else {
        let _ = match language {
            Language::Chinese => writeln!(out, "\n{name}：记录规则"),
            Language::English => writeln!(out, "\n{name}: recording rule"),
        };
    }
    if failures > 0 {
        let error = rule["last_error"].as_str().unwrap_or_default();
        let _ = match language {
            Language::Chinese => writeln!(out, "  {failures} 次评估失败，最近一次：{error}"),
            Language::English => writeln!(
                out,
                "  {} failed, the last one: {error}",
                several(&failures, "evaluation")
            ),
        };
    }
    let alerts = array(&rule["alerts"]);
    for alert in alerts.iter().take(ALERTS_SHOWN) {
        alert_text(out, alert, language);
    }
    if alerts.len() > ALERTS_SHOWN {
        more(out, "  ", alerts.len() - ALERTS_SHOWN, language);
    }
}

fn alert_text(out: &mut String, alert: &Value, language: Language) {
    let labels = alert["labels"].as_object().into_iter().flatten();
    let labels = labels.filter(|(name, _)| *name != "alertname");
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
    let longest = span(alert["longest_s"].as_f64().unwrap_or(0.0));
    let (fired, flaps) = (&alert["fired"], &alert["flaps"]);
    let _ = match language {
        Language::Chinese => writeln!(
            out,
            "  {{{}}} 触发 {fired} 次，最长 {longest}，抖动 {flaps} 次",
            labels.join(", ")
        ),
        Language::English => writeln!(
            out,
            "  {{{}}} fired {}, {longest} at the longest, {}",
            labels.join(", "),
            several(fired, "time"),
            several(flaps, "flap")
        ),
    };
    let stretches = array(&alert["stretches"]);
    for stretch in stretches.iter().take(STRETCHES_SHOWN) {
        let is_firing = stretch["state"] == "firing";
        let level = string(&stretch["level"]);
        let what = match (is_firing, language) {
            (false, Language::Chinese) => "等待中".to_owned(),
            (false, Language::English) => "pending".to_owned(),
            (true, Language::Chinese) => format!("触发（{}）", chinese_level(level)),
            (true, Language::English) => format!("firing {level}"),
        };
        let until = match stretch["is_open"] == true {
            true if language == Language::Chinese => "（区间结束时仍在持续）".to_owned(),
            true => "(still so at the end)".to_owned(),
            false => moment(&stretch["to"]),
        };
        let _ = writeln!(out, "    {} → {until}  {what}", moment(&stretch["from"]));
    }
    if stretches.len() > STRETCHES_SHOWN {
        more(out, "    ", stretches.len() - STRETCHES_SHOWN, language);
    }
}

/// Names a level as the picture does; what is no level stays as it is.
fn chinese_level(level: &str) -> &str {
    match level {
        "low" => "低",
        "medium" => "中",
        "high" => "高",
        "critical" => "严重",
        other => other,
    }
}

fn more(out: &mut String, indent: &str, count: usize, language: Language) {
    let _ = match language {
        Language::Chinese => writeln!(out, "{indent}…… 另有 {count} 条，见 --json"),
        Language::English => writeln!(out, "{indent}… and {count} more, see --json"),
    };
}

fn told_text(out: &mut String, told: &Value, language: Language) {
    let channels = told["by_channel"].as_object().into_iter().flatten();
    let channels: Vec<String> = channels.map(|(name, count)| format!("{name} {count}")).collect();
    let total = &told["total"];
    let is_supposed = told["is_supposed"] == true;
    let _ = match (language, is_supposed) {
        (Language::Chinese, true) => writeln!(
            out,
            "\n通知 {total} 条（未配置通道，按一个接收全部消息的通道估算）"
        ),
        (Language::English, true) => writeln!(
            out,
            "\n{} (no channel is configured; counted for one that hears everything)",
            several(total, "notification")
        ),
        (Language::Chinese, false) => writeln!(out, "\n通知 {total} 条：{}", channels.join("，")),
        (Language::English, false) => writeln!(
            out,
            "\n{}: {}",
            several(total, "notification"),
            channels.join(", ")
        ),
    };
}

/// What the alerting rules of one name come to.
struct Sums {
    fired: u64,
    flaps: u64,
    firing: String,
}

impl Sums {
    /// Adds up the rules of one name; `None` when there is none.
    fn of(document: &Value, name: &str) -> Option<Self> {
        let rules: Vec<&Value> = alerting(document)
            .filter(|rule| string(&rule["name"]) == name)
            .collect();
        let count = |field: &str| rules.iter().filter_map(|rule| rule[field].as_u64()).sum();
        let seconds: f64 = rules.iter().filter_map(|rule| rule["firing_s"].as_f64()).sum();
        (!rules.is_empty()).then(|| Sums {
            fired: count("fired"),
            flaps: count("flaps"),
            firing: span(seconds),
        })
    }
}

fn alerting(document: &Value) -> impl Iterator<Item = &Value> {
    let rules = array(&document["rules"]).iter();
    rules.filter(|rule| rule["type"] == "alerting")
}

/// Sets the rules beside those of the same names that they are compared with.
fn compared(out: &mut String, found: &Value, language: Language) {
    out.push_str(language.of(
        "\n与对照规则相比（对照 → 本次）：\n",
        "\nBeside the rules they are compared with (those → these):\n",
    ));
    let present = &found["present"];
    let mut names: Vec<&str> = Vec::new();
    for rule in alerting(found).chain(alerting(present)) {
        let name = string(&rule["name"]);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let (before, after) = (Sums::of(present, name), Sums::of(found, name));
        let shown =
            |one: &Option<Sums>, what: &dyn Fn(&Sums) -> String| one.as_ref().map_or("–".into(), what);
        let both =
            |what: &dyn Fn(&Sums) -> String| format!("{} → {}", shown(&before, what), shown(&after, what));
        let fired = both(&|one| one.fired.to_string());
        let firing = both(&|one| one.firing.clone());
        let flaps = both(&|one| one.flaps.to_string());
        let note = match (&before, &after) {
            (None, _) => language.of("（对照中没有）", " (not among those)"),
            (_, None) => language.of("（本次没有）", " (not among these)"),
            _ => "",
        };
        let _ = match language {
            Language::Chinese => writeln!(
                out,
                "  {name}：触发 {fired} 次，累计 {firing}，抖动 {flaps}{note}"
            ),
            Language::English => writeln!(
                out,
                "  {name}: fired {fired}, firing {firing}, flaps {flaps}{note}"
            ),
        };
    }
    let (before, after) = (
        &present["notifications"]["total"],
        &found["notifications"]["total"],
    );
    let _ = match language {
        Language::Chinese => writeln!(out, "  通知 {before} → {after} 条"),
        Language::English => writeln!(out, "  notifications {before} → {after}"),
    };
}

/// Gives a moment without its milliseconds.
fn moment(value: &Value) -> String {
    let text = string(value);
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text.to_owned(),
    }
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use marketprism_rules::Language;
    use serde_json::{Value, json};

    use super::text;

    fn document(rules: &[(&str, u64)]) -> Value {
        let rules = rules.iter().map(|(name, fired)| {
            json!({"name": name, "type": "alerting", "fired": fired, "flaps": 0, "firing_s": 60.0 * *fired as f64, "alerts": []})
        });
        json!({
            "start": "2026-01-01T00:00:00.000Z", "end": "2026-01-02T00:00:00.000Z", "evaluations": 1, "method": "ticks",
            "rules": rules.collect::<Vec<_>>(), "notifications": {"total": 1, "by_channel": {}, "is_supposed": true},
        })
    }

    #[test]
    fn rules_that_only_one_side_has_are_named_and_counted_as_absent() {
        let mut found = document(&[("Same", 2), ("New", 1)]);
        found["present"] = document(&[("Same", 0), ("Old", 3)]);
        let check = |language: Language, expected: &[&str]| {
            let told = text(&found, language);
            for line in expected {
                assert!(told.lines().any(|one| one == *line), "{line}\n{told}");
            }
        };
        check(
            Language::English,
            &[
                "2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z, 1 evaluation by ticks",
                "  Same: fired 0 → 2, firing 0s → 2m, flaps 0 → 0",
                "  New: fired – → 1, firing – → 1m, flaps – → 0 (not among those)",
                "  Old: fired 3 → –, firing 3m → –, flaps 0 → – (not among these)",
            ],
        );
        check(
            Language::Chinese,
            &[
                "  Same：触发 0 → 2 次，累计 0s → 2m，抖动 0 → 0",
                "  New：触发 – → 1 次，累计 – → 1m，抖动 – → 0（对照中没有）",
                "  Old：触发 3 → – 次，累计 3m → –，抖动 0 → –（本次没有）",
            ],
        );
    }
}
