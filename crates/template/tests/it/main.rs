//! Templates compared with promtool, and the bounds of their expansion.

mod bounds;
mod notification;
mod promtool;
