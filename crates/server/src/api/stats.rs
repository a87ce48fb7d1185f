//! `/api/v1/stats/{section}`: figures that each room gives of itself.

use axum::extract::State;
use axum::response::Response;

use crate::Server;
use crate::answer;
use crate::problem::Problem;
use crate::request::{Query, Segment};

/// `GET /api/v1/stats/{section}`
pub async fn one(
    State(server): State<Server>,
    Segment(section): Segment,
    query: Query,
) -> Result<Response, Problem> {
    let parts = server.parts()?;
    if !parts.stats.contains_key(section.as_str()) {
        let known: Vec<&str> = parts.stats.keys().copied().collect();
        return Err(Problem::not_found(format!(
            "no figures are kept under {section:.64?}; there are {}",
            known.join(", ")
        )));
    }
    let figures = server
        .look_up(move || Ok(parts.stats.get(section.as_str()).map(|figures| figures())))
        .await?;
    Ok(answer::json(&figures, query.gzip))
}
