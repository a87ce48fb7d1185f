//! Saving what the program keeps while it runs, and putting it back.
//!
//! The archive's form stands in `archive`, the way back in `restore`; what is saved, in `commands::backup`.

pub mod archive;
pub mod restore;
