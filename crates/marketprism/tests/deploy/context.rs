//! What a build is given: the files of the tree that `.dockerignore` lets through.
//!
//! A pattern holds for a path and for everything below it; the last pattern that holds decides, and `!` lets through.
//! Source: "Dockerfile reference", .dockerignore file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::files::{read, root};

/// The patterns of `.dockerignore`.
pub struct Ignore {
    rules: Vec<(bool, Pattern)>,
}

impl Ignore {
    /// Reads the tree's own file.
    pub fn of_the_tree() -> Self {
        Ignore::parse(&read(".dockerignore"))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim);
        let rules = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let rules = rules.map(|line| {
            let (lets_through, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, line),
            };
            let pattern = pattern.trim_matches('/');
            (lets_through, Pattern::new(pattern).expect("a good pattern"))
        });
        Ignore {
            rules: rules.collect(),
        }
    }

    /// Says whether the build is not given this path.
    pub fn leaves_out(&self, path: &Path) -> bool {
        let options = MatchOptions {
            require_literal_separator: true,
            ..MatchOptions::default()
        };
        let holds = |pattern: &Pattern| {
            let mut parts = path.ancestors().filter(|part| !part.as_os_str().is_empty());
            parts.any(|part| pattern.matches_path_with(part, options))
        };
        let last = self.rules.iter().rev().find(|(_, pattern)| holds(pattern));
        last.is_some_and(|(lets_through, _)| !lets_through)
    }

    /// Says whether something below this folder may be let through.
    fn may_let_through_below(&self, folder: &Path) -> bool {
        let mut exceptions = self.rules.iter().filter(|(lets_through, _)| *lets_through);
        exceptions.any(|(_, pattern)| Path::new(pattern.as_str()).starts_with(folder))
    }
}

/// Lists the files that a build is given, relative to the top of the tree.
pub fn files() -> Vec<PathBuf> {
    let ignore = Ignore::of_the_tree();
    let mut found = Vec::new();
    walk(&root(), Path::new(""), &ignore, &mut found);
    found.sort();
    found
}

fn walk(root: &Path, folder: &Path, ignore: &Ignore, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root.join(folder)).expect("readable folder") {
        let entry = entry.expect("readable folder");
        let path = folder.join(entry.file_name());
        let is_left_out = ignore.leaves_out(&path);
        if entry.file_type().expect("a type").is_dir() {
            if !is_left_out || ignore.may_let_through_below(&path) {
                walk(root, &path, ignore, found);
            }
        } else if !is_left_out {
            found.push(path);
        }
    }
}

#[test]
fn the_last_pattern_that_holds_decides() {
    let ignore = Ignore::parse("*\n!a\na/*/t\n!b/c\n# no\n\n**/x.log\n");
    for (path, is_left_out) in [
        ("z", true),
        ("a/f", false),
        ("a/b/f", false),
        ("a/b/t/f", true),
        ("a/t/f", false),
        ("b/d", true),
        ("b/c/f", false),
        ("b/c/x.log", true),
        ("x.log", true),
    ] {
        assert_eq!(ignore.leaves_out(Path::new(path)), is_left_out, "{path}");
    }
}

#[test]
fn no_secret_and_no_data_reach_the_build() {
    let ignore = Ignore::of_the_tree();
    for path in [
        ".env",
        ".git/config",
        "data/marketprism.db",
        "logs/marketprism.log",
        "target/release/marketprism",
        "deploy/kubernetes/secret.yaml",
        "docs/features.md",
        "crates/marketprism/tests/deploy/main.rs",
        "node_modules/x/index.js",
    ] {
        assert!(ignore.leaves_out(Path::new(path)), "{path}");
    }
}

#[test]
fn everything_that_the_compiler_reads_reaches_the_build() {
    let given: BTreeSet<PathBuf> = files().into_iter().map(|path| root().join(path)).collect();
    let mut included = 0;
    for source in given
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
    {
        let text = fs::read_to_string(source).expect("readable source");
        for rest in text.split("include_").skip(1) {
            let opening = ["str!(\"", "bytes!(\""]
                .iter()
                .find_map(|start| rest.strip_prefix(start));
            let Some((name, _)) = opening.and_then(|rest| rest.split_once("\")")) else {
                continue;
            };
            let target = source.parent().expect("a file has a folder").join(name);
            let target = target.canonicalize();
            let target = target.unwrap_or_else(|error| panic!("{}: {name}: {error}", source.display()));
            assert!(given.contains(&target), "{} includes {name}", source.display());
            included += 1;
        }
    }
    assert!(included > 3, "{included} included files");
    for pattern in ["crates/*/Cargo.toml", "crates/*/src/**/*.rs", "config/**/*.yaml"] {
        let pattern = root().join(pattern);
        for path in glob::glob(pattern.to_str().expect("UTF-8")).expect("a good pattern") {
            let path = path.expect("readable folder");
            assert!(
                given.contains(&path),
                "{} does not reach the build",
                path.display()
            );
        }
    }
}
