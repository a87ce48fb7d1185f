//! The port is open before anything else is, and what it says until then.

use http::StatusCode;
use marketprism_server::{Config, ROUTES};
use marketprism_testkit::wait_for_async;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::reply::{get, send};
use crate::rig::{Rig, Rooms, START, open_house};

/// Asks every route but `answered`; each must say that it is too early, and how far the start is.
async fn everything_else_says_come_later(rig: &Rig, answered: &[&str]) {
    for route in ROUTES.iter().filter(|route| !answered.contains(&route.path)) {
        let path = route
            .path
            .replace("{id}", "1")
            .replace("{name}", "job")
            .replace("{section}", "storage");
        let request = http::Request::builder().method(&route.method).uri(&path);
        let reply = send(rig.address, request, "").await;
        assert_eq!(
            reply.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{path}: {:?}",
            reply.body
        );
        assert!(!reply.header("retry-after").is_empty(), "{path}");
        assert!(
            reply.text().contains("replaying the log, 43 %"),
            "{path}: {:?}",
            reply.body
        );
    }
}

#[tokio::test]
async fn until_the_rooms_stand_only_health_is_good_and_everything_says_come_later() {
    let rig = Rig::unborn(Config::default(), Rooms::new(START)).await;
    rig.readiness.starting("replaying the log, 43 %");
    assert_eq!(get(rig.address, "/health").await.status, StatusCode::OK);

    let ready = get(rig.address, "/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json()["detail"], "replaying the log, 43 %");
    assert_eq!(ready.json()["instance"], "/ready");

    // Nobody knows yet who may ask, so nobody may, not even what does not exist.
    everything_else_says_come_later(&rig, &["/health"]).await;
    let nowhere = get(rig.address, "/nope").await;
    assert_eq!(nowhere.status, StatusCode::SERVICE_UNAVAILABLE);

    // As soon as that is known, one can log in; what the rooms hold comes later.
    rig.server.install_access(rig.rooms.access(&open_house()));
    let answered = [
        "/health",
        "/assets/{name}",
        "/login",
        "/logout",
        "/api/v1/auth/login",
        "/api/v1/auth/logout",
        "/api/v1/auth/me",
        "/prometheus/-/healthy",
        "/alertmanager/-/healthy",
    ];
    everything_else_says_come_later(&rig, &answered).await;
    assert_eq!(get(rig.address, "/api/v1/auth/me").await.status, StatusCode::OK);
    assert_eq!(get(rig.address, "/nope").await.status, StatusCode::NOT_FOUND);

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
