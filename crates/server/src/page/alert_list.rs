//! How alerts and notifications are drawn in lists.

use marketprism_model::alert::Suppression;
use marketprism_model::{
    Alert, AlertState, AttemptOutcome, DeliveryAttempt, Labels, Notification, NotificationStatus,
};
use maud::{Markup, html};

use super::frame::{View, badge};
use super::language::Texts;
use super::wording;

/// Labels that the name and the badge tell already.
const TOLD_ELSEWHERE: [&str; 2] = ["alertname", "severity"];

/// Draws one line of the list of alerts.
pub fn alert_row(view: &View, alert: &Alert) -> Markup {
    let texts = view.language.texts();
    let since = alert.fired_at.unwrap_or(alert.active_at);
    html! {
        li {
            div { (badge(alert.level)) }
            div.what {
                a.name href=(view.link(&format!("/alerts/{}", alert.id))) { (alert.name()) }
                @let summary = summary(alert);
                @if !summary.is_empty() { div { (summary) } }
                (chips(&alert.labels))
                (attributes(view, alert))
            }
            div.when {
                div { (texts.since) " " (view.since(since)) }
                div.soft { (texts.value) " " span.number { (wording::figure(alert.value)) } }
            }
        }
    }
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
        @if !alert.suppressed_by.is_empty() {
            div.soft { (texts.not_told) @for reason in &alert.suppressed_by { " " (suppression(texts, *reason)) } }
        }
    }
}

/// Says why an alert is not told.
pub const fn suppression(texts: &Texts, reason: Suppression) -> &'static str {
    match reason {
        Suppression::Limit => texts.limit_reason,
    }
}

/// Gives the sentence that tells an alert best.
pub fn summary(alert: &Alert) -> &str {
    let annotation = |name| alert.annotations.get(name);
    annotation("summary")
        .or_else(|| annotation("description"))
        .unwrap_or("")
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
