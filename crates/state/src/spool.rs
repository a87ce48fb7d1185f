//! The journal of messages that were decided while the database was away: what is to be sent, and what was.
//!
//! One file in the data folder, drawn in `docs/formats/spool.md`: frames with length and checksum, appended and synced
//! before a byte leaves. A torn end, as after a crash, is cut off; a file that is none of ours is set aside.
//! Bounded in messages and bytes; what does not fit is refused, and waits in memory as without a spool.
//! Deliberately absent: who may send, and when.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use marketprism_model::{DeliveryAttempt, Id, Notification, NotificationStatus, Timestamp};
use serde::{Deserialize, Serialize};

/// The file's first bytes: name and version.
const MAGIC: &[u8; 8] = b"MPSPOOL1";
/// Length and checksum of a frame.
const FRAME_HEAD: usize = 8;
/// Messages at a time.
pub(crate) const MESSAGES_MAX: usize = 10_000;
/// Bytes of the file.
const BYTES_MAX: u64 = 64 << 20;
/// Bytes of one frame.
const FRAME_MAX: usize = 4 << 20;

/// One line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Message(Notification),
    Begin(DeliveryAttempt),
    Finish {
        attempt: DeliveryAttempt,
        status: NotificationStatus,
        retry_at: Option<Timestamp>,
    },
    /// The database has it now.
    Gone(Id),
}

/// A message with what was tried, as it stands.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Spooled {
    pub(crate) message: Notification,
    pub(crate) attempts: Vec<DeliveryAttempt>,
}

impl Spooled {
    fn store(&mut self, attempt: DeliveryAttempt) {
        self.message.attempts = attempt.number;
        self.attempts.retain(|kept| kept.number != attempt.number);
        self.attempts.push(attempt);
    }

    /// Says whether it is neither delivered nor given up.
    pub(crate) fn is_open(&self) -> bool {
        matches!(
            self.message.status,
            NotificationStatus::Waiting | NotificationStatus::Sending
        )
    }
}

/// The open journal.
pub(crate) struct Spool {
    file: File,
    length: u64,
    /// In the order in which they were decided.
    messages: Vec<Spooled>,
}

impl Spool {
    /// Opens the file, makes it when it is absent.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let open = || {
            let mut options = OpenOptions::new();
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
        };
        let mut file = open()?;
        let mut bytes = Vec::new();
        (&file).take(2 * BYTES_MAX).read_to_end(&mut bytes)?;
        if !bytes.is_empty() && !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
            let aside = set_aside(path);
            std::fs::rename(path, &aside)?;
            tracing::warn!(file = %aside.display(), "the spool of messages is no file of this release and was set aside");
            (file, bytes) = (open()?, Vec::new());
        }
        let mut spool = Spool {
            file,
            length: 0,
            messages: Vec::new(),
        };
        let mut rest = bytes.get(MAGIC.len()..).unwrap_or_default();
        while let Some((line, after)) = next_line(rest) {
            spool.apply(line);
            rest = after;
        }
        if bytes.len() < MAGIC.len() {
            spool.file.set_len(0)?;
            spool.file.seek(SeekFrom::Start(0))?;
            spool.file.write_all(MAGIC)?;
            spool.length = MAGIC.len() as u64;
        } else {
            spool.length = (bytes.len() - rest.len()) as u64;
            spool.file.set_len(spool.length)?;
        }
        spool.file.sync_all()?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(spool)
    }

    /// Gives all messages, in the order in which they were decided.
    pub(crate) fn messages(&self) -> &[Spooled] {
        &self.messages
    }

    /// Gives one message.
    pub(crate) fn get(&self, id: Id) -> Option<&Spooled> {
        self.messages.iter().find(|spooled| spooled.message.id == id)
    }

    /// Takes messages, each once; durable on return. Gives how many were new.
    pub(crate) fn put(&mut self, messages: &[Notification]) -> io::Result<usize> {
        let new: Vec<Line> = messages
            .iter()
            .filter(|message| self.get(message.id).is_none())
            .map(|message| Line::Message(message.clone()))
            .collect();
        let count = new.len();
        if self.messages.len() + count > MESSAGES_MAX {
            return Err(io::Error::other(format!("more than {MESSAGES_MAX} messages")));
        }
        self.append(new)?;
        Ok(count)
    }

    /// Notes that an attempt begins; durable on return.
    pub(crate) fn begin(&mut self, attempt: &DeliveryAttempt) -> io::Result<()> {
        self.append(vec![Line::Begin(attempt.clone())])
    }

    /// Notes how an attempt ended; durable on return.
    pub(crate) fn finish(
        &mut self,
        attempt: &DeliveryAttempt,
        status: NotificationStatus,
        retry_at: Option<Timestamp>,
    ) -> io::Result<()> {
        self.append(vec![Line::Finish {
            attempt: attempt.clone(),
            status,
            retry_at,
        }])
    }

    /// Forgets messages that the database has; an empty journal takes no room.
    pub(crate) fn remove(&mut self, gone: &[Id]) -> io::Result<()> {
        self.append(gone.iter().copied().map(Line::Gone).collect())?;
        if self.messages.is_empty() {
            self.file.set_len(MAGIC.len() as u64)?;
            self.length = MAGIC.len() as u64;
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn append(&mut self, lines: Vec<Line>) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for line in &lines {
            let payload = serde_json::to_vec(line)?;
            if payload.len() > FRAME_MAX {
                return Err(io::Error::other(format!("a message of {} bytes", payload.len())));
            }
            bytes.extend((payload.len() as u32).to_le_bytes());
            bytes.extend(crc32fast::hash(&payload).to_le_bytes());
            bytes.extend(payload);
        }
        // What was sent is always noted; only new messages must leave room for that.
        let is_new = lines.iter().any(|line| matches!(line, Line::Message(_)));
        if is_new && self.length + bytes.len() as u64 > BYTES_MAX {
            return Err(io::Error::other(format!("more than {BYTES_MAX} bytes")));
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a frame would hide what follows it.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        lines.into_iter().for_each(|line| self.apply(line));
        Ok(())
    }

    fn find(&mut self, id: Id) -> Option<&mut Spooled> {
        self.messages.iter_mut().find(|spooled| spooled.message.id == id)
    }

    fn apply(&mut self, line: Line) {
        match line {
            Line::Message(message) => self.messages.push(Spooled {
                message,
                attempts: Vec::new(),
            }),
            Line::Begin(attempt) => {
                if let Some(spooled) = self.find(attempt.notification) {
                    spooled.message.status = NotificationStatus::Sending;
                    spooled.store(attempt);
                }
            }
            Line::Finish {
                attempt,
                status,
                retry_at,
            } => {
                if let Some(spooled) = self.find(attempt.notification) {
                    spooled.message.status = status;
                    spooled.message.due_at = retry_at.unwrap_or(spooled.message.due_at);
                    spooled.store(attempt);
                }
            }
            Line::Gone(id) => self.messages.retain(|spooled| spooled.message.id != id),
        }
    }
}

/// Reads one frame; `None` at the end, and where it is torn.
fn next_line(bytes: &[u8]) -> Option<(Line, &[u8])> {
    let (head, rest) = bytes.split_at_checked(FRAME_HEAD)?;
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = number(0) as usize;
    if length > FRAME_MAX {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(length)?;
    if crc32fast::hash(payload) != number(4) {
        return None;
    }
    Some((serde_json::from_slice(payload).ok()?, rest))
}

fn set_aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    name.into()
}

#[cfg(test)]
mod tests {
    use marketprism_model::{AlertState, AttemptOutcome, Labels, NotificationContent};

    use super::*;

    fn message(n: u128) -> Notification {
        Notification {
            id: Id::from_u128(n),
            group_key: "g".to_owned(),
            receiver: "default".to_owned(),
            channel: "mail".to_owned(),
            created_at: Timestamp::from_millis(1),
            due_at: Timestamp::from_millis(1),
            deadline_at: Timestamp::from_millis(9),
            attempts: 0,
            status: NotificationStatus::Waiting,
            content: NotificationContent {
                state: AlertState::Firing,
                group_labels: Labels::from_pairs([("a", "磁盘")]),
                common_labels: Labels::empty(),
                common_annotations: Labels::empty(),
                alerts: Vec::new(),
                truncated_alerts: 0,
                purpose: Default::default(),
            },
        }
    }

    fn attempt(n: u128, number: u32, outcome: AttemptOutcome) -> DeliveryAttempt {
        DeliveryAttempt {
            notification: Id::from_u128(n),
            number,
            started_at: Timestamp::from_millis(2),
            finished_at: None,
            outcome,
            provider_code: 0,
            detail: String::new(),
        }
    }

    /// A crash leaves any beginning of what was being written; what stands whole before it is kept, and nothing else.
    #[test]
    fn wherever_the_file_is_cut_what_was_whole_is_kept_and_the_journal_goes_on() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("spool");
        let mut spool = Spool::open(&path).expect("open");
        let mut states = vec![(spool.length, Vec::new())];
        let mut note = |spool: &Spool| states.push((spool.length, spool.messages.clone()));
        assert_eq!(spool.put(&[message(1)]).expect("put"), 1);
        note(&spool);
        assert_eq!(spool.put(&[message(1), message(2)]).expect("put"), 1);
        note(&spool);
        spool
            .begin(&attempt(1, 1, AttemptOutcome::Started))
            .expect("begin");
        note(&spool);
        let delivered = attempt(1, 1, AttemptOutcome::Delivered);
        spool
            .finish(&delivered, NotificationStatus::Delivered, None)
            .expect("finish");
        note(&spool);
        spool.remove(&[Id::from_u128(1)]).expect("remove");
        note(&spool);
        drop(spool);
        let whole = std::fs::read(&path).expect("read");
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("write");
            let mut spool = Spool::open(&path).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            let kept = states.iter().rev().find(|(length, _)| *length <= cut as u64);
            let expected = kept.map_or(&[][..], |(_, messages)| messages);
            assert_eq!(spool.messages(), expected, "cut at {cut}");
            if !cut.is_multiple_of(13) {
                continue;
            }
            spool.put(&[message(9)]).expect("it goes on");
            let again = Spool::open(&path).expect("open");
            assert_eq!(again.messages().last(), spool.messages().last(), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_journal_before_it() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("spool");
        let mut spool = Spool::open(&path).expect("open");
        spool.put(&[message(1)]).expect("put");
        let first = spool.length as usize;
        spool.put(&[message(2)]).expect("put");
        drop(spool);
        let whole = std::fs::read(&path).expect("read");
        for at in first..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, &damaged).expect("write");
            let spool = Spool::open(&path).expect("open");
            assert_eq!(spool.messages().len(), 1, "byte {at}");
        }
    }

    #[test]
    fn a_foreign_file_is_set_aside_and_an_emptied_journal_takes_no_room() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("spool");
        std::fs::write(&path, "not a journal").expect("write");
        let mut spool = Spool::open(&path).expect("open");
        assert_eq!(std::fs::read(set_aside(&path)).expect("kept"), b"not a journal");
        let all: Vec<_> = (0..100).map(message).collect();
        spool.put(&all).expect("put");
        let ids: Vec<_> = all.iter().map(|message| message.id).collect();
        spool.remove(&ids).expect("remove");
        assert_eq!(std::fs::read(&path).expect("read"), MAGIC);
        let many: Vec<_> = (0..=MESSAGES_MAX as u128).map(message).collect();
        spool.put(&many).expect_err("too many");
        assert!(spool.messages().is_empty());
    }
}
