//! The room as its neighbours see it: observations in, records and messages out.

mod alertmanager;
mod cost;
mod crash;
mod lifecycle;
mod limit;
mod operator;
mod restart;
mod run;
mod shown;
mod simulation;
mod store;
mod telling;
mod world;
