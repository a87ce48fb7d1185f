//! The kinds of cases but for those about time.
//!
//! Steps are four seconds apart, which is longer than any wait or interval here: so every step is flushed before the
//! next, wherever the ticks of a group lie.

use serde_json::{Value, json};

use super::cases::{Case, Dice, Labels, case, matcher};
use super::compare::Difference;

const SLOTS: u64 = 14;
const HOUR: u64 = 3600;

fn second(slot: u64) -> u64 {
    2 + 4 * slot
}

/// Alerts that differ in their number, with names and instances that several share.
fn alerts(case: &Case, dice: &Dice, count: u64) -> Vec<Labels> {
    let number = |number: u64| number.to_string();
    (0..count)
        .map(|nth| {
            case.labels(&[
                ("alertname", dice.one_of(&["Down", "磁盘满"])),
                ("instance", dice.one_of(&["i0", "i1", "i2"])),
                ("cluster", dice.one_of(&["", "c\"1\"", "c2"])),
                ("severity", dice.one_of(&["critical", "warning"])),
                ("number", &number(nth)),
            ])
        })
        .collect()
}

/// Lets alerts begin and end at the slots, each at most so many times; the first begins at once.
fn live(case: &mut Case, dice: &Dice, alerts: &[Labels], percent: u64, times: u32) {
    let mut lives: Vec<(bool, u32)> = vec![(false, 0); alerts.len()];
    for slot in 0..SLOTS {
        for (nth, (labels, (is_firing, fired))) in alerts.iter().zip(&mut lives).enumerate() {
            let is_first = slot == 0 && nth == 0;
            if !is_first && !dice.percent(percent) {
                continue;
            }
            if *is_firing {
                case.resolve(second(slot), labels);
                *is_firing = false;
            } else if *fired < times {
                case.fire(second(slot), labels);
                (*is_firing, *fired) = (true, *fired + 1);
            }
        }
    }
}

fn group_by(dice: &Dice) -> Vec<&'static str> {
    dice.one_of(&[
        vec!["..."],
        vec![],
        vec!["alertname"],
        vec!["alertname", "instance"],
        vec!["cluster"],
        vec!["severity", "absent"],
    ])
}

pub fn grouping(name: String, dice: &Dice) -> Case {
    let times = [dice.one_of(&[1, 3]), dice.one_of(&[2, 4]), HOUR];
    let mut case = case(name, "grouping", &group_by(dice), times);
    let count = 3 + dice.below(4);
    let alerts = alerts(&case, dice, count);
    live(&mut case, dice, &alerts, 30, 2);
    case
}

/// One group that is never empty, so that its ticks go on; repeats lie half way between ticks.
pub fn repeat(name: String, dice: &Dice) -> Case {
    let times = [1, dice.one_of(&[2, 4]), dice.one_of(&[5, 7])];
    let mut case = case(name, "repeat", &["case"], times);
    let count = 1 + dice.below(3);
    let alerts = alerts(&case, dice, count);
    let anchor = case.labels(&[("alertname", "Anchor")]);
    case.fire(second(0), &anchor);
    live(&mut case, dice, &alerts, 12, 2);
    case
}

/// What fell silent after it was told, or did not: such an alert must not end in these cases.
#[derive(Clone, Copy, Default)]
struct Quiet {
    is_firing: bool,
    is_told: bool,
    fired: u32,
}

impl Quiet {
    /// Decides whether the alert begins or ends at a slot.
    fn turns(&self, dice: &Dice, is_quiet: bool) -> bool {
        // It ends audibly once it was told, and inaudibly as long as it was not.
        let may = if self.is_firing {
            self.is_told != is_quiet
        } else {
            self.fired < 2
        };
        may && dice.percent(30)
    }

    fn turn(&mut self, case: &mut Case, slot: u64, labels: &Labels) {
        if self.is_firing {
            case.resolve(second(slot), labels);
            *self = Quiet {
                fired: self.fired,
                ..Quiet::default()
            };
        } else {
            case.fire(second(slot), labels);
            (self.is_firing, self.fired) = (true, self.fired + 1);
        }
    }
}

pub fn inhibition(name: String, dice: &Dice) -> Case {
    let mut case = case(name, "inhibition", &["..."], [1, 2, HOUR]);
    let own = format!("case=\"{}\"", case.name);
    let equal = dice.one_of(&[
        vec!["instance"],
        vec!["instance", "cluster"],
        vec!["instance", "absent"],
    ]);
    case.inhibit_rules = vec![json!({
        "source_matchers": [own, "severity=~\"critical|page\""],
        "target_matchers": [own, "severity=\"warning\""],
        "equal": equal,
    })];
    let mut pairs: Vec<(Labels, bool, u32, Vec<(Labels, Quiet)>)> = ["i0", "i1"]
        .iter()
        .map(|instance| {
            let source = case.labels(&[
                ("alertname", "Down"),
                ("instance", instance),
                ("severity", "critical"),
            ]);
            let target = |name: &str| {
                let pairs = [
                    ("alertname", name),
                    ("instance", *instance),
                    ("severity", "warning"),
                ];
                (case.labels(&pairs), Quiet::default())
            };
            (source, false, 0, vec![target("Slow"), target("Errors")])
        })
        .collect();
    for slot in 0..SLOTS {
        for (source, is_source, fired, targets) in &mut pairs {
            if dice.percent(30) && (*is_source || *fired < 2) {
                if *is_source {
                    case.resolve(second(slot), source);
                } else {
                    case.fire(second(slot), source);
                    *fired += 1;
                }
                *is_source = !*is_source;
            }
            for (labels, quiet) in targets {
                if quiet.turns(dice, *is_source) {
                    quiet.turn(&mut case, slot, labels);
                }
                quiet.is_told |= quiet.is_firing && !*is_source;
            }
        }
    }
    case
}

/// Silences that come and go; those of single alerts over groups of one, those of the whole case over any.
pub fn silence(name: String, dice: &Dice) -> Case {
    let is_whole = dice.percent(40);
    let group_by = if is_whole { group_by(dice) } else { vec!["..."] };
    let mut case = case(name, "silence", &group_by, [1, dice.one_of(&[2, 4]), HOUR]);
    let own = matcher("case", "=", &case.name);
    let other = dice.one_of(&[
        matcher("instance", "=", "i0"),
        matcher("instance", "=~", "i0|i9"),
        matcher("instance", "=~", "i[0]"),
        matcher("instance", "!=", "i1"),
        matcher("instance", "!~", "i1|i2"),
    ]);
    let matchers = if is_whole { vec![own] } else { vec![own, other] };
    let mut alerts: Vec<(Labels, bool, Quiet)> = ["i0", "i1", "i0"]
        .iter()
        .zip(["Down", "Down", "Slow"])
        .map(|(instance, name)| {
            let labels = case.labels(&[("alertname", name), ("instance", instance)]);
            (labels, is_whole || *instance == "i0", Quiet::default())
        })
        .collect();
    let mut is_silent = false;
    let mut made = 0;
    for slot in 0..SLOTS {
        if dice.percent(30) && (is_silent || made < 3) {
            if is_silent {
                case.unsilence(second(slot), &made.to_string());
            } else {
                made += 1;
                case.silence(second(slot), &made.to_string(), matchers.clone());
            }
            is_silent = !is_silent;
        }
        for (labels, is_hit, quiet) in &mut alerts {
            let is_quiet = is_silent && *is_hit;
            if quiet.turns(dice, is_quiet) {
                quiet.turn(&mut case, slot, labels);
            }
            quiet.is_told |= quiet.is_firing && !is_quiet;
        }
    }
    case
}

/// Several routes below each other, some of which let alerts go on.
pub fn ways(name: String, dice: &Dice) -> Case {
    let mut case = case(name, "continue", &["alertname"], [1, 2, HOUR]);
    let children = [
        ["severity=\"critical\"", "severity!=\"critical\""],
        ["instance=~\"i[01]\"", "instance!~\"i[01]\""],
        ["cluster=\"\"", "cluster!=\"\""],
    ];
    let mut routes: Vec<Value> = Vec::new();
    for choice in children {
        let nth = routes.len();
        let receiver = format!("{}-{nth}", case.name);
        let mut route = json!({
            "receiver": receiver,
            "matchers": [dice.one_of(&choice)],
            "continue": dice.percent(60),
            "group_by": group_by(dice),
        });
        case.receivers.push((receiver, true));
        if dice.percent(50) {
            let inner = format!("{}-{nth}-inner", case.name);
            route["routes"] = json!([{
                "receiver": inner,
                "matchers": [dice.one_of(&["alertname=\"Down\"", "instance=~\"i.+\""])],
                "continue": dice.percent(50),
                "group_wait": "3s",
            }]);
            case.receivers.push((inner, true));
        }
        routes.push(route);
    }
    case.route["routes"] = Value::Array(routes);
    let alerts = alerts(&case, dice, 4);
    live(&mut case, dice, &alerts, 25, 2);
    case
}

/// Each alert fires once: see [`Difference::FiredAgain`].
pub fn send_resolved(name: String, dice: &Dice) -> Case {
    let times = [dice.one_of(&[1, 3]), dice.one_of(&[2, 4]), HOUR];
    let mut case = case(name, "send_resolved", &group_by(dice), times);
    case.receivers[0].1 = false;
    let count = 2 + dice.below(3);
    let alerts = alerts(&case, dice, count);
    live(&mut case, dice, &alerts, 30, 1);
    case
}

/// One of two comes back, and its first end was not to be told.
pub fn fired_again(name: String) -> Case {
    let mut case = case(name, "fired again without send_resolved", &["case"], [1, 2, HOUR]);
    case.receivers[0].1 = false;
    let [stays, returns] = ["Stays", "Returns"].map(|name| case.labels(&[("alertname", name)]));
    case.fire(second(0), &stays);
    case.fire(second(0), &returns);
    case.resolve(second(2), &returns);
    case.fire(second(4), &returns);
    case.difference = Some(Difference::FiredAgain);
    case
}

pub fn closed_under_silence(name: String) -> Case {
    let mut case = case(name, "closed under a silence", &["..."], [1, 2, HOUR]);
    let alert = case.labels(&[("alertname", "Down")]);
    case.fire(second(0), &alert);
    case.silence(second(2), "s", vec![matcher("case", "=", &case.name)]);
    case.resolve(second(4), &alert);
    case.difference = Some(Difference::ClosedWhileQuiet);
    case
}

pub fn closed_under_inhibition(name: String) -> Case {
    let mut case = case(name, "closed under inhibition", &["..."], [1, 2, HOUR]);
    let own = format!("case=\"{}\"", case.name);
    case.inhibit_rules = vec![json!({
        "source_matchers": [own, "severity=\"critical\""],
        "target_matchers": [own, "severity=\"warning\""],
        "equal": ["instance"],
    })];
    let [target, source] = ["warning", "critical"]
        .map(|severity| case.labels(&[("alertname", "Down"), ("instance", "i0"), ("severity", severity)]));
    case.fire(second(0), &target);
    case.fire(second(2), &source);
    case.resolve(second(4), &target);
    case.difference = Some(Difference::ClosedWhileQuiet);
    case
}

/// One that begins and ends between two ticks, beside one that was told.
pub fn untold_end(name: String) -> Case {
    let mut case = case(name, "end of an untold alert", &["case"], [1, 4, HOUR]);
    let [told, untold] = ["Told", "Untold"].map(|name| case.labels(&[("alertname", name)]));
    // Ticks are at 3, 7, 11.
    case.fire(2, &told);
    case.fire(8, &untold);
    case.resolve(10, &untold);
    case.difference = Some(Difference::UntoldEnd);
    case
}

/// Two were told; one falls silent while a third is told, and is heard again.
pub fn told_again(name: String) -> Case {
    let mut case = case(name, "told again after a silence", &["case"], [1, 2, HOUR]);
    let [quiet, loud, third] = ["Quiet", "Loud", "Third"].map(|name| case.labels(&[("alertname", name)]));
    case.fire(second(0), &quiet);
    case.fire(second(0), &loud);
    let matchers = vec![
        matcher("case", "=", &case.name),
        matcher("alertname", "=", "Quiet"),
    ];
    case.silence(second(1), "s", matchers);
    case.fire(second(2), &third);
    case.unsilence(second(3), "s");
    case.difference = Some(Difference::ToldAgain);
    case
}
