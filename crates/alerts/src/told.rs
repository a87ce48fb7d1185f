//! What the log says of alerts and messages, and the traces by which one is found from the other.
//!
//! An alert is a trace: its id, a UUID, is its trace id in 32 hexadecimal digits. A notification is a trace too, of its
//! own id, which goes out with every attempt to deliver it. They are not the same, for alerts reach people in groups:
//! one message may speak of a thousand alerts, and one alert be told through five channels and again every four hours.
//! The line in which alerts become a message belongs to the message's trace and names the alerts; so the id of an
//! alert finds the line of its beginning and the lines of its messages, and the trace of a message finds its delivery.
//! Deliberately absent: the ids of all alerts in a large message. The notification's record has them.

use std::fmt::{self, Write as _};

use marketprism_model::{Alert, Id, Level, Notification};

/// Alerts of a message that are named.
const ALERTS_NAMED_MAX: usize = 16;
/// The longest text of labels, in bytes.
const LABELS_BYTES_MAX: usize = 2 << 10;

/// Says that an alert began to fire. The words are those that the deployment guide looks for.
pub(crate) fn alert(alert: &Alert, level: Level) {
    tracing::info!(
        trace_id = trace_id(alert.id),
        rule = alert.name(),
        alert_id = %alert.id,
        alert_level = level.as_str(),
        labels = shortened(&alert.labels, LABELS_BYTES_MAX),
        "创建告警"
    );
}

/// Says that a message was decided and recorded.
pub(crate) fn notification(message: &Notification) {
    let alerts = &message.content.alerts;
    let mut ids = String::new();
    for alert in alerts.iter().take(ALERTS_NAMED_MAX) {
        let separator = if ids.is_empty() { "" } else { " " };
        // A string takes everything.
        let _ = write!(ids, "{separator}{}", alert.id);
    }
    tracing::info!(
        trace_id = trace_id(message.id),
        channel = message.channel,
        alerts = alerts.len(),
        alert_ids = ids,
        "创建通知"
    );
}

fn trace_id(id: Id) -> String {
    format!("{:032x}", id.as_u128())
}

/// Writes no more than `bytes_max` bytes, and says so when there are more.
fn shortened(value: &dyn fmt::Display, bytes_max: usize) -> String {
    let mut text = value.to_string();
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_labels_are_cut_between_characters() {
        assert_eq!(shortened(&"告警", 6), "告警");
        assert_eq!(shortened(&"告警", 5), "告…");
    }
}
