//! Where the tree stands, and how its files are read.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Gives the top of the tree.
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the tree stands where it was built")
}

/// Reads a file of the tree.
pub fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Parses all documents of a YAML text.
pub fn documents(name: &str, text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Parses the one document of a YAML text.
pub fn document(name: &str, text: &str) -> Value {
    let documents = documents(name, text);
    assert_eq!(documents.len(), 1, "{name} holds one document");
    documents.into_iter().next().expect("counted above")
}

/// Gives the files below a folder of the tree with this ending, sorted.
pub fn files_below(folder: &str, ending: &str) -> Vec<PathBuf> {
    let pattern = root().join(folder).join("**").join(format!("*{ending}"));
    let found = glob::glob(pattern.to_str().expect("our paths are UTF-8")).expect("a good pattern");
    found.map(|path| path.expect("readable folder")).collect()
}
