//! The files that pages need: a style sheet and an icon, part of the program.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use crate::problem::Problem;
use crate::request::Segment;

const STYLE: &str = include_str!("style.css");
const ICON: &str = include_str!("icon.svg");

/// Where the style sheet is: with the version, so that a new program brings its new sheet at once.
pub const STYLE_PATH: &str = concat!("/assets/style.css?v=", env!("CARGO_PKG_VERSION"));

/// `GET /assets/{name}`
pub async fn asset(Segment(name): Segment) -> Result<Response, Problem> {
    let (media_type, text) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", STYLE),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Err(Problem::not_found(format!("no asset is called {name:.64?}"))),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=86400"),
        ),
    ];
    Ok((headers, text).into_response())
}
