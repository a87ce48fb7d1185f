//! The plain half of a mail, for programs and people who prefer it.

use crate::compose::{Entry, Message};

/// Lays a message out.
pub(crate) fn page(message: &Message) -> String {
    let words = message.language.words();
    let mut parts = vec![message.title.clone()];
    parts.extend(message.notice.clone());
    parts.extend(message.entries.iter().map(|entry| paragraph(entry, message)));
    if message.omitted > 0 {
        parts.push(match &message.link {
            Some(link) => format!("{} → {link}", message.language.more(message.omitted)),
            None => message.language.more(message.omitted),
        });
    } else if let Some(link) = &message.link {
        parts.push(format!("{}{}{link}", words.open_all, words.colon));
    }
    parts.push(format!(
        "-- \n{} · {}{}{} · {}{}{}",
        words.sent_by, words.receiver, words.colon, message.receiver, words.zone, words.colon, message.zone
    ));
    parts.join("\n\n") + "\n"
}

fn paragraph(entry: &Entry, message: &Message) -> String {
    let words = message.language.words();
    let heading = match entry.place.is_empty() {
        true => format!("{} · {}", entry.standing, entry.name),
        false => format!("{} · {} · {}", entry.standing, entry.name, entry.place),
    };
    let labels: Vec<String> = entry.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let labels = labels.join(", ");
    let or_empty = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let facts = [
        (words.details, entry.description.clone()),
        (words.since, entry.since.clone()),
        (words.ended, or_empty(&entry.ended)),
        (entry.value_name, entry.value.clone()),
        (words.flapping, or_empty(&entry.flapping)),
        (words.action, or_empty(&entry.action)),
        (words.runbook, or_empty(&entry.runbook_url)),
        (words.labels, labels),
        (words.open, or_empty(&entry.link)),
    ];
    let said = facts.iter().filter(|(_, value)| !value.is_empty());
    let lines = said.map(|(name, value)| format!("{name}{}{value}", words.colon));
    let summary = Some(entry.summary.clone()).filter(|summary| !summary.is_empty());
    let all: Vec<String> = [heading].into_iter().chain(summary).chain(lines).collect();
    all.join("\n")
}
