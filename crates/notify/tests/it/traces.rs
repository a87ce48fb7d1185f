//! The trace that goes out with each attempt, and the figures by which an operator sees what waits.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{Id, NotificationStatus};
use marketprism_notify::{Config, Delivery};
use marketprism_testkit::{
    Behaviour, FakeDingTalk, FakeSlack, FakeWebhook, ManualClock, ReceivedRequest, wait_for_async,
};

use crate::fixture::{Desk, PATIENCE, START, firing};

/// Takes a request's `traceparent` apart, judging it by the letter of W3C Trace Context, section 3.2.2.
fn trace_of(request: &ReceivedRequest) -> (String, String) {
    let given: Vec<_> = request.headers.get_all("traceparent").iter().collect();
    assert_eq!(given.len(), 1, "{given:?}");
    let text = given[0].to_str().expect("ASCII");
    assert_eq!(text.len(), 55, "{text}");
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags] = parts[..] else {
        panic!("four parts: {text}");
    };
    assert_eq!(
        (version, trace.len(), span.len(), flags),
        ("00", 32, 16, "01"),
        "{text}"
    );
    for id in [trace, span] {
        assert!(
            id.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)),
            "{text}"
        );
        assert!(id.chars().any(|c| c != '0'), "{text}");
    }
    (trace.to_owned(), span.to_owned())
}

fn hex(id: Id) -> String {
    id.to_string().replace('-', "")
}

#[tokio::test]
async fn every_channel_that_speaks_http_passes_the_notifications_trace_on() {
    let (hook, slack) = (FakeWebhook::start(), FakeSlack::start());
    let robot = FakeDingTalk::start("tok3n", Some("SECtest"), Arc::new(ManualClock::new(START)));
    let desk = Desk::new(&format!(
        "channels:\n  webhook: {{url: '{}', headers: {{Traceparent: mine}}}}\n  slack: {{webhook_url: '{}'}}\n  \
         dingtalk: {{webhook_url: '{}', secret: SECtest}}",
        hook.url(),
        slack.url(),
        robot.url()
    ));
    let _running = desk.run();
    let names = ["webhook", "slack", "dingtalk"];
    let ids = [1, 2, 3].map(|number| desk.put(firing(number, names[number as usize - 1])));
    for id in ids {
        desk.wait_for_status(id, NotificationStatus::Delivered).await;
    }
    let received = [hook.received(), slack.received(), robot.received()];
    for (id, requests) in ids.iter().zip(&received) {
        assert_eq!(requests.len(), 1);
        assert_eq!(trace_of(&requests[0]).0, hex(*id));
    }
}

#[tokio::test]
async fn attempts_at_one_notification_are_spans_of_one_trace() {
    let hook = FakeWebhook::start();
    hook.order(Behaviour::status(503));
    let desk = Desk::new(&format!("channels:\n  webhook: {{url: '{}'}}", hook.url()));
    let _running = desk.run();
    let id = desk.put(firing(1, "webhook"));
    desk.wait_for_retry(id, 1).await;
    wait_for_async(PATIENCE, || {
        desk.clock.advance(Duration::from_secs(5));
        desk.status(id) == NotificationStatus::Delivered
    })
    .await;
    let traces: Vec<_> = hook.received().iter().map(trace_of).collect();
    let [(first, first_span), (second, second_span)] = &traces[..] else {
        panic!("two attempts: {traces:?}");
    };
    assert_eq!((first, second), (&hex(id), &hex(id)));
    assert_ne!(first_span, second_span);
}

#[tokio::test]
async fn a_test_message_has_a_trace_too() {
    let hook = FakeWebhook::start();
    let desk = Desk::new(&format!("channels:\n  webhook: {{url: '{}'}}", hook.url()));
    let sent = desk.notifier.test_send("webhook").await.expect("it is in use");
    assert!(matches!(sent, Delivery::Delivered { .. }));
    let request = &hook.received()[0];
    let key = request.header("idempotency-key").replace('-', "");
    assert_eq!(trace_of(request).0, key);
}

#[tokio::test]
async fn channels_are_shown_from_the_start_and_forgotten_with_their_configuration() {
    let hook = FakeWebhook::start();
    let yaml = format!("channels:\n  webhook: {{url: '{}'}}", hook.url());
    let desk = Desk::new(&yaml);
    let text = desk.metrics();
    for outcome in ["delivered", "refused", "retry", "gave_up"] {
        let line = format!("notification_sent_total{{channel=\"webhook\",outcome=\"{outcome}\"}} 0\n");
        assert!(text.contains(&line), "{line}{text}");
    }
    assert!(
        text.contains("notification_sent_total{channel=\"\",outcome=\"uncertain\"} 0\n"),
        "{text}"
    );
    assert!(
        text.contains("notification_deliveries_running_max 10\n"),
        "{text}"
    );
    let none: Config = serde_saphyr::from_str("channels: {}").expect("a configuration");
    desk.notifier
        .set_channels(&none.prepare(&|_| None).expect("a configuration"));
    assert!(!desk.metrics().contains("\"webhook\""), "{}", desk.metrics());
}

#[tokio::test]
async fn what_waits_is_shown_with_its_age_channel_by_channel() {
    let hook = FakeWebhook::start();
    for _ in 0..40 {
        hook.order(Behaviour::status(503));
    }
    let yaml = format!(
        "channels:\n  webhook: {{url: '{}'}}\n  slack: {{webhook_url: '{}'}}",
        hook.url(),
        hook.url()
    );
    let desk = Desk::on_clock(&yaml, ManualClock::new(START + Duration::from_secs(60)));
    let _running = desk.run();
    let ids = [1, 2].map(|number| desk.put(firing(number, "webhook")));
    for id in ids {
        desk.wait_for_retry(id, 1).await;
    }
    let shows = |line: &str| desk.metrics().contains(line);
    wait_for_async(PATIENCE, || {
        desk.clock.advance(Duration::from_secs(1));
        shows("notification_waiting_groups{channel=\"webhook\"} 2\n")
    })
    .await;
    let text = desk.metrics();
    let age: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("notification_oldest_waiting_seconds{channel=\"webhook\"} "))
        .and_then(|age| age.parse().ok())
        .expect("an age");
    assert!(age >= 60.0, "{text}");
    assert!(
        text.contains("notification_waiting_groups{channel=\"slack\"} 0\n"),
        "{text}"
    );
    assert!(desk.notifier.load().waiting <= 2 && desk.notifier.load().running_max == 10);
    // It is over when everything has arrived.
    wait_for_async(PATIENCE, || {
        desk.clock.advance(Duration::from_secs(20));
        ids.iter()
            .all(|id| desk.status(*id) == NotificationStatus::Delivered)
            && shows("notification_waiting_groups{channel=\"webhook\"} 0\n")
            && shows("notification_oldest_waiting_seconds{channel=\"webhook\"} 0.0\n")
    })
    .await;
}
