//! `/api/v1/routes`: the tree by which alerts find their receivers, and where labels would lead.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::Response;
use marketprism_alerts::routing::{GroupBy, RouteIndex, RoutingTree, Visit, matchers};
use marketprism_model::{Labels, duration};
use serde::Deserialize;
use serde_json::{Value, json};

use super::list::known_only;
use crate::Server;
use crate::answer::{self, Gzip};
use crate::problem::Problem;
use crate::request::{Query, read_json};

/// `GET /api/v1/routes`: the tree with what each route inherits filled in, the receivers, and what else decides.
pub async fn tree(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    known_only(&query.params, &[])?;
    let parts = server.parts()?;
    let routing = parts.alerts.routing();
    let (tree, config) = (routing.tree(), routing.config());
    let receivers = config
        .receivers
        .iter()
        .map(|receiver| json!({ "name": receiver.name, "channels": receiver.channels }));
    let document = json!({
        "route": route(tree, RouteIndex::ROOT),
        "receivers": receivers.collect::<Vec<_>>(),
        "fallback_receiver": config.fallback_receiver,
        "inhibit_rules": config.inhibit_rules,
        "time_intervals": config.time_intervals,
    });
    Ok(answer::json(&document, query.gzip))
}

/// The body of a test.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    labels: BTreeMap<String, String>,
}

/// `POST /api/v1/routes/test`: `{labels}`; who would hear of such an alert, and the way through the tree.
pub async fn test(State(server): State<Server>, request: Request) -> Result<Response, Problem> {
    let parts = server.parts()?;
    let body: Body = read_json(request, server.shared().config.body_bytes_max).await?;
    let labels = Labels::from_pairs(&body.labels);
    let routing = parts.alerts.routing();
    let tree = routing.tree();
    let routes = tree.find(&labels).into_iter().map(|index| {
        let route = tree.route(index);
        json!({
            "place": route.place,
            "key": route.key,
            "receiver": route.receiver,
            "group_labels": super::document::labels(&route.group_labels(&labels)),
        })
    });
    let document = json!({
        "routes": routes.collect::<Vec<_>>(),
        "walk": walk(tree, &tree.explain(&labels)),
    });
    Ok(answer::json(&document, Gzip(false)))
}

/// Writes the way through the tree, route by route.
pub fn walk(tree: &RoutingTree, visits: &[Visit]) -> Value {
    let visit = |visit: &Visit| {
        let verdicts = visit.verdicts.iter().map(|verdict| {
            json!({
                "matcher": matchers::write_one(&verdict.matcher),
                "value": verdict.value,
                "is_match": verdict.is_match,
            })
        });
        let passed_over = visit
            .passed_over
            .iter()
            .map(|index| tree.route(*index).place.as_str());
        json!({
            "place": visit.place,
            "key": visit.key,
            "depth": visit.depth,
            "receiver": visit.receiver,
            "outcome": visit.outcome,
            "matchers": verdicts.collect::<Vec<_>>(),
            "passed_over": passed_over.collect::<Vec<_>>(),
        })
    };
    visits.iter().map(visit).collect()
}

/// Writes a route and those below it. The depth of a tree is bounded where it is built.
fn route(tree: &RoutingTree, index: RouteIndex) -> Value {
    let route = tree.route(index);
    let group_by = match &route.group_by {
        GroupBy::All => json!(["..."]),
        GroupBy::Labels(labels) => json!(labels),
    };
    let below = route.children().iter().map(|child| self::route(tree, *child));
    json!({
        "place": route.place,
        "key": route.key,
        "matchers": route.matchers.iter().map(matchers::write_one).collect::<Vec<_>>(),
        "receiver": route.receiver,
        "group_by": group_by,
        "group_wait": duration::format(route.group_wait),
        "group_interval": duration::format(route.group_interval),
        "repeat_interval": duration::format(route.repeat_interval),
        "mute_time_intervals": route.mute,
        "active_time_intervals": route.active,
        "escalation": route.escalation,
        "continue": route.is_continuing,
        "routes": below.collect::<Vec<_>>(),
    })
}
