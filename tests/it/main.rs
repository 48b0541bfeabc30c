//! Tests of the engine through its public API.

mod basics;
mod sim;
