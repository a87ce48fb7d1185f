//! Delivers notifications through channels.
