//! Where one frame ends and the next begins.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// The longest frame, its first four bytes not counted. As the Java decoder's.
pub(crate) const FRAME_MOST: usize = 16 << 20;
/// The longest header. Properties of 32 KiB are the longest thing that one has to hold.
const HEADER_MOST: usize = 1 << 20;
/// The bytes of the two numbers that a frame begins with.
const PREFIX: usize = 8;
/// A TLS client hello begins with it; a frame that is allowed never does.
const TLS_HANDSHAKE: u8 = 0x16;

/// The form of a header. A reply has that of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Serialization {
    #[default]
    Json,
    Binary,
}

impl Serialization {
    /// The number in the frame.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Json => 0,
            Self::Binary => 1,
        }
    }
}

/// A whole frame, header and body apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) serialization: Serialization,
    pub(crate) header: Bytes,
    pub(crate) body: Bytes,
}

/// Bytes that are no frame. Nothing behind them can be understood either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    Tls,
    Length(u32),
    Header { header: u32, total: u32 },
    Serialization(u8),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls => write!(f, "the peer speaks TLS, which is not offered here"),
            Self::Length(length) => {
                write!(f, "a frame cannot have {length} bytes, at most {FRAME_MOST}")
            }
            Self::Header { header, total } => {
                write!(f, "a frame of {total} bytes cannot have a header of {header} bytes")
            }
            Self::Serialization(number) => write!(f, "no header has the form {number}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Takes the first frame out of what was received, `None` while it is not whole. What it says of
/// its length is checked before any memory is taken for it.
pub(crate) fn next_frame(received: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    if received.first() == Some(&TLS_HANDSHAKE) {
        return Err(FrameError::Tls);
    }
    let Some((prefix, _)) = received.split_first_chunk::<PREFIX>() else {
        let length = received.first_chunk().map_or(4, |bytes| u32::from_be_bytes(*bytes));
        return check_length(length).map(|_| None);
    };
    let [a, b, c, d, form, x, y, z] = *prefix;
    let total = check_length(u32::from_be_bytes([a, b, c, d]))?;
    let header = u32::from_be_bytes([0, x, y, z]);
    let serialization = match form {
        0 => Serialization::Json,
        1 => Serialization::Binary,
        other => return Err(FrameError::Serialization(other)),
    };
    if header as usize > HEADER_MOST.min(total - 4) {
        return Err(FrameError::Header { header, total: total as u32 });
    }
    // No room is made for what was only announced: it grows with what arrives.
    if received.len() < 4 + total {
        return Ok(None);
    }
    let mut frame = received.split_to(4 + total).freeze();
    frame.advance(PREFIX);
    let header = frame.split_to(header as usize);
    Ok(Some(Frame { serialization, header, body: frame }))
}

fn check_length(length: u32) -> Result<usize, FrameError> {
    match length as usize {
        total @ 4..=FRAME_MOST => Ok(total),
        _ => Err(FrameError::Length(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(bytes: &[u8]) -> BytesMut {
        BytesMut::from(bytes)
    }

    #[test]
    fn frames_are_taken_one_by_one_however_they_arrive() {
        let mut bytes = Vec::new();
        for (header, body) in [(&b"{}"[..], &b"body"[..]), (b"{ }", b""), (b"", b"x")] {
            bytes.extend((4 + header.len() as u32 + body.len() as u32).to_be_bytes());
            bytes.extend((header.len() as u32).to_be_bytes());
            bytes.extend([header, body].concat());
        }
        for step in 1..bytes.len() {
            let mut all = Vec::new();
            let mut buffer = BytesMut::new();
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = next_frame(&mut buffer).unwrap() {
                    all.push((frame.header.to_vec(), frame.body.to_vec()));
                }
            }
            let expected = [("{}", "body"), ("{ }", ""), ("", "x")];
            assert_eq!(all, expected.map(|(h, b)| (h.as_bytes().to_vec(), b.as_bytes().to_vec())));
        }
    }

    #[test]
    fn what_cannot_be_a_frame_is_refused_before_it_is_whole() {
        let cases: [(&[u8], FrameError); 6] = [
            (&[0x16, 3, 1], FrameError::Tls),
            (&[0x7f, 0, 0, 0], FrameError::Length(0x7f00_0000)),
            (&[0, 0, 0, 3], FrameError::Length(3)),
            (&[0, 0, 0, 9, 0, 0, 0, 6], FrameError::Header { header: 6, total: 9 }),
            (
                &[0, 0x20, 0, 0, 0, 0x10, 0, 1],
                FrameError::Header { header: (1 << 20) + 1, total: 2 << 20 },
            ),
            (&[0, 0, 0, 9, 2, 0, 0, 5], FrameError::Serialization(2)),
        ];
        for (bytes, error) in cases {
            assert_eq!(next_frame(&mut received(bytes)), Err(error));
        }
        assert_eq!(next_frame(&mut received(&[0, 0])), Ok(None));
    }
}
