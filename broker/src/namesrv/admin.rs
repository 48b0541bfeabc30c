//! What operators ask a name server.

use super::{Routes, data::TopicList, data::perm, json_body};
use crate::protocol::{Refused, Request, Response, refuse, request, status};

/// What can be told of its settings: none of them can be changed.
const SETTINGS: &str = "deleteTopicWithBrokerRegistration=false\norderMessageEnable=false\n\
    scanNotActiveBrokerInterval=5000\n";

/// Answers, unless the request is no operator's.
pub(super) fn answer(routes: &Routes, request: &Request) -> Option<Result<Response, Refused>> {
    let answer = match request.code() {
        request::WIPE_WRITE_PERM_OF_BROKER => wipe(routes, request),
        request::ADD_WRITE_PERM_OF_BROKER => add(routes, request),
        request::DELETE_TOPIC_IN_NAMESRV => delete(routes, request),
        request::GET_TOPICS_BY_CLUSTER => of_cluster(routes, request),
        request::GET_SYSTEM_TOPIC_LIST_FROM_NS => Ok(own(routes)),
        // There are none, and a tool that takes away what it never put finds it gone.
        request::DELETE_KV_CONFIG => Ok(Response::ok()),
        request::GET_KV_CONFIG | request::GET_KVLIST_BY_NAMESPACE => {
            Err(refuse(status::QUERY_NOT_FOUND, "this name server keeps no pairs"))
        }
        request::PUT_KV_CONFIG => {
            Err(refuse(status::NO_PERMISSION, "this name server keeps no pairs"))
        }
        request::GET_NAMESRV_CONFIG => Ok(Response::ok().body(SETTINGS)),
        request::UPDATE_NAMESRV_CONFIG => {
            let why = "nothing of this name server can be changed while it runs";
            Err(refuse(status::NO_PERMISSION, why))
        }
        _ => return None,
    };
    Some(answer)
}

fn wipe(routes: &Routes, request: &Request) -> Result<Response, Refused> {
    let broker = request.fields().need("brokerName")?;
    let changed = routes.set_permissions(broker, |old| old & !perm::WRITE);
    Ok(Response::ok().field("wipeTopicCount", changed))
}

fn add(routes: &Routes, request: &Request) -> Result<Response, Refused> {
    let broker = request.fields().need("brokerName")?;
    let changed = routes.set_permissions(broker, |old| old | perm::READ_WRITE);
    Ok(Response::ok().field("addTopicCount", changed))
}

fn delete(routes: &Routes, request: &Request) -> Result<Response, Refused> {
    let fields = request.fields();
    let topic = fields.need("topic")?;
    // It has to be asked before the table is changed.
    match fields.get("clusterName").filter(|name| !name.is_empty()) {
        None => routes.remove_topic(topic, |_| true),
        Some(cluster) => {
            let brokers = routes.route(topic).map(|route| route.queue_datas).unwrap_or_default();
            let names = brokers.into_iter().map(|queues| queues.broker_name);
            let names: Vec<_> = names.filter(|name| routes.is_in(name, cluster)).collect();
            routes.remove_topic(topic, |broker| names.iter().any(|name| name == broker));
        }
    }
    Ok(Response::ok())
}

fn of_cluster(routes: &Routes, request: &Request) -> Result<Response, Refused> {
    let cluster = request.fields().need("cluster")?;
    Ok(json_body(&TopicList { topic_list: routes.topics_of(cluster) }))
}

/// The topics that are named after clusters and brokers.
fn own(routes: &Routes) -> Response {
    let info = routes.cluster_info();
    let brokers = info.broker_addr_table.into_keys();
    let topic_list = info.cluster_addr_table.into_keys().chain(brokers).collect();
    json_body(&TopicList { topic_list })
}
