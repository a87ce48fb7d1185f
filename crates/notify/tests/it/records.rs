//! The loop over the real records: a database file, closed and opened again.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{
    AlertCommit, AlertStore, AttemptOutcome, Chance, Clock, DeliveryAttempt, NotificationStatus, Outbox,
};
use marketprism_net::smtp::SmtpClient;
use marketprism_net::{Egress, HttpClient};
use marketprism_notify::{Config, Links, Notifier};
use marketprism_state::Database;
use marketprism_testkit::{Behaviour, FakeWebhook, ManualClock, SeededChance, wait_for_async};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::fixture::{EXTERNAL_URL, PATIENCE, START, firing};

fn notifier(hook: &FakeWebhook, database: &Arc<Database>, clock: &ManualClock) -> Notifier {
    let yaml = format!("channels:\n  webhook: {{url: '{}', timeout: 60}}", hook.url());
    let config: Config = serde_saphyr::from_str(&yaml).expect("the test's configuration");
    let outbox: Arc<dyn Outbox> = Arc::<Database>::clone(database);
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let chance: Arc<dyn Chance> = Arc::new(SeededChance::new(3));
    Notifier::new(
        &config.prepare(&|_| None).expect("the test's configuration"),
        Links::new(EXTERNAL_URL),
        outbox,
        Arc::new(HttpClient::new(Egress::default())),
        Arc::new(SmtpClient::default()),
        clock,
        chance,
        &mut Registry::default(),
    )
}

#[tokio::test]
async fn what_was_committed_is_delivered_once_across_restarts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("records.db");
    let hook = FakeWebhook::start();
    let clock = ManualClock::new(START);
    hook.order(Behaviour::status(503));
    let ids: Vec<_> = {
        let database = Arc::new(Database::open(&file).expect("a new file"));
        let outbox: Vec<_> = (0..3).map(|number| firing(number, "webhook")).collect();
        let ids = outbox.iter().map(|notification| notification.id).collect();
        let commit = AlertCommit {
            outbox,
            ..AlertCommit::default()
        };
        database.commit(&commit).expect("the disk has room");
        // A crash cut the attempt at the first one.
        let cut = DeliveryAttempt {
            notification: commit.outbox[0].id,
            number: 1,
            started_at: START,
            finished_at: None,
            outcome: AttemptOutcome::Started,
            provider_code: 0,
            detail: String::new(),
        };
        database.begin(&cut).expect("the disk has room");
        ids
    };
    let database = Arc::new(Database::open(&file).expect("written above"));
    let notifier = notifier(&hook, &database, &clock);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let running = tokio::spawn(async move { notifier.run(stop).await });
    let all_delivered = || {
        let page = database.notifications(&marketprism_model::records::NotificationFilter {
            statuses: vec![NotificationStatus::Delivered],
            limit: 10,
            ..Default::default()
        });
        page.expect("readable").items.len() == 3
    };
    wait_for_async(PATIENCE, || {
        clock.advance(Duration::from_millis(100));
        all_delivered()
    })
    .await;
    cancel.cancel();
    running.await.expect("the loop ends");
    // Three receipts, and one answer of 503 before.
    assert_eq!(hook.received().len(), 4);
    let first = database.attempts(ids[0]).expect("readable");
    assert_eq!(first[0].outcome, AttemptOutcome::Uncertain);
    assert_eq!(
        first.last().map(|attempt| attempt.outcome),
        Some(AttemptOutcome::Delivered)
    );
}
