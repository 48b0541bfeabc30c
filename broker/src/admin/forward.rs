//! Questions that a consumer answers: the broker hands them on.

use std::{borrow::Cow, sync::Arc};

use steadfast::PhysicalOffset;

use super::failed;
use crate::{
    broker::Core,
    clients::ClientSeen,
    net::Reply,
    protocol::{Refused, Request, Response, refuse, request, status},
};

/// What a consumer is asked.
struct Question {
    consumer: ClientSeen,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    body: Vec<u8>,
}

/// Hands a request on; its answer follows when the consumer has answered.
pub(crate) fn ask_consumer(core: &Arc<Core>, asked: &Request, reply: Reply) {
    let code = asked.code();
    let question = match crate::blocking(|| question(core, asked)) {
        Ok(question) => question,
        Err(refused) => return reply.send(&refused),
    };
    tokio::spawn(async move {
        let Question { consumer, fields, body } = question;
        let answer = consumer.connection.ask(code, &fields, &body).await;
        reply.send(&answer.map_or_else(|| silent(&consumer.id), handed_back));
    });
}

fn question(core: &Core, asked: &Request) -> Result<Question, Refused> {
    let fields = asked.fields();
    let (group, id) = (fields.need("consumerGroup")?, fields.need("clientId")?);
    let consumer = core.clients.consumer(group, id).ok_or_else(|| {
        refuse(status::SYSTEM_ERROR, format!("the consumer {id} of group {group} is not online"))
    })?;
    let names: &[&'static str] = match asked.code() {
        request::CONSUME_MESSAGE_DIRECTLY => {
            &["consumerGroup", "clientId", "msgId", "brokerName", "topic", "topicSysFlag"]
        }
        _ => &["consumerGroup", "clientId", "jstackEnable"],
    };
    let told = names.iter().filter_map(|name| Some((*name, fields.get(name)?.to_owned().into())));
    let body = match asked.code() {
        request::CONSUME_MESSAGE_DIRECTLY => message(core, fields.need("msgId")?)?,
        _ => asked.body.to_vec(),
    };
    Ok(Question { fields: told.collect(), consumer, body })
}

/// The message that an id of its place names.
fn message(core: &Core, id: &str) -> Result<Vec<u8>, Refused> {
    let place = id.len().checked_sub(16).and_then(|at| id.get(at..));
    let at = place.and_then(|place| u64::from_str_radix(place, 16).ok()).ok_or_else(|| {
        refuse(status::INVALID_PARAMETER, format!("{id:.64} names no place of a message"))
    })?;
    let record = core.store.record_at(PhysicalOffset::new(at)).map_err(failed)?;
    Ok(record.view().bytes().to_vec())
}

fn handed_back(answer: Request) -> Response {
    Response {
        code: answer.header.code,
        remark: answer.header.remark.map(Cow::Owned),
        fields: Vec::new(),
        body: answer.body,
    }
}

fn silent(consumer: &str) -> Response {
    Response::refuse(status::SYSTEM_ERROR, format!("the consumer {consumer} did not answer"))
}
