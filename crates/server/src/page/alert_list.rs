//! How alerts and notifications are drawn in lists.

use marketprism_model::alert::Suppression;
use marketprism_model::{
    Alert, AlertState, AttemptOutcome, DeliveryAttempt, Labels, Notification, NotificationStatus, Timestamp,
};
use maud::{Markup, html};

use super::frame::{View, badge};
use super::language::{Language, Texts};
use super::wording;

/// Labels that the name and the badge tell already.
const TOLD_ELSEWHERE: [&str; 2] = ["alertname", "severity"];

/// Draws one line of the list of alerts.
pub fn alert_row(view: &View, alert: &Alert) -> Markup {
    let texts = view.language.texts();
    html! {
        li {
            div { (badge(alert.level)) }
            div.what {
                a.name href=(view.link(&format!("/alerts/{}", alert.id))) { (alert.name()) }
                @let summary = summary(view, alert);
                @if !summary.is_empty() { div { (summary) } }
                (chips(&alert.labels))
                (attributes(view, alert))
            }
            div.when {
                div { (texts.since) " " (view.since(since(alert))) }
                @if has_value(alert) {
                    div.soft { (texts.value) " " span.number { (wording::figure(alert.value)) } }
                }
            }
        }
    }
}

/// Since when an alert stands, for people: since it fires, else since its condition holds. A sender may have named a
/// begin that is still to come.
pub fn since(alert: &Alert) -> Timestamp {
    alert.fired_at.unwrap_or(alert.active_at)
}

/// Says whether an alert has a value: one of another program that no rule of ours sees has none.
pub fn has_value(alert: &Alert) -> bool {
    alert.external.is_none() || !alert.expr.is_empty()
}

/// Draws who has an alert in hand and why it is not told.
pub fn attributes(view: &View, alert: &Alert) -> Markup {
    let texts = view.language.texts();
    html! {
        @if let Some(taken) = &alert.acknowledged {
            div.soft {
                "✓ " (texts.acknowledged_by) b { (taken.by) }
                @if let Some(until) = taken.until { ", " (texts.until) " " (view.moment(until)) }
                @if !taken.note.is_empty() { " – " (taken.note) }
            }
        }
        @if alert.suppressed_by.contains(&Suppression::Storm) { div.soft { (texts.storm_reason) } }
        @if alert.suppressed_by.iter().any(is_untold) {
            div.soft {
                (texts.not_told)
                @for reason in alert.suppressed_by.iter().filter(|by| is_untold(by)) { " " (suppression(view, reason)) }
            }
        }
        @if let Some(assigned) = &alert.assigned { div.soft { (texts.assigned_to) b { (assigned.to) } } }
        @if alert.flaps > 0 { div.soft { (texts.flaps) " " (alert.flaps) } }
    }
}

/// Says whether nobody is told for this reason; in a storm a digest tells it.
fn is_untold(reason: &Suppression) -> bool {
    *reason != Suppression::Storm
}

/// Says why an alert is not told, with a way to what stands behind it.
pub fn suppression(view: &View, reason: &Suppression) -> Markup {
    let texts = view.language.texts();
    html! {
        @match reason {
            Suppression::Limit => (texts.limit_reason),
            Suppression::Storm => (texts.storm_reason),
            Suppression::Silence(id) => { (texts.silence_reason) " " span.number { (id) } },
            Suppression::Inhibition(id) => { a href=(view.link(&format!("/alerts/{id}"))) { (texts.inhibition_reason) } },
            Suppression::Mute(interval) => { (texts.mute_reason) " " (interval) },
        }
    }
}

/// Gives the sentence that tells an alert best, in the language of the page where the rule has it.
pub fn summary(view: &View, alert: &Alert) -> String {
    let told = told_annotations(view.language, &alert.annotations);
    let find = |wanted: &str| told.iter().find(|(name, _)| *name == wanted);
    let best = find("summary").or_else(|| find("description"));
    best.map_or_else(String::new, |(_, text)| (*text).to_owned())
}

/// Gives the annotations of one language: `summary_en` stands for `summary` on an English page, and is absent on a
/// Chinese one.
pub fn told_annotations(language: Language, annotations: &Labels) -> Vec<(&str, &str)> {
    let (own, other) = match language {
        Language::Chinese => ("_zh", "_en"),
        Language::English => ("_en", "_zh"),
    };
    let has = |name: &str, suffix: &str| annotations.get(&format!("{name}{suffix}"));
    let mut told: Vec<(&str, &str)> = Vec::new();
    for (name, text) in annotations {
        let base = name
            .strip_suffix(own)
            .or_else(|| name.strip_suffix(other))
            .unwrap_or(name);
        let is_only_one = has(base, "").is_none() && has(base, own).is_none();
        if name == base && has(base, own).is_none() || name.ends_with(own) || is_only_one {
            told.push((base, text));
        }
    }
    told
}

/// Says whether an alert is a sign of life and not a trouble: by custom, a dead-man's switch has the severity `none`.
pub fn is_sign_of_life(alert: &Alert) -> bool {
    alert.labels.get("severity") == Some("none")
}

/// Draws labels as chips.
pub fn chips(labels: &Labels) -> Markup {
    html! {
        div.chips {
            @for (name, value) in labels.iter().filter(|(name, _)| !TOLD_ELSEWHERE.contains(name)) {
                span.chip { (name) " " b { (value) } }
            }
        }
    }
}

/// Draws one line of the list of notifications.
pub fn notification_row(view: &View, notification: &Notification, attempts: &[DeliveryAttempt]) -> Markup {
    let texts = view.language.texts();
    let names = names(notification);
    let state = match notification.content.state {
        AlertState::Resolved => texts.resolved,
        AlertState::Pending => texts.pending,
        AlertState::Firing => texts.firing,
    };
    html! {
        li {
            div { (status_pill(texts, notification.status)) }
            div.what {
                span.name { (names) } " " span.soft { (state) }
                div.soft {
                    (notification.channel) " → " (notification.receiver)
                    " · " (texts.attempts) " " (notification.attempts)
                    @if let Some(last) = attempts.last() {
                        " · " (outcome(texts, last.outcome))
                        @if last.provider_code != 0 { " " (last.provider_code) }
                        @if !last.detail.is_empty() && last.outcome != AttemptOutcome::Delivered { ": " (last.detail) }
                    }
                }
            }
            div.when { (view.moment(notification.created_at)) }
        }
    }
}

fn names(notification: &Notification) -> String {
    let mut names: Vec<&str> = notification
        .content
        .alerts
        .iter()
        .filter_map(|alert| alert.labels.get("alertname"))
        .collect();
    names.sort_unstable();
    names.dedup();
    let count = notification.content.alerts.len() + notification.content.truncated_alerts as usize;
    let mut text = names.into_iter().take(3).collect::<Vec<_>>().join(", ");
    if count > 1 {
        text.push_str(&format!(" × {count}"));
    }
    text
}

/// Draws where a notification stands.
pub fn status_pill(texts: &Texts, status: NotificationStatus) -> Markup {
    let (class, text) = match status {
        NotificationStatus::Waiting => ("pill wait", texts.status_waiting),
        NotificationStatus::Sending => ("pill wait", texts.status_sending),
        NotificationStatus::Delivered => ("pill good", texts.status_delivered),
        NotificationStatus::Failed => ("pill bad", texts.status_failed),
    };
    html! { span class=(class) { (text) } }
}

/// Says how an attempt ended.
pub const fn outcome(texts: &Texts, outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Started => texts.outcome_started,
        AttemptOutcome::Delivered => texts.outcome_delivered,
        AttemptOutcome::Retry => texts.outcome_retry,
        AttemptOutcome::Refused => texts.outcome_refused,
        AttemptOutcome::Uncertain => texts.outcome_uncertain,
    }
}

/// Says how a notification ended, by the word of its event; an unknown word stands for itself.
pub fn outcome_word<'a>(texts: &Texts, word: &'a str) -> &'a str {
    match word {
        "delivered" => texts.status_delivered,
        "failed" => texts.status_failed,
        "uncertain" => texts.outcome_uncertain,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_told_in_the_language_of_the_page() {
        let check = |language, pairs: &[(&str, &str)], expected: &[(&str, &str)]| {
            let annotations = Labels::from_pairs(pairs.iter().copied());
            assert_eq!(told_annotations(language, &annotations), expected);
        };
        let both = [("summary", "磁盘将满"), ("summary_en", "disk fills")];
        check(Language::Chinese, &both, &[("summary", "磁盘将满")]);
        check(Language::English, &both, &[("summary", "disk fills")]);
        let plain = [("runbook_url", "https://x"), ("summary", "s")];
        check(Language::Chinese, &plain, &plain);
        check(Language::English, &plain, &plain);
        let one = [("summary_zh", "磁盘将满")];
        check(Language::English, &one, &[("summary", "磁盘将满")]);
        let marked = [("summary_en", "disk fills"), ("summary_zh", "磁盘将满")];
        check(Language::Chinese, &marked, &[("summary", "磁盘将满")]);
    }
}
