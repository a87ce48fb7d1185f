//! The records of several replicas, with a journal for the time in which their database is away.
//!
//! Messages that are decided meanwhile are put into the journal and delivered from there, in full while the lease that was
//! last renewed has not run out by this process's own monotonic clock: until then nobody else can lead. After that another may
//! lead, with a database that only this one cannot reach: then P1 alone is told, marked as possibly doubled.
//! When the database is back, the commit that brings a message also brings what became of it, in the same transaction.
//! Invariant: a message is due from the database or from the journal, never from both.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use marketprism_model::records::NotificationFilter;
use marketprism_model::{
    Alert, AlertCommit, AlertEvent, AlertFilter, AlertSnapshot, AlertStore, Claim, Clock, DeliveryAttempt,
    Id, Incident, IncidentEvent, IncidentFilter, LeaseStore, Level, Notification, NotificationStatus, Outbox,
    Page, Replica, Silence, SilenceFilter, StoreError, Timestamp,
};
use parking_lot::Mutex;

use crate::database::{Database, OpenError};
use crate::outbox::Holding;
use crate::spool::{MESSAGES_MAX, Spool, Spooled};

/// Messages that ended last are remembered up to this number.
const ENDED_MAX: usize = 1_000;
/// What a message says first when another replica may have told it too.
const POSSIBLY_DOUBLED: &str = "[可能重复 / possibly doubled] ";

/// What is called when messages wait in the journal.
type Ring = Arc<dyn Fn() + Send + Sync>;

/// Records on a server, with a journal beside them; the ports of [`Database`].
pub struct SpooledRecords {
    database: Arc<Database>,
    clock: Arc<dyn Clock>,
    spool: Mutex<Spool>,
    standing: Mutex<Standing>,
    spooled: Mutex<Option<Ring>>,
}

/// What this process knows of itself and of the database.
#[derive(Default)]
struct Standing {
    /// Until when the lease lasts, by the monotonic clock; `None` while this replica does not lead.
    lease_until: Option<Duration>,
    /// Open messages of the database that are known, as many as a journal takes: what is younger must not overtake them.
    open: HashMap<Id, Holding>,
    /// The last messages that ended in the database: the answer to the commit that brought them may come after that.
    ended: VecDeque<Id>,
    /// Messages of the journal that the database has, but not what became of them last.
    unsettled: Vec<Id>,
}

impl Standing {
    fn note_ended(&mut self, id: Id) {
        self.open.remove(&id);
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(id);
    }

    fn note_open(&mut self, messages: &[&Notification]) {
        if self.open.len() + messages.len() <= MESSAGES_MAX {
            let open = messages.iter();
            self.open
                .extend(open.map(|message| (message.id, Holding::of(message))));
        }
    }
}

/// What older open messages hold back: ways (group, receiver, channel), and alerts on channels.
#[derive(Default)]
struct Held<'a> {
    ways: HashSet<(&'a str, &'a str, &'a str)>,
    alerts: HashSet<(&'a str, Id)>,
}

impl<'a> Held<'a> {
    fn by<'b: 'a>(open: impl Iterator<Item = &'b Holding>) -> Self {
        let mut held = Held::default();
        for holding in open {
            let channel = holding.channel.as_str();
            held.ways.insert((&holding.group_key, &holding.receiver, channel));
            held.alerts.extend(holding.alerts.iter().map(|id| (channel, *id)));
        }
        held
    }

    /// Says whether nothing older holds the message back; from now on it holds back what is younger.
    fn is_first(&mut self, message: &'a Notification) -> bool {
        let channel = message.channel.as_str();
        let mut is_first = self.ways.insert((&message.group_key, &message.receiver, channel));
        for told in &message.content.alerts {
            is_first &= self.alerts.insert((channel, told.id));
        }
        is_first
    }
}

/// What may be told without the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum May {
    TellAll,
    TellP1,
    TellNothing,
}

impl SpooledRecords {
    /// Opens the journal, makes it when it is absent. The folder must be this process's own.
    pub fn open(database: Arc<Database>, path: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let spool = Spool::open(path).map_err(|error| OpenError::Database {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(SpooledRecords {
            database,
            clock,
            spool: Mutex::new(spool),
            standing: Mutex::default(),
            spooled: Mutex::new(None),
        })
    }

    /// Calls `ring` after messages were put into the journal. It must not wait.
    pub fn when_spooled(&self, ring: impl Fn() + Send + Sync + 'static) {
        *self.spooled.lock() = Some(Arc::new(ring));
    }

    fn may(&self) -> May {
        match self.standing.lock().lease_until {
            None => May::TellNothing,
            Some(until) if self.clock.monotonic() < until => May::TellAll,
            Some(_) => May::TellP1,
        }
    }

    /// Keeps the messages of a commit that the database did not take.
    fn keep(&self, commit: &AlertCommit) {
        if commit.outbox.is_empty() || self.may() == May::TellNothing {
            return;
        }
        match self.spool.lock().put(&commit.outbox) {
            Ok(0) => return,
            Ok(count) => {
                tracing::warn!(
                    count,
                    "the database is away; messages wait in the spool and are told from there"
                );
            }
            Err(error) => {
                tracing::error!(error = %error, "messages do not fit into the spool and wait for the database");
                return;
            }
        }
        let ring = self.spooled.lock().clone();
        ring.iter().for_each(|ring| ring());
    }

    /// Gives the messages of a commit that the journal holds, as they stand.
    fn kept_of(&self, commit: &AlertCommit) -> Vec<Spooled> {
        let spool = self.spool.lock();
        let kept = |message: &Notification| spool.get(message.id).cloned();
        commit.outbox.iter().filter_map(kept).collect()
    }

    /// Notes what a commit left open in the database, so that nothing of the journal overtakes it.
    fn note_written(&self, commit: &AlertCommit, brought: &[Spooled]) {
        if commit.outbox.is_empty() {
            return;
        }
        let over = brought.iter().filter(|spooled| !spooled.is_open());
        let mut over: HashSet<Id> = over.map(|spooled| spooled.message.id).collect();
        let mut standing = self.standing.lock();
        over.extend(&standing.ended);
        let open = commit.outbox.iter().filter(|message| !over.contains(&message.id));
        standing.note_open(&open.collect::<Vec<_>>());
    }

    /// Gives messages of the journal as if nothing had become of them, so that they are settled before they are forgotten.
    fn standing_as(&self, ids: &[Id]) -> Vec<Spooled> {
        let spool = self.spool.lock();
        let found = ids.iter().filter_map(|id| spool.get(*id).cloned());
        let untold = |spooled: Spooled| Spooled {
            attempts: Vec::new(),
            ..spooled
        };
        found.map(untold).collect()
    }

    /// Forgets messages that the database has. What an attempt changed meanwhile is written there first; until then the
    /// message is not due from there. When that fails, the next look tries again.
    fn hand_over(&self, mut brought: Vec<Spooled>) {
        while !brought.is_empty() {
            let mut spool = self.spool.lock();
            let (same, changed): (Vec<_>, Vec<_>) = brought
                .into_iter()
                .partition(|known| spool.get(known.message.id) == Some(known));
            let gone: Vec<Id> = same.iter().map(|spooled| spooled.message.id).collect();
            forget(&mut spool, &gone);
            brought = changed
                .iter()
                .filter_map(|old| spool.get(old.message.id).cloned())
                .collect();
            drop(spool);
            if let Err(error) = self.database.settle_all(&brought) {
                tracing::warn!(error = %error, "what was told from the spool is not recorded yet");
                let ids = brought.iter().map(|spooled| spooled.message.id);
                self.standing.lock().unsettled.extend(ids);
                return;
            }
        }
    }

    /// Gives the messages of the journal that may be told now: the oldest of each way, and of each alert on a channel.
    fn due_from_spool(&self, now: Timestamp, limit: usize) -> Vec<Notification> {
        let may = self.may();
        let spool = self.spool.lock();
        let standing = self.standing.lock();
        let mut held = Held::by(standing.open.values());
        let mut due = Vec::new();
        for spooled in spool.messages().iter().filter(|spooled| spooled.is_open()) {
            let message = &spooled.message;
            let is_told = match may {
                May::TellAll => true,
                May::TellP1 => is_p1(message),
                May::TellNothing => false,
            };
            let is_first = held.is_first(message);
            let is_due = message.status == NotificationStatus::Waiting && message.due_at <= now;
            if is_first && is_due && is_told && due.len() < limit {
                due.push(match may {
                    May::TellP1 => marked(message.clone()),
                    _ => message.clone(),
                });
            }
        }
        due
    }

    /// Notes in the journal, if the message is in it.
    fn noted<T>(
        &self,
        id: Id,
        operation: &'static str,
        note: impl FnOnce(&mut Spool) -> std::io::Result<T>,
    ) -> Option<Result<T, StoreError>> {
        let mut spool = self.spool.lock();
        spool.get(id)?;
        Some(note(&mut spool).map_err(|error| StoreError::Database {
            operation,
            reason: format!("spool: {error}"),
        }))
    }
}

/// Says whether a message is about an alert that wakes people.
fn is_p1(message: &Notification) -> bool {
    message
        .content
        .alerts
        .iter()
        .any(|alert| alert.level == Level::Critical)
}

/// Says in whatever people read first that another replica may have told it too.
fn marked(mut message: Notification) -> Notification {
    let mark = |labels: &mut marketprism_model::Labels, always: bool| {
        for name in ["summary", "summary_en"] {
            if let Some(text) = labels.get(name) {
                *labels = labels.with(name, &format!("{POSSIBLY_DOUBLED}{text}"));
            }
        }
        if always && labels.get("summary").is_none() {
            *labels = labels.with("summary", POSSIBLY_DOUBLED.trim_end());
        }
    };
    for alert in &mut message.content.alerts {
        mark(&mut alert.annotations, true);
    }
    mark(&mut message.content.common_annotations, false);
    message
}

impl LeaseStore for SpooledRecords {
    fn claim(&self, replica: &Replica, lasting: Duration) -> Result<Claim, StoreError> {
        // Counted from before the question, so that it ends here before it ends there.
        let asked_at = self.clock.monotonic();
        let claim = self.database.claim(replica, lasting)?;
        self.standing.lock().lease_until = match &claim {
            Claim::Ours { .. } => Some(asked_at + lasting),
            Claim::Theirs { .. } => None,
        };
        Ok(claim)
    }

    fn release(&self, replica: &Replica) -> Result<(), StoreError> {
        self.standing.lock().lease_until = None;
        self.database.release(replica)
    }
}

impl Outbox for SpooledRecords {
    fn recover(&self, now: Timestamp) -> Result<u64, StoreError> {
        let count = self.database.recover(now)?;
        let mut spool = self.spool.lock();
        let left = spool.messages().to_vec();
        let mut uncertain = 0;
        if !left.is_empty() {
            uncertain = self.database.adopt(&left, now)?;
            let gone: Vec<Id> = left.iter().map(|spooled| spooled.message.id).collect();
            forget(&mut spool, &gone);
        }
        let open = self.database.held_back(MESSAGES_MAX)?;
        // What was written meanwhile is there too; what ended meanwhile cannot be, for nothing was due yet.
        self.standing.lock().open.extend(open);
        Ok(count + uncertain)
    }

    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Notification>, StoreError> {
        match self.database.due(now, limit) {
            Ok(mut due) => {
                let unsettled = std::mem::take(&mut self.standing.lock().unsettled);
                self.hand_over(self.standing_as(&unsettled));
                // What the journal still holds is settled by the commit that brings it.
                let spool = self.spool.lock();
                due.retain(|message| spool.get(message.id).is_none());
                self.standing.lock().note_open(&due.iter().collect::<Vec<_>>());
                Ok(due)
            }
            Err(error @ StoreError::Database { .. }) if self.may() == May::TellNothing => Err(error),
            Err(StoreError::Database { .. }) => Ok(self.due_from_spool(now, limit)),
            Err(error) => Err(error),
        }
    }

    fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        match self.database.next_due() {
            Err(error @ StoreError::Database { .. }) if self.may() == May::TellNothing => Err(error),
            // The database may be back at any moment, so that looking again soon is never wrong.
            Err(StoreError::Database { .. }) => Ok(Some(self.clock.now() + Duration::from_secs(1))),
            answer => answer,
        }
    }

    fn bring_forward(&self, latest: Timestamp) -> Result<u64, StoreError> {
        self.database.bring_forward(latest)
    }

    fn begin(&self, attempt: &DeliveryAttempt) -> Result<(), StoreError> {
        let noted = self.noted(attempt.notification, "begin an attempt", |spool| {
            spool.begin(attempt)
        });
        noted.unwrap_or_else(|| self.database.begin(attempt))
    }

    fn finish(
        &self,
        attempt: &DeliveryAttempt,
        status: NotificationStatus,
        retry_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let noted = self.noted(attempt.notification, "finish an attempt", |spool| {
            spool.finish(attempt, status, retry_at)
        });
        noted.unwrap_or_else(|| {
            self.database.finish(attempt, status, retry_at)?;
            if matches!(status, NotificationStatus::Delivered | NotificationStatus::Failed) {
                self.standing.lock().note_ended(attempt.notification);
            }
            Ok(())
        })
    }

    fn given_up_unheard(&self, limit: usize) -> Result<Vec<Notification>, StoreError> {
        self.database.given_up_unheard(limit)
    }

    fn open_count(&self) -> Result<u64, StoreError> {
        self.database.open_count()
    }

    fn notifications(&self, filter: &NotificationFilter) -> Result<Page<Notification>, StoreError> {
        self.database.notifications(filter)
    }

    fn attempts(&self, notification: Id) -> Result<Vec<DeliveryAttempt>, StoreError> {
        self.database.attempts(notification)
    }
}

/// Forgets what the database has. When that cannot be noted, it is settled once more after the next start, which
/// changes nothing.
fn forget(spool: &mut Spool, gone: &[Id]) {
    if let Err(error) = spool.remove(gone) {
        tracing::error!(error = %error, "the spool cannot be shortened");
    }
}

impl AlertStore for SpooledRecords {
    fn load(&self) -> Result<AlertSnapshot, StoreError> {
        self.database.load()
    }

    fn commit(&self, commit: &AlertCommit) -> Result<(), StoreError> {
        let brought = self.kept_of(commit);
        match self.database.commit_and_settle(commit, &brought) {
            Ok(()) => {
                self.note_written(commit, &brought);
                self.hand_over(brought);
                Ok(())
            }
            Err(error) => {
                if matches!(error, StoreError::Database { .. }) {
                    self.keep(commit);
                }
                Err(error)
            }
        }
    }

    fn tells_while_away(&self) -> bool {
        self.may() != May::TellNothing
    }

    fn heartbeat(&self, at: Timestamp) -> Result<(), StoreError> {
        self.database.heartbeat(at)
    }

    fn alerts(&self, filter: &AlertFilter) -> Result<Page<Alert>, StoreError> {
        self.database.alerts(filter)
    }

    fn alert(&self, id: Id) -> Result<Option<Alert>, StoreError> {
        self.database.alert(id)
    }

    fn events(&self, alert: Id) -> Result<Vec<AlertEvent>, StoreError> {
        self.database.events(alert)
    }

    fn silences(&self, filter: &SilenceFilter) -> Result<Page<Silence>, StoreError> {
        self.database.silences(filter)
    }

    fn silence(&self, id: Id) -> Result<Option<Silence>, StoreError> {
        self.database.silence(id)
    }

    fn incidents(&self, filter: &IncidentFilter) -> Result<Page<Incident>, StoreError> {
        self.database.incidents(filter)
    }

    fn incident(&self, id: Id) -> Result<Option<Incident>, StoreError> {
        self.database.incident(id)
    }

    fn incident_events(&self, incident: Id) -> Result<Vec<IncidentEvent>, StoreError> {
        self.database.incident_events(incident)
    }

    fn clean(&self, now: Timestamp, keep: Duration) -> Result<u64, StoreError> {
        self.database.clean(now, keep)
    }
}
