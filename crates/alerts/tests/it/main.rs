//! The room as its neighbours see it: observations in, records and messages out.

mod alertmanager;
mod cost;
mod crash;
mod inhibition;
mod lifecycle;
mod limit;
mod management;
mod management_simulation;
mod on_call;
mod operator;
mod restart;
mod review_acts;
mod review_telling;
mod routing;
mod routing_peer;
mod routing_words;
mod run;
mod seeded;
mod shown;
mod simulation;
mod store;
mod telling;
mod time_interval;
mod world;
