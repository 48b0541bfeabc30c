//! The place of the broker: a RocketMQ broker and name server on top of the `steadfast` store.
//!
//! Nothing is here yet. The store and its tool come first; this member keeps the workspace's
//! shape and is not built by default.
