//! The shape of a JSON document: which keys it has, and of which types their values are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Keys whose own keys are data and not shape.
const MAPS: [&str; 5] = ["metric", "labels", "discoveredLabels", "annotations", "target"];

/// Types by path; `a[].b` is the key `b` of each element of `a`.
pub type Shape = BTreeMap<String, BTreeSet<&'static str>>;

/// Reads the shape of a document. `has_map_of_data`: the keys of `data` are data too.
pub fn shape(document: &Value, has_map_of_data: bool) -> Shape {
    let mut shape = Shape::new();
    walk("", document, has_map_of_data, &mut shape);
    shape
}

fn walk(path: &str, value: &Value, has_map_of_data: bool, shape: &mut Shape) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    shape.entry(path.to_owned()).or_default().insert(kind);
    match value {
        Value::Array(items) => {
            for item in items {
                walk(&format!("{path}[]"), item, has_map_of_data, shape);
            }
        }
        Value::Object(map) => {
            let last = path.rsplit(['.', ']']).next().unwrap_or("");
            let is_data = MAPS.contains(&last) || (has_map_of_data && path == "data");
            for (key, value) in map {
                let key = if is_data { "*" } else { key };
                let separator = if path.is_empty() { "" } else { "." };
                walk(&format!("{path}{separator}{key}"), value, has_map_of_data, shape);
            }
        }
        _ => {}
    }
}

/// Lists how `ours` differs from `theirs`, one line each.
pub fn differences(ours: &Shape, theirs: &Shape) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, kinds) in theirs {
        match ours.get(path) {
            None => lines.push(format!("{path} is missing")),
            Some(own) if own != kinds => lines.push(format!("{path} is {own:?}, not {kinds:?}")),
            Some(_) => {}
        }
    }
    let added = ours.keys().filter(|path| !theirs.contains_key(*path));
    lines.extend(added.map(|path| format!("{path} is added")));
    lines
}

#[test]
fn a_missing_key_and_another_type_are_differences_and_other_labels_are_not() {
    let check = |ours: Value, theirs: Value, expected: &[&str]| {
        assert_eq!(
            differences(&shape(&ours, false), &shape(&theirs, false)),
            expected
        );
    };
    use serde_json::json;
    check(
        json!({ "a": [{ "labels": { "x": "1" } }] }),
        json!({ "a": [{ "labels": { "y": "2" } }] }),
        &[],
    );
    check(
        json!({ "a": [] }),
        json!({ "a": null }),
        &["a is {\"array\"}, not {\"null\"}"],
    );
    check(
        json!({ "a": 1, "c": 1 }),
        json!({ "a": 1, "b": 1 }),
        &["b is missing", "c is added"],
    );
}
