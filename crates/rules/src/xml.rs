//! Texts within XML: pictures of backtests and reports of rule tests stand in it.
//!
//! Deliberately absent: a writer. What is written is short and known.

/// Writes a text so that it can stand in an element or an attribute; what XML cannot hold becomes a question mark.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' => out += "&#10;",
            '\t' => out += "&#9;",
            c if (c as u32) < 0x20 || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn whatever_is_written_stands_in_xml() {
        assert_eq!(
            escaped("a<b> & \"c\"\n\t\u{1}磁盘"),
            "a&lt;b&gt; &amp; &quot;c&quot;&#10;&#9;?磁盘"
        );
    }
}
