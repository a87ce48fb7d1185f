//! The loop: order, retries, deadlines, full disks, shutdowns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use marketprism_model::{AttemptOutcome, DeliveryAttempt, NotificationStatus, Outbox};
use marketprism_notify::{Config, Delivery};
use marketprism_testkit::{Behaviour, FakeWebhook, wait_for_async};

use crate::fixture::{Desk, PATIENCE, START, firing};

fn desk(hook: &FakeWebhook) -> Desk {
    Desk::new(&format!(
        "channels:\n  webhook: {{url: '{}', timeout: 60}}",
        hook.url()
    ))
}

#[tokio::test]
async fn an_attempt_that_a_crash_cut_is_uncertain_and_made_again_under_the_same_key() {
    let hook = FakeWebhook::start();
    let desk = desk(&hook);
    let id = desk.put(firing(1, "webhook"));
    let cut = DeliveryAttempt {
        notification: id,
        number: 1,
        started_at: START,
        finished_at: None,
        outcome: AttemptOutcome::Started,
        provider_code: 0,
        detail: String::new(),
    };
    desk.outbox.begin(&cut).expect("memory");
    let _running = desk.run();
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    let outcomes: Vec<_> = desk
        .outbox
        .attempts(id)
        .expect("memory")
        .iter()
        .map(|a| a.outcome)
        .collect();
    assert_eq!(outcomes, [AttemptOutcome::Uncertain, AttemptOutcome::Delivered]);
    assert_eq!(hook.received()[0].header("idempotency-key"), id.to_string());
    assert!(
        desk.metrics()
            .contains("notification_sent_total{channel=\"\",outcome=\"uncertain\"} 1")
    );
}

#[tokio::test]
async fn nothing_is_sent_while_the_disk_is_full_and_all_of_it_afterwards() {
    let hook = FakeWebhook::start();
    let desk = desk(&hook);
    let running = desk.run();
    let first = desk.put(firing(1, "webhook"));
    desk.wait_for_status(first, NotificationStatus::Delivered).await;
    desk.outbox.set_full(true);
    let second = desk.put(firing(2, "webhook"));
    let errors = || desk.metrics().contains("notification_store_errors_total 0");
    wait_for_async(PATIENCE, || !errors()).await;
    assert_eq!(hook.received().len(), 1);
    assert_eq!(desk.status(second), NotificationStatus::Waiting);
    desk.outbox.set_full(false);
    wait_for_async(PATIENCE, || {
        desk.clock.advance(Duration::from_secs(5));
        desk.status(second) == NotificationStatus::Delivered
    })
    .await;
    assert_eq!(hook.received().len(), 2);
    assert!(!running.is_finished());
}

#[tokio::test]
async fn a_clock_set_back_by_a_day_delays_what_waits_by_half_a_minute_at_most() {
    let hook = FakeWebhook::start();
    hook.order(Behaviour::status(503));
    let desk = desk(&hook);
    let _running = desk.run();
    let id = desk.put(firing(1, "webhook"));
    let is_waiting = || desk.status(id) == NotificationStatus::Waiting && hook.received().len() == 1;
    wait_for_async(PATIENCE, is_waiting).await;
    desk.clock.jump_to(START - Duration::from_secs(86_400));
    desk.clock.advance(Duration::from_secs(30));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    assert_eq!(hook.received().len(), 2);
}

#[tokio::test]
async fn what_a_clock_since_set_back_planned_before_the_start_waits_an_hour_at_most() {
    let hook = FakeWebhook::start();
    let desk = desk(&hook);
    let mut message = firing(1, "webhook");
    message.due_at = START + Duration::from_secs(86_400);
    message.deadline_at = message.due_at + Duration::from_secs(3600);
    let id = desk.put(message);
    let _running = desk.run();
    wait_for_async(PATIENCE, || {
        desk.outbox.next_due().expect("memory") == Some(START + Duration::from_secs(3600))
    })
    .await;
    desk.clock.advance(Duration::from_secs(3600));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
}

#[tokio::test]
async fn a_receipt_that_cannot_be_recorded_does_not_double_the_message() {
    let hook = FakeWebhook::start();
    hook.order(Behaviour::Slow(Duration::from_millis(300)));
    let desk = desk(&hook);
    let _running = desk.run();
    let id = desk.put(firing(1, "webhook"));
    wait_for_async(PATIENCE, || hook.received().len() == 1).await;
    desk.outbox.set_full(true);
    wait_for_async(PATIENCE, || {
        !desk.metrics().contains("notification_store_errors_total 0")
    })
    .await;
    assert_eq!(desk.status(id), NotificationStatus::Sending);
    desk.outbox.set_full(false);
    wait_for_async(PATIENCE, || {
        desk.clock.advance(Duration::from_secs(2));
        desk.status(id) == NotificationStatus::Delivered
    })
    .await;
    assert_eq!(hook.received().len(), 1);
}

#[tokio::test]
async fn retries_go_on_to_the_deadline_and_end_there() {
    // Whoever decides must hear that nobody was reached.
    let given_up = Arc::new(AtomicUsize::new(0));
    let hook = FakeWebhook::start();
    let desk = desk(&hook);
    let heard = Arc::clone(&given_up);
    desk.notifier.when_given_up(move |_| {
        heard.fetch_add(1, Ordering::SeqCst);
    });
    let _running = desk.run();
    let mut doomed = firing(1, "webhook");
    doomed.deadline_at = START + Duration::from_secs(60);
    for _ in 0..20 {
        hook.order(Behaviour::Answer(503, Vec::new(), "down".to_owned()));
    }
    let id = desk.put(doomed);
    wait_for_async(PATIENCE, || {
        desk.clock.advance(Duration::from_secs(1));
        desk.status(id) == NotificationStatus::Failed
    })
    .await;
    let attempts = desk.outbox.attempts(id).expect("memory");
    assert!((4..=8).contains(&attempts.len()), "{}", attempts.len());
    let last = attempts.last().expect("there are some");
    assert!(
        last.finished_at >= Some(START + Duration::from_secs(60)),
        "{last:?}"
    );
    assert_eq!(last.detail, "HTTP 503 down");
    wait_for_async(PATIENCE, || given_up.load(Ordering::SeqCst) == 1).await;
    let metrics = desk.metrics();
    assert!(
        metrics.contains("{channel=\"webhook\",outcome=\"gave_up\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn nobody_hears_resolved_before_firing() {
    let hook = FakeWebhook::start();
    hook.order(Behaviour::status(500));
    let desk = desk(&hook);
    let _running = desk.run();
    let first = firing(1, "webhook");
    let mut second = firing(2, "webhook");
    second.group_key.clone_from(&first.group_key);
    let other_group = firing(3, "webhook");
    let first = desk.put(first);
    desk.wait_for_retry(first, 1).await;
    let (second, other) = (desk.put(second), desk.put(other_group));
    desk.wait_for_status(other, NotificationStatus::Delivered).await;
    assert_eq!(desk.attempts(second).len(), 0, "it waits behind the first");
    desk.clock.advance(Duration::from_secs(5));
    desk.wait_for_status(second, NotificationStatus::Delivered).await;
    let keys: Vec<_> = hook
        .received()
        .iter()
        .map(|r| r.header("idempotency-key").to_owned())
        .collect();
    let of_group: Vec<_> = keys.iter().filter(|key| **key != other.to_string()).collect();
    assert_eq!(
        of_group,
        [&first.to_string(), &first.to_string(), &second.to_string()]
    );
}

#[tokio::test]
async fn a_channel_that_hangs_does_not_hold_the_others() {
    let (hanging, healthy) = (FakeWebhook::start(), FakeWebhook::start());
    hanging.order(Behaviour::Hang);
    let desk = Desk::new(&format!(
        "channels:\n  webhook: {{url: '{}', timeout: 60}}\n  other: {{type: webhook, url: '{}'}}",
        hanging.url(),
        healthy.url()
    ));
    let running = desk.run();
    let stuck = desk.put(firing(1, "webhook"));
    wait_for_async(PATIENCE, || hanging.received().len() == 1).await;
    let quick = desk.put(firing(2, "other"));
    desk.wait_for_status(quick, NotificationStatus::Delivered).await;
    assert_eq!(desk.status(stuck), NotificationStatus::Sending);
    // The shutdown gives the stuck one ten seconds of grace, and no more.
    desk.cancel.cancel();
    wait_for_async(PATIENCE, || {
        desk.clock.advance(Duration::from_secs(1));
        running.is_finished()
    })
    .await;
    assert_eq!(
        desk.status(stuck),
        NotificationStatus::Sending,
        "uncertain for the next start"
    );
}

#[tokio::test]
async fn an_attempt_under_way_at_shutdown_may_end() {
    let hook = FakeWebhook::start();
    hook.order(Behaviour::Slow(Duration::from_millis(300)));
    let desk = desk(&hook);
    let running = desk.run();
    let id = desk.put(firing(1, "webhook"));
    wait_for_async(PATIENCE, || hook.received().len() == 1).await;
    desk.cancel.cancel();
    running.await.expect("the loop ends");
    assert_eq!(desk.status(id), NotificationStatus::Delivered);
}

#[tokio::test]
async fn workers_are_no_more_than_configured() {
    let hook = FakeWebhook::start();
    for _ in 0..2 {
        hook.order(Behaviour::Hang);
    }
    let desk = Desk::new(&format!(
        "max_workers: 2\nchannels:\n  webhook: {{url: '{}', timeout: 60}}",
        hook.url()
    ));
    let _running = desk.run();
    for number in 0..5 {
        desk.put(firing(number, "webhook"));
    }
    wait_for_async(PATIENCE, || hook.received().len() == 2).await;
    desk.clock.advance(Duration::from_secs(30));
    desk.bell.ring();
    wait_for_async(PATIENCE, || desk.metrics().contains("notification_pending 5")).await;
    assert_eq!(hook.received().len(), 2);
}

#[tokio::test]
async fn a_channel_that_is_gone_from_the_configuration_gives_its_notifications_up() {
    let hook = FakeWebhook::start();
    let desk = desk(&hook);
    let _running = desk.run();
    let id = desk.put(firing(1, "pager"));
    desk.wait_for_status(id, NotificationStatus::Failed).await;
    assert_eq!(desk.attempts(id), ["refused 0 no channel \"pager\" is in use"]);
    assert!(desk.notifier.test_send("pager").await.is_err());
}

#[tokio::test]
async fn a_test_message_tells_the_providers_answer() {
    let hook = FakeWebhook::start();
    let desk = desk(&hook);
    let delivery = desk.notifier.test_send("webhook").await.expect("it is in use");
    assert!(
        matches!(delivery, Delivery::Delivered { code: 200, .. }),
        "{delivery:?}"
    );
    hook.order(Behaviour::Answer(403, Vec::new(), "who are you?".to_owned()));
    let delivery = desk.notifier.test_send("webhook").await.expect("it is in use");
    let refused = Delivery::Refused {
        code: 403,
        detail: "HTTP 403 who are you?".to_owned(),
    };
    assert_eq!(delivery, refused);
}

#[tokio::test]
async fn secrets_in_a_providers_answer_are_not_recorded() {
    let hook = FakeWebhook::start();
    hook.order(Behaviour::Answer(
        400,
        Vec::new(),
        "bad token s3cr3t-token at /hook?key=s3cr3t-token".to_owned(),
    ));
    let desk = Desk::new(&format!(
        "channels:\n  webhook: {{url: '{}?key=s3cr3t-token'}}",
        hook.url()
    ));
    let _running = desk.run();
    let id = desk.put(firing(1, "webhook"));
    desk.wait_for_status(id, NotificationStatus::Failed).await;
    assert_eq!(desk.attempts(id), ["refused 400 HTTP 400 bad token *** at ***"]);
}

#[tokio::test]
async fn the_figures_tell_what_was_sent() {
    let hook = FakeWebhook::start();
    let desk = desk(&hook);
    let _running = desk.run();
    let id = desk.put(firing(1, "webhook"));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    let metrics = desk.metrics();
    for line in [
        "notification_sent_total{channel=\"webhook\",outcome=\"delivered\"} 1",
        "notification_attempt_duration_seconds_count{channel=\"webhook\"} 1",
        "notification_delay_seconds_count{channel=\"webhook\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_reload_moves_the_next_attempt_to_the_new_address() {
    let (old, new) = (FakeWebhook::start(), FakeWebhook::start());
    old.order(Behaviour::status(503));
    let desk = desk(&old);
    let _running = desk.run();
    let id = desk.put(firing(1, "webhook"));
    desk.wait_for_retry(id, 1).await;
    let yaml = format!("channels:\n  webhook: {{url: '{}', timeout: 60}}", new.url());
    let config: Config = serde_saphyr::from_str(&yaml).expect("well-formed");
    desk.notifier
        .set_channels(&config.prepare(&|_| None).expect("complete"));
    desk.clock.advance(Duration::from_secs(5));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
    assert_eq!((old.received().len(), new.received().len()), (1, 1));
}

#[tokio::test]
async fn what_waits_while_delivery_is_switched_off_goes_out_when_it_is_on_again() {
    let hook = FakeWebhook::start();
    let yaml = |enabled| {
        format!(
            "enabled: {enabled}\nchannels:\n  webhook: {{url: '{}', timeout: 60}}",
            hook.url()
        )
    };
    let desk = Desk::new(&yaml(false));
    let _running = desk.run();
    let id = desk.put(firing(1, "webhook"));
    wait_for_async(PATIENCE, || desk.metrics().contains("notification_pending 1")).await;
    assert_eq!(
        (desk.status(id), desk.attempts(id).len()),
        (NotificationStatus::Waiting, 0)
    );
    let config: Config = serde_saphyr::from_str(&yaml(true)).expect("well-formed");
    desk.notifier
        .set_channels(&config.prepare(&|_| None).expect("complete"));
    desk.wait_for_status(id, NotificationStatus::Delivered).await;
}
