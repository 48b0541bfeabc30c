//! Connections: accepting them, reading requests, writing replies.

mod asked;
mod connection;
mod outbox;
mod server;

pub(crate) use connection::{Connection, Reply, invalid};
pub(crate) use server::{Handler, Server, Stop};
