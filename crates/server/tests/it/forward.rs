//! Several replicas: one leads, the others pass on what they are asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use marketprism_model::{BoxFuture, Level};
use marketprism_server::{Config, Forward};
use serde_json::json;

use crate::reply::{get, post_form, post_json, send};
use crate::rig::{Rig, Rooms, START, figures, labels};

/// Passes requests on to an address, and keeps the headers of each.
struct ToAddress {
    address: SocketAddr,
    passed: Arc<Mutex<Vec<HeaderMap>>>,
    count: Arc<AtomicUsize>,
}

impl Forward for ToAddress {
    fn forward(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Bytes>, String>> {
        self.passed
            .lock()
            .expect("no panic")
            .push(request.headers().clone());
        self.count.fetch_add(1, Ordering::Relaxed);
        let address = self.address;
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            head.uri = format!("http://{address}{}", head.uri)
                .parse()
                .map_err(|_| "address")?;
            let client = Client::builder(TokioExecutor::new()).build_http();
            let asked = client.request(Request::from_parts(head, Full::new(body)));
            let (head, body) = asked.await.map_err(|error| error.to_string())?.into_parts();
            let body = body
                .collect()
                .await
                .map_err(|error| error.to_string())?
                .to_bytes();
            Ok(Response::from_parts(head, body))
        })
    }
}

/// A standby, what it passed on, and how often.
struct Standby {
    rig: Rig,
    passed: Arc<Mutex<Vec<HeaderMap>>>,
    count: Arc<AtomicUsize>,
}

impl Standby {
    async fn of(leader: SocketAddr) -> Self {
        let config = Config {
            body_bytes_max: 2 << 10,
            ..Config::default()
        };
        let standby = Standby {
            rig: Rig::bare(config, Rooms::new(START)).await,
            passed: Arc::default(),
            count: Arc::default(),
        };
        standby.follow(leader);
        standby
    }

    fn follow(&self, leader: SocketAddr) {
        self.rig.server.stand_by(Arc::new(ToAddress {
            address: leader,
            passed: Arc::clone(&self.passed),
            count: Arc::clone(&self.count),
        }));
        self.rig.readiness.standing_by(leader.to_string());
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_standby_answers_what_the_leader_answers() {
    let leader = Rig::start().await;
    let id = leader.rooms.raise(
        "DiskFull",
        Level::Critical,
        Duration::ZERO,
        &[("instance", "a:1")],
        1.0,
    );
    leader
        .rooms
        .append(&labels(&[("__name__", "up"), ("job", "web")]), &[(10, 1.0)]);
    let standby = Standby::of(leader.address).await;
    for path in [
        "/api/v1/alerts".to_owned(),
        format!("/api/v1/alerts/{id}"),
        "/api/v1/rules".to_owned(),
        "/api/v1/stats/storage".to_owned(),
        "/prometheus/api/v1/query?query=up".to_owned(),
        "/prometheus/api/v1/query?query=bad{".to_owned(),
        "/api/v1/alerts/0190163d-8694-739b-aea5-966c26f8ad91".to_owned(),
        "/".to_owned(),
    ] {
        let (own, passed) = (
            get(leader.address, &path).await,
            get(standby.rig.address, &path).await,
        );
        assert_eq!((own.status, &own.body), (passed.status, &passed.body), "{path}");
        assert_eq!(
            own.header("content-type"),
            passed.header("content-type"),
            "{path}"
        );
    }
    let form = post_form(standby.rig.address, "/prometheus/api/v1/query", "query=sum(up)").await;
    assert_eq!(form.json()["data"]["result"][0]["value"][1], "1");
    let path = format!("/api/v1/alerts/{id}/acknowledge");
    let done = post_json(
        standby.rig.address,
        &path,
        &json!({ "by": "bob", "note": "mine" }),
    )
    .await;
    assert!(done.status.is_success(), "{:?}", done.body);
    assert!(leader.rooms.alert(id).acknowledged.is_some());
    let unknown = get(standby.rig.address, "/nope").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_standby_is_ready_and_tells_its_own_state_and_figures() {
    let leader = Rig::start().await;
    let standby = Standby::of(leader.address).await;
    let address = standby.rig.address;
    standby.rig.server.install_metrics(figures("standby_figures 1\n"));
    let ready = get(address, "/ready").await;
    assert_eq!(ready.status, StatusCode::OK);
    assert_eq!(
        ready.json(),
        json!({ "status": "standby", "leader": leader.address.to_string() })
    );
    assert_eq!(get(address, "/health").await.json()["phase"], "standby");
    assert!(
        get(address, "/metrics")
            .await
            .text()
            .contains("standby_figures 1")
    );
    assert_eq!(get(address, "/prometheus/-/ready").await.status, StatusCode::OK);
    assert_eq!(get(address, "/assets/style.css").await.status, StatusCode::OK);
    assert_eq!(standby.count(), 0);
}

#[tokio::test]
async fn what_is_passed_on_brings_its_trace_and_its_client_and_nothing_of_its_connection() {
    let leader = Rig::start().await;
    let standby = Standby::of(leader.address).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = Request::get("/api/v1/alerts?limit=1")
        .header("traceparent", trace)
        .header("authorization", "Bearer x")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("te", "trailers")
        .header("origin", format!("http://{}", standby.rig.address));
    let reply = send(standby.rig.address, request, "").await;
    assert_eq!(reply.status, StatusCode::OK, "{:?}", reply.body);
    assert_eq!(reply.header("x-request-id"), &trace[3..35]);
    let passed = standby.passed.lock().expect("no panic");
    let header = |name: &str| {
        passed[0]
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    };
    assert_eq!(
        (header("traceparent"), header("authorization")),
        (trace, "Bearer x")
    );
    assert_eq!(header("x-request-id"), &trace[3..35]);
    assert_eq!(header("x-marketprism-forwarded"), "1");
    assert!(header("x-marketprism-client").starts_with("v1;"), "{passed:?}");
    for name in ["connection", "x-hop", "te", "host", "origin", "content-length"] {
        assert_eq!(header(name), "", "{name}");
    }
}

#[tokio::test]
async fn two_replicas_that_take_each_other_for_the_leader_ask_once_and_give_up() {
    let leader = Rig::start().await;
    let first = Standby::of(leader.address).await;
    let second = Standby::of(first.rig.address).await;
    // The first still follows the old leader; that one has become a standby of nobody.
    leader.readiness.standing_by("");
    let reply = get(second.rig.address, "/api/v1/alerts").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!reply.header("retry-after").is_empty());
    assert!(
        reply.text().contains("the leader changes just now"),
        "{:?}",
        reply.body
    );
    assert_eq!((second.count(), first.count()), (1, 0));
}

#[tokio::test]
async fn without_a_leader_clients_are_told_to_come_back() {
    let gone = {
        let rig = Rig::start().await;
        rig.cancel.cancel();
        rig.address
    };
    let standby = Standby::of(gone).await;
    let reply = get(standby.rig.address, "/api/v1/alerts").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!reply.header("retry-after").is_empty());
    let detail = &reply.json()["detail"];
    assert_eq!(*detail, "no leader answers; a new one is chosen within seconds");
}

#[tokio::test]
async fn a_standby_that_becomes_the_leader_answers_by_itself() {
    let leader = Rig::start().await;
    let standby = Standby::of(leader.address).await;
    let address = standby.rig.address;
    assert_eq!(get(address, "/api/v1/alerts").await.status, StatusCode::OK);
    standby.rig.readiness.starting("taking over");
    let between = get(address, "/api/v1/alerts").await;
    assert_eq!(between.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(between.text().contains("taking over"));
    standby.rig.server.install(standby.rig.rooms.parts());
    standby.rig.readiness.ready();
    assert_eq!(get(address, "/api/v1/alerts").await.status, StatusCode::OK);
    assert_eq!(standby.count(), 1, "only the first was passed on");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_the_leader_hears_of_it() {
    let leader = Rig::start().await;
    let standby = Standby::of(leader.address).await;
    let path = "/api/v1/alerts/0190163d-8694-739b-aea5-966c26f8ad91/resolve";
    let reply = post_json(standby.rig.address, path, &json!({ "note": "x".repeat(3 << 10) })).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(standby.count(), 0);
}

/// A Prometheus that sends its alerts may reach a replica that stands by; many alerts are longer than other bodies may be.
#[tokio::test]
async fn alerts_of_other_programs_reach_the_leader_however_many_they_are() {
    let leader = Rig::start().await;
    let standby = Standby::of(leader.address).await;
    let alert = |at: usize| json!({ "labels": { "alertname": "Many", "number": at.to_string() } });
    let body: Vec<_> = (0..100).map(alert).collect();
    let body = serde_json::Value::from(body);
    assert!(body.to_string().len() > 2 << 10);
    let reply = post_json(standby.rig.address, "/alertmanager/api/v2/alerts", &body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let told = get(standby.rig.address, "/alertmanager/api/v2/alerts")
        .await
        .json();
    assert_eq!(told.as_array().map(Vec::len), Some(100));
}
