//! A backtest in words, Chinese or English.

use std::fmt::Write as _;

use marketprism_rules::Language;
use marketprism_rules::backtest::span;
use serde_json::Value;

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
            "回测区间 {start} 至 {end}，共求值 {evaluations} 次（{}）",
            if method == "columns" {
                "按列批量"
            } else {
                "逐个时刻"
            }
        ),
        Language::English => writeln!(out, "{start} to {end}, {evaluations} evaluations by {method}"),
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
                "\n{name}: fired {fired} times for {firing} in all, {flaps} flaps"
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
            Language::Chinese => writeln!(out, "  {failures} 次求值失败，最近一次：{error}"),
            Language::English => writeln!(out, "  {failures} evaluations failed, the last one: {error}"),
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
            "  {{{}}} fired {fired} times, {longest} at the longest, {flaps} flaps",
            labels.join(", ")
        ),
    };
    let stretches = array(&alert["stretches"]);
    for stretch in stretches.iter().take(STRETCHES_SHOWN) {
        let is_firing = stretch["state"] == "firing";
        let level = string(&stretch["level"]);
        let what = match (is_firing, language) {
            (false, Language::Chinese) => "等待中".to_owned(),
            (false, Language::English) => "pending".to_owned(),
            (true, Language::Chinese) => format!("触发 {level}"),
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
            "\n{total} notifications (no channel is configured; counted for one that hears everything)"
        ),
        (Language::Chinese, false) => writeln!(out, "\n通知 {total} 条：{}", channels.join("，")),
        (Language::English, false) => writeln!(out, "\n{total} notifications: {}", channels.join(", ")),
    };
}

/// Sets the rules beside those of the same names that stand now.
fn compared(out: &mut String, found: &Value, language: Language) {
    let _ = match language {
        Language::Chinese => writeln!(out, "\n与现行规则相比："),
        Language::English => writeln!(out, "\nCompared with the rules that stand:"),
    };
    let present = &found["present"];
    let sum = |document: &Value, name: &Value, field: &str| -> f64 {
        let rules = array(&document["rules"])
            .iter()
            .filter(|rule| rule["name"] == *name);
        rules.filter_map(|rule| rule[field].as_f64()).sum()
    };
    let mut seen: Vec<&Value> = Vec::new();
    for rule in array(&found["rules"])
        .iter()
        .filter(|rule| rule["type"] == "alerting")
    {
        let name = &rule["name"];
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let (before, after) = (sum(present, name, "fired"), sum(found, name, "fired"));
        let (firing_before, firing_after) = (
            span(sum(present, name, "firing_s")),
            span(sum(found, name, "firing_s")),
        );
        let (flaps_before, flaps_after) = (sum(present, name, "flaps"), sum(found, name, "flaps"));
        let _ = match language {
            Language::Chinese => writeln!(
                out,
                "  {}：触发 {before} → {after} 次，累计 {firing_before} → {firing_after}，抖动 {flaps_before} → {flaps_after}",
                string(name)
            ),
            Language::English => writeln!(
                out,
                "  {}: fired {before} → {after}, firing {firing_before} → {firing_after}, flaps {flaps_before} → {flaps_after}",
                string(name)
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
