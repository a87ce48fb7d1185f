//! A log file that is set aside before it grows too long.
//!
//! Own code, for the crates that rotate by size are either unkept or do not bound the number of files, and a log must
//! never fill the disk that the records need. When the file cannot be set aside, nothing more is written to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::FileConfig;

/// Lines tell of hosts and rules; they are for the owner and the group.
const MODE: u32 = 0o640;

/// The file, its size, and what went wrong with it.
pub(super) struct RotatingFile {
    config: FileConfig,
    file: Option<File>,
    size: u64,
    is_troubled: bool,
}

impl RotatingFile {
    /// Opens the file to write behind what is there.
    pub fn open(config: FileConfig) -> io::Result<Self> {
        let folder = config
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder)?;
        }
        let mut opened = RotatingFile {
            config,
            file: None,
            size: 0,
            is_troubled: false,
        };
        opened.reopen()?;
        Ok(opened)
    }

    /// Writes a line; gives the reason when a trouble begins, so that it is told once.
    pub fn write(&mut self, line: &[u8]) -> Option<String> {
        let outcome = self.attempt(line);
        let was_troubled = std::mem::replace(&mut self.is_troubled, outcome.is_err());
        let error = outcome.err()?;
        (!was_troubled).then(|| format!("{}: {error}", self.config.path.display()))
    }

    fn attempt(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > self.config.max_bytes {
            self.file = None;
            self.set_aside()?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        if let Some(file) = &mut self.file {
            // Part of the line may be there even if it fails.
            self.size += length;
            file.write_all(line)?;
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(MODE)
            .open(&self.config.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Moves the file to `.1`, what was there to `.2`, and so on; the oldest goes.
    fn set_aside(&mut self) -> io::Result<()> {
        for number in (0..self.config.keep).rev() {
            match std::fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.config.keep == 0 {
            std::fs::remove_file(&self.config.path)?;
        }
        self.size = 0;
        Ok(())
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut path = self.config.path.clone().into_os_string();
        if number > 0 {
            path.push(format!(".{number}"));
        }
        path.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn config(folder: &Path, keep: usize) -> FileConfig {
        FileConfig {
            path: folder.join("made/marketprism.log"),
            max_bytes: 20,
            keep,
        }
    }

    fn files(folder: &Path) -> BTreeMap<String, String> {
        std::fs::read_dir(folder.join("made"))
            .expect("the folder was made")
            .map(|entry| {
                let entry = entry.expect("readable");
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, std::fs::read_to_string(entry.path()).expect("text"))
            })
            .collect()
    }

    fn expected(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, text)| (format!("marketprism.log{name}"), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn files_and_their_number_stay_bounded_and_the_newest_lines_are_kept() {
        let home = tempfile::tempdir().expect("a folder");
        let mut file = RotatingFile::open(config(home.path(), 2)).expect("opened");
        for n in 0..9 {
            assert_eq!(file.write(format!("line {n:03}\n").as_bytes()), None);
        }
        let kept = [
            ("", "line 008\n"),
            (".1", "line 006\nline 007\n"),
            (".2", "line 004\nline 005\n"),
        ];
        assert_eq!(files(home.path()), expected(&kept));
        // A new start writes behind what is there; a line that is too long has a file of its own.
        drop(file);
        let mut file = RotatingFile::open(config(home.path(), 2)).expect("opened");
        file.write(b"line 009\n");
        file.write(b"a line of more than twenty bytes\n");
        let kept = [
            ("", "a line of more than twenty bytes\n"),
            (".1", "line 008\nline 009\n"),
            (".2", "line 006\nline 007\n"),
        ];
        assert_eq!(files(home.path()), expected(&kept));
    }

    #[test]
    fn nothing_set_aside_means_one_file() {
        let home = tempfile::tempdir().expect("a folder");
        let mut file = RotatingFile::open(config(home.path(), 0)).expect("opened");
        for n in 0..3 {
            assert_eq!(file.write(format!("line {n:03}\n").as_bytes()), None);
        }
        assert_eq!(files(home.path()), expected(&[("", "line 002\n")]));
    }

    #[test]
    fn a_trouble_is_told_once_and_over_when_it_is_over() {
        let home = tempfile::tempdir().expect("a folder");
        let mut file = RotatingFile::open(config(home.path(), 1)).expect("opened");
        file.write(b"line 000\nline 001\n");
        // A folder stands where the file is to be set aside.
        let blocked = home.path().join("made/marketprism.log.1");
        std::fs::create_dir_all(blocked.join("inside")).expect("a folder");
        let told = file.write(b"line 002\n").expect("it is told");
        assert!(told.contains("marketprism.log"), "{told}");
        assert_eq!(file.write(b"line 003\n"), None);
        std::fs::remove_dir_all(&blocked).expect("removed");
        assert_eq!(file.write(b"line 004\n"), None);
        let kept = [("", "line 004\n"), (".1", "line 000\nline 001\n")];
        assert_eq!(files(home.path()), expected(&kept));
    }
}
