//! `alerts`: what fires, and what others send.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use marketprism_alerts::{Alerts, Routing};
use marketprism_model::{Alert, AlertState, Id, Timestamp};

use super::answer::{Failure, done};
use super::document::{Shown, Status, Writer};
use super::filter::AlertQuery;
use super::posted;
use super::stream::{self, Bits};
use crate::Server;
use crate::config::Config;
use crate::problem::Problem;
use crate::push;
use crate::request::{Query, has_media_type};
use crate::workers::WorkError;

/// Where alerts are sent to.
pub const PATH: &str = "/alertmanager/api/v2/alerts";
/// Bytes of a request that brings alerts.
const BODY_BYTES_MAX: usize = 8 << 20;
/// So many alerts that are not taken are told of.
const REFUSALS_TOLD_MAX: usize = 10;

/// `GET alerts`: those that fire, by their fingerprints.
pub async fn list(State(server): State<Server>, query: Query) -> Result<Response, Failure> {
    let wanted = AlertQuery::read(&query.params)?;
    let parts = server.parts()?;
    let now = server.shared().clock.now();
    let writer = writer(&server, &parts.alerts, now);
    let gathered = server.act(move || Ok::<_, Problem>(gather(&parts.alerts, wanted, writer)));
    Ok(stream::answer(gathered.await?, query.gzip))
}

/// `POST alerts`: takes those that are right, and says what is wrong with the others.
pub async fn receive(State(server): State<Server>, request: Request) -> Result<Response, Failure> {
    let parts = server.parts()?;
    let (head, body) = request.into_parts();
    if !has_media_type(&head.headers, "application/json") {
        let words = "the body must be application/json";
        return Err(Problem::unsupported_media_type(words).into());
    }
    let limit = body_bytes_max(&server.shared().config);
    let (bytes, _budget) = push::read(&server, &head.headers, body, limit).await?;
    let work = server.shared().pushes.run(move || {
        let received = posted::alerts(&bytes)?;
        parts
            .alerts
            .receive(received)
            .map_err(|error| Failure(Problem::unavailable(error.to_string())))
    });
    let taken = match work.await {
        Ok(taken) => taken?,
        Err(error @ WorkError::Full { .. }) => return Err(Problem::busy(error.to_string()).into()),
        Err(WorkError::Panicked) => return Err(Problem::internal().into()),
    };
    let refused: Vec<String> = taken
        .into_iter()
        .filter_map(|taken| taken.err())
        .map(|error| error.to_string())
        .collect();
    if refused.is_empty() {
        return Ok(done());
    }
    let told = refused.iter().take(REFUSALS_TOLD_MAX);
    let mut words = told.map(String::as_str).collect::<Vec<_>>().join("; ");
    if refused.len() > REFUSALS_TOLD_MAX {
        words.push_str(&format!("; and {} more", refused.len() - REFUSALS_TOLD_MAX));
    }
    Err(Failure::bad_request(words))
}

/// Gives how many bytes a request may have that brings alerts.
pub fn body_bytes_max(config: &Config) -> usize {
    BODY_BYTES_MAX.max(config.body_bytes_max)
}

/// Gives what is the same for every alert of an answer.
pub fn writer(server: &Server, alerts: &Alerts, now: Timestamp) -> Writer {
    Writer {
        now,
        resolve_timeout: alerts.routing().config().resolve_timeout,
        link_base: server.shared().config.link_base().to_owned(),
    }
}

/// Says whether Alertmanager would show it: it fires, and its sender has not said that it is over.
pub fn is_shown(alert: &Alert, now: Timestamp) -> bool {
    let is_over = alert
        .external
        .as_ref()
        .is_some_and(|external| external.ends_at <= now);
    alert.state == AlertState::Firing && !is_over
}

/// Finds the fingerprint of an alert among those that stand, which are sorted by id.
pub fn fingerprint_of(active: &[Arc<Alert>], id: Id) -> Option<u64> {
    let at = active.binary_search_by_key(&id, |alert| alert.id).ok()?;
    Some(active[at].fingerprint())
}

/// Says whether an alert that stands so is wanted.
pub fn wants_status(query: &AlertQuery, status: &Status) -> bool {
    let is_held = !status.silenced_by.is_empty() || !status.inhibited_by.is_empty();
    (query.active || is_held)
        && (query.silenced || status.silenced_by.is_empty())
        && (query.inhibited || status.inhibited_by.is_empty())
}

fn gather(alerts: &Alerts, query: AlertQuery, writer: Writer) -> AlertBits {
    let active = alerts.active();
    let routing = alerts.routing();
    let tree = routing.tree();
    let mut found = Vec::new();
    for alert in active.iter().filter(|alert| is_shown(alert, writer.now)) {
        let labels = alert.sent_labels();
        if !query.wants_labels(&labels) {
            continue;
        }
        if !query.wants_all_receivers() {
            let mut routes = tree.find(&labels).into_iter();
            if !routes.any(|route| query.wants_receiver(&tree.route(route).receiver)) {
                continue;
            }
        }
        let reasons = alerts.suppressions(alert, writer.now);
        let status = Status {
            // Whether a route is muted is told of groups.
            muted_by: Vec::new(),
            ..Status::of(&reasons, |id| fingerprint_of(&active, id))
        };
        if wants_status(&query, &status) {
            let status = (status != Status::default()).then(|| Box::new(status));
            found.push((alert.fingerprint(), Arc::clone(alert), status));
        }
    }
    found.sort_unstable_by_key(|(fingerprint, ..)| *fingerprint);
    AlertBits {
        found,
        at: 0,
        is_ended: false,
        routing,
        writer,
        free: Status::default(),
    }
}

/// Writes alerts one after the other.
struct AlertBits {
    found: Vec<(u64, Arc<Alert>, Option<Box<Status>>)>,
    at: usize,
    is_ended: bool,
    routing: Routing,
    writer: Writer,
    free: Status,
}

impl Bits for AlertBits {
    fn push_next(&mut self, text: &mut String) -> bool {
        if self.is_ended {
            return false;
        }
        let Some((_, alert, status)) = self.found.get(self.at) else {
            text.push_str(if self.at == 0 { "[]\n" } else { "]\n" });
            self.is_ended = true;
            return true;
        };
        text.push(if self.at == 0 { '[' } else { ',' });
        let tree = self.routing.tree();
        let routes = tree.find(&alert.sent_labels());
        let receivers: Vec<&str> = routes
            .into_iter()
            .map(|route| tree.route(route).receiver.as_str())
            .collect();
        let shown = Shown {
            alert,
            status: status.as_deref().unwrap_or(&self.free),
            receivers: &receivers,
        };
        self.writer.push(text, &shown);
        self.at += 1;
        true
    }
}
