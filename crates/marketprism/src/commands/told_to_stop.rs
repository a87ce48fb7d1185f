//! What a command that is told to stop (Ctrl-C, SIGTERM, SIGHUP) takes away before it ends: files that are half written.
//!
//! Deliberately absent: what SIGKILL leaves; it has names that say what it is.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

/// The status that shells give to whoever was interrupted.
const INTERRUPTED: i32 = 130;

/// Removes these files and folders, and ends the process, when it is told to stop; for as long as it runs.
pub fn then_remove(unfinished: Vec<PathBuf>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("listen to signals")?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _entered = runtime.enter();
        let listen = |kind| signal(kind).context("listen to signals");
        (
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        )
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        unfinished.iter().for_each(|path| remove(path));
        std::process::exit(INTERRUPTED);
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
    thread.context("listen to signals").map(drop)
}

fn remove(path: &Path) {
    // What is not there needs no removing, and nobody is left to hear of the rest.
    let _ = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
}
