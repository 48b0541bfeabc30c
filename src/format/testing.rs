//! Seeded randomness for this module's tests.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::record::{RecordLimits, RecordPlan};
use crate::{
    message::Message,
    name::QueueKey,
    offset::{PhysicalOffset, QueueOffset, StoreTime},
    options::RecordChecksum,
};

/// A xorshift generator that prints its seed, so that a failure can be replayed with
/// `STEADFAST_SEED`.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded() -> Self {
        let seed = match std::env::var("STEADFAST_SEED") {
            Ok(text) => text.parse().unwrap(),
            Err(_) => u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        };
        println!("STEADFAST_SEED={seed}");
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 40) as u8).collect()
    }

    /// `len` letters of an alphabet with multi-byte characters, some of them outside the BMP.
    pub(crate) fn text(&mut self, len: usize) -> String {
        let alphabet = ['a', 'b', 'Z', '9', '-', '_', '%', '#', 'é', '消', '😀'];
        (0..len).map(|_| alphabet[self.below(alphabet.len() as u64) as usize]).collect()
    }
}

/// Owns what a random message borrows.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) queue: QueueKey,
    pub(crate) body: Vec<u8>,
    pub(crate) properties: Vec<u8>,
    pub(crate) flag: i32,
    pub(crate) sys_flag: i32,
    pub(crate) born: (StoreTime, SocketAddr),
    pub(crate) store_host: SocketAddr,
    pub(crate) reconsume_times: i32,
    pub(crate) prepared: u64,
    pub(crate) queue_offset: QueueOffset,
    pub(crate) at: PhysicalOffset,
    pub(crate) store_time: StoreTime,
}

pub(crate) const LIMITS: RecordLimits =
    RecordLimits { max_message_bytes: 4 << 20, segment_bytes: 1 << 30 };

impl Sample {
    pub(crate) fn random(random: &mut Random) -> Self {
        let len = 1 + random.below(60) as usize;
        let long = random.below(4) == 0;
        let topic = if long { "t".repeat(100 + len) } else { random.text(len) };
        let magnitude = random.below(14);
        let body_len = random.below(1 << magnitude) as usize;
        let mut properties = Vec::new();
        for _ in 0..random.below(6) {
            let (name, value) = (random.text(3), random.text(5));
            properties.extend_from_slice(format!("{name}\u{1}{value}\u{2}").as_bytes());
        }
        if random.below(3) == 0 {
            properties.pop();
        }
        Self {
            queue: QueueKey::new(&topic, random.below(1 << 31) as i32).unwrap(),
            body: random.bytes(body_len),
            properties,
            flag: random.next() as i32,
            sys_flag: random.next() as i32,
            born: (StoreTime::from_millis(random.next() as i64), random.host()),
            store_host: random.host(),
            reconsume_times: random.next() as i32,
            prepared: random.next(),
            queue_offset: QueueOffset::new(random.next()),
            at: PhysicalOffset::new(random.next() >> 1),
            store_time: StoreTime::from_millis(random.next() as i64),
        }
    }

    pub(crate) fn message(&self) -> Message<'_> {
        Message::new(&self.queue, &self.body)
            .encoded_properties(&self.properties)
            .flag(self.flag)
            .sys_flag(self.sys_flag)
            .born(self.born.0, self.born.1)
            .reconsume_times(self.reconsume_times)
            .prepared_transaction(PhysicalOffset::new(self.prepared))
    }

    pub(crate) fn encode(&self, checksum: RecordChecksum) -> Vec<u8> {
        let message = self.message();
        let now = StoreTime::default();
        let plan = RecordPlan::new(&message, &LIMITS, checksum, now, self.store_host).unwrap();
        let mut out = vec![0; plan.size() as usize];
        plan.encode(&mut out, self.queue_offset, self.at, self.store_time);
        out
    }
}

impl Random {
    fn host(&mut self) -> SocketAddr {
        let port = self.next() as u16;
        match self.below(2) {
            0 => (Ipv4Addr::from(self.next() as u32), port).into(),
            _ => {
                // Not one that maps an IPv4 address.
                let bits = u128::from(self.next() | 1 << 63) << 64 | u128::from(self.next());
                (Ipv6Addr::from(bits), port).into()
            }
        }
    }
}
