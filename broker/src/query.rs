//! Finding single messages.

use std::sync::Arc;

use bytes::BytesMut;
use steadfast::{PhysicalOffset, StoreTime};

use crate::{
    broker::Core,
    protocol::{Refused, Request, Response, refuse, status},
};

/// One answer holds no more messages.
const MOST: usize = 64;
/// Nor more bytes, except for one message.
const BYTES_MOST: usize = 8 << 20;

/// The messages of a topic with a key.
pub(crate) fn by_key(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let fields = request.fields();
    let most = fields.parse_or("maxNum", 32_usize)?.clamp(1, MOST);
    let begin = StoreTime::from_millis(fields.parse_or("beginTimestamp", 0)?);
    let end = StoreTime::from_millis(fields.parse_or("endTimestamp", i64::MAX)?);
    let found = core.store.query(fields.need("topic")?, fields.need("key")?, begin, end, most);
    let records = found.map_err(|e| refuse(status::SYSTEM_ERROR, e.to_string()))?;
    let mut body = BytesMut::new();
    for record in &records {
        let bytes = record.view().bytes();
        if body.is_empty() || body.len() + bytes.len() <= BYTES_MOST {
            body.extend_from_slice(bytes);
        }
    }
    if body.is_empty() {
        let why = "can not find message, maybe time range not correct";
        return Err(refuse(status::QUERY_NOT_FOUND, why));
    }
    Ok(Response::ok()
        .field("indexLastUpdateTimestamp", 0)
        .field("indexLastUpdatePhyoffset", 0)
        .body(body))
}

/// The message at a position of the log.
pub(crate) fn by_position(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let at: i64 = request.fields().parse("offset")?;
    let at = PhysicalOffset::new(u64::try_from(at).unwrap_or(u64::MAX));
    let record = core.store.record_at(at).map_err(|e| {
        refuse(status::SYSTEM_ERROR, format!("can not find message by the offset, {at}: {e}"))
    })?;
    Ok(Response::ok().body(record.view().bytes().to_vec()))
}
