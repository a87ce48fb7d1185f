//! The walls: every manifest is held against the table in ARCHITECTURE.md.
//!
//! A row says which rooms a room may import. Dev-dependencies are exempt. The table is read from the
//! document, so the document cannot drift from the walls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads the rows `| room | holds | may import | never |` under the heading "Rooms".
fn allowed_imports() -> BTreeMap<String, BTreeSet<String>> {
    let text = read(&root().join("ARCHITECTURE.md"));
    let rooms = text
        .split("## Rooms")
        .nth(1)
        .expect("ARCHITECTURE.md has a section Rooms");
    let rooms = rooms
        .split("\n## ")
        .next()
        .expect("split gives at least one part");
    rooms
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells[1].trim_matches('`').to_owned();
            let imports = cells[3]
                .split(',')
                .map(|room| room.trim().trim_matches('`').to_owned())
                .collect();
            (name, imports)
        })
        .collect()
}

fn package_rooms() -> BTreeSet<String> {
    let folders = fs::read_dir(root().join("crates")).expect("crates/ stands");
    folders
        .map(|entry| {
            entry
                .expect("readable folder")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

/// Gives the in-house packages of a manifest's `[dependencies]`, by room.
fn imports(room: &str) -> BTreeSet<String> {
    let manifest = read(&root().join("crates").join(room).join("Cargo.toml"));
    let mut section = String::new();
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            line.trim_matches(['[', ']']).clone_into(&mut section);
        } else if section == "dependencies" || section == "build-dependencies" {
            let name = line
                .split(['=', '.', ' '])
                .next()
                .expect("split gives at least one part");
            found.extend(name.strip_prefix("marketprism-").map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_room_imports_only_what_the_table_allows() {
    let table = allowed_imports();
    let mut faults = Vec::new();
    for room in package_rooms() {
        let Some(allowed) = table.get(&room) else {
            faults.push(format!("crates/{room} has no row in ARCHITECTURE.md"));
            continue;
        };
        if allowed.contains("all") {
            continue;
        }
        for import in imports(&room).difference(allowed) {
            faults.push(format!(
                "{room} imports {import}; ARCHITECTURE.md allows {allowed:?}"
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn rooms_that_compute_need_no_runtime() {
    for room in ["model", "promql", "template", "analysis"] {
        let manifest = root().join("crates").join(room).join("Cargo.toml");
        if !manifest.exists() {
            continue;
        }
        let text = read(&manifest);
        let dependencies = text
            .split("[dev-dependencies]")
            .next()
            .expect("split gives at least one part");
        for forbidden in ["tokio", "hyper", "rusqlite"] {
            assert!(
                !dependencies.lines().any(|line| line.starts_with(forbidden)),
                "{room} imports {forbidden}"
            );
        }
    }
}

#[test]
fn sql_stands_only_in_state() {
    let mut faults = Vec::new();
    for room in package_rooms().iter().filter(|room| *room != "state") {
        for file in rust_files(&root().join("crates").join(room).join("src")) {
            let text = read(&file);
            let has_sql = ["INSERT INTO ", "SELECT * ", "DELETE FROM ", "CREATE TABLE "]
                .iter()
                .any(|sql| text.contains(sql));
            if has_sql {
                faults.push(file.display().to_string());
            }
        }
    }
    assert!(faults.is_empty(), "SQL outside of state: {faults:?}");
}

/// The linter cannot name jiff's clock while two versions of jiff stand in the tree.
#[test]
fn no_room_asks_jiff_for_the_time() {
    let mut faults = Vec::new();
    for room in package_rooms() {
        for file in rust_files(&root().join("crates").join(room).join("src")) {
            let text = read(&file);
            if ["Timestamp::now(", "Zoned::now("]
                .iter()
                .any(|call| text.contains(call))
            {
                faults.push(file.display().to_string());
            }
        }
    }
    assert!(faults.is_empty(), "these read a clock of their own: {faults:?}");
}

#[test]
fn features_name_tests_that_exist() {
    // docs/features.md: | feature | room | test |, tests as `path::name` or a path.
    let text = read(&root().join("docs/features.md"));
    let mut rows = 0;
    for line in text
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
    {
        let test = line
            .split('|')
            .nth(3)
            .expect("three cells")
            .trim()
            .trim_matches('`');
        let (path, name) = test.split_once("::").unwrap_or((test, ""));
        let file = root().join(path);
        assert!(
            file.exists(),
            "docs/features.md names {path}, which does not exist"
        );
        assert!(
            name.is_empty() || read(&file).contains(name),
            "docs/features.md: {path} has no {name}"
        );
        rows += 1;
    }
    assert!(rows > 10, "docs/features.md lists {rows} features");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return files;
    };
    for entry in entries {
        let path = entry.expect("readable folder").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
