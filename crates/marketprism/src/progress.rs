//! A bar on the terminal for work that takes a while; nothing at all where nobody watches.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Makes a bar that counts bytes of `total`; it draws on standard error if that is a terminal.
pub fn bytes(total: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(total), target())
        .with_style(style)
        .with_message(what)
}

/// Makes a bar that counts steps, of which more may be added; it draws on standard error if that is a terminal.
pub fn steps(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), target())
        .with_style(style)
        .with_message(what)
}

fn target() -> ProgressDrawTarget {
    if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    }
}

/// Makes a sign that something is awaited whose length nobody knows; it draws on standard error if that is a terminal.
pub fn waiting(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target());
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    let bar = bar
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        .with_message(what);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}
