//! Our webhook's payload beside the one that Debian's Alertmanager sends for an equal alert.

use std::process::Command;
use std::time::Duration;

use http::Method;
use http::header::CONTENT_TYPE;
use marketprism_model::{AlertState, Labels, Level, NotificationStatus, Timestamp};
use marketprism_net::{Egress, HttpClient, Request, Transport};
use marketprism_testkit::{ChildGuard, FakeWebhook, free_port, wait_for_async};
use serde_json::{Value, json};

use crate::fixture::{Desk, START, alert, notification};

const BINARY: &str = "/usr/bin/prometheus-alertmanager";
const STARTING: Duration = Duration::from_secs(30);

/// An Alertmanager that tells everything to one webhook at once.
struct Alertmanager {
    _child: ChildGuard,
    _folder: tempfile::TempDir,
    url: String,
}

impl Alertmanager {
    fn start(hook: &FakeWebhook) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = format!(
            "route: {{receiver: default, group_by: [alertname], group_wait: 0s, group_interval: 1s}}\n\
             receivers: [{{name: default, webhook_configs: [{{url: '{}', send_resolved: true}}]}}]\n",
            hook.url()
        );
        let file = folder.path().join("alertmanager.yml");
        std::fs::write(&file, config).expect("temporary folder");
        let address = format!("127.0.0.1:{}", free_port());
        let child = ChildGuard::spawn(Command::new(BINARY).args([
            &format!("--config.file={}", file.display()),
            &format!("--storage.path={}", folder.path().display()),
            &format!("--web.listen-address={address}"),
            "--web.external-url=https://monitor.example.com",
            "--web.route-prefix=/",
            "--cluster.listen-address=",
        ]));
        Alertmanager {
            _child: child.expect("install it with: apt-get install prometheus-alertmanager"),
            _folder: folder,
            url: format!("http://{address}"),
        }
    }

    async fn post(&self, alerts: &Value) {
        let client = HttpClient::new(Egress::default());
        let mut request = Request::new(Method::POST, format!("{}/api/v2/alerts", self.url));
        request
            .headers
            .insert(CONTENT_TYPE, "application/json".parse().expect("ASCII"));
        request.body = alerts.to_string().into();
        let start = std::cell::Cell::new(0);
        loop {
            match client.send(request.clone()).await {
                Ok(answer) => {
                    assert_eq!(answer.status, 200, "{:?}", answer.body);
                    return;
                }
                // It is still starting; wait_for_async keeps the deadline.
                Err(error) => {
                    start.set(start.get() + 1);
                    assert!(start.get() < 300, "{error}");
                    let mut polls = 0;
                    wait_for_async(STARTING, || {
                        polls += 1;
                        polls > 10
                    })
                    .await;
                }
            }
        }
    }
}

/// Compares key by key, so that a difference is named by its path.
fn compare(ours: &Value, theirs: &Value, path: &str) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let keys = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
            let (mut our_keys, mut their_keys) = (keys(ours), keys(theirs));
            our_keys.sort();
            their_keys.sort();
            assert_eq!(our_keys, their_keys, "keys of {path}");
            for (key, value) in theirs {
                compare(&ours[key], value, &format!("{path}.{key}"));
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "length of {path}");
            for (at, value) in theirs.iter().enumerate() {
                compare(&ours[at], value, &format!("{path}[{at}]"));
            }
        }
        _ => assert_eq!(ours, theirs, "{path}"),
    }
}

async fn side_by_side(state: AlertState, starts_at: &str, ends_at: Option<&str>) {
    let theirs = FakeWebhook::start();
    let alertmanager = Alertmanager::start(&theirs);
    let mut alert = alert("HostDown", AlertState::Firing, Level::Critical);
    alert.starts_at = moment(starts_at);
    let generator_url = "https://monitor.example.com/prometheus/graph?g0.expr=up+%3D%3D+0&g0.tab=1";
    let mut posted = json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": starts_at,
        "generatorURL": generator_url,
    });
    alertmanager.post(&json!([posted])).await;
    wait_for_async(STARTING, || theirs.received().len() == 1).await;
    if let Some(ends_at) = ends_at {
        posted["endsAt"] = json!(ends_at);
        alertmanager.post(&json!([posted])).await;
        wait_for_async(STARTING, || theirs.received().len() == 2).await;
        alert.ends_at = Some(moment(ends_at));
    }
    alert.state = state;

    let ours = FakeWebhook::start();
    let desk = Desk::new(&format!("channels:\n  webhook: {{url: '{}'}}", ours.url()));
    let _running = desk.run();
    let mut notification = notification(1, "webhook", vec![alert.clone()]);
    notification.group_key = "{}:{alertname=\"HostDown\"}".to_owned();
    notification.content.common_annotations = alert.annotations;
    let id = desk.put(notification);
    desk.wait_for_status(id, NotificationStatus::Delivered).await;

    let theirs = theirs.received().last().expect("waited for").json();
    let ours = &ours.received()[0];
    assert_eq!(ours.header("content-type"), "application/json");
    compare(&ours.json(), &theirs, "payload");
}

fn moment(text: &str) -> Timestamp {
    let moment: jiff::Timestamp = text.parse().expect("RFC 3339");
    Timestamp::from_millis(moment.as_millisecond())
}

#[tokio::test]
async fn a_firing_payload_is_alertmanagers_field_by_field() {
    side_by_side(AlertState::Firing, "2026-11-24T04:05:43.25Z", None).await;
}

#[tokio::test]
async fn a_resolved_payload_is_alertmanagers_field_by_field() {
    let ended = "2026-11-24T04:10:43Z";
    side_by_side(AlertState::Resolved, "2026-11-24T04:05:43.007Z", Some(ended)).await;
}

#[tokio::test]
async fn a_signed_request_carries_the_hmac_of_its_body() {
    let hook = FakeWebhook::start();
    let desk = Desk::new(&format!(
        "channels:\n  webhook: {{url: '{}', secret: Jefe, bearer_token: t0ken, headers: {{X-Team: ops}}}}",
        hook.url()
    ));
    let _running = desk.run();
    let over = alert("HostDown", AlertState::Firing, Level::Low);
    let mut plain = notification(1, "webhook", vec![over]);
    plain.content.common_labels = Labels::empty();
    let id = desk.put(plain);
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    let request = &hook.received()[0];
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"Jefe");
    let signature = request
        .header("x-marketprism-signature-256")
        .strip_prefix("sha256=")
        .expect("its form");
    let bytes: Vec<u8> = (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(&signature[at..at + 2], 16).expect("hex"))
        .collect();
    ring::hmac::verify(&key, &request.body, &bytes).expect("signed with the secret");
    assert_eq!(request.header("authorization"), "Bearer t0ken");
    assert_eq!(request.header("x-team"), "ops");
    assert_eq!(
        request.json()["commonLabels"],
        json!({}),
        "an empty map, not null"
    );
    assert_eq!(START.millis() % 1000, 0);
}
