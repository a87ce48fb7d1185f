//! Real processes and real time in tests: start them, wait for them with a deadline, never leave one behind.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a condition is asked for.
const POLL: Duration = Duration::from_millis(10);
/// How many polls the last words of a process that has ended may take.
const LAST_WORDS_POLLS: u32 = 50;
/// How much of a child's output is kept, in lines.
const LINES_MAX: usize = 10_000;

/// Gives a port of the loopback interface on which nobody listens just now.
///
/// Another process may take it before it is used; prefer port 0 where the program under test reports its own.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("loopback gives ports")
        .port()
}

/// Waits until `condition` is true; fails the test when `deadline` passes first.
#[track_caller]
pub fn wait_for(deadline: Duration, condition: impl FnMut() -> bool) {
    assert!(
        is_true_within(deadline, condition),
        "the condition did not come true within {deadline:?}"
    );
}

/// Waits until `condition` is true, at most `deadline`; says whether it became true.
#[expect(
    clippy::disallowed_methods,
    reason = "another process keeps its own time; the deadline bounds the wait"
)]
pub fn is_true_within(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// As [`wait_for`], for async tests: other tasks of the runtime go on meanwhile.
#[expect(
    clippy::disallowed_methods,
    reason = "real sockets keep their own time; the deadline bounds the wait"
)]
pub async fn wait_for_async(deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < deadline,
            "the condition did not come true within {deadline:?}"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// A child process that is killed, by its id, when the guard is dropped. Its output is collected.
pub struct ChildGuard {
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl ChildGuard {
    /// Starts the command with no input; output and error output are collected line by line.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, Arc::clone(&lines));
        }
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, Arc::clone(&lines));
        }
        Ok(ChildGuard { child, lines })
    }

    /// Gives the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives what the child has printed, both streams in the order of arrival.
    pub fn output(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Says whether the child still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until the child prints a line that contains `text`, and gives the line.
    ///
    /// Fails the test, showing the output, when the child ends or `deadline` passes first.
    #[track_caller]
    pub fn wait_for_line(&mut self, deadline: Duration, text: &str) -> String {
        let mut found = None;
        let mut polls_after_end = 0;
        is_true_within(deadline, || {
            polls_after_end += u32::from(!self.is_running());
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            found = lines.iter().find(|line| line.contains(text)).cloned();
            // The last words of a process that has ended may still be on their way here.
            found.is_some() || polls_after_end > LAST_WORDS_POLLS
        });
        let has_ended = polls_after_end > 0;
        found.unwrap_or_else(|| {
            let end = if has_ended { "ended" } else { "went on" };
            panic!(
                "process {} {end} without printing {text:?}; it printed:\n{}",
                self.id(),
                self.output()
            )
        })
    }

    /// Waits until the child ends of its own accord.
    #[track_caller]
    pub fn wait_for_exit(&mut self, deadline: Duration) -> ExitStatus {
        let mut status = None;
        wait_for(deadline, || {
            status = self.child.try_wait().expect("our own child can be asked");
            status.is_some()
        });
        status.expect("waited for above")
    }

    /// Kills the child as `kill -9` does and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(stream: impl Read + Send + 'static, lines: Arc<Mutex<VecDeque<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_heard_and_gone_when_its_guard_is() {
        let mut child = ChildGuard::spawn(Command::new("/bin/sh").args(["-c", "echo ready; exec sleep 60"]))
            .expect("a shell is there");
        assert_eq!(child.wait_for_line(Duration::from_secs(10), "rea"), "ready");
        let id = child.id();
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    #[should_panic(expected = "it printed:\nlast words")]
    fn a_child_that_ends_too_early_shows_its_last_words() {
        let mut child = ChildGuard::spawn(Command::new("/bin/sh").args(["-c", "echo last words >&2"]))
            .expect("a shell is there");
        wait_for(Duration::from_secs(10), || child.output() == "last words");
        child.wait_for_line(Duration::from_secs(10), "ready");
    }
}
