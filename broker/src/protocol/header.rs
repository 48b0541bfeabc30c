//! The two forms of a header: a JSON object, and RocketMQ's binary one.

use std::{borrow::Cow, fmt, ops::Range};

use bytes::{Buf, BufMut, BytesMut};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
    ser::SerializeMap,
};

use super::fields::Fields;

/// RocketMQ's number for the implementation language JAVA, which is what it answers itself; no
/// number is ours.
const LANGUAGE: (&str, u8) = ("JAVA", 0);
/// RocketMQ 5.3.3. Clients leave features out towards older servers.
const VERSION: u16 = 479;
const RESPONSE: i32 = 1;
const ONEWAY: i32 = 2;

/// What a header says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    pub(crate) code: i32,
    pub(crate) opaque: i32,
    pub(crate) flag: i32,
    pub(crate) remark: Option<String>,
    pub(crate) fields: Fields,
    pub(crate) program: Program,
}

/// What a peer says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// One of RocketMQ's names for languages.
    pub(crate) language: &'static str,
    pub(crate) version: i32,
}

/// In the order of their numbers.
const LANGUAGES: [&str; 14] = [
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP",
    "OMS", "RUST", "NODE_JS",
];
/// Any other one.
const OTHER: &str = "OTHER";

impl Default for Program {
    fn default() -> Self {
        Self { language: OTHER, version: 0 }
    }
}

fn language(name: &str) -> &'static str {
    LANGUAGES.into_iter().find(|known| *known == name).unwrap_or(OTHER)
}

impl Header {
    pub(crate) fn is_response(&self) -> bool {
        self.flag & RESPONSE != 0
    }

    pub(crate) fn is_oneway(&self) -> bool {
        self.flag & ONEWAY != 0
    }
}

/// A header to send, borrowed.
pub(super) struct Outgoing<'a> {
    pub(super) code: i32,
    pub(super) opaque: i32,
    pub(super) flag: Flag,
    pub(super) remark: Option<&'a str>,
    pub(super) fields: &'a [(&'static str, Cow<'static, str>)],
}

/// What a frame that we send is.
#[derive(Clone, Copy)]
pub(super) enum Flag {
    Response,
    Request,
    Oneway,
}

impl Flag {
    fn bits(self) -> i32 {
        match self {
            Self::Request => 0,
            Self::Response => RESPONSE,
            Self::Oneway => ONEWAY,
        }
    }
}

/// A header that cannot be read.
#[derive(Debug)]
pub(crate) struct BadHeader(String);

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame's header cannot be read: {}", self.0)
    }
}

impl std::error::Error for BadHeader {}

/// Reads a JSON header. Keys that nobody knows are ignored.
pub(super) fn parse_json(bytes: &[u8]) -> Result<Header, BadHeader> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        code: i32,
        opaque: i32,
        #[serde(default)]
        flag: i32,
        #[serde(default, borrow)]
        remark: Option<Cow<'a, str>>,
        #[serde(default, rename = "extFields", deserialize_with = "fields")]
        fields: Fields,
        #[serde(default, borrow)]
        language: Option<Cow<'a, str>>,
        #[serde(default)]
        version: i32,
    }
    let wire: Wire<'_> = serde_json::from_slice(bytes).map_err(|e| BadHeader(e.to_string()))?;
    Ok(Header {
        code: wire.code,
        opaque: wire.opaque,
        flag: wire.flag,
        remark: wire.remark.map(Cow::into_owned),
        fields: wire.fields,
        program: Program {
            language: wire.language.as_deref().map_or(OTHER, language),
            version: wire.version,
        },
    })
}

fn fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
    struct Map;
    impl<'de> Visitor<'de> for Map {
        type Value = Fields;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_unit<E>(self) -> Result<Fields, E> {
            Ok(Fields::default())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
            let mut fields = Fields::default();
            while let Some(name) = map.next_key_seed(Keep(&mut fields))? {
                let value = map.next_value_seed(Keep(&mut fields))?;
                if let (Some(name), Some(value)) = (name, value) {
                    fields.pair(name, value);
                }
            }
            Ok(fields)
        }
    }
    deserializer.deserialize_any(Map)
}

/// Takes a value into the fields as a string: clients of all languages write numbers and truth
/// values as such, too. `None` for what is no value.
struct Keep<'a>(&'a mut Fields);

impl<'de> DeserializeSeed<'de> for Keep<'_> {
    type Value = Option<Range<u32>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keep<'_> {
    type Value = Option<Range<u32>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(self.0.keep(text)))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(self.0.keep(if value { "true" } else { "false" })))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(self.0.keep(&value.to_string())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(self.0.keep(&value.to_string())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(self.0.keep(&value.to_string())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// What a header begins with, before its fields.
pub(super) struct Start<'a> {
    pub(super) code: i32,
    pub(super) opaque: i32,
    pub(super) flag: i32,
    pub(super) remark: Option<&'a str>,
    pub(super) program: Program,
}

impl Start<'_> {
    pub(super) fn is_response(&self) -> bool {
        self.flag & RESPONSE != 0
    }
}

/// Reads the beginning of a binary header, and leaves its fields in `bytes`.
pub(super) fn start_of_binary<'a>(bytes: &mut &'a [u8]) -> Result<Start<'a>, BadHeader> {
    if bytes.len() < 17 {
        return Err(short());
    }
    let code = i32::from(bytes.get_i16());
    let language = LANGUAGES.get(usize::from(bytes.get_u8())).copied().unwrap_or(OTHER);
    let program = Program { language, version: i32::from(bytes.get_i16()) };
    let (opaque, flag) = (bytes.get_i32(), bytes.get_i32());
    let len = bytes.get_u32();
    let remark = take(bytes, len as usize).ok_or_else(short)?;
    let remark = (!remark.is_empty()).then(|| text(remark)).transpose()?;
    Ok(Start { code, opaque, flag, remark, program })
}

fn short() -> BadHeader {
    BadHeader("it ends too early".into())
}

/// Reads a binary header.
pub(super) fn parse_binary(mut bytes: &[u8]) -> Result<Header, BadHeader> {
    let Start { code, opaque, flag, remark, program } = start_of_binary(&mut bytes)?;
    let remark = remark.map(str::to_owned);
    let mut header = Header { code, opaque, flag, remark, fields: Fields::default(), program };
    if bytes.is_empty() {
        return Ok(header);
    }
    let len = bytes.try_get_u32().map_err(|_| short())?;
    let mut entries = take(&mut bytes, len as usize).ok_or_else(short)?;
    header.fields = Fields::with_room(entries.len());
    while !entries.is_empty() {
        let len = entries.try_get_u16().map_err(|_| short())?;
        let name = take(&mut entries, len.into()).ok_or_else(short)?;
        let len = entries.try_get_u32().map_err(|_| short())?;
        let value = take(&mut entries, len as usize).ok_or_else(short)?;
        header.fields.push(text(name)?, text(value)?);
    }
    Ok(header)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn text(bytes: &[u8]) -> Result<&str, BadHeader> {
    std::str::from_utf8(bytes).map_err(|e| BadHeader(e.to_string()))
}

impl Outgoing<'_> {
    pub(super) fn write_json(&self, out: &mut BytesMut) {
        struct Pairs<'a>(&'a [(&'static str, Cow<'static, str>)]);
        impl Serialize for Pairs<'_> {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let mut map = to.serialize_map(Some(self.0.len()))?;
                for (name, value) in self.0 {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
        #[derive(Serialize)]
        struct Wire<'a> {
            code: i32,
            #[serde(rename = "extFields")]
            fields: Pairs<'a>,
            flag: i32,
            language: &'static str,
            opaque: i32,
            #[serde(skip_serializing_if = "Option::is_none")]
            remark: Option<&'a str>,
            #[serde(rename = "serializeTypeCurrentRPC")]
            form: &'static str,
            version: u16,
        }
        let wire = Wire {
            code: self.code,
            fields: Pairs(self.fields),
            flag: self.flag.bits(),
            language: LANGUAGE.0,
            opaque: self.opaque,
            remark: self.remark,
            form: "JSON",
            version: VERSION,
        };
        let written = serde_json::to_writer(out.writer(), &wire);
        debug_assert!(written.is_ok(), "strings and numbers into memory: {written:?}");
    }

    pub(super) fn write_binary(&self, out: &mut BytesMut) {
        // A code past its two bytes arrives truncated in the original, too.
        out.put_i16(self.code as i16);
        out.put_u8(LANGUAGE.1);
        out.put_u16(VERSION);
        out.put_i32(self.opaque);
        out.put_i32(self.flag.bits());
        let remark = self.remark.unwrap_or_default();
        out.put_u32(remark.len() as u32);
        out.put_slice(remark.as_bytes());
        let entries: usize =
            self.fields.iter().map(|(name, value)| 6 + name.len() + value.len()).sum();
        out.put_u32(entries as u32);
        for (name, value) in self.fields {
            out.put_u16(name.len() as u16);
            out.put_slice(name.as_bytes());
            out.put_u32(value.len() as u32);
            out.put_slice(value.as_bytes());
        }
    }
}
