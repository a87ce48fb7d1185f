//! Rules from the file to the alert, over a real store and a lifecycle that only counts.

mod evaluation;
mod files;
mod lifecycle;
mod public_files;
mod running;
mod world;
