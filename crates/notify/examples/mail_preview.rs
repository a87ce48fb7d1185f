//! Writes mails as HTML files into a folder, to look at: `cargo run --example mail_preview -- FOLDER`.

use std::path::Path;

use jiff::tz::TimeZone;
use marketprism_model::{
    AlertState, Id, Labels, Level, Notification, NotificationContent, NotificationStatus, NotifiedAlert,
    Purpose, Timestamp,
};
use marketprism_notify::compose::{Audience, compose};
use marketprism_notify::{Language, Links, email};

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let audience = |language, alerts_max| Audience {
        language,
        zone: TimeZone::get("Asia/Shanghai").expect("the zones are built in"),
        links: Links::new("https://monitor.example.com"),
        alerts_max,
    };
    let write = |name: &str, notification: &Notification, audience: &Audience| {
        let html = email::preview(&compose(notification, audience));
        std::fs::write(Path::new(&folder).join(name), html)
    };
    let one = notification(vec![alert(0, AlertState::Firing, Level::Critical)]);
    let over = notification(vec![alert(0, AlertState::Resolved, Level::Critical)]);
    let levels = [
        Level::High,
        Level::Critical,
        Level::Medium,
        Level::Low,
        Level::High,
    ];
    let firing = levels.into_iter().enumerate();
    let mut alerts: Vec<_> = firing
        .map(|(n, level)| alert(n, AlertState::Firing, level))
        .collect();
    alerts.push(alert(7, AlertState::Resolved, Level::Medium));
    write("one.html", &one, &audience(Language::Chinese, 50))?;
    write("resolved.html", &over, &audience(Language::Chinese, 50))?;
    write(
        "group.html",
        &notification(alerts.clone()),
        &audience(Language::Chinese, 5),
    )?;
    write(
        "group_en.html",
        &notification(alerts.clone()),
        &audience(Language::English, 5),
    )?;
    let purposes = [
        (
            "escalation",
            Purpose::Escalation {
                policy: "值班升级".to_owned(),
                step: 2,
            },
        ),
        ("storm", Purpose::Storm),
        (
            "fallback",
            Purpose::Fallback {
                receiver: "db-team".to_owned(),
                channel: "db-team/webhook[0]".to_owned(),
            },
        ),
    ];
    for (name, purpose) in purposes {
        let mut told = notification(alerts[..2].to_vec());
        told.content.purpose = purpose;
        told.content.alerts[0].flaps = 7;
        write(&format!("{name}.html"), &told, &audience(Language::Chinese, 50))?;
        write(
            &format!("{name}_en.html"),
            &told,
            &audience(Language::English, 50),
        )?;
    }
    Ok(())
}

const NOON: Timestamp = Timestamp::from_millis(1_795_493_443_000);

fn alert(number: usize, state: AlertState, level: Level) -> NotifiedAlert {
    let instance = format!("db-{number}.prod.internal:9100");
    let labels = Labels::from_pairs([
        ("alertname", "HostDiskWillFillIn4Hours"),
        ("instance", instance.as_str()),
        ("device", "/dev/nvme0n1p1"),
        ("mountpoint", "/var/lib/postgresql"),
        ("job", "node"),
        ("severity", level.as_str()),
    ]);
    let annotations = Labels::from_pairs([
        ("summary", "磁盘预计 4 小时内写满"),
        ("summary_en", "The disk will be full within 4 hours"),
        (
            "description",
            "按最近 6 小时的趋势，/var/lib/postgresql 剩余 7.31%，预计 18:20 写满。",
        ),
        (
            "description_en",
            "By the trend of the last 6 hours, /var/lib/postgresql has 7.31% left and will be full at 18:20.",
        ),
        ("action", "先清理过期的 WAL 归档；若仍在增长，按手册扩容数据盘。"),
        (
            "action_en",
            "Remove expired WAL archives first; if it keeps growing, extend the data disk as the runbook says.",
        ),
        (
            "runbook_url",
            "https://wiki.example.com/runbooks/host/disk-will-fill",
        ),
    ]);
    NotifiedAlert {
        id: Id::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number as u128),
        state,
        level,
        fingerprint: format!("{:016x}", labels.fingerprint()),
        labels,
        annotations,
        value: 7.312_345,
        starts_at: Timestamp::from_millis(NOON.millis() - 325_000),
        ends_at: (state == AlertState::Resolved).then_some(NOON),
        expr: "predict_linear(node_filesystem_avail_bytes[6h], 4*3600) < 0".to_owned(),
        generator_url: None,
        flaps: 0,
    }
}

fn notification(alerts: Vec<NotifiedAlert>) -> Notification {
    let is_firing = alerts.iter().any(|alert| alert.state == AlertState::Firing);
    Notification {
        id: Id::from_u128(1),
        group_key: "{}:{alertname=\"HostDiskWillFillIn4Hours\"}".to_owned(),
        receiver: "default".to_owned(),
        channel: "email".to_owned(),
        created_at: NOON,
        due_at: NOON,
        deadline_at: NOON,
        attempts: 0,
        status: NotificationStatus::Waiting,
        content: NotificationContent {
            state: if is_firing {
                AlertState::Firing
            } else {
                AlertState::Resolved
            },
            group_labels: Labels::empty(),
            common_labels: Labels::empty(),
            common_annotations: Labels::empty(),
            alerts,
            truncated_alerts: 3,
            purpose: Default::default(),
        },
    }
}
