//! The file layer: the few things the store asks of a file system, as a port.
//!
//! The store touches files only through here, so that a test can hand it a disk that is full, writes half of
//! what it is given, or fails at fsync. What was written must be whatever the system accepted: retrying a failed
//! write or fsync is the caller's decision, and the store never does it on the same file.
//! Deliberately absent: seeking and writing in place. Files are written once, front to back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

/// A file being written, front to back.
pub trait LogFile: Send + Sync {
    /// Hands bytes to the system; may take fewer than given, as write(2) does.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Waits until everything written is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// Writes all bytes, in as many pieces as the system takes.
pub fn write_all(file: &dyn LogFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => bytes = &bytes[taken..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The bytes of a finished file, mapped or in memory.
pub enum View {
    /// The file's pages, read by the kernel when they are touched.
    Mapped(memmap2::Mmap),
    /// A copy.
    Owned(Vec<u8>),
}

impl Deref for View {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            View::Mapped(map) => map,
            View::Owned(bytes) => bytes,
        }
    }
}

/// What keeps a folder for one process; released when dropped.
pub type FolderLock = Box<dyn Send + Sync>;

/// A file system.
pub trait Files: Send + Sync + 'static {
    /// Makes a folder and its parents.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Names what a folder holds, in no particular order; names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a new file for writing; an existing one is an error.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;
    /// Reads a whole file into memory.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Gives a finished file's bytes without reading them all.
    fn view(&self, path: &Path) -> io::Result<View>;
    /// Gives a file's size in bytes.
    fn size(&self, path: &Path) -> io::Result<u64>;
    /// Cuts a file to `len` bytes and waits until the disk knows.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Renames a file or folder, replacing a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all it holds.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Waits until the disk knows the names in a folder.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the folder for this process; `WouldBlock` when another one has it.
    fn lock(&self, path: &Path) -> io::Result<FolderLock>;
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

struct DiskFile(File);

impl LogFile for DiskFile {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Files for Disk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    #[allow(unsafe_code)]
    fn view(&self, path: &Path) -> io::Result<View> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(View::Owned(Vec::new()));
        }
        // SAFETY: a map is sound as long as nobody changes the file under it. Block files are written under
        // another name, synchronised, renamed, and from then on never written or cut by this program; deleting
        // one leaves the mapped pages alive. Log segments are mapped only once they are closed. The folder is
        // locked against a second process that writes. Mapping is worth it because a block's index is read at
        // random places, and only where a query needs it.
        Ok(View::Mapped(unsafe { memmap2::Mmap::map(&file)? }))
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<FolderLock> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Box::new(HeldLock(file)))
    }
}

struct HeldLock(File);

impl Drop for HeldLock {
    fn drop(&mut self) {
        // Closing is not enough: a process that is just being started holds a copy of the file until its exec.
        // When this fails, that copy's end releases the lock a moment later.
        let _ = self.0.unlock();
    }
}
