//! DingTalk's custom robot: checks token, signature, time, rate and size, and answers in its own words.
//!
//! The signature is checked with code of its own, so that a fault in the sender's cannot hide.
//! Source: open.dingtalk.com, "Custom robot" (signature, rate of 20 a minute, error codes).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marketprism_model::{Clock, Timestamp};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::scripted::{Behaviour, ReceivedRequest, Scripted, answer};

const BODY_BYTES_MAX: usize = 20_000;
const MESSAGES_A_MINUTE_MAX: usize = 20;
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(3600);

/// A DingTalk that knows one robot.
pub struct FakeDingTalk {
    scripted: Scripted,
    token: String,
}

struct Robot {
    token: String,
    secret: Option<String>,
    clock: Arc<dyn Clock>,
    taken: Mutex<VecDeque<Timestamp>>,
}

impl FakeDingTalk {
    /// Starts it, with a robot of this token and, when given, this signing secret (`SEC…`).
    pub fn start(token: &str, secret: Option<&str>, clock: Arc<dyn Clock>) -> Self {
        let robot = Robot {
            token: token.to_owned(),
            secret: secret.map(str::to_owned),
            clock,
            taken: Mutex::default(),
        };
        FakeDingTalk {
            scripted: Scripted::start(move |request| robot.judge(request)),
            token: token.to_owned(),
        }
    }

    /// Gives the robot's URL, token included, as DingTalk shows it for copying.
    pub fn url(&self) -> String {
        format!("{}?access_token={}", self.base_url(), self.token)
    }

    /// Gives the URL without the token.
    pub fn base_url(&self) -> String {
        self.scripted.server().url("/robot/send")
    }

    /// Orders how the next request that has no order yet is met.
    pub fn order(&self, behaviour: Behaviour) {
        self.scripted.order(behaviour);
    }

    /// Orders that the next request is answered with an error of the robot.
    pub fn order_error(&self, errcode: i64, errmsg: &str) {
        let body = json!({"errcode": errcode, "errmsg": errmsg}).to_string();
        let json = ("content-type", "application/json".to_owned());
        self.order(Behaviour::Answer(200, vec![json], body));
    }

    /// Gives what arrived, oldest first.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.scripted.received()
    }
}

impl Robot {
    fn judge(&self, request: &ReceivedRequest) -> Response {
        let (errcode, errmsg) = self.fault(request).unwrap_or((0, "ok"));
        let json = ("content-type", "application/json".to_owned());
        answer(
            200,
            &[json],
            json!({"errcode": errcode, "errmsg": errmsg}).to_string(),
        )
    }

    fn fault(&self, request: &ReceivedRequest) -> Option<(i64, &'static str)> {
        if request.query("access_token").as_deref() != Some(&self.token) {
            return Some((300_005, "token is not exist"));
        }
        if let Some(secret) = &self.secret {
            let stated = request.query("timestamp").unwrap_or_default();
            let now = self.clock.now();
            let at = Timestamp::from_millis(stated.parse().unwrap_or(0));
            if now.since(at) > CLOCK_SKEW_MAX || at.since(now) > CLOCK_SKEW_MAX {
                return Some((310_000, "invalid timestamp, more: [https://open.dingtalk.com]"));
            }
            if request.query("sign") != Some(sign(secret, &stated)) {
                return Some((310_000, "sign not match, more: [https://open.dingtalk.com]"));
            }
        }
        if !request.header("content-type").starts_with("application/json") {
            return Some((43_004, "无效的HTTP HEADER Content-Type"));
        }
        if request.body.len() > BODY_BYTES_MAX {
            return Some((460_101, "message too long, exceed 20000 bytes"));
        }
        if !is_message(&request.body) {
            return Some((40_035, "缺少参数 json"));
        }
        self.take_turn()
    }

    fn take_turn(&self) -> Option<(i64, &'static str)> {
        let now = self.clock.now();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|at| now.since(*at) < Duration::from_secs(60));
        if taken.len() >= MESSAGES_A_MINUTE_MAX {
            return Some((130_101, "send too fast, exceed 20 times per minute"));
        }
        taken.push_back(now);
        None
    }
}

/// Says whether the body is a message of a kind that our channels send, with its mentions in its text.
fn is_message(body: &[u8]) -> bool {
    let Ok(message) = serde_json::from_slice::<Value>(body) else {
        return false;
    };
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let is_complete = match message["msgtype"].as_str() {
        Some("markdown") => text(&message["markdown"]["title"]) && text(&message["markdown"]["text"]),
        Some("text") => text(&message["text"]["content"]),
        _ => false,
    };
    let said = message["markdown"]["text"]
        .as_str()
        .or(message["text"]["content"].as_str());
    let mentions = message["at"]["atMobiles"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    is_complete
        && mentions.iter().all(|mobile| {
            said.unwrap_or("")
                .contains(&format!("@{}", mobile.as_str().unwrap_or("?")))
        })
}

/// Signs as DingTalk documents it, from the definition of HMAC (RFC 2104).
fn sign(secret: &str, timestamp: &str) -> String {
    const BLOCK: usize = 64;
    let mut key = secret.as_bytes().to_vec();
    if key.len() > BLOCK {
        key = digest(&SHA256, &key).as_ref().to_vec();
    }
    key.resize(BLOCK, 0);
    let padded = |pad: u8| key.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>();
    let mut inner = padded(0x36);
    inner.extend_from_slice(format!("{timestamp}\n{secret}").as_bytes());
    let mut outer = padded(0x5c);
    outer.extend_from_slice(digest(&SHA256, &inner).as_ref());
    STANDARD.encode(digest(&SHA256, &outer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_published_one() {
        // Computed with Python's hmac module.
        assert_eq!(
            sign("SECtest", "1700000000000"),
            "aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g="
        );
    }
}
