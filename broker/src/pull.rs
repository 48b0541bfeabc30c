//! Pulling, and waiting for something to pull.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use steadfast::{Batch, ErrorKind, Group, QueueKey, QueueOffset, ReadLimit};

use crate::{
    broker::Core,
    clients::Wanted,
    limits::{POSITIONS_BY_ONE_MOST, POSITIONS_MOST},
    namesrv::data::perm,
    net::{Connection, Reply},
    protocol::{Refused, Request, Response, refuse, status},
    subscription::Filter,
};

/// The offset that the request commits is meant.
const FLAG_COMMIT: i32 = 1;
/// If there is nothing the request may wait.
const FLAG_SUSPEND: i32 = 2;
/// What is wanted stands in the request.
const FLAG_SUBSCRIPTION: i32 = 4;
/// Nobody waits longer than this for a message.
const WAIT_MOST: Duration = Duration::from_secs(30);
/// One answer holds no more than this, except for one message.
const ANSWER_MOST: u64 = 8 << 20;
/// Nor more messages.
const MESSAGES_MOST: usize = 1024;

/// So many pulls wait at most; more are answered at once.
const WAITING_MOST: usize = 200_000;

/// A request to pull that was found in order.
#[derive(Debug)]
struct Pull {
    queue: QueueKey,
    from: QueueOffset,
    limit: ReadLimit,
    filter: Filter,
    /// Until then it may wait, if it may.
    until: Option<Instant>,
}

/// What a look into the queue found.
enum Found {
    /// To be answered.
    Answer(Response),
    /// Nothing yet from this offset on.
    Nothing(QueueOffset, Response),
}

/// Handles a request to pull. If there is nothing, the answer follows when there is.
pub(crate) fn pull(core: &Arc<Core>, by: &Arc<Connection>, request: &Request, reply: Reply) {
    let pull = match prepare(core, by, request) {
        Ok(pull) => pull,
        Err(refused) => return reply.send(&refused),
    };
    match look(core, &pull, pull.from) {
        Found::Nothing(next, _) if pull.until.is_some() && begin_waiting(core) => {
            let core = core.clone();
            tokio::spawn(async move {
                wait(&core, &pull, next, reply).await;
                core.waiting.fetch_sub(1, Ordering::Relaxed);
            });
        }
        Found::Answer(response) | Found::Nothing(_, response) => reply.send(&response),
    }
}

/// Whether there is room for one more that waits; it is counted then.
fn begin_waiting(core: &Core) -> bool {
    let room = core.waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MOST;
    if !room {
        core.waiting.fetch_sub(1, Ordering::Relaxed);
    }
    room
}

fn prepare(core: &Core, by: &Connection, request: &Request) -> Result<Pull, Refused> {
    let fields = request.fields();
    let group = fields.need("consumerGroup")?;
    let topic = fields.need("topic")?;
    let queue_id: i32 = fields.parse("queueId")?;
    let from: i64 = fields.parse("queueOffset")?;
    let most: usize = fields.parse_or("maxMsgNums", 32)?;
    let bytes: i64 = fields.parse_or("maxMsgBytes", -1)?;
    let flags: i32 = fields.parse_or("sysFlag", 0)?;
    let wait: u64 = fields.parse_or("suspendTimeoutMillis", 0)?;
    let committed: i64 = fields.parse_or("commitOffset", -1)?;
    if core.config.permission & perm::READ == 0 {
        let why = format!("the broker {} must not be read (brokerPermission)", core.config.name);
        return Err(refuse(status::NO_PERMISSION, why));
    }
    if !core.group_named_by(group, by)?.consume_enable {
        let why = format!("the group {group} must not consume (consumeEnable)");
        return Err(refuse(status::NO_PERMISSION, why));
    }
    let Some((permitted, read, _)) = core.topics.shape(topic) else {
        return Err(refuse(status::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist")));
    };
    if permitted & perm::READ == 0 {
        return Err(refuse(status::NO_PERMISSION, format!("topic {topic} must not be read")));
    }
    if queue_id < 0 || queue_id >= read {
        let why = format!("topic {topic} has {read} queues to read, none is number {queue_id}");
        return Err(refuse(status::INVALID_PARAMETER, why));
    }
    let key = |e: steadfast::Error| refuse(status::SYSTEM_ERROR, e.to_string());
    let queue = QueueKey::new(topic, queue_id).map_err(key)?;
    let filter = filter(core, request, group, topic, flags)?;
    if flags & FLAG_COMMIT != 0 && committed >= 0 {
        commit_by(by, core, group, &queue, committed as u64)?;
    }
    let bytes = u64::try_from(bytes).unwrap_or(ANSWER_MOST).clamp(1, ANSWER_MOST);
    Ok(Pull {
        queue,
        from: QueueOffset::new(u64::try_from(from).unwrap_or(0)),
        limit: ReadLimit::records(most.clamp(1, MESSAGES_MOST)).bytes(bytes),
        filter,
        until: (flags & FLAG_SUSPEND != 0 && wait > 0)
            .then(|| Instant::now() + Duration::from_millis(wait).min(WAIT_MOST)),
    })
}

fn filter(
    core: &Core,
    request: &Request,
    group: &str,
    topic: &str,
    flags: i32,
) -> Result<Filter, Refused> {
    let fields = request.fields();
    if flags & FLAG_SUBSCRIPTION != 0 {
        let expression = fields.get("subscription").unwrap_or_default();
        return Filter::parse(expression, fields.get("expressionType"))
            .map_err(|why| refuse(status::SUBSCRIPTION_PARSE_FAILED, why));
    }
    // The newest that is known: a pull that overtakes its heartbeat loses nothing by it, the
    // client looks at each tag again.
    match core.clients.wanted(group, topic) {
        Wanted::Filter(filter) => Ok(filter),
        Wanted::NoGroup | Wanted::NoTopic => Err(refuse(
            status::SUBSCRIPTION_NOT_EXIST,
            format!("the consumer's group {group} has not subscribed to {topic}"),
        )),
    }
}

/// Commits. What a group cannot have consumed is not believed.
pub(crate) fn commit(core: &Core, group: &str, queue: &QueueKey, next: u64) {
    let committed = Group::new(group)
        .and_then(|group| core.store.consumers().commit(&group, queue, QueueOffset::new(next)));
    if let Err(error) = committed {
        tracing::debug!(%error, "an offset was not committed");
    }
}

/// Commits as a client says.
pub(crate) fn commit_by(
    by: &Connection,
    core: &Core,
    group: &str,
    queue: &QueueKey,
    next: u64,
) -> Result<(), Refused> {
    let is_known = |group| core.store.consumers().committed(&group, queue).is_some();
    let can_be = core.store.queue_range(queue).is_some_and(|(_, end)| next <= end.get());
    let is_new = can_be && !Group::new(group).is_ok_and(is_known);
    let room =
        || by.used.positions.take(POSITIONS_BY_ONE_MOST) && core.positions.take(POSITIONS_MOST);
    if is_new && !room() {
        let why = format!(
            "the offset of group {group} in queue {queue} is one too many: a connection brings in \
             at most {POSITIONS_BY_ONE_MOST} new ones, a broker has at most {POSITIONS_MOST}"
        );
        return Err(refuse(status::SYSTEM_ERROR, why));
    }
    commit(core, group, queue, next);
    Ok(())
}

/// Reads what there is from `from` on.
fn look(core: &Core, pull: &Pull, from: QueueOffset) -> Found {
    let (min, end) = core.store.queue_range(&pull.queue).unwrap_or_default();
    let range = |next: QueueOffset| (next, min, end);
    let moved =
        |next| Found::Answer(answer(status::PULL_OFFSET_MOVED, range(next), "OFFSET_MOVED"));
    if from > end {
        return moved(if min == QueueOffset::ZERO && end == QueueOffset::ZERO { min } else { end });
    }
    if from < min {
        return moved(min);
    }
    if from == end {
        let response = answer(status::PULL_NOT_FOUND, range(from), "OFFSET_OVERFLOW_ONE");
        return Found::Nothing(from, response);
    }
    let read = match &pull.filter {
        Filter::All => core.store.read(&pull.queue, from, pull.limit),
        Filter::Tags(tags) => {
            let tags: Vec<_> = tags.iter().map(String::as_str).collect();
            core.store.read_tagged(&pull.queue, from, pull.limit, &tags)
        }
    };
    match read {
        Ok(batch) if batch.is_empty() && batch.next_offset() >= batch.end_offset() => {
            let next = batch.next_offset();
            let response =
                answer(status::PULL_RETRY_IMMEDIATELY, range(next), "NO_MATCHED_MESSAGE");
            Found::Nothing(next, response)
        }
        Ok(batch) if batch.is_empty() => {
            let next = range(batch.next_offset());
            Found::Answer(answer(status::PULL_RETRY_IMMEDIATELY, next, "NO_MATCHED_MESSAGE"))
        }
        Ok(batch) => {
            let found = answer(status::SUCCESS, range(batch.next_offset()), "FOUND");
            Found::Answer(found.body(bytes_of(&batch)))
        }
        // Rotten bytes are told loudly, and one message is passed by: the rest is delivered.
        Err(error) if matches!(error.kind(), ErrorKind::Damaged { .. }) => {
            tracing::error!(%error, queue = %pull.queue, offset = %from, "it cannot be read");
            let next = range(from.next());
            Found::Answer(answer(status::PULL_RETRY_IMMEDIATELY, next, "NO_MATCHED_LOGIC_QUEUE"))
        }
        Err(error) => Found::Answer(Response::refuse(status::SYSTEM_ERROR, error.to_string())),
    }
}

fn bytes_of(batch: &Batch) -> BytesMut {
    let mut body = BytesMut::with_capacity(batch.iter().map(|record| record.bytes().len()).sum());
    batch.iter().for_each(|record| body.extend_from_slice(record.bytes()));
    body
}

fn answer(
    code: i32,
    (next, min, end): (QueueOffset, QueueOffset, QueueOffset),
    remark: &'static str,
) -> Response {
    Response { code, remark: Some(remark.into()), ..Response::default() }
        .field("nextBeginOffset", next)
        .field("minOffset", min)
        .field("maxOffset", end)
        .field("suggestWhichBrokerId", "0")
        .field("topicSysFlag", "0")
        .field("groupSysFlag", "0")
}

/// Waits for something that goes through the filter, and answers with it.
async fn wait(core: &Core, pull: &Pull, mut next: QueueOffset, reply: Reply) {
    let until = tokio::time::Instant::from_std(pull.until.unwrap_or_else(Instant::now));
    loop {
        let arrived = match core.store.arrival(&pull.queue, next) {
            Ok(arrival) => tokio::select! {
                arrived = arrival => arrived.is_ok(),
                () = tokio::time::sleep_until(until) => false,
                () = core.stop.stopped() => false,
            },
            Err(_) => false,
        };
        match look(core, pull, next) {
            Found::Nothing(later, _) if arrived => next = later,
            Found::Answer(response) | Found::Nothing(_, response) => return reply.send(&response),
        }
    }
}
