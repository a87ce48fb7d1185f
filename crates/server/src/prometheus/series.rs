//! `series`, `labels`, `label/{name}/values`: what there is to ask for.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use marketprism_model::series::ReadError;
use marketprism_model::{Labels, Matcher, SeriesSource, TimeRange};

use super::answer::{ErrorType, Failure, JSON};
use super::params::Params;
use super::query::on_worker;
use super::write_json::{push_labels, push_string, push_strings};
use crate::Server;
use crate::answer;
use crate::problem::Problem;
use crate::request::{Form, Segment};

/// What Prometheus warns of when `limit` cuts an answer.
pub const TRUNCATED: &str = "results truncated due to limit";

/// The parameter that chooses series; it may be repeated.
pub const SELECTORS: &str = "match[]";

/// `GET|POST series`
pub async fn series(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    if form.params.all(SELECTORS).next().is_none() {
        return Err(Failure::bad_data("no match[] parameter provided"));
    }
    answer_off_thread(&server, form, move |source, request, abandoned, text| {
        let mut found = BTreeSet::new();
        for selector in &request.selectors {
            let matchers = parsed(selector, abandoned).map_err(with_name)?;
            let selection = source.select(&matchers, request.range).map_err(read_failure)?;
            found.extend(selection.labels().iter().cloned());
        }
        let shown = request.limit.unwrap_or(usize::MAX).min(found.len());
        push_label_sets(text, found.iter().take(shown));
        Ok(shown < found.len())
    })
    .await
}

/// `GET|POST labels`
pub async fn label_names(State(server): State<Server>, form: Form) -> Result<Response, Failure> {
    answer_off_thread(&server, form, move |source, request, abandoned, text| {
        let names = request.union(abandoned, |matchers| source.label_names(matchers, request.range))?;
        Ok(request.push_limited(text, &names))
    })
    .await
}

/// `GET label/{name}/values`
pub async fn label_values(
    State(server): State<Server>,
    name: Result<Segment, Problem>,
    form: Form,
) -> Result<Response, Failure> {
    let Segment(name) = name.map_err(|problem| Failure::bad_data(problem.detail))?;
    let name = unescaped(&name).unwrap_or(name);
    if name.is_empty() {
        return Err(Failure::bad_data("invalid label name: \"\""));
    }
    answer_off_thread(&server, form, move |source, request, abandoned, text| {
        let values = request.union(abandoned, |matchers| {
            source.label_values(&name, matchers, request.range)
        })?;
        Ok(request.push_limited(text, &values))
    })
    .await
}

/// What the three routes are asked with. Selectors are parsed one by one where they are used: each regular expression
/// works with megabytes of its own, and a request may hold thousands.
struct Selectors {
    selectors: Vec<String>,
    range: TimeRange,
    limit: Option<usize>,
}

impl Selectors {
    fn read(params: &Params) -> Result<Self, Failure> {
        let limit = params.limit()?;
        let range = params.range()?;
        Ok(Selectors {
            selectors: params.all(SELECTORS).map(str::to_owned).collect(),
            range,
            limit,
        })
    }

    /// Asks for each selector, once without any when there is none.
    fn union(
        &self,
        abandoned: &AtomicBool,
        ask: impl Fn(&[Matcher]) -> Result<Vec<String>, ReadError>,
    ) -> Result<Vec<String>, Failure> {
        let ask = |matchers: &[Matcher]| ask(matchers).map_err(read_failure);
        match self.selectors.as_slice() {
            [] => ask(&[]),
            [selector] => ask(&parsed(selector, abandoned)?),
            several => {
                let mut all = BTreeSet::new();
                for selector in several {
                    all.extend(ask(&parsed(selector, abandoned)?)?);
                }
                Ok(all.into_iter().collect())
            }
        }
    }

    fn push_limited(&self, text: &mut String, found: &[String]) -> bool {
        let shown = self.limit.unwrap_or(usize::MAX).min(found.len());
        push_strings(text, found[..shown].iter().map(String::as_str));
        shown < found.len()
    }
}

/// Reads every selector of a repeated parameter. Call it off the async threads: regular expressions are compiled.
pub fn selectors(params: &Params, abandoned: &AtomicBool) -> Result<Vec<Vec<Matcher>>, Failure> {
    params
        .all(SELECTORS)
        .map(|selector| parsed(selector, abandoned))
        .collect()
}

fn parsed(selector: &str, abandoned: &AtomicBool) -> Result<Vec<Matcher>, Failure> {
    check_abandoned(abandoned).map_err(read_failure)?;
    match marketprism_promql::parse_selector(selector) {
        Ok(selector) => Ok(selector.matchers.to_vec()),
        Err(error) if error.message.contains("at least one non-empty matcher") => Err(Failure::bad_data(
            "match[] must contain at least one non-empty matcher",
        )),
        Err(error) => Err(Failure::bad_data(error.to_string())),
    }
}

/// Names the parameter in the fault of a selector, as `series` does and its neighbours do not.
fn with_name(failure: Failure) -> Failure {
    match failure.kind {
        ErrorType::BadData => Failure::parameter(SELECTORS, failure.message),
        _ => failure,
    }
}

/// Stops work whose time is over or whose client has left.
fn check_abandoned(abandoned: &AtomicBool) -> Result<(), ReadError> {
    if abandoned.load(Ordering::Relaxed) {
        return Err(ReadError::Interrupted);
    }
    Ok(())
}

/// Reads from the store on a query worker; `write` appends the data and says whether it was cut short.
async fn answer_off_thread(
    server: &Server,
    form: Form,
    write: impl FnOnce(&dyn SeriesSource, &Selectors, &AtomicBool, &mut String) -> Result<bool, Failure>
    + Send
    + 'static,
) -> Result<Response, Failure> {
    let parts = server.parts()?;
    let config = &server.shared().config;
    let bytes_max = config.answer_bytes_max;
    on_worker(server, config.query_timeout, move |abandoned| {
        let request = Selectors::read(&form.params)?;
        let mut text = String::from(r#"{"status":"success","data":"#);
        let is_truncated = write(&*parts.series, &request, abandoned, &mut text)?;
        check_length(text.len(), bytes_max)?;
        if is_truncated {
            text.push_str(r#","warnings":["#);
            push_string(&mut text, TRUNCATED);
            text.push(']');
        }
        text.push('}');
        Ok(answer::body(StatusCode::OK, JSON, text.into_bytes(), form.gzip))
    })
    .await
}

/// Refuses an answer that no client should get at once.
pub fn check_length(length: usize, bytes_max: usize) -> Result<(), Failure> {
    if length <= bytes_max {
        return Ok(());
    }
    let message = format!(
        "the answer is longer than {bytes_max} bytes; ask for fewer series or a coarser step (server.answer_bytes_max)"
    );
    Err(Failure::new(ErrorType::Execution, message))
}

/// Says why the store could not be read.
pub fn read_failure(error: ReadError) -> Failure {
    let kind = match error {
        ReadError::Interrupted => ErrorType::Canceled,
        ReadError::Unavailable { .. } => ErrorType::Unavailable,
        ReadError::Corrupt { .. } | ReadError::Io { .. } => ErrorType::Internal,
    };
    Failure::new(kind, error.to_string())
}

fn push_label_sets<'a>(text: &mut String, sets: impl Iterator<Item = &'a Labels>) {
    text.push('[');
    for (at, labels) in sets.enumerate() {
        if at > 0 {
            text.push(',');
        }
        push_labels(text, labels);
    }
    text.push(']');
}

/// Undoes the escaping of names that are no legacy names: `U__http_2e_requests` is `http.requests`.
///
/// `None` when the text is not escaped so. Source: `github.com/prometheus/common/model`, UnescapeName.
fn unescaped(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("U__")?;
    let mut plain = String::new();
    while let Some(at) = rest.find('_') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            plain.push('_');
            rest = after;
            continue;
        }
        let (code, after) = rest.split_once('_')?;
        let is_hex = (1..=6).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_hexdigit());
        let code = is_hex.then(|| u32::from_str_radix(code, 16).ok()).flatten()?;
        plain.push(char::from_u32(code)?);
        rest = after;
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read_as_prometheus_writes_them() {
        // From the table of TestUnescapeName-like cases in the description of the scheme.
        let check = |name: &str, plain: Option<&str>| assert_eq!(unescaped(name).as_deref(), plain, "{name}");
        check("U__http_2e_requests", Some("http.requests"));
        check("U__my__label", Some("my_label"));
        check("U___1f600_x", Some("\u{1f600}x"));
        check("U__plain", Some("plain"));
        check("job", None);
        check("U__a_zz_b", None);
        check("U__a_2e", None);
        check("U__a_d800_", None);
    }
}
