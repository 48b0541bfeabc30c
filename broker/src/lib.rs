//! The place of the broker: a RocketMQ broker and name server on top of the `steadfast` store.
//!
//! **There is nothing here yet.** This crate has no code, is not built by default and is not
//! published. It keeps the workspace's shape: the engine is the crate `steadfast`, the tool that
//! works on its directories is `steadfast-cli`, and neither needs a broker.
