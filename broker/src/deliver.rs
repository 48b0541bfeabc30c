//! The last step of what waited: it goes to the queue that it was sent to.

use steadfast::{Error, ErrorKind, QueueKey, QueueOffset, RecordView, Ticket};
use tracing::error;

use crate::{
    back::again,
    broker::Core,
    properties,
    put::{Outgoing, is_permanent},
};

/// The message as it was sent, for where it was sent to.
pub(crate) fn real(record: &RecordView<'_>) -> Outgoing {
    let mut message = again(record);
    message.properties = properties::without(&message.properties, &[properties::DELAY]);
    if let Some(topic) = record.property(properties::REAL_TOPIC) {
        message.topic = topic.to_owned();
    }
    message.queue_id = record
        .property(properties::REAL_QUEUE)
        .and_then(|id| id.parse().ok())
        .filter(|id: &i32| *id >= 0)
        .unwrap_or(0);
    message
}

/// Appends a message that waited in `from`, and sees to it that it can be consumed.
///
/// # Errors
///
/// As [`steadfast::Store::append`].
pub(crate) fn append(core: &Core, message: &Outgoing, from: &QueueKey) -> Result<Ticket, Error> {
    if message.topic == from.topic() {
        let why = "the message does not say where it was sent to";
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    QueueKey::new(&message.topic, message.queue_id)?;
    // Its topic may have been made just before a crash, and be in no file.
    core.make_queue(&message.topic, message.queue_id);
    message.append(core)
}

/// Appends the message that waited at `offset` of `from`. `None` if it can never be delivered: it
/// is told where it is, stays there, and keeps nothing behind it waiting.
///
/// # Errors
///
/// Why it cannot be delivered now.
pub(crate) fn deliver(
    core: &Core,
    message: &Outgoing,
    from: &QueueKey,
    offset: QueueOffset,
) -> Result<Option<Ticket>, Error> {
    match append(core, message, from) {
        Ok(ticket) => Ok(Some(ticket)),
        Err(error) if is_permanent(&error) => {
            error!(
                %error, topic = message.topic, queue = message.queue_id, waited_in = %from, %offset,
                "a message can never be delivered and is passed by; it can still be read where \
                 it waited: `steadfast get DIR --topic {} --queue {} --from {offset} --max 1`",
                from.topic(), from.queue_id(),
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Waits until what was appended is stored. Calls `done` for each that is, or could never be, in
/// order up to the first that is not.
///
/// # Errors
///
/// Why that one is not.
pub(crate) async fn settle<T>(
    appended: Vec<(T, Option<Ticket>)>,
    mut done: impl FnMut(T),
) -> Result<(), Error> {
    for (what, ticket) in appended {
        if let Some(ticket) = ticket {
            ticket.await?;
        }
        done(what);
    }
    Ok(())
}
