//! Writes big answers: no tree of values in between, one buffer that grows.

use marketprism_model::Labels;

/// Appends a JSON string, quotes included.
pub fn push_string(text: &mut String, value: &str) {
    text.push('"');
    let mut plain_from = 0;
    for (at, byte) in value.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        text.push_str(&value[plain_from..at]);
        plain_from = at + 1;
        if escape.is_empty() {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            text.push_str("\\u00");
            text.push(DIGITS[usize::from(byte >> 4)] as char);
            text.push(DIGITS[usize::from(byte & 15)] as char);
        } else {
            text.push_str(escape);
        }
    }
    text.push_str(&value[plain_from..]);
    text.push('"');
}

/// Appends labels as an object.
pub fn push_labels(text: &mut String, labels: &Labels) {
    text.push('{');
    let mut separator = "";
    for (name, value) in labels {
        text.push_str(separator);
        push_string(text, name);
        text.push(':');
        push_string(text, value);
        separator = ",";
    }
    text.push('}');
}

/// Appends an array of strings.
pub fn push_strings<'a>(text: &mut String, strings: impl IntoIterator<Item = &'a str>) {
    text.push('[');
    let mut separator = "";
    for string in strings {
        text.push_str(separator);
        push_string(text, string);
        separator = ",";
    }
    text.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strings_and_labels_read_back_as_they_were(pairs in proptest::collection::vec((".{1,12}", ".{0,30}"), 0..6)) {
            let labels = Labels::from_pairs(pairs.iter().map(|(name, value)| (name, value)));
            let mut text = String::new();
            push_labels(&mut text, &labels);
            let read: Labels = serde_json::from_str(&text).expect("it is JSON");
            prop_assert_eq!(read, labels);
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut text = String::new();
        push_strings(&mut text, ["a\"b\\", "\n\r\t\u{1}\u{1f}", "", "é"]);
        assert_eq!(text, r#"["a\"b\\","\n\r\t\u0001\u001f","","é"]"#);
    }
}
