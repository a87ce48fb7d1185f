//! The port of the outbox: messages wait here until they are delivered or given up.
//!
//! The order of a way (one group, one receiver, one channel) is kept: only its oldest open message is ever
//! due, so nobody hears "resolved" before "firing". An alert may change its group, by other routes or labels; so a message
//! also waits for every older open one to the same channel that speaks of one of its alerts. The end of a message and the
//! line in each alert's story are written together.

use std::collections::HashMap;
use std::hash::Hasher;

use marketprism_model::kill_point::kill_point;
use marketprism_model::records::NotificationFilter;
use marketprism_model::rule::Fnv1a;
use marketprism_model::{
    AlertEvent, AlertEventKind, AttemptOutcome, Chance, DeliveryAttempt, Id, Notification,
    NotificationStatus, NotifiedAlert, Outbox, Page, StoreError, Timestamp,
};

use crate::alert_rows::write_event;
use crate::alert_search::merged;
use crate::database::{Database, StepError};
use crate::row::{Columns, count, id_bytes, json, millis, parse_cursor};
use crate::session::{Bind, Row, Session, binds};
use crate::spool::Spooled;

/// Pages are at most this long.
const LIMIT_MAX: usize = 1000;

/// The columns of a notification, in the order that [`read_notification`] expects; `n` is the table.
const COLUMNS: &str = "n.id, n.seq, n.group_key, n.receiver, n.channel, n.created_at, n.due_at, \
     n.deadline_at, n.attempts, n.status, n.content";

/// No older open message goes the same way, nor speaks of one of the same alerts to the same channel. The second is asked
/// alert by alert, each by one look into an index: PostgreSQL does not turn a question with an offset into a join, which
/// it would begin at the wrong end (6 s instead of 0.1 s for 10,000 messages).
const IS_FIRST: &str = "NOT EXISTS (SELECT 1 FROM notifications e WHERE e.settled_at IS NULL \
     AND e.group_key = n.group_key AND e.receiver = n.receiver AND e.channel = n.channel AND e.seq < n.seq) \
     AND NOT EXISTS (SELECT 1 FROM open_alerts m WHERE m.notification = n.seq \
     AND EXISTS (SELECT 1 FROM open_alerts o WHERE o.alert = m.alert AND o.notification < n.seq \
     AND o.channel = n.channel LIMIT 1 OFFSET 0) LIMIT 1 OFFSET 0)";
/// Waiting, in words that no index of states serves: SQLite would take that index, read every waiting message whole and
/// sort them all, where the index of due times gives the first ones.
const IS_WAITING: &str = "COALESCE(n.status, '') = 'waiting'";

impl Outbox for Database {
    fn recover(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write_as_leader("recover the outbox", |db| {
            let cut = rows_of(
                db,
                &format!("SELECT {COLUMNS} FROM notifications n WHERE n.status = 'sending' ORDER BY n.seq"),
                &[],
            )?;
            for (_, notification) in &cut {
                db.execute(
                    "UPDATE delivery_attempts SET outcome = 'uncertain', finished_at = ?2
                     WHERE notification = ?1 AND outcome = 'started'",
                    &binds![id_bytes(notification.id), now.millis()],
                )?;
                db.execute(
                    "UPDATE notifications SET status = 'waiting', due_at = ?2 WHERE id = ?1",
                    &binds![id_bytes(notification.id), now.millis()],
                )?;
                write_notified(db, notification, notification.attempts, now, "uncertain")?;
            }
            Ok(cut.len() as u64)
        })
    }

    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Notification>, StoreError> {
        self.read("read due notifications", |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM notifications n WHERE n.settled_at IS NULL AND {IS_WAITING}
                 AND n.due_at <= ?1 AND {IS_FIRST} ORDER BY n.due_at, n.seq LIMIT ?2"
            );
            let due = rows_of(db, &sql, &binds![now.millis(), limit])?;
            Ok(due.into_iter().map(|(_, notification)| notification).collect())
        })
    }

    fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read("read the next due time", |db| {
            let sql = format!(
                "SELECT n.due_at FROM notifications n WHERE n.settled_at IS NULL AND {IS_WAITING}
                 AND {IS_FIRST} ORDER BY n.due_at LIMIT 1"
            );
            let next = db.query_one(&sql, &[])?;
            next.map(|row| Columns::named(&row, "notifications", String::new()).time(0))
                .transpose()
        })
    }

    fn bring_forward(&self, latest: Timestamp) -> Result<u64, StoreError> {
        self.write_as_leader("bring notifications forward", |db| {
            let changed = db.execute(
                "UPDATE notifications SET due_at = ?1
                     WHERE settled_at IS NULL AND status = 'waiting' AND due_at > ?1",
                &binds![latest.millis()],
            )?;
            Ok(changed)
        })
    }

    fn begin(&self, attempt: &DeliveryAttempt) -> Result<(), StoreError> {
        self.write_as_leader("begin an attempt", |db| {
            let changed = db.execute(
                "UPDATE notifications SET status = 'sending', attempts = ?2
                     WHERE id = ?1 AND status = 'waiting'",
                &binds![id_bytes(attempt.notification), attempt.number],
            )?;
            if changed == 0 {
                return Err(StepError::Database(format!(
                    "notification {} does not wait",
                    attempt.notification
                )));
            }
            write_attempt(db, attempt)?;
            kill_point("outbox.begin.before");
            Ok(())
        })?;
        kill_point("outbox.begin.after");
        Ok(())
    }

    fn finish(
        &self,
        attempt: &DeliveryAttempt,
        status: NotificationStatus,
        retry_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.write_as_leader("finish an attempt", |db| {
            let sql =
                format!("SELECT {COLUMNS} FROM notifications n WHERE n.id = ?1 AND n.settled_at IS NULL");
            let open = rows_of(db, &sql, &binds![id_bytes(attempt.notification)])?;
            let Some((seq, notification)) = open.first() else {
                return Err(StepError::Database(format!(
                    "notification {} is not open",
                    attempt.notification
                )));
            };
            write_attempt(db, attempt)?;
            let at = attempt.finished_at.unwrap_or(attempt.started_at);
            let is_settled = matches!(status, NotificationStatus::Delivered | NotificationStatus::Failed);
            db.execute(
                "UPDATE notifications SET status = ?2, settled_at = ?3, due_at = coalesce(?4, due_at)
                 WHERE id = ?1",
                &binds![
                    id_bytes(attempt.notification),
                    status.as_str(),
                    is_settled.then_some(at.millis()),
                    millis(retry_at),
                ],
            )?;
            if is_settled {
                close(db, *seq)?;
            }
            let outcomes = [
                (attempt.outcome == AttemptOutcome::Uncertain).then_some("uncertain"),
                (status == NotificationStatus::Delivered).then_some("delivered"),
                (status == NotificationStatus::Failed).then_some("failed"),
            ];
            for outcome in outcomes.into_iter().flatten() {
                write_notified(db, notification, attempt.number, at, outcome)?;
            }
            kill_point("outbox.finish.before");
            Ok(())
        })?;
        kill_point("outbox.finish.after");
        Ok(())
    }

    fn given_up_unheard(&self, limit: usize) -> Result<Vec<Notification>, StoreError> {
        self.read("read messages given up", |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM notifications n WHERE n.settled_at IS NOT NULL
                 AND n.settled_at >= (SELECT max(heartbeat_at) FROM lifecycle)
                 AND COALESCE(n.status, '') = 'failed' ORDER BY n.settled_at DESC, n.seq DESC LIMIT ?1"
            );
            let mut found = rows_of(db, &sql, &binds![limit.min(LIMIT_MAX)])?;
            found.reverse();
            Ok(found.into_iter().map(|(_, notification)| notification).collect())
        })
    }

    fn open_count(&self) -> Result<u64, StoreError> {
        self.read("count open notifications", |db| {
            count(
                db,
                "SELECT count(*) FROM notifications WHERE settled_at IS NULL",
                &[],
            )
        })
    }

    fn notifications(&self, filter: &NotificationFilter) -> Result<Page<Notification>, StoreError> {
        self.read("list notifications", |db| search(db, filter))
    }

    fn attempts(&self, notification: Id) -> Result<Vec<DeliveryAttempt>, StoreError> {
        self.read("read attempts", |db| {
            let rows = db.query(
                "SELECT notification, number, started_at, finished_at, outcome, provider_code, detail
                 FROM delivery_attempts WHERE notification = ?1 ORDER BY number",
                &binds![id_bytes(notification)],
            )?;
            let mut attempts = Vec::with_capacity(rows.len());
            for row in &rows {
                let (columns, notification) = Columns::with_id(row, "attempt at notification")?;
                attempts.push(DeliveryAttempt {
                    notification,
                    number: columns.count(1)?,
                    started_at: columns.time(2)?,
                    finished_at: columns.optional_time(3)?,
                    outcome: columns.serde_word(4)?,
                    provider_code: columns.code(5)?,
                    detail: columns.text(6)?,
                });
            }
            Ok(attempts)
        })
    }
}

/// Puts a message into the outbox once, however often it is given.
pub(crate) fn write_notification(db: &dyn Session, notification: &Notification) -> Result<(), StepError> {
    let is_settled = matches!(
        notification.status,
        NotificationStatus::Delivered | NotificationStatus::Failed
    );
    let inserted = db.query_one(
        "INSERT INTO notifications (id, group_key, receiver, channel, created_at, due_at, deadline_at,
                 attempts, status, settled_at, content)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO NOTHING
             RETURNING seq",
        &binds![
            id_bytes(notification.id),
            &notification.group_key,
            &notification.receiver,
            &notification.channel,
            notification.created_at.millis(),
            notification.due_at.millis(),
            notification.deadline_at.millis(),
            notification.attempts,
            notification.status.as_str(),
            is_settled.then_some(notification.created_at.millis()),
            json(&notification.content)?,
        ],
    )?;
    let Some(row) = inserted else { return Ok(()) };
    let seq = Columns::named(&row, "notification", notification.id.to_string()).integer(0)?;
    let about = |alert: &NotifiedAlert| binds![id_bytes(alert.id), seq].to_vec();
    let sets: Vec<_> = notification.content.alerts.iter().map(about).collect();
    db.execute_many(
        "INSERT INTO notification_alerts (alert, notification) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        &sets,
    )?;
    if !is_settled {
        db.execute(
            "INSERT INTO open_alerts (alert, notification, channel)
             SELECT t.alert, t.notification, ?2 FROM notification_alerts t WHERE t.notification = ?1",
            &binds![seq, &notification.channel],
        )?;
    }
    Ok(())
}

/// Lets younger messages about the same alerts go; in the transaction that settles the message.
fn close(db: &dyn Session, seq: i64) -> Result<(), StepError> {
    db.execute("DELETE FROM open_alerts WHERE notification = ?1", &binds![seq])?;
    Ok(())
}

/// What an open message holds back: its way, and its alerts on its channel.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Holding {
    pub(crate) group_key: String,
    pub(crate) receiver: String,
    pub(crate) channel: String,
    pub(crate) alerts: Vec<Id>,
}

impl Holding {
    pub(crate) fn of(message: &Notification) -> Self {
        Holding {
            group_key: message.group_key.clone(),
            receiver: message.receiver.clone(),
            channel: message.channel.clone(),
            alerts: message.content.alerts.iter().map(|told| told.id).collect(),
        }
    }
}

impl Database {
    /// Gives what open messages hold back, of the `limit` oldest.
    pub(crate) fn held_back(&self, limit: usize) -> Result<HashMap<Id, Holding>, StoreError> {
        self.read("read open notifications", |db| {
            let rows = db.query(
                "SELECT n.id, n.seq, n.group_key, n.receiver, n.channel FROM notifications n
                 WHERE n.settled_at IS NULL ORDER BY n.seq LIMIT ?1",
                &binds![limit],
            )?;
            let mut held = HashMap::with_capacity(rows.len());
            for row in &rows {
                let (columns, id) = Columns::with_id(row, "notification")?;
                let about = db.query(
                    "SELECT alert FROM open_alerts WHERE notification = ?1",
                    &binds![columns.integer(1)?],
                )?;
                let about = about.iter().map(|row| Ok(Columns::with_id(row, "alert")?.1));
                let holding = Holding {
                    group_key: columns.text(2)?,
                    receiver: columns.text(3)?,
                    channel: columns.text(4)?,
                    alerts: about.collect::<Result<_, StepError>>()?,
                };
                held.insert(id, holding);
            }
            Ok(held)
        })
    }

    /// Writes what became of messages that were told from a journal.
    pub(crate) fn settle_all(&self, told: &[Spooled]) -> Result<(), StoreError> {
        if told.is_empty() {
            return Ok(());
        }
        self.write_as_leader("settle the spool", |db| {
            told.iter().try_for_each(|spooled| settle(db, spooled))
        })
    }

    /// Takes over what a journal holds that an earlier process left; gives the number of uncertain attempts.
    ///
    /// A message whose commit never came was decided by a memory that is gone, and is decided anew from the records: one
    /// that was not tried is left out, one that was is kept as history.
    pub(crate) fn adopt(&self, left: &[Spooled], now: Timestamp) -> Result<u64, StoreError> {
        self.write_as_leader("take over the spool", |db| {
            let mut uncertain = 0;
            for spooled in left {
                let mut spooled = spooled.clone();
                let id = id_bytes(spooled.message.id);
                let is_known = db.query_one("SELECT 1 FROM notifications WHERE id = ?1", &binds![id])?;
                for attempt in &mut spooled.attempts {
                    if attempt.outcome == AttemptOutcome::Started {
                        (attempt.outcome, attempt.finished_at) = (AttemptOutcome::Uncertain, Some(now));
                        uncertain += 1;
                    }
                }
                if is_known.is_none() {
                    if spooled.attempts.is_empty() {
                        continue;
                    }
                    if spooled.is_open() {
                        spooled.message.status = NotificationStatus::Failed;
                    }
                } else if spooled.is_open() {
                    spooled.message.status = NotificationStatus::Waiting;
                }
                settle(db, &spooled)?;
            }
            Ok(uncertain)
        })
    }
}

/// Writes a message that was told from the journal, with what became of it; one that is settled already stays so.
pub(crate) fn settle(db: &dyn Session, spooled: &Spooled) -> Result<(), StepError> {
    let message = &spooled.message;
    let id = id_bytes(message.id);
    let waiting = Notification {
        status: NotificationStatus::Waiting,
        ..message.clone()
    };
    write_notification(db, &waiting)?;
    let open = "SELECT seq FROM notifications WHERE id = ?1 AND settled_at IS NULL";
    let Some(row) = db.query_one(open, &binds![id])? else {
        return Ok(());
    };
    let seq = Columns::named(&row, "notification", message.id.to_string()).integer(0)?;
    for attempt in &spooled.attempts {
        write_attempt(db, attempt)?;
        if attempt.outcome == AttemptOutcome::Uncertain {
            let at = attempt.finished_at.unwrap_or(attempt.started_at);
            write_notified(db, message, attempt.number, at, "uncertain")?;
        }
    }
    let last = spooled.attempts.last();
    let ended_at = last.map_or(message.created_at, |last| {
        last.finished_at.unwrap_or(last.started_at)
    });
    let outcome = match message.status {
        NotificationStatus::Delivered => Some("delivered"),
        NotificationStatus::Failed => Some("failed"),
        NotificationStatus::Waiting | NotificationStatus::Sending => None,
    };
    db.execute(
        "UPDATE notifications SET status = ?2, attempts = ?3, due_at = ?4, settled_at = ?5 WHERE id = ?1",
        &binds![
            id,
            message.status.as_str(),
            message.attempts,
            message.due_at.millis(),
            outcome.map(|_| ended_at.millis()),
        ],
    )?;
    if let Some(outcome) = outcome {
        close(db, seq)?;
        write_notified(db, message, message.attempts, ended_at, outcome)?;
    }
    Ok(())
}

fn write_attempt(db: &dyn Session, attempt: &DeliveryAttempt) -> Result<(), StepError> {
    db.execute(
        "INSERT INTO delivery_attempts (notification, number, started_at, finished_at, outcome,
             provider_code, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (notification, number) DO UPDATE SET finished_at = excluded.finished_at,
             outcome = excluded.outcome, provider_code = excluded.provider_code, detail = excluded.detail",
        &binds![
            id_bytes(attempt.notification),
            attempt.number,
            attempt.started_at.millis(),
            millis(attempt.finished_at),
            attempt.outcome.as_str(),
            attempt.provider_code,
            &attempt.detail,
        ],
    )?;
    Ok(())
}

/// Writes into the story of every alert in the message what became of it.
fn write_notified(
    db: &dyn Session,
    notification: &Notification,
    attempt: u32,
    at: Timestamp,
    outcome: &str,
) -> Result<(), StepError> {
    for alert in &notification.content.alerts {
        let event = AlertEvent {
            id: Id::new(at, &EventBits::of(notification.id, attempt, alert.id, outcome)),
            alert: alert.id,
            at,
            actor: None,
            kind: AlertEventKind::Notified {
                channel: notification.channel.clone(),
                outcome: outcome.to_owned(),
            },
        };
        write_event(db, &event)?;
    }
    Ok(())
}

/// The bits of an event's identifier, made from what it tells of: the same event has the same identifier,
/// so it cannot be written twice.
struct EventBits(parking_lot::Mutex<Fnv1a>);

impl EventBits {
    fn of(notification: Id, attempt: u32, alert: Id, outcome: &str) -> Self {
        let mut hash = Fnv1a::default();
        hash.write(&id_bytes(notification));
        hash.write(&attempt.to_be_bytes());
        hash.write(&id_bytes(alert));
        hash.write(outcome.as_bytes());
        EventBits(parking_lot::Mutex::new(hash))
    }
}

impl Chance for EventBits {
    fn next_u64(&self) -> u64 {
        let mut hash = self.0.lock();
        hash.write(&[0xff]);
        hash.finish()
    }
}

/// Gives one page. Each wanted status is a walk of its own along its index, and they are merged.
fn search(db: &dyn Session, filter: &NotificationFilter) -> Result<Page<Notification>, StepError> {
    let limit = filter.limit.clamp(1, LIMIT_MAX);
    let mut condition = String::new();
    let mut values: Vec<Bind<'_>> = Vec::new();
    if let Some(alert) = filter.alert.map(id_bytes) {
        values.push(alert.into());
        let mark = values.len();
        condition.push_str(&format!(
            " AND n.seq IN (SELECT t.notification FROM notification_alerts t WHERE t.alert = ?{mark})"
        ));
    }
    if let Some(before) = filter.cursor.as_deref().map(parse_cursor::<i64>).transpose()? {
        values.push(before.into());
        condition.push_str(&format!(" AND n.seq < ?{}", values.len()));
    }
    let mut statuses: Vec<&str> = filter.statuses.iter().map(|status| status.as_str()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    let arm = |status: String| {
        format!(
            "SELECT {COLUMNS} FROM notifications n WHERE 1 = 1{status}{condition}
             ORDER BY n.seq DESC LIMIT {}",
            limit + 1
        )
    };
    let arms: Vec<String> = if statuses.is_empty() {
        vec![arm(String::new())]
    } else {
        let one = |status: &&str| arm(format!(" AND n.status = '{status}'"));
        statuses.iter().map(one).collect()
    };
    let mut found = rows_of(db, &merged(&arms, 2, limit + 1), &values)?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| has_more).map(|(seq, _)| seq.to_string());
    Ok(Page {
        items: found.into_iter().map(|(_, notification)| notification).collect(),
        next_cursor,
    })
}

/// Reads notifications with their sequence numbers.
fn rows_of(db: &dyn Session, sql: &str, values: &[Bind<'_>]) -> Result<Vec<(i64, Notification)>, StepError> {
    db.query(sql, values)?.iter().map(read_notification).collect()
}

fn read_notification(row: &Row) -> Result<(i64, Notification), StepError> {
    let (columns, id) = Columns::with_id(row, "notification")?;
    let notification = Notification {
        id,
        group_key: columns.text(2)?,
        receiver: columns.text(3)?,
        channel: columns.text(4)?,
        created_at: columns.time(5)?,
        due_at: columns.time(6)?,
        deadline_at: columns.time(7)?,
        attempts: columns.count(8)?,
        status: columns.serde_word(9)?,
        content: columns.json(10)?,
    };
    Ok((columns.integer(1)?, notification))
}
