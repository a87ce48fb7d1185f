//! How alerts and silences are written for Alertmanager's clients: straight into one text, for there may be 100,000.

use std::fmt::Write as _;
use std::time::Duration;

use marketprism_model::alert::Suppression;
use marketprism_model::{Alert, Id, MatcherOp, Silence, SilenceState, Timestamp};
use serde_json::{Value, json};

use crate::prometheus::write_json::{push_labels, push_string, push_strings};

/// Where an alert stands, in the words of this surface.
///
/// What is held back for its number or by a storm is active here, as an acknowledged one is: Alertmanager has no word
/// for it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Ids of silences.
    pub silenced_by: Vec<String>,
    /// Fingerprints of the alerts that inhibit it.
    pub inhibited_by: Vec<String>,
    /// Names of time intervals.
    pub muted_by: Vec<String>,
}

impl Status {
    /// Reads reasons; `fingerprint` gives that of another alert, if it still stands.
    pub fn of(reasons: &[Suppression], fingerprint: impl Fn(Id) -> Option<u64>) -> Self {
        let mut status = Status::default();
        for reason in reasons {
            match reason {
                Suppression::Silence(id) => status.silenced_by.push(id.to_string()),
                Suppression::Inhibition(id) => {
                    let source =
                        fingerprint(*id).map_or_else(|| id.to_string(), |print| format!("{print:016x}"));
                    status.inhibited_by.push(source);
                }
                Suppression::Mute(interval) => status.muted_by.push(interval.clone()),
                Suppression::Limit | Suppression::Storm => {}
            }
        }
        status
    }

    /// Gives the word for it.
    pub fn state(&self) -> &'static str {
        let is_free = self.silenced_by.is_empty() && self.inhibited_by.is_empty() && self.muted_by.is_empty();
        if is_free { "active" } else { "suppressed" }
    }
}

/// One alert and what is said of it.
pub struct Shown<'a> {
    /// The alert.
    pub alert: &'a Alert,
    /// Where it stands.
    pub status: &'a Status,
    /// Who hears of it.
    pub receivers: &'a [&'a str],
}

/// What is the same for every alert of an answer.
pub struct Writer {
    /// Now.
    pub now: Timestamp,
    /// How long an alert of our own rules stands without being seen again, as clients understand it.
    pub resolve_timeout: Duration,
    /// What links begin with.
    pub link_base: String,
}

impl Writer {
    /// Appends an alert.
    pub fn push(&self, text: &mut String, shown: &Shown<'_>) {
        let Shown {
            alert,
            status,
            receivers,
        } = shown;
        text.push_str("{\"annotations\":");
        push_labels(text, &alert.annotations);
        let ends_at = match &alert.external {
            Some(external) => external.ends_at,
            None => self.now + self.resolve_timeout,
        };
        let starts_at = alert.fired_at.unwrap_or(alert.active_at);
        let _ = write!(
            text,
            ",\"endsAt\":\"{ends_at}\",\"fingerprint\":\"{:016x}\",\"receivers\":[",
            alert.fingerprint()
        );
        for (at, receiver) in receivers.iter().enumerate() {
            text.push_str(if at == 0 { "{\"name\":" } else { ",{\"name\":" });
            push_string(text, receiver);
            text.push('}');
        }
        let _ = write!(
            text,
            "],\"startsAt\":\"{starts_at}\",\"status\":{{\"inhibitedBy\":"
        );
        push_strings(text, status.inhibited_by.iter().map(String::as_str));
        text.push_str(",\"mutedBy\":");
        push_strings(text, status.muted_by.iter().map(String::as_str));
        text.push_str(",\"silencedBy\":");
        push_strings(text, status.silenced_by.iter().map(String::as_str));
        let _ = write!(
            text,
            ",\"state\":\"{}\"}},\"updatedAt\":\"{}\"",
            status.state(),
            alert.updated_at
        );
        self.push_generator_url(text, alert);
        text.push_str(",\"labels\":");
        push_labels(text, &alert.sent_labels());
        text.push('}');
    }

    /// The sender's own link, or ours to the expression; absent when there is neither.
    fn push_generator_url(&self, text: &mut String, alert: &Alert) {
        let url = match &alert.external {
            Some(external) => external.generator_url.clone(),
            None if alert.expr.is_empty() => String::new(),
            None => {
                let expr: String = form_urlencoded::byte_serialize(alert.expr.as_bytes()).collect();
                format!("{}/graph?g0.expr={expr}&g0.tab=1", self.link_base)
            }
        };
        if !url.is_empty() {
            text.push_str(",\"generatorURL\":");
            push_string(text, &url);
        }
    }
}

/// Writes a silence.
pub fn silence(silence: &Silence, now: Timestamp) -> Value {
    let matchers = silence.matchers.iter().map(|matcher| {
        json!({
            "isEqual": !matcher.op.is_negative(),
            "isRegex": matches!(matcher.op, MatcherOp::Matches | MatcherOp::NotMatches),
            "name": matcher.name,
            "value": matcher.value,
        })
    });
    json!({
        "id": silence.id,
        "status": { "state": silence.state(now) },
        "updatedAt": silence.updated_at.to_string(),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "startsAt": silence.starts_at.to_string(),
        "endsAt": silence.ends_at.to_string(),
        "matchers": matchers.collect::<Vec<_>>(),
        "annotations": {},
    })
}

/// Puts silences in Alertmanager's order: active ones, the next to end first; pending ones, the next to begin first;
/// expired ones, the latest first.
pub fn sort(silences: &mut [impl AsRef<Silence>], now: Timestamp) {
    silences.sort_by_key(|silence| {
        let silence = silence.as_ref();
        match silence.state(now) {
            SilenceState::Active => (0, silence.ends_at.millis()),
            SilenceState::Pending => (1, silence.starts_at.millis()),
            SilenceState::Expired => (2, silence.ends_at.millis().saturating_neg()),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_785_576_600_000);

    fn made(id: u128, starts_in_s: u64, ends_in_s: u64) -> std::sync::Arc<Silence> {
        std::sync::Arc::new(Silence {
            id: Id::from_u128(id),
            matchers: Vec::new(),
            starts_at: START + Duration::from_secs(starts_in_s),
            ends_at: START + Duration::from_secs(ends_in_s),
            updated_at: START,
            created_by: String::new(),
            comment: String::new(),
            recurs: Vec::new(),
            is_until_resolved: false,
        })
    }

    #[test]
    fn silences_come_in_the_order_of_alertmanager() {
        let mut silences = vec![
            made(1, 0, 10),
            made(2, 0, 20),
            made(3, 200, 300),
            made(4, 150, 300),
            made(5, 0, 250),
            made(6, 0, 240),
        ];
        sort(&mut silences, START + Duration::from_secs(100));
        let order: Vec<u128> = silences.iter().map(|silence| silence.id.as_u128()).collect();
        assert_eq!(order, [6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn reasons_become_the_three_lists_and_the_state() {
        let (silence, source, gone) = (Id::from_u128(1), Id::from_u128(2), Id::from_u128(3));
        let prints = |id: Id| (id == source).then_some(0xab);
        let check = |reasons: &[Suppression], state: &str, lists: [&[&str]; 3]| {
            let status = Status::of(reasons, prints);
            assert_eq!(status.state(), state);
            assert_eq!(
                [&status.silenced_by[..], &status.inhibited_by, &status.muted_by],
                lists
            );
        };
        check(&[], "active", [&[], &[], &[]]);
        check(
            &[Suppression::Limit, Suppression::Storm],
            "active",
            [&[], &[], &[]],
        );
        check(
            &[Suppression::Silence(silence)],
            "suppressed",
            [&[&silence.to_string()], &[], &[]],
        );
        check(
            &[Suppression::Inhibition(source), Suppression::Inhibition(gone)],
            "suppressed",
            [&[], &["00000000000000ab", &gone.to_string()], &[]],
        );
        check(
            &[Suppression::Mute("night".into())],
            "suppressed",
            [&[], &[], &["night"]],
        );
    }
}
