//! Tests of the engine through its public API.

#![allow(clippy::unwrap_used)]

mod basics;
mod concurrency;
mod corruption;
mod derived_files;
mod directory;
mod disk_full;
mod filtering;
mod foreign_files;
mod futures;
mod fuzz_found;
mod fuzz_replay;
mod many_queues;
mod sim;
mod take_over;
