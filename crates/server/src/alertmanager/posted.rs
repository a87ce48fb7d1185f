//! What clients send: alerts and silences, read from JSON.
//!
//! Unknown keys are ignored, as Alertmanager ignores them; what is there must have the right type. Bounded: in bytes by
//! the caller, in number here, in depth by serde_json.

use marketprism_alerts::ReceivedAlert;
use marketprism_alerts::silences::SilenceDraft;
use marketprism_model::{Id, Labels, Matcher, MatcherOp, Timestamp};
use serde::Deserialize;

use super::answer::Failure;

/// One request may bring this many alerts; Prometheus sends 256 at most.
const ALERTS_MAX: usize = 10_000;
/// Clients of Alertmanager confirm a wide silence by this annotation, or by a comment that begins with the word and a
/// colon, for older ones know no annotations.
const CONFIRM: &str = "confirm";
/// What is kept of a client that gives no reason, for Alertmanager asks for none.
const NO_COMMENT: &str = "-";

#[derive(Deserialize)]
struct PostedAlert {
    labels: Option<Labels>,
    #[serde(default)]
    annotations: Option<Labels>,
    #[serde(default, rename = "startsAt")]
    starts_at: Option<String>,
    #[serde(default, rename = "endsAt")]
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
}

/// Reads posted alerts. Labels without a value are none.
pub fn alerts(body: &[u8]) -> Result<Vec<ReceivedAlert>, Failure> {
    let posted: Option<Vec<PostedAlert>> = read(body, "alerts")?;
    let posted = posted.unwrap_or_default();
    if posted.len() > ALERTS_MAX {
        let count = posted.len();
        return Err(Failure::bad_request(format!(
            "{count} alerts; at most {ALERTS_MAX} are taken at once"
        )));
    }
    let mut alerts = Vec::with_capacity(posted.len());
    for (at, alert) in posted.into_iter().enumerate() {
        let moment = |name: &str, text: Option<String>| {
            moment(text.as_deref().unwrap_or(""))
                .map_err(|reason| Failure::bad_request(format!("{at}.{name} in body: {reason}")))
        };
        let labels = alert
            .labels
            .ok_or_else(|| Failure::bad_request(format!("{at}.labels in body is required")))?;
        alerts.push(ReceivedAlert {
            labels,
            annotations: alert.annotations.unwrap_or_default(),
            starts_at: moment("startsAt", alert.starts_at)?,
            ends_at: moment("endsAt", alert.ends_at)?,
            generator_url: alert.generator_url.unwrap_or_default(),
        });
    }
    Ok(alerts)
}

#[derive(Deserialize)]
struct PostedSilence {
    #[serde(default)]
    id: Option<String>,
    matchers: Option<Vec<PostedMatcher>>,
    #[serde(rename = "startsAt")]
    starts_at: Option<String>,
    #[serde(rename = "endsAt")]
    ends_at: Option<String>,
    #[serde(rename = "createdBy")]
    created_by: Option<String>,
    comment: Option<String>,
    #[serde(default)]
    annotations: Option<Labels>,
}

#[derive(Deserialize)]
struct PostedMatcher {
    name: Option<String>,
    value: Option<String>,
    #[serde(rename = "isRegex")]
    is_regex: Option<bool>,
    #[serde(default, rename = "isEqual")]
    is_equal: Option<bool>,
}

/// A silence that a client asks for.
#[derive(Debug)]
pub struct AskedSilence {
    /// What it asks for, under the name it gives.
    pub draft: SilenceDraft,
    /// Whether it says that a wide silence is meant.
    pub is_confirmed: bool,
}

/// Reads a posted silence.
pub fn silence(body: &[u8]) -> Result<AskedSilence, Failure> {
    let posted: PostedSilence = read(body, "silence")?;
    let required = |name: &str| Failure::bad_request(format!("{name} in body is required"));
    let moment = |name: &str, text: Option<String>| {
        let text = text.ok_or_else(|| required(name))?;
        moment(&text).map_err(|reason| Failure::bad_request(format!("{name} in body: {reason}")))
    };
    let id = match posted.id.as_deref() {
        None | Some("") => None,
        // What is no id of ours is the id of no silence.
        Some(text) => Some(text.parse::<Id>().map_err(|_| not_found())?),
    };
    let mut comment = posted.comment.ok_or_else(|| required("comment"))?;
    if comment.trim().is_empty() {
        comment = NO_COMMENT.to_owned();
    }
    let created_by = posted.created_by.ok_or_else(|| required("createdBy"))?;
    let ends_at = moment("endsAt", posted.ends_at)?.ok_or_else(|| required("endsAt"))?;
    let starts_at = moment("startsAt", posted.starts_at)?;
    let matchers = posted.matchers.ok_or_else(|| required("matchers"))?;
    let matchers = matchers
        .into_iter()
        .enumerate()
        .map(|(at, matcher)| matcher.read(at));
    let annotation = posted.annotations.as_ref().and_then(|all| all.get(CONFIRM));
    let in_comment = comment
        .strip_prefix(CONFIRM)
        .is_some_and(|rest| rest.starts_with(':'));
    let is_confirmed = annotation == Some("true") || in_comment;
    Ok(AskedSilence {
        draft: SilenceDraft {
            id,
            matchers: matchers.collect::<Result<_, _>>()?,
            starts_at,
            ends_at,
            created_by,
            comment,
            recurs: None,
            is_until_resolved: None,
        },
        is_confirmed,
    })
}

/// Alertmanager's words for a silence that is not there.
pub fn not_found() -> Failure {
    Failure::not_found("silence not found")
}

impl PostedMatcher {
    fn read(self, at: usize) -> Result<Matcher, Failure> {
        let required = |name: &str| Failure::bad_request(format!("matchers.{at}.{name} in body is required"));
        let name = self.name.ok_or_else(|| required("name"))?;
        let value = self.value.ok_or_else(|| required("value"))?;
        let is_regex = self.is_regex.ok_or_else(|| required("isRegex"))?;
        let op = match (self.is_equal.unwrap_or(true), is_regex) {
            (true, false) => MatcherOp::Equal,
            (false, false) => MatcherOp::NotEqual,
            (true, true) => MatcherOp::Matches,
            (false, true) => MatcherOp::NotMatches,
        };
        Matcher::new(&name, op, &value)
            .map_err(|error| Failure::bad_request(format!("invalid label matcher {at}: {error}")))
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, Failure> {
    if body.is_empty() {
        return Err(Failure::bad_request(format!("{what} in body is required")));
    }
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("parsing {what} body failed, because {error}")))
}

/// Reads RFC 3339; the year one, Go's zero time, and nothing mean that no moment is given.
fn moment(text: &str) -> Result<Option<Timestamp>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_dated = text.len() >= 20 && matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' '));
    let read = text.parse::<jiff::Timestamp>().ok().filter(|_| is_dated);
    let moment = read.ok_or_else(|| format!("{text:?} is no time of RFC 3339"))?;
    let zero = jiff::Timestamp::from_second(GO_ZERO_S).expect("the year one is known");
    Ok((moment != zero).then(|| Timestamp::from_millis(moment.as_millisecond())))
}

/// The first second of the year one, in seconds since 1970.
const GO_ZERO_S: i64 = -62_135_596_800;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
        result.expect_err("refused").0.detail.into_owned()
    }

    #[test]
    fn moments_are_read_as_go_writes_them() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(moment(text), Ok(expected.map(Timestamp::from_millis)), "{text}");
        };
        // `date -u -d 2026-11-24T10:00:00Z +%s`
        check("2026-11-24T10:00:00Z", Some(1_795_514_400_000));
        check("2026-11-24T18:00:00.123456789+08:00", Some(1_795_514_400_123));
        check("0001-01-01T00:00:00Z", None);
        check("0001-01-01T00:00:00.000Z", None);
        check("", None);
        for text in [
            "yesterday",
            "2026-11-24",
            "1795514400",
            "2026-13-24T10:00:00Z",
            "now",
        ] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn alerts_are_read_as_prometheus_and_amtool_send_them() {
        let body = br#"[{"annotations":{"summary":"x"},"endsAt":"2026-11-24T10:04:00.000Z","startsAt":"0001-01-01T00:00:00.000Z",
            "generatorURL":"http://p/graph?g0.expr=up","labels":{"alertname":"Down","job":"a"},"unknown":1},{"labels":{}}]"#;
        let read = alerts(body).expect("they are read");
        assert_eq!(read.len(), 2);
        assert_eq!(
            read[0].labels,
            Labels::from_pairs([("alertname", "Down"), ("job", "a")])
        );
        assert_eq!(read[0].starts_at, None);
        assert_eq!(read[0].ends_at, Some(Timestamp::from_millis(1_795_514_640_000)));
        assert_eq!(read[0].generator_url, "http://p/graph?g0.expr=up");
        assert!(read[1].labels.is_empty() && read[1].ends_at.is_none());
        assert!(alerts(b"null").expect("Alertmanager takes it").is_empty());
        assert_eq!(words(alerts(b"[{}]")), "0.labels in body is required");
        assert_eq!(words(alerts(b"")), "alerts in body is required");
        assert!(
            words(alerts(br#"[{"labels":{"a":1}}]"#)).starts_with("parsing alerts body failed, because ")
        );
        assert_eq!(
            words(alerts(br#"[{"labels":{"a":"b"},"startsAt":"yesterday"}]"#)),
            "0.startsAt in body: \"yesterday\" is no time of RFC 3339"
        );
    }

    #[test]
    fn silences_are_read_and_what_is_missing_is_named() {
        let whole = r#"{"matchers":[{"name":"a","value":"b.*","isRegex":true,"isEqual":false}],"startsAt":"2026-11-24T10:00:00Z",
            "endsAt":"2026-11-24T11:00:00Z","createdBy":"chen","comment":"work"}"#;
        let read = silence(whole.as_bytes()).expect("it is read");
        let expected = Matcher::new("a", MatcherOp::NotMatches, "b.*").expect("a good expression");
        assert_eq!(read.draft.matchers, [expected]);
        assert_eq!((read.draft.id, read.is_confirmed), (None, false));
        let confirmed = whole.replace(
            "\"comment\"",
            "\"annotations\":{\"confirm\":\"true\"},\"comment\"",
        );
        assert!(silence(confirmed.as_bytes()).expect("it is read").is_confirmed);
        let confirmed = whole.replace("\"work\"", "\"confirm: all of it\"");
        assert!(silence(confirmed.as_bytes()).expect("it is read").is_confirmed);
        let bare = whole.replace("\"work\"", "\"\"");
        assert_eq!(silence(bare.as_bytes()).expect("it is read").draft.comment, "-");
        for key in ["matchers", "startsAt", "endsAt", "createdBy", "comment"] {
            let lacking = whole.replace(&format!("\"{key}\""), "\"other\"");
            assert_eq!(
                words(silence(lacking.as_bytes())),
                format!("{key} in body is required")
            );
        }
        for key in ["name", "value", "isRegex"] {
            let lacking = whole.replace(&format!("\"{key}\""), "\"other\"");
            assert_eq!(
                words(silence(lacking.as_bytes())),
                format!("matchers.0.{key} in body is required")
            );
        }
        let named = whole.replace("{\"matchers\"", "{\"id\":\"nonsense\",\"matchers\"");
        let Failure(problem) = silence(named.as_bytes()).expect_err("no such id");
        assert_eq!(
            (problem.status.as_u16(), &*problem.detail),
            (404, "silence not found")
        );
    }

    proptest! {
        #[test]
        fn no_body_makes_a_reader_panic(bytes: Vec<u8>, text in r#"\[?\{("(id|labels|matchers|startsAt|endsAt)":("x"|1|null|\[\]|\{\}),?){0,4}\}\]?"#) {
            let _ = alerts(&bytes);
            let _ = silence(&bytes);
            let _ = alerts(text.as_bytes());
            let _ = silence(text.as_bytes());
            let _ = moment(&text);
        }
    }
}
