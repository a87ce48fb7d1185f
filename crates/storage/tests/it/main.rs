//! The store from outside: against a model, damaged, on a failing disk, and killed.

mod against_model;
mod backup;
mod batching;
mod concurrent;
mod copies;
mod crash;
mod damage;
mod failing_disk;
mod harness;
mod rules_of_the_port;
mod versions;
