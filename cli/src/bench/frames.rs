//! Requests to send, made by copying.

use bytes::BytesMut;
use steadfast_broker::wire;

/// Where a request's number stands until it has one.
const OPAQUE: i32 = i32::from_be_bytes(*b"\x7fnum");
/// Where a message's unique key stands, and the time when it was sent.
const KEY: &str = "=unique=key=of=this=one=message=";
const BORN: &str = "9876543210123";

/// Requests that differ in few bytes only. Encoding each anew would take this program longer than
/// the broker takes to store it.
pub(super) struct Frames {
    of_queues: Vec<Template>,
    /// The first half of all unique keys.
    run: u64,
    next: u64,
}

struct Template {
    frame: Vec<u8>,
    opaque_at: usize,
    key_at: usize,
    born_at: usize,
}

impl Frames {
    /// For sends to `queues` queues in turn, at least one. No other ones have the same `run`.
    pub(super) fn new((topic, queues): (&str, u32), group: &str, body: &[u8], run: u64) -> Self {
        let of_queues = (0..queues).map(|id| Template::new((topic, queues, id), group, body));
        Self { of_queues: of_queues.collect(), run, next: 0 }
    }

    /// About the bytes of one.
    pub(super) fn len_of_one(&self) -> usize {
        self.of_queues[0].frame.len()
    }

    /// Appends the next request. `now` is in milliseconds since 1970.
    pub(super) fn put(&mut self, opaque: i32, now: i64, out: &mut BytesMut) {
        let template = &self.of_queues[(self.next % self.of_queues.len() as u64) as usize];
        let start = out.len();
        out.extend_from_slice(&template.frame);
        let frame = &mut out[start..];
        frame[template.opaque_at..][..4].copy_from_slice(&opaque.to_be_bytes());
        hex(self.run, &mut frame[template.key_at..][..16]);
        hex(self.next, &mut frame[template.key_at + 16..][..16]);
        decimal(now, &mut frame[template.born_at..][..BORN.len()]);
        self.next += 1;
    }
}

impl Template {
    fn new((topic, queues, id): (&str, u32, u32), group: &str, body: &[u8]) -> Self {
        let fields = [
            // Brokers make a topic that is not there after the shape of this one.
            ("c", "TBW102".into()),
            ("d", queues.to_string().into()),
            ("e", id.to_string().into()),
            ("f", "0".into()),
            ("g", BORN.into()),
            ("h", "0".into()),
            ("i", format!("UNIQ_KEY\u{1}{KEY}\u{2}WAIT\u{1}true").into()),
            ("j", "0".into()),
            ("k", "false".into()),
            ("m", "false".into()),
            // Last: they hold what the user wants, be it one of the marks.
            ("a", group.to_owned().into()),
            ("b", topic.to_owned().into()),
        ];
        let mut frame = BytesMut::new();
        wire::write_request((wire::SEND_MESSAGE_V2, OPAQUE), &fields, body, &mut frame);
        let frame = frame.to_vec();
        let at = |mark: &[u8]| {
            let found = frame.windows(mark.len()).position(|bytes| bytes == mark);
            found.expect("it was written a few lines above")
        };
        let (opaque_at, key_at) = (at(&OPAQUE.to_be_bytes()), at(KEY.as_bytes()));
        let born_at = at(BORN.as_bytes());
        Self { frame, opaque_at, key_at, born_at }
    }
}

fn hex(mut number: u64, to: &mut [u8]) {
    for digit in to.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(number & 15) as usize];
        number >>= 4;
    }
}

fn decimal(mut number: i64, to: &mut [u8]) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_differ_in_number_key_time_and_queue_only() {
        let mut frames = Frames::new(("orders", 2), "9876543210123", b"body", 0xA1);
        let mut out = BytesMut::new();
        let mut next = |opaque| {
            frames.put(opaque, 1_700_000_000_123, &mut out);
            String::from_utf8_lossy(&out.split()).into_owned()
        };
        let (first, second, third) = (next(0x4142_4344), next(0x4142_4344), next(0x4142_4344));
        let key = |n| format!("UNIQ_KEY\u{1}00000000000000A1{n:016}\u{2}");
        assert!(first.contains(&key(0)) && second.contains(&key(1)), "{first}{second}");
        assert!(first.contains("1700000000123") && first.contains("ABCD"), "{first}");
        assert!(first.ends_with("body"));
        assert_ne!(first.replace(&key(0), &key(1)), second);
        assert_eq!(first.replace(&key(0), &key(2)), third);
        assert!(!third.contains(KEY));
    }
}
