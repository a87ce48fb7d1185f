//! The pages: plain HTML drawn by the server, no script, in Chinese and English.
//!
//! They stand until the user interface does, and behind it when a browser cannot run that. Deliberately
//! absent: anything that changes something but the session; pages only show.

mod alert_list;
pub mod assets;
pub mod expression;
mod figures;
pub mod frame;
pub mod language;
pub mod login;
pub mod overview;
pub mod story;
pub mod wording;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use marketprism_access::Identity;
use marketprism_collect::scrape::ActiveTarget;
use marketprism_model::records::NotificationFilter;
use marketprism_model::{Alert, AlertFilter, AlertState, Level};
use marketprism_rules::GroupSnapshot;
use maud::Markup;

use self::frame::View;
use self::language::Language;
use self::login::Who;
use self::overview::{GroupRow, Overview, ROWS_MAX, TargetRow};
use crate::Server;
use crate::access::Caller;
use crate::answer::{self, Gzip};
use crate::api::alerts::{Story, parse_id};
use crate::parts::Parts;
use crate::problem::Problem;
use crate::prometheus::params::Params;
use crate::request::{Query, Segment};

pub use self::assets::asset;

const HTML: &str = "text/html; charset=utf-8";
/// The overview reloads itself this often.
const REFRESH_S: u32 = 15;
/// The page that says "not yet" reloads itself this often.
const STARTING_REFRESH_S: u32 = 3;
/// The overview shows this many notifications.
const NOTIFICATIONS_SHOWN: usize = 10;

/// `GET /`
pub async fn overview(
    State(server): State<Server>,
    caller: Caller,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    let view = view(&server, &query, &headers, &caller);
    let phase = server.shared().readiness.phase();
    let Ok(parts) = server.parts() else {
        return Ok(starting(&view, &phase));
    };
    let read = server.look_up(move || Ok(gather(&parts, phase))).await?;
    let main = overview::overview(&view, &read);
    let title = view.language.texts().overview;
    let page = frame::page(&view, title, "/", Some(REFRESH_S), &main);
    Ok(drawn(StatusCode::OK, page, query.gzip))
}

/// `GET /alerts/{id}`
pub async fn alert(
    State(server): State<Server>,
    Segment(id): Segment,
    caller: Caller,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    let view = view(&server, &query, &headers, &caller);
    let parts = server.parts()?;
    let id = parse_id(&id)?;
    let now = view.now;
    let story = server.look_up(move || Story::read(&parts, id, now)).await?;
    let path = format!("/alerts/{id}");
    let (status, page) = match story {
        Some(story) => {
            let main = story::story(&view, &story);
            let page = frame::page(&view, story.alert.name(), &path, Some(REFRESH_S), &main);
            (StatusCode::OK, page)
        }
        None => {
            let text = view.language.texts().no_such_alert;
            (StatusCode::NOT_FOUND, frame::notice(&view, text, &path, None))
        }
    };
    Ok(drawn(status, page, query.gzip))
}

/// Draws what stands at a page while nobody can be asked who they are.
pub fn not_yet(server: &Server, uri: &Uri, headers: &HeaderMap) -> Response {
    let params = Params::parse(uri.query().unwrap_or(""), b"").unwrap_or_default();
    let view = view_of(server, &params, headers, None);
    starting(&view, &server.shared().readiness.phase())
}

/// Draws what stands at `/` while the rooms are not there.
fn starting(view: &View, phase: &crate::Phase) -> Response {
    let text = match phase {
        crate::Phase::Starting(reason) => format!("{} ({reason})", view.language.texts().starting_page),
        _ => view.language.texts().phase_draining.to_owned(),
    };
    let page = frame::notice(view, &text, "/", Some(STARTING_REFRESH_S));
    let mut response = drawn(StatusCode::SERVICE_UNAVAILABLE, page, Gzip(false));
    let retry = HeaderValue::from(STARTING_REFRESH_S);
    response.headers_mut().insert(header::RETRY_AFTER, retry);
    response
}

fn view(server: &Server, query: &Query, headers: &HeaderMap, caller: &Caller) -> View {
    view_of(server, &query.params, headers, caller.identity.as_ref())
}

fn view_of(server: &Server, params: &Params, headers: &HeaderMap, identity: Option<&Identity>) -> View {
    let language = Language::choose(params, headers);
    View {
        language,
        is_language_chosen: !params.get("lang").is_empty(),
        zone: server.shared().zone.clone(),
        now: server.shared().clock.now(),
        who: identity.and_then(|identity| Who::of(identity, language)),
    }
}

fn drawn(status: StatusCode, page: Markup, gzip: Gzip) -> Response {
    answer::body(status, HTML, page.into_string().into_bytes(), gzip)
}

/// Reads everything the overview shows; blocking.
fn gather(parts: &Arc<Parts>, phase: crate::Phase) -> Overview {
    let filter = NotificationFilter {
        limit: NOTIFICATIONS_SHOWN,
        ..NotificationFilter::default()
    };
    let notifications = parts.outbox.notifications(&filter).and_then(|page| {
        let with_attempts = page.items.into_iter().map(|notification| {
            let attempts = parts.outbox.attempts(notification.id)?;
            Ok((notification, attempts))
        });
        with_attempts.collect()
    });
    Overview {
        phase,
        health: (parts.watchdog)(),
        firing: alerts_in(parts, AlertState::Firing),
        pending: alerts_in(parts, AlertState::Pending),
        notifications: notifications.map_err(|error| error.to_string()),
        targets: target_rows(parts),
        groups: (parts.rules)()
            .groups
            .iter()
            .map(|group| group_row(group))
            .collect(),
        figures: parts
            .stats
            .iter()
            .map(|(section, figures)| (*section, figures()))
            .collect(),
    }
}

/// Reads the alerts in a state; each level by itself, so that many mild ones never hide a bad one.
fn alerts_in(parts: &Parts, state: AlertState) -> Result<Vec<Alert>, String> {
    let mut alerts = Vec::new();
    for level in Level::ALL {
        let filter = AlertFilter {
            states: vec![state],
            levels: vec![level],
            limit: ROWS_MAX + 1,
            ..AlertFilter::default()
        };
        let page = parts.alert_store.alerts(&filter);
        alerts.extend(page.map_err(|error| error.to_string())?.items);
    }
    overview::sort_by_urgency(&mut alerts);
    Ok(alerts)
}

fn target_rows(parts: &Parts) -> Vec<TargetRow> {
    let targets = (parts.targets)();
    let row = |active: &Arc<ActiveTarget>| {
        let status = active.status();
        let labels = &active.target.labels;
        let instance = labels.get("instance").map(str::to_owned);
        TargetRow {
            job: labels.get("job").unwrap_or(&active.pool).to_owned(),
            instance: instance.unwrap_or_else(|| active.target.shown_url()),
            health: status.health,
            last_scrape: status.last_scrape,
            error: status.last_error.clone(),
        }
    };
    targets.active.iter().map(row).collect()
}

fn group_row(group: &GroupSnapshot) -> GroupRow {
    let error_of = |rule: &marketprism_rules::RuleSnapshot| {
        let error = rule.last_error.as_ref()?;
        Some((rule.rule.name.to_string(), error.to_string()))
    };
    GroupRow {
        name: group.spec.name.to_string(),
        file: group.spec.file.to_string(),
        rule_count: group.rules.len(),
        interval: group.spec.interval,
        took: group.last_evaluation.map(|_| group.evaluation_time),
        missed: group.missed,
        errors: group.rules.iter().filter_map(error_of).collect(),
    }
}
