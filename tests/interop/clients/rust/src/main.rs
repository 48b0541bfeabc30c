//! Small acceptance client: the real `rocketmq-client-rust` against any name server and broker.
//! Usage: rocketmq-rust-acceptance HOST:PORT. One PASS/FAIL line per scenario.
#![recursion_limit = "512"]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rocketmq_client_rust::{
    ClientError, ClientResult, ClientRuntime, ClientRuntimeConfig, ConsumeConcurrentlyContext,
    ConsumeConcurrentlyStatus, DefaultMQProducer, DefaultMQPushConsumer, MQPushConsumer,
    MessageListenerConcurrently,
};
use rocketmq_model::common::message::message_ext::MessageExt;
use rocketmq_model::common::message::message_single::Message;
use rocketmq_runtime::{RuntimeConfig, RuntimeOwner};

type Seen = Arc<Mutex<HashMap<String, Vec<i32>>>>;

struct Listener {
    seen: Seen,
    retry_first: bool,
}

impl MessageListenerConcurrently for Listener {
    fn consume_message(
        &self,
        msgs: &[&MessageExt],
        _context: &ConsumeConcurrentlyContext,
    ) -> ClientResult<ConsumeConcurrentlyStatus> {
        let mut again = false;
        for m in msgs {
            let body = m
                .body()
                .map(|b| String::from_utf8_lossy(b.as_ref()).into_owned())
                .unwrap_or_default();
            let times = m.reconsume_times();
            self.seen.lock().unwrap().entry(body).or_default().push(times);
            again |= self.retry_first && times == 0;
        }
        Ok(if again {
            ConsumeConcurrentlyStatus::ReconsumeLater
        } else {
            ConsumeConcurrentlyStatus::ConsumeSuccess
        })
    }
}

async fn scenario(
    runtime: Arc<ClientRuntime>,
    namesrv: &str,
    tag: &str,
    count: usize,
    retry_first: bool,
    seconds: u64,
) -> Result<String, String> {
    let err = |e: ClientError| format!("{e:?}");
    let topic = format!("T_rust_{tag}");
    let mut producer = DefaultMQProducer::builder(runtime.clone())
        .producer_group(format!("G_rust_p_{tag}"))
        .name_server_addr(namesrv.to_string())
        .build();
    producer.start().await.map_err(err)?;
    for i in 0..count {
        let m = Message::builder()
            .topic(topic.as_str())
            .tags("a")
            .body_slice(format!("b{i}").as_bytes())
            .build_unchecked();
        let r = producer.send_with_timeout(m, 8000).await.map_err(err)?;
        let text = format!("{r:?}");
        if !text.contains("SendOk") {
            return Err(format!("send: {text}"));
        }
    }
    let seen: Seen = Arc::default();
    let mut consumer = DefaultMQPushConsumer::builder(runtime)
        .consumer_group(format!("G_rust_c_{tag}"))
        .name_server_addr(namesrv.to_string())
        .build();
    consumer.subscribe(topic.as_str(), "*").await.map_err(err)?;
    consumer.register_message_listener_concurrently(Listener {
        seen: seen.clone(),
        retry_first,
    });
    consumer.start().await.map_err(err)?;
    let want = if retry_first { count * 2 } else { count };
    let end = Instant::now() + Duration::from_secs(seconds);
    let total = || seen.lock().unwrap().values().map(Vec::len).sum::<usize>();
    let distinct = || seen.lock().unwrap().len();
    while (total() < want || distinct() < count) && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    consumer.shutdown().await;
    producer.shutdown().await;
    let map = seen.lock().unwrap();
    // Every message must come. Its first showing must be the undelivered state, or, without a
    // wished retry, whatever the client made of it: version 1.0.0 sends some messages back unseen.
    let mut odd = 0;
    for i in 0..count {
        match map.get(&format!("b{i}")).map(Vec::as_slice) {
            None => return Err(format!("b{i} was lost")),
            Some([0, 1]) if retry_first => {}
            Some(times) if retry_first => return Err(format!("b{i} was delivered as {times:?}")),
            Some([0]) => {}
            Some(_) => odd += 1,
        }
    }
    if odd > 0 {
        return Ok(format!("{count} messages, {odd} of them not exactly once at the first try"));
    }
    Ok(format!("{want} deliveries"))
}

fn main() {
    let namesrv = std::env::args().nth(1).expect("HOST:PORT of the name server");
    let owner = RuntimeOwner::plan(RuntimeConfig::default())
        .expect("runtime plan")
        .build()
        .expect("runtime");
    let rt = tokio::runtime::Runtime::new().expect("tokio");
    let failed = rt.block_on(async {
        let telemetry = rocketmq_observability::install_global(
            &rocketmq_observability::TelemetryBootstrapConfig::default(),
        )
        .expect("telemetry");
        let client = ClientRuntime::try_new(
            owner.root_context().component("client"),
            ClientRuntimeConfig::default(),
            telemetry.handle(),
        )
        .expect("client runtime");
        let id = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let mut failed = 0;
        for (name, count, retry, seconds) in
            [("rust-send-and-push", 60, false, 60), ("rust-reconsume-later", 3, true, 120)]
        {
            let t0 = Instant::now();
            let name = format!("{id}_{count}");
            let r = scenario(client.clone(), &namesrv, &name, count, retry, seconds).await;
            let s = t0.elapsed().as_secs_f64();
            match r {
                Ok(note) => println!("PASS {name} ({s:.1} s) {note}"),
                Err(why) => {
                    failed += 1;
                    println!("FAIL {name} ({s:.1} s) {why}");
                }
            }
        }
        failed
    });
    std::process::exit(if failed == 0 { 0 } else { 1 });
}
