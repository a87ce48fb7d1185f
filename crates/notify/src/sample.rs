//! The message that tests a channel.

use marketprism_model::{
    AlertState, Chance, Id, Labels, Level, Notification, NotificationContent, NotificationStatus,
    NotifiedAlert, Timestamp,
};

/// Makes a notification that says of itself that it is a test, at the lowest level.
pub(crate) fn test_notification(channel: &str, now: Timestamp, chance: &dyn Chance) -> Notification {
    let labels = Labels::from_pairs([("alertname", "MarketPrismTest"), ("severity", "low")]);
    let annotations = Labels::from_pairs([
        ("summary", "这是一条测试通知，无需处理"),
        ("summary_en", "This is a test notification; nothing is wrong"),
    ]);
    let alert = NotifiedAlert {
        id: Id::new(now, chance),
        state: AlertState::Firing,
        level: Level::Low,
        fingerprint: format!("{:016x}", labels.fingerprint()),
        labels: labels.clone(),
        annotations: annotations.clone(),
        value: 1.0,
        starts_at: now,
        ends_at: None,
        expr: "vector(1)".to_owned(),
        generator_url: None,
        flaps: 0,
    };
    Notification {
        id: Id::new(now, chance),
        group_key: "{}:{alertname=\"MarketPrismTest\"}".to_owned(),
        receiver: "test".to_owned(),
        channel: channel.to_owned(),
        created_at: now,
        due_at: now,
        deadline_at: now,
        attempts: 0,
        status: NotificationStatus::Sending,
        content: NotificationContent {
            state: AlertState::Firing,
            group_labels: Labels::from_pairs([("alertname", "MarketPrismTest")]),
            common_labels: labels,
            common_annotations: annotations,
            alerts: vec![alert],
            truncated_alerts: 0,
            purpose: Default::default(),
        },
    }
}
