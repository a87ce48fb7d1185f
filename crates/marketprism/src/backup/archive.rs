//! The archive of a backup: a gzip-compressed tar whose first member says what it is and whose last lists all others.
//!
//! Ordinary `tar` reads it. The list at the end carries length and SHA-256 of each member, so that an archive that was
//! cut off or altered is refused before anything is put in its place. Drawn in docs/formats/backup.md.
//! Deliberately absent: what is saved and where it goes; that is next door.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use ring::digest::{self, SHA256};
use serde::{Deserialize, Serialize};

/// The version of the archive's form.
const FORMAT: u32 = 1;
/// The first member.
const HEAD: &str = "marketprism-backup.json";
/// The last member.
const LIST: &str = "manifest.json";
/// Longest of these two, in bytes.
const JSON_BYTES_MAX: u64 = 64 << 20;
/// Bytes that are copied at once.
const PIECE_BYTES: usize = 64 << 10;

/// What an archive says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The form's version.
    pub format: u32,
    /// The program's version.
    pub program: String,
    /// When it was made, RFC 3339.
    pub made_at: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Member {
    path: PathBuf,
    bytes: u64,
    sha256: String,
}

/// Writes an archive, member by member.
pub struct Writer<W: Write> {
    tar: tar::Builder<GzEncoder<W>>,
    members: Vec<Member>,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn start(to: W, made_at: String) -> anyhow::Result<Self> {
        let head = Head {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            made_at,
        };
        // Samples are packed already; more effort would cost time and save little.
        let mut tar = tar::Builder::new(GzEncoder::new(to, Compression::fast()));
        append(&mut tar, Path::new(HEAD), &serde_json::to_vec_pretty(&head)?)?;
        Ok(Writer {
            tar,
            members: Vec::new(),
        })
    }

    /// Adds a file of exactly `bytes`; one that grew meanwhile is taken up to there, a shorter one is an error.
    pub fn add(&mut self, path: &Path, bytes: u64, from: &mut dyn Read) -> anyhow::Result<()> {
        let mut counted = Hashing::new(from.take(bytes));
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        self.tar
            .append_data(&mut header, path, &mut counted)
            .with_context(|| format!("write {} to the archive", path.display()))?;
        let (read, sha256) = counted.finish();
        if read != bytes {
            bail!(
                "{} has {read} bytes, not {bytes} as a moment before; try again",
                path.display()
            );
        }
        self.members.push(Member {
            path: path.to_owned(),
            bytes,
            sha256,
        });
        Ok(())
    }

    /// Adds a file of the disk.
    pub fn add_file(&mut self, path: &Path, from: &Path) -> anyhow::Result<()> {
        let mut file = File::open(from).with_context(|| format!("open {}", from.display()))?;
        let bytes = file
            .metadata()
            .with_context(|| format!("read {}", from.display()))?
            .len();
        self.add(path, bytes, &mut file)
    }

    /// Ends the archive; gives the number of files and of bytes in it, and what it was written to.
    pub fn finish(mut self) -> anyhow::Result<(u64, u64, W)> {
        append(
            &mut self.tar,
            Path::new(LIST),
            &serde_json::to_vec_pretty(&self.members)?,
        )?;
        let to = self.tar.into_inner().context("end the archive")?;
        let to = to.finish().context("end the archive")?;
        let bytes = self.members.iter().map(|member| member.bytes).sum();
        Ok((self.members.len() as u64, bytes, to))
    }
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    tar.append_data(&mut header, path, bytes)
        .with_context(|| format!("write {} to the archive", path.display()))
}

/// Unpacks an archive into an empty folder and checks every file of it; gives what it says of itself.
///
/// Fails, with the folder half full, when anything differs from what the archive's list says, or the list is missing.
pub fn unpack(from: impl Read, folder: &Path) -> anyhow::Result<Head> {
    let mut tar = tar::Archive::new(GzDecoder::new(from));
    let mut entries = tar.entries().context("read the archive")?;
    let mut first = entries
        .next()
        .context("the archive is empty")?
        .context("this is no backup of MarketPrism")?;
    if first.path().context("read the archive")? != Path::new(HEAD) {
        bail!(
            "this is no backup of MarketPrism: it does not begin with {HEAD}; a plain tar is unpacked with tar"
        );
    }
    let head: Head = read_json(&mut first)?;
    if head.format > FORMAT {
        bail!(
            "the backup was made by MarketPrism {} in form {}; this program reads forms up to {FORMAT}; use the newer program",
            head.program,
            head.format
        );
    }
    let mut found = Vec::new();
    for entry in entries {
        let mut entry = entry.context("the archive is cut off or damaged")?;
        let path = entry
            .path()
            .context("a member has no readable name")?
            .into_owned();
        if path == Path::new(LIST) {
            let listed: Vec<Member> = read_json(&mut entry)?;
            if listed != found {
                bail!("the archive's files are not those of its list; it was altered or damaged");
            }
            return Ok(head);
        }
        if !entry.header().entry_type().is_file() || !is_plain(&path) {
            bail!("the archive holds {}, which no backup has", path.display());
        }
        found.push(write_out(&mut entry, path, folder)?);
    }
    bail!("the archive is cut off: its list is missing")
}

fn read_json<T: for<'a> Deserialize<'a>>(entry: &mut impl Read) -> anyhow::Result<T> {
    let mut bytes = Vec::new();
    let limited = entry.take(JSON_BYTES_MAX).read_to_end(&mut bytes);
    limited.context("the archive is cut off or damaged")?;
    serde_json::from_slice(&bytes).context("the archive's own description cannot be read")
}

fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_))) && path.components().count() > 0
}

fn write_out(entry: &mut impl Read, path: PathBuf, folder: &Path) -> anyhow::Result<Member> {
    let target = folder.join(&path);
    let said = || format!("unpack {}", path.display());
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).with_context(said)?;
    }
    let mut file = private_file(&target).with_context(said)?;
    let mut reading = Hashing::new(entry);
    let copied = io::copy(
        &mut io::BufReader::with_capacity(PIECE_BYTES, &mut reading),
        &mut file,
    );
    copied.with_context(|| format!("unpack {}: the archive is cut off or damaged", path.display()))?;
    file.sync_all().with_context(said)?;
    let (bytes, sha256) = reading.finish();
    Ok(Member { path, bytes, sha256 })
}

/// Makes a file that only its owner reads; one that exists is an error.
pub fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Counts and digests what passes through.
struct Hashing<R> {
    inner: R,
    bytes: u64,
    digest: digest::Context,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Self {
        Hashing {
            inner,
            bytes: 0,
            digest: digest::Context::new(&SHA256),
        }
    }

    fn finish(self) -> (u64, String) {
        let digest = self.digest.finish();
        let text = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        (self.bytes, text)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer =
            Writer::start(Vec::new(), "2026-01-01T00:00:00Z".to_owned()).expect("begin an archive");
        for (path, bytes) in files {
            writer
                .add(Path::new(path), bytes.len() as u64, &mut &bytes[..])
                .expect(path);
        }
        writer.finish().expect("end the archive").2
    }

    fn refused(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        format!(
            "{:#}",
            unpack(bytes, folder.path()).expect_err("it must be refused")
        )
    }

    #[test]
    fn what_went_in_comes_out() {
        let long = vec![7; 200_000];
        let bytes = archive(&[("data/records.db", b"rows"), ("data/samples/wal/1", &long)]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let head = unpack(&bytes[..], folder.path()).expect("it is whole");
        assert_eq!(head.made_at, "2026-01-01T00:00:00Z");
        let read = |path: &str| std::fs::read(folder.path().join(path)).expect(path);
        assert_eq!(read("data/records.db"), b"rows");
        assert_eq!(read("data/samples/wal/1"), long);
    }

    #[test]
    fn an_archive_that_was_cut_off_anywhere_is_refused() {
        let bytes = archive(&[("a", b"some words"), ("b", &[1; 5000])]);
        // The last eight bytes are gzip's own checksum and the zero blocks that end a tar lie before it.
        for length in 0..bytes.len() - 40 {
            refused(&bytes[..length]);
        }
    }

    #[test]
    fn an_archive_with_any_byte_altered_is_refused_or_the_same() {
        let good = archive(&[("a", b"some words"), ("b", &[1; 300])]);
        for position in 0..good.len() {
            let mut bytes = good.clone();
            bytes[position] ^= 0x10;
            let folder = tempfile::tempdir().expect("a temporary folder");
            if unpack(&bytes[..], folder.path()).is_ok() {
                let read = |path: &str| std::fs::read(folder.path().join(path)).expect(path);
                assert_eq!((read("a"), read("b")), (b"some words".to_vec(), vec![1; 300]));
            }
        }
    }

    #[test]
    fn members_that_lead_elsewhere_and_foreign_tars_are_refused() {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        append(&mut tar, Path::new("etc/passwd"), b"x").expect("append");
        let bytes = tar.into_inner().and_then(GzEncoder::finish).expect("end");
        assert!(refused(&bytes).contains("no backup of MarketPrism"));

        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        append(
            &mut tar,
            Path::new(HEAD),
            br#"{"format":1,"program":"1","made_at":""}"#,
        )
        .expect("append");
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().expect("it is GNU's").name[..5].copy_from_slice(b"../up");
        header.set_size(1);
        header.set_cksum();
        tar.append(&header, &b"x"[..]).expect("append");
        let bytes = tar.into_inner().and_then(GzEncoder::finish).expect("end");
        assert!(refused(&bytes).contains("which no backup has"));

        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        append(
            &mut tar,
            Path::new(HEAD),
            br#"{"format":9,"program":"7.0","made_at":""}"#,
        )
        .expect("append");
        let bytes = tar.into_inner().and_then(GzEncoder::finish).expect("end");
        assert!(refused(&bytes).contains("made by MarketPrism 7.0 in form 9"));
    }
}
