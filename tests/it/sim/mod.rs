//! The store under crashes, failing calls and full disks, on the simulated disk.

mod check;
mod crash_sim;
mod driver;
mod faults;
mod model;
mod ops;
mod setup;
