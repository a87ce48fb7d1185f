//! All rules that are to run: those of files, which are read, and those made by API, which are records.
//!
//! Both kinds run in one loop and know nothing of each other: reading the files anew leaves the records alone, and a
//! change by API leaves the rules of files as they are, with their identities. A change is checked as a file would be,
//! then written, then put in force; whoever asked hears only then that it is done, and one that was written is put in
//! force though whoever asked has left.
//! Deliberately absent: who may change rules, and the audit of it; that is the server's.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use marketprism_model::{
    Chance, Clock, Id, RuleGroupDeletion, RuleGroupRecord, RuleGroupVersion, RuleStore, RuleStoreError,
    StoreError,
};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::error::RuleFileError;
use crate::evaluate::Installation;
use crate::rule::{GroupSpec, Origin};
use crate::runner::{ReplaceError, RulesHandle};
use crate::set::{GroupDefaults, RuleSet};
use crate::submission::{Submission, parse_definition};

/// All groups made by API together may have this many rules.
const API_RULES_MAX: usize = 10_000;

/// What the files hold, and how groups that say nothing else run.
#[derive(Clone, Default)]
pub struct FileRules {
    /// The groups of the files, as [`crate::load`] gave them.
    pub set: RuleSet,
    /// What a group has that names nothing else.
    pub defaults: GroupDefaults,
    /// What templates may say about us.
    pub installation: Installation,
    /// Whether rules run at all; what is made by API is kept meanwhile.
    pub is_on: bool,
}

/// A group made by API.
#[derive(Clone, Debug)]
pub struct ApiGroup {
    /// Its record.
    pub record: Arc<RuleGroupRecord>,
    /// Why it does not run, when it does not: it was written by another release.
    pub faults: Vec<RuleFileError>,
}

/// A change that is in force.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The group as it stands.
    pub record: Arc<RuleGroupRecord>,
    /// Whether the group is new.
    pub is_new: bool,
    /// What is suspicious but runs.
    pub warnings: Vec<String>,
}

/// Who changes what, as the server knows it.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// Who.
    pub author: String,
    /// The version that was seen, as the request's header names it.
    pub expected: Option<u32>,
    /// What is said of it, where the submission says nothing.
    pub comment: String,
}

/// Why a change was not made.
#[derive(Debug, Error)]
pub enum RulebookError {
    /// The rules are faulty; all faults are named.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Faulty(Vec<RuleFileError>),
    /// One rule was sent where a group is to be changed.
    #[error("send the whole group, with name and rules: a change replaces it")]
    NotAGroup,
    /// The change names no version that was seen.
    #[error(
        "name the version that you have seen, by If-Match or by version, so that nobody's change is lost"
    )]
    NoVersion,
    /// There would be too many rules.
    #[error("the groups made by API would have {count} rules, more than {limit}")]
    TooManyRules {
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The records refused.
    #[error(transparent)]
    Store(#[from] RuleStoreError),
    /// The change is written and cannot be put in force now.
    #[error("the change is written, but not in force: {0}")]
    Replace(#[from] ReplaceError),
    /// A fault of ours.
    #[error("the change was cut short by a fault in the program")]
    Panicked,
}

impl From<StoreError> for RulebookError {
    fn from(error: StoreError) -> Self {
        RulebookError::Store(error.into())
    }
}

/// All rules, and the way to change them.
pub struct Rulebook {
    store: Arc<dyn RuleStore>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    handle: OnceLock<RulesHandle>,
    files: Mutex<FileRules>,
    groups: ArcSwap<Vec<ApiGroup>>,
}

impl Rulebook {
    /// Reads the records and gives the set to begin with. Blocks.
    pub fn open(
        store: Arc<dyn RuleStore>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        files: FileRules,
    ) -> Result<(Arc<Self>, RuleSet), StoreError> {
        let records = store.rule_groups()?.into_iter().map(Arc::new).collect();
        let Merged { set, groups, .. } = merged(&files, records);
        for group in &groups {
            for fault in &group.faults {
                tracing::error!(logger = "rules", error = %fault, group = %group.record.name, "a group made by API does not run");
            }
        }
        let book = Rulebook {
            store,
            clock,
            chance,
            handle: OnceLock::new(),
            files: Mutex::new(files),
            groups: ArcSwap::from_pointee(groups),
        };
        Ok((Arc::new(book), set))
    }

    /// Takes the loop that runs the rules; until then changes are written and take force with it.
    pub fn attach(&self, handle: RulesHandle) {
        // A second loop would be a fault of the binary; the first one stays.
        let _ = self.handle.set(handle);
    }

    /// Gives the groups made by API, the oldest first.
    pub fn groups(&self) -> Arc<Vec<ApiGroup>> {
        self.groups.load_full()
    }

    /// Gives one of them.
    pub fn group(&self, id: Id) -> Option<ApiGroup> {
        let groups = self.groups.load();
        groups.iter().find(|group| group.record.id == id).cloned()
    }

    /// Gives the versions of a group, the newest first; those of a deleted one too. Blocks.
    pub fn history(&self, id: Id) -> Result<Vec<RuleGroupVersion>, StoreError> {
        self.store.rule_group_history(id)
    }

    /// Gives what a group has that names nothing else, and what templates may say about us.
    pub async fn settings(&self) -> (GroupDefaults, Installation) {
        let files = self.files.lock().await;
        (files.defaults, files.installation.clone())
    }

    /// Puts what the files hold now in the place of what they held.
    pub async fn set_files(&self, files: FileRules) -> Result<(), ReplaceError> {
        let mut stands = self.files.lock().await;
        *stands = files;
        let records = self.records();
        self.apply(&stands, records).await
    }

    /// Makes a group, or adds the rule that was sent alone to its group.
    pub async fn create(self: &Arc<Self>, sent: Submission, edit: Edit) -> Result<Saved, RulebookError> {
        let this = Arc::clone(self);
        whole(async move { this.create_now(sent, edit).await }).await
    }

    /// Changes a group: what was sent takes its place.
    pub async fn change(
        self: &Arc<Self>,
        id: Id,
        sent: Submission,
        edit: Edit,
    ) -> Result<Saved, RulebookError> {
        let this = Arc::clone(self);
        whole(async move { this.change_now(id, sent, edit).await }).await
    }

    /// Deletes a group; its alerts resolve and its series end.
    pub async fn delete(self: &Arc<Self>, id: Id, edit: Edit) -> Result<RuleGroupRecord, RulebookError> {
        let this = Arc::clone(self);
        whole(async move { this.delete_now(id, edit).await }).await
    }

    async fn create_now(&self, sent: Submission, edit: Edit) -> Result<Saved, RulebookError> {
        let files = self.files.lock().await;
        let records = self.records();
        let stands = sent
            .group_of_rule()
            .and_then(|name| records.iter().find(|record| record.name == name))
            .map(Arc::clone);
        let comment = sent.comment.clone().unwrap_or(edit.comment);
        let defaults = files.defaults;
        let definition = sent
            .judge(stands.as_deref(), &defaults)
            .map_err(RulebookError::Faulty)?;
        let now = self.clock.now();
        let base = stands.as_deref().cloned().unwrap_or_else(|| RuleGroupRecord {
            id: Id::new(now, &*self.chance),
            name: String::new(),
            version: 0,
            definition: String::new(),
            comment: String::new(),
            created_by: edit.author.clone(),
            created_at: now,
            updated_by: String::new(),
            updated_at: now,
        });
        let record = RuleGroupRecord {
            version: base.version.saturating_add(1),
            name: definition.name,
            definition: definition.json,
            comment,
            updated_by: edit.author,
            updated_at: now,
            ..base
        };
        self.save(&files, records, record, &definition.group).await
    }

    async fn change_now(&self, id: Id, sent: Submission, edit: Edit) -> Result<Saved, RulebookError> {
        let files = self.files.lock().await;
        let records = self.records();
        let Some(stands) = records.iter().find(|record| record.id == id).map(Arc::clone) else {
            return Err(RuleStoreError::NotFound(id).into());
        };
        if sent.group_of_rule().is_some() {
            return Err(RulebookError::NotAGroup);
        }
        let expected = edit.expected.or(sent.version).ok_or(RulebookError::NoVersion)?;
        if expected != stands.version {
            let found = stands.version;
            return Err(RuleStoreError::Conflict { expected, found }.into());
        }
        let comment = sent.comment.clone().unwrap_or(edit.comment);
        let definition = sent.judge(None, &files.defaults).map_err(RulebookError::Faulty)?;
        let record = RuleGroupRecord {
            version: expected.saturating_add(1),
            name: definition.name,
            definition: definition.json,
            comment,
            updated_by: edit.author,
            updated_at: self.clock.now(),
            ..RuleGroupRecord::clone(&stands)
        };
        self.save(&files, records, record, &definition.group).await
    }

    /// Writes a group and puts it in force.
    async fn save(
        &self,
        files: &FileRules,
        mut records: Vec<Arc<RuleGroupRecord>>,
        record: RuleGroupRecord,
        group: &GroupSpec,
    ) -> Result<Saved, RulebookError> {
        let others: usize = self
            .handle
            .get()
            .map(RulesHandle::snapshot)
            .iter()
            .flat_map(|snapshot| &snapshot.groups)
            .filter(|other| matches!(&other.spec.origin, Origin::Api(other) if other.id != record.id))
            .map(|other| other.spec.rules.len())
            .sum();
        let count = others + group.rules.len();
        if count > API_RULES_MAX {
            let limit = API_RULES_MAX;
            return Err(RulebookError::TooManyRules { count, limit });
        }
        let record = Arc::new(record);
        let (store, written) = (Arc::clone(&self.store), Arc::clone(&record));
        let outcome = blocking(move || store.put_rule_group(&written)).await;
        self.written(files, outcome).await?;
        let is_new = match records.iter_mut().find(|known| known.id == record.id) {
            Some(known) => {
                *known = Arc::clone(&record);
                false
            }
            None => {
                records.push(Arc::clone(&record));
                true
            }
        };
        let warnings = self.warnings(files, &record, group);
        self.apply(files, records).await?;
        Ok(Saved {
            record,
            is_new,
            warnings,
        })
    }

    async fn delete_now(&self, id: Id, edit: Edit) -> Result<RuleGroupRecord, RulebookError> {
        let files = self.files.lock().await;
        let mut records = self.records();
        let deletion = RuleGroupDeletion {
            id,
            expected: edit.expected,
            author: edit.author,
            at: self.clock.now(),
            comment: edit.comment,
        };
        let store = Arc::clone(&self.store);
        let outcome = blocking(move || store.delete_rule_group(&deletion)).await;
        let deleted = self.written(&files, outcome).await?;
        records.retain(|record| record.id != id);
        self.apply(&files, records).await?;
        Ok(deleted)
    }

    /// Gives what was written. After any refusal the records are read anew before it is told: they are not what was
    /// thought, and a connection that was lost may have been lost after the change was made.
    async fn written<T>(
        &self,
        files: &FileRules,
        outcome: Result<Result<T, RuleStoreError>, RulebookError>,
    ) -> Result<T, RulebookError> {
        let refusal = match outcome {
            Ok(Ok(written)) => return Ok(written),
            Ok(Err(refusal)) => refusal.into(),
            Err(fault) => fault,
        };
        if let Err(error) = self.read_anew(files).await {
            tracing::warn!(logger = "rules", error = %error, "the rules made by API could not be read anew");
        }
        Err(refusal)
    }

    /// Puts the records as they stand in the place of what is known of them.
    async fn read_anew(&self, files: &FileRules) -> Result<(), RulebookError> {
        let store = Arc::clone(&self.store);
        let records = blocking(move || store.rule_groups()).await??;
        let known = self.records();
        if known.iter().map(|record| &**record).eq(&records) {
            return Ok(());
        }
        let records = records.into_iter().map(Arc::new).collect();
        Ok(self.apply(files, records).await?)
    }

    fn records(&self) -> Vec<Arc<RuleGroupRecord>> {
        let groups = self.groups.load();
        groups.iter().map(|group| Arc::clone(&group.record)).collect()
    }

    /// Puts everything in force.
    async fn apply(&self, files: &FileRules, records: Vec<Arc<RuleGroupRecord>>) -> Result<(), ReplaceError> {
        let (read, installation) = (files.clone(), files.installation.clone());
        let merging = tokio::task::spawn_blocking(move || merged(&read, records));
        let merged = merging.await.map_err(|_| ReplaceError::Stopped)?;
        let Merged { set, groups, resting } = merged;
        self.groups.store(Arc::new(groups));
        match self.handle.get() {
            None => Ok(()),
            Some(handle) => match handle.replace_beside(resting, set, installation).await {
                // The rules run; what could not be written is tried again with the next tick.
                Err(ReplaceError::Lifecycle(error)) => {
                    tracing::warn!(logger = "rules", error = %error, "alerts of removed rules end with the next tick");
                    Ok(())
                }
                replaced => replaced,
            },
        }
    }

    /// Says what may surprise whoever made a group.
    fn warnings(&self, files: &FileRules, record: &RuleGroupRecord, group: &GroupSpec) -> Vec<String> {
        let mut warnings = Vec::new();
        if !files.is_on {
            warnings.push("alert_manager.enabled is false: the group is kept and does not run".to_owned());
        }
        let snapshot = self.handle.get().map(RulesHandle::snapshot);
        let running = snapshot
            .iter()
            .flat_map(|snapshot| &snapshot.groups)
            .map(|group| &group.spec);
        for other in running {
            if matches!(&other.origin, Origin::Api(other) if other.id == record.id) {
                continue;
            }
            if other.name == group.name {
                warnings.push(format!(
                    "a group of this name stands in {} too; both run, told apart by their file",
                    other.file
                ));
            }
            for rule in &group.rules {
                let is_same = |known: &&Arc<crate::Rule>| {
                    (known.alerting().is_some(), &known.name, &known.labels)
                        == (rule.alerting().is_some(), &rule.name, &rule.labels)
                };
                if other.rules.iter().any(|known| is_same(&known)) && warnings.len() < 20 {
                    warnings.push(format!(
                        "a rule {:?} with the same labels stands in {}, group {:?} too; both run",
                        rule.name, other.file, other.name
                    ));
                }
            }
        }
        warnings
    }
}

/// All rules joined.
struct Merged {
    set: RuleSet,
    groups: Vec<ApiGroup>,
    /// Records whose groups do not run although nobody deleted them.
    resting: Vec<Id>,
}

/// Joins the rules of files and those of records.
fn merged(files: &FileRules, records: Vec<Arc<RuleGroupRecord>>) -> Merged {
    let (mut specs, mut groups, mut resting) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        let faults = match parse_definition(&record.definition, &files.defaults) {
            Ok(group) => {
                specs.push(GroupSpec {
                    origin: Origin::Api(Arc::clone(&record)),
                    ..group
                });
                Vec::new()
            }
            Err(faults) => {
                resting.push(record.id);
                faults
            }
        };
        groups.push(ApiGroup { record, faults });
    }
    if !files.is_on {
        return Merged {
            set: files.set.clone(),
            resting: groups.iter().map(|group| group.record.id).collect(),
            groups,
        };
    }
    let set = files.set.with_api(specs, resting.is_empty());
    Merged { set, groups, resting }
}

/// Lets a change go to its end though whoever asked for it leaves.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, RulebookError>> + Send + 'static,
) -> Result<T, RulebookError> {
    tokio::spawn(change).await.unwrap_or(Err(RulebookError::Panicked))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RulebookError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| RulebookError::Panicked)
}
