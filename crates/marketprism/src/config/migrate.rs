//! Rewrites a configuration file of an older form: comments, order and layout stay.
//!
//! The text is edited line by line, never written anew from values. Every edit is followed by another reading, and
//! in the end the new text must mean what the old one does, key by key; otherwise nothing is changed.
//! Deliberately absent: files. Whoever calls reads and writes, and asks first.

use similar::TextDiff;

use super::fault::{ConfigError, Fault};
use super::fill;
use super::lift::{self, GONE, LISTEN, MOVES, Move, VERSION, find};
use super::tree::{self, Node, Place, Value};

/// A text in the present form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The text.
    pub text: String,
    /// What was changed, one line each; empty when the text was in the present form already.
    pub changes: Vec<String>,
    /// What has to be changed by hand, one line each, because it stands within `{…}`.
    pub by_hand: Vec<String>,
}

impl Migrated {
    /// Shows the difference to the old text in the unified form of `diff -u`.
    pub fn difference(&self, old: &str, name: &str) -> String {
        TextDiff::from_lines(old, &self.text)
            .unified_diff()
            .context_radius(3)
            .header(name, &format!("{name} (version {VERSION})"))
            .to_string()
    }
}

/// Brings a text into the present form.
///
/// # Errors
/// When the text is no YAML, says a newer version, or holds a key in its older and its present form.
pub fn migrate(text: &str) -> Result<Migrated, ConfigError> {
    let name = "configuration";
    let refuse = |faults| ConfigError::new(name, faults, Vec::new());
    let before = meaning(text).map_err(refuse)?;
    let mut edited = Edited::new(text);
    // Each turn makes one edit; there are not more keys than that.
    for _ in 0..4 * (MOVES.len() + GONE.len() + 2) {
        if !edited.step() {
            break;
        }
    }
    if !edited.changes.is_empty() {
        edited.set_version();
    }
    let after = meaning(&edited.text()).map_err(refuse)?;
    if !is_alike(&before, &after) {
        let reason = "cannot be rewritten without changing its meaning; rewrite it by hand";
        return Err(refuse(vec![Fault::of_file(reason)]));
    }
    Ok(Migrated {
        text: edited.text(),
        changes: edited.changes,
        by_hand: edited.by_hand,
    })
}

/// Gives what a text means in the present form.
fn meaning(text: &str) -> Result<Node, Vec<Fault>> {
    let tree::Read { mut root, mut faults } = tree::read(&fill::masked(text));
    lift::lift(&mut root, &mut faults);
    root.remove(&lift::steps("version"));
    if faults.is_empty() { Ok(root) } else { Err(faults) }
}

/// Compares values; an empty map is as good as none.
fn is_alike(a: &Node, b: &Node) -> bool {
    let is_nothing = |node: &Node| match &node.value {
        Value::Map(pairs) => pairs.is_empty(),
        Value::Scalar(scalar) => scalar.is_null(),
        Value::List(_) => false,
    };
    match (&a.value, &b.value) {
        _ if is_nothing(a) && is_nothing(b) => true,
        (Value::Map(ours), Value::Map(theirs)) => {
            let is_held = |pair: &tree::Pair, other: &Node| match other.get(&pair.key) {
                Some(found) => is_alike(&pair.value, &found.value),
                None => is_alike(&pair.value, &Node::empty(pair.at)),
            };
            ours.iter().all(|pair| is_held(pair, b)) && theirs.iter().all(|pair| is_held(pair, a))
        }
        (Value::Map(pairs), _) if is_nothing(b) => pairs.iter().all(|pair| is_alike(&pair.value, b)),
        (_, Value::Map(pairs)) if is_nothing(a) => pairs.iter().all(|pair| is_alike(a, &pair.value)),
        (Value::List(ours), Value::List(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|pair| match pair {
                    (Some(a), Some(b)) => is_alike(a, b),
                    _ => false,
                })
        }
        // `8082` and `"8082"` are the same address.
        (Value::Scalar(a), Value::Scalar(b)) => a.text == b.text,
        _ => false,
    }
}

/// A text under edit.
struct Edited {
    lines: Vec<String>,
    /// `\r` when the lines end so.
    ending: &'static str,
    has_last_newline: bool,
    changes: Vec<String>,
    by_hand: Vec<String>,
}

/// The lines of a key with its value, and the comment right above.
struct Block {
    start: usize,
    end: usize,
    indent: usize,
}

impl Edited {
    fn new(text: &str) -> Self {
        let has_last_newline = text.is_empty() || text.ends_with('\n');
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        if has_last_newline {
            lines.pop();
        }
        Edited {
            ending: if text.contains("\r\n") { "\r" } else { "" },
            has_last_newline,
            lines,
            changes: Vec::new(),
            by_hand: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let mut text = self.lines.join("\n");
        if self.has_last_newline && !self.lines.is_empty() {
            text.push('\n');
        }
        text
    }

    fn read(&self) -> Node {
        tree::read(&fill::masked(&self.text())).root
    }

    /// Notes what cannot be edited; says whether that is news.
    fn leave(&mut self, at: Place, what: &str) {
        let said = format!(
            "line {}: {what}; it stands within {{…}}, change it by hand",
            at.line
        );
        if !self.by_hand.contains(&said) {
            self.by_hand.push(said);
        }
    }

    /// Makes one edit; says whether there was one to make.
    fn step(&mut self) -> bool {
        let root = self.read();
        for Move { from, to } in &MOVES {
            if let Some((node, at)) = find(&root, from)
                && self.relocate(&root, node, at, from, to)
            {
                return true;
            }
        }
        self.join_listen(&root) || GONE.iter().any(|gone| self.comment_out(&root, gone))
    }

    /// Finds the lines of a key; `None` when it shares a line with other keys.
    fn block(&self, node: &Node, at: Place) -> Option<Block> {
        let indent = at.column - 1;
        let first = at.line - 1;
        let line = self.lines.get(first)?;
        if !line.chars().take(indent).all(|c| c == ' ') || line.chars().count() <= indent {
            return None;
        }
        let is_list = matches!(node.value, Value::List(_));
        let mut end = first + 1;
        for (index, line) in self.lines.iter().enumerate().skip(first + 1) {
            let content = line.trim_start();
            let depth = line.len() - content.len();
            if content.trim_end().is_empty() || (content.starts_with('#') && depth <= indent) {
                continue;
            }
            let is_item = is_list && depth == indent && content.starts_with('-');
            if depth <= indent && !is_item {
                break;
            }
            end = index + 1;
        }
        let mut start = first;
        while start > 0 {
            let above = &self.lines[start - 1];
            let content = above.trim_start();
            if !content.starts_with('#') || above.len() - content.len() != indent {
                break;
            }
            start -= 1;
        }
        // At the top of the file the comment is the file's own.
        if start == 0 && indent == 0 {
            start = first;
        }
        Some(Block { start, end, indent })
    }

    fn relocate(&mut self, root: &Node, node: &Node, at: Place, from: &str, to: &str) -> bool {
        let what = format!("{from} becomes {to}");
        let Some(block) = self.block(node, at) else {
            self.leave(at, &what);
            return false;
        };
        // A section that only has another name keeps its place.
        if !from.contains('.') && !to.contains('.') {
            let line = &self.lines[at.line - 1];
            self.lines[at.line - 1] = line.replacen(from, to, 1);
            self.changes.push(what);
            return true;
        }
        let keys: Vec<&str> = to.split('.').collect();
        let Some((insert_at, indent, missing)) = self.destination(root, &keys) else {
            self.leave(at, &what);
            return false;
        };
        let mut moved: Vec<String> = Vec::new();
        let mut indent = indent;
        for key in &keys[missing..keys.len() - 1] {
            moved.push(format!("{}{key}:{}", " ".repeat(indent), self.ending));
            indent += 2;
        }
        let (old, new) = (from.rsplit('.').next().unwrap_or(from), keys[keys.len() - 1]);
        for line in &self.lines[block.start..block.end] {
            let line = line.get(block.indent..).unwrap_or("");
            let line = match line.strip_prefix(old) {
                Some(rest)
                    if moved
                        .last()
                        .is_none_or(|last| !last.trim_start().starts_with(new)) =>
                {
                    format!("{new}{rest}")
                }
                _ => line.to_owned(),
            };
            moved.push(format!("{}{line}", " ".repeat(indent)));
        }
        if insert_at == self.lines.len() && missing == 0 {
            moved.insert(0, self.ending.to_owned());
        }
        let removed = block.start..block.end;
        if insert_at >= removed.end {
            self.lines.splice(insert_at..insert_at, moved);
            self.lines.drain(removed);
        } else {
            self.lines.drain(removed);
            self.lines.splice(insert_at..insert_at, moved);
        }
        self.changes.push(what);
        true
    }

    /// Finds where a path's entry is to be inserted: before which line, how far indented, and how many of its keys
    /// are there already. `None` when a map on the way is written within braces.
    fn destination(&self, root: &Node, keys: &[&str]) -> Option<(usize, usize, usize)> {
        let mut found = (self.lines.len(), 0, 0);
        let mut node = root;
        for (index, key) in keys[..keys.len() - 1].iter().enumerate() {
            let Some(pair) = node.get(key) else { break };
            let line = self.lines.get(pair.at.line - 1)?;
            let after = line.trim_end().strip_prefix(&" ".repeat(pair.at.column - 1))?;
            let after = after.trim_start_matches(['"', '\'']).strip_prefix(key)?;
            let after = after
                .trim_start_matches(['"', '\''])
                .trim_start()
                .strip_prefix(':')?;
            let after = after.trim_start();
            if !after.is_empty() && !after.starts_with('#') {
                return None;
            }
            let indent = match &pair.value.value {
                Value::Map(pairs) => pairs.first()?.at.column - 1,
                Value::Scalar(scalar) if scalar.is_null() => pair.at.column + 1,
                _ => return None,
            };
            found = (pair.at.line, indent, index + 1);
            node = &pair.value;
        }
        Some(found)
    }

    fn join_listen(&mut self, root: &Node) -> bool {
        let Some((address, at)) = lift::listen(root) else {
            return false;
        };
        let (host, port, to) = LISTEN;
        let what = format!("{host} and {port} become {to}");
        let mut lines = Vec::new();
        for key in [host, port] {
            let Some((node, at)) = find(root, key) else {
                continue;
            };
            match self.block(node, at) {
                Some(block) if block.end == at.line => lines.push((at.line - 1, block.indent)),
                _ => {
                    self.leave(at, &what);
                    return false;
                }
            }
        }
        let indent = lines[0].1;
        let comment = self.lines[at.line - 1]
            .split_once(" #")
            .map(|(_, comment)| comment);
        let comment = comment.map_or(String::new(), |comment| format!("  #{}", comment.trim_end()));
        let address = fill::unmasked(&address).replace('"', "'");
        let line = format!(
            "{}listen: \"{address}\"{comment}{}",
            " ".repeat(indent),
            self.ending
        );
        lines.sort_unstable();
        self.lines[lines[0].0] = line;
        if let Some((second, _)) = lines.get(1) {
            self.lines.remove(*second);
        }
        self.changes.push(what);
        true
    }

    fn comment_out(&mut self, root: &Node, key: &str) -> bool {
        let Some((node, at)) = find(root, key) else {
            return false;
        };
        let what = format!("{key} has no effect any more");
        let Some(block) = self.block(node, at) else {
            self.leave(at, &what);
            return false;
        };
        if node.is_null() {
            self.lines.drain(at.line - 1..block.end);
            self.changes.push(format!("{key} is empty and goes"));
            return true;
        }
        for line in &mut self.lines[at.line - 1..block.end] {
            let at = block.indent.min(line.len());
            line.insert_str(at, "# ");
        }
        self.changes.push(what);
        true
    }

    /// Writes the version before the first key, or corrects the one that is there.
    fn set_version(&mut self) {
        let root = self.read();
        if let Some(pair) = root.get("version") {
            if let Some(line) = self.lines.get_mut(pair.at.line - 1)
                && let Some(old) = pair.value.as_text()
            {
                *line = line.replacen(old, &VERSION.to_string(), 1);
            }
            return;
        }
        if let Value::Map(pairs) = &root.value
            && let Some(first) = pairs.iter().map(|pair| pair.at).min()
            && first.column == 1
        {
            let line = format!("version: {VERSION}{}", self.ending);
            self.lines.insert(first.line - 1, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(old: &str, expected: &str) {
        let migrated = migrate(old).expect("it can be rewritten");
        assert_eq!(migrated.text, expected, "{:?}", migrated);
        let again = migrate(&migrated.text).expect("the present form");
        assert_eq!((again.text.as_str(), again.changes.len()), (expected, 0));
    }

    #[test]
    fn the_present_form_stays_as_it_is() {
        for text in [
            "",
            "# nothing\n",
            "alert_manager:\n  enabled: true   # yes\n\n\n# end",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn a_key_of_the_first_release_moves_with_its_comments() {
        check(
            "# ours\nnotification_manager:\n  enabled: true\n  # Not too many.\n  max_workers: 5  # of ten\n  channels: {}\n",
            "# ours\nversion: 2\nnotification_manager:\n  enabled: true\n  channels: {}\n\nperformance:\n  concurrency:\n    # Not too many.\n    max_workers: 5  # of ten\n",
        );
        check(
            "performance:\n    concurrency:\n        queue_size: 7\nnotification_manager:\n  max_workers: 5\nversion: 1\n",
            "performance:\n    concurrency:\n        max_workers: 5\n        queue_size: 7\nnotification_manager:\nversion: 2\n",
        );
    }

    /// The keys are those that the Python program's own start-up code wrote when it found no file.
    #[test]
    fn the_python_programs_default_configuration_is_lifted() {
        check(
            "server:\n  host: 0.0.0.0   # everywhere\n  port: 8082\nalert_rules:\n  evaluation_interval: 60\n  default_severity: medium\n\
             anomaly_detection:\n  statistical_window: 100\n  statistical_threshold: 2.5\n\
             failure_prediction:\n  prediction_interval: 300\n\
             notifications:\n  enabled: true\n  channels:\n    email:\n      enabled: false\n",
            "version: 2\nserver:\n  listen: \"0.0.0.0:8082\"  # everywhere\n# alert_rules:\n#   default_severity: medium\n\
             anomaly_detection:\n  statistical:\n    threshold: 2.5\n  # statistical_window: 100\n\
             # failure_prediction:\n#   prediction_interval: 300\n\
             notification_manager:\n  enabled: true\n  channels:\n    email:\n      enabled: false\n\
             \nalert_manager:\n  evaluation_interval: 60\n",
        );
    }

    #[test]
    fn what_stands_within_braces_is_left_to_people() {
        let text = "notification_manager: {max_workers: 5}\n";
        let migrated = migrate(text).expect("it is read");
        assert_eq!((migrated.text.as_str(), migrated.changes.len()), (text, 0));
        assert_eq!(
            migrated.by_hand,
            [
                "line 1: notification_manager.max_workers becomes performance.concurrency.max_workers; it stands within {…}, change it by hand"
            ]
        );
    }

    #[test]
    fn variables_and_line_ends_stay() {
        check(
            "server:\r\n  port: ${PORT:-9000}\r\n",
            "version: 2\r\nserver:\r\n  listen: \"0.0.0.0:${PORT:-9000}\"\r\n",
        );
    }

    #[test]
    fn the_difference_is_shown_as_diff_shows_it() {
        let old = "a: 1\nserver:\n  port: 9000\n";
        let migrated = migrate(old).expect("it can be rewritten");
        assert_eq!(
            migrated.difference(old, "config.yaml"),
            "--- config.yaml\n+++ config.yaml (version 2)\n@@ -1,3 +1,4 @@\n+version: 2\n a: 1\n server:\n-  port: 9000\n+  listen: \"0.0.0.0:9000\"\n"
        );
    }

    #[test]
    fn what_is_broken_or_newer_is_refused() {
        let check = |text: &str, words: &str| {
            let said = migrate(text).expect_err(text).to_string();
            assert!(said.contains(words), "{said}");
        };
        check("a: [", "1:");
        check("version: 3\n", "is newer than 2");
        check(
            "server:\n  listen: x:1\n  port: 2\n",
            "server.host and port: is server.listen now, which stands there too",
        );
    }
}
