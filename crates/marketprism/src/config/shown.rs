//! The configuration as it may be shown: secrets hidden.
//!
//! What is shown is the text that was read, variables not filled in; so a secret is there only when somebody
//! wrote it into the file. Rather hide too much than too little: whatever stands behind a key that sounds
//! like a secret is hidden, and whatever stands behind `url` in a channel, for robots' tokens are in URLs.

/// Keys whose values are hidden, in any place. A key with an escape in it (`"pass\u0077ord"`) may be any of them.
const SECRET_WORDS: [&str; 13] = [
    "password",
    "secret",
    "token",
    "credentials",
    "webhook_url",
    "api_key",
    "key:",
    "url",
    "http_headers",
    "params",
    "passphrase",
    "\\u",
    "\\x",
];

/// Gives the text with every value hidden that may be a secret.
pub fn shown(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut hidden_indent = None;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let is_blank = line.trim().is_empty();
        let is_item = line.trim_start().starts_with("- ") || line.trim() == "-";
        // What is indented below a hidden key (a block, a list, a map) belongs to its value, and a list may stand
        // right below its key.
        if hidden_indent.is_some_and(|outer| is_blank || indent > outer || (is_item && indent == outer)) {
            continue;
        }
        // `? password` and below it `: hunter2` are a key and its value too.
        if line.trim_start().starts_with(':') && hidden_indent == Some(indent) {
            continue;
        }
        hidden_indent = None;
        let at = key_indent(line);
        if let Some(key) = line[at..].strip_prefix("? ")
            && secret_value(&format!("{}:", key.trim_end())).is_some()
        {
            output.push_str(&line[..at]);
            output.push_str("***\n");
            hidden_indent = Some(at);
            continue;
        }
        match secret_value(line) {
            None => output.push_str(&without_users(line)),
            Some(value_at) => {
                output.push_str(line[..value_at].trim_end());
                output.push_str(" ***\n");
                hidden_indent = Some(key_indent(line));
            }
        }
    }
    output
}

/// Gives where the first key of a line stands: behind the dashes of a list.
fn key_indent(line: &str) -> usize {
    let mut content = line.trim_start();
    while let Some(rest) = content.strip_prefix("- ") {
        content = rest.trim_start();
    }
    line.len() - content.len()
}

/// Hides users and passwords in addresses: `//user:password@host`.
fn without_users(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("//") {
        let (before, address) = rest.split_at(at + 2);
        shown.push_str(before);
        let end = address
            .find(|c: char| c.is_whitespace() || "/?#\"'".contains(c))
            .unwrap_or(address.len());
        let (authority, after) = address.split_at(end);
        match authority.rfind('@') {
            Some(at) => shown.extend(["***", &authority[at..]]),
            None => shown.push_str(authority),
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Finds where the value of the first key that sounds like a secret begins; in a flow map the rest of the line
/// is hidden with it.
fn secret_value(line: &str) -> Option<usize> {
    let content = line.trim_start();
    if content.starts_with('#') {
        return None;
    }
    let lower = line.to_ascii_lowercase();
    let found = SECRET_WORDS.iter().filter_map(|word| {
        let word = word.trim_end_matches(':');
        lower.match_indices(word).find_map(|(at, _)| {
            let tail = &lower[at + word.len()..];
            let rest_of_key = tail.find(':')?;
            let is_key = tail[..rest_of_key]
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-\"' ".contains(c));
            // A file's name is no secret, nor is the address of this program, nor how long a session lasts.
            let is_open = tail.starts_with("_file")
                || tail.starts_with("_expiry_hours")
                || lower[..at].ends_with("external_");
            (is_key && !is_open).then_some(at + word.len() + rest_of_key + 1)
        })
    });
    found.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_in_every_way_of_writing_them() {
        for text in [
            "password: hunter2\n",
            "{\"password\" : \"hunter2\"}\n",
            "a: {\"pass\\u0077ord\": hunter2}\n",
            "\"\\x70assword\": hunter2\n",
            "a:\n  ? password\n  : hunter2\n",
            "- ? 'password'\n  : hunter2\n",
            "params: {auth: [hunter2]}\n",
            "http_headers:\n  X-Auth: {values: [hunter2]}\n",
            "  password: \"hunter2\" # why\n",
            "basic_auth: {username: a, password: hunter2}\n",
            "webhook: {enabled: true, url: \"http://x/hunter2\"}\n",
            "webhook_url: https://x/hunter2\n",
            "a:\n  secret: |\n    hunter2\n    hunter2\n",
            "a:\n  credentials:\n    - hunter2\n",
            "a:\n  secrets:\n  - hunter2\n  - hunter2\n",
            "a:\n- secrets:\n  - hunter2\n",
            "- targets: [\"http://u:hunter2@h/\"]\n",
            "- http://u:hunter2@h/\n",
            "\"password\": hunter2\n",
            "Bearer_Token: hunter2\n",
        ] {
            let shown = shown(text);
            assert!(
                !shown.contains("hunter2") && shown.contains("***"),
                "{text:?} is shown as {shown:?}"
            );
        }
    }

    #[test]
    fn what_is_no_secret_is_shown_as_it_is() {
        let text = "# password: see the vault\nglobal:\n  scrape_interval: 15s\nserver: {external_url: 'https://m'}\n\
                    basic_auth:\n  password_file: /etc/p\nb: 1\n";
        assert_eq!(shown(text), text);
        // The item that follows belongs to the list around the key.
        assert_eq!(
            shown("a:\n- secret: x\n- b: http://h/x@y\n"),
            "a:\n- secret: ***\n- b: http://h/x@y\n"
        );
        assert_eq!(shown("a:\n  secret: x\nb: 1\n"), "a:\n  secret: ***\nb: 1\n");
    }
}
