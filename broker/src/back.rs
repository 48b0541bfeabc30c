//! Messages that a consumer gives back: they come again later, or end with the dead letters.

use std::sync::Arc;

use bytes::Bytes;
use steadfast::{PhysicalOffset, QueueKey, RecordView};

use crate::{
    broker::Core,
    names,
    net::Reply,
    properties,
    protocol::{Refused, Request, Response, refuse, status},
    put::{Outgoing, offset_id, refusal},
};

/// The bits of the system flags that tell of IPv6 hosts; the store sets them.
const HOST_FLAGS: i32 = 0x30;
/// The level of the first retry; each later one waits a level longer.
const FIRST_LEVEL: i32 = 3;

/// A stored message once more, to be stored anew.
pub(crate) fn again(record: &RecordView<'_>) -> Outgoing {
    let encoded = String::from_utf8_lossy(record.properties_bytes());
    Outgoing {
        topic: record.topic().to_owned(),
        queue_id: record.queue_id(),
        body: Bytes::copy_from_slice(record.body()),
        properties: properties::without(&encoded, &[]),
        flag: record.flag(),
        sys_flag: record.sys_flag() & !HOST_FLAGS,
        born: (record.born_time(), record.born_host()),
        reconsume_times: record.reconsume_times(),
        prepared_at: None,
    }
}

/// Handles a message that is given back. It is answered when it is as safe as a sent one.
pub(crate) fn send_back(core: &Arc<Core>, request: &Request, reply: Reply) {
    let message = match prepare(core, request) {
        Ok(message) => message,
        Err(refused) => return reply.send(&refused),
    };
    match message.append(core) {
        Err(error) => reply.send(&refusal(&error)),
        Ok(ticket) => ticket.on_settled(move |settled| match settled {
            Ok(_) => reply.send(&Response::ok()),
            Err(error) => reply.send(&refusal(&error)),
        }),
    }
}

/// The message that is given back, for where it comes again.
fn prepare(core: &Core, request: &Request) -> Result<Outgoing, Refused> {
    let fields = request.fields();
    let group = fields.need("group")?;
    let at: i64 = fields.parse("offset")?;
    let level: i32 = fields.parse_or("delayLevel", 0)?;
    let config = core.group(group)?;
    // A group may be older than the rules for names.
    let again_in = names::retry_topic(group);
    QueueKey::new(&again_in, 0).map_err(|e| refuse(status::INVALID_PARAMETER, e.to_string()))?;
    let most = match fields.parse_or("maxReconsumeTimes", -1)? {
        said if said >= 0 => said,
        _ => config.retry_max_times,
    };
    let at = PhysicalOffset::new(u64::try_from(at).unwrap_or(u64::MAX));
    let record = core.store.record_at(at).map_err(|error| {
        let why = format!("look message by offset failed, {at}: {error}");
        refuse(status::SYSTEM_ERROR, why)
    })?;
    let record = record.view();
    let mut message = again(&record);
    let retried = record.reconsume_times();
    if properties::get(&message.properties, properties::RETRY_TOPIC).is_none() {
        properties::set(&mut message.properties, properties::RETRY_TOPIC, record.topic());
    }
    if properties::get(&message.properties, properties::ORIGIN_MESSAGE_ID).is_none() {
        let id = offset_id(record.store_host(), at);
        properties::set(&mut message.properties, properties::ORIGIN_MESSAGE_ID, &id);
    }
    // Not WAIT=false, as in RocketMQ: the consumer moves on when it is answered, so the message
    // has to be as safe by then as one that was sent.
    let gone =
        [properties::WAIT, properties::DELAY, properties::REAL_TOPIC, properties::REAL_QUEUE];
    message.properties = properties::without(&message.properties, &gone);
    message.reconsume_times = retried.saturating_add(1);
    message.queue_id = 0;
    if retried >= most || level < 0 {
        message.topic = core.make_group_topic(names::dead_letter_topic(group));
    } else {
        message.topic = core.make_group_topic(again_in);
        let level = if level == 0 { FIRST_LEVEL.saturating_add(retried) } else { level };
        properties::set(&mut message.properties, properties::DELAY, &level.to_string());
        message.delay(core);
    }
    Ok(message)
}
