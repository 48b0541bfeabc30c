//! How the broker is.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use serde::Serialize;
use steadfast::PhysicalOffset;

use crate::{
    broker::Core,
    namesrv::json_body,
    protocol::{Refused, Request, Response, refuse, status},
};

/// What is said to be the version: the one that clients go by.
const VERSION: (&str, &str) = ("479", "V5_3_3");

/// What an operator sees of a broker. What has no meaning here, such as the queues of threads
/// that are not there, is 0: `mqadmin` wants a number.
pub(super) fn info(core: &Arc<Core>, _request: &Request) -> Result<Response, Refused> {
    #[derive(Serialize)]
    struct Table {
        table: BTreeMap<String, String>,
    }
    let mut table = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        table.insert(name.to_owned(), value);
    };
    let begun = Instant::now();
    let progress = core.store.progress();
    let behind = |at: PhysicalOffset| progress.written.get().saturating_sub(at.get());
    let (put, got) = core.stats.totals();
    let rates = core.stats.rates();
    let list = |of: fn(&(f64, f64)) -> f64| rates.iter().map(of).map(|r| format!("{r:.2}"));
    let listed = |of| list(of).collect::<Vec<_>>().join(" ");
    let now = crate::now_millis();
    set("bootTimestamp", core.started().to_string());
    set("runtime", duration(now.saturating_sub(core.started())));
    set("brokerActive", "true".into());
    set("brokerVersion", VERSION.0.into());
    set("brokerVersionDesc", VERSION.1.into());
    set("steadfastVersion", env!("CARGO_PKG_VERSION").into());
    set("commitLogMinOffset", progress.start.to_string());
    set("commitLogMaxOffset", progress.written.to_string());
    set("dispatchBehindBytes", behind(progress.dispatched).to_string());
    set("remainHowManyDataToFlush", format!("{} B", behind(progress.durable)));
    set("earliestMessageTimeStamp", oldest(core, progress.start).to_string());
    set("putTps", listed(|rate| rate.0));
    set("getTransferredTps", listed(|rate| rate.1));
    set("getFoundTps", listed(|rate| rate.1));
    set("getTotalTps", listed(|rate| rate.1));
    set("getMissTps", "0.00 0.00 0.00".into());
    set("putMessageTimesTotal", put.to_string());
    set("msgPutTotalTodayNow", put.to_string());
    set("msgGetTotalTodayNow", got.to_string());
    set("waitingPulls", core.waiting.get().to_string());
    set("scrubFound", format!("{:?}", core.scrub.found()));
    set("storeHealth", core.store.health().map_or_else(|e| e.to_string(), |()| "ok".into()));
    for pool in ["send", "pull", "query", "ack", "litePull"] {
        set(&format!("{pool}ThreadPoolQueueSize"), "0".into());
        set(&format!("{pool}ThreadPoolQueueHeadWaitTimeMills"), "0".into());
    }
    for zero in [
        "EndTransactionQueueSize",
        "msgGetTotalTodayMorning",
        "msgGetTotalYesterdayMorning",
        "msgPutTotalTodayMorning",
        "msgPutTotalYesterdayMorning",
        "putMessageFailedTimes",
        "timerCongestNum",
        "timerDequeueTps",
        "timerEnqueueTps",
        "timerOffsetBehind",
        "timerReadBehind",
    ] {
        set(zero, "0".into());
    }
    set("pageCacheLockTimeMills", begun.elapsed().as_millis().to_string());
    Ok(json_body(&Table { table }))
}

/// Nothing is counted for single topics or groups.
pub(super) fn stats(_core: &Arc<Core>, request: &Request) -> Result<Response, Refused> {
    let fields = request.fields();
    let (name, key) = (fields.need("statsName")?, fields.need("statsKey")?);
    Err(refuse(status::SYSTEM_ERROR, format!("The stats <{name}> <{key}> not exist")))
}

/// When the first message that is there was stored.
fn oldest(core: &Core, start: PhysicalOffset) -> i64 {
    core.store.record_at(start).map_or(-1, |record| record.view().store_time().as_millis())
}

fn duration(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    format!("[ {days} days, {hours} hours, {minutes} minutes, {seconds} seconds ]")
}
