//! A day of scenes. In each, something is wrong with some targets while a fault befalls the program, its clock or its
//! receivers. All of it follows from one seed, but for the moments of the rules' ticks, which follow from the folder's
//! name.
//!
//! Faults of the program and its clock befall only long episodes. A short one that meets a restart or a jump may seem
//! long to anybody who could not look in between, so nothing can be promised of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use marketprism_model::{Chance, Clock};
use marketprism_testkit::{SeededChance, Weather};
use serde_json::Value;

use super::site::Site;
use super::story::{Episode, Name, heard, judge};
use super::{MINUTE, START, assert_evaluated_since, config, firing};

const DAY: Duration = Duration::from_secs(86_400);
const TARGETS: [&str; 5] = ["app-0:80", "app-1:80", "app-2:80", "app-3:80", "app-4:80"];
const RECEIVERS: [&str; 2] = ["pager", "board"];
const HOUR_MS: i64 = 3_600_000;

const RULES: &str = "
groups:
- name: queues
  rules:
  - {alert: QueueLong, expr: queue_length > 10, for: 2m}
  - {record: queue_length:sum, expr: sum(queue_length)}
- name: slow
  rules: [{alert: Stuck, expr: stuck == 1, for: 10m}]
- name: targets
  rules: [{alert: TargetDown, expr: up == 0, for: 2m}]
";

/// From the moment when a condition has held long enough until it is told: a scrape with its time-out, an evaluation,
/// the group's wait, and a few steps of the clock.
const TELLING: Duration = Duration::from_secs(15 + 10 + 30 + 30 + 5);
/// From the end of a condition until the program knows.
const SEEING: Duration = Duration::from_secs(15 + 10 + 30 + 5);
/// How long after a restart or a jump rules are evaluated again at the latest: rules wait until every target was asked,
/// which takes an interval and a time-out, and the loop a turn to notice; then comes one of their own intervals.
const RECOVERY: Duration = Duration::from_secs(15 + 10 + 6 + 30);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    QueueLong,
    Stuck,
    TargetDown,
}

impl Kind {
    fn alert(self) -> &'static str {
        match self {
            Kind::QueueLong => "QueueLong",
            Kind::Stuck => "Stuck",
            Kind::TargetDown => "TargetDown",
        }
    }

    fn hold_for(self) -> Duration {
        match self {
            Kind::QueueLong | Kind::TargetDown => 2 * MINUTE,
            Kind::Stuck => 10 * MINUTE,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// Receivers behave badly.
    Receivers,
    /// The program is away for so many seconds.
    Restart(u64),
    /// The wall clock is set by so many milliseconds.
    Jump(i64),
}

/// Every fault once, some twice; the seed shuffles them and they come round until the day is over.
const FAULTS: [Fault; 16] = [
    Fault::None,
    Fault::Receivers,
    Fault::Restart(5),
    Fault::Jump(HOUR_MS),
    Fault::Receivers,
    Fault::Restart(240),
    Fault::Jump(-HOUR_MS),
    Fault::None,
    Fault::Receivers,
    Fault::Restart(1800),
    Fault::Jump(72 * HOUR_MS),
    Fault::Receivers,
    Fault::None,
    Fault::Restart(60),
    Fault::Restart(3000),
    Fault::Receivers,
];

#[derive(Clone, Debug)]
enum Act {
    Begin(usize),
    End(usize),
    Stop,
    Start,
    Jump(i64),
    Weather(&'static str, Weather),
    /// The API shows what happens just now.
    Look,
}

/// One thing that is wrong in a scene; times are from the scene's beginning.
struct Trouble {
    target: &'static str,
    kind: Kind,
    weather: Weather,
    begin: Duration,
    end: Duration,
    is_long: bool,
}

/// The day as it goes on.
pub struct Day {
    site: Site,
    chance: SeededChance,
    seed: u64,
    episodes: Vec<Episode>,
    /// When the newest restart or jump was over.
    fault_over: Duration,
    story: Vec<String>,
}

impl Day {
    /// Lives through a day and judges it.
    pub async fn live(seed: u64) {
        let mut day = Day {
            site: Site::prepare(seed, START, &config(&TARGETS, &RECEIVERS), RULES),
            chance: SeededChance::new(seed),
            seed,
            episodes: Vec::new(),
            fault_over: Duration::ZERO,
            story: Vec::new(),
        };
        for target in TARGETS {
            day.site.world.serve(target, text(false, false));
        }
        for receiver in RECEIVERS {
            day.site.world.serve(receiver, "");
        }
        day.site.start().await;
        let mut faults = Vec::new();
        let mut scenes = 0;
        while day.site.clock.monotonic() < DAY {
            if faults.is_empty() {
                faults = day.shuffled(&FAULTS);
            }
            let fault = faults.pop().expect("filled above");
            day.scene(fault).await;
            scenes += 1;
        }
        day.expect_no_other_alerts().await;
        day.site.stop().await;
        day.judge(scenes);
    }

    fn judge(&self, scenes: usize) {
        let seed = self.seed;
        let long = self.episodes.iter().filter(|episode| episode.is_long).count();
        let mut faults = Vec::new();
        for receiver in RECEIVERS {
            let heard = heard(&self.site.world, receiver);
            faults.extend(judge(receiver, &heard, &self.episodes));
            let messages: usize = heard.values().map(Vec::len).sum();
            if messages != 2 * long {
                faults.push(format!("{receiver} has {messages} messages of {long} episodes"));
            }
        }
        assert!(
            faults.is_empty(),
            "seed {seed}:\n{}\nthe day:\n{}",
            faults.join("\n"),
            self.story.join("\n")
        );
        let short = self.episodes.len() - long;
        assert!(
            scenes > FAULTS.len() && long > scenes && short > 0,
            "seed {seed}: {scenes} scenes, {long} long episodes and {short} short ones prove little"
        );
    }

    fn below(&self, limit: u64) -> u64 {
        self.chance.next_u64() % limit
    }

    /// Gives a span between two numbers of seconds.
    fn seconds(&self, least: u64, most: u64) -> Duration {
        Duration::from_secs(least + self.below(most - least))
    }

    fn shuffled<T: Clone>(&self, items: &[T]) -> Vec<T> {
        let mut items = items.to_vec();
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
        items
    }

    /// Plays one scene to its end, when nothing is wrong any more and everything has been told.
    async fn scene(&mut self, fault: Fault) {
        let troubles = self.troubles(fault);
        let mut plan = self.plan(fault, &troubles);
        plan.sort_by_key(|(at, _)| *at);
        let start = self.site.clock.monotonic();
        self.story.push(format!("{start:?} {fault:?}"));
        for (at, act) in plan {
            let now = self.site.clock.monotonic();
            self.site.pass((start + at).saturating_sub(now)).await;
            self.act(act, &troubles, fault).await;
        }
        let rest = match fault {
            // The longest pause between two attempts, twice the group's interval, and a minute.
            Fault::Receivers => 8 * MINUTE,
            _ => 4 * MINUTE + self.seconds(0, 120),
        };
        self.site.pass(rest).await;
        self.expect_firing(&BTreeSet::new(), &BTreeSet::new()).await;
        assert_eq!(self.site.get("/health").await["status"], "healthy");
    }

    /// Asserts that the history holds each long episode and nothing else.
    async fn expect_no_other_alerts(&self) {
        let page = self.site.get("/api/v1/alerts?limit=1000").await;
        let mut left: BTreeMap<Name, i64> = BTreeMap::new();
        for alert in page["items"].as_array().expect("a list") {
            *left.entry(name_of(alert)).or_default() += 1;
        }
        for episode in self.episodes.iter().filter(|episode| episode.is_long) {
            *left.entry(episode.name()).or_default() -= 1;
        }
        left.retain(|_, count| *count != 0);
        let of_those = |alert: &&Value| left.contains_key(&name_of(alert));
        let items = page["items"].as_array().expect("a list");
        assert!(
            left.is_empty(),
            "seed {}: alerts in the history beyond the long episodes: {left:?}\n{:#?}\nthe day:\n{}",
            self.seed,
            items.iter().filter(of_those).map(told).collect::<Vec<_>>(),
            self.story.join("\n")
        );
    }

    /// Decides what is wrong in a scene. Several targets at once, and all of it before the fault where there is one.
    fn troubles(&self, fault: Fault) -> Vec<Trouble> {
        let count = 1 + self.below(3) as usize;
        let is_calm = matches!(fault, Fault::None | Fault::Receivers);
        let troubles = self.shuffled(&TARGETS).into_iter().take(count).map(|target| {
            let kind = [Kind::QueueLong, Kind::Stuck, Kind::TargetDown][self.below(3) as usize];
            let weathers = [Weather::Away, Weather::Refuses(503, None), Weather::Hangs];
            let is_long = !is_calm || self.below(3) > 0;
            let begin = self.seconds(0, 60);
            let hold_s = kind.hold_for().as_secs();
            let end = match (is_calm, is_long) {
                (true, true) => begin + self.seconds(hold_s + 180, hold_s + 900),
                // With the last scrape and the last evaluation that see it, it still seems shorter than `for`.
                (true, false) => begin + self.seconds(5, hold_s - 50),
                (false, _) => Duration::MAX,
            };
            Trouble {
                target,
                kind,
                weather: weathers[self.below(3) as usize].clone(),
                begin,
                end,
                is_long,
            }
        });
        troubles.collect()
    }

    /// Gives what happens when, from the scene's beginning.
    fn plan(&self, fault: Fault, troubles: &[Trouble]) -> Vec<(Duration, Act)> {
        let mut plan: Vec<(Duration, Act)> = Vec::new();
        let fault_at = Duration::from_secs(60) + self.seconds(20, 400);
        let fault_over = match fault {
            Fault::Restart(away_s) => {
                plan.push((fault_at, Act::Stop));
                plan.push((fault_at + Duration::from_secs(away_s), Act::Start));
                fault_at + Duration::from_secs(away_s)
            }
            Fault::Jump(millis) => {
                plan.push((fault_at, Act::Jump(millis)));
                fault_at
            }
            Fault::Receivers => {
                for receiver in RECEIVERS {
                    let (from, span) = (self.seconds(0, 600), self.seconds(10, 480));
                    plan.push((from, Act::Weather(receiver, self.bad_weather())));
                    plan.push((from + span, Act::Weather(receiver, Weather::Fair)));
                }
                Duration::ZERO
            }
            Fault::None => Duration::ZERO,
        };
        for (number, trouble) in troubles.iter().enumerate() {
            let end = match trouble.end {
                // After a jump ahead a pending condition may have to begin anew.
                Duration::MAX => fault_over + trouble.kind.hold_for() + self.seconds(240, 600),
                end => end,
            };
            plan.push((trouble.begin, Act::Begin(number)));
            plan.push((end, Act::End(number)));
            if trouble.is_long {
                plan.push((end - Duration::from_secs(1), Act::Look));
            }
        }
        plan
    }

    fn bad_weather(&self) -> Weather {
        let after = self.seconds(5, 120).as_secs();
        match self.below(7) {
            0 => Weather::Refuses(500, None),
            1 => Weather::Refuses(429, Some(after)),
            2 => Weather::Refuses(429, None),
            3 => Weather::Hangs,
            4 => Weather::Away,
            5 => Weather::Cuts,
            _ => Weather::Slow(Duration::from_secs(3)),
        }
    }

    async fn act(&mut self, act: Act, troubles: &[Trouble], fault: Fault) {
        let now = self.site.clock.monotonic();
        self.story.push(format!("  {now:?} {act:?}"));
        match act {
            Act::Begin(number) => {
                self.show(&troubles[number], true);
                self.episodes.push(episode(&troubles[number], fault, now));
            }
            Act::End(number) => {
                let trouble = &troubles[number];
                self.show(trouble, false);
                let known = self
                    .episodes
                    .iter()
                    .rposition(|one| one.instance == trouble.target);
                let number = known.expect("it began before");
                let told_at = self.told_at(fault, &self.episodes[number]);
                let episode = &mut self.episodes[number];
                episode.end = now;
                episode.told_within = told_at.map(|at| at - episode.begin);
            }
            Act::Stop => self.site.stop().await,
            Act::Start => {
                self.site.start().await;
                self.fault_over = self.site.clock.monotonic();
            }
            Act::Jump(millis) => {
                self.site.jump(millis).await;
                self.fault_over = self.site.clock.monotonic();
                let since = self.site.clock.now();
                self.site.pass(RECOVERY).await;
                assert_evaluated_since(&self.site, since).await;
            }
            Act::Weather(receiver, weather) => self.site.world.set_weather(receiver, weather),
            Act::Look => self.look(fault).await,
        }
    }

    /// Lets a trouble begin or end at its target.
    fn show(&self, trouble: &Trouble, is_wrong: bool) {
        let world = &self.site.world;
        match trouble.kind {
            Kind::TargetDown if is_wrong => world.set_weather(trouble.target, trouble.weather.clone()),
            Kind::TargetDown => world.set_weather(trouble.target, Weather::Fair),
            Kind::QueueLong => world.serve(trouble.target, text(is_wrong, false)),
            Kind::Stuck => world.serve(trouble.target, text(false, is_wrong)),
        }
    }

    /// Says until when an open long episode must have been told; `None` where the receivers decide.
    fn told_at(&self, fault: Fault, episode: &Episode) -> Option<Duration> {
        let held = episode.begin + episode.hold_for;
        let recovered = self.fault_over + RECOVERY;
        let sure = match fault {
            Fault::None => held,
            Fault::Receivers => return None,
            // The time of absence counts: up to an hour nothing begins anew.
            Fault::Restart(_) => held.max(recovered),
            // A clock that was set back costs no more than what it takes to find the pace again.
            Fault::Jump(millis) if millis < 0 => held.max(self.fault_over) + RECOVERY,
            // A jump ahead of an hour or more is a gap of which nobody knows anything: what pends begins anew.
            Fault::Jump(_) => held.max(recovered + episode.hold_for),
        };
        Some(sure + TELLING)
    }

    /// Asserts that the API shows as firing what must have been told by now, and nothing that is not wrong.
    async fn look(&self, fault: Fault) {
        let now = self.site.clock.monotonic();
        let long = || self.episodes.iter().filter(|episode| episode.is_long);
        let open = || long().filter(|episode| episode.end == Duration::MAX);
        let seen = || long().filter(|episode| episode.end.saturating_add(SEEING) > now);
        let sure = |episode: &&Episode| {
            let told_at = self.told_at(fault, episode);
            told_at.unwrap_or(episode.begin + episode.hold_for + TELLING) <= now
        };
        self.expect_firing(&names(open().filter(sure)), &names(seen()))
            .await;
    }

    async fn expect_firing(&self, least: &BTreeSet<Name>, most: &BTreeSet<Name>) {
        let items = firing(&self.site).await;
        let shown: BTreeSet<Name> = items.iter().map(name_of).collect();
        assert!(
            shown.is_superset(least) && shown.is_subset(most) && shown.len() == items.len(),
            "seed {}: firing are {shown:?}; at least {least:?} and at most {most:?} should\nthe day:\n{}",
            self.seed,
            self.story.join("\n")
        );
    }
}

/// Gives alert and instance.
fn name_of(alert: &Value) -> Name {
    let label = |name: &str| alert["labels"][name].as_str().unwrap_or("").to_owned();
    (label("alertname"), label("instance"))
}

/// Gives what a reader of a failure wants to know of an alert.
fn told(alert: &Value) -> String {
    format!(
        "{:?} from {} to {}",
        name_of(alert),
        alert["fired_at"],
        alert["resolved_at"]
    )
}

fn names<'a>(episodes: impl Iterator<Item = &'a Episode>) -> BTreeSet<Name> {
    episodes.map(Episode::name).collect()
}

fn text(is_queue_long: bool, is_stuck: bool) -> String {
    format!(
        "queue_length {}\nstuck {}\n",
        if is_queue_long { 25 } else { 3 },
        u8::from(is_stuck)
    )
}

fn episode(trouble: &Trouble, fault: Fault, begin: Duration) -> Episode {
    Episode {
        alert: trouble.kind.alert(),
        instance: trouble.target.to_owned(),
        hold_for: trouble.kind.hold_for(),
        begin,
        end: Duration::MAX,
        is_long: trouble.is_long,
        told_after: match fault {
            Fault::Jump(millis) if millis > 0 => None,
            _ => Some(trouble.kind.hold_for()),
        },
        told_within: None,
        note: format!("with {fault:?}, {:?}", trouble.weather),
    }
}
