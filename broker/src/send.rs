//! Sending: one message, or a batch of them.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use steadfast::{Placement, QueueKey, Receipt, StoreTime};

use crate::{
    broker::Core,
    names,
    namesrv::data::perm,
    net::{Connection, Reply},
    properties,
    protocol::{BadField, Fields, Refused, Request, Response, refuse, request, status},
    put::{Outgoing, code_of_settled, offset_id, refusal},
    topics::Creating,
};

/// No message has longer properties.
const PROPERTIES_MOST: usize = i16::MAX as usize;
/// No batch has more messages; a frame could hold many empty ones.
const BATCH_MOST: usize = 100_000;
/// The fixed part of each message in a batch: size, magic, checksum, flag, length of the body.
const IN_BATCH: usize = 20;

/// What a request to send says.
struct SendHeader<'a> {
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

/// What is to be stored.
enum Prepared {
    One(Box<Outgoing>),
    Batch(Vec<Outgoing>),
}

/// Handles a request to send. The answer follows when the append has settled.
pub(crate) fn send(core: &Arc<Core>, connection: &Connection, request: &Request, reply: Reply) {
    match prepare(core, connection, request) {
        Ok(Prepared::One(message)) => append(core, &message, reply),
        Ok(Prepared::Batch(messages)) => append_batch(core, &messages, reply),
        Err(refused) => reply.send(&with_region(*refused)),
    }
}

fn prepare(core: &Core, connection: &Connection, request: &Request) -> Result<Prepared, Refused> {
    let header = SendHeader::read(request.fields(), request.code())?;
    let (topic, queue_id) = destination(core, connection, &header)?;
    let mut properties = header.properties.to_owned();
    core.add_own_properties(&mut properties);
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
        return split(&message).map(Prepared::Batch);
    }
    check_body(core, message.body.len())?;
    if names::group_of_retry_topic(header.topic).is_some() {
        give_up(core, &mut message, &header);
    }
    if properties::get(&message.properties, properties::UNIQUE_KEY).is_none() {
        // A client of another kind; messages are found by it, and told apart.
        let id = core.unique_key();
        properties::add(&mut message.properties, properties::UNIQUE_KEY, &id);
    }
    if properties::get(&message.properties, properties::TRANSACTION_PREPARED) == Some("true") {
        crate::transaction::make_half(&mut message);
    } else {
        message.delay(core);
        if message.topic != names::SCHEDULE {
            let refused = |why| refuse(status::MESSAGE_ILLEGAL, why);
            crate::timer::set(&mut message).map_err(refused)?;
        }
    }
    Ok(Prepared::One(Box::new(message)))
}

/// The queue that a message goes to, which is made if need be.
fn destination(
    core: &Core,
    by: &Connection,
    header: &SendHeader<'_>,
) -> Result<(String, i32), Refused> {
    if core.config.permission & perm::WRITE == 0 {
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

/// Takes a batch apart. What its header says holds for all.
fn split(batch: &Outgoing) -> Result<Vec<Outgoing>, Refused> {
    let malformed = |why: &str| refuse(status::MESSAGE_ILLEGAL, format!("the batch {why}"));
    if names::group_of_retry_topic(&batch.topic).is_some() {
        return Err(malformed("is for a topic of retries"));
    }
    let mut rest = batch.body.clone();
    let mut messages = Vec::new();
    while !rest.is_empty() {
        if messages.len() == BATCH_MOST {
            return Err(malformed("has too many messages"));
        }
        let size = rest.try_get_u32().map_err(|_| malformed("ends within a message"))? as usize;
        if size < IN_BATCH + 2 || size - 4 > rest.len() {
            return Err(malformed("has a message of an impossible size"));
        }
        let mut one = rest.split_to(size - 4);
        one.advance(8);
        let flag = one.get_i32();
        let body = take(&mut one, 4).ok_or_else(|| malformed("has a body that is too long"))?;
        let own = take(&mut one, 2).ok_or_else(|| malformed("has properties that are too long"))?;
        let own =
            std::str::from_utf8(&own).map_err(|_| malformed("has properties not in UTF-8"))?;
        let mut all = own.to_owned();
        for (name, value) in properties::iter(&batch.properties) {
            properties::add(&mut all, name, value);
        }
        // A reader keeps the last: the message's own key, not that of the batch.
        if let Some(own) = properties::get(own, properties::UNIQUE_KEY) {
            properties::set(&mut all, properties::UNIQUE_KEY, own);
        }
        if all.len() > PROPERTIES_MOST {
            return Err(malformed("has a message with properties that are too long"));
        }
        messages.push(Outgoing { body, properties: all, flag, ..batch.clone() });
    }
    if messages.is_empty() {
        return Err(malformed("is empty"));
    }
    Ok(messages)
}

/// Takes bytes with their length, of two or four bytes, before them.
fn take(from: &mut Bytes, length: usize) -> Option<Bytes> {
    let len = from.try_get_uint(length).ok()? as usize;
    (len <= from.len()).then(|| from.split_to(len))
}

fn append(core: &Arc<Core>, message: &Outgoing, reply: Reply) {
    let unique_key =
        properties::get(&message.properties, properties::UNIQUE_KEY).unwrap_or_default().to_owned();
    let queue_id = match [names::SCHEDULE, names::TIMER].contains(&message.topic.as_str()) {
        // The client is told the queue that it chose.
        true => properties::get(&message.properties, properties::REAL_QUEUE)
            .and_then(|id| id.parse().ok())
            .unwrap_or(message.queue_id),
        false => message.queue_id,
    };
    answer_settled(core, message.append(core), (queue_id, unique_key), reply);
}

fn append_batch(core: &Arc<Core>, messages: &[Outgoing], reply: Reply) {
    let ticket = batch_ticket(core, messages);
    let queue_id = messages.first().map_or(0, |first| first.queue_id);
    answer_settled(core, ticket, (queue_id, String::new()), reply);
}

fn batch_ticket(core: &Core, messages: &[Outgoing]) -> steadfast::Result<steadfast::Ticket> {
    let queues = messages.iter().map(|m| QueueKey::new(&m.topic, m.queue_id));
    let queues: Vec<_> = queues.collect::<steadfast::Result<_>>()?;
    let all: Vec<_> =
        messages.iter().zip(&queues).map(|(m, queue)| m.message(core, queue)).collect();
    core.store.append_batch(&all)
}

fn answer_settled(
    core: &Arc<Core>,
    ticket: steadfast::Result<steadfast::Ticket>,
    told: (i32, String),
    reply: Reply,
) {
    match ticket {
        Err(error) => reply.send(&with_region(refusal(&error))),
        Ok(ticket) => {
            let core = core.clone();
            ticket.on_settled(move |settled| match settled {
                Ok(receipt) => reply.send(&sent(&core, &receipt, told)),
                Err(error) => reply.send(&with_region(refusal(&error))),
            });
        }
    }
}

fn sent(core: &Arc<Core>, receipt: &Receipt, (queue_id, unique_key): (i32, String)) -> Response {
    let id = |placement: &Placement| offset_id(core.address, placement.physical_offset);
    let ids: Vec<_> = receipt.placements().map(id).collect();
    let response = Response { code: code_of_settled(core, receipt), ..Response::default() };
    let response = response
        .field("msgId", ids.join(","))
        .field("queueId", queue_id)
        .field("queueOffset", receipt.placement.queue_offset.get());
    let response = match unique_key.is_empty() {
        true => response,
        false => response.field("transactionId", unique_key),
    };
    with_region(response)
}

/// What clients read from every answer to a send.
fn with_region(response: Response) -> Response {
    response.field("MSG_REGION", "DefaultRegion").field("TRACE_ON", "true")
}
