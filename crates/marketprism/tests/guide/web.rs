//! Requests as a stranger sends them: no credential but what the test gives.

use std::time::Duration;

use serde_json::Value;

fn agent() -> ureq::Agent {
    // A status that means failure is an answer here, not an error.
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)));
    config.build().into()
}

fn answer(outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, String) {
    match outcome {
        Ok(mut response) => (
            response.status().as_u16(),
            response.body_mut().read_to_string().unwrap_or_default(),
        ),
        Err(error) => (0, error.to_string()),
    }
}

/// Sends a GET; gives the status (0 when nobody answers) and the body.
pub fn get(url: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let request = agent().get(url);
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    answer(request.call())
}

/// Sends a GET and gives the status and one header of the answer.
pub fn get_header(url: &str, authorization: &str, name: &str) -> (u16, Option<String>) {
    match agent().get(url).header("Authorization", authorization).call() {
        Ok(response) => {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            (response.status().as_u16(), value.map(str::to_owned))
        }
        Err(_) => (0, None),
    }
}

/// Sends a POST with JSON.
pub fn post_json(url: &str, body: &Value) -> (u16, String) {
    let request = agent().post(url).header("Content-Type", "application/json");
    answer(request.send(body.to_string()))
}

/// Sends a POST with bytes.
pub fn post_bytes(url: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let request = agent().post(url);
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value));
    answer(request.send(body))
}

/// Reads an answer that must be a success with JSON.
#[track_caller]
pub fn json((status, body): (u16, String)) -> Value {
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Adds up the series of a metric that have all of these labels.
pub fn figure(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let series = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (held, value) = rest.rsplit_once(' ')?;
        let is_this_name = held.is_empty() || held.starts_with('{');
        let has_all = labels.iter().all(|label| held.contains(label));
        (is_this_name && has_all).then(|| value.parse::<f64>().ok())?
    });
    series.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}
