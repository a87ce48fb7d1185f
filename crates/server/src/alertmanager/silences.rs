//! `silences` and `silence/{id}`: what people ask not to be told of.
//!
//! A silence is kept under the name that the client gives, and whoever sends it stands beside that name when it is
//! another one, so that nobody silences under the name of another.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use marketprism_alerts::ArrangeError;
use marketprism_model::{Id, Matcher, Silence, SilenceState};
use serde_json::{Value, json};

use super::answer::{Failure, done};
use super::{document, filter, posted};
use crate::Server;
use crate::access::{Caller, Subject};
use crate::answer::{self, Gzip};
use crate::problem::Problem;
use crate::request::{Query, Segment, has_media_type, read_body};

/// `GET silences`: those that are not over, and those that ended lately.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Failure> {
    let params = &query.params;
    let wanted = filter::matchers(params, "filter")?;
    let [active, pending, expired] = ["active", "pending", "expired"].map(|name| filter::flag(params, name));
    let parts = server.parts()?;
    let now = server.shared().clock.now();
    let listed = server.act(move || {
        let mut silences = parts.alerts.silences();
        silences.retain(|silence| {
            let is_state = match silence.state(now) {
                SilenceState::Active => active,
                SilenceState::Pending => pending,
                SilenceState::Expired => expired,
            };
            is_state && has_all(silence, &wanted)
        });
        document::sort(&mut silences, now);
        let told: Vec<Value> = silences
            .iter()
            .map(|silence| document::silence(silence, now))
            .collect();
        Ok::<_, Problem>(answer::json(&told, query.gzip))
    });
    Ok(listed.await?)
}

/// `GET silence/{id}`
pub async fn one(
    State(server): State<Server>,
    Segment(id): Segment,
    query: Query,
) -> Result<Response, Failure> {
    let id: Id = id.parse().map_err(|_| posted::not_found())?;
    let parts = server.parts()?;
    let found = server.look_up(move || parts.alert_store.silence(id)).await?;
    let silence = found.ok_or_else(posted::not_found)?;
    let now = server.shared().clock.now();
    Ok(answer::json(&document::silence(&silence, now), query.gzip))
}

/// `POST silences`: makes one, or changes the one that is named; answers its id, which may be a new one.
pub async fn put(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, Failure> {
    let parts = server.parts()?;
    if !has_media_type(request.headers(), "application/json") {
        let words = "the body must be application/json";
        return Err(Problem::unsupported_media_type(words).into());
    }
    let body = read_body(request.into_body(), server.shared().config.body_bytes_max).await?;
    let mut asked = posted::silence(&body)?;
    let recognised = caller.identity()?.actor.clone();
    let kept = server.act(move || {
        let old = asked.draft.id.and_then(|id| parts.alerts.silence(id));
        let is_kept_name = old.is_some_and(|old| old.created_by == asked.draft.created_by);
        if !is_kept_name {
            asked.draft.created_by = author(&recognised, &asked.draft.created_by);
        }
        parts.alerts.put_silence(asked.draft, asked.is_confirmed)
    });
    let change = kept.await.map_err(in_words)?;
    let id = change.silence.id.to_string();
    let mut response = answer::json(&json!({ "silenceID": id }), Gzip(false));
    response.extensions_mut().insert(Subject(id));
    Ok(response)
}

/// `DELETE silence/{id}`: ends it; one that has ended stays as it is.
pub async fn expire(State(server): State<Server>, Segment(id): Segment) -> Result<Response, Failure> {
    let id: Id = id.parse().map_err(|_| posted::not_found())?;
    let parts = server.parts()?;
    let ended = server.act(move || match parts.alerts.expire_silence(id) {
        Ok(_) | Err(ArrangeError::Over(_)) => Ok(()),
        Err(error) => Err(error),
    });
    ended.await.map_err(in_words)?;
    Ok(done())
}

/// Says it in Alertmanager's words and with its status codes.
fn in_words(problem: Problem) -> Failure {
    match problem.status {
        StatusCode::NOT_FOUND => posted::not_found(),
        StatusCode::CONFLICT => Failure::bad_request(format!(
            "{}: in our own API with \"confirm\": true, here by a comment that begins with \"confirm:\" or the annotation confirm=\"true\"",
            problem.detail
        )),
        _ => Failure(problem),
    }
}

/// Says whether a silence has every one of the wanted matchers, word for word.
fn has_all(silence: &Silence, wanted: &[Matcher]) -> bool {
    wanted.iter().all(|matcher| silence.matchers.contains(matcher))
}

/// Says under which name a silence is kept: the one that is given, and whoever sends it beside it.
fn author(recognised: &str, given: &str) -> String {
    let given = given.trim();
    let beside = format!(" ({recognised})");
    match (recognised, given) {
        ("", given) => given.to_owned(),
        (recognised, "") => recognised.to_owned(),
        (recognised, given) if given == recognised || given.ends_with(&beside) => given.to_owned(),
        (_, given) => format!("{given}{beside}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_sends_a_silence_stands_beside_another_name() {
        let check = |recognised: &str, given: &str, expected: &str| {
            assert_eq!(author(recognised, given), expected, "{recognised:?} {given:?}");
        };
        check("", "root", "root");
        check("chen", "chen", "chen");
        check("chen", " ", "chen");
        check("token:karma", "chen", "chen (token:karma)");
        check("token:karma", "chen (token:karma)", "chen (token:karma)");
        check("bob", "chen (token:karma)", "chen (token:karma) (bob)");
    }
}
