//! Rule groups made by API, through their port.

use marketprism_model::{
    Claim, LeaseStore, RuleGroupDeletion, RuleGroupRecord, RuleStore, RuleStoreError, StoreError,
};
use marketprism_state::Database;
use marketprism_testkit::PostgresServer;

use crate::support::*;

fn group(n: u64, name: &str) -> RuleGroupRecord {
    RuleGroupRecord {
        id: id(n),
        name: name.to_owned(),
        version: 1,
        definition: format!(r#"{{"name":"{name}","rules":[]}}"#),
        comment: "第一版".to_owned(),
        created_by: "li".to_owned(),
        created_at: at(1),
        updated_by: "li".to_owned(),
        updated_at: at(1),
    }
}

fn next(old: &RuleGroupRecord, by: &str) -> RuleGroupRecord {
    let version = old.version + 1;
    RuleGroupRecord {
        version,
        definition: format!(r#"{{"name":"{}","limit":{version}}}"#, old.name),
        comment: String::new(),
        updated_by: by.to_owned(),
        updated_at: at(i64::from(version)),
        ..old.clone()
    }
}

fn deletion(n: u64, expected: Option<u32>) -> RuleGroupDeletion {
    RuleGroupDeletion {
        id: id(n),
        expected,
        author: "wang".to_owned(),
        at: at(90),
        comment: "不再需要".to_owned(),
    }
}

#[test]
fn a_group_is_read_back_changed_and_deleted_and_its_history_tells_all_of_it() {
    on_each_engine(|db| {
        assert!(db.rule_groups().expect("list").is_empty());
        let (first, other) = (group(1, "主机"), group(2, "disk"));
        db.put_rule_group(&other).expect("put");
        db.put_rule_group(&first).expect("put");
        assert_eq!(
            db.rule_groups().expect("list"),
            [first.clone(), other.clone()],
            "the oldest first"
        );
        let mut second = next(&first, "wang");
        second.name = "hosts".to_owned();
        db.put_rule_group(&second).expect("change");
        assert_eq!(db.rule_group(id(1)).expect("read"), Some(second.clone()));
        assert_eq!(
            db.delete_rule_group(&deletion(1, Some(2))).expect("delete"),
            second
        );
        assert_eq!(db.rule_group(id(1)).expect("read"), None);
        assert_eq!(db.rule_groups().expect("list"), [other]);
        let history = db.rule_group_history(id(1)).expect("history");
        let told: Vec<(u32, &str, &str, &str, bool)> = history
            .iter()
            .map(|one| {
                (
                    one.version,
                    one.name.as_str(),
                    one.author.as_str(),
                    one.comment.as_str(),
                    one.is_deletion,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (3, "hosts", "wang", "不再需要", true),
                (2, "hosts", "wang", "", false),
                (1, "主机", "li", "第一版", false),
            ]
        );
        assert_eq!(history[1].definition, second.definition);
    });
}

#[test]
fn whoever_saw_another_version_overwrites_nothing() {
    on_each_engine(|db| {
        let first = group(1, "host");
        db.put_rule_group(&first).expect("put");
        db.put_rule_group(&next(&first, "wang")).expect("change");
        let late = db
            .put_rule_group(&next(&first, "li"))
            .expect_err("seen too early");
        assert!(
            matches!(
                late,
                RuleStoreError::Conflict {
                    expected: 1,
                    found: 2
                }
            ),
            "{late}"
        );
        let late = db.delete_rule_group(&deletion(1, Some(1))).expect_err("too");
        assert!(
            matches!(late, RuleStoreError::Conflict { found: 2, .. }),
            "{late}"
        );
        let again = db.put_rule_group(&first).expect_err("it is there");
        assert!(
            matches!(again, RuleStoreError::Conflict { found: 2, .. }),
            "{again}"
        );
        let stands = db.rule_group(id(1)).expect("read").expect("stands");
        assert_eq!((stands.version, stands.updated_by.as_str()), (2, "wang"));
        db.delete_rule_group(&deletion(1, None)).expect("whatever stands");
        for refused in [
            db.put_rule_group(&next(&stands, "li")).expect_err("gone"),
            db.delete_rule_group(&deletion(1, None)).expect_err("gone"),
        ] {
            assert!(
                matches!(refused, RuleStoreError::NotFound(gone) if gone == id(1)),
                "{refused}"
            );
        }
    });
}

#[test]
fn two_groups_never_share_a_name_and_there_are_only_so_many() {
    on_each_engine(|db| {
        db.put_rule_group(&group(1, "host")).expect("put");
        let twin = db.put_rule_group(&group(2, "host")).expect_err("taken");
        assert!(
            matches!(&twin, RuleStoreError::NameTaken(name) if name == "host"),
            "{twin}"
        );
        db.put_rule_group(&group(2, "disk")).expect("put");
        let mut renamed = next(&group(2, "disk"), "li");
        renamed.name = "host".to_owned();
        let twin = db.put_rule_group(&renamed).expect_err("taken");
        assert!(matches!(twin, RuleStoreError::NameTaken(_)), "{twin}");
        assert_eq!(db.rule_group_history(id(2)).expect("history").len(), 1);
    });
    let db = Database::in_memory().expect("memory");
    for n in 0..1_000 {
        db.put_rule_group(&group(n, &format!("group {n}"))).expect("put");
    }
    let full = db.put_rule_group(&group(5_000, "one more")).expect_err("full");
    assert!(matches!(full, RuleStoreError::TooMany { limit: 1_000 }), "{full}");
    db.put_rule_group(&next(&group(7, "group 7"), "li"))
        .expect("a change needs no room");
}

#[test]
fn histories_keep_the_newest_hundred_versions_and_five_hundred_deleted_groups() {
    let db = Database::in_memory().expect("memory");
    let mut stands = group(1, "host");
    db.put_rule_group(&stands).expect("put");
    for _ in 0..130 {
        stands = next(&stands, "li");
        db.put_rule_group(&stands).expect("change");
    }
    let history = db.rule_group_history(id(1)).expect("history");
    assert_eq!(
        (history.len(), history[0].version, history[99].version),
        (100, 131, 32)
    );
    for n in 10..515 {
        db.put_rule_group(&group(n, "short-lived")).expect("put");
        let deletion = RuleGroupDeletion {
            at: at(n as i64),
            ..deletion(n, None)
        };
        db.delete_rule_group(&deletion).expect("delete");
    }
    let kept = |n| !db.rule_group_history(id(n)).expect("history").is_empty();
    assert_eq!(
        [kept(10), kept(14), kept(15), kept(514)],
        [false, false, true, true]
    );
    assert_eq!(db.rule_group_history(id(1)).expect("history").len(), 100);
}

#[test]
fn a_replica_that_no_longer_leads_writes_no_rules() {
    let url = PostgresServer::shared().new_schema();
    let (old, new) = (
        Database::connect(&url).expect("connect"),
        Database::connect(&url).expect("connect"),
    );
    lead(&old, "old");
    old.put_rule_group(&group(1, "host")).expect("it leads");
    old.release(&replica("old")).expect("release");
    let claim = new.claim(&replica("new"), seconds(3_600)).expect("claim");
    assert!(matches!(claim, Claim::Ours { .. }), "{claim:?}");
    for refused in [
        old.put_rule_group(&group(2, "disk")).expect_err("fenced"),
        old.delete_rule_group(&deletion(1, None)).expect_err("fenced"),
    ] {
        assert!(
            matches!(refused, RuleStoreError::Store(StoreError::Fenced { .. })),
            "{refused}"
        );
    }
    assert_eq!(
        new.rule_groups().expect("list"),
        [group(1, "host")],
        "the next leader reads what the one before it wrote"
    );
    new.put_rule_group(&next(&group(1, "host"), "wang"))
        .expect("it leads");
}
