//! A peer's process, seen from outside: its processor time, its memory, its port, its end.
//!
//! All figures come from `/proc`, so that every peer is measured by the same hand.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::clock;

/// Memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// The most it ever had resident (`VmHWM`).
    pub peak_bytes: u64,
    /// What it has resident now (`VmRSS`).
    pub resident_bytes: u64,
}

/// A running child; killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both of its outputs in the file `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let program = command.get_program().to_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("start {program:?}"))?;
        Ok(Process {
            child,
            log: log.to_owned(),
        })
    }

    /// Gives user and system time of all its threads, in the kernel's clock ticks.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The command's name, in parentheses, may hold spaces.
        let (_, fields) = stat.rsplit_once(')').context("stat has no command name")?;
        let mut fields = fields.split_ascii_whitespace().skip(11);
        let mut ticks = || -> Result<u64> { Ok(fields.next().context("stat is short")?.parse()?) };
        let spent = ticks()? + ticks()?;
        let per_s = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_nanos(spent * 1_000_000_000 / per_s))
    }

    /// Gives its memory.
    pub fn memory(&self) -> Result<Memory> {
        let status = self.read("status")?;
        let bytes = |key: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
            Ok(kib
                .with_context(|| format!("status has no {key}"))?
                .trim()
                .parse::<u64>()?
                * 1024)
        };
        Ok(Memory {
            peak_bytes: bytes("VmHWM:")?,
            resident_bytes: bytes("VmRSS:")?,
        })
    }

    /// Waits until it listens on a TCP port and gives the lowest one.
    pub fn listening_port(&mut self, limit: Duration) -> Result<u16> {
        let mut port = None;
        clock::poll("listening port", limit, Duration::from_millis(20), || {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}: {}", self.log_tail());
            }
            port = self.ports()?.into_iter().min();
            Ok(port.is_some())
        })?;
        port.context("no port")
    }

    /// Kills it as a power cut would, and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn ports(&self) -> Result<Vec<u16>> {
        let mut sockets = HashSet::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.child.id()))? {
            // A descriptor may close between the listing and the reading.
            let Ok(target) = fs::read_link(entry?.path()) else {
                continue;
            };
            let target = target.to_string_lossy().into_owned();
            if let Some(inode) = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
            {
                sockets.insert(inode.to_owned());
            }
        }
        let tables = self.read("net/tcp")? + &self.read("net/tcp6").unwrap_or_default();
        Ok(tables
            .lines()
            .filter_map(|line| listening(line, &sockets))
            .collect())
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("{path}; its log ends: {}", self.log_tail()))
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed before; then there is nothing left to do.
        let _ = self.kill();
    }
}

/// Reads one line of `/proc/net/tcp`: the local port, when the socket listens and is one of `sockets`.
fn listening(line: &str, sockets: &HashSet<String>) -> Option<u16> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != LISTEN || !sockets.contains(*fields.get(9)?) {
        return None;
    }
    let (_, port) = fields[1].rsplit_once(':')?;
    u16::from_str_radix(port, 16).ok()
}

/// Adds up the sizes of all files under `folder`.
pub fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut total = 0;
    let mut pending = vec![folder.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let entry = entry?;
            // A compaction may remove a file between the listing and the look.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                pending.push(entry.path());
            } else {
                total += meta.len();
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_of_the_process_gives_its_port() {
        let sockets = HashSet::from(["4711".to_owned()]);
        let line = |state: &str, inode: &str| {
            format!(
                "0: 0100007F:1F92 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1"
            )
        };
        assert_eq!(listening(&line("0A", "4711"), &sockets), Some(8082));
        assert_eq!(listening(&line("01", "4711"), &sockets), None);
        assert_eq!(listening(&line("0A", "1"), &sockets), None);
    }

    #[test]
    fn a_child_that_counts_spends_processor_time_and_has_memory() {
        let dir = tempfile::tempdir().expect("folder");
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while :; do i=$((i+1)); done"]);
        let process = Process::spawn(command, &dir.path().join("log")).expect("sh");
        let spent = clock::poll("time", Duration::from_secs(30), Duration::from_millis(5), || {
            Ok(process.cpu()? >= Duration::from_millis(50))
        });
        spent.expect("a busy loop spends time");
        let memory = process.memory().expect("memory");
        assert!(memory.resident_bytes > 0 && memory.peak_bytes >= memory.resident_bytes);
    }
}
