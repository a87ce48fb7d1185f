//! Rules made by API beside those of files: checked alike, kept apart, in force at once.

use std::sync::Arc;
use std::time::Duration;

use marketprism_model::{
    Clock, Id, Labels, Lifecycle, Observation, RuleId, RuleStore, RuleStoreError, Verdict,
};
use marketprism_promql::{Engine, EngineConfig};
use marketprism_rules::{
    API_FILE, Edit, FileRules, Installation, Origin, RuleSet, Rulebook, RulebookError, RulesHandle,
    RulesSnapshot, RunnerParts, Saved, Submission, definition_to_yaml, runner,
};
use marketprism_state::Database;
use marketprism_storage::Store;
use marketprism_testkit::{ManualClock, SeededChance};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::CountingLifecycle;
use crate::world::{minute, rule_set};

mod refusals;

const FILES: &str =
    "groups:\n- name: host\n  rules:\n  - {alert: Down, expr: up == 0}\n  - {record: n, expr: count(up)}\n";

/// The loop with its rulebook over records that outlive it.
struct Running {
    clock: ManualClock,
    records: Arc<Database>,
    lifecycle: Arc<CountingLifecycle>,
    book: Arc<Rulebook>,
    handle: RulesHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn files(set: RuleSet) -> FileRules {
    FileRules {
        set,
        is_on: true,
        ..FileRules::default()
    }
}

impl Running {
    fn start(text: &str, records: Arc<Database>) -> Self {
        let store = Arc::clone(&records) as Arc<dyn RuleStore>;
        Running::over(text, records, store)
    }

    /// The same, where the rulebook reaches the records by way of `rule_store`.
    fn over(text: &str, records: Arc<Database>, rule_store: Arc<dyn RuleStore>) -> Self {
        let clock = ManualClock::new(minute(0));
        let store = Store::in_memory(Arc::new(clock.clone()));
        let lifecycle = Arc::new(CountingLifecycle::default());
        let (book, set) = Rulebook::open(
            rule_store,
            Arc::new(clock.clone()),
            Arc::new(SeededChance::new(3)),
            files(rule_set(text)),
        )
        .expect("the records are there");
        let parts = RunnerParts {
            engine: Arc::new(Engine::new(EngineConfig::default())),
            source: Arc::new(store.clone()),
            sink: Arc::new(store),
            lifecycle: Arc::clone(&lifecycle) as Arc<dyn Lifecycle>,
            clock: Arc::new(clock.clone()),
            installation: Installation::default(),
            workers: 1,
        };
        let (handle, runner) = runner(set, parts, &mut Registry::default());
        book.attach(handle.clone());
        let stop = CancellationToken::new();
        let task = tokio::spawn(runner.run(stop.clone()));
        Running {
            clock,
            records,
            lifecycle,
            book,
            handle,
            stop,
            task,
        }
    }

    async fn create(&self, text: &str) -> Result<Saved, RulebookError> {
        let sent = Submission::read(text.as_bytes(), false).map_err(RulebookError::Faulty)?;
        self.book.create(sent, edit("li")).await
    }

    async fn change(&self, id: Id, text: &str, expected: Option<u32>) -> Result<Saved, RulebookError> {
        let sent = Submission::read(text.as_bytes(), false).map_err(RulebookError::Faulty)?;
        let edit = Edit {
            expected,
            ..edit("wang")
        };
        self.book.change(id, sent, edit).await
    }

    async fn end(self) -> Arc<Database> {
        self.stop.cancel();
        self.task.await.unwrap();
        self.records
    }

    fn last_retained(&self) -> Vec<RuleId> {
        let retained = &self.lifecycle.inner.lock().unwrap().retained;
        retained.last().cloned().unwrap_or_default()
    }
}

fn edit(author: &str) -> Edit {
    Edit {
        author: author.to_owned(),
        ..Edit::default()
    }
}

fn names(snapshot: &RulesSnapshot) -> Vec<String> {
    let groups = snapshot.groups.iter();
    groups
        .map(|group| format!("{}/{}:{}", group.spec.file, group.spec.name, group.rules.len()))
        .collect()
}

fn id_of(snapshot: &RulesSnapshot, file: &str, rule: &str) -> RuleId {
    let groups = snapshot.groups.iter().filter(|group| &*group.spec.file == file);
    let mut rules = groups.flat_map(|group| &group.rules);
    rules.find(|known| &*known.rule.name == rule).unwrap().rule.id
}

fn records() -> Arc<Database> {
    Arc::new(Database::in_memory().expect("memory"))
}

const DISK: &str = "name: disk\ncomment: 磁盘\nrules:\n- {alert: Full, expr: free < 5, for: 1m}\n";

#[tokio::test]
async fn what_is_made_by_api_runs_beside_the_files_and_outlives_a_restart() {
    let running = Running::start(FILES, records());
    let saved = running.create(DISK).await.expect("it is good");
    assert!(saved.is_new && saved.warnings.is_empty(), "{saved:?}");
    let record = &saved.record;
    assert_eq!(
        (record.version, record.name.as_str(), record.comment.as_str()),
        (1, "disk", "磁盘")
    );
    assert_eq!(
        (record.created_by.as_str(), record.created_at, record.updated_at),
        ("li", minute(0), minute(0))
    );
    let snapshot = running.handle.snapshot();
    assert_eq!(names(&snapshot), ["rules.yml/host:2", "api/disk:1"]);
    assert_eq!(snapshot.groups[1].spec.origin, Origin::Api(Arc::clone(record)));
    // It ticks, too.
    for _ in 0..70 {
        running.clock.advance(Duration::from_secs(1));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    let is_evaluated = async {
        while running.handle.snapshot().groups[1].last_evaluation.is_none() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), is_evaluated).await;
    waited.expect("the group is evaluated");
    let records = running.end().await;
    let again = Running::start(FILES, records);
    assert_eq!(
        names(&again.handle.snapshot()),
        ["rules.yml/host:2", "api/disk:1"]
    );
    assert_eq!(again.book.groups()[0].record, saved.record);
    again.end().await;
}

#[tokio::test]
async fn reading_the_files_anew_drops_no_rule_made_by_api_and_a_change_by_api_touches_no_file() {
    let running = Running::start(FILES, records());
    running.create(DISK).await.expect("it is good");
    let more = format!("{FILES}- name: more\n  rules: [{{record: r, expr: 1}}]\n");
    running
        .book
        .set_files(files(rule_set(&more)))
        .await
        .expect("replaced");
    let snapshot = running.handle.snapshot();
    assert_eq!(
        names(&snapshot),
        ["rules.yml/host:2", "rules.yml/more:1", "api/disk:1"]
    );
    let (down, full) = (
        id_of(&snapshot, "rules.yml", "Down"),
        id_of(&snapshot, API_FILE, "Full"),
    );
    assert_eq!(running.last_retained(), [down, full]);

    // A namesake made by API gets another identity, though its expression comes first in the alphabet.
    let twin = running
        .create("group: host\nalert: Down\nexpr: aaa == 0\n")
        .await
        .expect("it is good");
    assert_eq!(twin.warnings.len(), 2, "{:?}", twin.warnings);
    assert!(twin.warnings[0].contains("a group of this name stands in rules.yml"));
    assert!(twin.warnings[1].contains("a rule \"Down\" with the same labels stands in rules.yml"));
    let snapshot = running.handle.snapshot();
    assert_eq!(id_of(&snapshot, "rules.yml", "Down"), down);
    assert_ne!(id_of(&snapshot, API_FILE, "Down"), down);

    let deleted = running
        .book
        .delete(twin.record.id, edit("wang"))
        .await
        .expect("there");
    assert_eq!(deleted.name, "host");
    assert_eq!(
        running.last_retained(),
        [down, full],
        "the lifecycle is told at once"
    );
    let history = running.book.history(twin.record.id).expect("kept");
    assert!(
        history[0].is_deletion && history[0].author == "wang",
        "{history:?}"
    );
    running.end().await;
}

/// Namesakes were once counted across all groups, so that a deletion gave one group's alerts to another's rule.
#[tokio::test]
async fn a_change_of_one_group_or_of_the_files_leaves_the_identities_of_all_others() {
    let running = Running::start(FILES, records());
    let group = |name: &str, expr: &str| {
        format!("name: {name}\nrules:\n- {{alert: Down, expr: {expr} == 0}}\n- {{record: n, expr: {expr}}}\n")
    };
    let ids = |name: &str| {
        let snapshot = running.handle.snapshot();
        let found = snapshot.groups.iter().find(|group| &*group.spec.name == name);
        let rules = found.expect("it runs").rules.iter();
        rules.map(|rule| rule.rule.id).collect::<Vec<_>>()
    };
    let first = running.create(&group("first", "b")).await.expect("good").record;
    let second = running.create(&group("second", "c")).await.expect("good").record;
    let stood = [ids("host"), ids("first"), ids("second")];
    assert!(stood[0] != stood[1] && stood[1] != stood[2] && stood[0] != stood[2]);

    // One that comes before all in the alphabet, one that changes places, one that goes, and the file's that goes.
    running.create(&group("third", "a")).await.expect("good");
    assert_eq!([ids("host"), ids("first"), ids("second")], stood);
    let changed = running.change(first.id, &group("first", "z"), Some(1)).await;
    changed.expect("good");
    assert_eq!([ids("first"), ids("second")], stood[1..]);
    let deleted = running.book.delete(first.id, edit("wang")).await;
    deleted.expect("there");
    assert_eq!(ids("second"), stood[2]);
    let other = "groups:\n- name: other\n  rules: [{record: r, expr: 1}]\n";
    let replaced = running.book.set_files(files(rule_set(other))).await;
    replaced.expect("replaced");
    assert_eq!(ids("second"), stood[2]);
    let records = running.end().await;

    let again = Running::start(FILES, records);
    let snapshot = again.handle.snapshot();
    let kept = snapshot
        .groups
        .iter()
        .find(|group| group.spec.origin == Origin::Api(Arc::clone(&second)));
    let kept: Vec<RuleId> = kept
        .expect("it runs")
        .rules
        .iter()
        .map(|rule| rule.rule.id)
        .collect();
    assert_eq!(kept, stood[2], "a restart changes nothing");
    again.end().await;
}

/// One faulty file kept every alert of a deleted group firing, with no rule left that could end it.
#[tokio::test]
async fn what_is_deleted_by_api_resolves_though_a_file_is_faulty() {
    let running = Running::start(FILES, records());
    let group = |name: &str| {
        let rules = "rules:\n- {alert: Full, expr: free < 5, keep_firing_for: 1h}\n- {record: r, expr: 1}\n";
        format!("name: {name}\nlimit: 1\n{rules}")
    };
    let doomed = running.create(&group("doomed")).await.expect("good").record;
    let changed = running.create(&group("changed")).await.expect("good").record;
    running.create(&group("resting")).await.expect("good");
    let context = |name: &str| {
        let snapshot = running.handle.snapshot();
        let found = snapshot.groups.iter().find(|group| &*group.spec.name == name);
        let rule = Arc::clone(&found.expect("it runs").rules[0].rule);
        rule.alerting().expect("an alert").context.clone()
    };
    let contexts = ["host", "doomed", "changed", "resting"].map(context);
    for context in &contexts {
        let firing = Observation {
            labels: Labels::from_pairs([("alertname", &*context.name), ("of", &*context.group)]),
            value: 1.0,
            annotations: Labels::empty(),
            verdicts: vec![Verdict::Holds],
        };
        let held = running.lifecycle.observe(context, minute(0), vec![firing]);
        assert_eq!(held.expect("taken").len(), 1);
    }
    let held = || {
        contexts
            .each_ref()
            .map(|context| running.lifecycle.held(context.id).len())
    };
    let faulty = || files(RuleSet::new(Vec::new(), false));
    running.book.set_files(faulty()).await.expect("replaced");
    assert_eq!(held(), [1; 4], "a faulty file ends nothing");
    let off = FileRules {
        is_on: false,
        ..FileRules::default()
    };
    running.book.set_files(off).await.expect("replaced");
    assert_eq!(held(), [1; 4], "nor does what is switched off");
    running.book.set_files(faulty()).await.expect("replaced");

    running.book.delete(doomed.id, edit("wang")).await.expect("there");
    assert_eq!(held(), [1, 0, 1, 1]);
    let other = "name: changed\nrules:\n- {alert: Other, expr: free < 5}\n";
    running.change(changed.id, other, Some(1)).await.expect("good");
    assert_eq!(
        held(),
        [1, 0, 0, 1],
        "a rule that a change leaves out is gone, too"
    );
    running.end().await;
}

#[tokio::test]
async fn one_rule_joins_its_group_and_a_group_is_changed_only_by_whoever_saw_it() {
    let running = Running::start(FILES, records());
    let rule = |name: &str| format!("group: disk\nalert: {name}\nexpr: free < 5\n");
    let first = running.create(&rule("Full")).await.expect("a new group");
    let second = running.create(&rule("Fuller")).await.expect("it joins");
    assert!(first.is_new && !second.is_new);
    assert_eq!((second.record.id, second.record.version), (first.record.id, 2));
    assert_eq!(names(&running.handle.snapshot())[1], "api/disk:2");
    let twice = running.create(&rule("Full")).await.expect_err("it is there");
    assert!(
        matches!(&twice, RulebookError::Faulty(faults) if faults[0].reason.contains("stands in the group")),
        "{twice}"
    );

    let id = first.record.id;
    let conflict = running
        .change(id, DISK, Some(1))
        .await
        .expect_err("version 2 stands");
    assert!(
        matches!(
            conflict,
            RulebookError::Store(RuleStoreError::Conflict {
                expected: 1,
                found: 2
            })
        ),
        "{conflict}"
    );
    let none = running.change(id, DISK, None).await.expect_err("no version");
    assert!(matches!(none, RulebookError::NoVersion), "{none}");
    let lone = running
        .change(id, &rule("Full"), Some(2))
        .await
        .expect_err("a rule");
    assert!(matches!(lone, RulebookError::NotAGroup), "{lone}");
    let changed = running
        .change(id, &format!("version: 2\n{DISK}"), None)
        .await
        .expect("the body may name it");
    assert_eq!(
        (changed.record.version, changed.record.created_by.as_str()),
        (3, "li")
    );
    assert_eq!(changed.record.updated_by, "wang");
    assert_eq!(names(&running.handle.snapshot())[1], "api/disk:1");
    running.end().await;
}

#[tokio::test]
async fn rules_that_are_switched_off_or_of_another_release_are_kept_and_do_not_run() {
    let running = Running::start(FILES, records());
    let saved = running.create(DISK).await.expect("it is good");
    let off = FileRules {
        is_on: false,
        ..FileRules::default()
    };
    running.book.set_files(off).await.expect("replaced");
    assert!(names(&running.handle.snapshot()).is_empty());
    let other = running
        .create("group: b\nrecord: r\nexpr: 1\n")
        .await
        .expect("kept");
    assert!(other.warnings[0].contains("alert_manager.enabled"), "{other:?}");
    let retained = running.lifecycle.inner.lock().unwrap().retained.len();
    let records = running.end().await;

    let mut damaged = saved.record.as_ref().clone();
    damaged.version += 1;
    damaged.definition =
        r#"{"name":"disk","rules":[{"alert":"Full","expr":"free <","new_key":1}]}"#.to_owned();
    records
        .put_rule_group(&damaged)
        .expect("written by another release");
    let again = Running::start(FILES, records);
    assert_eq!(names(&again.handle.snapshot()), ["rules.yml/host:2", "api/b:1"]);
    let faults = &again.book.group(saved.record.id).expect("it is there").faults;
    assert!(faults[0].reason.contains("new_key"), "{faults:?}");
    // Alerts of a rule that is merely not understood must not resolve.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert!(
        again.lifecycle.inner.lock().unwrap().retained.is_empty(),
        "{retained}"
    );
    again.end().await;
}

#[test]
fn every_fault_is_told_with_its_place_and_what_fits_nowhere_is_refused() {
    let check = |text: &str, is_json: bool, words: &[&str]| {
        let faults = match Submission::read(text.as_bytes(), is_json) {
            Err(faults) => faults,
            Ok(sent) => {
                let records: Arc<dyn RuleStore> = records();
                let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(minute(0)));
                let files = files(RuleSet::default());
                let opened = Rulebook::open(records, clock, Arc::new(SeededChance::new(1)), files);
                let (book, _) = opened.expect("memory");
                let runtime = tokio::runtime::Runtime::new().unwrap();
                match runtime.block_on(book.create(sent, edit("li"))) {
                    Err(RulebookError::Faulty(faults)) => faults,
                    other => panic!("{text}: {other:?}"),
                }
            }
        };
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        for (word, told) in words.iter().zip(&told) {
            assert!(told.contains(word), "{text}: {told:?} lacks {word}");
        }
        assert_eq!(told.len(), words.len(), "{text}: {told:?}");
    };
    check(
        "name: g\nrules:\n- alert: A\n  expr: sum(\n- record: r\n  expr: up\n  for: 5m\n",
        false,
        &[
            "api:4:13: group \"g\", rule \"A\"",
            "api:7:8: group \"g\", rule \"r\": invalid field 'for'",
        ],
    );
    check("{\"name\": \"g\",\n \"rules\": [{]}", true, &["api:2:13"]);
    check(
        "{\"name\": \"g\", \"ruls\": []}",
        true,
        &["did you mean \"rules\"?"],
    );
    check("alert: A\nexpr: up\n", false, &["needs the name of its group"]);
    check("name: g\nrules: []\n", false, &["the group has no rules"]);
    check("name: g\nalert: A\nexpr: up\n", false, &["send one of them"]);
    check(
        "groups: [{name: a}, {name: b}]",
        false,
        &["groups holds 2 groups"],
    );
    check("comment: x\n", false, &["send a group (name, rules)"]);
    check("", false, &["nothing was sent"]);
    check(
        "name: \"a\\tb\"\nrules: [{record: r, expr: 1}]",
        false,
        &["no control characters"],
    );
    let long = format!(
        "name: g\nrules: [{{record: r, expr: 1}}]\ncomment: {}",
        "x".repeat(3_000)
    );
    check(&long, false, &["comment has more than 2000 bytes"]);
    let many: String = (0..1_001)
        .map(|n| format!("- {{record: 'r{n}', expr: 1}}\n"))
        .collect();
    check(
        &format!("name: g\nrules:\n{many}"),
        false,
        &["1001 rules, more than 1000"],
    );
    let huge = "#".repeat(300 << 10);
    check(&huge, false, &["more than 262144 bytes"]);
}

#[tokio::test]
async fn json_with_any_character_is_read_and_a_group_is_given_back_as_a_rule_file() {
    let running = Running::start(FILES, records());
    let text = r#"{"group": "emoji", "alert": "Full", "expr": "free < 5", "missing": {"series": "keep"},
        "annotations": {"summary": "\ud83d\ude00 \u78c1\u76d8"}}"#;
    let sent = Submission::read(text.as_bytes(), true).expect("it is JSON");
    let saved = running.book.create(sent, edit("li")).await.expect("it is good");
    let snapshot = running.handle.snapshot();
    let alerting = snapshot.groups[1].rules[0].rule.alerting().expect("an alert");
    assert_eq!(alerting.annotations.get("summary"), Some("😀 磁盘"));
    let yaml = definition_to_yaml(&saved.record.definition).expect("a rule file");
    let again = rule_set(&yaml);
    let rule = &again.groups()[0].rules[0];
    assert_eq!((&*rule.name, &*rule.expr), ("Full", "free < 5"));
    assert_eq!(
        rule.alerting().expect("an alert").missing_data,
        alerting.missing_data
    );
    running.end().await;
}
