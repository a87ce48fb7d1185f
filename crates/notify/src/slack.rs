//! Slack, through an incoming webhook.
//!
//! The text is the title, so that the notification on a phone says what matters; the details stand in an
//! attachment, for its bar has the colour of the level. A webhook of Slack answers in plain words, its API
//! (`chat.postMessage`, which bots post by) in JSON, with the status 200 whatever happened.
//!
//! Source: docs.slack.dev, "Sending messages using incoming webhooks", "Formatting text", Block Kit.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use marketprism_model::{AlertState, BoxFuture, Level, Notification, Timestamp};
use marketprism_net::{Request, Response, TlsPolicy, Transport};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::channel::{Attempt, Channel, Delivery, Rate};
use crate::compose::{Audience, Entry, Message, shorten};
use crate::http_answer;
use crate::redact::Redactor;

/// How many alerts one message tells; each takes one section of the 50 blocks that Slack allows.
pub(crate) const ALERTS_MAX: usize = 15;
/// The longest text of a section, in characters. The limits below add up to less, so that no link is ever cut.
const SECTION_CHARS_MAX: usize = 3000;
/// The longest name or place, in characters after escaping.
const NAME_CHARS_MAX: usize = 250;
/// The longest sentence: summary, description, action.
const SENTENCE_CHARS_MAX: usize = 500;
/// A longer address is left out.
const URL_CHARS_MAX: usize = 300;
/// How long a webhook that gives no time is left alone when it asks for patience.
const PATIENCE: Duration = Duration::from_secs(30);

/// An incoming webhook of Slack.
pub(crate) struct Slack {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) audience: Audience,
    pub(crate) url: String,
    pub(crate) channel: Option<String>,
    /// What a bot or a gateway is recognised by.
    pub(crate) headers: HeaderMap,
    pub(crate) tls: TlsPolicy,
    pub(crate) timeout: Duration,
    pub(crate) redactor: Redactor,
}

impl Channel for Slack {
    fn deliver<'a>(
        &'a self,
        _: &'a Notification,
        message: &'a Message,
        attempt: Attempt,
    ) -> BoxFuture<'a, Delivery> {
        Box::pin(async move {
            let mut request = Request::new(Method::POST, &self.url);
            request.timeout = self.timeout;
            request.tls = self.tls.clone();
            request.headers = self.headers.clone();
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            request.headers.insert(CONTENT_TYPE, json);
            attempt.trace.mark(&mut request.headers);
            request.body = payload(message, self.channel.as_deref()).to_string().into();
            let delivery = match self.transport.send(request).await {
                Ok(response) => classify(&response, attempt.now),
                Err(error) => http_answer::without_answer(&error),
            };
            delivery.recorded(&self.redactor)
        })
    }

    fn audience(&self) -> &Audience {
        &self.audience
    }

    fn rate(&self) -> Option<Rate> {
        // "1 per second, short bursts allowed".
        Some(Rate {
            credential: self.url.clone(),
            messages: 1,
            span: Duration::from_secs(1),
        })
    }
}

/// Says what Slack's answer means.
fn classify(response: &Response, now: Timestamp) -> Delivery {
    let words = String::from_utf8_lossy(&response.body);
    match http_answer::by_status(response, now) {
        Delivery::Delivered { code, detail } if words.trim() != "ok" => {
            classify_api(&response.body, code, detail)
        }
        Delivery::Retry {
            after: None,
            code: 429,
            detail,
        } => Delivery::Retry {
            after: Some(PATIENCE),
            code: 429,
            detail,
        },
        other => other,
    }
}

/// What the API says.
#[derive(Deserialize)]
struct ApiAnswer {
    ok: bool,
    #[serde(default)]
    error: String,
}

/// Errors of the API that may pass.
const PASSING_ERRORS: [&str; 6] = [
    "ratelimited",
    "rate_limited",
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
];

/// Says what an answer that is not the word `ok` means: the API's, or no answer of Slack at all.
fn classify_api(body: &[u8], code: i32, detail: String) -> Delivery {
    match serde_json::from_slice::<ApiAnswer>(body) {
        Ok(ApiAnswer { ok: true, .. }) => Delivery::Delivered { code, detail },
        Ok(answer) if PASSING_ERRORS.contains(&answer.error.as_str()) => Delivery::Retry {
            after: Some(PATIENCE),
            code,
            detail,
        },
        _ => Delivery::Refused { code, detail },
    }
}

fn payload(message: &Message, channel: Option<&str>) -> Value {
    let notice = message.notice.iter().map(|notice| section(&escape(notice)));
    let entries = message
        .entries
        .iter()
        .map(|entry| section(&entry_text(entry, message)));
    let mut blocks: Vec<Value> = notice.chain(entries).collect();
    if message.omitted > 0 {
        let more = message.language.more(message.omitted);
        blocks.push(section(&match &message.link {
            Some(link) => format!("{more} → {}", anchor(link, message.language.words().open_all)),
            None => more,
        }));
    }
    let words = message.language.words();
    let footer = format!(
        "{}{}{} · {}{}{}",
        words.receiver, words.colon, message.receiver, words.zone, words.colon, message.zone
    );
    blocks.push(json!({
        "type": "context",
        "elements": [{"type": "mrkdwn", "text": shorten(&escape(&footer), SECTION_CHARS_MAX)}],
    }));
    let mut payload = json!({
        "text": format!("*{}*", escape(&message.title).replace('*', "∗")),
        "attachments": [{"color": colour(message.state, message.level), "blocks": blocks}],
    });
    if let Some(channel) = channel {
        payload["channel"] = json!(channel);
    }
    payload
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": shorten(text, SECTION_CHARS_MAX)}})
}

fn entry_text(entry: &Entry, message: &Message) -> String {
    let words = message.language.words();
    let colon = words.colon;
    let name = |text: &str| escape_within(text, NAME_CHARS_MAX);
    let sentence = |text: &str| escape_within(text, SENTENCE_CHARS_MAX);
    let mut heading = format!("*{}* · {}", name(&entry.standing), name(&entry.name));
    if !entry.place.is_empty() {
        heading += &format!(" · {}", name(&entry.place));
    }
    let mut lines = vec![heading];
    let sentences = [&entry.summary, &entry.description];
    lines.extend(
        sentences
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| sentence(text)),
    );
    lines.push(format!("{}{colon}{}", words.since, entry.since));
    lines.extend(
        entry
            .ended
            .iter()
            .map(|ended| format!("{}{colon}{ended}", words.ended)),
    );
    if !entry.value.is_empty() {
        lines.push(format!("{}{colon}`{}`", entry.value_name, entry.value));
    }
    let flapping = entry.flapping.iter();
    lines.extend(flapping.map(|flapping| format!("{}{colon}{flapping}", words.flapping)));
    lines.extend(
        entry
            .action
            .iter()
            .map(|action| format!("*{}*{colon}{}", words.action, sentence(action))),
    );
    let links = [(&entry.runbook_url, words.runbook), (&entry.link, words.open)];
    let links: Vec<String> = links
        .iter()
        .filter_map(|(url, text)| Some(anchor(url.as_ref()?, text)))
        .filter(|anchor| anchor.chars().count() <= URL_CHARS_MAX)
        .collect();
    if !links.is_empty() {
        lines.push(links.join(" · "));
    }
    lines.join("\n")
}

/// Escapes as much of a text as stays within a number of characters, never half an escape.
fn escape_within(text: &str, chars_max: usize) -> String {
    let escaped = escape(text);
    if escaped.chars().count() <= chars_max {
        return escaped;
    }
    let mut out = String::new();
    let mut left = chars_max - 1;
    for c in text.chars() {
        let piece = escape(c.encode_utf8(&mut [0; 4]));
        let Some(after) = left.checked_sub(piece.chars().count()) else {
            break;
        };
        out += &piece;
        left = after;
    }
    out + "…"
}

/// Writes a link; the bar would end the address.
fn anchor(url: &str, text: &str) -> String {
    format!("<{}|{}>", escape(url).replace('|', "%7C"), escape(text))
}

/// Escapes the three characters that Slack gives a meaning; then nothing can mention `@channel` or pose as a link.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Gives the colour of a message's bar.
pub(crate) fn colour(state: AlertState, level: Level) -> &'static str {
    match (state, level) {
        (AlertState::Resolved, _) => "#067647",
        (_, Level::Critical) => "#b42318",
        (_, Level::High) => "#c2570c",
        (_, Level::Medium) => "#8a6100",
        (_, Level::Low) => "#175cd3",
    }
}

/// Judges what Slack might answer, for fuzzing.
pub fn fuzz_answer(status: u16, body: &[u8]) -> Delivery {
    let response = Response {
        status,
        headers: http::HeaderMap::new(),
        body: body.to_vec().into(),
    };
    classify(&response, Timestamp::from_millis(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_are_told_apart() {
        let check = |status, words: &str, expected: &str| {
            let said = match fuzz_answer(status, words.as_bytes()) {
                Delivery::Delivered { .. } => "delivered",
                Delivery::Retry { after: Some(_), .. } => "later",
                Delivery::Retry { after: None, .. } => "retry",
                Delivery::Refused { .. } => "refused",
            };
            assert_eq!(said, expected, "{status} {words}");
        };
        check(200, "ok", "delivered");
        check(200, "ok\n", "delivered");
        check(200, "<html>proxy login</html>", "refused");
        check(200, r#"{"ok":true,"channel":"C1","ts":"1.2"}"#, "delivered");
        check(200, r#"{"ok":false,"error":"channel_not_found"}"#, "refused");
        check(200, r#"{"ok":false,"error":"ratelimited"}"#, "later");
        check(200, r#"{"ok":"#, "refused");
        check(400, "invalid_payload", "refused");
        check(403, "action_prohibited", "refused");
        check(404, "no_service", "refused");
        check(410, "channel_is_archived", "refused");
        check(429, "rate_limited", "later");
        check(500, "rollup_error", "retry");
        check(503, "", "retry");
    }

    #[test]
    fn no_escape_is_cut_in_half() {
        assert_eq!(escape_within("a<b", 6), "a&lt;b");
        assert_eq!(escape_within("a<b", 5), "a…");
        assert_eq!(escape_within("<<<<", 9), "&lt;&lt;…");
    }

    #[test]
    fn nothing_from_outside_can_mention_everyone_or_pose_as_a_link() {
        assert_eq!(
            escape("<!channel> & <https://evil|ok>"),
            "&lt;!channel&gt; &amp; &lt;https://evil|ok&gt;"
        );
        assert_eq!(
            anchor("https://x/?a=1&b=<2|3>", "go"),
            "<https://x/?a=1&amp;b=&lt;2%7C3&gt;|go>"
        );
    }
}
