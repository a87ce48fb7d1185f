use std::collections::BTreeMap;

use marketprism_model::records::ToldRecord;
use proptest::prelude::*;

use super::*;
use crate::calendar::Calendars;
use crate::schedule::{LayerConfig, Rotation, ScheduleConfig, Turn};

const MINUTE: Duration = Duration::from_secs(60);

fn at(minutes: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000) + MINUTE * u32::try_from(minutes).expect("small")
}

fn steps(words: &[(u32, &str)]) -> Vec<StepConfig> {
    let step = |(after, notify): &(u32, &str)| StepConfig {
        after: MINUTE * *after,
        notify: notify.split(' ').map(str::to_owned).collect(),
    };
    words.iter().map(step).collect()
}

/// A at once, B ten minutes later, C after another ten; twice more, each time half an hour after C.
fn policy() -> PolicyConfig {
    PolicyConfig {
        name: "night".to_owned(),
        steps: steps(&[(0, "a"), (10, "b"), (20, "c")]),
        repeat: Some(RepeatConfig {
            every: MINUTE * 30,
            times: 2,
        }),
        levels: Vec::new(),
    }
}

fn good(config: &PolicyConfig) -> Policy {
    let names = ["a", "b", "c"];
    let policies = Policies::new(std::slice::from_ref(config), &names, &Schedules::default());
    policies.expect("good").get(&config.name).expect("there").clone()
}

fn fires(fingerprint: u64, level: Level) -> Member {
    Member {
        fingerprint,
        level,
        is_acknowledged: false,
        is_suppressed: false,
    }
}

fn acknowledged(fingerprint: u64) -> Member {
    Member {
        is_acknowledged: true,
        ..fires(fingerprint, Level::High)
    }
}

fn suppressed(fingerprint: u64) -> Member {
    Member {
        is_suppressed: true,
        ..fires(fingerprint, Level::High)
    }
}

/// Asks minute by minute how the group stands; gives the minute, the round and the step of each that was taken.
fn walk(
    config: &PolicyConfig,
    minutes: std::ops::Range<u64>,
    members: impl Fn(u64) -> Vec<Member>,
) -> String {
    let policy = good(config);
    let mut record = None;
    let mut taken = Vec::new();
    for minute in minutes {
        let decision = decide(&policy, record.as_ref(), &members(minute), at(minute));
        if let Some(step) = decision.step {
            taken.push(format!("{minute}:{}.{}", step.round, step.number));
        }
        record = decision.record;
    }
    taken.join(" ")
}

#[test]
fn nobody_answers_so_a_then_b_then_c_are_told_and_all_of_them_again() {
    let taken = walk(&policy(), 0..600, |_| vec![fires(1, Level::High)]);
    assert_eq!(
        taken,
        "0:1.1 10:1.2 20:1.3 50:2.1 60:2.2 70:2.3 100:3.1 110:3.2 120:3.3"
    );
}

#[test]
fn without_repeat_each_step_is_taken_once() {
    let once = PolicyConfig {
        repeat: None,
        ..policy()
    };
    let taken = walk(&once, 0..600, |_| vec![fires(1, Level::High)]);
    assert_eq!(taken, "0:1.1 10:1.2 20:1.3");
}

#[test]
fn acknowledging_stops_it_and_taking_that_back_begins_anew() {
    let taken = walk(&policy(), 0..45, |minute| match minute {
        5..25 => vec![acknowledged(1)],
        _ => vec![fires(1, Level::High)],
    });
    assert_eq!(taken, "0:1.1 25:1.1 35:1.2");
}

#[test]
fn a_silence_stops_it_and_its_end_begins_anew() {
    let taken = walk(&policy(), 0..30, |minute| match minute {
        5..25 => vec![suppressed(1)],
        _ => vec![fires(1, Level::High)],
    });
    assert_eq!(taken, "0:1.1 25:1.1");
}

#[test]
fn a_level_that_rises_begins_anew_and_one_that_falls_does_not() {
    let taken = walk(&policy(), 0..40, |minute| match minute {
        0..15 => vec![fires(1, Level::High)],
        15..20 => vec![fires(1, Level::Critical)],
        _ => vec![fires(1, Level::High)],
    });
    assert_eq!(taken, "0:1.1 10:1.2 15:1.1 25:1.2 35:1.3");
}

#[test]
fn one_of_two_that_is_acknowledged_leaves_the_other_escalating() {
    let taken = walk(&policy(), 0..25, |minute| match minute {
        0..5 => vec![fires(1, Level::High), fires(2, Level::High)],
        _ => vec![acknowledged(1), fires(2, Level::High)],
    });
    assert_eq!(taken, "0:1.1 10:1.2 20:1.3");
}

#[test]
fn an_alert_that_joins_does_not_hold_the_next_step_up() {
    let taken = walk(&policy(), 0..25, |minute| {
        (0..=minute).map(|number| fires(number, Level::High)).collect()
    });
    assert_eq!(taken, "0:1.1 10:1.2 20:1.3");
}

#[test]
fn an_alert_that_comes_after_the_last_round_is_not_left_alone() {
    let once = PolicyConfig {
        repeat: None,
        ..policy()
    };
    let taken = walk(&once, 0..140, |minute| match minute {
        0..100 => vec![fires(1, Level::High)],
        _ => vec![fires(1, Level::High), fires(2, Level::Low)],
    });
    assert_eq!(taken, "0:1.1 10:1.2 20:1.3 100:1.1 110:1.2 120:1.3");
}

#[test]
fn only_the_levels_of_the_policy_escalate() {
    let worst = PolicyConfig {
        levels: vec![Level::Critical],
        ..policy()
    };
    let taken = walk(&worst, 0..25, |minute| match minute {
        0..5 => vec![fires(1, Level::High)],
        _ => vec![fires(1, Level::Critical), fires(2, Level::High)],
    });
    assert_eq!(taken, "5:1.1 15:1.2");
}

/// The program was down from minute 5 to minute 200. B, C and the second round were due meanwhile; told all at once, a night's
/// steps would wake everybody although nobody had the time to answer.
#[test]
fn steps_that_were_missed_while_down_are_taken_one_after_the_other_and_none_twice() {
    let policy = good(&policy());
    let members = [fires(1, Level::High)];
    let mut record = decide(&policy, None, &members, at(0)).record;
    let mut taken = Vec::new();
    for minute in 200..260 {
        let decision = decide(&policy, record.as_ref(), &members, at(minute));
        taken.extend(decision.step.map(|step| (minute, step.round, step.number)));
        record = decision.record;
    }
    assert_eq!(taken, [(200, 1, 2), (210, 1, 3), (240, 2, 1), (250, 2, 2)]);
}

#[test]
fn a_clock_set_back_makes_the_next_step_wait_once_more_and_not_for_the_old_future() {
    let policy = good(&policy());
    let members = [fires(1, Level::High)];
    let first = decide(&policy, None, &members, at(6000)).record.expect("runs");
    let back = decide(&policy, Some(&first), &members, at(0));
    assert_eq!(back.step, None);
    let record = back.record.expect("runs");
    assert_eq!(next_due(&policy, &record), Some(at(10)));
    let due = decide(&policy, Some(&record), &members, at(10))
        .step
        .expect("due");
    assert_eq!(due.notify, ["b"]);
}

#[test]
fn what_a_step_told_is_kept_until_it_is_closed_though_nothing_runs() {
    let policy = good(&policy());
    let mut record = decide(&policy, None, &[fires(1, Level::High)], at(0))
        .record
        .expect("runs");
    record.told.push(ToldRecord {
        channel: "phone-a".to_owned(),
        at: at(0),
        firing: vec![(1, Level::High)],
        resolved: Vec::new(),
    });
    let resting = decide(&policy, Some(&record), &[acknowledged(1)], at(1))
        .record
        .expect("kept");
    assert_eq!(resting.told, record.told);
    assert_eq!(next_due(&policy, &resting), None);
    let again = decide(&policy, Some(&resting), &[fires(1, Level::High)], at(2));
    let again = (
        again.step.map(|step| step.number),
        again.record.expect("runs").told,
    );
    assert_eq!(again, (Some(1), record.told.clone()));
    let mut closed = resting;
    closed.told[0].firing.clear();
    assert_eq!(decide(&policy, Some(&closed), &[], at(3)).record, None);
}

#[test]
fn another_policy_begins_anew_and_one_that_became_shorter_goes_on() {
    let long = good(&policy());
    let members = [fires(1, Level::High)];
    let mut record = None;
    for minute in [0, 10] {
        record = decide(&long, record.as_ref(), &members, at(minute)).record;
    }
    let other = good(&PolicyConfig {
        name: "day".to_owned(),
        ..policy()
    });
    let anew = decide(&other, record.as_ref(), &members, at(11))
        .step
        .expect("begins");
    assert_eq!((anew.round, anew.number), (1, 1));
    let short = good(&PolicyConfig {
        steps: steps(&[(0, "a"), (5, "b")]),
        ..policy()
    });
    let quiet = decide(&short, record.as_ref(), &members, at(11));
    assert_eq!(quiet.step, None);
    let record = quiet.record.expect("runs");
    assert_eq!(
        next_due(&short, &record),
        Some(at(40)),
        "the second round, half an hour after the last step"
    );
}

#[test]
fn every_fault_of_the_policies_is_named_with_its_place() {
    let config = PolicyConfig {
        name: String::new(),
        steps: steps(&[(0, "a"), (0, "bb"), (20_000, "schedule:nigth")]),
        repeat: Some(RepeatConfig {
            every: Duration::ZERO,
            times: 0,
        }),
        levels: Vec::new(),
    };
    let empty = PolicyConfig {
        steps: Vec::new(),
        ..policy()
    };
    let configs = [config, policy(), empty];
    let error = Policies::new(&configs, &["a", "b", "c"], &Schedules::default()).expect_err("refused");
    let text = error.to_string();
    for expected in [
        "escalation_policies[0].name: \"\" is no name",
        "escalation_policies[0].steps[1].after: 0s",
        "escalation_policies[0].steps[1].notify[0]: no receiver is called \"bb\"",
        "escalation_policies[0].steps[2].after: 13d21h20m is out of range; use 0s to 7d",
        "escalation_policies[0].steps[2].notify[0]: no schedule is called \"nigth\"",
        "escalation_policies[0].repeat.every: 0s",
        "escalation_policies[0].repeat.times: 0",
        "escalation_policies[2].name: \"night\" is there twice",
        "escalation_policies[2].steps: 0 items; use 1 to 20",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert_eq!(error.faults.len(), 9, "{text}");
}

#[test]
fn policies_are_read_as_people_write_them() {
    let text = "name: night\nsteps:\n- {after: 0s, notify: ['schedule:ops']}\n- {after: 10m, notify: [b, c]}\n\
                repeat: {every: 30m, times: 3}\nlevels: [critical, high]\n";
    let config: PolicyConfig = serde_saphyr::from_str(text).expect("reads");
    assert_eq!(config.steps[1].after, MINUTE * 10);
    assert_eq!(config.levels, [Level::Critical, Level::High]);
    assert!(serde_saphyr::from_str::<PolicyConfig>(&text.replace("times", "time")).is_err());
}

#[test]
fn a_step_tells_each_receiver_once_and_says_which_schedule_is_vacant() {
    let schedule = |name: &str, starts: &str| ScheduleConfig {
        name: name.to_owned(),
        time_zone: "UTC".to_owned(),
        layers: vec![LayerConfig {
            participants: vec![Turn::One("a".to_owned())],
            rotation: Rotation::Daily,
            starts: starts.to_owned(),
            ends: None,
            handover: "09:00".to_owned(),
            on: None,
            within: Vec::new(),
        }],
    };
    let configs = [schedule("ops", "2020-01-01"), schedule("later", "2030-01-01")];
    let calendars = Calendars::new(&[]).expect("good");
    let schedules = Schedules::new(&configs, &["a", "b"], &[], &calendars).expect("good");
    let notify: Vec<String> = ["b", "schedule:ops", "a", "schedule:later"]
        .map(str::to_owned)
        .to_vec();
    let targets = targets(&notify, &schedules, &[], at(0));
    assert_eq!(targets.receivers, ["b", "a"]);
    assert_eq!(targets.vacant, ["later"]);
}

/// What may happen to one of three alerts.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Fire(Level),
    End,
    Acknowledge(bool),
    Suppress(bool),
}

fn happenings() -> impl Strategy<Value = Vec<(u64, u64, Happening)>> {
    let level = prop::sample::select(Level::ALL.to_vec());
    let happening = prop_oneof![
        4 => level.prop_map(Happening::Fire),
        2 => Just(Happening::End),
        2 => any::<bool>().prop_map(Happening::Acknowledge),
        1 => any::<bool>().prop_map(Happening::Suppress),
    ];
    prop::collection::vec((0u64..90, 0u64..3, happening), 1..40)
}

fn apply(members: &mut BTreeMap<u64, Member>, fingerprint: u64, happening: Happening) {
    match happening {
        Happening::Fire(level) => {
            let member = members.entry(fingerprint).or_insert(fires(fingerprint, level));
            // As in the lifecycle, a level that rises ends the acknowledgement.
            member.is_acknowledged &= level <= member.level;
            member.level = level;
        }
        Happening::End => {
            members.remove(&fingerprint);
        }
        Happening::Acknowledge(is_acknowledged) => {
            members
                .entry(fingerprint)
                .and_modify(|member| member.is_acknowledged = is_acknowledged);
        }
        Happening::Suppress(is_suppressed) => {
            members
                .entry(fingerprint)
                .and_modify(|member| member.is_suppressed = is_suppressed);
        }
    }
}

/// When each step is to come after a beginning, in minutes, by the words of the documentation alone.
fn plan(config: &PolicyConfig) -> Vec<(u64, u32, u32)> {
    let minutes = |span: Duration| span.as_secs() / 60;
    let last = minutes(config.steps.last().expect("has steps").after);
    let (every, times) = config
        .repeat
        .map_or((0, 0), |repeat| (minutes(repeat.every), repeat.times));
    (0..=times)
        .flat_map(|round| {
            let begins = u64::from(round) * (last + every);
            let steps = config.steps.iter().enumerate();
            steps.map(move |(number, step)| (begins + minutes(step.after), round + 1, number as u32 + 1))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens: a step comes exactly when it is due, in order, none twice, none skipped, and none while nobody needs it.
    #[test]
    fn steps_come_in_order_each_once_and_never_after_an_answer(
        script in happenings(),
        afters in prop::collection::btree_set(0u32..40, 1..4),
        repeat in prop::option::of((1u32..40, 1u32..3)),
        levels in prop::sample::subsequence(Level::ALL.to_vec(), 0..=2),
    ) {
        let config = PolicyConfig {
            name: "p".to_owned(),
            steps: afters.iter().map(|after| steps(&[(*after, "a")]).remove(0)).collect(),
            repeat: repeat.map(|(every, times)| RepeatConfig { every: MINUTE * every, times }),
            levels,
        };
        let policy = good(&config);
        let plan = plan(&config);
        let mut members = BTreeMap::new();
        let mut record: Option<EscalationRecord> = None;
        // The open alerts of before, when the run began, and how many steps of the plan it took.
        let (mut before, mut began, mut taken) = (BTreeMap::<u64, Level>::new(), 0u64, 0usize);
        let mut minute = 0u64;
        for (wait, fingerprint, happening) in script {
            for now in minute..=minute + wait {
                if now == minute + wait {
                    apply(&mut members, fingerprint, happening);
                }
                let open: BTreeMap<u64, Level> = members
                    .values()
                    .filter(|member: &&Member| policy.is_open(member))
                    .map(|member| (member.fingerprint, member.level))
                    .collect();
                let has_risen = open.iter().any(|(id, level)| before.get(id).is_some_and(|known| known < level));
                let has_newcomer = open.keys().any(|id| !before.contains_key(id));
                if before.is_empty() || has_risen || (taken == plan.len() && has_newcomer) {
                    (began, taken) = (now, 0);
                }
                let expected = plan.get(taken).filter(|step| !open.is_empty() && began + step.0 == now);
                let all: Vec<Member> = members.values().copied().collect();
                let decision = decide(&policy, record.as_ref(), &all, at(now));
                let step = decision.step.map(|step| (now - began, step.round, step.number));
                prop_assert_eq!(step, expected.copied(), "at minute {}", now);
                taken += usize::from(step.is_some());
                let due = decision.record.as_ref().and_then(|record| next_due(&policy, record));
                let next = plan.get(taken).filter(|_| !open.is_empty()).map(|step| at(began + step.0));
                prop_assert_eq!(due, next, "what is due after minute {}", now);
                (record, before) = (decision.record, open);
            }
            minute += wait;
        }
    }

    /// However rarely the group is looked at, two steps of a run are never nearer than the policy says.
    #[test]
    fn late_steps_keep_their_distance(gaps in prop::collection::vec(0u64..200, 1..60)) {
        let policy = good(&policy());
        let members = [fires(1, Level::High)];
        let (mut record, mut minute) = (None, 0);
        let mut taken: Vec<(u64, u32, u32)> = Vec::new();
        for gap in gaps {
            minute += gap;
            let decision = decide(&policy, record.as_ref(), &members, at(minute));
            taken.extend(decision.step.map(|step| (minute, step.round, step.number)));
            record = decision.record;
        }
        let numbers: Vec<(u32, u32)> = taken.iter().map(|step| (step.1, step.2)).collect();
        let all: Vec<(u32, u32)> = plan(policy.config()).iter().map(|step| (step.1, step.2)).collect();
        prop_assert_eq!(&numbers[..], &all[..numbers.len()], "in order, none left out");
        for pair in taken.windows(2) {
            let least = if pair[1].2 == 1 { 30 } else { 10 };
            prop_assert!(pair[1].0 - pair[0].0 >= least, "{:?}", pair);
        }
    }
}
