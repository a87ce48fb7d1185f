//! Slack's incoming webhook: checks what it is sent against Slack's limits and answers in Slack's plain words.
//!
//! Source: docs.slack.dev, "Sending messages using incoming webhooks" (answers and their status) and the
//! Block Kit reference (limits).

use axum::response::Response;
use serde_json::Value;

use crate::scripted::{Behaviour, ReceivedRequest, Scripted, answer};

const PATH: &str = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX";
const BLOCKS_MAX: usize = 50;
const SECTION_CHARS_MAX: usize = 3000;
const HEADER_CHARS_MAX: usize = 150;
const FIELDS_MAX: usize = 10;
const FIELD_CHARS_MAX: usize = 2000;

/// A Slack that knows one webhook.
pub struct FakeSlack(Scripted);

impl FakeSlack {
    /// Starts it.
    pub fn start() -> Self {
        FakeSlack(Scripted::start(judge))
    }

    /// Gives the webhook's URL.
    pub fn url(&self) -> String {
        self.0.server().url(PATH)
    }

    /// Gives the URL of a webhook that was removed.
    pub fn removed_url(&self) -> String {
        self.0
            .server()
            .url("/services/T00000000/B00000001/YYYYYYYYYYYYYYYYYYYYYYYY")
    }

    /// Orders how the next request that has no order yet is met.
    pub fn order(&self, behaviour: Behaviour) {
        self.0.order(behaviour);
    }

    /// Orders that the next request is told to come back later.
    pub fn order_rate_limit(&self, retry_after_s: u32) {
        self.order(Behaviour::Answer(
            429,
            vec![("retry-after", retry_after_s.to_string())],
            "rate_limited".to_owned(),
        ));
    }

    /// Gives what arrived, oldest first.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.0.received()
    }
}

fn judge(request: &ReceivedRequest) -> Response {
    if request.uri.path() != PATH {
        return answer(404, &[], "no_service");
    }
    let Ok(payload) = serde_json::from_slice::<Value>(&request.body) else {
        return answer(400, &[], "invalid_payload");
    };
    let own = payload["blocks"].as_array().into_iter().flatten();
    let attachments = payload["attachments"].as_array().into_iter().flatten();
    let attached = attachments.filter_map(|a| a["blocks"].as_array()).flatten();
    let blocks: Vec<&Value> = own.chain(attached).collect();
    if payload["text"].as_str().is_none_or(str::is_empty) && blocks.is_empty() {
        return answer(400, &[], "no_text");
    }
    if blocks.len() > BLOCKS_MAX || !blocks.iter().all(|block| is_within_limits(block)) {
        return answer(400, &[], "invalid_blocks");
    }
    answer(200, &[], "ok")
}

fn is_within_limits(block: &Value) -> bool {
    let is_text = |text: &Value, limit: usize| {
        text["text"]
            .as_str()
            .is_some_and(|t| !t.is_empty() && t.chars().count() <= limit)
            && matches!(text["type"].as_str(), Some("plain_text" | "mrkdwn"))
    };
    match block["type"].as_str() {
        Some("divider") => true,
        Some("header") => block["text"]["type"] == "plain_text" && is_text(&block["text"], HEADER_CHARS_MAX),
        Some("section") => {
            let fields = block["fields"].as_array();
            let has_text = !block["text"].is_null();
            (has_text || fields.is_some())
                && (!has_text || is_text(&block["text"], SECTION_CHARS_MAX))
                && fields.is_none_or(|fields| {
                    (1..=FIELDS_MAX).contains(&fields.len())
                        && fields.iter().all(|field| is_text(field, FIELD_CHARS_MAX))
                })
        }
        Some("context") => block["elements"].as_array().is_some_and(|elements| {
            (1..=10).contains(&elements.len()) && elements.iter().all(|e| is_text(e, SECTION_CHARS_MAX))
        }),
        Some("actions") => block["elements"]
            .as_array()
            .is_some_and(|elements| (1..=25).contains(&elements.len())),
        _ => false,
    }
}
