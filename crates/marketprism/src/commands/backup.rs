//! `marketprism backup`: data and configuration in one file, while the service runs.
//!
//! The records are one moment of the database, the samples all that were taken before the backup began. What it costs the
//! service is reading: no lock is taken that it would wait for.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use marketprism_model::Clock as _;

use crate::backup::archive::{Writer, private_file};
use crate::backup::restore::{Restore, SET_ASIDE, file_name_time};
use crate::cli;
use crate::clock::SystemClock;
use crate::commands::{database_url, load, told_to_stop};
use crate::first_start::{ADMIN_PASSWORD, JWT_SECRET};
use crate::progress;
use crate::records::Records;

/// Files of the configuration's folder that are saved at most, and the bytes of each.
const CONFIG_FILES_MAX: usize = 10_000;
const CONFIG_FILE_BYTES_MAX: u64 = 16 << 20;

/// How the names of backups begin that are given none.
const NAME: &str = "marketprism-backup-";
/// How the name of the folder begins that the records are copied to.
const WORK: &str = ".backup-";

/// Saves; gives what to say about it.
pub fn backup(options: &cli::Backup) -> anyhow::Result<String> {
    let loaded = load(&options.place)?;
    let data_dir = &options.place.data_dir;
    if !data_dir.join("samples").is_dir() {
        bail!(
            "{} holds no data of this program; give the service's folder with --data-dir",
            data_dir.display()
        );
    }
    let now = SystemClock::default().now();
    let output = options
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{NAME}{}.tar.gz", file_name_time(now))));
    if output.exists() {
        bail!("{} exists; name another file with --output", output.display());
    }
    let partial = output.with_extension("partial");
    let _ = std::fs::remove_file(&partial);
    let file = private_file(&partial).with_context(|| format!("make {}", partial.display()))?;
    // Beside the data, for there is room for it where the database itself grows.
    let work = tempfile::Builder::new().prefix(WORK).tempdir_in(data_dir);
    let work = work.with_context(|| format!("make a folder in {}", data_dir.display()))?;
    told_to_stop::then_remove(vec![partial.clone(), work.path().to_owned()])?;
    let is_shared = database_url(&loaded).is_some();
    let saved = save(
        file,
        &partial,
        work.path(),
        &options.place,
        now.to_string(),
        is_shared,
    );
    let Saved {
        files,
        bytes,
        damaged,
    } = match saved {
        Ok(saved) => saved,
        Err(error) => {
            let _ = std::fs::remove_file(&partial);
            return Err(error);
        }
    };
    std::fs::rename(&partial, &output).with_context(|| format!("make {}", output.display()))?;
    let mut said = format!(
        "{}: {files} files, {bytes} bytes before compression\n",
        output.display()
    );
    for fault in damaged {
        said += &format!(
            "damaged, and saved as it is: {}: {}\n",
            fault.file.display(),
            fault.reason
        );
    }
    if is_shared {
        said += "the records are in the shared database and are not in this file; save them with pg_dump \"$DATABASE_URL\"\n";
    }
    Ok(said)
}

/// What an archive came to.
struct Saved {
    files: u64,
    bytes: u64,
    damaged: Vec<marketprism_storage::Fault>,
}

fn save(
    file: File,
    partial: &Path,
    work: &Path,
    place: &cli::Place,
    made_at: String,
    is_shared: bool,
) -> anyhow::Result<Saved> {
    let data_dir = &place.data_dir;
    let mut writer = Writer::start(BufWriter::new(file), made_at)?;
    if !is_shared {
        let copy = work.join("records.db");
        let bar = progress::bytes(0, "records");
        marketprism_state::backup(&Records::file(data_dir), &copy, &mut |progress| {
            bar.set_length(progress.pages_total * PAGE_BYTES);
            bar.set_position(progress.pages * PAGE_BYTES);
        })?;
        bar.finish_and_clear();
        writer.add_file(Path::new("data/records.db"), &copy)?;
    }
    for name in [JWT_SECRET, ADMIN_PASSWORD] {
        let path = data_dir.join(name);
        if path.exists() {
            writer.add_file(&Path::new("data").join(name), &path)?;
        }
    }
    if let Some(config) = &place.config {
        save_config(&mut writer, config, &[data_dir, partial])?;
    }
    let bar = progress::bytes(0, "samples");
    let root = Path::new("data/samples");
    let mut write = |path: &Path, content: &mut dyn Read, bytes: u64| {
        let added = writer.add(&root.join(path), bytes, content);
        added.map_err(|error| std::io::Error::other(format!("{error:#}")))
    };
    let saved = marketprism_storage::backup(&data_dir.join("samples"), &mut write, &|progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes);
    });
    let damaged = saved.context("save the samples")?.faults;
    bar.finish_and_clear();
    let (files, bytes, to) = writer.finish()?;
    let file = to.into_inner().context("write the archive")?;
    file.sync_all().context("sync the archive")?;
    Ok(Saved {
        files,
        bytes,
        damaged,
    })
}

/// SQLite's pages, as the records are made.
const PAGE_BYTES: u64 = 4096;

/// Saves the folder of the configuration file: the file, rules, templates, secrets beside it. Data, earlier backups and
/// what a restore set aside are none of it, though they may stand there too.
fn save_config<W: std::io::Write>(
    writer: &mut Writer<W>,
    config: &Path,
    others: &[&Path],
) -> anyhow::Result<()> {
    let others: Vec<PathBuf> = others
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    let is_other = |name: &OsStr, path: &Path| {
        let name = name.to_string_lossy();
        name.starts_with(NAME)
            || name.starts_with(SET_ASIDE)
            || path.canonicalize().is_ok_and(|path| others.contains(&path))
    };
    let folder = config
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut waiting = vec![PathBuf::new()];
    let mut count = 0;
    while let Some(inner) = waiting.pop() {
        let at = folder.join(&inner);
        let entries = std::fs::read_dir(&at).with_context(|| format!("read {}", at.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("read {}", at.display()))?;
            if is_other(&entry.file_name(), &entry.path()) {
                continue;
            }
            let name = inner.join(entry.file_name());
            // A link is saved as what it leads to, for a ConfigMap is a folder of links.
            let meta = match std::fs::metadata(entry.path()) {
                Ok(meta) => meta,
                Err(error) => {
                    tracing::warn!(file = %entry.path().display(), error = %error, "not saved");
                    continue;
                }
            };
            if meta.is_dir() {
                if !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    waiting.push(name);
                }
                continue;
            }
            if !meta.is_file() {
                tracing::warn!(file = %entry.path().display(), "not saved: no ordinary file");
                continue;
            }
            count += 1;
            if count > CONFIG_FILES_MAX || meta.len() > CONFIG_FILE_BYTES_MAX {
                bail!(
                    "{} is no folder of configuration alone: more than {CONFIG_FILES_MAX} files, or one above {CONFIG_FILE_BYTES_MAX} bytes ({})",
                    folder.display(),
                    name.display()
                );
            }
            writer.add_file(&Path::new("config").join(&name), &entry.path())?;
        }
    }
    Ok(())
}

/// Puts a backup in place; gives what to say about it.
pub fn restore(options: &cli::Restore) -> anyhow::Result<String> {
    Restore {
        archive: &options.archive,
        data_dir: &options.data_dir,
        config_dir: options.config_dir.as_deref(),
        replaces: options.replace,
        now: SystemClock::default().now(),
    }
    .run()
}
