//! The page an operator keeps open: how it stands, what fires, who was told, what is watched.
//!
//! Each section stands alone: what cannot be read says so, and the others are still there.

use std::collections::BTreeMap;
use std::time::Duration;

use marketprism_collect::scrape::TargetHealth;
use marketprism_model::{Alert, DeliveryAttempt, Level, Notification, Timestamp};
use maud::{Markup, html};
use serde_json::Value;

use super::alert_list::{alert_row, is_sign_of_life, notification_row};
use super::figures::FIGURES;
use super::frame::{View, card, empty, shape, unreadable};
use super::wording;
use crate::readiness::Phase;

/// A list shows at most this many entries; a further one only says that there are more.
pub const ROWS_MAX: usize = 100;

/// What is well is folded away when it takes more lines than this.
const FINE_ROWS_MAX: usize = 6;

/// What could be read of a section, or why nothing could.
pub type Section<T> = Result<T, String>;

/// One line of the list of targets.
pub struct TargetRow {
    /// The job it belongs to.
    pub job: String,
    /// Its instance label.
    pub instance: String,
    /// How it stands.
    pub health: TargetHealth,
    /// When it was last scraped.
    pub last_scrape: Option<Timestamp>,
    /// Why the last scrape failed, possibly nothing.
    pub error: String,
}

/// One line of the list of rule groups.
pub struct GroupRow {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// How many rules it has.
    pub rule_count: usize,
    /// How often it runs.
    pub interval: Duration,
    /// How long its last run took; `None` before the first.
    pub took: Option<Duration>,
    /// How many runs were missed.
    pub missed: u64,
    /// Rules whose last evaluation failed, and why.
    pub errors: Vec<(String, String)>,
}

/// Everything the page shows.
pub struct Overview {
    /// Whether requests may come.
    pub phase: Phase,
    /// What stands still, when something does.
    pub health: Result<(), String>,
    /// Firing alerts, the worst first.
    pub firing: Section<Vec<Alert>>,
    /// Pending alerts, the worst first.
    pub pending: Section<Vec<Alert>>,
    /// The last notifications with their attempts, newest first.
    pub notifications: Section<Vec<(Notification, Vec<DeliveryAttempt>)>>,
    /// Targets.
    pub targets: Vec<TargetRow>,
    /// Rule groups.
    pub groups: Vec<GroupRow>,
    /// Figures by section.
    pub figures: BTreeMap<&'static str, Value>,
}

/// Draws the page's inside.
pub fn overview(view: &View, overview: &Overview) -> Markup {
    let texts = view.language.texts();
    html! {
        (hero(view, overview))
        (alerts(view, "firing", texts.firing_alerts, texts.no_firing, &overview.firing))
        @if overview.pending.as_ref().is_ok_and(|pending| !pending.is_empty()) || overview.pending.is_err() {
            (alerts(view, "pending", texts.pending_alerts, texts.no_pending, &overview.pending))
        }
        (notifications(view, &overview.notifications))
        div.half { (targets(view, &overview.targets)) }
        div.half { (groups(view, &overview.groups)) }
        (figures(view, &overview.figures))
    }
}

/// Sorts alerts as the page shows them: the worst first, then the newest; signs of life last.
pub fn sort_by_urgency(alerts: &mut [Alert]) {
    let since = |alert: &Alert| alert.fired_at.unwrap_or(alert.active_at);
    alerts.sort_by(|a, b| {
        b.level
            .cmp(&a.level)
            .then(since(b).cmp(&since(a)))
            .then(a.id.cmp(&b.id))
    });
}

fn hero(view: &View, overview: &Overview) -> Markup {
    let texts = view.language.texts();
    let troubles = overview
        .firing
        .as_deref()
        .unwrap_or(&[])
        .iter()
        .filter(|alert| !is_sign_of_life(alert));
    let firing: Vec<&Alert> = troubles.collect();
    let worst = firing.iter().map(|alert| alert.level).max();
    let class = match worst {
        _ if overview.health.is_err() || overview.firing.is_err() => "critical",
        Some(level) => level.as_str(),
        None => "quiet",
    };
    let (phase_class, phase) = match &overview.phase {
        Phase::Starting(_) | Phase::StandingBy { .. } => ("pill wait", texts.phase_starting),
        Phase::Ready => ("pill good", texts.phase_ready),
        Phase::Draining => ("pill wait", texts.phase_draining),
    };
    html! {
        section class=(format!("card hero {class}")) {
            h1 {
                @match (&overview.health, &overview.firing) {
                    (Err(reason), _) => { (texts.unhealthy) ": " (reason) }
                    (_, Err(_)) => { (texts.unhealthy) }
                    _ if firing.is_empty() => { "✓ " (texts.all_quiet) }
                    _ => { (count(firing.len())) " " (texts.alerts_firing) }
                }
            }
            div.levels {
                @for level in Level::ALL {
                    @let count = firing.iter().filter(|alert| alert.level == level).count();
                    span class=(if count > 0 { format!("tally {level}") } else { "tally".to_owned() }) {
                        (shape(level)) (level.priority()) " " b { (count) }
                    }
                }
            }
            div.state {
                span class=(phase_class) { (phase) }
                @if overview.health.is_ok() { span.pill.good { (texts.healthy) } }
                @else { span.pill.bad { (texts.unhealthy) } }
            }
        }
    }
}

fn count(found: usize) -> String {
    if found > ROWS_MAX {
        format!("{ROWS_MAX}+")
    } else {
        found.to_string()
    }
}

fn alerts(view: &View, id: &str, heading: &str, none: &str, alerts: &Section<Vec<Alert>>) -> Markup {
    let body = match alerts {
        Err(reason) => unreadable(view, reason),
        Ok(alerts) if alerts.is_empty() => empty(none),
        Ok(alerts) => html! {
            ul.rows { @for alert in alerts.iter().take(ROWS_MAX) { (alert_row(view, alert)) } }
            @if alerts.len() > ROWS_MAX { p.soft { "… " (view.language.texts().more_not_shown) } }
        },
    };
    card(
        id,
        heading,
        alerts.as_ref().ok().map(|alerts| alerts.len().min(ROWS_MAX)),
        &body,
    )
}

fn notifications(view: &View, told: &Section<Vec<(Notification, Vec<DeliveryAttempt>)>>) -> Markup {
    let texts = view.language.texts();
    let body = match told {
        Err(reason) => unreadable(view, reason),
        Ok(told) if told.is_empty() => empty(texts.no_notifications),
        Ok(told) => html! {
            ul.rows { @for (notification, attempts) in told { (notification_row(view, notification, attempts)) } }
        },
    };
    card("notifications", texts.notifications, None, &body)
}

fn targets(view: &View, targets: &[TargetRow]) -> Markup {
    let texts = view.language.texts();
    let mut jobs: BTreeMap<&str, Vec<&TargetRow>> = BTreeMap::new();
    for target in targets {
        jobs.entry(&target.job).or_default().push(target);
    }
    let body = html! {
        @if jobs.is_empty() { (empty(texts.no_targets)) }
        @for (job, targets) in &mut jobs {
            @let up = targets.iter().filter(|target| target.health == TargetHealth::Up).count();
            @let has_down = targets.iter().any(|target| target.health == TargetHealth::Down);
            div.job {
                span { (job) }
                span class=(if has_down { "pill bad" } else if up == targets.len() { "pill good" } else { "pill wait" }) {
                    (up) "/" (targets.len()) " " (texts.up)
                }
            }
            (folded(targets, |target| target.health == TargetHealth::Up, |target| target_row(view, target), texts.up))
        }
    };
    card("targets", texts.targets, Some(targets.len()), &body)
}

/// Draws what needs a look in full, and what is well folded away once it is more than a few lines.
fn folded<T>(rows: &[T], is_well: impl Fn(&T) -> bool, draw: impl Fn(&T) -> Markup, well: &str) -> Markup {
    let (fine, troubled): (Vec<&T>, Vec<&T>) = rows.iter().partition(|row| is_well(row));
    let list = |rows: &[&T]| html! { ul.rows { @for row in rows.iter().take(ROWS_MAX) { (draw(row)) } } };
    html! {
        @if !troubled.is_empty() { (list(&troubled)) }
        @if fine.len() > FINE_ROWS_MAX {
            details { summary { (fine.len()) " " (well) } (list(&fine)) }
        } @else if !fine.is_empty() { (list(&fine)) }
    }
}

fn target_row(view: &View, target: &TargetRow) -> Markup {
    let texts = view.language.texts();
    let (class, health) = match target.health {
        TargetHealth::Up => ("pill good", texts.up),
        TargetHealth::Down => ("pill bad", texts.down),
        TargetHealth::Unknown => ("pill wait", texts.unknown),
    };
    html! {
        li {
            div.what {
                (target.instance)
                @if !target.error.is_empty() { div.fault.soft { (target.error) } }
            }
            div.when {
                span class=(class) { (health) } " "
                span.soft {
                    @match target.last_scrape {
                        Some(at) => span title=(texts.last_scrape) { (view.since(at)) },
                        None => (texts.never),
                    }
                }
            }
        }
    }
}

fn groups(view: &View, groups: &[GroupRow]) -> Markup {
    let texts = view.language.texts();
    let body = html! {
        @if groups.is_empty() { (empty(texts.no_rules)) }
        (folded(groups, |group| group.errors.is_empty(), |group| group_row(view, group), texts.no_errors))
    };
    card("rules", texts.rule_groups, Some(groups.len()), &body)
}

fn group_row(view: &View, group: &GroupRow) -> Markup {
    let texts = view.language.texts();
    html! {
        li {
            div.what {
                span.name { (group.name) }
                div.soft {
                    (group.file) " · " (group.rule_count) " " (texts.rules) " · "
                    (texts.every) " " (wording::span(texts, group.interval))
                    @if let Some(took) = group.took { " · " (texts.took) " " (wording::elapsed(took)) }
                    @if group.missed > 0 { " · " (group.missed) " " (texts.missed) }
                }
                @for (rule, error) in group.errors.iter().take(5) { div.fault.soft { b { (rule) } ": " (error) } }
            }
            div.when {
                @if group.errors.is_empty() { span.pill.good { (texts.no_errors) } }
                @else { span.pill.bad { (group.errors.len()) " " (texts.with_errors) } }
            }
        }
    }
}

fn figures(view: &View, sections: &BTreeMap<&'static str, Value>) -> Markup {
    let texts = view.language.texts();
    let rows: Vec<(&str, String)> = FIGURES
        .iter()
        .filter_map(|figure| {
            let value = sections.get(figure.section)?.get(figure.key)?;
            Some((figure.name(view.language), figure.written(view, value)?))
        })
        .collect();
    let body = html! {
        @if rows.is_empty() { (empty(texts.no_figures)) }
        dl.figures { @for (name, value) in &rows { div { dt { (name) } dd.number { (value) } } } }
    };
    card("store", texts.store, None, &body)
}
