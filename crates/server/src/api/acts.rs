//! What people do to alerts: `POST /api/v1/alerts/{id}/…`, and the same to many at once.
//!
//! Each act is kept under the name of whoever asks, and leaves its line in the audit log. Whether it may be done, and
//! what follows from it, is decided in the room `alerts`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use marketprism_alerts::silences::SilenceError;
use marketprism_alerts::{ActError, AlertAct};
use marketprism_model::alert::Suppression;
use marketprism_model::{Alert, AlertState, Id, Matcher, Silence, Timestamp, labels};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::alerts::{look_anew, no_such_alert, parse_id};
use super::document;
use crate::Server;
use crate::access::{Caller, Subject};
use crate::answer::{self, Gzip};
use crate::parts::Parts;
use crate::problem::Problem;
use crate::prometheus::params::parse_time;
use crate::request::{Segment, read_json};

/// The name of whoever acts is at most this long.
const ACTOR_BYTES_MAX: usize = 256;
/// So begins the name under which an API token acts.
const TOKEN_PREFIX: &str = "token:";
/// So many alerts may be acted on at once.
const IDS_MAX: usize = 1000;

/// The body of an act. Each act takes some of these.
#[derive(Default, Deserialize)]
struct Body {
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    until: Option<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    ids: Option<Vec<String>>,
    #[serde(default)]
    action: Option<String>,
    /// What no act takes.
    #[serde(flatten)]
    foreign: BTreeMap<String, IgnoredAny>,
}

/// The acts, and the fields that each of them takes besides `by`.
const ACTS: [(&str, &[&str]); 7] = [
    ("acknowledge", &["note", "until"]),
    ("unacknowledge", &[]),
    ("resolve", &["note"]),
    ("assign", &["to", "note"]),
    ("unassign", &["note"]),
    ("note", &["note"]),
    ("suppress", &["note", "until"]),
];

/// Reads what the act `name` needs from the body; fields that it does not take are refused.
fn read(name: &str, body: &Body) -> Result<AlertAct, Problem> {
    let known = ACTS.iter().find(|(act, _)| *act == name);
    let (_, takes) = known.ok_or_else(|| {
        let acts = ACTS.map(|(act, _)| act).join(", ");
        Problem::bad_parameter("action", format_args!("unknown {name:?}; known are {acts}"))
    })?;
    for (field, is_given) in [
        ("note", body.note.is_some()),
        ("until", body.until.is_some()),
        ("to", body.to.is_some()),
    ] {
        if is_given && !takes.contains(&field) {
            return Err(not_taken(name, field));
        }
    }
    if let Some(field) = body.foreign.keys().next() {
        return Err(not_taken(name, field));
    }
    let note = body.note.clone().unwrap_or_default();
    Ok(match name {
        "acknowledge" => AlertAct::Acknowledge {
            note,
            until: moment(body)?,
        },
        "unacknowledge" => AlertAct::Unacknowledge,
        "resolve" => AlertAct::Resolve { note },
        "assign" => AlertAct::Assign {
            to: Some(required("to", body.to.as_deref())?),
            note,
        },
        "unassign" => AlertAct::Assign { to: None, note },
        "note" => AlertAct::Note { note },
        _ => AlertAct::Suppress {
            comment: note,
            until: moment(body)?,
        },
    })
}

/// Refuses a field that an act does not take, and says what it takes.
fn not_taken(name: &str, field: &str) -> Problem {
    let known = ACTS.iter().find(|(act, _)| *act == name);
    let mut takes: Vec<&str> = known.map_or_else(Vec::new, |(_, takes)| takes.to_vec());
    takes.push("by");
    let reason = format_args!("nothing that {name} takes; it takes {}", takes.join(", "));
    Problem::bad_parameter(field, reason)
}

fn required(name: &str, text: Option<&str>) -> Result<String, Problem> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    text.map(str::to_owned)
        .ok_or_else(|| Problem::bad_parameter(name, "must say something"))
}

fn moment(body: &Body) -> Result<Option<Timestamp>, Problem> {
    match body.until.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => parse_time(text)
            .map(Some)
            .map_err(|reason| Problem::bad_parameter("until", reason)),
    }
}

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        pub async fn $name(
            State(server): State<Server>,
            Segment(id): Segment,
            caller: Caller,
            request: Request,
        ) -> Result<Response, Problem> {
            one(server, stringify!($name), &id, &caller, request).await
        }
    )*};
}

acts! {
    /// `POST /api/v1/alerts/{id}/acknowledge`: `{note, until, by}`, the answer is the alert as it stands then.
    acknowledge;
    /// `POST /api/v1/alerts/{id}/unacknowledge`: `{by}`
    unacknowledge;
    /// `POST /api/v1/alerts/{id}/resolve`: `{note, by}`
    resolve;
    /// `POST /api/v1/alerts/{id}/assign`: `{to, note, by}`
    assign;
    /// `POST /api/v1/alerts/{id}/unassign`: `{note, by}`
    unassign;
    /// `POST /api/v1/alerts/{id}/note`: `{note, by}`
    note;
    /// `POST /api/v1/alerts/{id}/suppress`: `{note, until, by}`, until it resolves when `until` is absent.
    suppress;
}

async fn one(
    server: Server,
    name: &'static str,
    id: &str,
    caller: &Caller,
    request: Request,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let id = parse_id(id)?;
    let body: Body = read_json(request, server.shared().config.body_bytes_max).await?;
    for (field, is_given) in [("ids", body.ids.is_some()), ("action", body.action.is_some())] {
        if is_given {
            return Err(not_taken(name, field));
        }
    }
    let act = read(name, &body)?;
    let by = actor(&caller.identity()?.actor, body.by.as_deref())?;
    let now = server.shared().clock.now();
    let done = server.act(move || {
        let answer = take(&parts, &[id], &act, &by, now)?.pop();
        answer.map_or(Err(ActError::Unknown(id)), |(_, answer)| answer)
    });
    Ok(answer::json(&document::alert(&done.await?), Gzip(false)))
}

/// What became of an act on each of several alerts.
type Answers = Vec<(Id, Result<Alert, ActError>)>;

/// Acts on alerts, and gives each as it stands then; what a silence of its own keeps quiet already gets no second one.
fn take(parts: &Parts, ids: &[Id], act: &AlertAct, by: &str, now: Timestamp) -> Result<Answers, ActError> {
    let mut silenced: HashMap<Id, Arc<Alert>> = HashMap::new();
    for id in ids {
        if let Some((alert, silence)) = silenced_already(parts, *id, act, now) {
            if let AlertAct::Suppress { comment, .. } = act
                && *comment != silence.comment
            {
                let note = comment.clone();
                parts.alerts.act(*id, &AlertAct::Note { note }, by)?;
            }
            silenced.insert(*id, alert);
        }
    }
    let rest: Vec<Id> = ids
        .iter()
        .filter(|id| !silenced.contains_key(id))
        .copied()
        .collect();
    let mut acted = if rest.is_empty() {
        Vec::new().into_iter()
    } else {
        parts.alerts.act_on(&rest, act, by)?.into_iter()
    };
    let as_it_stands = |alert: Arc<Alert>| {
        let mut alert = Arc::unwrap_or_clone(alert);
        look_anew(parts, &mut alert, now);
        alert
    };
    let answers = ids.iter().filter_map(|id| match silenced.remove(id) {
        Some(alert) => Some((*id, Ok(as_it_stands(alert)))),
        None => {
            let (id, answer) = acted.next()?;
            Some((id, answer.map(as_it_stands)))
        }
    });
    Ok(answers.collect())
}

/// Gives an alert with the silence that holds for exactly its labels as long as the act asks, if there is one.
fn silenced_already(
    parts: &Parts,
    id: Id,
    act: &AlertAct,
    now: Timestamp,
) -> Option<(Arc<Alert>, Arc<Silence>)> {
    let AlertAct::Suppress { comment, until } = act else {
        return None;
    };
    if comment.trim().is_empty() {
        return None;
    }
    let active = parts.alerts.active();
    let alert = &active[active.binary_search_by_key(&id, |alert| alert.id).ok()?];
    if alert.state != AlertState::Firing {
        return None;
    }
    let wanted = alert
        .labels
        .iter()
        .filter(|(name, _)| !(alert.has_levels && *name == labels::SEVERITY));
    let wanted: Vec<Matcher> = wanted.map(|(name, value)| Matcher::equal(name, value)).collect();
    let is_it = |silence: &Arc<Silence>| {
        silence.recurs.is_empty()
            && silence.is_until_resolved == until.is_none()
            && until.is_none_or(|until| until == silence.ends_at)
            && silence.matchers.len() == wanted.len()
            && wanted.iter().all(|matcher| silence.matchers.contains(matcher))
    };
    let holding = parts.alerts.suppressions(alert, now);
    let mut silences = holding.iter().filter_map(|by| match by {
        Suppression::Silence(id) => parts.alerts.silence(*id).filter(is_it),
        _ => None,
    });
    silences.next().map(|silence| (Arc::clone(alert), silence))
}

/// `POST /api/v1/alerts/actions`: `{ids, action, by, …}`, each id with the alert or with what was wrong.
pub async fn many(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let body: Body = read_json(request, server.shared().config.body_bytes_max).await?;
    let name = body.action.as_deref().unwrap_or("");
    let act = read(name, &body)?;
    let by = actor(&caller.identity()?.actor, body.by.as_deref())?;
    let ids = body.ids.as_deref().unwrap_or_default();
    if !(1..=IDS_MAX).contains(&ids.len()) {
        let reason = format_args!("{} ids; 1 to {IDS_MAX} are taken", ids.len());
        return Err(Problem::bad_parameter("ids", reason));
    }
    let ids = ids
        .iter()
        .map(|text| text.parse().map_err(|error| Problem::bad_parameter("ids", error)));
    let mut ids: Vec<Id> = ids.collect::<Result<_, Problem>>()?;
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(*id));
    let subject = format!("{name} {}", ids.len());
    let now = server.shared().clock.now();
    let items = server.act(move || {
        let outcome = |(id, answer): (Id, Result<Alert, ActError>)| match answer {
            Ok(alert) => item(id, StatusCode::OK, ("alert", document::alert(&alert))),
            Err(error) => {
                let problem = Problem::from(error);
                item(id, problem.status, ("problem", problem.document(None)))
            }
        };
        let answers = take(&parts, &ids, &act, &by, now)?;
        Ok::<_, ActError>(answers.into_iter().map(outcome).collect::<Vec<_>>())
    });
    let document = json!({ "items": items.await? });
    let mut response = answer::json(&document, Gzip(false));
    response.extensions_mut().insert(Subject(subject));
    Ok(response)
}

fn item(id: Id, status: StatusCode, (name, value): (&str, Value)) -> Value {
    json!({ "id": id, "status": status.as_u16(), name: value })
}

/// Says under which name an act is kept.
///
/// Whoever has logged in acts under the own name and no other. A token may say for whom it acts, and stands beside that
/// name, so that it is never taken for the person. Where nobody is asked who they are, the body must say it.
pub fn actor(recognised: &str, by: Option<&str>) -> Result<String, Problem> {
    let by = by.map(str::trim).filter(|by| !by.is_empty());
    if by.is_some_and(|by| by.len() > ACTOR_BYTES_MAX) {
        let reason = format_args!("longer than {ACTOR_BYTES_MAX} bytes");
        return Err(Problem::bad_parameter("by", reason));
    }
    match (recognised, by) {
        ("", None) => Err(Problem::bad_parameter("by", "must say who acts")),
        ("", Some(by)) => Ok(by.to_owned()),
        (recognised, None) => Ok(recognised.to_owned()),
        (recognised, Some(by)) if by == recognised => Ok(by.to_owned()),
        (token, Some(by)) if token.starts_with(TOKEN_PREFIX) => Ok(format!("{by} ({token})")),
        (recognised, Some(_)) => {
            let reason = format_args!("must be left out or {recognised:?}, who asks");
            Err(Problem::bad_parameter("by", reason))
        }
    }
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Self {
        match error {
            ActError::Unknown(id) => no_such_alert(id),
            ActError::Resolved(_)
            | ActError::Pending(_)
            | ActError::NotAcknowledged(_)
            | ActError::NotAssigned(_) => Problem::conflict(error.to_string()),
            ActError::Past { .. } => Problem::bad_parameter("until", error),
            ActError::NoteTooLong { .. } | ActError::NoteEmpty => Problem::bad_parameter("note", error),
            ActError::Name { .. } => Problem::bad_parameter("to", error),
            ActError::Silence(SilenceError::Blank(_)) => {
                Problem::bad_parameter("note", "a silence needs a reason")
            }
            ActError::Silence(error) => error.into(),
            ActError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_acts_under_the_name_of_another() {
        let check = |recognised: &str, by: Option<&str>, expected: Result<&str, &str>| {
            let found = actor(recognised, by).map_err(|problem| problem.detail.into_owned());
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found, expected, "{recognised:?} {by:?}");
        };
        check("", Some(" chen "), Ok("chen"));
        check("", Some(" "), Err("by: must say who acts"));
        check("", None, Err("by: must say who acts"));
        check("chen", None, Ok("chen"));
        check("chen", Some(""), Ok("chen"));
        check("chen", Some("chen"), Ok("chen"));
        check(
            "chen",
            Some("bob"),
            Err("by: must be left out or \"chen\", who asks"),
        );
        check(
            "chen",
            Some("token:grafana"),
            Err("by: must be left out or \"chen\", who asks"),
        );
        check("token:grafana", None, Ok("token:grafana"));
        check("token:grafana", Some("chen"), Ok("chen (token:grafana)"));
        check(
            "token:grafana",
            Some(&"x".repeat(257)),
            Err("by: longer than 256 bytes"),
        );
    }

    #[test]
    fn an_act_takes_its_own_fields_and_no_others() {
        let check = |text: &str, expected: Result<AlertAct, &str>| {
            let body: Body = serde_json::from_str(text).expect("a body");
            let name = body.action.as_deref().expect("an action");
            let found = read(name, &body).map_err(|problem| problem.detail.into_owned());
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        };
        let until = Some(Timestamp::from_millis(1_785_580_200_000));
        check(
            r#"{"action":"acknowledge","note":"on it","until":"2026-08-01T10:30:00Z"}"#,
            Ok(AlertAct::Acknowledge {
                note: "on it".to_owned(),
                until,
            }),
        );
        check(
            r#"{"action":"suppress","until":"1785580200"}"#,
            Ok(AlertAct::Suppress {
                comment: String::new(),
                until,
            }),
        );
        let to = Some("chen".to_owned());
        let note = String::new();
        check(
            r#"{"action":"assign","to":" chen "}"#,
            Ok(AlertAct::Assign { to, note }),
        );
        check(r#"{"action":"assign","to":" "}"#, Err("to: must say something"));
        check(
            r#"{"action":"unassign","to":"chen"}"#,
            Err("to: nothing that unassign takes; it takes note, by"),
        );
        check(
            r#"{"action":"resolve","until":"1"}"#,
            Err("until: nothing that resolve takes; it takes note, by"),
        );
        check(
            r#"{"action":"acknowledge","who":"li"}"#,
            Err("who: nothing that acknowledge takes; it takes note, until, by"),
        );
        check(
            r#"{"action":"silence"}"#,
            Err(
                "action: unknown \"silence\"; known are acknowledge, unacknowledge, resolve, assign, unassign, note, suppress",
            ),
        );
    }
}
