//! The body of a client's batch: several messages in one.

use std::{fmt, iter::FusedIterator};

/// Bytes of an inner message before its body: size, magic, CRC, flag, body length.
const HEAD: usize = 20;

/// One message of a batch. Topic, queue and hosts are the batch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPart<'a> {
    /// The application's flag.
    pub flag: i32,
    /// The body.
    pub body: &'a [u8],
    /// The properties, encoded as in a record.
    pub properties: &'a [u8],
}

/// A batch that contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenBatch {
    /// Where the broken inner message begins.
    pub at: usize,
    /// What does not fit.
    pub what: &'static str,
}

impl fmt::Display for BrokenBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the batch is broken: {} at={}", self.what, self.at)
    }
}

/// Iterates over the messages of a batch body. Ends after the first error.
#[derive(Clone, Debug)]
pub struct BatchParts<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BatchParts<'a> {
    /// The messages in `bytes`.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The message at the beginning of `rest`, and its size.
    fn part(rest: &'a [u8]) -> Result<(BatchPart<'a>, usize), &'static str> {
        let int = |at: usize| {
            let word = rest.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            word.map(i32::from_be_bytes)
        };
        let (Some(size), Some(flag), Some(body_len)) = (int(0), int(12), int(16)) else {
            return Err("it ends inside of a message's head");
        };
        let size = usize::try_from(size).map_err(|_| "a size is negative")?;
        let inner = rest.get(..size).ok_or("a message is larger than the rest")?;
        let inner = inner.get(HEAD..).ok_or("a size is too small")?;
        let body_len = usize::try_from(body_len).map_err(|_| "a body length is negative")?;
        let (body, inner) = inner.split_at_checked(body_len).ok_or("a body does not fit")?;
        let (&len, properties) = inner.split_first_chunk::<2>().ok_or("a body does not fit")?;
        if i64::from(i16::from_be_bytes(len)) != properties.len() as i64 {
            return Err("properties do not end with their message");
        }
        Ok((BatchPart { flag, body, properties }, size))
    }
}

impl<'a> Iterator for BatchParts<'a> {
    type Item = Result<BatchPart<'a>, BrokenBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = &self.bytes[at..];
        if rest.is_empty() {
            return None;
        }
        match Self::part(rest) {
            Ok((part, size)) => {
                self.at += size;
                Some(Ok(part))
            }
            Err(what) => {
                self.at = self.bytes.len();
                Some(Err(BrokenBatch { at, what }))
            }
        }
    }
}

impl FusedIterator for BatchParts<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::Random;

    fn encode(parts: &[(i32, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (flag, body, properties) in parts {
            let size = HEAD + body.len() + 2 + properties.len();
            out.extend_from_slice(&(size as u32).to_be_bytes());
            out.extend_from_slice(&[0; 8]);
            out.extend_from_slice(&flag.to_be_bytes());
            out.extend_from_slice(&(body.len() as u32).to_be_bytes());
            out.extend_from_slice(body);
            out.extend_from_slice(&(properties.len() as u16).to_be_bytes());
            out.extend_from_slice(properties);
        }
        out
    }

    fn sample(random: &mut Random) -> Vec<(i32, Vec<u8>, Vec<u8>)> {
        let count = random.below(5);
        let mut bytes = |n| {
            let len = random.below(n) as usize;
            random.bytes(len)
        };
        (0..count).map(|i| (i as i32 - 2, bytes(50), bytes(30))).collect()
    }

    #[test]
    fn parts_come_back_and_cuts_are_errors() {
        let mut random = Random::seeded();
        for _ in 0..100 {
            let parts = sample(&mut random);
            let bytes = encode(&parts);
            let decoded: Vec<_> = BatchParts::of(&bytes).map(Result::unwrap).collect();
            assert_eq!(decoded.len(), parts.len());
            let mut ends = vec![0];
            for (found, (flag, body, properties)) in decoded.iter().zip(&parts) {
                assert_eq!((found.flag, found.body), (*flag, &body[..]));
                assert_eq!(found.properties, properties);
                ends.push(ends.last().unwrap() + HEAD + body.len() + 2 + properties.len());
            }
            for len in 0..bytes.len() {
                let broken = BatchParts::of(&bytes[..len]).any(|part| part.is_err());
                assert_eq!(broken, !ends.contains(&len), "len={len}");
            }
        }
    }

    #[test]
    fn hostile_bytes_never_panic_and_always_end() {
        let mut random = Random::seeded();
        for _ in 0..5000 {
            let mut bytes = encode(&sample(&mut random));
            for _ in 0..3 {
                if !bytes.is_empty() {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] = random.next() as u8;
                }
            }
            assert!(BatchParts::of(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn what_is_broken_is_said_with_its_place() {
        let mut bytes = encode(&[(0, vec![1], vec![]), (0, vec![2], vec![])]);
        bytes[23 + 19] = 9;
        let error = BatchParts::of(&bytes).find_map(Result::err).unwrap();
        assert_eq!((error.at, error.what), (23, "a body does not fit"));
        bytes[23] = 0x80;
        let error = BatchParts::of(&bytes).find_map(Result::err).unwrap();
        assert_eq!(error.to_string(), "the batch is broken: a size is negative at=23");
    }
}
