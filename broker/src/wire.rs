//! RocketMQ's remoting protocol as a client sees it: what a load generator needs, no more.
//!
//! ```
//! use bytes::BytesMut;
//! use steadfast_broker::wire;
//!
//! let fields = [("b", "orders".into()), ("e", "0".into())];
//! let mut frame = BytesMut::new();
//! wire::write_request((wire::SEND_MESSAGE_V2, 7), &fields, b"paid", &mut frame);
//! // A request is no answer, so it is passed by.
//! assert_eq!(wire::next_answer(&mut frame).unwrap(), None);
//! assert!(frame.is_empty());
//! ```

use std::{borrow::Cow, io};

use bytes::BytesMut;

pub use crate::protocol::Answer;
use crate::{
    net::invalid,
    protocol::{encode_binary_request, next_frame, request, status},
};

/// The code of a request to send one message, whose fields have names of one letter.
pub const SEND_MESSAGE_V2: i32 = request::SEND_MESSAGE_V2;

/// Appends a request, `code` and its number, to `out`; its header has the binary form.
pub fn write_request(
    (code, opaque): (i32, i32),
    fields: &[(&'static str, Cow<'static, str>)],
    body: &[u8],
    out: &mut BytesMut,
) {
    encode_binary_request((code, opaque), fields, body, out);
}

/// Takes the first answer out of what was received, `None` while there is no whole one. Requests of
/// the peer are passed by.
///
/// # Errors
///
/// [`InvalidData`](io::ErrorKind::InvalidData): the peer does not speak this protocol. Nothing
/// behind that can be understood.
pub fn next_answer(received: &mut BytesMut) -> io::Result<Option<Answer>> {
    while let Some(frame) = next_frame(received).map_err(invalid)? {
        if let Some(answer) = Answer::read(&frame).map_err(invalid)? {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

/// What RocketMQ calls the code of an answer to a send, if it is a usual one.
pub fn name_of_send_status(code: i32) -> Option<&'static str> {
    status::name_for_send(code)
}

/// Whether a send with this answer was stored: perhaps not yet on the disk, or not on slaves.
pub fn is_stored(code: i32) -> bool {
    use status::{FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT, SLAVE_NOT_AVAILABLE, SUCCESS};
    [SUCCESS, FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT, SLAVE_NOT_AVAILABLE].contains(&code)
}
