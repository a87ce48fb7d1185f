//! What a peer answered, and whether two answers are the same.
//!
//! The order of series is not part of an answer, except where the language promises one, which no query
//! of the runs needs.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Series by their labels, each with its points: seconds and value.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Answer(pub BTreeMap<String, Vec<(f64, f64)>>);

impl Answer {
    /// Reads the JSON of `query` or `query_range`.
    pub fn read(body: &[u8]) -> Result<Self> {
        let json: Value = serde_json::from_slice(body).context("answer is no JSON")?;
        ensure!(json["status"] == "success", "refused: {}", json["error"]);
        let data = &json["data"];
        if data["resultType"] == "scalar" {
            return Ok(Answer(BTreeMap::from([(
                String::new(),
                vec![point(&data["result"])?],
            )])));
        }
        let list = data["result"].as_array().context("answer has no result")?;
        let mut series = BTreeMap::new();
        for entry in list {
            let points = match entry["values"].as_array() {
                Some(values) => values.iter().map(point).collect::<Result<_>>()?,
                None => vec![point(&entry["value"])?],
            };
            // A JSON object of this library is sorted by key, so its text is canonical.
            let labels = entry["metric"].to_string();
            ensure!(
                series.insert(labels, points).is_none(),
                "two series are alike: {}",
                entry["metric"]
            );
        }
        Ok(Answer(series))
    }

    /// Counts the series.
    pub fn series_count(&self) -> usize {
        self.0.len()
    }

    /// Says in what the other answer differs, if it does; values may differ by `relative` of the larger.
    pub fn difference(&self, other: &Answer, relative: f64) -> Option<String> {
        if let Some(labels) = self.0.keys().find(|labels| !other.0.contains_key(*labels)) {
            return Some(format!(
                "{labels} is missing ({} against {} series)",
                self.0.len(),
                other.0.len()
            ));
        }
        if let Some(labels) = other.0.keys().find(|labels| !self.0.contains_key(*labels)) {
            return Some(format!(
                "{labels} is too much ({} against {} series)",
                self.0.len(),
                other.0.len()
            ));
        }
        self.0.iter().find_map(|(labels, points)| {
            let others = &other.0[labels];
            if points.len() != others.len() {
                return Some(format!(
                    "{labels} has {} points, not {}",
                    others.len(),
                    points.len()
                ));
            }
            let pairs = points.iter().zip(others);
            let differs = |(a, b): &(&(f64, f64), &(f64, f64))| a.0 != b.0 || !is_near(a.1, b.1, relative);
            pairs
                .into_iter()
                .find(differs)
                .map(|(a, b)| format!("{labels} at {}: {} is not {}", a.0, b.1, a.1))
        })
    }
}

fn is_near(a: f64, b: f64, relative: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= relative * a.abs().max(b.abs())
}

fn point(pair: &Value) -> Result<(f64, f64)> {
    let at = pair[0].as_f64().context("a point has no time")?;
    let value = pair[1].as_str().context("a point has no value")?;
    Ok((
        at,
        value.parse().with_context(|| format!("no number: {value:?}"))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(result: &str) -> Answer {
        let body = format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#);
        Answer::read(body.as_bytes()).expect("well-formed")
    }

    #[test]
    fn order_of_series_and_labels_and_the_last_digits_do_not_matter() {
        let a = answer(r#"[{"metric":{"a":"1","b":"2"},"value":[1,"3"]},{"metric":{},"value":[1,"NaN"]}]"#);
        let b = answer(
            r#"[{"metric":{},"value":[1,"NaN"]},{"metric":{"b":"2","a":"1"},"value":[1,"3.0000000001"]}]"#,
        );
        assert_eq!(a.difference(&b, 1e-9), None);
        assert!(a.difference(&b, 1e-12).is_some());
    }

    #[test]
    fn a_missing_an_additional_and_a_shorter_series_are_differences() {
        let one = answer(r#"[{"metric":{"a":"1"},"value":[1,"3"]}]"#);
        let none = answer("[]");
        let long = answer(r#"[{"metric":{"a":"1"},"values":[[1,"3"],[2,"3"]]}]"#);
        let later = answer(r#"[{"metric":{"a":"1"},"value":[2,"3"]}]"#);
        for (a, b) in [(&one, &none), (&none, &one), (&one, &long), (&one, &later)] {
            assert!(a.difference(b, 1e-9).is_some(), "{a:?} {b:?}");
        }
    }

    #[test]
    fn an_error_is_not_an_empty_answer() {
        let error = Answer::read(br#"{"status":"error","error":"boom"}"#).expect_err("refused");
        assert!(error.to_string().contains("boom"));
    }
}
