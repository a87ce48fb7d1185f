//! What cannot be answered, next to Debian's Prometheus: the same status, the same kind of error, the same words.
//!
//! Where the peer (2.42) and Prometheus 3 differ, ours follows 3, and the case says what changed.

use http::{Method, Request};
use serde_json::Value;

use crate::peer::{Pair, wait_for_evaluations};
use crate::reply::{Reply, encoded, send};

/// What both are asked, and where ours differs from the peer on purpose.
struct Case {
    method: Method,
    path: String,
    form: Option<String>,
    differs: Option<Differs>,
}

/// What ours answers instead, and since when.
#[derive(Clone, Copy)]
struct Differs {
    /// The status and what the error holds.
    ours: (u16, &'static str),
    /// Why.
    why: &'static str,
}

fn get(path: &str) -> Case {
    Case {
        method: Method::GET,
        path: path.to_owned(),
        form: None,
        differs: None,
    }
}

fn post(path: &str, form: &str) -> Case {
    Case {
        method: Method::POST,
        form: Some(form.to_owned()),
        ..get(path)
    }
}

impl Case {
    fn but(mut self, status: u16, error: &'static str, why: &'static str) -> Case {
        self.differs = Some(Differs {
            ours: (status, error),
            why,
        });
        self
    }
}

/// Faults of times, limits and spans.
fn parameters() -> Vec<Case> {
    const LOWER: &str = "3 begins with a small letter";
    const NEW: &str = "the parameter is 3's";
    let mut all = vec![
        get("query?query=1&time=abc").but(400, "invalid time value for 'time': cannot parse", LOWER),
        get("query?query=1&time=2015-06-03T13:21").but(400, "invalid time value for 'time'", LOWER),
        get("query?query=1&timeout=x"),
        get("query?query=1&timeout=1e30"),
        get("query?query=1&timeout=-1s"),
        get("query?query=1&lookback_delta=x").but(400, "error parsing lookback delta duration: cannot parse", NEW),
        get("query?query=1&limit=x").but(400, "invalid parameter \"limit\": strconv.Atoi: parsing \"x\"", NEW),
        get("query?query=1&limit=-1").but(400, "invalid parameter \"limit\": limit must be non-negative", NEW),
        get("query_range?query=1"),
        get("query_range?query=1&start=0"),
        get("query_range?query=1&start=0&end=1"),
        get("query_range?query=1&start=2&end=1&step=1"),
        get("query_range?query=1&start=0&end=1&step=x"),
        get("query_range?query=1&start=0&end=1&step=0"),
        get("query_range?query=1&start=0&end=1&step=-3"),
        get("query_range?query=1&start=0&end=1&step=1e30"),
        get("query_range?query=1&start=0&end=20000&step=1"),
        get("query_range?query=1&start=0&end=11000&step=1"),
        get("query_range?query=1&start=0&end=11001&step=1"),
        get("query_range?query=1&start=0&end=1&step=1&timeout=x"),
        get("query_range?query=1&start=0&end=1&step=1&lookback_delta=y").but(400, "error parsing lookback", NEW),
        post("query_range", "query=1&start=0&end=1&step=0"),
        post("query", "query=1&time=x").but(400, "invalid time value for 'time'", LOWER),
        post("query?query=2&time=1", "time=x").but(400, "invalid time value for 'time'", LOWER),
        post("query?query=1", ""),
        get("series?match[]=up&start=x").but(400, "invalid time value for 'start'", LOWER),
        get("labels?start=x").but(400, "invalid time value for 'start'", LOWER),
        get("labels?end=x").but(400, "invalid time value for 'end'", LOWER),
        get("label/job/values?end=x").but(400, "invalid time value for 'end'", LOWER),
        get("labels?limit=x").but(400, "strconv.Atoi", NEW),
        get("query_exemplars?query=up&start=2&end=1"),
        get("query_exemplars?query=up&start=x").but(400, "invalid time value for 'start'", LOWER),
        get("metadata?limit=x"),
        get("metadata?limit=0"),
        get("metadata?limit=-1"),
        get("metadata?limit_per_metric=x").but(400, "limit_per_metric must be a number", NEW),
        get("targets/metadata?limit=x"),
        get("rules?type=x"),
        get("rules?type=ALERT"),
        get("rules?exclude_alerts=x").but(400, "invalid parameter \"exclude_alerts\": error converting exclude_alerts: strconv.ParseBool: parsing \"x\"", NEW),
        get("rules?group_limit=x").but(400, "group_limit needs to be a valid number: strconv.ParseInt: parsing \"x\": invalid syntax", NEW),
        get("rules?group_limit=0").but(400, "group_limit needs to be greater than 0", NEW),
        get("rules?group_next_token=x").but(400, "invalid parameter \"group_next_token\": group_limit needs to be present", NEW),
        get("rules?group_limit=1&group_next_token=x").but(400, "invalid group_next_token 'x'. were rule groups changed?", NEW),
        get("status/tsdb?limit=x").but(400, "limit must be a positive number", NEW),
        get("status/tsdb?limit=0").but(400, "limit must be a positive number", NEW),
        get("status/tsdb?limit=10001").but(400, "limit must not exceed 10000", NEW),
    ];
    all.push(get("targets?state=nonsense"));
    all.push(get("targets?scrapePool=nothing"));
    all
}

/// Faults of selectors and names.
fn selectors() -> Vec<Case> {
    let mut all = Vec::new();
    for selector in ["{}", "{job=\"\"}", "{job=~\".*\"}"] {
        for path in ["series", "labels", "label/job/values"] {
            all.push(get(&format!("{path}?match[]={}", encoded(selector))));
        }
    }
    all.push(get("series"));
    all.push(post("series", ""));
    all.push(get("label/no-such/values").but(200, "", "3 takes every name in UTF-8"));
    all.push(get("label/nothing/values"));
    all
}

/// Faults of expressions, told with line and column.
fn expressions() -> Vec<Case> {
    let mut all = Vec::new();
    for text in [
        "up{",
        "up[5m",
        "sum(up) by",
        "1 +",
        "foo bar",
        "rate(up)",
        "up offset",
        "\"open",
        "up[5m] + 1",
        "sum by (job) 3",
        "nope(up)",
        "up{a=~\"(\"}",
        "topk(up)",
    ] {
        all.push(get(&format!("format_query?query={}", encoded(text))));
    }
    all
}

/// Says whether two faults stand at the same place. Their words changed between 2.42 and 3 in many ways; those are compared
/// with Prometheus 3's own tables where the language is at home.
fn is_same_place(own: &(u16, Value, Value), other: &(u16, Value, Value)) -> bool {
    let place = |told: &(u16, Value, Value)| {
        let text = told.2.as_str().unwrap_or("").to_owned();
        text.split(": parse error").next().unwrap_or("").to_owned()
    };
    own.0 == other.0 && own.1 == other.1 && place(own) == place(other)
}

/// Paths and methods that are not there.
fn paths() -> Vec<Case> {
    let mut all = vec![get("nothing"), get("status/nothing"), get("label/job")];
    all.push(Case {
        method: Method::DELETE,
        ..get("query")
    });
    all
}

async fn ask(pair: &Pair, case: &Case) -> (Reply, Reply) {
    let send_to = async |address, prefix: &str| {
        let mut request = Request::builder().method(case.method.clone()).uri(format!(
            "{prefix}/api/v1/{}",
            case.path.replace('[', "%5B").replace(']', "%5D")
        ));
        if case.form.is_some() {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        send(address, request, case.form.clone().unwrap_or_default()).await
    };
    (
        send_to(pair.ours.address, "/prometheus").await,
        send_to(pair.theirs, "").await,
    )
}

fn told(reply: &Reply) -> (u16, Value, Value) {
    let document: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    (
        reply.status.as_u16(),
        document["errorType"].clone(),
        document["error"].clone(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_answered_is_refused_as_prometheus_does() {
    let pair = Pair::start().await;
    wait_for_evaluations(&pair).await;
    let (mut same, mut wrong) = (0, Vec::new());
    for case in parameters().into_iter().chain(selectors()) {
        let (ours, theirs) = ask(&pair, &case).await;
        let (own, other) = (told(&ours), told(&theirs));
        let shown = format!(
            "{} {} {:?}: ours {own:?}, theirs {other:?}",
            case.method, case.path, case.form
        );
        match case.differs {
            None if own == other => same += 1,
            None => wrong.push(shown),
            Some(differs) => {
                let error = own.2.as_str().unwrap_or("");
                if own.0 != differs.ours.0 || !error.contains(differs.ours.1) {
                    wrong.push(format!("{shown}, though {} ({:?})", differs.why, differs.ours));
                } else if own == other {
                    wrong.push(format!("{shown}: no difference, though {}", differs.why));
                }
            }
        }
    }
    for case in expressions() {
        let (ours, theirs) = ask(&pair, &case).await;
        let (own, other) = (told(&ours), told(&theirs));
        if own.0 == 200 || !is_same_place(&own, &other) {
            wrong.push(format!("{}: ours {own:?}, theirs {other:?}", case.path));
        }
    }
    for case in paths() {
        let (ours, theirs) = ask(&pair, &case).await;
        let shown = format!(
            "{} {}: {} and {}",
            case.method, case.path, ours.status, theirs.status
        );
        if ours.status != theirs.status {
            wrong.push(shown);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(same > 25, "{same} cases were the same");
}
