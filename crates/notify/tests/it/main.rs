//! Delivery in use: written, sent, judged and recorded, against peers that judge for themselves.

mod alertmanager;
mod chat;
mod fixture;
mod mail;
mod message;
mod notifier;
mod outside;
mod receivers;
mod records;
mod traces;
