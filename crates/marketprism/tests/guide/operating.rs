//! The operator's manual, beside the guide: every command has its row, every trouble its section.

use crate::guide::{blocks, items, read};

const MANUALS: [&str; 2] = ["docs/operating/README.md", "docs/operating/README.zh-CN.md"];

/// The commands of the guide, without comments and without what stands inside a here-document.
fn commands() -> Vec<String> {
    let mut commands = Vec::new();
    for block in blocks().iter().filter(|block| block.language == "bash") {
        let mut ends_at: Option<&str> = None;
        for line in block
            .text
            .lines()
            .map(|line| line.split("  #").next().unwrap_or("").trim())
        {
            match ends_at {
                Some(mark) if line == mark => ends_at = None,
                Some(_) => {}
                None if line.is_empty() || line.starts_with('#') => {}
                None => {
                    ends_at = line.split_once("<< ").map(|(_, mark)| mark);
                    commands.push(line.to_owned());
                }
            }
        }
    }
    commands
}

/// Gives the commands that a manual's tables name in their first column. After the first one of a row, the others may
/// leave out its first word.
fn named(manual: &str) -> Vec<String> {
    let mut named = Vec::new();
    // A vertical line inside a cell is escaped.
    let text = read(manual).replace("\\|", "\u{1}");
    for row in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let cell = row.split('|').next().unwrap_or("").replace('\u{1}', "|");
        let spans: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let first_word = spans
            .first()
            .and_then(|span| span.split(' ').next())
            .unwrap_or("");
        named.extend(spans.iter().map(|span| (*span).to_owned()));
        named.extend(spans.iter().skip(1).map(|span| format!("{first_word} {span}")));
    }
    named
}

/// Says whether a pattern names a command, or its beginning up to a space; `…` stands for anything.
fn names(pattern: &str, command: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('…') else {
        return command
            .strip_prefix(pattern)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    };
    let Some(rest) = command.strip_prefix(head) else {
        return false;
    };
    rest.char_indices()
        .map(|(at, _)| &rest[at..])
        .chain([""])
        .any(|rest| names(tail, rest))
}

#[test]
fn every_command_of_the_guide_has_its_row_in_the_manual() {
    let commands = commands();
    assert!(commands.len() > 25, "{commands:?}");
    for manual in MANUALS {
        let named = named(manual);
        let has_row = |command: &&String| named.iter().any(|pattern| names(pattern, command));
        let without: Vec<&String> = commands
            .iter()
            // It is of no use without the virtual environment, which has its row.
            .filter(|command| *command != "source venv/bin/activate")
            .filter(|command| !has_row(command))
            .collect();
        assert!(without.is_empty(), "{manual} has no row for {without:?}");
    }
}

#[test]
fn every_trouble_of_the_guide_has_its_section_in_the_manual() {
    let guide = read(crate::guide::GUIDE);
    let troubles = guide.split("### 常见问题").nth(1).expect("the guide has it");
    let troubles = troubles.split("\n### ").next().unwrap_or("");
    let troubles: Vec<&str> = troubles
        .lines()
        .filter_map(|line| line.strip_prefix("#### ")?.split_once(". ").map(|(_, name)| name))
        .collect();
    assert_eq!(troubles.len(), 4, "{troubles:?}");
    let sections = |manual: &str, below: &str| -> Vec<String> {
        let text = read(manual);
        let part = text.split(&format!("\n## {below}\n")).nth(1);
        let part = part.unwrap_or_else(|| panic!("{manual} has no section {below:?}"));
        let part = part.split("\n## ").next().unwrap_or("");
        let names = part.lines().filter_map(|line| line.strip_prefix("### "));
        names.map(str::to_owned).collect()
    };
    let theirs = sections(MANUALS[1], "故障排除");
    for trouble in troubles {
        assert!(
            theirs.iter().any(|section| section == trouble),
            "{trouble} is not in {theirs:?}"
        );
    }
    let english = sections(MANUALS[0], "When something does not work");
    assert_eq!(english.len(), theirs.len(), "{english:?} and {theirs:?}");
    // What the guide advises against slowness is told by its key.
    let manual = read(MANUALS[1]);
    for (advice, key) in items("常见问题 / 4. 性能问题").iter().zip([
        "alert_manager.evaluation_interval",
        "storage.retention",
        "performance.batch_processing",
    ]) {
        assert!(manual.contains(&format!("`{key}`")), "{advice}: {key}");
    }
}

#[test]
fn a_row_names_a_command_by_its_words_or_its_beginning() {
    assert!(names("a b", "a b") && names("a b", "a b c") && !names("a b", "a bc"));
    assert!(names("x-….gz c/", "x-$(date).gz c/") && !names("x-….gz c/", "x-1.gz d/"));
    assert!(names("… | grep E", "logs | grep E") && names("apply …", "apply -f x"));
}
