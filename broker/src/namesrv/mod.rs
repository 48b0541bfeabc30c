//! The name server: brokers register here, clients ask here where topics are.

mod admin;
pub(crate) mod data;
mod routes;
mod standalone;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    limits::REGISTERED_OBJECTS_MOST,
    net::{Connection, Handler, Reply, Stop},
    protocol::{Refused, Request, Response, refuse, request, status},
};
use data::{RegisterBody, TopicList};
pub(crate) use routes::{MASTER, Registration, Routes, SILENT_MOST};
pub use standalone::NameServer;

/// How often silent brokers are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// Answers what clients and brokers ask a name server.
pub(crate) struct Directory {
    routes: Arc<Routes>,
}

impl Directory {
    pub(crate) fn new(routes: Arc<Routes>) -> Self {
        Self { routes }
    }

    fn answer(&self, connection: &Connection, request: &Request) -> Result<Response, Refused> {
        let fields = request.fields();
        Ok(match request.code() {
            request::GET_ROUTEINFO_BY_TOPIC => {
                let topic = fields.need("topic")?;
                let route = self.routes.route(topic).ok_or_else(|| {
                    let why = format!("No topic route info in name server for the topic: {topic}");
                    refuse(status::TOPIC_NOT_EXIST, why)
                })?;
                json_body(&route)
            }
            request::REGISTER_BROKER => self.register(connection, request)?,
            request::UNREGISTER_BROKER => {
                self.routes.unregister(fields.need("clusterName")?, fields.need("brokerAddr")?);
                Response::ok()
            }
            request::GET_BROKER_CLUSTER_INFO => json_body(&self.routes.cluster_info()),
            request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => {
                json_body(&TopicList { topic_list: self.routes.topics() })
            }
            code => {
                if let Some(answer) = admin::answer(&self.routes, request) {
                    return answer;
                }
                let why = format!(" request type {code} not supported by this name server");
                return Err(refuse(status::REQUEST_CODE_NOT_SUPPORTED, why));
            }
        })
    }

    fn register(&self, connection: &Connection, request: &Request) -> Result<Response, Refused> {
        let fields = request.fields();
        let said: u32 = fields.parse_or("bodyCrc32", 0)?;
        if said != 0 && said != crc32fast::hash(&request.body) & 0x7fff_ffff {
            return Err(refuse(status::SYSTEM_ERROR, "crc32 not match"));
        }
        if fields.get("compressed") == Some("true") {
            return Err(refuse(
                status::SYSTEM_ERROR,
                "compressed registrations are not read here; set compressedRegister=false",
            ));
        }
        let body: RegisterBody = match request.body.is_empty() {
            true => RegisterBody::default(),
            false => request.json(REGISTERED_OBJECTS_MOST)?,
        };
        let silent_most = match fields.parse_or("heartbeatTimeoutMillis", 0_u64)? {
            0 => SILENT_MOST,
            millis => Duration::from_millis(millis),
        };
        let registration = Registration {
            cluster: fields.need("clusterName")?.to_owned(),
            broker: fields.need("brokerName")?.to_owned(),
            id: fields.parse("brokerId")?,
            address: fields.need("brokerAddr")?.to_owned(),
            ha_address: fields.get("haServerAddr").unwrap_or_default().to_owned(),
            silent_most,
        };
        let topics = &body.topic_config_serialize_wrapper;
        let by = Some(connection.number);
        let master = self.routes.register(registration, topics, by, Instant::now());
        let master = master.map_err(|why| refuse(status::SYSTEM_ERROR, why))?;
        if master.address.is_empty() {
            return Ok(Response::ok());
        }
        Ok(Response::ok()
            .field("masterAddr", master.address)
            .field("haServerAddr", master.ha_address))
    }
}

impl Handler for Directory {
    fn handle(&self, connection: &Arc<Connection>, request: Request, reply: Reply) {
        let answer = self.answer(connection, &request);
        reply.send(&answer.unwrap_or_else(|refused| *refused));
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.routes.disconnected(connection.number);
    }
}

/// Forgets silent brokers until it is told to stop.
pub(crate) async fn forget_silent(routes: Arc<Routes>, stop: Stop) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => routes.expire(Instant::now()),
            () = stop.stopped() => return,
        }
    }
}

/// Success, with a body in JSON.
pub(crate) fn json_body(body: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(json) => Response::ok().body(json),
        Err(e) => Response::refuse(status::SYSTEM_ERROR, format!("no JSON can be written: {e}")),
    }
}
