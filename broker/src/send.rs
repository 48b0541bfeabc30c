//! Sending: one message, or a batch of them.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use steadfast::{Placement, QueueKey, Receipt, StoreTime, Ticket};

use crate::{
    broker::Core,
    names,
    namesrv::data::perm,
    net::{Connection, Reply},
    properties,
    protocol::{BadField, Fields, Refused, Request, Response, refuse, request, status},
    put::{Outgoing, code_of_settled, offset_id, refusal},
    repeats::SendKey,
    topics::Creating,
};

/// No message has longer properties.
const PROPERTIES_MOST: usize = i16::MAX as usize;
/// About what the broker adds to them.
const OWN_PROPERTIES: usize = 160;
/// No batch takes more memory while it is handled.
const BATCH_BYTES_MOST: usize = 64 << 20;
/// What each message of a batch takes besides its bytes: here, in the store and in the answer.
const IN_MEMORY: usize = 512;
/// The fixed part of each message in a batch: size, magic, checksum, flag, length of the body.
const IN_BATCH: usize = 20;

const CUT_OFF: &str = "ends within a message";

/// What a request to send says.
struct SendHeader<'a> {
    group: &'a str,
    topic: &'a str,
    like: &'a str,
    queues: i32,
    queue_id: i32,
    sys_flag: i32,
    born: i64,
    flag: i32,
    properties: &'a str,
    reconsume_times: i32,
    max_reconsume_times: Option<i32>,
}

impl<'a> SendHeader<'a> {
    fn read(fields: &'a Fields, code: i32) -> Result<Self, BadField> {
        // Java, and everybody in a batch, sends one letter for each name.
        let long = code == request::SEND_MESSAGE;
        let name = |short, full| if long { full } else { short };
        Ok(Self {
            group: fields.get(name("a", "producerGroup")).unwrap_or_default(),
            topic: fields.need(name("b", "topic"))?,
            like: fields.get(name("c", "defaultTopic")).unwrap_or_default(),
            queues: fields.parse_or(name("d", "defaultTopicQueueNums"), 4)?,
            queue_id: fields.parse(name("e", "queueId"))?,
            sys_flag: fields.parse_or(name("f", "sysFlag"), 0)?,
            born: fields.parse_or(name("g", "bornTimestamp"), 0)?,
            flag: fields.parse_or(name("h", "flag"), 0)?,
            properties: fields.get(name("i", "properties")).unwrap_or_default(),
            reconsume_times: fields.parse_or(name("j", "reconsumeTimes"), 0)?,
            max_reconsume_times: match fields.get(name("l", "maxReconsumeTimes")) {
                None | Some("") => None,
                Some(_) => Some(fields.parse(name("l", "maxReconsumeTimes"))?),
            },
        })
    }
}

/// What a send has to know of the properties, found in one pass.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known<'a> {
    unique_key: Option<&'a str>,
    has_group: bool,
    is_half: bool,
    is_delayed: bool,
    is_timed: bool,
    /// It came from a broker before.
    has_own: bool,
}

impl<'a> Known<'a> {
    fn of(encoded: &'a str) -> Self {
        let mut known = Self::default();
        for (name, value) in properties::iter(encoded) {
            match name {
                properties::UNIQUE_KEY => known.unique_key = Some(value),
                properties::PRODUCER_GROUP => known.has_group = true,
                properties::TRANSACTION_PREPARED => known.is_half = value == "true",
                properties::DELAY => known.is_delayed = true,
                properties::REGION | properties::TRACE | properties::CLUSTER => {
                    known.has_own = true;
                }
                name => known.is_timed |= name.starts_with(properties::TIMER_PREFIX),
            }
        }
        known
    }
}

/// What is to be stored, and what tells it from other sends where that is asked about.
enum Prepared {
    /// With its unique key.
    One(Box<Outgoing>, String, Option<SendKey>),
    Batch(Vec<Outgoing>, Vec<SendKey>),
}

/// Handles a request to send. The answer follows when the append has settled.
pub(crate) fn send(core: &Arc<Core>, connection: &Connection, request: &Request, reply: Reply) {
    match prepare(core, connection, request) {
        Ok(Prepared::One(message, key, known_by)) => {
            append(core, &message, key, known_by.as_slice(), reply);
        }
        Ok(Prepared::Batch(messages, known_by)) => append_batch(core, &messages, &known_by, reply),
        Err(refused) => reply.send(&with_region(*refused)),
    }
}

fn prepare(core: &Core, connection: &Connection, request: &Request) -> Result<Prepared, Refused> {
    let header = SendHeader::read(request.fields(), request.code())?;
    let (topic, queue_id) = destination(core, connection, &header)?;
    let known = Known::of(header.properties);
    let mut properties = String::with_capacity(header.properties.len() + OWN_PROPERTIES);
    properties.push_str(header.properties);
    core.add_own_properties(&mut properties, known.has_own);
    let is_covered = core.repeats.covers(header.topic);
    if is_covered && !known.has_group {
        // It is part of what tells sends apart, after a restart, too.
        properties::add(&mut properties, properties::PRODUCER_GROUP, header.group);
    }
    let group = header.group;
    let key_of = |topic: &str, key: &str, body: &[u8]| core.repeats.key(topic, group, key, body);
    if properties.len() > PROPERTIES_MOST {
        let why =
            format!("the properties have {} bytes, at most {PROPERTIES_MOST}", properties.len());
        return Err(refuse(status::MESSAGE_ILLEGAL, why));
    }
    let born = (StoreTime::from_millis(header.born), connection.peer);
    let mut message = Outgoing {
        topic,
        queue_id,
        body: request.body.clone(),
        properties,
        flag: header.flag,
        sys_flag: header.sys_flag,
        born,
        reconsume_times: header.reconsume_times,
        prepared_at: None,
    };
    if request.code() == request::SEND_BATCH_MESSAGE {
        let messages = split(core, &message)?;
        let key = |one: &Outgoing| {
            let key = properties::get(&one.properties, properties::UNIQUE_KEY)?;
            Some(key_of(&one.topic, key, &one.body))
        };
        // All have one, or the batch is none that can be told from others.
        let keys: Option<Vec<_>> = is_covered.then(|| messages.iter().map(key).collect()).flatten();
        return Ok(Prepared::Batch(messages, keys.unwrap_or_default()));
    }
    check_body(core, message.body.len())?;
    let own = known.unique_key.filter(|_| is_covered);
    let known_by = own.map(|key| key_of(header.topic, key, &message.body));
    if names::group_of_retry_topic(header.topic).is_some() {
        give_up(core, &mut message, &header);
    }
    let unique_key = known.unique_key.map_or_else(|| core.unique_key(), str::to_owned);
    if known.unique_key.is_none() {
        // A client of another kind; messages are found by it, and told apart.
        properties::add(&mut message.properties, properties::UNIQUE_KEY, &unique_key);
    }
    if known.is_half {
        crate::transaction::make_half(&mut message);
    } else {
        if known.is_delayed {
            message.delay(core);
        }
        if known.is_timed && message.topic != names::SCHEDULE {
            let refused = |why| refuse(status::MESSAGE_ILLEGAL, why);
            crate::timer::set(&mut message).map_err(refused)?;
        }
    }
    Ok(Prepared::One(Box::new(message), unique_key, known_by))
}

/// The queue that a message goes to, which is made if need be.
fn destination(
    core: &Core,
    by: &Connection,
    header: &SendHeader<'_>,
) -> Result<(String, i32), Refused> {
    if core.now.permission() & perm::WRITE == 0 {
        let why =
            format!("the broker {} must not be written to (brokerPermission)", core.config.name);
        return Err(refuse(status::NO_PERMISSION, why));
    }
    let topic = header.topic;
    names::check_topic(topic).map_err(|why| refuse(status::INVALID_PARAMETER, why))?;
    if names::is_forbidden(topic) {
        let why = format!("only the broker itself writes to the topic {topic}");
        return Err(refuse(status::NO_PERMISSION, why));
    }
    let creating = Creating { like: header.like, queues: header.queues };
    let shape = match core.topics.shape(topic) {
        None => core.make_topic_for_send(topic, creating, by)?,
        known => known,
    };
    let Some((permitted, read, write)) = shape else {
        let why = format!(
            "topic {topic} does not exist, and is not made by itself (autoCreateTopicEnable)"
        );
        return Err(refuse(status::TOPIC_NOT_EXIST, why));
    };
    if permitted & perm::WRITE == 0 {
        return Err(refuse(status::NO_PERMISSION, format!("topic {topic} must not be written to")));
    }
    let queues = read.max(write);
    let queue_id = match header.queue_id {
        picked if picked >= queues => {
            let why = format!("topic {topic} has {queues} queues, none is number {picked}");
            return Err(refuse(status::INVALID_PARAMETER, why));
        }
        open if open < 0 => core.any_of(write.max(1)),
        picked => picked,
    };
    Ok((topic.to_owned(), queue_id))
}

fn check_body(core: &Core, len: usize) -> Result<(), Refused> {
    let most = core.config.store.max_message_bytes as usize;
    if len > most {
        let why = format!("the body has {len} bytes, at most {most} (maxMessageSize)");
        return Err(refuse(status::MESSAGE_ILLEGAL, why));
    }
    Ok(())
}

/// A consumer sends back what it could not, too often: to the dead letters.
fn give_up(core: &Core, message: &mut Outgoing, header: &SendHeader<'_>) {
    let Some(group) = names::group_of_retry_topic(header.topic) else { return };
    let most = header.max_reconsume_times.unwrap_or_else(|| core.groups.retries_most(group));
    if header.reconsume_times > most {
        message.topic = core.make_group_topic(names::dead_letter_topic(group));
        message.queue_id = 0;
        message.properties = properties::without(&message.properties, &[properties::DELAY]);
    }
}

/// Takes a batch apart. What its header says holds for all. What that takes is known before any
/// memory is taken for it: in a frame there is room for very many messages without bodies, and each
/// gets all that its header says.
fn split(core: &Core, batch: &Outgoing) -> Result<Vec<Outgoing>, Refused> {
    let malformed = |why: &str| refuse(status::MESSAGE_ILLEGAL, format!("the batch {why}"));
    if names::group_of_retry_topic(&batch.topic).is_some() {
        return Err(malformed("is for a topic of retries"));
    }
    check_body(core, batch.body.len())?;
    let each = batch.topic.len() + batch.properties.len() + IN_MEMORY;
    let count = count(&batch.body).map_err(malformed)?;
    let takes = count.saturating_mul(each).saturating_add(batch.body.len());
    if takes > BATCH_BYTES_MOST {
        let why = format!(
            "of {count} messages would take {takes} bytes of memory, at most {BATCH_BYTES_MOST}: \
             send it in parts"
        );
        return Err(malformed(&why));
    }
    let key = properties::get(&batch.properties, properties::UNIQUE_KEY);
    let common = properties::without(&batch.properties, &[properties::UNIQUE_KEY]);
    let mut rest = batch.body.clone();
    let mut messages = Vec::with_capacity(count);
    while !rest.is_empty() {
        let size = rest.try_get_u32().map_err(|_| malformed(CUT_OFF))? as usize;
        let mut one = rest.split_to(size.saturating_sub(4).min(rest.len()));
        one.try_get_u64().map_err(|_| malformed(CUT_OFF))?;
        let flag = one.try_get_i32().map_err(|_| malformed(CUT_OFF))?;
        let body = take(&mut one, 4).ok_or_else(|| malformed("has a body that is too long"))?;
        let own = take(&mut one, 2).ok_or_else(|| malformed("has properties that are too long"))?;
        let own =
            std::str::from_utf8(&own).map_err(|_| malformed("has properties not in UTF-8"))?;
        let mut all = String::with_capacity(own.len() + batch.properties.len() + 2);
        all.push_str(own);
        properties::end(&mut all);
        all.push_str(&common);
        // The message's own key, not that of the batch.
        if let Some(key) = key
            && properties::get(own, properties::UNIQUE_KEY).is_none()
        {
            properties::add(&mut all, properties::UNIQUE_KEY, key);
        }
        if all.len() > PROPERTIES_MOST {
            return Err(malformed("has a message with properties that are too long"));
        }
        messages.push(Outgoing {
            topic: batch.topic.clone(),
            body,
            properties: all,
            flag,
            ..*batch
        });
    }
    Ok(messages)
}

/// How many messages a batch says that it has.
fn count(mut batch: &[u8]) -> Result<usize, &'static str> {
    let mut count = 0;
    while let Some((size, _)) = batch.split_first_chunk() {
        let size = u32::from_be_bytes(*size) as usize;
        if size < IN_BATCH + 2 || size > batch.len() {
            return Err("has a message of an impossible size");
        }
        batch = &batch[size..];
        count += 1;
    }
    match (batch.is_empty(), count) {
        (true, 0) => Err("is empty"),
        (true, count) => Ok(count),
        (false, _) => Err(CUT_OFF),
    }
}

/// Takes bytes with their length, of two or four bytes, before them.
fn take(from: &mut Bytes, length: usize) -> Option<Bytes> {
    let len = from.try_get_uint(length).ok()? as usize;
    (len <= from.len()).then(|| from.split_to(len))
}

fn append(
    core: &Arc<Core>,
    message: &Outgoing,
    unique_key: String,
    known_by: &[SendKey],
    reply: Reply,
) {
    let queue_id = match [names::SCHEDULE, names::TIMER].contains(&message.topic.as_str()) {
        // The client is told the queue that it chose.
        true => properties::get(&message.properties, properties::REAL_QUEUE)
            .and_then(|id| id.parse().ok())
            .unwrap_or(message.queue_id),
        false => message.queue_id,
    };
    let ticket = once(core, known_by, queue_id, || message.append(core));
    answer_settled(core, ticket, unique_key, reply);
}

fn append_batch(core: &Arc<Core>, messages: &[Outgoing], known_by: &[SendKey], reply: Reply) {
    let queue_id = messages.first().map_or(0, |first| first.queue_id);
    let ticket = once(core, known_by, queue_id, || batch_ticket(core, messages));
    answer_settled(core, ticket, String::new(), reply);
}

/// Appends, unless it is known that this was done before. Gives the queue, too.
fn once(
    core: &Core,
    known_by: &[SendKey],
    queue_id: i32,
    append: impl FnOnce() -> steadfast::Result<Ticket>,
) -> steadfast::Result<(i32, Ticket)> {
    match known_by {
        [] => append().map(|ticket| (queue_id, ticket)),
        keys => core.repeats.append(keys, queue_id, append, |at| core.store.ticket_for(at)),
    }
}

fn batch_ticket(core: &Core, messages: &[Outgoing]) -> steadfast::Result<Ticket> {
    // All of them are for the queue of the first one.
    let queue = messages.first().map(|first| QueueKey::new(&first.topic, first.queue_id));
    let queue = queue.transpose()?;
    let all: Vec<_> =
        queue.iter().flat_map(|queue| messages.iter().map(|m| m.message(core, queue))).collect();
    core.store.append_batch(&all)
}

fn answer_settled(
    core: &Arc<Core>,
    ticket: steadfast::Result<(i32, Ticket)>,
    unique_key: String,
    reply: Reply,
) {
    match ticket {
        Err(error) => reply.send(&with_region(refusal(&error))),
        Ok((queue_id, ticket)) => {
            let core = core.clone();
            let told = (queue_id, unique_key);
            ticket.on_settled(move |settled| match settled {
                Ok(receipt) => reply.send(&sent(&core, &receipt, told)),
                Err(error) => reply.send(&with_region(refusal(&error))),
            });
        }
    }
}

fn sent(core: &Arc<Core>, receipt: &Receipt, (queue_id, unique_key): (i32, String)) -> Response {
    let id = |placement: &Placement| offset_id(core.address, placement.physical_offset);
    let mut ids = receipt.placements().map(id);
    let first = ids.next().unwrap_or_default();
    let ids = ids.fold(first, |all, id| all + "," + &id);
    let code = code_of_settled(core, receipt);
    let response = Response { code, fields: Vec::with_capacity(8), ..Response::default() };
    let response = response
        .text("msgId", ids)
        .field("queueId", queue_id)
        .field("queueOffset", receipt.placement.queue_offset.get());
    let response = match unique_key.is_empty() {
        true => response,
        false => response.text("transactionId", unique_key),
    };
    with_region(response)
}

/// What clients read from every answer to a send.
fn with_region(response: Response) -> Response {
    response.text("MSG_REGION", "DefaultRegion").text("TRACE_ON", "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_finds_what_a_send_has_to_know() {
        assert_eq!(Known::of(""), Known::default());
        let known = Known::of("UNIQ_KEY\u{1}a\u{2}KEYS\u{1}k\u{2}UNIQ_KEY\u{1}b\u{2}rest");
        assert_eq!(known, Known { unique_key: Some("b"), ..Known::default() });
        let known = Known::of("TIMER_DELAY_MS\u{1}1\u{2}DELAY\u{1}2\u{2}TRAN_MSG\u{1}no\u{2}");
        assert_eq!(known, Known { is_timed: true, is_delayed: true, ..Known::default() });
        let known = Known::of("TRAN_MSG\u{1}true\u{2}CLUSTER\u{1}c");
        assert_eq!(known, Known { is_half: true, has_own: true, ..Known::default() });
    }

    #[test]
    fn a_batch_is_counted_and_what_is_none_is_told() {
        let one = |size: u32, len: usize| {
            let mut one = vec![0; len];
            one[..4].copy_from_slice(&size.to_be_bytes());
            one
        };
        assert_eq!(count(&[one(22, 22), one(30, 30)].concat()), Ok(2));
        assert_eq!(count(&[]), Err("is empty"));
        assert_eq!(count(&[0, 0, 0]), Err(CUT_OFF));
        assert_eq!(count(&[one(22, 22), vec![0]].concat()), Err(CUT_OFF));
        for size in [0, 3, 21, 23, u32::MAX] {
            assert_eq!(count(&one(size, 22)), Err("has a message of an impossible size"));
        }
    }
}
