//! The messages of the fault table, the same in every store, and what a store said about each.
//! `tests/interop/store-java` makes the same ones.

use std::fmt;

use anyhow::{Context, Result};

pub(crate) const TOPIC: &str = "orders";
pub(crate) const GROUP: &str = "readers";
pub(crate) const QUEUES: u64 = 4;

/// All that follows from a message's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) queue: i32,
    pub(crate) body: Vec<u8>,
    pub(crate) tag: String,
    pub(crate) key: String,
    pub(crate) note: String,
}

impl Content {
    pub(crate) fn of(n: u64) -> Self {
        Self {
            queue: (n % QUEUES) as i32,
            body: body(n),
            tag: format!("tag{}", n % 3),
            key: format!("k{n}"),
            note: format!("of {n}"),
        }
    }
}

fn body(n: u64) -> Vec<u8> {
    let mut body = format!("message {n} ").into_bytes();
    let mut x = (n as i32).wrapping_mul(31).wrapping_add(7);
    while (body.len() as u64) < 200 + n * 7919 % 16_000 {
        x = x.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        body.push(b'a' + ((x as u32 >> 16 & 0x7fff) % 26) as u8);
    }
    body
}

/// An answer to a put, as a peer says it: `PUT n status queue offset physical size hash`, where
/// `-` stands for what is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) n: u64,
    /// `PUT_OK` or another of RocketMQ's words, or `ERROR:` and what kind.
    pub(crate) status: String,
    pub(crate) place: Option<Place>,
    /// Of the whole record; each peer has its own kind.
    pub(crate) hash: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) queue: u64,
    pub(crate) offset: u64,
    pub(crate) physical: u64,
    pub(crate) size: u64,
}

impl Put {
    pub(crate) fn acknowledged(&self) -> bool {
        self.status == "PUT_OK"
    }

    pub(crate) fn parse(line: &str) -> Result<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let [_, n, status, place @ .., hash] = &words[..] else {
            anyhow::bail!("not an answer: {line}");
        };
        let place: Option<Vec<u64>> = place.iter().map(|word| word.parse().ok()).collect();
        let place = place.as_deref().and_then(|place| match place {
            &[queue, offset, physical, size] => Some(Place { queue, offset, physical, size }),
            _ => None,
        });
        let n = n.parse().with_context(|| line.to_owned())?;
        let hash = (*hash != "-").then(|| (*hash).to_owned());
        Ok(Self { n, status: (*status).to_owned(), place, hash })
    }
}

impl fmt::Display for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PUT {} {} ", self.n, self.status)?;
        match self.place {
            None => f.write_str("- - - - ")?,
            Some(Place { queue, offset, physical, size }) => {
                write!(f, "{queue} {offset} {physical} {size} ")?;
            }
        }
        f.write_str(self.hash.as_deref().unwrap_or("-"))
    }
}

/// What came of asking for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Right,
    /// Any byte of the record differs from what was acknowledged.
    Wrong,
    /// Not there, and no error said so: the word for it.
    Lost(String),
    /// An error of this kind.
    Error(String),
}

impl Got {
    pub(crate) fn parse(word: &str) -> Self {
        match word.split_once(':') {
            Some(("lost", why)) => Self::Lost(why.to_owned()),
            Some((_, kind)) => Self::Error(kind.to_owned()),
            None if word == "right" => Self::Right,
            None => Self::Wrong,
        }
    }
}

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => f.write_str("right"),
            Self::Wrong => f.write_str("wrong"),
            Self::Lost(why) => write!(f, "lost:{why}"),
            Self::Error(kind) => write!(f, "error:{kind}"),
        }
    }
}
