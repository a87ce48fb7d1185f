//! Changes by API that the records refuse, or that were made though an error was told.

use std::sync::Arc;

use marketprism_model::{
    Id, RuleGroupDeletion, RuleGroupRecord, RuleGroupVersion, RuleStore, RuleStoreError, StoreError,
};
use marketprism_rules::{RulebookError, Saved};
use marketprism_state::Database;

use super::{DISK, FILES, Running, edit, names, records};
use crate::world::minute;

/// Records whose connection is lost after each change was made, before that is told.
struct LosesAnswers(Arc<Database>);

fn lost<T>(_made: T) -> RuleStoreError {
    RuleStoreError::Store(StoreError::Database {
        operation: "write a rule group",
        reason: "the connection was lost".to_owned(),
    })
}

impl RuleStore for LosesAnswers {
    fn rule_groups(&self) -> Result<Vec<RuleGroupRecord>, StoreError> {
        self.0.rule_groups()
    }

    fn rule_group(&self, id: Id) -> Result<Option<RuleGroupRecord>, StoreError> {
        self.0.rule_group(id)
    }

    fn rule_group_history(&self, id: Id) -> Result<Vec<RuleGroupVersion>, StoreError> {
        self.0.rule_group_history(id)
    }

    fn put_rule_group(&self, group: &RuleGroupRecord) -> Result<(), RuleStoreError> {
        self.0.put_rule_group(group).map(lost).and_then(Err)
    }

    fn delete_rule_group(&self, deletion: &RuleGroupDeletion) -> Result<RuleGroupRecord, RuleStoreError> {
        self.0.delete_rule_group(deletion).map(lost).and_then(Err)
    }
}

/// What was made though its answer was lost could neither be seen nor changed until the next start.
#[tokio::test]
async fn a_change_that_was_made_though_an_error_was_told_is_shown_and_runs() {
    let records = records();
    let running = Running::over(FILES, Arc::clone(&records), Arc::new(LosesAnswers(records)));
    let is_lost = |outcome: Result<Saved, RulebookError>| {
        let error = outcome.expect_err("the answer is lost");
        assert!(
            matches!(error, RulebookError::Store(RuleStoreError::Store(_))),
            "{error}"
        );
    };
    let shown = |running: &Running| {
        let groups = running.book.groups();
        let names = groups
            .iter()
            .map(|group| format!("{} {}", group.record.name, group.record.version));
        names.collect::<Vec<_>>()
    };
    is_lost(running.create(DISK).await);
    assert_eq!(shown(&running), ["disk 1"]);
    assert_eq!(
        names(&running.handle.snapshot()),
        ["rules.yml/host:2", "api/disk:1"]
    );
    let id = running.book.groups()[0].record.id;
    is_lost(running.change(id, DISK, Some(1)).await);
    assert_eq!(shown(&running), ["disk 2"]);
    let deletion = running.book.delete(id, edit("wang")).await;
    assert!(deletion.is_err(), "{deletion:?}");
    assert!(shown(&running).is_empty());
    assert_eq!(names(&running.handle.snapshot()), ["rules.yml/host:2"]);
    running.end().await;
}

/// Another program over the same records may have changed them.
#[tokio::test]
async fn a_refusal_by_the_records_shows_what_stands_there() {
    let running = Running::start(FILES, records());
    let saved = running.create(DISK).await.expect("good").record;
    let mut newer = RuleGroupRecord::clone(&saved);
    newer.version = 2;
    running.records.put_rule_group(&newer).expect("it follows");
    let conflict = running.change(saved.id, DISK, Some(1)).await;
    let conflict = conflict.expect_err("version 2 stands");
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
    assert_eq!(running.book.groups()[0].record.version, 2);
    let changed = running.change(saved.id, DISK, Some(2)).await;
    assert_eq!(changed.expect("it was seen").record.version, 3);

    let deletion = RuleGroupDeletion {
        id: saved.id,
        expected: None,
        author: "li".to_owned(),
        at: minute(0),
        comment: String::new(),
    };
    running.records.delete_rule_group(&deletion).expect("there");
    let gone = running.book.delete(saved.id, edit("wang")).await;
    let gone = gone.expect_err("it is gone");
    assert!(
        matches!(gone, RulebookError::Store(RuleStoreError::NotFound(_))),
        "{gone}"
    );
    assert!(running.book.groups().is_empty());

    let other = RuleGroupRecord {
        id: Id::from_u128(7),
        version: 1,
        ..RuleGroupRecord::clone(&saved)
    };
    running.records.put_rule_group(&other).expect("the name is free");
    let taken = running.create(DISK).await.expect_err("the name is taken");
    assert!(
        matches!(taken, RulebookError::Store(RuleStoreError::NameTaken(_))),
        "{taken}"
    );
    assert_eq!(running.book.groups()[0].record.id, other.id);
    assert_eq!(
        names(&running.handle.snapshot()),
        ["rules.yml/host:2", "api/disk:1"]
    );
    running.end().await;
}
