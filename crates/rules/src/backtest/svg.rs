//! A report as a picture: a row an alert, its states in colour and in shape.
//!
//! Colours follow the reader's light or dark preference; shape tells the same without colour: pending is a low hatched
//! bar, firing a full one, and the level is its height and a letter. Text is SVG text, so that it can be searched.
//! Deliberately absent: scripts, and anything from outside the file.

use std::fmt::Write as _;

use marketprism_model::{AlertState, Level, Timestamp};

use crate::backtest::run::Report;
use crate::backtest::story::{AlertStory, RuleStory, Stretch};
use crate::language::Language;
use crate::xml::escaped;

const WIDTH: f64 = 1200.0;
const NAMES_WIDTH: f64 = 330.0;
const FIGURES_WIDTH: f64 = 150.0;
const MARGIN: f64 = 20.0;
const ROW: f64 = 24.0;
const BAR: f64 = 16.0;
/// A picture has this many rows; the others are counted.
const ROWS_MAX: usize = 200;
/// A row has this many bars; what is closer than a pixel is drawn as one.
const BARS_MAX: usize = 2_000;

const STYLE: &str = "<style>\
:root{--paper:#fff;--ink:#1f2328;--dim:#59636e;--line:#d1d9e0;--band:#f6f8fa;--pending:#9a6700;--low:#0969da;\
--medium:#bf8700;--high:#bc4c00;--critical:#cf222e}\
@media (prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--dim:#9198a1;--line:#3d444d;--band:#151b23;\
--pending:#d29922;--low:#4493f8;--medium:#e3b341;--high:#f0883e;--critical:#f85149}}\
text{font:12px system-ui,'Noto Sans','Noto Sans CJK SC','PingFang SC','Microsoft YaHei',sans-serif;fill:var(--ink)}\
.title{font-size:16px;font-weight:600}.rule{font-weight:600}.dim{fill:var(--dim)}.end{text-anchor:end}\
.middle{text-anchor:middle}.letter{font-size:10px;font-weight:700;fill:var(--paper);text-anchor:middle}\
.paper{fill:var(--paper)}.band{fill:var(--band)}.grid{stroke:var(--line)}\
.pending{fill:url(#hatch);stroke:var(--pending)}.low{fill:var(--low)}.medium{fill:var(--medium)}.high{fill:var(--high)}\
.critical{fill:var(--critical)}</style>\
<pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
<line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"5\" stroke=\"var(--pending)\" stroke-width=\"2\"/></pattern>";

/// Draws a report.
pub fn svg(report: &Report, language: Language) -> String {
    let mut picture = Picture {
        report,
        language,
        body: String::new(),
        y: 96.0,
    };
    let mut rows = 0;
    for rule in &report.rules {
        if rule.kind != "alerting" {
            continue;
        }
        picture.rule(rule);
        for alert in rule.alerts.iter().take(ROWS_MAX.saturating_sub(rows)) {
            picture.alert(rule, alert, rows % 2 == 0);
            rows += 1;
        }
        if rule.alerts.is_empty() {
            let words = language.of("未触发", "never active");
            picture.text(MARGIN + 12.0, "dim", words);
            picture.y += ROW;
        }
        if rows >= ROWS_MAX {
            break;
        }
    }
    let total: usize = report.rules.iter().map(|rule| rule.alerts.len()).sum();
    if total > rows {
        let words = match language {
            Language::Chinese => format!("另有 {} 条告警未画出", total - rows),
            Language::English => format!("{} more alerts are not drawn", total - rows),
        };
        picture.text(MARGIN, "dim", &words);
        picture.y += ROW;
    }
    picture.finish()
}

struct Picture<'a> {
    report: &'a Report,
    language: Language,
    body: String,
    y: f64,
}

impl Picture<'_> {
    fn x(&self, at: Timestamp) -> f64 {
        let length = self.report.end.since(self.report.start).as_secs_f64().max(0.001);
        let passed = at.since(self.report.start).as_secs_f64();
        MARGIN + NAMES_WIDTH + (passed / length).clamp(0.0, 1.0) * chart_width()
    }

    fn text(&mut self, x: f64, class: &str, words: &str) {
        let y = self.y + 15.0;
        let _ = write!(
            self.body,
            "<text x=\"{x:.0}\" y=\"{y:.0}\" class=\"{class}\">{}</text>",
            escaped(words)
        );
    }

    fn rule(&mut self, rule: &RuleStory) {
        self.y += 6.0;
        let words = match self.language {
            Language::Chinese => format!("触发 {} 次 · 抖动 {}", rule.fired, rule.flaps),
            Language::English => format!("fired {} × · {} flaps", rule.fired, rule.flaps),
        };
        let name = shortened(&rule.name, 44);
        self.text(MARGIN, "rule", &name);
        self.text(WIDTH - MARGIN, "dim end", &words);
        self.y += ROW;
        if rule.failures > 0 {
            let words = match self.language {
                Language::Chinese => format!("{} 次评估失败", rule.failures),
                Language::English => format!("{} evaluations failed", rule.failures),
            };
            let error = rule.last_error.as_deref().unwrap_or_default();
            self.text(
                MARGIN + 12.0,
                "dim",
                &shortened(&format!("{words}: {error}"), 150),
            );
            self.y += ROW;
        }
    }

    fn alert(&mut self, rule: &RuleStory, alert: &AlertStory, has_band: bool) {
        let y = self.y;
        if has_band {
            let width = WIDTH - 2.0 * MARGIN;
            let _ = write!(
                self.body,
                "<rect x=\"{MARGIN}\" y=\"{y:.0}\" width=\"{width}\" height=\"{ROW}\" class=\"band\"/>"
            );
        }
        let labels = alert
            .labels
            .iter()
            .filter(|(name, _)| *name != "alertname" && *name != "severity");
        let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
        let labels = if labels.is_empty() {
            rule.name.clone()
        } else {
            labels.join(" ")
        };
        let _ = write!(
            self.body,
            "<g><title>{}</title>",
            escaped(&alert.labels.to_string())
        );
        self.text(MARGIN + 12.0, "", &shortened(&labels, 50));
        self.body += "</g>";
        self.bars(alert);
        let words = format!("{} × · {}", alert.fired, span(alert.firing_s));
        self.text(WIDTH - MARGIN, "dim end", &words);
        self.y += ROW;
    }

    /// Draws a row's bars. What would lie within a pixel of the bar before, and means the same, becomes part of it.
    fn bars(&mut self, alert: &AlertStory) {
        let mut bars: Vec<(f64, f64, &Stretch)> = Vec::new();
        for stretch in &alert.stretches {
            let (from, to) = (self.x(stretch.from), self.x(stretch.to));
            let to = to.max(from + 1.0);
            let has_room = bars.len() < BARS_MAX;
            match bars.last_mut() {
                Some((_, last, before))
                    if from - *last < 1.0
                        && to - *last < 1.5
                        && before.state == stretch.state
                        && before.level == stretch.level =>
                {
                    *last = last.max(to);
                }
                _ if has_room => bars.push((from, to, stretch)),
                _ => break,
            }
        }
        for (from, to, stretch) in bars {
            self.bar(from, to, stretch);
        }
    }

    fn bar(&mut self, from: f64, to: f64, stretch: &Stretch) {
        let is_firing = stretch.state == AlertState::Firing;
        let (class, height, letter) = match (is_firing, stretch.level) {
            (false, _) => ("pending", 6.0, ""),
            (true, Level::Low) => ("low", 8.0, "L"),
            (true, Level::Medium) => ("medium", 10.0, "M"),
            (true, Level::High) => ("high", 13.0, "H"),
            (true, Level::Critical) => ("critical", BAR, "C"),
        };
        let y = self.y + 4.0 + (BAR - height);
        let width = to - from;
        let what = if is_firing {
            stretch.level.as_str()
        } else {
            "pending"
        };
        let until = if stretch.is_open {
            "…".to_owned()
        } else {
            stretch.to.to_string()
        };
        let _ = write!(
            self.body,
            "<rect x=\"{from:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{height:.0}\" class=\"{class}\"><title>{what} {} – \
             {until}</title></rect>",
            stretch.from
        );
        if width > 14.0 && height >= 10.0 {
            let (x, y) = (from + width / 2.0, self.y + 4.0 + BAR - (height - 7.0) / 2.0);
            let _ = write!(
                self.body,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"letter\">{letter}</text>"
            );
        }
    }

    fn finish(self) -> String {
        let height = self.y + 16.0;
        let language = self.language;
        let report = self.report;
        let title = language.of("规则回测", "Backtest of rules");
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
             height=\"{height:.0}\" role=\"img\" lang=\"{}\"><title>{title}</title>{STYLE}<rect width=\"100%\" height=\"100%\" \
             class=\"paper\"/>",
            language.of("zh-CN", "en")
        );
        let _ = write!(
            out,
            "<text x=\"{MARGIN}\" y=\"30\" class=\"title\">{title}</text>"
        );
        let _ = write!(
            out,
            "<text x=\"{MARGIN}\" y=\"50\" class=\"dim\">{} – {}</text>",
            report.start, report.end
        );
        out += &legend(language);
        out += &self.grid(height);
        out += &self.body;
        out += "</svg>\n";
        out
    }

    /// Draws lines at round times, and their names.
    fn grid(&self, height: f64) -> String {
        let (start, end) = (self.report.start.millis(), self.report.end.millis());
        let step = step_ms(end - start);
        let mut out = String::new();
        let mut at = start.div_euclid(step) * step;
        while at <= end {
            if at >= start {
                let x = self.x(Timestamp::from_millis(at));
                let bottom = height - 12.0;
                let _ = write!(
                    out,
                    "<line x1=\"{x:.1}\" y1=\"88\" x2=\"{x:.1}\" y2=\"{bottom:.0}\" class=\"grid\"/><text x=\"{x:.1}\" y=\"82\" \
                     class=\"dim middle\">{}</text>",
                    moment(at, step)
                );
            }
            at += step;
        }
        out
    }
}

fn chart_width() -> f64 {
    WIDTH - NAMES_WIDTH - FIGURES_WIDTH - 2.0 * MARGIN
}

fn legend(language: Language) -> String {
    let entries = [
        ("pending", 6.0, language.of("等待中", "pending")),
        ("low", 8.0, language.of("低", "low")),
        ("medium", 10.0, language.of("中", "medium")),
        ("high", 13.0, language.of("高", "high")),
        ("critical", 16.0, language.of("严重", "critical")),
    ];
    let mut out = String::new();
    let mut x = WIDTH - MARGIN - 90.0 * entries.len() as f64;
    for (class, height, words) in entries {
        let y = 20.0 + (BAR - height);
        let _ = write!(
            out,
            "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"20\" height=\"{height:.0}\" class=\"{class}\"/><text x=\"{:.0}\" \
             y=\"33\">{words}</text>",
            x + 26.0
        );
        x += 90.0;
    }
    out
}

/// Chooses the distance of the lines so that about eight fit.
fn step_ms(length_ms: i64) -> i64 {
    const STEPS_MIN: [i64; 16] = [
        1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 14_400, 43_200,
    ];
    let wanted = length_ms / 8;
    let found = STEPS_MIN
        .into_iter()
        .map(|minutes| minutes * 60_000)
        .find(|step| *step >= wanted);
    found.unwrap_or_else(|| (wanted / 86_400_000 + 1) * 86_400_000)
}

/// Writes a moment as short as the distance of the lines allows; times are UTC.
fn moment(at_ms: i64, step_ms: i64) -> String {
    let whole = Timestamp::from_millis(at_ms).to_string();
    let (date, time) = whole.split_once('T').unwrap_or((&whole, ""));
    let (date, time) = (date.get(5..).unwrap_or(date), time.get(..5).unwrap_or(time));
    if step_ms >= 86_400_000 {
        date.to_owned()
    } else if time == "00:00" {
        format!("{date} {time}")
    } else {
        time.to_owned()
    }
}

/// Writes a span of time with its two largest units.
pub fn span(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) if seconds > 0 => format!("{minutes}m{seconds}s"),
        (0, 0, _) => format!("{minutes}m"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

fn shortened(text: &str, characters: usize) -> String {
    // A Chinese character is twice as wide.
    let mut width = 0;
    let mut out = String::new();
    for c in text.chars() {
        width += if (c as u32) < 0x1100 { 1 } else { 2 };
        if width > characters {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}
