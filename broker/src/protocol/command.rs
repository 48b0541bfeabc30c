//! Requests as they were received, and replies to them.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;

use super::{
    fields::{BadField, Fields},
    frame::{Frame, Serialization},
    header::{BadHeader, Flag, Header, Outgoing, Start, parse_binary, parse_json, start_of_binary},
    json, status,
};

/// A frame that was received: a request, or the reply to one of ours.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) header: Header,
    pub(crate) serialization: Serialization,
    pub(crate) body: Bytes,
}

impl Request {
    /// Reads the header.
    pub(crate) fn read(frame: Frame) -> Result<Self, BadHeader> {
        let header = match frame.serialization {
            Serialization::Json => parse_json(&frame.header)?,
            Serialization::Binary => parse_binary(&frame.header)?,
        };
        Ok(Self { header, serialization: frame.serialization, body: frame.body })
    }

    pub(crate) fn code(&self) -> i32 {
        self.header.code
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.header.fields
    }

    /// Reads the body, which may have so many objects: two bytes of an empty one become a hundred
    /// in memory, so they are counted before.
    pub(crate) fn json<T: DeserializeOwned>(&self, objects_most: usize) -> Result<T, Refused> {
        let objects = self.body.iter().filter(|byte| **byte == b'{').count();
        if objects > objects_most {
            let why = format!("the body has {objects} objects, at most {objects_most}");
            return Err(refuse(status::SYSTEM_ERROR, why));
        }
        json::read(&self.body)
            .map_err(|e| refuse(status::SYSTEM_ERROR, format!("the body cannot be read: {e}")))
    }
}

/// What is answered to a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) code: i32,
    pub(crate) remark: Option<Cow<'static, str>>,
    pub(crate) fields: Vec<(&'static str, Cow<'static, str>)>,
    pub(crate) body: Bytes,
}

/// A request that is not done, and what its peer is told. In a box, since it is the rarer case.
pub(crate) type Refused = Box<Response>;

/// Another code than success, and why.
pub(crate) fn refuse(code: i32, why: impl Into<Cow<'static, str>>) -> Refused {
    Box::new(Response::refuse(code, why))
}

impl From<BadField> for Refused {
    fn from(bad: BadField) -> Self {
        refuse(status::SYSTEM_ERROR, bad.to_string())
    }
}

impl Response {
    /// Success, with nothing to say.
    pub(crate) fn ok() -> Self {
        Self { code: status::SUCCESS, ..Self::default() }
    }

    /// Another code, and why.
    pub(crate) fn refuse(code: i32, remark: impl Into<Cow<'static, str>>) -> Self {
        Self { code, remark: Some(remark.into()), ..Self::default() }
    }

    /// Adds a header field.
    pub(crate) fn field(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string().into()));
        self
    }

    /// Adds a header field that is text already.
    pub(crate) fn text(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Sets the body.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Writes the frame that answers the request `opaque`.
    pub(crate) fn encode(&self, opaque: i32, form: Serialization, out: &mut BytesMut) {
        let header = Outgoing {
            code: self.code,
            opaque,
            flag: Flag::Response,
            remark: self.remark.as_deref(),
            fields: &self.fields,
        };
        write_frame(&header, form, &self.body, out);
    }
}

/// Writes a request of ours that wants no reply, or with `reply` one that does.
pub(crate) fn encode_request(
    (code, opaque): (i32, i32),
    reply: bool,
    fields: &[(&'static str, Cow<'static, str>)],
    body: &[u8],
    out: &mut BytesMut,
) {
    let flag = if reply { Flag::Request } else { Flag::Oneway };
    let header = Outgoing { code, opaque, flag, remark: None, fields };
    write_frame(&header, Serialization::Json, body, out);
}

/// Writes a request that wants a reply, with a binary header.
pub(crate) fn encode_binary_request(
    (code, opaque): (i32, i32),
    fields: &[(&'static str, Cow<'static, str>)],
    body: &[u8],
    out: &mut BytesMut,
) {
    let header = Outgoing { code, opaque, flag: Flag::Request, remark: None, fields };
    write_frame(&header, Serialization::Binary, body, out);
}

/// A reply, without what is said in its fields and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number of the request that it answers.
    pub opaque: i32,
    /// What became of it.
    pub code: i32,
    /// Why, if the peer says so.
    pub remark: Option<String>,
}

impl Answer {
    /// Reads one; `None` if the frame is a request.
    pub(crate) fn read(frame: &Frame) -> Result<Option<Self>, BadHeader> {
        Ok(match frame.serialization {
            Serialization::Json => {
                let header = parse_json(&frame.header)?;
                let is_response = header.is_response();
                let Header { opaque, code, remark, .. } = header;
                is_response.then_some(Self { opaque, code, remark })
            }
            Serialization::Binary => {
                let start = start_of_binary(&mut &frame.header[..])?;
                let Start { opaque, code, remark, .. } = start;
                let remark = remark.map(str::to_owned);
                start.is_response().then_some(Self { opaque, code, remark })
            }
        })
    }
}

fn write_frame(header: &Outgoing<'_>, form: Serialization, body: &[u8], out: &mut BytesMut) {
    let start = out.len();
    out.reserve(512 + body.len());
    out.put_u64(0);
    match form {
        Serialization::Json => header.write_json(out),
        Serialization::Binary => header.write_binary(out),
    }
    let header = out.len() - start - 8;
    out.put_slice(body);
    let total = out.len() - start - 4;
    out[start..start + 4].copy_from_slice(&(total as u32).to_be_bytes());
    let mark = u32::from(form.number()) << 24 | header as u32;
    out[start + 4..start + 8].copy_from_slice(&mark.to_be_bytes());
}
