//! DingTalk, through a custom robot of a group.
//!
//! Signed URLs, Markdown, and answers that are HTTP 200 whatever happened: the body says it. A robot takes
//! 20 messages a minute and is silenced for minutes when it is asked to say more, so turns are counted here.
//!
//! Source: open.dingtalk.com, "Custom robot access".

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use marketprism_model::{BoxFuture, Id, Notification, Timestamp};
use marketprism_net::{Request, Response, Transport};
use ring::hmac;
use serde::Deserialize;
use serde_json::json;

use crate::channel::{Attempt, Channel, Delivery, Rate};
use crate::compose::{Audience, Entry, Message, shorten, shorten_bytes};
use crate::http_answer;
use crate::redact::Redactor;
use marketprism_model::Secret;

/// How many alerts one message tells at most; its size may allow fewer.
pub(crate) const ALERTS_MAX: usize = 20;
/// The longest body that the robot takes.
const BODY_BYTES_MAX: usize = 20_000;
/// Room for what stands around the text in the body.
const ENVELOPE_BYTES: usize = 1_000;
/// The longest title, in characters; it is what a phone shows.
const TITLE_CHARS_MAX: usize = 100;
/// The longest single text within an alert.
const TEXT_CHARS_MAX: usize = 600;
const MESSAGES_A_MINUTE: usize = 20;
/// A minute of theirs may begin a little later than ours.
const MINUTE: Duration = Duration::from_secs(61);
/// How long a robot that is asked too often is left alone.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a robot that calls itself busy is asked.
const BUSY_ATTEMPTS_MAX: u32 = 3;

/// A custom robot of a DingTalk group.
pub(crate) struct DingTalk {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) audience: Audience,
    /// The robot's URL with its token.
    pub(crate) url: String,
    pub(crate) secret: Option<Secret>,
    pub(crate) at_mobiles: Vec<String>,
    pub(crate) is_at_all: bool,
    pub(crate) timeout: Duration,
    pub(crate) redactor: Redactor,
}

impl Channel for DingTalk {
    fn deliver<'a>(
        &'a self,
        _: &'a Notification,
        message: &'a Message,
        attempt: Attempt,
    ) -> BoxFuture<'a, Delivery> {
        Box::pin(async move {
            let mut request = Request::new(Method::POST, self.signed_url(attempt.now));
            request.timeout = self.timeout;
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            request.headers.insert(CONTENT_TYPE, json);
            attempt.trace.mark(&mut request.headers);
            request.body = self.body(message).into();
            let delivery = match self.transport.send(request).await {
                Ok(response) => classify(&response, attempt),
                Err(error) => http_answer::without_answer(&error),
            };
            delivery.recorded(&self.redactor)
        })
    }

    fn audience(&self) -> &Audience {
        &self.audience
    }

    fn rate(&self) -> Option<Rate> {
        Some(Rate {
            credential: self.url.clone(),
            messages: MESSAGES_A_MINUTE,
            span: MINUTE,
        })
    }
}

impl DingTalk {
    fn signed_url(&self, now: Timestamp) -> String {
        let Some(secret) = &self.secret else {
            return self.url.clone();
        };
        let timestamp = now.millis();
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("timestamp", &timestamp.to_string())
            .append_pair("sign", &sign(secret.expose(), timestamp))
            .finish();
        let separator = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{separator}{query}", self.url)
    }

    fn body(&self, message: &Message) -> String {
        let mentions: String = self
            .at_mobiles
            .iter()
            .map(|mobile| format!(" @{mobile}"))
            .collect();
        let bytes_max = BODY_BYTES_MAX - ENVELOPE_BYTES - 2 * mentions.len();
        let mut text = markdown(message, bytes_max);
        if !mentions.is_empty() {
            // A mention works only when it also stands in the text.
            text += &format!("\n\n{}", mentions.trim_start());
        }
        json!({
            "msgtype": "markdown",
            "markdown": {"title": shorten(&message.title, TITLE_CHARS_MAX), "text": text},
            "at": {"atMobiles": self.at_mobiles, "isAtAll": self.is_at_all},
        })
        .to_string()
    }
}

/// Signs a moment: base64(HMAC-SHA256(key = secret, "timestamp\nsecret")).
pub(crate) fn sign(secret: &str, timestamp_ms: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, format!("{timestamp_ms}\n{secret}").as_bytes()))
}

/// Writes as many alerts as fit into `bytes_max` bytes of JSON, and says how many do not.
fn markdown(message: &Message, bytes_max: usize) -> String {
    let words = message.language.words();
    let notice = message
        .notice
        .iter()
        .map(|notice| format!("\n\n{}", escape(notice)));
    let head = format!("### {}{}", escape(&message.title), notice.collect::<String>());
    let foot = format!(
        "\n\n> {}{}{} · {}{}{}",
        words.receiver,
        words.colon,
        escape(&message.receiver),
        words.zone,
        words.colon,
        escape(&message.zone)
    );
    let more = |count: usize| match (count, &message.link) {
        (0, None) => String::new(),
        (0, Some(link)) => format!("\n\n[{}]({})", words.open_all, destination(link)),
        (count, None) => format!("\n\n**{}**", message.language.more(count)),
        (count, Some(link)) => format!(
            "\n\n**{}** → [{}]({})",
            message.language.more(count),
            words.open_all,
            destination(link)
        ),
    };
    let entries: Vec<String> = message
        .entries
        .iter()
        .map(|entry| entry_text(entry, message))
        .collect();
    for kept in (0..=entries.len()).rev() {
        let omitted = entries.len() - kept + message.omitted;
        let text = format!("{head}{}{}{foot}", entries[..kept].concat(), more(omitted));
        if json_bytes(&text) <= bytes_max {
            return text;
        }
    }
    // Names of receivers and zones are short; only an absurd configuration comes here.
    shorten_bytes(&head, bytes_max / 2)
}

/// Counts the bytes of a text as a JSON string.
fn json_bytes(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |json| json.len())
}

fn entry_text(entry: &Entry, message: &Message) -> String {
    let words = message.language.words();
    let colon = words.colon;
    let text = |text: &str| escape(&shorten(text, TEXT_CHARS_MAX));
    let mut out = format!("\n\n**{}** {}", text(&entry.standing), text(&entry.name));
    if !entry.summary.is_empty() {
        out += &format!("\n\n{}", text(&entry.summary));
    }
    if !entry.description.is_empty() {
        out += &format!("\n\n{}", text(&entry.description));
    }
    let mut line = |name: &str, value: &str| out += &format!("\n- {name}{colon}{value}");
    if !entry.place.is_empty() {
        line(words.where_, &text(&entry.place));
    }
    line(words.since, &text(&entry.since));
    if let Some(ended) = &entry.ended {
        line(words.ended, &text(ended));
    }
    if !entry.value.is_empty() {
        line(entry.value_name, &text(&entry.value));
    }
    if let Some(flapping) = &entry.flapping {
        line(words.flapping, &text(flapping));
    }
    if let Some(action) = &entry.action {
        line(words.action, &text(action));
    }
    if let Some(url) = &entry.runbook_url {
        line(words.runbook, &format!("[{}]({})", text(url), destination(url)));
    }
    if let Some(url) = &entry.link {
        line(words.open, &format!("[{}]({})", entry.standing, destination(url)));
    }
    out
}

/// Escapes what Markdown would take for structure, and joins lines. Underscores within words, which names of
/// metrics are full of, mean nothing and stay.
fn escape(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::with_capacity(joined.len());
    let mut before = ' ';
    let mut rest = joined.chars().peekable();
    while let Some(c) = rest.next() {
        let is_within_word =
            before.is_alphanumeric() && rest.peek().is_some_and(|next| next.is_alphanumeric());
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '[' | ']' | '#' | '|' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '_' if !is_within_word => out.push_str("\\_"),
            c => out.push(c),
        }
        before = c;
    }
    out
}

/// Writes the destination of a link, in which brackets and spaces would end it.
fn destination(url: &str) -> String {
    let mut out = String::with_capacity(url.len());
    for c in url.chars() {
        match c {
            '(' => out.push_str("%28"),
            ')' => out.push_str("%29"),
            '<' => out.push_str("%3C"),
            '>' => out.push_str("%3E"),
            c if c.is_whitespace() => out.push_str("%20"),
            c => out.push(c),
        }
    }
    out
}

/// What the robot answers.
#[derive(Deserialize)]
struct Answer {
    errcode: i64,
    #[serde(default)]
    errmsg: String,
}

/// Says what the robot's answer means.
fn classify(response: &Response, attempt: Attempt) -> Delivery {
    let Delivery::Delivered { .. } = http_answer::by_status(response, attempt.now) else {
        return http_answer::by_status(response, attempt.now);
    };
    let Ok(answer) = serde_json::from_slice::<Answer>(&response.body) else {
        // Something between us answered in its stead.
        return Delivery::Retry {
            after: None,
            code: i32::from(response.status),
            detail: format!("not the robot's answer: {}", http_answer::said(response)),
        };
    };
    let code = i32::try_from(answer.errcode).unwrap_or(i32::MAX);
    let detail = format!("errcode {}: {}", answer.errcode, answer.errmsg);
    match answer.errcode {
        0 => Delivery::Delivered { code: 0, detail },
        -1 if attempt.number < BUSY_ATTEMPTS_MAX => Delivery::Retry {
            after: None,
            code,
            detail,
        },
        // Too fast: 130101 of the robot, 410100 and 90018 of the gateway before it.
        130_101 | 410_100 | 90_018 => Delivery::Retry {
            after: Some(PATIENCE),
            code,
            detail,
        },
        _ => Delivery::Refused { code, detail },
    }
}

/// Judges what the robot might answer to a first attempt, for fuzzing.
pub fn fuzz_answer(status: u16, body: &[u8]) -> Delivery {
    let response = Response {
        status,
        headers: http::HeaderMap::new(),
        body: body.to_vec().into(),
    };
    let now = Timestamp::from_millis(0);
    classify(&response, Attempt::at(Id::from_u128(1), 1, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_published_one() {
        // Computed with Python's hmac module.
        assert_eq!(
            sign("SECtest", 1_700_000_000_000),
            "aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g="
        );
    }

    #[test]
    fn error_codes_are_told_apart() {
        let check = |status, body: &str, expected: &str| {
            let (said, code) = match fuzz_answer(status, body.as_bytes()) {
                Delivery::Delivered { code, .. } => ("delivered", code),
                Delivery::Retry {
                    after: Some(_), code, ..
                } => ("later", code),
                Delivery::Retry {
                    after: None, code, ..
                } => ("retry", code),
                Delivery::Refused { code, .. } => ("refused", code),
            };
            assert_eq!(format!("{said} {code}"), expected, "{status} {body}");
        };
        check(200, r#"{"errcode":0,"errmsg":"ok"}"#, "delivered 0");
        check(
            200,
            r#"{"errcode":130101,"errmsg":"send too fast"}"#,
            "later 130101",
        );
        check(200, r#"{"errcode":410100,"errmsg":"x"}"#, "later 410100");
        check(200, r#"{"errcode":-1,"errmsg":"系统繁忙"}"#, "retry -1");
        check(
            200,
            r#"{"errcode":310000,"errmsg":"sign not match"}"#,
            "refused 310000",
        );
        check(
            200,
            r#"{"errcode":300005,"errmsg":"token is not exist"}"#,
            "refused 300005",
        );
        check(200, r#"{"errcode":460101}"#, "refused 460101");
        check(200, "<html>login</html>", "retry 200");
        check(200, "{}", "retry 200");
        check(502, "", "retry 502");
        check(404, "", "refused 404");
    }

    #[test]
    fn a_robot_that_stays_busy_is_given_up() {
        let response = Response {
            status: 200,
            headers: http::HeaderMap::new(),
            body: r#"{"errcode":-1,"errmsg":"busy"}"#.into(),
        };
        let said = |number| {
            let now = Timestamp::from_millis(0);
            classify(&response, Attempt::at(Id::from_u128(1), number, now))
        };
        assert!(matches!(said(2), Delivery::Retry { .. }));
        assert!(matches!(said(3), Delivery::Refused { .. }));
    }

    #[test]
    fn markdown_from_outside_is_text() {
        let check = |text, expected: &str| assert_eq!(escape(text), expected);
        check("node_cpu_seconds_total", "node_cpu_seconds_total");
        check("_a_ *b* `c`", "\\_a\\_ \\*b\\* \\`c\\`");
        check("[click](http://evil)", "\\[click\\](http://evil)");
        check("a\n# title\n\n- x", "a \\# title - x");
        check("<b>&", "&lt;b&gt;&");
        assert_eq!(destination("http://x/(a) <b>"), "http://x/%28a%29%20%3Cb%3E");
    }
}
