//! The whole program in simulated time: days with faults in seconds, every one of them repeatable by its seed.
//!
//! Each test compares what happened in truth, which the test knows, with what the receivers heard and the API says.

mod day;
mod site;
mod story;

use std::time::Duration;

use marketprism_model::{Clock, Timestamp};
use marketprism_testkit::Weather;
use serde_json::Value;

use day::Day;
use site::{STEP, Site};
use story::heard;

/// 2026-08-01T00:00:00Z
const START: Timestamp = Timestamp::from_millis(1_785_542_400_000);
const SEED: u64 = 20_260_801;
const MINUTE: Duration = Duration::from_secs(60);

/// How many days are lived through: one by default, `MARKETPRISM_TEST_SCALE` times as many in long runs.
fn days() -> u64 {
    let scale = std::env::var("MARKETPRISM_TEST_SCALE").ok();
    scale.and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn config(targets: &[&str], receivers: &[&str]) -> String {
    let channels: Vec<String> = receivers
        .iter()
        .map(|name| format!("{name}: {{type: webhook, url: 'http://{name}/hook', timeout: 10}}"))
        .collect();
    format!(
        "global: {{scrape_interval: 15s, scrape_timeout: 10s, evaluation_interval: 30s}}\n\
         rule_files: [rules.yaml]\n\
         scrape_configs: [{{job_name: app, static_configs: [{{targets: [{}]}}]}}]\n\
         host: {{enabled: false, interval: 1h}}\n\
         alert_manager: {{default_rules: false}}\n\
         notification_manager:\n  \
           route: {{group_by: [alertname, instance], group_wait: 30s, group_interval: 1m, repeat_interval: 365d}}\n  \
           channels: {{{}}}\n",
        targets
            .iter()
            .map(|target| format!("'{target}'"))
            .collect::<Vec<_>>()
            .join(", "),
        channels.join(", "),
    )
}

#[tokio::test(start_paused = true)]
async fn in_a_day_of_faults_every_long_episode_is_told_once_and_no_short_one_ever() {
    for number in 0..days() {
        Day::live(SEED + 1000 * number).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_by_a_day_stops_neither_scrapes_nor_rules_nor_flushes_nor_deliveries() {
    let rules = "groups: [{name: queues, rules: [{alert: QueueLong, expr: queue_length > 10, for: 1m}]}]\n";
    let mut site = Site::prepare(SEED, START, &config(&["app:80"], &["pager"]), rules);
    site.world.serve("app:80", "queue_length 3\n");
    site.world.serve("pager", "");
    site.start().await;
    site.pass(10 * MINUTE).await;

    // One message waits for its next attempt, one alert waits in its group, when the clock is set back.
    site.world.set_weather("pager", Weather::Refuses(500, None));
    site.world.serve("app:80", "queue_length 30\n");
    site.pass(MINUTE * 4).await;
    let refused = site.world.arrivals("pager").len();
    assert!(refused > 0, "the receiver was asked");
    site.jump(-86_400_000).await;
    let (set_back_at, visits) = (site.clock.now(), site.world.visits("app:80"));
    site.world.set_weather("pager", Weather::Fair);

    // One interval of scraping, one of rules, and the longest pause between two attempts.
    site.pass(Duration::from_secs(16)).await;
    assert!(site.world.visits("app:80") > visits, "scrapes stand still");
    assert_eq!(
        site.query("up{job=\"app\"}").await,
        [1.0],
        "what is scraped is stored"
    );
    site.pass(Duration::from_secs(30)).await;
    assert_evaluated_since(&site, set_back_at).await;
    site.pass(MINUTE * 5).await;
    let told = heard(&site.world, "pager");
    let messages = &told[&("QueueLong".to_owned(), "app:80".to_owned())];
    assert_eq!(
        messages.len(),
        1,
        "what waited is delivered, and once: {messages:?}"
    );

    // A flush planned before is due now, and what begins now is told as ever.
    site.world.serve("app:80", "queue_length 3\n");
    site.pass(MINUTE * 3).await;
    site.world.serve("app:80", "queue_length 30\n");
    site.pass(MINUTE * 4).await;
    let told = heard(&site.world, "pager");
    let statuses: Vec<&str> = told
        .values()
        .flatten()
        .map(|message| message.status.as_str())
        .collect();
    assert_eq!(statuses, ["firing", "resolved", "firing"]);
    site.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_rises_and_falls_between_levels_is_one_alert_in_all_messages() {
    let rules = "groups:\n- name: disks\n  rules:\n  - alert: DiskFull\n    expr: disk_used\n    levels:\n    \
                 - {level: critical, when: '> 95', for: 1m}\n    - {level: high, when: '> 90', for: 1m}\n";
    let mut site = Site::prepare(SEED, START, &config(&["app:80"], &["pager"]), rules);
    site.world.serve("pager", "");
    site.world.serve("app:80", "disk_used 50\n");
    site.start().await;
    site.pass(MINUTE * 2).await;
    let mut alert_id = None;
    for (value, priority) in [(92, "P2"), (97, "P1"), (92, "P2")] {
        site.world.serve("app:80", format!("disk_used {value}\n"));
        site.pass(MINUTE * 4).await;
        let items = firing(&site).await;
        assert_eq!(items.len(), 1, "at {value}: {items:?}");
        assert_eq!(items[0]["priority"], priority, "at {value}: {items:?}");
        let id = alert_id.get_or_insert_with(|| items[0]["id"].clone());
        assert_eq!(*id, items[0]["id"], "at {value} it is another alert");
    }
    site.world.serve("app:80", "disk_used 50\n");
    site.pass(MINUTE * 4).await;
    assert_eq!(firing(&site).await, Vec::<Value>::new());

    // A fall is no news of its own: the message that ends the alert bears the level that stood.
    let told = heard(&site.world, "pager");
    let words: Vec<String> = told
        .values()
        .flatten()
        .map(|message| format!("{} {}", message.status, message.severity))
        .collect();
    assert_eq!(words, ["firing high", "firing critical", "resolved high"]);
    let log = site.get("/api/v1/notifications").await;
    let told_of = |notification: &Value| notification["alerts"][0]["id"].clone();
    let ids: Vec<Value> = log["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(told_of)
        .collect();
    assert_eq!(ids, vec![alert_id.expect("it fired"); 3], "{log}");
    site.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_ended_in_the_absence_of_the_program_before_it_was_told_is_never_told() {
    let rules = "groups: [{name: queues, rules: [{alert: QueueLong, expr: queue_length > 10, for: 1m}]}]\n";
    // Wherever the scrapes and the rules have their places after the start.
    for seed in SEED..SEED + 12 {
        let mut site = Site::prepare(seed, START, &config(&["app:80"], &["pager"]), rules);
        site.world.serve("app:80", "queue_length 30\n");
        site.world.serve("pager", "");
        site.start().await;
        while firing(&site).await.is_empty() {
            site.pass(STEP).await;
            assert!(site.clock.monotonic() < 5 * MINUTE, "it never fires");
        }
        site.stop().await;
        site.world.serve("app:80", "queue_length 3\n");
        site.pass(2 * MINUTE).await;
        site.start().await;
        site.pass(5 * MINUTE).await;
        assert_eq!(firing(&site).await, Vec::<Value>::new());
        assert_eq!(
            site.world.arrivals("pager").len(),
            0,
            "seed {seed}: it was told after it ended"
        );
        site.stop().await;
    }
}

/// Gives the alerts that the API shows as firing.
async fn firing(site: &Site) -> Vec<Value> {
    let page = site.get("/api/v1/alerts?state=firing").await;
    page["items"].as_array().expect("a list").clone()
}

/// Asserts that every rule group was evaluated at `since` or later, and not in the future.
async fn assert_evaluated_since(site: &Site, since: Timestamp) {
    let answer = site.get("/prometheus/api/v1/rules").await;
    for group in answer["data"]["groups"].as_array().expect("a list of groups") {
        let last = group["lastEvaluation"].as_str().expect("a moment");
        // RFC 3339 in UTC sorts as text as far as the seconds.
        let (last, since, now) = (&last[..19], since.to_string(), site.clock.now().to_string());
        assert!(
            &since[..19] <= last && last <= &now[..19],
            "group {} was evaluated at {last}, not between {since} and {now}",
            group["name"]
        );
    }
}
