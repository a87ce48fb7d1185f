//! Putting a backup in place: unpacked beside what is there, checked whole, then moved in.
//!
//! Everything happens inside the data folder, for in a container that folder is a mount that cannot be renamed. A restore
//! that was cut off leaves `.restoring` there; the service refuses to start on it, and the same command begins anew.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use marketprism_model::Timestamp;

use crate::backup::archive::{self, Head};
use crate::opening::lock_data;
use crate::progress;
use crate::records::Records;

/// Where a restore works, inside the data folder.
pub const WORK: &str = ".restoring";
/// How the name of the folder begins that takes what was there.
pub const SET_ASIDE: &str = "before-restore-";
/// Faults that are told one by one.
const FAULTS_SAID_MAX: usize = 20;
/// What of the data folder belongs to no backup.
const KEPT: [&str; 3] = ["lock", "lost+found", WORK];

/// What a restore is asked to do.
pub struct Restore<'a> {
    /// The backup.
    pub archive: &'a Path,
    /// Where the data goes.
    pub data_dir: &'a Path,
    /// Where the configuration goes.
    pub config_dir: Option<&'a Path>,
    /// Whether what is there is set aside.
    pub replaces: bool,
    /// Names what is set aside.
    pub now: Timestamp,
}

impl Restore<'_> {
    /// Restores; gives what to say about it. Fails, with what was there untouched, when the backup is not whole.
    pub fn run(&self) -> anyhow::Result<String> {
        let _lock = lock_data(self.data_dir)?;
        let present = children(self.data_dir)?;
        let mut occupied: Vec<&Path> = Vec::new();
        if !present.is_empty() {
            occupied.push(self.data_dir);
        }
        let configured = self.config_dir.map(children).transpose()?.unwrap_or_default();
        occupied.extend(self.config_dir.filter(|_| !configured.is_empty()));
        if let (Some(folder), false) = (occupied.first(), self.replaces) {
            bail!(
                "{} is not empty; give --replace to set aside what is there",
                folder.display()
            );
        }
        let work = self.data_dir.join(WORK);
        if work.exists() {
            std::fs::remove_dir_all(&work).with_context(|| format!("clear {}", work.display()))?;
        }
        std::fs::create_dir(&work).with_context(|| format!("make {}", work.display()))?;
        let (head, remarks) = match self.unpack(&work) {
            Ok(unpacked) => unpacked,
            Err(error) => {
                let _ = std::fs::remove_dir_all(&work);
                return Err(error);
            }
        };
        let mut said = format!(
            "restored the backup of {} (MarketPrism {}) to {}",
            head.made_at,
            head.program,
            self.data_dir.display()
        );
        let aside = format!("{SET_ASIDE}{}", file_name_time(self.now));
        if let Some(config_dir) = self.config_dir {
            set_aside(config_dir, &configured, &aside)?;
            move_in(&work.join("config"), config_dir)?;
            said += &format!(", its configuration to {}", config_dir.display());
        }
        set_aside(self.data_dir, &present, &aside)?;
        move_in(&work.join("data"), self.data_dir)?;
        std::fs::remove_dir_all(&work).with_context(|| format!("clear {}", work.display()))?;
        sync_folder(self.data_dir)?;
        if !present.is_empty() {
            said += &format!("; what was there is in {}", self.data_dir.join(&aside).display());
        }
        Ok(format!("{said}\n{remarks}"))
    }

    fn unpack(&self, work: &Path) -> anyhow::Result<(Head, String)> {
        let said = || format!("restore {}", self.archive.display());
        let file = File::open(self.archive).with_context(said)?;
        let bar = progress::bytes(file.metadata().with_context(said)?.len(), "unpacking");
        let head = archive::unpack(bar.wrap_read(file), work).with_context(said)?;
        bar.finish_and_clear();
        let data = work.join("data");
        if !data.is_dir() {
            bail!("{} holds no data", self.archive.display());
        }
        // An archive holds files; a store without a block, or without a segment, still has the folder for it.
        for folder in ["samples/wal", "samples/blocks"] {
            let folder = data.join(folder);
            std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let remarks = verify(&data).with_context(said)?;
        Ok((head, remarks))
    }
}

/// Checks that the service will be able to open what was unpacked; gives what to say of it.
fn verify(data: &Path) -> anyhow::Result<String> {
    let mut said = String::new();
    let records = Records::file(data);
    if records.exists() {
        marketprism_state::Database::open_beside(&records)?;
    }
    let samples = data.join("samples");
    let bar = progress::bytes(0, "checking");
    let report = marketprism_storage::verify(&samples, &|progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes);
    });
    let report = report.context("check the samples")?;
    bar.finish_and_clear();
    // The archive is as it was written, so this damage was saved with it; the service leaves such parts out.
    for fault in report.faults.iter().take(FAULTS_SAID_MAX) {
        let file = samples.join(&fault.file);
        let _ = writeln!(
            said,
            "damaged when it was saved: {}: {}",
            file.display(),
            fault.reason
        );
    }
    Ok(said)
}

/// Gives what of a folder would be in the way; a folder that is not there has nothing.
fn children(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", folder.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("read {}", folder.display()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !KEPT.contains(&name.as_ref()) && !name.starts_with(SET_ASIDE) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn set_aside(folder: &Path, present: &[PathBuf], name: &str) -> anyhow::Result<()> {
    if present.is_empty() {
        return Ok(());
    }
    let aside = folder.join(name);
    // Never into one that is there: a restore of the same second that was cut off has put what matters into it.
    std::fs::create_dir(&aside).with_context(|| format!("make {}; try again", aside.display()))?;
    for path in present {
        rename_into(path, &aside)?;
    }
    Ok(())
}

fn move_in(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for path in children(from)? {
        rename_into(&path, to)?;
    }
    Ok(())
}

/// Moves a file or folder into a folder; where a rename cannot, for the two are on different disks, it copies.
fn rename_into(path: &Path, folder: &Path) -> anyhow::Result<()> {
    let name = path.file_name().context("a folder's child has a name")?;
    let target = folder.join(name);
    let said = || format!("move {} to {}", path.display(), target.display());
    match std::fs::rename(path, &target) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            copy_all(path, &target).with_context(said)?;
            if path.is_dir() {
                std::fs::remove_dir_all(path).with_context(said)
            } else {
                std::fs::remove_file(path).with_context(said)
            }
        }
        outcome => outcome.with_context(said),
    }
}

fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        return std::fs::copy(from, to).map(|_| ());
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        copy_all(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    let synced = File::open(folder).and_then(|file| file.sync_all());
    synced.with_context(|| format!("sync {}", folder.display()))
}

/// Writes a moment so that it can stand in a file's name: `20260102T030405Z`.
pub fn file_name_time(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.split('.').next().unwrap_or(&text).trim_end_matches('Z');
    seconds.replace(['-', ':'], "") + "Z"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_file_names_allow() {
        let at = Timestamp::from_millis(1_767_323_045_678);
        assert_eq!(file_name_time(at), "20260102T030405Z");
        assert_eq!(
            file_name_time(Timestamp::from_millis(1_767_323_045_000)),
            "20260102T030405Z"
        );
    }
}
