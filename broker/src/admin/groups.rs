//! Consumer groups: what holds for them.

use std::sync::Arc;

use serde::Serialize;
use tracing::info;

use super::failed;
use crate::{
    broker::Core,
    groups::Group,
    names,
    namesrv::json_body,
    protocol::{Refused, Request, Response, refuse, status},
};

/// What is told about one group takes no more: the rest of it is kept as it is.
const BYTES_MOST: usize = 2 << 10;
/// As many objects as the policies of a group have, and some more.
const OBJECTS_MOST: usize = 100;
/// RocketMQ's own tool sets this many at most.
const RETRY_QUEUES_MOST: i32 = 64;

/// Makes a group, or another one of it. It is durable when this is answered.
pub(super) fn put(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let bytes = request.body.len();
    let invalid = |why: String| refuse(status::INVALID_PARAMETER, why);
    if bytes > BYTES_MOST {
        return Err(invalid(format!("a group of {bytes} bytes, at most {BYTES_MOST}")));
    }
    let group: Group = request.json(OBJECTS_MOST)?;
    names::check_group(&group.group_name).map_err(invalid)?;
    if !(0..=RETRY_QUEUES_MOST).contains(&group.retry_queue_nums) {
        let why = format!("retryQueueNums can be 0 to {RETRY_QUEUES_MOST}");
        return Err(invalid(why));
    }
    core.groups.put(group).map_err(failed)?;
    core.groups.save().map_err(failed)?;
    Ok(Response::ok())
}

/// All groups.
pub(super) fn all(core: &Arc<Core>, _request: &Request) -> Result<Response, Refused> {
    Ok(json_body(&core.groups.snapshot()))
}

/// One group. It is not made by asking.
pub(super) fn one(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let name = request.fields().need("group")?;
    Ok(json_body(&known(core, name)?))
}

/// The group with that name.
pub(super) fn known(core: &Core, name: &str) -> Result<impl Serialize, Refused> {
    core.groups.get(name).ok_or_else(|| {
        let why = format!("subscription group [{name}] does not exist");
        refuse(status::SUBSCRIPTION_GROUP_NOT_EXIST, why)
    })
}

/// Takes a group away, and its offsets if that is asked for. It is durable when this is answered;
/// done again, after a crash in between, it does what is left.
pub(super) fn delete(core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let fields = request.fields();
    let name = fields.need("groupName")?;
    let offsets = fields.get("cleanOffset") == Some("true");
    // The group first: with its offsets gone and itself there it would consume all again.
    if core.groups.remove(name) {
        info!(group = name, "deleted");
    }
    core.groups.save().map_err(failed)?;
    if offsets && let Ok(group) = steadfast::Group::new(name) {
        let gone = core.store.consumers().remove_group(&group).map_err(failed)?;
        core.positions.give_back_many(gone);
        core.store.consumers().save().map_err(failed)?;
        info!(group = name, gone, "its offsets are deleted");
    }
    Ok(Response::ok())
}
