//! `/api/v1/schedules` and `/api/v1/overrides`: who is on call, when, and who stands in.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use marketprism_alerts::OverrideDraft;
use marketprism_alerts::schedule::{Cause, OverrideError, Schedule, Shift};
use marketprism_model::{Id, ShiftOverride, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::acts::actor;
use super::document::time;
use super::list::{known_only, moment};
use crate::Server;
use crate::access::{Caller, Subject};
use crate::answer::{self, Gzip};
use crate::problem::Problem;
use crate::prometheus::params::parse_time;
use crate::request::{Query, Segment, read_json};

/// Shifts are shown for this long unless the client says how long.
const SHOWN: Duration = Duration::from_secs(14 * 86_400);
/// And for this long at most.
const SHOWN_MAX: Duration = Duration::from_secs(366 * 86_400);

/// `GET /api/v1/schedules`: each with who is on call now; all in one page, for they are configured and few.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    known_only(&query.params, &[])?;
    let parts = server.parts()?;
    let now = server.shared().clock.now();
    let schedules = parts.alerts.schedules();
    let overrides = parts.alerts.overrides();
    let items = schedules
        .names()
        .filter_map(|name| schedules.get(name))
        .map(|schedule| one_schedule(schedule, &overrides, now));
    let document = json!({ "items": items.collect::<Vec<_>>(), "next_cursor": null });
    Ok(answer::json(&document, query.gzip))
}

/// `GET /api/v1/schedules/{name}`: with its shifts between `from` and `to`.
pub async fn one(
    State(server): State<Server>,
    Segment(name): Segment,
    query: Query,
) -> Result<Response, Problem> {
    known_only(&query.params, &["from", "to"])?;
    let parts = server.parts()?;
    let now = server.shared().clock.now();
    let from = moment(&query.params, "from")?.unwrap_or(now);
    let to = moment(&query.params, "to")?.unwrap_or(from + SHOWN);
    if to <= from || to.since(from) > SHOWN_MAX {
        let reason = format_args!("{to} must be after {from}, and at most 366 days after it");
        return Err(Problem::bad_parameter("to", reason));
    }
    let told = server.act(move || {
        let schedules = parts.alerts.schedules();
        let schedule = schedules
            .get(&name)
            .ok_or_else(|| Problem::from(OverrideError::UnknownSchedule(name.clone())))?;
        let overrides = parts.alerts.overrides();
        let mut told = one_schedule(schedule, &overrides, now);
        let shifts = schedule.shifts(from, to, &overrides);
        told["shifts"] = shifts.items.iter().map(shift).collect();
        told["shifts_until"] = time(shifts.until);
        told["layers"] = json!(schedule.config().layers);
        Ok::<_, Problem>(told)
    });
    Ok(answer::json(&told.await?, query.gzip))
}

/// The body of an override.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    schedule: String,
    receiver: String,
    #[serde(default)]
    starts_at: Option<String>,
    ends_at: String,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    by: Option<String>,
}

/// `POST /api/v1/overrides`: `{schedule, receiver, starts_at, ends_at, comment, by}`; 201 with the override.
pub async fn put_override(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let shared = server.shared();
    let body: Body = read_json(request, shared.config.body_bytes_max).await?;
    let by = actor(&caller.identity()?.actor, body.by.as_deref())?;
    let moment =
        |name: &str, text: &str| parse_time(text).map_err(|reason| Problem::bad_parameter(name, reason));
    let now = shared.clock.now();
    let draft = OverrideDraft {
        schedule: body.schedule,
        receiver: body.receiver,
        starts_at: match body.starts_at.as_deref() {
            None | Some("") => now,
            Some(text) => moment("starts_at", text)?,
        },
        ends_at: moment("ends_at", &body.ends_at)?,
        created_by: by,
        comment: body.comment,
    };
    let arranged = server.act(move || parts.alerts.put_override(draft)).await?;
    let told = arrangement(&arranged);
    let subject = format!("{} {}", arranged.schedule, arranged.id);
    let mut response = answer::json(&told, Gzip(false));
    *response.status_mut() = StatusCode::CREATED;
    response.extensions_mut().insert(Subject(subject));
    Ok(response)
}

/// `DELETE /api/v1/overrides/{id}`: takes one back; 204.
pub async fn drop_override(
    State(server): State<Server>,
    Segment(id): Segment,
    _: Caller,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let id: Id = id.parse().map_err(|error| Problem::bad_parameter("id", error))?;
    server.act(move || parts.alerts.drop_override(id)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn one_schedule(schedule: &Schedule, overrides: &[ShiftOverride], now: Timestamp) -> Value {
    let config = schedule.config();
    let own = overrides.iter().filter(|one| one.schedule == config.name);
    json!({
        "name": config.name,
        "time_zone": config.time_zone,
        "on_call": schedule.who(now, overrides),
        "next_change_at": time(schedule.next_change(now, overrides)),
        "overrides": own.map(arrangement).collect::<Vec<_>>(),
    })
}

fn shift(shift: &Shift) -> Value {
    json!({
        "starts_at": time(shift.starts_at),
        "ends_at": time(shift.ends_at),
        "receivers": shift.receivers,
        "cause": match shift.cause {
            Cause::Layer(number) => json!({ "layer": number }),
            Cause::Override(id) => json!({ "override": id }),
            Cause::Nothing => Value::Null,
        },
    })
}

fn arrangement(one: &ShiftOverride) -> Value {
    json!({
        "id": one.id,
        "schedule": one.schedule,
        "receiver": one.receiver,
        "starts_at": time(one.starts_at),
        "ends_at": time(one.ends_at),
        "created_by": one.created_by,
        "created_at": time(one.created_at),
        "comment": one.comment,
    })
}

impl From<OverrideError> for Problem {
    fn from(error: OverrideError) -> Self {
        match error {
            OverrideError::UnknownSchedule(_) => Problem::not_found(error.to_string()),
            OverrideError::TooMany => Problem::conflict(error.to_string()),
            error => Problem::bad_body(error.to_string()),
        }
    }
}
