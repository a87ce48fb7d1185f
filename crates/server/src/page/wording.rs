//! How spans, moments and figures are written for people.

use std::time::Duration;

use jiff::tz::TimeZone;
use marketprism_model::{Id, Timestamp};

use super::language::{Language, Texts};

/// Writes a span in its two largest units: `3 h 5 min`.
pub fn span(texts: &Texts, span: Duration) -> String {
    let seconds = span.as_secs();
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} {}", texts.second),
        60..3_600 => two(seconds / 60, texts.minute, 0, ""),
        3_600..86_400 => two(seconds / 3_600, texts.hour, seconds / 60 % 60, texts.minute),
        _ => two(seconds / 86_400, texts.day, seconds / 3_600 % 24, texts.hour),
    }
}

/// Writes how long something took: `0.4 ms`, `1.2 s`.
pub fn elapsed(span: Duration) -> String {
    let millis = span.as_secs_f64() * 1000.0;
    match millis {
        0.0..10.0 => format!("{millis:.1} ms"),
        10.0..1000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}

/// Writes a moment in the zone of the pages: `2026-08-01 17:30:00`.
pub fn moment(zone: &TimeZone, at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.millis()) {
        Ok(moment) => moment
            .to_zoned_datetime(zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        Err(_) => at.to_string(),
    }
}

/// Writes the zone at a moment: `UTC+08:00`.
pub fn zone_name(zone: &TimeZone, at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.millis()) {
        Ok(moment) => {
            let offset = zone.to_offset(moment).seconds();
            let sign = if offset < 0 { '-' } else { '+' };
            match offset.abs() {
                0 => "UTC".to_owned(),
                size => format!("UTC{sign}{:02}:{:02}", size / 3600, size / 60 % 60),
            }
        }
        Err(_) => "UTC".to_owned(),
    }
}

/// Reasons that the program itself writes into a story, and how a Chinese page says them.
const REASONS: [(&str, &str); 9] = [
    ("the condition cleared", "条件不再成立"),
    ("its data was missing for too long", "数据缺失过久"),
    ("the rule was removed", "规则已删除"),
    (
        "still true one hour after it was resolved by hand",
        "手动关闭一小时后条件仍然成立",
    ),
    ("its sender says that it is over", "发送方报告已恢复"),
    ("its sender no longer speaks of it", "发送方不再上报"),
    ("its time is over", "确认已到期"),
    ("every firing alert is told again", "所有告警都已恢复通知"),
    ("by hand", "手动操作"),
];
/// Reasons that go on with a word of their own, and how a Chinese page begins them.
const REASONS_WITH_WORDS: [(&str, &str); 2] =
    [("by hand: ", "手动操作："), ("the level rose to ", "级别升至 ")];

/// Writes a reason of a story; what the program did not write itself stays as it is.
pub fn reason(language: Language, text: &str) -> String {
    let silenced = text
        .strip_prefix("silenced by ")
        .and_then(|rest| rest.split_once(": "))
        .filter(|(id, _)| id.parse::<Id>().is_ok());
    if let Some((id, why)) = silenced {
        return match language {
            Language::Chinese => format!("已静默：{why}（静默 {id}）"),
            Language::English => format!("silenced: {why} (silence {id})"),
        };
    }
    if language == Language::English {
        return text.to_owned();
    }
    if let Some((_, said)) = REASONS.iter().find(|(known, _)| *known == text) {
        return (*said).to_owned();
    }
    let mut begun = REASONS_WITH_WORDS
        .iter()
        .filter_map(|(known, said)| Some(format!("{said}{}", text.strip_prefix(known)?)));
    begun.next().unwrap_or_else(|| text.to_owned())
}

/// Writes a value for reading, not for computing: at most six significant digits, big ones grouped.
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e15).contains(&size) {
        return format!("{value:.3e}");
    }
    let places = match size {
        1_000.0.. => 0,
        100.0.. => 1,
        1.0.. => 2,
        _ => 4,
    };
    let written = format!("{value:.places$}");
    let (whole, fraction) = written.split_once('.').unwrap_or((&written, ""));
    let fraction = fraction.trim_end_matches('0');
    let grouped = grouped(whole);
    if fraction.is_empty() {
        grouped
    } else {
        format!("{grouped}.{fraction}")
    }
}

/// Writes bytes in binary units: `1.5 MiB`.
pub fn bytes(count: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (count, 0);
    while size.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let places = usize::from(unit > 0 && size.abs() < 100.0);
    format!("{size:.places$} {}", UNITS[unit])
}

fn grouped(whole: &str) -> String {
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut text = String::from(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::language::Language;

    #[test]
    fn reasons_are_told_in_the_language_of_the_page_and_words_of_people_stay() {
        let check = |text: &str, chinese: &str, english: &str| {
            assert_eq!(reason(Language::Chinese, text), chinese);
            assert_eq!(reason(Language::English, text), english);
        };
        check("by hand", "手动操作", "by hand");
        check("by hand: 换盘", "手动操作：换盘", "by hand: 换盘");
        check(
            "its sender no longer speaks of it",
            "发送方不再上报",
            "its sender no longer speaks of it",
        );
        let id = "0190163d-8694-739b-aea5-966c26f8ad91";
        check(
            &format!("silenced by {id}: 维护"),
            &format!("已静默：维护（静默 {id}）"),
            &format!("silenced: 维护 (silence {id})"),
        );
        check(
            "silenced by li: why",
            "silenced by li: why",
            "silenced by li: why",
        );
        check("on it", "on it", "on it");
    }

    #[test]
    fn spans_are_told_in_two_units() {
        let check = |seconds, english: &str, chinese: &str| {
            let long = Duration::from_secs(seconds);
            assert_eq!(span(Language::English.texts(), long), english);
            assert_eq!(span(Language::Chinese.texts(), long), chinese);
        };
        check(0, "0 s", "0 秒");
        check(59, "59 s", "59 秒");
        check(725, "12 min", "12 分钟");
        check(11_100, "3 h 5 min", "3 小时 5 分钟");
        check(7_200, "2 h", "2 小时");
        check(90_000, "1 d 1 h", "1 天 1 小时");
    }

    #[test]
    fn figures_keep_what_a_person_reads() {
        let check = |value, text: &str| assert_eq!(figure(value), text);
        check(0.0, "0");
        check(97.2541, "97.25");
        check(1_234_567.8, "1\u{202f}234\u{202f}568");
        check(-1234.0, "-1\u{202f}234");
        check(0.00012, "0.0001");
        check(0.5, "0.5");
        check(100.0, "100");
        check(f64::NAN, "NaN");
        check(2e20, "2.000e20");
    }

    #[test]
    fn moments_are_told_in_the_zone_of_the_pages() {
        let shanghai = TimeZone::get("Asia/Shanghai").expect("the database is bundled");
        let at = Timestamp::from_millis(1_709_210_096_789);
        // `TZ=Asia/Shanghai date -d @1709210096`
        assert_eq!(moment(&shanghai, at), "2024-02-29 20:34:56");
        assert_eq!(zone_name(&shanghai, at), "UTC+08:00");
        assert_eq!(zone_name(&TimeZone::UTC, at), "UTC");
    }

    #[test]
    fn bytes_are_told_in_binary_units() {
        let check = |count, text: &str| assert_eq!(bytes(count), text);
        check(0.0, "0 B");
        check(1536.0, "1.5 KiB");
        check(314_572_800.0, "300 MiB");
    }
}
