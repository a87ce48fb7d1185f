//! The page of one alert: what it is, what happened, who was told.

use marketprism_alerts::{ChannelExplanation, Explanation, GroupExplanation};
use marketprism_model::{AlertEvent, AlertEventKind, AlertState, Level};
use maud::{Markup, html};

use super::alert_list::{
    attributes, has_value, notification_row, outcome_word, since, status_pill, summary, suppression,
    told_annotations,
};
use super::frame::{View, badge, card, empty};
use super::wording;
use crate::api::alerts::Story;

/// Draws the page's inside.
pub fn story(view: &View, story: &Story) -> Markup {
    let texts = view.language.texts();
    let alert = &story.alert;
    let hero = if alert.state == AlertState::Resolved {
        "card hero quiet".to_owned()
    } else {
        format!("card hero {}", alert.level)
    };
    let ended_or_now = alert.resolved_at.unwrap_or(view.now);
    let events = html! {
        @if story.events.is_empty() { (empty(texts.no_events)) }
        ol.story { @for event in &story.events { (event_row(view, event)) } }
    };
    let notifications = html! {
        @if story.notifications.is_empty() { (empty(texts.no_notifications)) }
        ul.rows {
            @for (notification, attempts) in &story.notifications {
                (notification_row(view, notification, attempts))
            }
        }
    };
    html! {
        section class=(hero) {
            div {
                h1 { (badge(alert.level)) " " (alert.name()) }
                div { (summary(view, alert)) }
                (attributes(view, alert))
                @if let Some(at) = story.digest_told_at() { div.soft { (texts.digest_told) " " (view.moment(at)) } }
            }
            div.state {
                span.pill { (state(view, alert.state)) }
                span.pill { (texts.since) " " (wording::span(texts, ended_or_now.since(since(alert)))) }
                @if has_value(alert) { span.pill { (texts.value) " " (wording::figure(alert.value)) } }
            }
        }
        div.half { (card("story", texts.story, None, &events)) }
        div.half { (card("facts", texts.labels, None, &facts(view, story))) }
        @if let Some(why) = story.why.as_ref().filter(|why| !why.groups.is_empty()) {
            (card("why", texts.who_hears, None, &who_hears(view, story, why)))
        }
        (card("notifications", texts.notifications, Some(story.notifications.len()), &notifications))
        p { a href=(view.link("/")) { "← " (texts.back) } }
    }
}

/// Draws the groups of an alert: who hears of each, when, and what was told.
fn who_hears(view: &View, story: &Story, why: &Explanation) -> Markup {
    let texts = view.language.texts();
    html! {
        @if !why.is_telling { p { (texts.telling_off) } }
        @if let Some(at) = why.settles_at { p.soft { (texts.settles) " " (view.moment(at)) } }
        ul.rows {
            @for group in &why.groups {
                li {
                    div.what {
                        span.name { (group.receiver) }
                        @if let Some(place) = &group.place { " " span.soft { (place) } }
                        @if !group.muted_by.is_empty() {
                            div.soft {
                                (texts.mute_reason) " " (group.muted_by.join(", "))
                                @if let Some(until) = group.muted_until { " " (texts.until) " " (view.moment(until)) }
                            }
                        }
                        @if group.channels.is_empty() { div.soft { (texts.no_channel) } }
                        @for channel in &group.channels {
                            div.soft {
                                (channel.channel) ": "
                                (heard(view, story, group, channel))
                            }
                        }
                        @if let Some(policy) = &group.policy {
                            div.soft {
                                (texts.escalation) " " (policy)
                                @if let Some(at) = group.step_due_at { " · " (texts.next_step) " " (view.moment(at)) }
                            }
                        }
                    }
                    div.when { (texts.next_look) " " (view.moment(group.due_at)) }
                }
            }
        }
    }
}

/// Draws what a channel heard of the alert: that it was told only when the message arrived.
fn heard(view: &View, story: &Story, group: &GroupExplanation, channel: &ChannelExplanation) -> Markup {
    let texts = view.language.texts();
    let Some(level) = channel.told else {
        return html! { (texts.not_told_yet) };
    };
    let Some(message) = story.message(&group.key, &channel.channel) else {
        // Its message is older than those that are shown.
        return html! { (texts.told) " " (badge(level)) };
    };
    match message.told_at() {
        Some(at) => html! { (texts.told) " " (badge(level)) " " (view.moment(at)) },
        None => html! {
            (status_pill(texts, message.notification.status)) " " (badge(level)) " "
            (view.moment(message.notification.created_at))
            @if message.notification.attempts > 0 { " · " (texts.attempts) " " (message.notification.attempts) }
        },
    }
}

fn facts(view: &View, story: &Story) -> Markup {
    let texts = view.language.texts();
    let alert = &story.alert;
    let labels = alert.sent_labels();
    let runbook = alert
        .annotations
        .get("runbook_url")
        .filter(|url| is_web_address(url));
    html! {
        table { @for (name, value) in &labels { tr { th { (name) } td { (value) } } } }
        @if !alert.annotations.is_empty() {
            h3 { (texts.annotations) }
            table { @for (name, value) in told_annotations(view.language, &alert.annotations) { tr { th { (name) } td { (value) } } } }
        }
        @if let Some(url) = runbook { p { a href=(url) rel="noreferrer noopener" { (texts.runbook) } } }
        h3 { @if !alert.expr.is_empty() { (texts.expression) " · " } (texts.group) " " (alert.group) }
        @if !alert.expr.is_empty() {
            pre { a href=(view.link(&format!("/graph?g0.expr={}", encoded(&alert.expr)))) { (alert.expr) } }
        }
        table {
            tr { th { (texts.began) } td { (view.moment(alert.active_at.min(since(alert)))) } }
            @if let Some(at) = alert.fired_at { tr { th { (texts.fired) } td { (view.moment(at)) } } }
            @if let Some(at) = alert.resolved_at { tr { th { (texts.ended) } td { (view.moment(at)) } } }
        }
    }
}

fn state(view: &View, state: AlertState) -> &'static str {
    let texts = view.language.texts();
    match state {
        AlertState::Pending => texts.pending,
        AlertState::Firing => texts.firing,
        AlertState::Resolved => texts.resolved,
    }
}

/// Annotations come from rule files; only a web address may become a link.
fn is_web_address(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// Writes a text so that it can stand in a query string.
pub fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn event_row(view: &View, event: &AlertEvent) -> Markup {
    let texts = view.language.texts();
    let level = |level: Level| html! { " " (badge(level)) };
    let words = |text: &str| html! { @if !text.is_empty() { div.soft { (text) } } };
    let known = |text: &str| words(&wording::reason(view.language, text));
    let (class, text, detail) = match &event.kind {
        AlertEventKind::Pending => ("wait", texts.event_pending, html! {}),
        AlertEventKind::Fired { level: at, reason } => (
            "bad",
            texts.event_fired,
            html! { (level(*at)) (known(reason.as_deref().unwrap_or(""))) },
        ),
        AlertEventKind::LevelChanged { from, to } => (
            if to > from { "bad" } else { "wait" },
            texts.event_level,
            html! { (level(*from)) " →" (level(*to)) },
        ),
        AlertEventKind::Resolved { reason } => ("good", texts.event_resolved, known(reason)),
        AlertEventKind::Acknowledged { note } => ("", texts.event_acknowledged, words(note)),
        AlertEventKind::Unacknowledged { reason } => ("", texts.event_unacknowledged, known(reason)),
        AlertEventKind::Suppressed { by } => (
            "",
            texts.event_suppressed,
            html! { div.soft { (suppression(view, by)) } },
        ),
        AlertEventKind::Unsuppressed { by } => (
            "",
            texts.event_unsuppressed,
            html! { div.soft { (suppression(view, by)) } },
        ),
        AlertEventKind::Assigned { to: Some(to) } => ("", texts.event_assigned, html! { " " (to) }),
        AlertEventKind::Assigned { to: None } => ("", texts.event_unassigned, html! {}),
        AlertEventKind::Noted { note } => ("", texts.event_noted, known(note)),
        AlertEventKind::Escalated {
            policy,
            step,
            receivers,
        } => (
            "bad",
            texts.event_escalated,
            html! { " " (policy) " #" (step) (words(&receivers.join(", "))) },
        ),
        AlertEventKind::Flapping { count } => ("wait", texts.event_flapping, html! { " " (count) "×" }),
        AlertEventKind::Steady => ("good", texts.event_steady, html! {}),
        AlertEventKind::JoinedIncident { incident } => {
            ("", texts.event_joined_incident, words(&incident.to_string()))
        }
        AlertEventKind::Notified { channel, outcome } => (
            if outcome == "delivered" { "good" } else { "bad" },
            texts.event_notified,
            html! { " " (channel) ": " (outcome_word(texts, outcome)) },
        ),
    };
    html! {
        li class=(class) {
            span.name { (text) } (detail)
            div.soft { (view.moment(event.at)) @if let Some(actor) = &event.actor { " · " (actor) } }
        }
    }
}
