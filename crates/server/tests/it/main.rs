//! The server as its clients see it: in this process, over real sockets, with the real rooms behind it.

mod access_attacks;
mod access_pages;
mod access_people;
mod access_table;
mod access_tools;
mod backtest;
mod cache;
mod documentation;
mod errors;
mod faults;
mod flood;
mod forward;
mod grafana;
mod limits;
mod own_api;
mod page;
mod peer;
mod people;
mod push;
mod ranges;
mod reply;
mod rig;
mod rules_api;
mod shape;
mod startup;
mod tls;
