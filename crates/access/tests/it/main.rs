//! Who gets in and who does not, with a clock whose hands the tests turn and records in memory.

mod administration;
mod allow_list;
mod attempts;
mod audit;
mod configuration;
mod credentials;
mod jwt;
mod records;
mod rig;
