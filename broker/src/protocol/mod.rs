//! RocketMQ's remoting protocol: frames, their headers in both forms, and what the codes mean.

mod command;
mod fields;
mod frame;
mod header;
pub(crate) mod json;
pub(crate) mod request;
pub(crate) mod status;
#[cfg(test)]
mod tests;

pub use command::Answer;
pub(crate) use command::{
    Refused, Request, Response, encode_binary_request, encode_request, refuse,
};
pub(crate) use fields::{BadField, Fields};
pub(crate) use frame::{Serialization, next_frame};
pub(crate) use header::Program;
