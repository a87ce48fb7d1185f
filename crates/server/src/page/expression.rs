//! The page of one expression: a question, and its answer as a table.
//!
//! Links from notifications and from Prometheus' habit lead here (`/graph?g0.expr=…`). Drawing curves waits
//! for the user interface.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use marketprism_promql::{Answer, InstantSample, Value, histogram_text};
use maud::{Markup, html};

use super::frame::{self, View, card, empty};
use super::{drawn, story, view, wording};
use crate::Server;
use crate::access::Caller;
use crate::problem::Problem;
use crate::prometheus::query;
use crate::request::Query;

/// A table shows at most this many series.
const SERIES_MAX: usize = 500;
/// A series of a matrix shows at most this many of its newest points.
const POINTS_MAX: usize = 20;

/// `GET /graph?g0.expr=…`
pub async fn graph(
    State(server): State<Server>,
    caller: Caller,
    headers: HeaderMap,
    request: Query,
) -> Result<Response, Problem> {
    let view = view(&server, &request, &headers, &caller);
    let text = request.params.get("g0.expr");
    let answer = match text.trim() {
        "" => None,
        expr => Some(query::evaluate(&server, view.now, expr.to_owned()).await),
    };
    let answer = answer.map(|answer| answer.map_err(|failure| failure.message.into_owned()));
    let main = expression(&view, text, answer.as_ref());
    let path = format!("/graph?g0.expr={}", story::encoded(text));
    let page = frame::page(&view, view.language.texts().expression, &path, None, &main);
    Ok(drawn(StatusCode::OK, page, request.gzip))
}

/// Draws the page's inside; without an expression there is only the question.
pub fn expression(view: &View, text: &str, answer: Option<&Result<Answer, String>>) -> Markup {
    let texts = view.language.texts();
    html! {
        section.card {
            form.ask action="/graph" method="get" {
                textarea name="g0.expr" rows="2" placeholder=(texts.enter_expression) aria-label=(texts.expression) spellcheck="false" { (text) }
                @if view.is_language_chosen { input type="hidden" name="lang" value=(view.language.tag()); }
                button type="submit" { (texts.evaluate) }
            }
        }
        @match answer {
            None => {}
            Some(Err(reason)) => (card("result", texts.value, None, &html! { p.fault { (reason) } })),
            Some(Ok(answer)) => (result(view, answer)),
        }
    }
}

fn result(view: &View, answer: &Answer) -> Markup {
    let texts = view.language.texts();
    let (count, rows) = rows(view, &answer.value);
    let body = html! {
        @for note in answer.warnings.iter().chain(&answer.infos) { p.soft { (note) } }
        @if rows.is_empty() { (empty(texts.no_result)) }
        table { @for (name, value) in &rows { tr { td { code { (name) } } td.number { (value) } } } }
        @if count > rows.len() { p.soft { (count - rows.len()) " " (texts.more_not_shown) } }
    };
    card("result", texts.series_shown, Some(count), &body)
}

fn rows(view: &View, value: &Value) -> (usize, Vec<(String, Markup)>) {
    let plain = |value: f64| {
        let mut text = String::new();
        crate::prometheus::number::push_value(&mut text, value);
        text
    };
    match value {
        Value::Scalar(number) => (1, vec![("scalar".to_owned(), html! { (plain(*number)) })]),
        Value::Text(text) => (1, vec![("string".to_owned(), html! { (text) })]),
        Value::Vector(samples) => {
            let shown = samples.iter().take(SERIES_MAX);
            let text = |sample: &InstantSample| match &sample.histogram {
                Some(histogram) => histogram_text(histogram),
                None => plain(sample.value),
            };
            let rows = shown.map(|sample| (sample.labels.to_string(), html! { (text(sample)) }));
            (samples.len(), rows.collect())
        }
        Value::Matrix(series) => {
            let shown = series.iter().take(SERIES_MAX);
            let rows = shown.map(|series| {
                let newest = series.points.iter().rev().take(POINTS_MAX);
                let histograms = series.histograms.iter().rev().take(POINTS_MAX);
                let points = html! {
                    @for point in newest {
                        div { (plain(point.value)) " @ " (wording::moment(&view.zone, point.timestamp)) }
                    }
                    @for (at, histogram) in histograms {
                        div { (histogram_text(histogram)) " @ " (wording::moment(&view.zone, *at)) }
                    }
                };
                (series.labels.to_string(), points)
            });
            (series.len(), rows.collect())
        }
    }
}
