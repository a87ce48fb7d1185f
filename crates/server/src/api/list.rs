//! What all lists share: the length of a page, where it begins, and parameters that are not known.

use std::str::FromStr;

use serde_json::{Value, json};

use marketprism_model::Timestamp;

use crate::problem::Problem;
use crate::prometheus::params::{Params, parse_time};

/// The page of a list when the client names no limit.
pub const LIMIT_DEFAULT: usize = 100;
/// The longest page of a list.
pub const LIMIT_MAX: usize = 1000;

/// Refuses parameters that are not among `known`, so that a misspelt one is not "all".
pub fn known_only(params: &Params, known: &[&str]) -> Result<(), Problem> {
    match params.names().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let reason = match known {
                [] => "unknown; no parameter is known here".to_owned(),
                _ => format!("unknown; known are {}", known.join(", ")),
            };
            Err(Problem::bad_parameter(&format!("{name:.64}"), reason))
        }
    }
}

/// Reads a parameter that may be repeated or hold several words with commas between.
pub fn words<T: FromStr>(params: &Params, name: &str) -> Result<Vec<T>, Problem>
where
    T::Err: std::fmt::Display,
{
    params
        .all(name)
        .flat_map(|value| value.split(','))
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|error| Problem::bad_parameter(name, error)))
        .collect()
}

/// Gives a text as it stands; `None` when it is empty or absent.
pub fn word(params: &Params, name: &str) -> Option<String> {
    Some(params.get(name))
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// Reads one word; `None` when it is empty or absent.
pub fn one_word<T: FromStr>(params: &Params, name: &str) -> Result<Option<T>, Problem>
where
    T::Err: std::fmt::Display,
{
    match params.get(name) {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|error| Problem::bad_parameter(name, error)),
    }
}

/// Reads a moment, seconds since the epoch or RFC 3339; `None` when it is absent.
pub fn moment(params: &Params, name: &str) -> Result<Option<Timestamp>, Problem> {
    match params.get(name) {
        "" => Ok(None),
        text => parse_time(text)
            .map(Some)
            .map_err(|reason| Problem::bad_parameter(name, reason)),
    }
}

/// Reads the length of a page.
pub fn limit(params: &Params) -> Result<usize, Problem> {
    match params.get("limit") {
        "" => Ok(LIMIT_DEFAULT),
        text => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| {
                Problem::bad_parameter(
                    "limit",
                    format_args!("{text:?} is not a number from 1 to {LIMIT_MAX}"),
                )
            }),
    }
}

/// Reads where the page begins.
pub fn cursor(params: &Params) -> Option<String> {
    Some(params.get("cursor"))
        .filter(|cursor| !cursor.is_empty())
        .map(str::to_owned)
}

/// Writes one page of records that are sorted by name; the cursor is the last name of the page before.
pub fn page_by_name<T>(
    params: &Params,
    records: &[T],
    name: fn(&T) -> &str,
    document: fn(&T) -> Value,
) -> Result<Value, Problem> {
    let limit = limit(params)?;
    let after = params.get("cursor");
    let begin = records.partition_point(|record| name(record) <= after);
    let begin = if after.is_empty() { 0 } else { begin };
    let page = &records[begin..records.len().min(begin + limit)];
    let is_last = begin + page.len() == records.len();
    let next = page.last().filter(|_| !is_last).map(name);
    Ok(json!({ "items": page.iter().map(document).collect::<Vec<_>>(), "next_cursor": next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_by_name_hold_each_record_once() {
        let records = ["ann", "bob", "chen", "dora", "eve"];
        let mut found = Vec::new();
        let mut cursor = String::new();
        for _ in 0..3 {
            let query = format!("limit=2&cursor={cursor}");
            let params = Params::parse(&query, b"").expect("few parameters");
            let page = page_by_name(&params, &records, |name| name, |name| json!(name)).expect("a page");
            found.extend(page["items"].as_array().expect("a list").clone());
            cursor = page["next_cursor"].as_str().unwrap_or("").to_owned();
        }
        assert_eq!(found, records);
        assert_eq!(cursor, "");
    }
}
