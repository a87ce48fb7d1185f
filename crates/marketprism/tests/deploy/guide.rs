//! The blocks of the user's deployment guide.

use serde_json::Value;

use crate::files::{document, read};

const GUIDE: &str = "docs/deployment-guide.zh-CN.md";

/// Gives the guide's only block in this language that contains `mark`.
pub fn block(language: &str, mark: &str) -> String {
    let text = read(GUIDE);
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1).map(|rest| {
        let end = rest.find("\n```").expect("every block ends");
        &rest[..=end]
    });
    let mut found = blocks.filter(|block| block.contains(mark));
    let block = found
        .next()
        .unwrap_or_else(|| panic!("{GUIDE} has no {language} block with {mark:?}"));
    assert!(found.next().is_none(), "{GUIDE} has several blocks with {mark:?}");
    block.to_owned()
}

/// Parses the guide's only YAML block that contains `mark`.
pub fn yaml(mark: &str) -> Value {
    document(GUIDE, &block("yaml", mark))
}

/// Fails unless `ours` says everything that `theirs` says; lists may hold more, in any order.
#[track_caller]
pub fn assert_contains(ours: &Value, theirs: &Value, path: &str) {
    if let Some(fault) = missing(ours, theirs, path) {
        panic!("{fault}");
    }
}

fn missing(ours: &Value, theirs: &Value, path: &str) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => theirs.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match ours.get(key) {
                Some(our_value) => missing(our_value, value, &path),
                None => Some(format!("{path} is missing; the guide says {value}")),
            }
        }),
        (Value::Array(ours), Value::Array(theirs)) => theirs.iter().find_map(|item| {
            let is_held = ours
                .iter()
                .any(|our_item| missing(our_item, item, path).is_none());
            (!is_held).then(|| format!("{path} lacks the guide's {item}; it holds {ours:?}"))
        }),
        _ => (ours != theirs).then(|| format!("{path} is {ours}; the guide says {theirs}")),
    }
}

#[test]
fn what_the_guide_says_and_a_file_does_not_is_noticed() {
    let ours = serde_json::json!({"a": [{"b": 1, "c": 2}, 3], "d": "e"});
    let check = |theirs: Value| missing(&ours, &theirs, "");
    assert_eq!(check(serde_json::json!({"a": [{"b": 1}]})), None);
    assert!(check(serde_json::json!({"a": [{"b": 2}]})).is_some());
    assert!(check(serde_json::json!({"f": 1})).is_some());
    assert!(check(serde_json::json!({"d": "x"})).is_some());
}
