//! What Grafana asks of a Prometheus data source, replayed: the requests as its code makes them, the answers as its code
//! reads them.
//!
//! Written down from Grafana's source (2026): `pkg/promlib` (client.go, healthcheck.go, heuristics.go, resource.go, converter),
//! `packages/grafana-prometheus` (resource_clients.ts, language_provider.ts), and of its alerting `unified/api` (prometheusApi.ts,
//! buildInfo.ts), `ngalert/api` (lotex_prom.go, lotex_ruler.go) and the Alertmanager data source. The credential is an API token of a viewer, as one
//! would give a data source.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use marketprism_access::{Config as AccessConfig, Identity, NewToken};
use marketprism_model::{Level, Role};
use marketprism_server::Config;
use serde_json::Value;

use crate::reply::{Reply, send};
use crate::rig::{Rig, Rooms, START, groups, labels};

/// The headers that Grafana's backend sends with everything.
const HEADERS: &[(&str, &str)] = &[
    ("user-agent", "Grafana/12.1.0"),
    ("accept-encoding", "gzip"),
    ("x-grafana-user", "admin"),
    ("x-datasource-uid", "P1809F7CD0C75ACF3"),
    ("x-grafana-org-id", "1"),
    ("x-forwarded-for", "10.1.2.3"),
];

/// One request and what its answer is read for.
struct Call {
    /// Which part of Grafana makes it.
    of: &'static str,
    method: &'static str,
    /// Under the data source's address; `{start}` and `{end}` stand for seconds.
    path: &'static str,
    /// A form, for POST.
    form: &'static str,
    status: u16,
    /// Places in the answer, and what they hold; `*` for anything that is there.
    reads: &'static [(&'static str, &'static str)],
}

const fn get(
    of: &'static str,
    path: &'static str,
    status: u16,
    reads: &'static [(&'static str, &'static str)],
) -> Call {
    Call {
        of,
        method: "GET",
        path,
        form: "",
        status,
        reads,
    }
}

const fn post(
    of: &'static str,
    path: &'static str,
    form: &'static str,
    status: u16,
    reads: &'static [(&'static str, &'static str)],
) -> Call {
    Call {
        of,
        method: "POST",
        path,
        form,
        status,
        reads,
    }
}

const CALLS: &[Call] = &[
    // "Save & test": 1+1 at the fourth second of 1970.
    post(
        "health check",
        "/api/v1/query",
        "query=1%2B1&time=4",
        200,
        &[
            ("/status", "\"success\""),
            ("/data/resultType", "\"scalar\""),
            ("/data/result/0", "4"),
            ("/data/result/1", "\"2\""),
        ],
    ),
    // Its client posts first what stands in no list, and asks again by GET after 405 or 400.
    post("heuristics", "/api/v1/status/buildinfo", "", 405, &[]),
    get(
        "heuristics",
        "/api/v1/status/buildinfo",
        200,
        &[
            ("/status", "\"success\""),
            ("/data/version", "\"3.14.0\""),
            ("/data/features", ""),
            ("/data/application", ""),
        ],
    ),
    // A panel: a range, an instant table, exemplars.
    post(
        "range query",
        "/api/v1/query_range",
        "end={end}&query=sum+by%28code%29+%28rate%28requests_total%7Bjob%3D%22web%22%7D%5B1m0s%5D%29%29&start={start}&step=15",
        200,
        &[
            ("/data/resultType", "\"matrix\""),
            ("/data/result/0/metric/code", "\"200\""),
            ("/data/result/0/values/0/0", "*"),
            ("/data/result/0/values/0/1", "*"),
        ],
    ),
    post(
        "range query with a timeout",
        "/api/v1/query_range",
        "end={end}&query=requests_total&start={start}&step=0.5&timeout=30s",
        200,
        &[("/data/resultType", "\"matrix\"")],
    ),
    get(
        "range query by GET",
        "/api/v1/query_range?end={end}&query=requests_total&start={start}&step=15",
        200,
        &[("/data/result/1/metric/__name__", "\"requests_total\"")],
    ),
    post(
        "instant query",
        "/api/v1/query",
        "query=requests_total&time={end}.123",
        200,
        &[
            ("/data/resultType", "\"vector\""),
            ("/data/result/0/metric/code", "\"200\""),
            ("/data/result/0/value/1", "*"),
        ],
    ),
    post(
        "query with remarks",
        "/api/v1/query",
        "query=rate%28heat%5B5m%5D%29&time={end}",
        200,
        &[("/infos/0", "*")],
    ),
    post(
        "query with a fault",
        "/api/v1/query_range",
        "end={end}&query=sum%28&start={start}&step=15",
        400,
        &[
            ("/status", "\"error\""),
            ("/errorType", "\"bad_data\""),
            ("/error", "*"),
        ],
    ),
    post(
        "exemplars",
        "/api/v1/query_exemplars",
        "end={end}&query=requests_total&start={start}",
        200,
        &[("/data", "[]")],
    ),
    // The editor.
    get(
        "metric names",
        "/api/v1/label/__name__/values?limit=40000&start={start}&end={end}",
        200,
        &[("/data/0", "\"heat\""), ("/data/1", "\"requests_total\"")],
    ),
    post(
        "label names",
        "/api/v1/labels",
        "limit=40000&start={start}&end={end}&match%5B%5D=requests_total",
        200,
        &[
            ("/data/0", "\"__name__\""),
            ("/data/1", "\"code\""),
            ("/data/2", "\"job\""),
        ],
    ),
    get(
        "label names by GET",
        "/api/v1/labels?limit=40000&start={start}&end={end}",
        200,
        &[("/data/0", "\"__name__\"")],
    ),
    get(
        "label values",
        "/api/v1/label/code/values?limit=40000&start={start}&end={end}&match%5B%5D=requests_total%7Bjob%3D%22web%22%7D",
        200,
        &[("/data/0", "\"200\""), ("/data/1", "\"500\"")],
    ),
    get(
        "values of a name in UTF-8",
        "/api/v1/label/U__room_2e_name/values?limit=40000&start={start}&end={end}",
        200,
        &[("/data/0", "\"kitchen\"")],
    ),
    post(
        "series",
        "/api/v1/series",
        "start={start}&end={end}&match%5B%5D=%7B__name__%21%3D%22%22%7D&limit=40000",
        200,
        &[("/data/0/__name__", "\"heat\"")],
    ),
    post(
        "series, cut",
        "/api/v1/series",
        "start={start}&end={end}&match%5B%5D=%7B__name__%21%3D%22%22%7D&limit=1",
        200,
        &[
            ("/data/0/__name__", "\"heat\""),
            ("/data/1", ""),
            ("/warnings/0", "\"results truncated due to limit\""),
        ],
    ),
    post("metadata", "/api/v1/metadata", "", 405, &[]),
    get("metadata", "/api/v1/metadata", 200, &[("/data", "{}")]),
    get(
        "metadata of one",
        "/api/v1/metadata?metric=requests_total&limit=10",
        200,
        &[("/data", "{}")],
    ),
    // Its list of rules and alerts.
    get(
        "rules",
        "/api/v1/rules?exclude_alerts=true&group_limit=40",
        200,
        &[
            ("/data/groups/0/name", "\"group 0\""),
            ("/data/groups/0/file", "\"rules/busy.yml\""),
            ("/data/groups/0/interval", "30"),
            ("/data/groups/0/rules/0/type", "\"alerting\""),
            ("/data/groups/0/rules/0/health", "*"),
            ("/data/groups/0/rules/0/state", "\"inactive\""),
            ("/data/groups/0/rules/0/query", "*"),
            ("/data/groups/0/rules/0/duration", "*"),
            ("/data/groups/0/rules/0/labels", "*"),
            ("/data/groups/0/rules/0/annotations", "*"),
            ("/data/groups/0/rules/0/alerts", "[]"),
            ("/data/groups/0/lastEvaluation", "*"),
            ("/data/groups/0/evaluationTime", "*"),
            ("/data/groupNextToken", ""),
        ],
    ),
    get(
        "rules of a group",
        "/api/v1/rules?file=rules%2Fbusy.yml&file%5B%5D=rules%2Fbusy.yml&rule_group=group+1&rule_group%5B%5D=group+1&rule_name=Busy&rule_name%5B%5D=Busy",
        200,
        &[("/data/groups/0/name", "\"group 1\""), ("/data/groups/1", "")],
    ),
    get(
        "rules by pages",
        "/api/v1/rules?group_limit=1",
        200,
        &[
            ("/data/groups/0/name", "\"group 0\""),
            ("/data/groups/1", ""),
            ("/data/groupNextToken", "*"),
        ],
    ),
    get(
        "alerts",
        "/api/v1/alerts",
        200,
        &[
            ("/data/alerts/0/labels/alertname", "\"Hot\""),
            ("/data/alerts/0/state", "\"firing\""),
            ("/data/alerts/0/activeAt", "*"),
            ("/data/alerts/0/value", "\"2.5e+01\""),
            ("/data/alerts/0/annotations/summary", "*"),
        ],
    ),
    // Whether rules can be edited here: "page not found" says no.
    get("ruler of Cortex", "/rules/test/test", 404, &[("/detail", "*")]),
    get(
        "ruler of Mimir",
        "/config/v1/rules/test/test?subtype=mimir",
        404,
        &[("/detail", "*")],
    ),
    get("flags", "/api/v1/status/flags", 200, &[("/data", "*")]),
    // Its page "Status" and what older versions ask.
    get(
        "old build info",
        "/api/v1/query?query=prometheus_build_info",
        200,
        &[("/data/result", "[]")],
    ),
];

/// What is asked at other addresses than the data source's.
const OTHERS: &[(&str, u16)] = &[
    // The Alertmanager data source: 200 would mean a Mimir or a Cortex.
    ("/alertmanager/alertmanager/api/v2/status", 404),
    ("/alertmanager/api/v1/status/buildinfo", 404),
    // A data source whose address lacks `/prometheus`.
    ("/api/v1/query?query=1", 404),
];

struct Grafana {
    rig: Rig,
    token: String,
}

impl Grafana {
    async fn start() -> Grafana {
        let mut rooms = Rooms::new(START);
        rooms.rules = Arc::new(groups(2, "many-to-many"));
        let rig = Rig::unborn(Config::default(), rooms).await;
        let access = rig.rooms.access(&AccessConfig::default());
        rig.server.install_access(Arc::clone(&access));
        rig.server.install(rig.rooms.parts());
        rig.readiness.ready();
        let samples: Vec<(u64, f64)> = (0..40).map(|step| ((39 - step) * 15, step as f64)).collect();
        for code in ["200", "500"] {
            let pairs = [("__name__", "requests_total"), ("code", code), ("job", "web")];
            rig.rooms.append(&labels(&pairs), &samples);
        }
        let room = labels(&[("__name__", "heat"), ("room.name", "kitchen")]);
        rig.rooms.append(&room, &samples);
        rig.rooms
            .raise("Hot", Level::High, Duration::ZERO, &[("room", "kitchen")], 25.0);
        let new = NewToken {
            name: "grafana".to_owned(),
            role: Role::Viewer,
            expires_at: None,
        };
        let made = access.create_token(&Identity::anybody(), new);
        let token = made.expect("the name is free").1.expose().to_owned();
        Grafana { rig, token }
    }

    async fn ask(&self, method: &str, path: &str, form: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in HEADERS {
            request = request.header(*name, *value);
        }
        request = request.header("authorization", format!("Bearer {}", self.token));
        if method == "POST" {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        let mut reply = send(self.rig.address, request, form.to_owned()).await;
        if reply.header("content-encoding") == "gzip" {
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*reply.body), &mut plain)
                .expect("it is gzip");
            reply.body = plain.into();
        }
        reply
    }
}

fn check(call: &Call, answer: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (place, expected) in call.reads {
        let found = answer.pointer(place);
        let is_right = match *expected {
            "" => found.is_none(),
            "*" => found.is_some_and(|value| !value.is_null()),
            text => found == Some(&serde_json::from_str(text).expect("the table holds JSON")),
        };
        if !is_right {
            wrong.push(format!(
                "{} {}: {place} is {found:?}, not {expected}",
                call.of, call.path
            ));
        }
    }
    wrong
}

#[tokio::test]
async fn every_request_of_grafana_gets_what_its_code_reads() {
    let grafana = Grafana::start().await;
    let end_s = START.millis() / 1000;
    let with_times = |text: &str| {
        text.replace("{start}", &(end_s - 600).to_string())
            .replace("{end}", &end_s.to_string())
    };
    let mut wrong = Vec::new();
    for call in CALLS {
        let path = format!("/prometheus{}", with_times(call.path));
        let reply = grafana.ask(call.method, &path, &with_times(call.form)).await;
        if reply.status.as_u16() != call.status {
            wrong.push(format!("{} {path}: {} {:?}", call.of, reply.status, reply.body));
            continue;
        }
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        wrong.extend(check(call, &answer));
        if call.status == 404 && !reply.text().contains("page not found") {
            wrong.push(format!("{} {path}: {}", call.of, reply.text()));
        }
    }
    for (path, status) in OTHERS {
        let reply = grafana.ask("GET", path, "").await;
        if reply.status.as_u16() != *status || reply.text().contains("<html") {
            wrong.push(format!("{path}: {} {:?}", reply.status, reply.body));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
