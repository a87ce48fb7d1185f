//! Two replicas on one PostgreSQL: one leads, the other forwards; whoever dies or freezes is replaced, and nothing is
//! told twice.

use std::fs;
use std::path::Path;
use std::time::Duration;

use marketprism_testkit::{FakeWebhook, PostgresServer, is_true_within};
use rustix::process::Signal;
use serde_json::Value;

use crate::exporter::Exporter;
use crate::program::{PATIENCE, Program, one_of_each};

/// A lease of ten seconds, a pace of three, and a loaded machine.
const TAKE_OVER: Duration = Duration::from_secs(40);

struct Pair {
    first: Program,
    second: Program,
    exporter: Exporter,
    webhook: FakeWebhook,
}

impl Pair {
    /// Starts two replicas; the first one leads.
    fn start() -> Self {
        let exporter = Exporter::start("broken 0\n");
        let webhook = FakeWebhook::start();
        let config = one_of_each(exporter.address(), &webhook.url());
        let rules = "groups:\n  - name: pair\n    rules:\n      - {alert: Broken, expr: broken == 1, labels: {severity: critical}}\n";
        let database = PostgresServer::shared().new_schema();
        let prepare = || {
            let mut program = Program::prepare(&config);
            fs::write(program.home().join("rules.yaml"), rules).expect("write the rules");
            program.set_environment("DATABASE_URL", &database);
            program.set_environment("JWT_SECRET", "4f1c0e2b9a7d6538e1f0a9b8c7d6e5f4");
            program
        };
        let (mut first, mut second) = (prepare(), prepare());
        first.launch(&[]);
        first.wait_until_ready();
        second.launch(&[]);
        second.wait_until_ready();
        // The users are in the database, so the password that the first start made opens both.
        let password = "data/admin_password";
        fs::copy(first.home().join(password), second.home().join(password)).expect("copy the password");
        Pair {
            first,
            second,
            exporter,
            webhook,
        }
    }

    /// Gives the statuses of the messages that came, in order.
    fn told(&self) -> Vec<String> {
        let received = self.webhook.received();
        let status = |body: &[u8]| -> String {
            let message: Value = serde_json::from_slice(body).expect("the webhook's message is JSON");
            message["status"].as_str().expect("it has a status").to_owned()
        };
        received.iter().map(|request| status(&request.body)).collect()
    }

    fn wait_for(&self, expected: &[&str], patience: Duration) {
        is_true_within(patience, || self.told().len() >= expected.len());
        assert_eq!(
            self.told(),
            expected,
            "first:\n{}\nsecond:\n{}",
            self.first.log(),
            self.second.log()
        );
    }

    /// Waits until the leader has recorded that messages were delivered. One that is killed between the receiver's answer
    /// and its record leaves an uncertain attempt, which the next leader rightly makes again.
    fn wait_for_receipts(&self, count: usize) {
        let delivered = || self.first.get_json("/api/v1/notifications?status=delivered");
        let are_recorded = || {
            delivered()["items"]
                .as_array()
                .is_some_and(|items| items.len() == count)
        };
        assert!(is_true_within(PATIENCE, are_recorded), "{}", delivered());
    }
}

/// Counts what the system knows of a running program: its threads of that name, and its open files.
fn held(program: &Program, thread: &str) -> (usize, usize) {
    let process = Path::new("/proc").join(program.id().to_string());
    let entries = |folder: &str| fs::read_dir(process.join(folder)).expect("the program runs");
    let is_named = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim_end() == thread)
    };
    let threads = entries("task").filter_map(Result::ok).filter(is_named).count();
    (threads, entries("fd").count())
}

/// Each time that a replica was superseded, its database connections, its thread for them, its figures and what the
/// store held in memory stayed behind, 20 MB a time; and it waited for its own lease to run out.
#[test]
fn a_replica_that_was_superseded_starts_anew_at_once_and_leaves_nothing_behind() {
    let mut program = Program::prepare("host: {enabled: false}\nalert_manager: {default_rules: false}\n");
    let url = PostgresServer::shared().new_schema();
    program.set_environment("DATABASE_URL", &url);
    program.set_environment("JWT_SECRET", "4f1c0e2b9a7d6538e1f0a9b8c7d6e5f4");
    program.launch(&[]);
    program.wait_until_ready();
    let (threads, files) = held(&program, "postgresql");
    assert_eq!(threads, 1);
    let schema = url.rsplit("%3D").next().expect("named at the end");
    let replace = format!(
        "UPDATE {schema}.replica_lease SET epoch = epoch + 1, holder = 'other', address = '', expires_at = 0"
    );
    for turn in 2..=4 {
        PostgresServer::shared().run(&replace);
        let log = || program.log();
        let leads_again = is_true_within(TAKE_OVER, || log().matches("this replica leads").count() >= turn);
        assert!(leads_again, "{}", log());
    }
    let has_waited = program.logged("another replica leads; standing by");
    assert!(has_waited.is_none(), "{}", program.log());
    let is_gone = is_true_within(PATIENCE, || held(&program, "postgresql").0 == 1);
    assert!(is_gone, "{:?}", held(&program, "postgresql"));
    let left = held(&program, "postgresql").1;
    assert!(left < files + 7, "{files} files before, {left} after");
}

fn leads(program: &Program) -> bool {
    program.logged("this replica leads").is_some()
}

fn firing(program: &Program) -> Vec<Value> {
    let alerts = program.get_json("/api/v1/alerts?state=firing");
    alerts["items"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_standby_forwards_what_it_is_asked_and_takes_over_from_a_leader_that_died() {
    let mut pair = Pair::start();
    assert!(leads(&pair.first) && !leads(&pair.second));
    let (status, words) = pair.second.get("/ready");
    assert_eq!(status, 200, "{words}");
    assert!(words.contains("stand"), "{words}");

    pair.exporter.set("broken 1\n");
    pair.wait_for(&["firing"], PATIENCE);
    let alerts = firing(&pair.second);
    assert_eq!(alerts, firing(&pair.first));
    let path = format!(
        "/api/v1/alerts/{}/acknowledge",
        alerts[0]["id"].as_str().expect("an id")
    );
    let json = [("Content-Type", "application/json")];
    let (status, words) = pair.second.post_bytes(&path, &json, br#"{"note": "seen"}"#);
    assert_eq!(status, 200, "{words}");

    // A rule that the standby was asked to make is the leader's, and the next leader's.
    let rule = br#"{"group": "made", "alert": "Made", "expr": "broken == 1"}"#;
    let (status, words) = pair.second.send("POST", "/api/v1/rules", &json, rule);
    assert_eq!(status, 201, "{words}");
    pair.wait_for(&["firing", "firing"], PATIENCE);
    pair.wait_for_receipts(2);

    pair.first.kill();
    let is_replaced = is_true_within(TAKE_OVER, || leads(&pair.second));
    assert!(is_replaced, "{}", pair.second.log());
    is_true_within(PATIENCE, || pair.second.get("/ready").1.contains("\"ready\""));
    let made = pair.second.get_json("/prometheus/api/v1/rules?file[]=api");
    assert_eq!(made["data"]["groups"][0]["name"], "made");
    let alerts = firing(&pair.second);
    assert_eq!(alerts.len(), 2, "the alerts live on: {alerts:?}");
    let taken = alerts.iter().filter(|alert| alert["acknowledged"] != Value::Null);
    assert_eq!(taken.count(), 1, "and what was said of one");
    pair.exporter.set("broken 0\n");
    pair.wait_for(&["firing", "firing", "resolved", "resolved"], PATIENCE);

    pair.first.launch(&[]);
    pair.first.wait_until_ready();
    assert!(!leads(&pair.first), "it stands by: {}", pair.first.log());
}

#[test]
fn a_leader_that_froze_steps_down_when_it_wakes_and_tells_nothing_twice() {
    let pair = Pair::start();
    pair.first.signal(Signal::STOP);
    let is_replaced = is_true_within(TAKE_OVER, || leads(&pair.second));
    assert!(is_replaced, "{}", pair.second.log());
    pair.exporter.set("broken 1\n");
    pair.wait_for(&["firing"], PATIENCE);

    pair.first.signal(Signal::CONT);
    let has_stepped_down = is_true_within(TAKE_OVER, || {
        pair.first.logged("another replica leads; standing by").is_some()
    });
    assert!(has_stepped_down, "{}", pair.first.log());
    pair.exporter.set("broken 0\n");
    pair.wait_for(&["firing", "resolved"], PATIENCE);
    assert!(
        is_true_within(PATIENCE, || pair.first.get("/ready").1.contains("stand")),
        "{}",
        pair.first.log()
    );
}

/// While the database was away, what was decided waited for it: a P1 of that time was told when it was back.
#[test]
fn a_p1_is_told_while_the_database_is_away_and_recorded_once_when_it_is_back() {
    let mut database = PostgresServer::start();
    let exporter = Exporter::start("broken 0\n");
    let webhook = FakeWebhook::start();
    let mut program = Program::prepare(&one_of_each(exporter.address(), &webhook.url()));
    let rules = "groups:\n  - name: alone\n    rules:\n      - {alert: Broken, expr: broken == 1, labels: {severity: critical}}\n";
    fs::write(program.home().join("rules.yaml"), rules).expect("write the rules");
    program.set_environment("DATABASE_URL", &database.url());
    program.set_environment("JWT_SECRET", "4f1c0e2b9a7d6538e1f0a9b8c7d6e5f4");
    program.launch(&[]);
    program.wait_until_ready();

    database.kill();
    exporter.set("broken 1\n");
    let is_told = is_true_within(PATIENCE, || !webhook.received().is_empty());
    assert!(is_told, "{}", program.log());
    database.restart();
    let delivered = || database.run("SELECT count(*) FROM notifications WHERE status = 'delivered'");
    let are_recorded = |count: u32| is_true_within(TAKE_OVER, || delivered() == count.to_string());
    assert!(are_recorded(1), "{}\n{}", delivered(), program.log());
    exporter.set("broken 0\n");
    assert!(are_recorded(2), "{}\n{}", delivered(), program.log());
    let statuses: Vec<Value> = webhook
        .received()
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).expect("JSON")["status"].clone())
        .collect();
    assert_eq!(statuses, ["firing", "resolved"], "{}", program.log());
}
