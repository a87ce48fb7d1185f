//! What a configuration was made of, so that a change can be seen.
//!
//! Files are compared by content, and content is read only when the file's data changed (time, length, number), so
//! that looking costs a few system calls and a touch or a redeployment of the same content means nothing.
//! Links are followed: when a ConfigMap's `..data` is pointed elsewhere, every file below is another one.
//! Deliberately absent: the watching itself, and the kernel's notices, which network mounts and many container
//! volumes do not send.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::FILE_BYTES_MAX;

/// Files by name and by pattern.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watched {
    /// Files that were read, or would be if they were there.
    pub files: Vec<PathBuf>,
    /// Where patterns start.
    pub folder: PathBuf,
    /// Patterns of rule files.
    pub patterns: Vec<String>,
}

/// As many files are looked at; rule files have the same limit.
const FILES_MAX: usize = marketprism_rules::FILES_MAX + 1000;

impl Watched {
    /// Lists the files that are there, or are named.
    fn list(&self) -> Vec<PathBuf> {
        let mut files = self.files.clone();
        for pattern in &self.patterns {
            if !pattern.contains(['*', '?', '[']) {
                files.push(self.folder.join(pattern));
                continue;
            }
            let folder = glob::Pattern::escape(&self.folder.to_string_lossy());
            let pattern = Path::new(&folder).join(pattern);
            if let Ok(found) = glob::glob(&pattern.to_string_lossy()) {
                files.extend(found.flatten().take(FILES_MAX));
            }
        }
        files.truncate(FILES_MAX);
        files
    }

    /// Adds what another attempt named.
    pub fn extend(&mut self, files: &[PathBuf]) {
        for file in files {
            if !self.files.contains(file) {
                self.files.push(file.clone());
            }
        }
    }
}

/// What the file system says about a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Data {
    modified: (i64, i64),
    changed: (i64, i64),
    length: u64,
    number: (u64, u64),
}

/// What stood in the files at one time. Two are equal when the contents are.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    files: BTreeMap<PathBuf, Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    data: Option<Data>,
    content: u64,
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        let contents = |snapshot: &Self| -> Vec<(PathBuf, u64)> {
            let files = snapshot.files.iter();
            files.map(|(file, seen)| (file.clone(), seen.content)).collect()
        };
        contents(self) == contents(other)
    }
}

impl Snapshot {
    /// Looks at everything. Files may be given as they were read, for they may have changed since.
    pub fn take(watched: &Watched, as_read: &[(&Path, &str)]) -> Self {
        let mut snapshot = Snapshot::default().again(watched);
        for (path, text) in as_read {
            let Some(seen) = snapshot.files.get_mut(*path) else {
                continue;
            };
            let content = hash(text.as_bytes());
            // What is no file has no content to compare.
            if seen.content > 2 && seen.content != content {
                *seen = Seen { data: None, content };
            }
        }
        snapshot
    }

    /// Looks at files that were not looked at yet, and leaves the others as they were.
    #[must_use]
    pub fn with_new(mut self, watched: &Watched) -> Self {
        for file in watched.list() {
            self.files.entry(file).or_insert_with_key(|file| {
                let data = data(file);
                let content = content(file, data);
                Seen { data, content }
            });
        }
        self
    }

    /// Looks again; only files whose data changed are read.
    #[must_use]
    pub fn again(&self, watched: &Watched) -> Self {
        let files = watched.list().into_iter().map(|file| {
            let data = data(&file);
            let content = match self.files.get(&file) {
                Some(before) if before.data == data && data.is_some() => before.content,
                _ => content(&file, data),
            };
            (file, Seen { data, content })
        });
        Snapshot {
            files: files.collect(),
        }
    }
}

fn data(file: &Path) -> Option<Data> {
    let found = std::fs::metadata(file).ok()?;
    Some(Data {
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
        length: found.len(),
        number: (found.dev(), found.ino()),
    })
}

/// Gives a number for the content; 0 for what is not there. A pipe or a device is not read.
fn content(file: &Path, data: Option<Data>) -> u64 {
    if data.is_none() {
        return 0;
    }
    let is_file = std::fs::metadata(file).is_ok_and(|found| found.is_file());
    if !is_file {
        return 1;
    }
    let mut bytes = Vec::new();
    match std::fs::File::open(file).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)) {
        Ok(_) => hash(&bytes),
        Err(_) => 2,
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_content_is_seen_and_a_touch_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("write");
        let watched = Watched {
            files: vec![folder.path().join("config.yaml")],
            folder: folder.path().to_owned(),
            patterns: vec!["rules/*.yaml".to_owned()],
        };
        write("config.yaml", "a: 1");
        std::fs::create_dir(folder.path().join("rules")).expect("make the folder");
        let mut before = Snapshot::take(&watched, &[]);
        let mut check = |is_changed: bool, what: &str| {
            let now = before.again(&watched);
            assert_eq!(now != before, is_changed, "{what}");
            before = now;
        };
        check(false, "nothing happened");
        write("config.yaml", "a: 1");
        check(false, "the same was written");
        write("config.yaml", "a: 2");
        check(true, "another content of the same length");
        write("rules/a.yaml", "groups: []");
        check(true, "a rule file more");
        write("rules/a.txt", "");
        check(false, "a file that no pattern names");
        std::fs::remove_file(folder.path().join("rules/a.yaml")).expect("remove");
        check(true, "a rule file less");
        std::fs::remove_file(folder.path().join("config.yaml")).expect("remove");
        check(true, "no configuration");
    }

    /// Kubernetes writes a new folder and renames a link to it over `..data`.
    #[test]
    fn the_swap_of_a_config_maps_link_is_seen() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let deploy = |version: &str, text: &str| {
            std::fs::create_dir(at(version)).expect("make the folder");
            std::fs::write(at(version).join("config.yaml"), text).expect("write");
            std::os::unix::fs::symlink(version, at("..data_tmp")).expect("link");
            std::fs::rename(at("..data_tmp"), at("..data")).expect("swap");
        };
        deploy("..1", "a: 1");
        std::os::unix::fs::symlink("..data/config.yaml", at("config.yaml")).expect("link");
        let watched = Watched {
            files: vec![at("config.yaml")],
            ..Watched::default()
        };
        let before = Snapshot::take(&watched, &[]);
        deploy("..2", "a: 1");
        assert_eq!(before.again(&watched), before, "the same content");
        deploy("..3", "a: 2");
        assert_ne!(before.again(&watched), before);
    }

    #[test]
    fn a_file_that_changed_after_it_was_read_is_seen_as_changed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, "a: 2").expect("write");
        let watched = Watched {
            files: vec![file.clone()],
            ..Watched::default()
        };
        let read = Snapshot::take(&watched, &[(&file, "a: 1")]);
        assert_ne!(read.again(&watched), read);
        let read = Snapshot::take(&watched, &[(&file, "a: 2")]);
        assert_eq!(read.again(&watched), read);
    }
}
