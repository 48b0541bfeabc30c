//! Which request is handled where.

use std::{sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{
    admin, back, blocking,
    broker::Core,
    clients::{self, Heartbeat},
    limits::OBJECTS_MOST,
    locks::{LockBody, LockedBody},
    names,
    namesrv::{
        data::{TopicConfig, perm},
        json_body,
    },
    net::{Connection, Handler, Reply},
    offsets,
    protocol::{Refused, Request, Response, refuse, request, status},
    pull, query, send,
    subscription::{Filter, SubscriptionData},
    transaction,
};

/// Answers what clients ask a broker.
pub(crate) struct Processor {
    pub(crate) core: Arc<Core>,
}

impl Handler for Processor {
    fn handle(&self, connection: &Arc<Connection>, request: Request, reply: Reply) {
        let core = &self.core;
        match request.code() {
            request::SEND_MESSAGE | request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE => {
                send::send(core, connection, &request, reply);
            }
            request::PULL_MESSAGE | request::LITE_PULL_MESSAGE => {
                pull::pull(core, connection, &request, reply);
            }
            request::CONSUMER_SEND_MSG_BACK => back::send_back(core, &request, reply),
            request::GET_CONSUMER_RUNNING_INFO | request::CONSUME_MESSAGE_DIRECTLY => {
                admin::ask_consumer(core, &request, reply);
            }
            _ => {
                let answer = self.answer(connection, &request);
                reply.send(&answer.unwrap_or_else(|refused| *refused));
            }
        }
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.core.clients.disconnected(connection.number);
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConsumerIds {
    consumer_id_list: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClientConfig {
    subscription_data: SubscriptionData,
}

impl Processor {
    fn answer(&self, connection: &Arc<Connection>, request: &Request) -> Result<Response, Refused> {
        let core = &self.core;
        match request.code() {
            request::HEART_BEAT => self.heartbeat(connection, request),
            request::UNREGISTER_CLIENT => {
                let fields = request.fields();
                let (producers, consumers) =
                    (fields.get("producerGroup"), fields.get("consumerGroup"));
                core.clients.leave(connection.number, producers, consumers);
                Ok(Response::ok())
            }
            request::GET_CONSUMER_LIST_BY_GROUP => {
                let group = request.fields().need("consumerGroup")?;
                let consumer_id_list = core.clients.consumer_ids(group).ok_or_else(|| {
                    refuse(status::SYSTEM_ERROR, format!("no consumer for this group, {group}"))
                })?;
                Ok(json_body(&ConsumerIds { consumer_id_list }))
            }
            request::QUERY_CONSUMER_OFFSET => offsets::query(core, request),
            request::UPDATE_CONSUMER_OFFSET => offsets::update(core, connection, request),
            request::GET_MAX_OFFSET => offsets::max(core, request),
            request::GET_MIN_OFFSET => offsets::min(core, request),
            // These look at messages of any age.
            request::SEARCH_OFFSET_BY_TIMESTAMP => blocking(|| offsets::by_time(core, request)),
            request::GET_EARLIEST_MSG_STORETIME => blocking(|| offsets::earliest(core, request)),
            request::QUERY_MESSAGE => blocking(|| query::by_key(core, request)),
            request::VIEW_MESSAGE_BY_ID => blocking(|| query::by_position(core, request)),
            request::END_TRANSACTION => {
                transaction::end(core, request)?;
                Ok(Response::ok())
            }
            request::LOCK_BATCH_MQ => {
                let body: LockBody = request.json(OBJECTS_MOST)?;
                core.group_named_by(&body.consumer_group, connection)?;
                let locked = core.locks.lock(body, Instant::now());
                let locked = locked.map_err(|why| refuse(status::SYSTEM_ERROR, why))?;
                Ok(json_body(&LockedBody { locked }))
            }
            request::UNLOCK_BATCH_MQ => {
                core.locks.unlock(&request.json(OBJECTS_MOST)?);
                Ok(Response::ok())
            }
            request::CHECK_CLIENT_CONFIG => self.check_client(request),
            request::UPDATE_AND_CREATE_TOPIC => self.put_topic(request),
            code => admin::answer(core, request).unwrap_or_else(|| {
                let why = format!(" request type {code} not supported");
                Err(refuse(status::REQUEST_CODE_NOT_SUPPORTED, why))
            }),
        }
    }

    fn heartbeat(
        &self,
        connection: &Arc<Connection>,
        request: &Request,
    ) -> Result<Response, Refused> {
        let heartbeat: Heartbeat = request.json(OBJECTS_MOST)?;
        let core = &self.core;
        let client = &heartbeat.client_id;
        let from = clients::From { client, program: request.header.program, connection };
        let too_much = |why| refuse(status::SYSTEM_ERROR, why);
        heartbeat.check().map_err(too_much)?;
        let mut answer = Ok(());
        for consumer in &heartbeat.consumer_data_set {
            let name = &consumer.group_name;
            let group = match core.group_named_by(name, connection) {
                Ok(group) => group,
                // It hears of that when it pulls; its other groups are served.
                Err(why) if why.code == status::SUBSCRIPTION_GROUP_NOT_EXIST => continue,
                Err(refused) if refused.code == status::INVALID_PARAMETER => {
                    // Told when the others are known.
                    answer = Err(refused);
                    continue;
                }
                Err(refused) => return Err(refused),
            };
            if consumer.message_model != "BROADCASTING" {
                let topic = names::retry_topic(name);
                let queues = group.retry_queue_nums.max(1);
                core.make_topic(TopicConfig::new(topic, queues, perm::READ_WRITE));
            }
            let notify = group.notify_consumer_ids_changed_enable;
            let heard = core.clients.heard_of_consumer(consumer, from, notify);
            heard.map_err(too_much)?;
        }
        for producer in &heartbeat.producer_data_set {
            let heard = core.clients.heard_of_producer(&producer.group_name, from);
            heard.map_err(too_much)?;
        }
        answer?;
        Ok(Response::ok().field("IS_SUPPORT_HEART_BEAT_V2", "false").field("IS_SUB_CHANGE", "true"))
    }

    fn check_client(&self, request: &Request) -> Result<Response, Refused> {
        let data = request.json::<ClientConfig>(OBJECTS_MOST)?.subscription_data;
        let kind = data.expression_type.as_deref();
        Filter::parse(&data.sub_string, kind, self.core.config.property_filter)
            .map_err(|why| refuse(status::SYSTEM_ERROR, why))?;
        Ok(Response::ok())
    }

    fn put_topic(&self, request: &Request) -> Result<Response, Refused> {
        let fields = request.fields();
        let name = fields.need("topic")?;
        names::check_topic(name).map_err(|why| refuse(status::INVALID_PARAMETER, why))?;
        if names::is_forbidden(name) {
            let why = format!("the topic {name} is the broker's own");
            return Err(refuse(status::NO_PERMISSION, why));
        }
        let queues = |name| match fields.parse_or(name, 8)? {
            queues @ 1..=65_536 => Ok(queues),
            _ => Err(refuse(status::INVALID_PARAMETER, "a topic has 1 to 65536 queues")),
        };
        let (read, write) = (queues("readQueueNums")?, queues("writeQueueNums")?);
        let mut topic = TopicConfig::new(name, read, fields.parse_or("perm", 6)?);
        topic.write_queue_nums = write;
        topic.topic_sys_flag = fields.parse_or("topicSysFlag", 0)?;
        topic.order = fields.get("order") == Some("true");
        let put = blocking(|| self.core.put_topic(topic));
        put.map_err(|e| refuse(status::SYSTEM_ERROR, e.to_string()))?;
        Ok(Response::ok())
    }
}
