//! From what happened to what a person reads: chosen words, times in their zone, the worst first.
//!
//! Pure by design, and without any layout: each channel lays the same message out in its own way. A message
//! leads with what, where and how bad, then since when, the value, and what to do.
//! Deliberately absent: escaping, which depends on the layout.

use std::cmp::Reverse;

use jiff::tz::TimeZone;
use marketprism_model::{AlertState, Labels, Level, Notification, NotifiedAlert, Timestamp, labels};

use crate::language::Language;
use crate::links::Links;

/// The longest title, in characters.
const TITLE_CHARS_MAX: usize = 120;
/// The longest notice: names of policies and receivers come from the configuration.
const NOTICE_CHARS_MAX: usize = 300;
/// Labels that say where something is, from the large to the small.
const PLACES: [&str; 19] = [
    "region",
    "cluster",
    "datacenter",
    "namespace",
    "exchange",
    "symbol",
    "service",
    "deployment",
    "pod",
    "container",
    "node",
    "host",
    "hostname",
    "instance",
    "target",
    "url",
    "device",
    "interface",
    "mountpoint",
];
/// How many labels stand in for a place when there is none of the above.
const STAND_INS_MAX: usize = 3;

/// For whom a message is written.
#[derive(Clone, Debug)]
pub struct Audience {
    /// The language of its fixed words, and of annotations where both are given.
    pub language: Language,
    /// The zone of its times.
    pub zone: TimeZone,
    /// Where its links lead.
    pub links: Links,
    /// At most this many alerts are told one by one.
    pub alerts_max: usize,
}

/// What a person reads, in no layout yet. Nothing in it is escaped.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// The language it is written in.
    pub language: Language,
    /// Firing, or resolved when nothing of it fires any more.
    pub state: AlertState,
    /// The worst level of those that fire; of all when none fires.
    pub level: Level,
    /// How it stands, in words: `P1 严重`, `已恢复`.
    pub standing: String,
    /// What and where, for a subject line: `[P1 严重] HostDown：db1:9100`; with a word of why it comes, when it is not
    /// simply that alerts fire.
    pub title: String,
    /// Why this message comes, in a sentence, when it is not simply that alerts fire or are over.
    pub notice: Option<String>,
    /// The alerts told one by one: firing ones first, the worst first.
    pub entries: Vec<Entry>,
    /// How many alerts are not among the entries.
    pub omitted: usize,
    /// The page that shows all alerts; `None` when our own address is not configured.
    pub link: Option<String>,
    /// The receiver's name.
    pub receiver: String,
    /// The zone of the times, by name.
    pub zone: String,
}

/// One alert of a message.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Firing or resolved.
    pub state: AlertState,
    /// Its level.
    pub level: Level,
    /// How it stands, in words.
    pub standing: String,
    /// The alert's name.
    pub name: String,
    /// Where it is, possibly empty.
    pub place: String,
    /// One sentence, possibly empty.
    pub summary: String,
    /// More sentences, possibly empty.
    pub description: String,
    /// When it began, and how long it has lasted while it fires.
    pub since: String,
    /// When it ended, and how long it lasted.
    pub ended: Option<String>,
    /// The value that was judged, the last one when it is over; empty when another program sent the alert.
    pub value: String,
    /// What `value` is called.
    pub value_name: &'static str,
    /// That it comes and goes, and what follows from it.
    pub flapping: Option<String>,
    /// What to do; nothing when it is over.
    pub action: Option<String>,
    /// The page that says what to do; `http` or `https`.
    pub runbook_url: Option<String>,
    /// All labels but the name.
    pub labels: Vec<(String, String)>,
    /// The page that shows this alert.
    pub link: Option<String>,
}

/// Writes a notification for an audience.
pub fn compose(notification: &Notification, audience: &Audience) -> Message {
    let content = &notification.content;
    let mut alerts: Vec<&NotifiedAlert> = content.alerts.iter().collect();
    // The newest first within a level: it is why the message comes, and the rest may not find room.
    alerts.sort_by_key(|alert| {
        let is_over = alert.state == AlertState::Resolved;
        (is_over, Reverse(alert.level), Reverse(alert.starts_at))
    });
    let firing = alerts.iter().filter(|a| a.state != AlertState::Resolved).count();
    let state = if firing > 0 {
        AlertState::Firing
    } else {
        AlertState::Resolved
    };
    let told = if firing > 0 {
        &alerts[..firing]
    } else {
        &alerts[..]
    };
    let level = told.iter().map(|alert| alert.level).max().unwrap_or(Level::Low);
    let language = audience.language;
    let standing = language.standing(state, level);
    let unlisted = content.truncated_alerts as usize;
    let what = headline(told, unlisted, language);
    let title = match language.reason(&content.purpose, state) {
        Some(reason) => format!("[{standing}] {reason}{}{what}", language.words().colon),
        None => format!("[{standing}] {what}"),
    };
    let (firing, over) = alerts.split_at(firing);
    let (firing_kept, over_kept) = shares(firing.len(), over.len(), audience.alerts_max);
    let entries: Vec<Entry> = firing[..firing_kept]
        .iter()
        .chain(&over[..over_kept])
        .map(|alert| entry(alert, notification.created_at, audience))
        .collect();
    Message {
        language,
        state,
        level,
        standing,
        title: shorten(&one_line(&title), TITLE_CHARS_MAX),
        notice: language
            .notice(&content.purpose, state)
            .map(|text| shorten(&one_line(&text), NOTICE_CHARS_MAX)),
        omitted: alerts.len() - entries.len() + unlisted,
        entries,
        link: audience.links.all_alerts(),
        receiver: notification.receiver.clone(),
        zone: audience.zone.iana_name().unwrap_or("UTC").to_owned(),
    }
}

/// Parts the room for entries: what is over has a third of it, so that a message which comes for an end shows
/// it even when much else fires; what one side does not need the other has.
fn shares(firing: usize, over: usize, room: usize) -> (usize, usize) {
    let firing_kept = firing.min(room - over.min(room / 3));
    (firing_kept, over.min(room - firing_kept))
}

/// Says what and where: one alert by name and place, several by their number.
fn headline(told: &[&NotifiedAlert], unlisted: usize, language: Language) -> String {
    let name = |alert: &NotifiedAlert| alert.labels.get(labels::ALERT_NAME).unwrap_or("?").to_owned();
    let Some(first) = told.first() else {
        return language.alerts(unlisted);
    };
    let colon = language.words().colon;
    match told {
        [only] if unlisted == 0 => match place(&only.labels) {
            place if place.is_empty() => name(only),
            place => format!("{}{colon}{place}", name(only)),
        },
        _ => {
            let mut names: Vec<String> = told.iter().map(|alert| name(alert)).collect();
            names.dedup();
            names.sort();
            names.dedup();
            let count = language.alerts(told.len() + unlisted);
            match &names[..] {
                [one] => format!("{one}{colon}{count}"),
                _ => format!("{count}{colon}{}, …", name(first)),
            }
        }
    }
}

fn entry(alert: &NotifiedAlert, now: Timestamp, audience: &Audience) -> Entry {
    let language = audience.language;
    let annotation = |name| language.annotation(&alert.annotations, name);
    let owned = |text: Option<&str>| text.unwrap_or("").to_owned();
    let is_over = alert.state == AlertState::Resolved;
    let began = moment(alert.starts_at, &audience.zone);
    let since = match is_over {
        true => began,
        false => format!(
            "{began} ({})",
            language.lasting(now.since(alert.starts_at), false)
        ),
    };
    let ended = alert.ends_at.filter(|_| is_over).map(|ended| {
        let lasted = language.lasting(ended.since(alert.starts_at), true);
        format!("{} ({lasted})", moment(ended, &audience.zone))
    });
    let others = alert
        .labels
        .iter()
        .filter(|(name, _)| *name != labels::ALERT_NAME);
    Entry {
        state: alert.state,
        level: alert.level,
        standing: language.standing(alert.state, alert.level),
        name: owned(alert.labels.get(labels::ALERT_NAME)),
        place: place(&alert.labels),
        summary: owned(annotation("summary").or_else(|| annotation("message"))),
        description: owned(annotation("description")),
        since,
        ended,
        // What other programs send has no value that anybody judged.
        value: match alert.expr.is_empty() {
            true => String::new(),
            false => number(alert.value),
        },
        value_name: match is_over {
            true => language.words().last_value,
            false => language.words().value,
        },
        flapping: (alert.flaps > 0).then(|| language.flapping(alert.flaps, is_over)),
        action: annotation("action").filter(|_| !is_over).map(str::to_owned),
        runbook_url: annotation("runbook_url")
            .filter(|url| url.starts_with("https://") || url.starts_with("http://"))
            .map(str::to_owned),
        labels: others.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        link: audience.links.alert(alert.id),
    }
}

/// Says where an alert is, by the labels that name places, else by the job, else by its first labels.
fn place(set: &Labels) -> String {
    let mut found: Vec<&str> = Vec::new();
    for value in PLACES.iter().filter_map(|name| set.get(name)) {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    if !found.is_empty() {
        return found.join(" · ");
    }
    if let Some(job) = set.get("job") {
        return job.to_owned();
    }
    let others = set
        .iter()
        .filter(|(name, _)| *name != labels::ALERT_NAME && *name != labels::SEVERITY);
    let stand_ins: Vec<String> = others
        .take(STAND_INS_MAX)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    stand_ins.join(" · ")
}

/// Writes a moment in a zone, with its offset: `2026-11-24 15:10:43 +08:00`.
fn moment(at: Timestamp, zone: &TimeZone) -> String {
    match jiff::Timestamp::from_millisecond(at.millis()) {
        Ok(moment) => moment
            .to_zoned_datetime(zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S %:z")
            .to_string(),
        Err(_) => at.to_string(),
    }
}

/// Writes a value so that it can be read at a glance: at most five significant digits.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".to_owned()
        } else {
            format!("{}Inf", if value > 0.0 { '+' } else { '-' })
        };
    }
    if value == value.trunc() && value.abs() < 1e15 {
        // Adding zero makes the negative zero positive.
        return format!("{:.0}", value + 0.0);
    }
    let magnitude = value.abs().log10().floor();
    if !(-4.0..15.0).contains(&magnitude) {
        return format!("{value:.4e}");
    }
    let decimals = (4.0 - magnitude).clamp(0.0, 8.0) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Puts a text into one line, for it becomes a subject: whoever names a series must not write headers.
fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

/// Cuts a text to a number of characters, marking the cut.
pub(crate) fn shorten(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    kept + "…"
}

/// Cuts a text to a number of bytes between two characters, marking the cut.
pub(crate) fn shorten_bytes(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(MARK.len()));
    format!("{}{MARK}", &text[..end])
}
