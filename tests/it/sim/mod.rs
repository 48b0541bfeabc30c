//! The store under crashes, failing calls, damage and full disks, on the simulated disk.

mod at_rest;
mod check;
mod counts;
mod crash_sim;
mod driver;
mod faults;
mod flips;
mod flips_all;
mod following;
mod model;
mod ops;
mod regressions;
mod retention;
mod rows;
mod scripted;
mod setup;
mod space;
