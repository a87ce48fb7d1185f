//! The documents of the API: how each noun is written as JSON.

use marketprism_model::alert::Suppression;
use marketprism_model::notification::Purpose;
use marketprism_model::{
    Alert, AlertEvent, AlertEventKind, DeliveryAttempt, Labels, Level, Notification, Page, Timestamp,
};
use serde_json::{Map, Value, json};

/// Writes a moment; absent ones are null.
pub fn time(at: impl Into<Option<Timestamp>>) -> Value {
    at.into().map_or(Value::Null, |at| at.to_string().into())
}

/// Writes a number; NaN and the infinities are strings.
pub fn number(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "+Inf".into(),
        None => "-Inf".into(),
    }
}

/// Writes labels or annotations as a map.
pub fn labels(labels: &Labels) -> Value {
    let pairs = labels.iter().map(|(name, value)| (name.to_owned(), value.into()));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// Writes one page of a list.
pub fn page<T>(page: &Page<T>, item: impl Fn(&T) -> Value) -> Value {
    json!({
        "items": page.items.iter().map(item).collect::<Vec<_>>(),
        "next_cursor": page.next_cursor,
    })
}

/// Writes an alert.
pub fn alert(alert: &Alert) -> Value {
    let acknowledged = alert.acknowledged.as_ref().map(|by| {
        json!({
            "by": by.by,
            "at": time(by.at),
            "until": time(by.until),
            "note": by.note,
            "level": by.level,
        })
    });
    json!({
        "id": alert.id,
        "name": alert.name(),
        "state": alert.state,
        "level": alert.level,
        "priority": priority(alert.level),
        "labels": labels(&alert.sent_labels()),
        "annotations": labels(&alert.annotations),
        "value": number(alert.value),
        "active_at": time(alert.active_at),
        "fired_at": time(alert.fired_at),
        "resolved_at": time(alert.resolved_at),
        "updated_at": time(alert.updated_at),
        "group": alert.group,
        "expr": alert.expr,
        "rules": alert.rules.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "fingerprint": format!("{:016x}", alert.fingerprint()),
        "category": alert.category().as_str(),
        "acknowledged": acknowledged,
        "assigned": alert.assigned.as_ref().map(|assigned| {
            json!({ "to": assigned.to, "by": assigned.by, "at": time(assigned.at) })
        }),
        "external": alert.external.as_ref().map(|external| {
            json!({
                "ends_at": time(external.ends_at),
                "is_timeout": external.is_timeout,
                "generator_url": external.generator_url,
            })
        }),
        "incident": alert.incident,
        "flaps": alert.flaps,
        "suppressed_by": suppressions(&alert.suppressed_by),
    })
}

/// Writes why an alert is not told.
pub fn suppressions(reasons: &[Suppression]) -> Value {
    reasons.iter().map(suppression).collect()
}

/// Writes one reason, with what stands behind it.
pub fn suppression(reason: &Suppression) -> Value {
    let mut document = json!({ "reason": reason.as_str() });
    match reason {
        Suppression::Silence(silence) => document["silence"] = json!(silence),
        Suppression::Inhibition(alert) => document["alert"] = json!(alert),
        Suppression::Mute(interval) => document["time_interval"] = interval.as_str().into(),
        Suppression::Limit | Suppression::Storm => {}
    }
    document
}

/// Writes a level as people say it.
pub fn priority(level: Level) -> String {
    level.priority().to_string()
}

/// Writes one line of an alert's story.
pub fn event(event: &AlertEvent) -> Value {
    let mut document = json!({
        "id": event.id,
        "at": time(event.at),
        "actor": event.actor,
    });
    let mut set = |name: &str, value: Value| document[name] = value;
    match &event.kind {
        AlertEventKind::Pending => set("kind", "pending".into()),
        AlertEventKind::Fired { level, reason } => {
            set("kind", "fired".into());
            set("level", level.as_str().into());
            set("reason", reason.clone().into());
        }
        AlertEventKind::LevelChanged { from, to } => {
            set("kind", "level_changed".into());
            set("from", from.as_str().into());
            set("to", to.as_str().into());
        }
        AlertEventKind::Resolved { reason } => {
            set("kind", "resolved".into());
            set("reason", reason.clone().into());
        }
        AlertEventKind::Acknowledged { note } => {
            set("kind", "acknowledged".into());
            set("note", note.clone().into());
        }
        AlertEventKind::Unacknowledged { reason } => {
            set("kind", "unacknowledged".into());
            set("reason", reason.clone().into());
        }
        AlertEventKind::Suppressed { by } => {
            set("kind", "suppressed".into());
            set("by", suppression(by));
        }
        AlertEventKind::Unsuppressed { by } => {
            set("kind", "unsuppressed".into());
            set("by", suppression(by));
        }
        AlertEventKind::Assigned { to } => {
            set("kind", "assigned".into());
            set("to", to.clone().into());
        }
        AlertEventKind::Noted { note } => {
            set("kind", "noted".into());
            set("note", note.clone().into());
        }
        AlertEventKind::Escalated {
            policy,
            step,
            receivers,
        } => {
            set("kind", "escalated".into());
            set("policy", policy.clone().into());
            set("step", (*step).into());
            set("receivers", json!(receivers));
        }
        AlertEventKind::Flapping { count } => {
            set("kind", "flapping".into());
            set("count", (*count).into());
        }
        AlertEventKind::Steady => set("kind", "steady".into()),
        AlertEventKind::JoinedIncident { incident } => {
            set("kind", "joined_incident".into());
            set("incident", json!(incident));
        }
        AlertEventKind::Notified { channel, outcome } => {
            set("kind", "notified".into());
            set("channel", channel.clone().into());
            set("outcome", outcome.clone().into());
        }
    }
    document
}

/// Writes a notification without its attempts.
pub fn notification(notification: &Notification) -> Value {
    let alerts = notification.content.alerts.iter().map(|alert| {
        json!({
            "id": alert.id,
            "state": alert.state,
            "level": alert.level,
            "labels": labels(&alert.labels),
            "starts_at": time(alert.starts_at),
            "ends_at": time(alert.ends_at),
        })
    });
    json!({
        "id": notification.id,
        "group_key": notification.group_key,
        "receiver": notification.receiver,
        "channel": notification.channel,
        "status": notification.status,
        "state": notification.content.state,
        "created_at": time(notification.created_at),
        "due_at": time(notification.due_at),
        "deadline_at": time(notification.deadline_at),
        "attempt_count": notification.attempts,
        "group_labels": labels(&notification.content.group_labels),
        "alerts": alerts.collect::<Vec<_>>(),
        "truncated_alerts": notification.content.truncated_alerts,
        "purpose": purpose(&notification.content.purpose),
    })
}

/// Writes why a message exists.
pub fn purpose(purpose: &Purpose) -> Value {
    match purpose {
        Purpose::Group => json!({ "kind": "group" }),
        Purpose::Escalation { policy, step } => {
            json!({ "kind": "escalation", "policy": policy, "step": step })
        }
        Purpose::Storm => json!({ "kind": "storm" }),
        Purpose::Fallback { receiver, channel } => {
            json!({ "kind": "fallback", "receiver": receiver, "channel": channel })
        }
    }
}

/// Writes one attempt to deliver.
pub fn attempt(attempt: &DeliveryAttempt) -> Value {
    json!({
        "number": attempt.number,
        "started_at": time(attempt.started_at),
        "finished_at": time(attempt.finished_at),
        "outcome": attempt.outcome,
        "provider_code": attempt.provider_code,
        "detail": attempt.detail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_cannot_write_are_words() {
        assert_eq!(number(1.5), json!(1.5));
        assert_eq!(number(f64::NAN), json!("NaN"));
        assert_eq!(number(f64::INFINITY), json!("+Inf"));
        assert_eq!(number(f64::NEG_INFINITY), json!("-Inf"));
    }

    #[test]
    fn every_kind_of_event_names_itself_as_its_record_does() {
        let check = |kind: AlertEventKind| {
            let record = AlertEvent {
                id: marketprism_model::Id::from_u128(1),
                alert: marketprism_model::Id::from_u128(2),
                at: Timestamp::from_millis(0),
                actor: None,
                kind,
            };
            let stored = serde_json::to_value(&record).expect("a record is JSON");
            let told = event(&record);
            for (name, value) in stored.as_object().expect("a map") {
                let is_told_elsewhere = ["alert", "at", "by"].contains(&name.as_str());
                assert!(is_told_elsewhere || told[name] == *value, "{name} of {stored}");
            }
        };
        check(AlertEventKind::Pending);
        check(AlertEventKind::Fired {
            level: Level::High,
            reason: Some("x".into()),
        });
        check(AlertEventKind::LevelChanged {
            from: Level::High,
            to: Level::Critical,
        });
        check(AlertEventKind::Resolved {
            reason: "cleared".into(),
        });
        check(AlertEventKind::Acknowledged { note: "on it".into() });
        check(AlertEventKind::Unacknowledged {
            reason: "until passed".into(),
        });
        check(AlertEventKind::Suppressed {
            by: marketprism_model::alert::Suppression::Limit,
        });
        check(AlertEventKind::Unsuppressed {
            by: marketprism_model::alert::Suppression::Mute("nights".into()),
        });
        check(AlertEventKind::Assigned {
            to: Some("li".into()),
        });
        check(AlertEventKind::Assigned { to: None });
        check(AlertEventKind::Noted { note: "look".into() });
        check(AlertEventKind::Escalated {
            policy: "database".into(),
            step: 2,
            receivers: vec!["li".into()],
        });
        check(AlertEventKind::Flapping { count: 5 });
        check(AlertEventKind::Steady);
        check(AlertEventKind::JoinedIncident {
            incident: marketprism_model::Id::from_u128(3),
        });
        check(AlertEventKind::Notified {
            channel: "mail".into(),
            outcome: "delivered".into(),
        });
    }

    #[test]
    fn a_reason_names_what_stands_behind_it() {
        let id = marketprism_model::Id::from_u128(1);
        let check = |reason: Suppression, expected: Value| assert_eq!(suppression(&reason), expected);
        check(Suppression::Limit, json!({ "reason": "limit" }));
        check(Suppression::Storm, json!({ "reason": "storm" }));
        check(
            Suppression::Silence(id),
            json!({ "reason": "silence", "silence": id }),
        );
        check(
            Suppression::Inhibition(id),
            json!({ "reason": "inhibition", "alert": id }),
        );
        check(
            Suppression::Mute("nights".into()),
            json!({ "reason": "mute", "time_interval": "nights" }),
        );
    }
}
