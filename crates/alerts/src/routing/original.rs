//! Writes routes, inhibition and intervals as an `alertmanager.yml`, for programs that show or test them.
//!
//! `amtool config routes` reads what `/api/v2/status` gives as `config.original`. Receivers are names only, so
//! no secret can stand in it. What Alertmanager has no word for (escalation, calendars, names of inhibition
//! rules) stands in comments, for amtool refuses keys that it does not know.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use marketprism_model::time_interval::format_minute;
use marketprism_model::{TimeInterval, duration};

use super::config::{InhibitRuleConfig, NamedTimeInterval, RouteConfig};
use super::matchers;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// `global.resolve_timeout`.
    pub resolve_timeout: Duration,
    /// `route`.
    pub route: &'a RouteConfig,
    /// `receivers`.
    pub receivers: &'a [&'a str],
    /// `inhibit_rules`.
    pub inhibit_rules: &'a [InhibitRuleConfig],
    /// `time_intervals`.
    pub time_intervals: &'a [NamedTimeInterval],
}

/// Writes the configuration as YAML that Alertmanager and amtool read.
pub fn original(config: &Original<'_>) -> String {
    let mut yaml = Yaml::default();
    yaml.line(0, "global:");
    yaml.line(
        1,
        &format!("resolve_timeout: {}", duration::format(config.resolve_timeout)),
    );
    yaml.line(0, "route:");
    yaml.route(config.route, 1);
    yaml.line(0, "receivers:");
    for receiver in config.receivers {
        yaml.line(0, &format!("- name: {}", quoted(receiver)));
    }
    if !config.inhibit_rules.is_empty() {
        yaml.line(0, "inhibit_rules:");
    }
    for rule in config.inhibit_rules {
        yaml.inhibit_rule(rule);
    }
    if !config.time_intervals.is_empty() {
        yaml.line(0, "time_intervals:");
    }
    for interval in config.time_intervals {
        yaml.line(0, &format!("- name: {}", quoted(&interval.name)));
        yaml.line(1, "time_intervals:");
        for part in &interval.time_intervals {
            yaml.interval(part, 1);
        }
    }
    yaml.0
}

#[derive(Default)]
struct Yaml(String);

impl Yaml {
    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.0, "{:1$}{text}", "", 2 * depth);
    }

    fn list(&mut self, depth: usize, key: &str, words: &[String]) {
        if !words.is_empty() {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            self.line(depth, &format!("{key}: [{}]", words.join(", ")));
        }
    }

    fn map(&mut self, depth: usize, key: &str, pairs: &BTreeMap<String, String>) {
        if !pairs.is_empty() {
            self.line(depth, &format!("{key}:"));
        }
        for (name, value) in pairs {
            self.line(depth + 1, &format!("{}: {}", quoted(name), quoted(value)));
        }
    }

    /// Matchers are written as they were understood; a text that was not stays as it is.
    fn matchers(&mut self, depth: usize, key: &str, texts: &[String]) {
        let written: Vec<String> = texts
            .iter()
            .flat_map(|text| match matchers::parse(text) {
                Ok(matchers) => matchers.iter().map(matchers::write_one).collect(),
                Err(_) => vec![text.clone()],
            })
            .collect();
        self.list(depth, key, &written);
    }

    fn comment(&mut self, depth: usize, key: &str, word: &str) {
        self.line(depth, &format!("# {key}: {}", quoted(word)));
    }

    fn route(&mut self, route: &RouteConfig, depth: usize) {
        if let Some(receiver) = &route.receiver {
            self.line(depth, &format!("receiver: {}", quoted(receiver)));
        }
        match route.group_by.as_deref() {
            Some([]) => self.line(depth, "group_by: []"),
            Some(labels) => self.list(depth, "group_by", labels),
            None => {}
        }
        for (key, span) in [
            ("group_wait", route.group_wait),
            ("group_interval", route.group_interval),
            ("repeat_interval", route.repeat_interval),
        ] {
            if let Some(span) = span {
                self.line(depth, &format!("{key}: {}", duration::format(span)));
            }
        }
        self.map(depth, "match", &route.match_equal);
        self.map(depth, "match_re", &route.match_regex);
        self.matchers(depth, "matchers", &route.matchers);
        self.list(depth, "mute_time_intervals", &route.mute_time_intervals);
        self.list(depth, "active_time_intervals", &route.active_time_intervals);
        if let Some(escalation) = &route.escalation {
            self.comment(depth, "escalation", escalation);
        }
        self.line(depth, &format!("continue: {}", route.is_continuing));
        if !route.routes.is_empty() {
            self.line(depth, "routes:");
        }
        for child in &route.routes {
            self.line(depth, "-");
            self.route(child, depth + 1);
        }
    }

    fn inhibit_rule(&mut self, rule: &InhibitRuleConfig) {
        self.line(0, "-");
        if let Some(name) = &rule.name {
            self.comment(1, "name", name);
        }
        self.map(1, "source_match", &rule.source_match);
        self.map(1, "source_match_re", &rule.source_match_re);
        self.matchers(1, "source_matchers", &rule.source_matchers);
        self.map(1, "target_match", &rule.target_match);
        self.map(1, "target_match_re", &rule.target_match_re);
        self.matchers(1, "target_matchers", &rule.target_matchers);
        let labels: Vec<String> = rule.equal.iter().map(|label| quoted(label)).collect();
        self.line(1, &format!("equal: [{}]", labels.join(", ")));
    }

    fn interval(&mut self, interval: &TimeInterval, depth: usize) {
        let times: Vec<String> = interval
            .times
            .iter()
            .map(|times| {
                let (start, end) = (format_minute(times.start_minute), format_minute(times.end_minute));
                format!("{{start_time: \"{start}\", end_time: \"{end}\"}}")
            })
            .collect();
        // A list of its own, so that an interval without parts is a map without keys, not a null.
        let mut parts = vec![format!("times: [{}]", times.join(", "))];
        if times.is_empty() {
            parts.clear();
        }
        for (key, words) in interval.spans() {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            if !words.is_empty() {
                parts.push(format!("{key}: [{}]", words.join(", ")));
            }
        }
        if let Some(location) = &interval.location {
            parts.push(format!("location: {}", quoted(location)));
        }
        if let Some(calendar) = &interval.calendar {
            self.comment(depth, "calendar", &calendar.name);
        }
        self.line(depth, &format!("- {{{}}}", parts.join(", ")));
    }
}

/// Writes any text so that YAML 1.1 and 1.2 read the same: in double quotes, with all but plain letters escaped.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            plain if plain == ' ' || plain.is_ascii_graphic() || plain.is_alphanumeric() => out.push(plain),
            other if (other as u32) <= 0xffff => {
                let _ = write!(out, "\\u{:04x}", other as u32);
            }
            other => {
                let _ = write!(out, "\\U{:08x}", other as u32);
            }
        }
    }
    out.push('"');
    out
}
