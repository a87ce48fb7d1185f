//! The guide's text: blocks, lists and tables by the headings above them.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the guide stands in the tree.
pub const GUIDE: &str = "docs/deployment-guide.zh-CN.md";

/// One fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The line of the opening fence.
    pub line: usize,
    /// The two nearest headings.
    pub heading: String,
    /// What the fence says.
    pub language: String,
    /// What stands between the fences.
    pub text: String,
}

/// A line outside of blocks.
#[derive(Clone, Debug)]
struct Prose {
    heading: String,
    text: String,
}

/// Gives the top of the tree.
pub fn tree() -> PathBuf {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    tree.canonicalize().expect("the tree stands where it was built")
}

/// Reads a file of the tree.
pub fn read(path: &str) -> String {
    let path = tree().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(text: &str) -> (Vec<Block>, Vec<Prose>) {
    let (mut blocks, mut prose) = (Vec::new(), Vec::new());
    let mut headings: Vec<&str> = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        if let Some(mut block) = open.take() {
            if line == "```" {
                blocks.push(block);
            } else {
                block.text += line;
                block.text.push('\n');
                open = Some(block);
            }
            continue;
        }
        let depth = line.bytes().take_while(|byte| *byte == b'#').count();
        if depth > 0 {
            headings.resize(depth - 1, "");
            headings.push(line[depth..].trim());
        }
        let heading = headings[headings.len().saturating_sub(2)..].join(" / ");
        if let Some(language) = line.strip_prefix("```") {
            open = Some(Block {
                line: number + 1,
                heading,
                language: language.to_owned(),
                text: String::new(),
            });
        } else if depth == 0 {
            let text = line.to_owned();
            prose.push(Prose { heading, text });
        }
    }
    assert!(open.is_none(), "the last block has no end: {open:?}");
    (blocks, prose)
}

/// Gives all blocks, from top to bottom.
pub fn blocks() -> Vec<Block> {
    parse(&read(GUIDE)).0
}

/// Gives the one block below a heading.
#[track_caller]
pub fn step(heading: &str) -> Block {
    let mut found = blocks().into_iter().filter(|block| block.heading == heading);
    let block = found
        .next()
        .unwrap_or_else(|| panic!("{GUIDE} has no block below {heading:?}"));
    assert!(
        found.next().is_none(),
        "{GUIDE} has several blocks below {heading:?}"
    );
    block
}

/// Gives the items of the list below a heading.
#[track_caller]
pub fn items(heading: &str) -> Vec<String> {
    let (_, prose) = parse(&read(GUIDE));
    let lines = prose.iter().filter(|line| line.heading == heading);
    let items: Vec<String> = lines
        .filter_map(|line| line.text.strip_prefix("- "))
        .map(str::to_owned)
        .collect();
    assert!(!items.is_empty(), "{GUIDE} has no list below {heading:?}");
    items
}

/// Gives the rows of the table below a heading, cell by cell, without its head.
#[track_caller]
pub fn rows(heading: &str) -> Vec<Vec<String>> {
    let (_, prose) = parse(&read(GUIDE));
    let lines = prose.iter().filter(|line| line.heading == heading);
    let rows = lines.filter_map(|line| line.text.strip_prefix("| ")?.strip_suffix(" |"));
    let rows: Vec<Vec<String>> = rows
        .skip(1)
        .map(|row| row.split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "{GUIDE} has no table below {heading:?}");
    rows
}

/// Gives what stands in the first pair of backquotes.
#[track_caller]
pub fn quoted(text: &str) -> &str {
    text.split('`')
        .nth(1)
        .unwrap_or_else(|| panic!("nothing is quoted in {text:?}"))
}

#[test]
fn blocks_lists_and_tables_are_found_by_the_headings_above_them() {
    let text = "# A\n## B\ntext\n```bash\n# no heading\nx\n```\n### C\n- `i` one\n- two\n\n| h | k |\n|---|---|\n| a | b |\n## D\n```\n```\n";
    let (blocks, prose) = parse(text);
    let told: Vec<_> = blocks
        .iter()
        .map(|block| (block.line, &*block.heading, &*block.language, &*block.text))
        .collect();
    assert_eq!(
        told,
        [(4, "A / B", "bash", "# no heading\nx\n"), (16, "A / D", "", "")]
    );
    assert!(
        prose
            .iter()
            .any(|line| line.heading == "B / C" && line.text == "- two")
    );
    assert_eq!(quoted("- `i` one"), "i");
}
