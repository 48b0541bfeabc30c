//! Tests of the engine through its public API.

#![allow(clippy::unwrap_used)]

mod basics;
