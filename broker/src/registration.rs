//! Telling name servers where we are and which topics we have.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tracing::{info, warn};

use crate::{
    broker::Core,
    namesrv::{
        MASTER, Registration, Routes, SILENT_MOST,
        data::{RegisterBody, TopicConfig},
    },
    net::invalid,
    protocol::{Request, encode_request, next_frame, request, status},
};

/// After an attempt that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// A name server that does not answer for so long is not there.
const ANSWER: Duration = Duration::from_secs(3);

/// Where a broker registers.
#[derive(Debug)]
pub(crate) enum Registry {
    /// At the name server in this process.
    Embedded(Arc<Routes>),
    /// At others, each with its own task that waits for changes.
    Remote(Vec<Arc<Notify>>),
}

impl Registry {
    /// A topic is new, or another one than before.
    pub(crate) fn topic_changed(&self, core: &Core, topic: &TopicConfig) {
        match self {
            Self::Embedded(routes) => routes.add_topic(&core.config.name, topic),
            Self::Remote(tasks) => tasks.iter().for_each(|task| task.notify_one()),
        }
    }

    /// There is no such topic here any more. Other name servers are told by who deleted it, as in
    /// RocketMQ.
    pub(crate) fn topic_gone(&self, core: &Core, topic: &str) {
        if let Self::Embedded(routes) = self {
            routes.remove_topic(topic, |broker| broker == core.config.name);
        }
    }

    /// Registers with all topics at the name server in this process.
    pub(crate) fn register_embedded(&self, core: &Core) {
        if let Self::Embedded(routes) = self {
            let topics = core.topics.snapshot();
            let registered = routes.register(registration(core), &topics, None, Instant::now());
            if let Err(error) = registered {
                warn!(error, "not registered at the name server in this process");
            }
        }
    }
}

fn registration(core: &Core) -> Registration {
    Registration {
        cluster: core.config.cluster.clone(),
        broker: core.config.name.clone(),
        id: MASTER,
        address: core.address.to_string(),
        ha_address: core.ha_address(),
        silent_most: SILENT_MOST,
    }
}

/// Registers again and again at the name server in this process, until told to stop: another broker
/// of the same name takes our place there, and our topics with it when it leaves.
pub(crate) async fn keep_embedded(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(core.config.register_period) => {
                core.registry.register_embedded(&core);
            }
            () = core.stop.stopped() => return,
        }
    }
}

/// Keeps us registered at one name server until told to stop.
pub(crate) async fn keep(core: Arc<Core>, server: String, changed: Arc<Notify>) {
    let mut told = false;
    loop {
        let ended = tokio::select! {
            ended = register_for_ever(&core, &server, &changed) => ended,
            () = core.stop.stopped() => {
                let leaving = tokio::time::timeout(ANSWER, leave(&core, &server)).await;
                if let Ok(Err(error)) | Err(error) = leaving.map_err(io::Error::other) {
                    warn!(%error, %server, "the name server was not told that we leave");
                }
                return;
            }
        };
        let Err(error) = ended;
        if !told {
            warn!(%error, %server, "not registered at the name server; trying again");
        }
        told = true;
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = core.stop.stopped() => return,
        }
    }
}

/// One connection, which is kept: when it closes the name server forgets us.
async fn register_for_ever(
    core: &Core,
    server: &str,
    changed: &Notify,
) -> io::Result<std::convert::Infallible> {
    let mut stream = TcpStream::connect(server).await?;
    let mut opaque = 0;
    loop {
        opaque += 1;
        let Registration { cluster, broker, id, address, ha_address, .. } = registration(core);
        let body = RegisterBody {
            filter_server_list: Vec::new(),
            topic_config_serialize_wrapper: core.topics.snapshot(),
        };
        let body = serde_json::to_vec(&body)?;
        let fields = [
            ("brokerName", broker.into()),
            ("brokerAddr", address.into()),
            ("clusterName", cluster.into()),
            ("haServerAddr", ha_address.into()),
            ("brokerId", id.to_string().into()),
            ("compressed", "false".into()),
            ("bodyCrc32", (crc32fast::hash(&body) & 0x7fff_ffff).to_string().into()),
            ("enableActingMaster", "false".into()),
        ];
        let mut frame = BytesMut::new();
        encode_request((request::REGISTER_BROKER, opaque), true, &fields, &body, &mut frame);
        tokio::time::timeout(ANSWER, exchange(&mut stream, &frame, opaque)).await??;
        if opaque == 1 {
            info!(%server, "registered");
        }
        tokio::select! {
            () = tokio::time::sleep(core.config.register_period) => {}
            () = changed.notified() => {}
        }
    }
}

async fn leave(core: &Core, server: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    let Registration { cluster, broker, id, address, .. } = registration(core);
    let fields = [
        ("brokerName", broker.into()),
        ("brokerAddr", address.into()),
        ("clusterName", cluster.into()),
        ("brokerId", id.to_string().into()),
    ];
    let mut frame = BytesMut::new();
    encode_request((request::UNREGISTER_BROKER, 1), true, &fields, b"", &mut frame);
    exchange(&mut stream, &frame, 1).await
}

/// Sends a request and reads the answer.
async fn exchange(stream: &mut TcpStream, frame: &[u8], opaque: i32) -> io::Result<()> {
    stream.write_all(frame).await?;
    let mut received = BytesMut::new();
    loop {
        if let Some(frame) = next_frame(&mut received).map_err(invalid)? {
            let answer = Request::read(frame).map_err(invalid)?;
            if !answer.header.is_response() || answer.header.opaque != opaque {
                continue;
            }
            return match answer.code() {
                status::SUCCESS => Ok(()),
                code => {
                    let remark = answer.header.remark.unwrap_or_default();
                    Err(invalid(format!("the name server answered {code}: {remark}")))
                }
            };
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
