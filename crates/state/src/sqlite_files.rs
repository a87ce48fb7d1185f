//! The files of the embedded database: whether one may be trusted, its snapshot, backups, what is set aside.
//!
//! SQLite survives crashes and power cuts by itself. What it cannot survive is that somebody copies its files one after
//! the other while they are in use (`tar` of the data folder): pages of different moments may look sound and not be.
//! So the file notes which file it is (inode and birth) and whether it is open. One that is open and stands in another
//! file than it says was copied while in use: the snapshot, a whole copy of one moment that is replaced by a rename,
//! takes its place. What is not taken is set aside, never deleted.
//! Deliberately absent: when a snapshot is made; the binary sets the pace.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use marketprism_model::Timestamp;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use crate::database::OpenError;

/// Pages that a backup copies between two reports.
const BACKUP_PAGES: i32 = 256;
/// What a snapshot must leave free on the disk.
const LEFT_FREE_BYTES: u64 = 16 << 20;
/// Sets of files that were set aside and are told apart by a number.
const SET_ASIDE_MAX: u32 = 10_000;

/// What was found when the records were opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OpenReport {
    /// Why the file was not simply taken as it stood; `None` when all is well.
    pub remark: Option<String>,
    /// Where the files that were not taken stand now; beside it those with `-wal` and `-shm`.
    pub set_aside: Option<PathBuf>,
    /// Whether the records come from the snapshot.
    pub is_from_snapshot: bool,
    /// The last moment that the records know of; with [`OpenReport::is_from_snapshot`], what came later is lost.
    pub records_until: Option<Timestamp>,
}

/// How far a backup has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackupProgress {
    /// Pages that were copied.
    pub pages: u64,
    /// Pages in all.
    pub pages_total: u64,
}

/// Gives where the snapshot of a file stands.
pub(crate) fn snapshot_of(path: &Path) -> PathBuf {
    path.with_extension("snapshot.db")
}

/// Decides which files to open, and puts the snapshot in place when it must be that.
pub(crate) fn choose(path: &Path) -> Result<OpenReport, OpenError> {
    let refuse = |error: io::Error| OpenError::of(path, error);
    let snapshot = snapshot_of(path);
    let has_snapshot = snapshot.exists();
    let reason = if path.exists() {
        match examine(path)? {
            Finding::Sound => return Ok(OpenReport::default()),
            Finding::Copied(reason) if !has_snapshot => {
                return match broken(path)? {
                    None => Ok(OpenReport {
                        remark: Some(format!(
                            "{reason}; there is no snapshot, and every check was passed"
                        )),
                        ..OpenReport::default()
                    }),
                    Some(damage) => Err(OpenError::damaged(path, damage)),
                };
            }
            Finding::Damaged(damage) if !has_snapshot => return Err(OpenError::damaged(path, damage)),
            Finding::Copied(reason) | Finding::Damaged(reason) => reason,
        }
    } else if has_snapshot {
        "the file is missing".to_owned()
    } else {
        return Ok(OpenReport::default());
    };
    if let Some(damage) = broken(&snapshot)? {
        return match path.exists().then(|| broken(path)).transpose()?.flatten() {
            None if path.exists() => Ok(OpenReport {
                remark: Some(format!(
                    "{reason}; the snapshot is damaged ({damage}), the file passed every check"
                )),
                ..OpenReport::default()
            }),
            _ => Err(OpenError::damaged(
                path,
                format!("{reason}; and its snapshot: {damage}"),
            )),
        };
    }
    let records_until = last_moment(&snapshot);
    let set_aside = set_aside(path).map_err(refuse)?;
    put(&snapshot, path).map_err(refuse)?;
    Ok(OpenReport {
        remark: Some(reason),
        set_aside,
        is_from_snapshot: true,
        records_until,
    })
}

enum Finding {
    Sound,
    /// Copied while it was in use: its pages may be of different moments, which no check tells for sure.
    Copied(String),
    Damaged(String),
}

fn examine(path: &Path) -> Result<Finding, OpenError> {
    let mark = match with_untouched(path, read_mark) {
        Ok(mark) => mark,
        Err(error) => {
            return damage_of(error)
                .map(Finding::Damaged)
                .map_err(|error| OpenError::of(path, error));
        }
    };
    let (inode, born_at) = identity(path).map_err(|error| OpenError::of(path, error))?;
    let is_open = mark.is_none_or(|mark| mark.is_open);
    let is_same = mark.is_none_or(|mark| (mark.inode, mark.born_at) == (inode, born_at));
    if is_open && !is_same {
        let reason = "the file was copied while it was in use, so its pages may be of different moments";
        return Ok(Finding::Copied(reason.to_owned()));
    }
    if !is_open && is_same {
        return Ok(Finding::Sound);
    }
    Ok(broken(path)?.map_or(Finding::Sound, Finding::Damaged))
}

/// Gives what is wrong with a database, `None` when nothing is.
pub(crate) fn broken(path: &Path) -> Result<Option<String>, OpenError> {
    let checked = with_untouched(path, |db| {
        let mut statement = db.prepare("PRAGMA integrity_check(3)")?;
        let lines: Vec<String> = statement
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        if lines != ["ok"] {
            return Ok(Some(lines.join("; ")));
        }
        let orphan = db.query_row("PRAGMA foreign_key_check", [], |row| row.get::<_, String>(0));
        Ok(orphan
            .optional()?
            .map(|table| format!("table {table} refers to records that are missing")))
    });
    match checked {
        Ok(found) => Ok(found),
        Err(error) => damage_of(error)
            .map(Some)
            .map_err(|error| OpenError::of(path, error)),
    }
}

/// Tells damage from what trying again may help against.
fn damage_of(error: rusqlite::Error) -> Result<String, rusqlite::Error> {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(error.to_string()),
        _ => Err(error),
    }
}

/// Looks into a database and leaves its files as they are.
fn with_untouched<T>(
    path: &Path,
    look: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
) -> Result<T, rusqlite::Error> {
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    look(&db)
}

#[derive(Clone, Copy)]
struct Mark {
    inode: i64,
    born_at: i64,
    is_open: bool,
}

fn read_mark(db: &Connection) -> Result<Option<Mark>, rusqlite::Error> {
    let is_known: bool = db.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE name = 'open_mark'",
        [],
        |row| row.get(0),
    )?;
    if !is_known {
        return Ok(None);
    }
    let sql = "SELECT inode, born_at, is_open FROM open_mark WHERE id = 1";
    db.query_row(sql, [], |row| {
        Ok(Mark {
            inode: row.get(0)?,
            born_at: row.get(1)?,
            is_open: row.get(2)?,
        })
    })
    .optional()
}

/// Notes in the file which file it is, and whether it is open.
pub(crate) fn write_mark(db: &Connection, path: &Path, is_open: bool) -> Result<(), rusqlite::Error> {
    let (inode, born_at) = identity(path).unwrap_or_default();
    db.execute(
        "INSERT INTO open_mark (id, inode, born_at, is_open) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET inode = excluded.inode, born_at = excluded.born_at,
             is_open = excluded.is_open",
        (inode, born_at, is_open),
    )?;
    Ok(())
}

/// The inode alone would not do: file systems use the number of a deleted file again.
fn identity(path: &Path) -> io::Result<(i64, i64)> {
    let file = fs::metadata(path)?;
    let born_at = file
        .created()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let born_at = born_at.map_or(0, |age| i64::try_from(age.as_nanos()).unwrap_or(0));
    Ok((file.ino().cast_signed(), born_at))
}

/// The newest moment that is written anywhere in the records.
fn last_moment(path: &Path) -> Option<Timestamp> {
    with_untouched(path, |db| {
        let sql = "SELECT max(coalesce((SELECT max(heartbeat_at) FROM lifecycle), 0),
                       coalesce((SELECT max(at) FROM alert_events), 0))";
        db.query_row(sql, [], |row| row.get::<_, i64>(0))
    })
    .ok()
    .filter(|millis| *millis > 0)
    .map(Timestamp::from_millis)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the file if there is none, and lets its owner alone read it: it holds the hashes of passwords and who did what.
///
/// SQLite gives a log that it makes the rights of its file; one from an earlier release may still have others. A file of
/// another owner stays as it is, since the records matter more than who may read them.
pub(crate) fn keep_private(path: &Path) {
    let private = |path: &Path, makes: bool| -> io::Result<()> {
        let mut options = File::options();
        let file = options.write(true).create(makes).mode(0o600).open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        Ok(())
    };
    for suffix in ["", "-wal", "-shm"] {
        let path = with_suffix(path, suffix);
        match private(&path, suffix.is_empty()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %path.display(), %error, "others may read the records");
            }
            _ => {}
        }
    }
}

/// Moves a database and its log out of the way; gives the new name, `None` when there was nothing.
fn set_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let files = ["-wal", "-shm", ""];
    if !files.iter().any(|suffix| with_suffix(path, suffix).exists()) {
        return Ok(None);
    }
    let is_free = |name: &PathBuf| !files.iter().any(|suffix| with_suffix(name, suffix).exists());
    let aside = (1..=SET_ASIDE_MAX)
        .map(|n| with_suffix(path, &format!(".damaged-{n}")))
        .find(is_free)
        .ok_or_else(|| io::Error::other("too many sets of damaged files stand beside it"))?;
    // The log goes first: a log without its database does no harm, a database without its log looks whole.
    for suffix in files {
        match fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_folder(path)?;
    Ok(Some(aside))
}

/// Puts a copy of a whole database where none stands, durable and by a rename.
fn put(from: &Path, to: &Path) -> io::Result<()> {
    let new = with_suffix(to, ".new");
    let _ = fs::remove_file(&new);
    fs::copy(from, &new)?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, to)?;
    sync_folder(to)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Takes a backup for the records at `path`, of which no process may have opened a part; what stood there is set
/// aside, and its name is given.
///
/// # Errors
/// A backup that is damaged or cannot be read; nothing is changed then.
pub fn restore(backup: &Path, path: &Path) -> Result<Option<PathBuf>, OpenError> {
    if let Some(damage) = broken(backup)? {
        return Err(OpenError::damaged(backup, damage));
    }
    let aside = set_aside(path).map_err(|error| OpenError::of(path, error))?;
    put(backup, path).map_err(|error| OpenError::of(path, error))?;
    // The snapshot is of the records that were replaced.
    let _ = fs::remove_file(snapshot_of(path));
    Ok(aside)
}

/// Copies the records at `path`, as they stand at this moment, into one file, while other processes go on writing.
///
/// The copy is checked, durable, and takes its name when it is whole; what had that name before is replaced. It does
/// not matter which schema the records have. `progress` is called every megabyte or so.
pub fn backup(path: &Path, to: &Path, progress: &mut dyn FnMut(BackupProgress)) -> Result<(), OpenError> {
    let new = with_suffix(to, ".partial");
    let copied = copy(path, &new, progress).and_then(|()| finish(&new, to));
    if copied.is_err() {
        remove(&new);
    }
    copied
}

fn copy(path: &Path, new: &Path, progress: &mut dyn FnMut(BackupProgress)) -> Result<(), OpenError> {
    remove(new);
    let refuse = |error: rusqlite::Error| OpenError::of(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(path, flags).map_err(refuse)?;
    source
        .busy_timeout(std::time::Duration::from_secs(5))
        .map_err(refuse)?;
    // An open question holds the moment, so that writers need not be waited for and never make the copy begin anew.
    let moment = source.unchecked_transaction().map_err(refuse)?;
    moment
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .map_err(refuse)?;
    let run = |progress: &mut dyn FnMut(BackupProgress)| -> Result<(), rusqlite::Error> {
        keep_private(new);
        let mut target = Connection::open(new)?;
        target.execute_batch("PRAGMA synchronous = OFF;")?;
        {
            let copying = Backup::new(&moment, &mut target)?;
            loop {
                let step = copying.step(BACKUP_PAGES)?;
                let now = copying.progress();
                progress(BackupProgress {
                    pages: u64::try_from(now.pagecount - now.remaining).unwrap_or(0),
                    pages_total: u64::try_from(now.pagecount).unwrap_or(0),
                });
                if step == StepResult::Done {
                    break;
                }
            }
        }
        close_mark(&target)?;
        target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
    };
    run(progress).map_err(|error| OpenError::of(new, error))
}

/// A copy of one moment is whole, whatever file it stands in.
fn close_mark(copy: &Connection) -> Result<(), rusqlite::Error> {
    if read_mark(copy)?.is_some() {
        copy.execute("UPDATE open_mark SET is_open = 0", [])?;
    }
    Ok(())
}

/// Checks a copy and gives it its name.
fn finish(new: &Path, to: &Path) -> Result<(), OpenError> {
    if let Some(damage) = broken(new)? {
        return Err(OpenError::damaged(new, damage));
    }
    let take = || -> io::Result<()> {
        File::open(new)?.sync_all()?;
        fs::rename(new, to)?;
        sync_folder(to)
    };
    take().map_err(|error| OpenError::of(to, error))
}

fn remove(new: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(with_suffix(new, suffix));
    }
}

/// Writes the snapshot of the records anew: without free pages, checked, replaced by a rename.
pub(crate) fn snapshot(path: &Path) -> Result<(), OpenError> {
    let to = snapshot_of(path);
    let new = with_suffix(&to, ".new");
    let taken = ensure_room(path).and_then(|()| {
        remove(&new);
        let run = || -> Result<(), rusqlite::Error> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let source = Connection::open_with_flags(path, flags)?;
            source.busy_timeout(std::time::Duration::from_secs(5))?;
            keep_private(&new);
            source.execute("VACUUM INTO ?1", [new.to_string_lossy()])?;
            close_mark(&Connection::open(&new)?)
        };
        run().map_err(|error| OpenError::of(&new, error))?;
        finish(&new, &to)
    });
    if taken.is_err() {
        remove(&new);
    }
    taken
}

fn ensure_room(path: &Path) -> Result<(), OpenError> {
    let free = || -> io::Result<(u64, u64)> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let disk = rustix::fs::statvfs(folder.unwrap_or(Path::new(".")))?;
        Ok((
            disk.f_bavail.saturating_mul(disk.f_frsize),
            fs::metadata(path)?.len(),
        ))
    };
    let (free, size) = free().map_err(|error| OpenError::of(path, error))?;
    if free < size + LEFT_FREE_BYTES {
        let reason = format!(
            "a snapshot wants {} MiB free on its disk, there are {}",
            (size + LEFT_FREE_BYTES) >> 20,
            free >> 20
        );
        return Err(OpenError::of(path, reason));
    }
    Ok(())
}
