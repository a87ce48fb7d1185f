//! `/api/v1/stats/{section}`: figures that each room gives of itself.

use axum::extract::State;
use axum::response::Response;

use crate::Server;
use crate::answer;
use crate::problem::Problem;
use crate::request::{Query, Segment};

/// `GET /api/v1/stats/performance`: the one section that the deployment guide lets anybody ask for.
pub async fn performance(State(server): State<Server>, query: Query) -> Result<Response, Problem> {
    section(&server, "performance".to_owned(), query).await
}

/// `GET /api/v1/stats/{section}`
pub async fn one(
    State(server): State<Server>,
    Segment(name): Segment,
    query: Query,
) -> Result<Response, Problem> {
    section(&server, name, query).await
}

async fn section(server: &Server, name: String, query: Query) -> Result<Response, Problem> {
    let parts = server.parts()?;
    if !parts.stats.contains_key(name.as_str()) {
        let known: Vec<&str> = parts.stats.keys().copied().collect();
        return Err(Problem::not_found(format!(
            "no figures are kept under {name:.64?}; there are {}",
            known.join(", ")
        )));
    }
    let figures = server
        .look_up(move || Ok(parts.stats.get(name.as_str()).map(|figures| figures())))
        .await?;
    Ok(answer::json(&figures, query.gzip))
}
