//! The life of a message: due, sent, retried, delivered, cut by a crash.

use std::collections::{BTreeSet, HashMap};

use marketprism_model::records::NotificationFilter;
use marketprism_model::{
    Alert, AlertCommit, AlertEventKind, AlertStore, AttemptOutcome, DeliveryAttempt, Id, Notification,
    NotificationStatus, Outbox, Timestamp,
};
use marketprism_state::Database;
use marketprism_testkit::MemoryOutbox;

use crate::support::*;

fn started(message: &Notification, number: u32, when: Timestamp) -> DeliveryAttempt {
    DeliveryAttempt {
        notification: message.id,
        number,
        started_at: when,
        finished_at: None,
        outcome: AttemptOutcome::Started,
        provider_code: 0,
        detail: String::new(),
    }
}

fn ended(mut attempt: DeliveryAttempt, outcome: AttemptOutcome, when: Timestamp) -> DeliveryAttempt {
    (attempt.outcome, attempt.finished_at, attempt.provider_code) = (outcome, Some(when), 250);
    attempt
}

fn due(db: &Database, now: Timestamp) -> Vec<Id> {
    db.due(now, 100)
        .expect("due")
        .iter()
        .map(|message| message.id)
        .collect()
}

#[test]
fn a_message_is_due_from_its_time_on_the_oldest_first() {
    on_each_engine(|db| {
        db.commit(&messages(vec![
            message(5, "a", "mail", &[]),
            message(2, "b", "mail", &[]),
        ]))
        .expect("commit");
        assert_eq!(db.next_due().expect("next"), Some(at(2)));
        assert_eq!(due(&db, at(1)), []);
        assert_eq!(due(&db, at(2)), [id(2)]);
        assert_eq!(due(&db, at(9)), [id(2), id(5)]);
        assert_eq!(db.due(at(9), 1).expect("due").len(), 1);
    });
}

#[test]
fn what_waits_for_a_time_that_a_clock_set_back_made_far_is_brought_forward() {
    on_each_engine(|db| {
        let (first, second) = (message(5, "a", "mail", &[]), message(900, "b", "mail", &[]));
        db.commit(&messages(vec![first.clone(), second.clone()]))
            .expect("commit");
        assert_eq!(db.bring_forward(at(10)).expect("bring forward"), 1);
        assert_eq!(
            db.next_due().expect("next"),
            Some(at(5)),
            "what is due earlier stays"
        );
        assert_eq!(due(&db, at(10)), [first.id, second.id]);
        // What is under way or over keeps its moment.
        db.begin(&started(&first, 1, at(10))).expect("begin");
        assert_eq!(db.bring_forward(at(1)).expect("bring forward"), 1);
        assert_eq!(due(&db, at(1)), [second.id]);
    });
}

#[test]
fn nobody_hears_the_end_before_the_beginning() {
    on_each_engine(|db| {
        let (first, second) = (message(1, "g", "mail", &[]), message(2, "g", "mail", &[]));
        let other = message(3, "g", "slack", &[]);
        db.commit(&messages(vec![first.clone(), second.clone(), other.clone()]))
            .expect("commit");
        assert_eq!(due(&db, at(9)), [first.id, other.id]);

        db.begin(&started(&first, 1, at(10))).expect("begin");
        assert_eq!(
            due(&db, at(11)),
            [other.id],
            "the second went while the first was under way"
        );
        let attempt = ended(started(&first, 1, at(10)), AttemptOutcome::Retry, at(12));
        db.finish(&attempt, NotificationStatus::Waiting, Some(at(500)))
            .expect("finish");
        assert_eq!(due(&db, at(13)), [other.id], "the second overtook a retry");
        assert_eq!(due(&db, at(500)), [other.id, first.id]);

        db.begin(&started(&first, 2, at(500))).expect("begin again");
        let attempt = ended(started(&first, 2, at(500)), AttemptOutcome::Delivered, at(501));
        db.finish(&attempt, NotificationStatus::Delivered, None)
            .expect("finish");
        assert_eq!(due(&db, at(502)), [second.id, other.id]);
    });
}

/// A pager was down when the routes were read anew. An alert that fired in its old group ended in its new one, which had
/// nothing to wait for: "over" came first, and the older "firing" opened the page that nobody closed.
#[test]
fn the_end_of_an_alert_waits_for_its_beginning_in_the_group_it_left() {
    for end in [NotificationStatus::Delivered, NotificationStatus::Failed] {
        on_each_engine(|db| {
            let (one, two) = (alert(1, &[("alertname", "A")]), alert(2, &[("alertname", "B")]));
            let over = resolved(one.clone(), at(5));
            let firing = message(1, "old", "pager", &[&one]);
            let ended_message = message(2, "new", "pager", &[&two, &over]);
            let (elsewhere, other) = (
                message(3, "new", "mail", &[&over]),
                message(4, "c", "pager", &[&alert(9, &[])]),
            );
            let behind = message(6, "d", "pager", &[&two]);
            let all = [&firing, &ended_message, &elsewhere, &other, &behind];
            db.commit(&messages(all.map(Clone::clone).to_vec()))
                .expect("commit");
            assert_eq!(due(&db, at(9)), [firing.id, elsewhere.id, other.id]);
            db.begin(&started(&firing, 1, at(10))).expect("begin");
            assert_eq!(due(&db, at(11)), [elsewhere.id, other.id], "under way");
            let attempt = ended(started(&firing, 1, at(10)), AttemptOutcome::Retry, at(12));
            db.finish(&attempt, NotificationStatus::Waiting, Some(at(500)))
                .expect("finish");
            for free in [&elsewhere, &other] {
                db.begin(&started(free, 1, at(13))).expect("begin");
                let attempt = ended(started(free, 1, at(13)), AttemptOutcome::Delivered, at(14));
                db.finish(&attempt, NotificationStatus::Delivered, None)
                    .expect("finish");
            }
            assert_eq!(due(&db, at(499)), [], "\"over\" overtook \"firing\"");
            assert_eq!(db.next_due().expect("next"), Some(at(500)));
            db.begin(&started(&firing, 2, at(500))).expect("begin");
            db.finish(
                &ended(started(&firing, 2, at(500)), AttemptOutcome::Delivered, at(501)),
                end,
                None,
            )
            .expect("finish");
            assert_eq!(due(&db, at(502)), [ended_message.id]);
        });
    }
}

/// Scripts of decisions, deliveries, retries, failures and crashes: whatever happens, of each alert a channel hears in the
/// order of decision, nothing waits for ever, and the outbox in memory agrees.
#[test]
fn each_channel_hears_of_each_alert_in_the_order_of_decision() {
    on_each_engine(|db| {
        let mut held = 0;
        for script in 0..25_u64 {
            held += run_script(&db, script);
        }
        assert!(held > 100, "hardly anything was ever held back: {held}");
    });
}

/// Runs one script to its end; gives how often a message was held back that was the first of its group.
fn run_script(db: &Database, script: u64) -> usize {
    let draws = Draws::seeded(script);
    let subjects: Vec<Alert> = (0..4)
        .map(|n| alert(script * 100 + n, &[("alertname", "A")]))
        .collect();
    let memory = MemoryOutbox::new();
    let mut decided: Vec<Notification> = Vec::new();
    let mut ends: HashMap<(String, Id), Vec<Id>> = HashMap::new();
    let (mut held, mut now) = (0, 1_000_000 * (script as i64 + 1));
    for step in 0..10_000_u64 {
        now += 10;
        if decided.len() < 30 && draws.below(3) == 0 {
            let group = format!("{script}-{}", draws.below(4));
            let about: Vec<&Alert> = subjects.iter().filter(|_| draws.below(2) == 0).collect();
            let channel = ["mail", "pager"][draws.below(2) as usize];
            let mut new = message(script * 1_000 + decided.len() as u64, &group, channel, &about);
            new.due_at = at(now - draws.below(100) as i64);
            db.commit(&messages(vec![new.clone()])).expect("commit");
            memory.put(new.clone());
            decided.push(new);
        }
        if draws.below(20) == 0 {
            assert_eq!(
                db.recover(at(now)).expect("recover"),
                memory.recover(at(now)).expect("recover")
            );
        }
        let found = db.due(at(now), 100).expect("due");
        let expected: BTreeSet<Id> = memory
            .due(at(now), 100)
            .expect("due")
            .iter()
            .map(|told| told.id)
            .collect();
        assert_eq!(
            found.iter().map(|told| told.id).collect::<BTreeSet<_>>(),
            expected,
            "script {script}, step {step}"
        );
        assert_eq!(db.next_due().expect("next"), memory.next_due().expect("next"));
        let groups: BTreeSet<_> = decided
            .iter()
            .filter(|told| {
                memory
                    .get(told.id)
                    .is_some_and(|told| told.status == NotificationStatus::Waiting && told.due_at <= at(now))
            })
            .map(|told| (&told.group_key, &told.channel))
            .collect();
        held += groups.len().saturating_sub(found.len());
        if decided.len() == 30 && db.open_count().expect("count") == 0 {
            for ((channel, subject), heard) in ends {
                let is_about = |told: &&Notification| {
                    told.channel == channel && told.content.alerts.iter().any(|known| known.id == subject)
                };
                let expected: Vec<Id> = decided.iter().filter(is_about).map(|told| told.id).collect();
                assert_eq!(heard, expected, "script {script}");
            }
            return held;
        }
        let Some(told) = found.get(draws.below(found.len().max(1) as u64) as usize) else {
            continue;
        };
        let attempt = started(told, told.attempts + 1, at(now));
        db.begin(&attempt).expect("begin");
        memory.begin(&attempt).expect("begin");
        let (outcome, status, retry_at) = match draws.below(5) {
            // A crash, or a receiver that takes its time.
            0 => continue,
            1 => (
                AttemptOutcome::Retry,
                NotificationStatus::Waiting,
                Some(at(now + 100)),
            ),
            2 => (AttemptOutcome::Refused, NotificationStatus::Failed, None),
            _ => (AttemptOutcome::Delivered, NotificationStatus::Delivered, None),
        };
        let attempt = ended(attempt, outcome, at(now + 1));
        db.finish(&attempt, status, retry_at).expect("finish");
        memory.finish(&attempt, status, retry_at).expect("finish");
        if status != NotificationStatus::Waiting {
            for subject in &told.content.alerts {
                let heard = ends.entry((told.channel.clone(), subject.id)).or_default();
                heard.push(told.id);
            }
        }
    }
    panic!("script {script}: something waits for ever");
}

/// The process died between the end of a message that nobody got and the next write of the alerts: what was to follow from it
/// was in memory alone, so nobody was told again before the next repeat.
#[test]
fn what_was_given_up_since_the_last_heartbeat_is_found_at_the_start() {
    on_each_engine(|db| {
        let give_up = |n: u64, status, when| {
            let sent = message(n, &format!("g{n}"), "mail", &[]);
            db.commit(&messages(vec![sent.clone()])).expect("commit");
            db.begin(&started(&sent, 1, at(10))).expect("begin");
            let attempt = ended(started(&sent, 1, at(10)), AttemptOutcome::Refused, when);
            db.finish(&attempt, status, None).expect("finish");
        };
        let unheard = |limit| -> Vec<Id> {
            let found = db.given_up_unheard(limit).expect("given up");
            found.iter().map(|message| message.id).collect()
        };
        give_up(1, NotificationStatus::Failed, at(99));
        assert_eq!(unheard(9), [], "nothing ever ran here");
        db.heartbeat(at(100)).expect("heartbeat");
        give_up(2, NotificationStatus::Failed, at(300));
        give_up(3, NotificationStatus::Failed, at(200));
        give_up(4, NotificationStatus::Delivered, at(250));
        give_up(5, NotificationStatus::Waiting, at(250));
        assert_eq!(unheard(9), [id(3), id(2)]);
        assert_eq!(unheard(1), [id(2)]);
        db.heartbeat(at(301)).expect("heartbeat");
        assert_eq!(unheard(9), []);
    });
}

#[test]
fn the_next_due_time_is_never_that_of_a_message_which_must_wait_for_another() {
    on_each_engine(|db| {
        // Otherwise the deliverer's loop would wake for it again and again without finding anything.
        let (first, second) = (message(1, "g", "mail", &[]), message(2, "g", "mail", &[]));
        db.commit(&messages(vec![first.clone(), second])).expect("commit");
        db.begin(&started(&first, 1, at(3))).expect("begin");
        assert_eq!(db.next_due().expect("next"), None);
        let attempt = ended(started(&first, 1, at(3)), AttemptOutcome::Retry, at(4));
        db.finish(&attempt, NotificationStatus::Waiting, Some(at(900)))
            .expect("finish");
        assert_eq!(db.next_due().expect("next"), Some(at(900)));
    });
}

#[test]
fn the_end_of_a_message_stands_in_the_story_of_its_alerts() {
    on_each_engine(|db| {
        let (one, two) = (alert(1, &[("alertname", "A")]), alert(2, &[("alertname", "B")]));
        let told = message(3, "g", "mail", &[&one, &two]);
        db.commit(&AlertCommit {
            alerts: vec![one.clone(), two.clone()],
            outbox: vec![told.clone()],
            ..AlertCommit::default()
        })
        .expect("commit");
        db.begin(&started(&told, 1, at(10))).expect("begin");
        let retried = ended(started(&told, 1, at(10)), AttemptOutcome::Retry, at(11));
        db.finish(&retried, NotificationStatus::Waiting, Some(at(20)))
            .expect("finish");
        assert!(db.events(one.id).expect("events").is_empty(), "a retry is no end");
        db.begin(&started(&told, 2, at(20))).expect("begin");
        let delivered = ended(started(&told, 2, at(20)), AttemptOutcome::Delivered, at(21));
        db.finish(&delivered, NotificationStatus::Delivered, None)
            .expect("finish");
        for alert in [&one, &two] {
            let events = db.events(alert.id).expect("events");
            let expected = AlertEventKind::Notified {
                channel: "mail".to_owned(),
                outcome: "delivered".to_owned(),
            };
            assert_eq!(
                events
                    .iter()
                    .map(|event| (&event.kind, event.at))
                    .collect::<Vec<_>>(),
                [(&expected, at(21))]
            );
        }
        let outcomes: Vec<_> = db
            .attempts(told.id)
            .expect("attempts")
            .iter()
            .map(|attempt| (attempt.number, attempt.outcome))
            .collect();
        assert_eq!(
            outcomes,
            [(1, AttemptOutcome::Retry), (2, AttemptOutcome::Delivered)]
        );
    });
}

#[test]
fn an_attempt_that_a_crash_cut_is_uncertain_and_its_message_due_again() {
    on_each_engine(|db| {
        let subject = alert(1, &[("alertname", "A")]);
        let (cut, waiting) = (message(2, "g", "mail", &[&subject]), message(3, "h", "mail", &[]));
        db.commit(&AlertCommit {
            alerts: vec![subject.clone()],
            outbox: vec![cut.clone(), waiting.clone()],
            ..AlertCommit::default()
        })
        .expect("commit");
        db.begin(&started(&cut, 1, at(10))).expect("begin");
        assert_eq!(db.recover(at(5_000)).expect("recover"), 1);
        assert_eq!(db.recover(at(6_000)).expect("recover"), 0);
        let attempts = db.attempts(cut.id).expect("attempts");
        assert_eq!(
            (attempts[0].outcome, attempts[0].finished_at),
            (AttemptOutcome::Uncertain, Some(at(5_000)))
        );
        assert_eq!(due(&db, at(5_000)), [waiting.id, cut.id]);
        let events = db.events(subject.id).expect("events");
        assert!(
            matches!(&events[0].kind, AlertEventKind::Notified { outcome, .. } if outcome == "uncertain")
        );
        assert_eq!(events.len(), 1);
    });
}

#[test]
fn a_message_cannot_be_sent_twice_at_once_nor_after_its_end() {
    on_each_engine(|db| {
        let sent = message(1, "g", "mail", &[]);
        db.commit(&messages(vec![sent.clone()])).expect("commit");
        db.begin(&started(&sent, 1, at(10))).expect("begin");
        let error = db.begin(&started(&sent, 2, at(10))).expect_err("under way");
        assert!(error.to_string().contains(&sent.id.to_string()), "{error}");
        let attempt = ended(started(&sent, 1, at(10)), AttemptOutcome::Refused, at(11));
        db.finish(&attempt, NotificationStatus::Failed, None)
            .expect("finish");
        db.begin(&started(&sent, 2, at(12))).expect_err("settled");
        db.finish(&attempt, NotificationStatus::Delivered, None)
            .expect_err("settled");
    });
}

#[test]
fn a_repeated_commit_puts_a_message_in_once() {
    on_each_engine(|db| {
        let sent = message(1, "g", "mail", &[]);
        db.commit(&messages(vec![sent.clone()])).expect("commit");
        db.begin(&started(&sent, 1, at(10))).expect("begin");
        db.commit(&messages(vec![sent.clone()])).expect("the same again");
        let filter = NotificationFilter {
            limit: 10,
            ..NotificationFilter::default()
        };
        let items = db.notifications(&filter).expect("list").items;
        assert_eq!(
            items.iter().map(|n| n.status).collect::<Vec<_>>(),
            [NotificationStatus::Sending]
        );
    });
}

#[test]
fn the_log_of_messages_is_paged_and_filtered() {
    on_each_engine(|db| {
        let subject = alert(1, &[("alertname", "A")]);
        let about: [&[&Alert]; 2] = [&[], &[&subject]];
        let all: Vec<Notification> = (0..7)
            .map(|n| message(n, &format!("g{n}"), "mail", about[n as usize % 2]))
            .collect();
        db.commit(&messages(all.clone())).expect("commit");
        let list = |statuses: Vec<NotificationStatus>, alert| {
            let mut filter = NotificationFilter {
                statuses,
                alert,
                limit: 2,
                cursor: None,
            };
            let mut found = Vec::new();
            loop {
                let page = db.notifications(&filter).expect("page");
                found.extend(page.items.iter().map(|message| message.id));
                match page.next_cursor {
                    None => return found,
                    cursor => filter.cursor = cursor,
                }
            }
        };
        assert_eq!(list(vec![], None), [6, 5, 4, 3, 2, 1, 0].map(id));
        assert_eq!(list(vec![], Some(subject.id)), [5, 3, 1].map(id));
        assert!(
            list(
                vec![NotificationStatus::Delivered, NotificationStatus::Failed],
                None
            )
            .is_empty()
        );
        let attempt = ended(started(&all[3], 1, at(10)), AttemptOutcome::Delivered, at(11));
        db.begin(&started(&all[3], 1, at(10))).expect("begin");
        db.finish(&attempt, NotificationStatus::Delivered, None)
            .expect("finish");
        assert_eq!(list(vec![NotificationStatus::Delivered], None), [id(3)]);
        // Settled long ago, it goes with the next cleaning; what waits stays.
        db.clean(at(100_000), seconds(1)).expect("clean");
        assert_eq!(list(vec![], Some(subject.id)), [5, 1].map(id));
        assert!(db.attempts(id(3)).expect("attempts").is_empty());
        assert_eq!(db.open_count().expect("count"), 6);
    });
}

/// A page is read while the retention takes old messages away: what is left is listed once and in order.
#[test]
fn pages_of_messages_go_on_though_old_ones_are_cleaned_meanwhile() {
    on_each_engine(|db| {
        let subject = alert(1, &[("alertname", "A")]);
        let sent = |n: u64| {
            let mut sent = message(n, &format!("g{n}"), "mail", &[&subject]);
            sent.status = NotificationStatus::Delivered;
            sent
        };
        db.commit(&alerts(vec![subject.clone()])).expect("commit");
        db.commit(&messages((10..30).map(sent).collect()))
            .expect("commit");
        let filter = NotificationFilter {
            alert: Some(subject.id),
            limit: 6,
            ..NotificationFilter::default()
        };
        let first = db.notifications(&filter).expect("first page");
        db.clean(at(1_015), seconds(1)).expect("clean");
        let mut found: Vec<_> = first.items.iter().map(|message| message.id).collect();
        let mut cursor = first.next_cursor;
        while cursor.is_some() {
            let filter = NotificationFilter {
                cursor,
                ..filter.clone()
            };
            let page = db.notifications(&filter).expect("page");
            found.extend(page.items.iter().map(|message| message.id));
            cursor = page.next_cursor;
        }
        let expected: Vec<_> = (15..30).rev().map(id).collect();
        assert_eq!(found, expected);
        assert!(db.attempts(id(10)).expect("attempts").is_empty());
    });
}
