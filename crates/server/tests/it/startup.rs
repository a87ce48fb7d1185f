//! The port is open before anything else is, and what it says until then.

use http::StatusCode;
use marketprism_server::{Config, ROUTES};
use marketprism_testkit::wait_for_async;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::reply::get;
use crate::rig::{Rig, Rooms, START};

#[tokio::test]
async fn until_the_rooms_stand_only_health_is_good_and_everything_says_come_later() {
    let rig = Rig::bare(Config::default(), Rooms::new(START)).await;
    rig.readiness.starting("replaying the log, 43 %");
    assert_eq!(get(rig.address, "/health").await.status, StatusCode::OK);

    let ready = get(rig.address, "/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json()["detail"], "replaying the log, 43 %");
    assert_eq!(ready.json()["instance"], "/ready");

    let always = [
        "/health",
        "/assets/{name}",
        "/prometheus/-/healthy",
        "/prometheus/api/v1/alertmanagers",
    ];
    let mut asked = 0;
    for route in ROUTES
        .iter()
        .filter(|route| route.method == http::Method::GET && !always.contains(&route.path))
    {
        // Routes that look at their parameters first need some that are right.
        let path = route
            .path
            .replace("{id}", "0190163d-8694-739b-aea5-966c26f8ad91")
            .replace("{name}", "job");
        let path = path.replace("{section}", "storage");
        let query = "query=up&start=1&end=2&step=1&match[]=up&g0.expr=";
        let reply = get(
            rig.address,
            &format!(
                "{path}?{}",
                if path.starts_with("/prometheus/api") {
                    query
                } else {
                    ""
                }
            ),
        )
        .await;
        let is_parameter_only =
            path.ends_with("query_exemplars") || path.ends_with("format_query") || path.ends_with("/graph");
        if !is_parameter_only {
            assert_eq!(
                reply.status,
                StatusCode::SERVICE_UNAVAILABLE,
                "{path}: {:?}",
                reply.body
            );
            assert!(!reply.header("retry-after").is_empty(), "{path}");
            asked += 1;
        }
    }
    assert!(asked > 20, "only {asked} routes were asked");

    rig.server.install(rig.rooms.parts());
    assert_eq!(
        get(rig.address, "/ready").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    rig.readiness.ready();
    assert_eq!(get(rig.address, "/ready").await.status, StatusCode::OK);
    assert_eq!(get(rig.address, "/api/v1/alerts").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_stalled_loop_fails_health_but_not_readiness() {
    let rig = Rig::start().await;
    assert_eq!(get(rig.address, "/health").await.json()["status"], "healthy");
    rig.rooms.is_stalled.store(true, Ordering::Relaxed);
    let health = get(rig.address, "/health").await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health.json()["detail"], "the rule loop stands still since 90 s");
    assert_eq!(get(rig.address, "/ready").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_cancelled_server_stops_listening_and_ends() {
    let mut rig = Rig::start().await;
    rig.readiness.draining();
    assert_eq!(
        get(rig.address, "/ready").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    rig.cancel.cancel();
    let serving = &mut rig.serving;
    wait_for_async(Duration::from_secs(20), || serving.is_finished()).await;
    assert!(tokio::net::TcpStream::connect(rig.address).await.is_err());
}
