//! Pulling, and waiting for something to pull.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use steadfast::{ErrorKind, Group, QueueKey, QueueOffset};

use crate::{
    broker::Core,
    clients::Wanted,
    limits::{POSITIONS_BY_ONE_MOST, POSITIONS_MOST, WAITING_BY_ONE_MOST, WAITING_MOST},
    namesrv::data::perm,
    net::{Connection, Reply},
    protocol::{Refused, Request, Response, refuse, status},
    subscription::{Filter, Limit},
};

/// The offset that the request commits is meant.
const FLAG_COMMIT: i32 = 1;
/// If there is nothing the request may wait.
const FLAG_SUSPEND: i32 = 2;
/// What is wanted stands in the request.
const FLAG_SUBSCRIPTION: i32 = 4;
/// Nobody waits longer than this for a message.
const WAIT_MOST: Duration = Duration::from_secs(30);
/// One answer holds no more messages.
const MESSAGES_MOST: usize = 1024;
/// Messages so near the end of their queue were written a moment ago, and are in memory.
const NEAR_THE_END: u64 = 1000;

/// A request to pull that was found in order.
#[derive(Debug)]
struct Pull {
    queue: QueueKey,
    from: QueueOffset,
    limit: Limit,
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
        Found::Nothing(next, response) if pull.until.is_some() => match Place::take(core, by) {
            Some(place) => {
                tokio::spawn(wait(place, pull, next, reply));
            }
            None => reply.send(&response),
        },
        Found::Answer(response) | Found::Nothing(_, response) => reply.send(&response),
    }
}

/// A place among the pulls that wait.
struct Place {
    core: Arc<Core>,
    by: Arc<Connection>,
}

impl Place {
    /// Takes one, if there is one.
    fn take(core: &Arc<Core>, by: &Arc<Connection>) -> Option<Self> {
        if !by.used.waiting.take(WAITING_BY_ONE_MOST) {
            return None;
        }
        if !core.waiting.take(WAITING_MOST) {
            by.used.waiting.give_back();
            return None;
        }
        Some(Self { core: core.clone(), by: by.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.by.used.waiting.give_back();
        self.core.waiting.give_back();
    }
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
    if core.now.permission() & perm::READ == 0 {
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
    let bytes_most = core.now.answer_bytes_most();
    let bytes = u64::try_from(bytes).unwrap_or(bytes_most).clamp(1, bytes_most);
    Ok(Pull {
        queue,
        from: QueueOffset::new(u64::try_from(from).unwrap_or(0)),
        limit: Limit { records: most.clamp(1, MESSAGES_MOST), bytes },
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
        let sql = core.config.property_filter;
        return Filter::parse(expression, fields.get("expressionType"), sql)
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
    let read = || pull.filter.read(&core.store, &pull.queue, from, &pull.limit);
    // Handing this thread's tasks on costs more than a short read from memory.
    let is_near = end.saturating_since(from) <= NEAR_THE_END;
    let read = if is_near { read() } else { crate::blocking(read) };
    match read {
        Ok(found) if found.records.is_empty() => {
            let next = found.next;
            let response =
                answer(status::PULL_RETRY_IMMEDIATELY, range(next), "NO_MATCHED_MESSAGE");
            match next >= found.end {
                true => Found::Nothing(next, response),
                false => Found::Answer(response),
            }
        }
        Ok(found) => {
            core.stats.got(&found.records);
            let response = answer(status::SUCCESS, range(found.next), "FOUND");
            Found::Answer(response.body(found.records))
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

fn answer(
    code: i32,
    (next, min, end): (QueueOffset, QueueOffset, QueueOffset),
    remark: &'static str,
) -> Response {
    Response { code, remark: Some(remark.into()), ..Response::default() }
        .field("nextBeginOffset", next)
        .field("minOffset", min)
        .field("maxOffset", end)
        .text("suggestWhichBrokerId", "0")
        .text("topicSysFlag", "0")
        .text("groupSysFlag", "0")
}

/// Waits for something that goes through the filter, and answers with it.
async fn wait(place: Place, pull: Pull, mut next: QueueOffset, reply: Reply) {
    let (core, by) = (&place.core, &place.by);
    let until = tokio::time::Instant::from_std(pull.until.unwrap_or_else(Instant::now));
    loop {
        let arrived = match core.store.arrival(&pull.queue, next) {
            Ok(arrival) => tokio::select! {
                arrived = arrival => arrived.is_ok(),
                () = tokio::time::sleep_until(until) => false,
                () = core.stop.stopped() => false,
                () = by.closed() => return,
            },
            Err(_) => false,
        };
        // One message may be for all that this connection waits for: they take turns, as fast as
        // the peer reads.
        if !by.room().await {
            return;
        }
        match look(core, &pull, next) {
            Found::Nothing(later, _) if arrived => next = later,
            Found::Answer(response) | Found::Nothing(_, response) => return reply.send(&response),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpStream};

    use super::*;
    use crate::{
        Broker, BrokerConfig,
        protocol::{encode_request, request},
    };

    /// Returns when so many pulls wait.
    async fn until_waiting(broker: &Broker, number: usize) {
        // A pull itself would end after 30 s.
        let deadline = Instant::now() + Duration::from_secs(20);
        while broker.core.waiting.get() != number {
            assert!(Instant::now() < deadline, "{} wait", broker.core.waiting.get());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn pulls_end_with_their_connection() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = BrokerConfig { data: dir.path().to_owned(), ..BrokerConfig::default() };
        config.listen.set_port(0);
        config.name_server_listen.set_port(0);
        config.store.segment_bytes = 1 << 20;
        let broker = Broker::start(config).await.unwrap();
        let fields = [
            ("consumerGroup", "g".into()),
            ("topic", "SELF_TEST_TOPIC".into()),
            ("queueId", "0".into()),
            ("queueOffset", "0".into()),
            ("sysFlag", "6".into()),
            ("suspendTimeoutMillis", "30000".into()),
            ("subscription", "*".into()),
        ];
        let mut frames = bytes::BytesMut::new();
        for opaque in 0..100 {
            encode_request((request::PULL_MESSAGE, opaque), true, &fields, b"", &mut frames);
        }
        let mut stream = TcpStream::connect(broker.address()).await.unwrap();
        stream.write_all(&frames).await.unwrap();
        until_waiting(&broker, 100).await;
        drop(stream);
        until_waiting(&broker, 0).await;
        broker.stop().await.unwrap();
    }
}
