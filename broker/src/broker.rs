//! Starting and stopping a broker, and what all its parts share.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use steadfast::{PhysicalOffset, Store, StoreTime};
use tokio::{sync::Notify, task::JoinSet};
use tracing::{info, warn};

use crate::{
    BrokerConfig, admin,
    clients::Clients,
    config::Role,
    delay::{self, Progress},
    floor::keep,
    groups::{Group, Groups},
    kept::Kept,
    limits::{Count, NAMES_BY_ONE_MOST},
    locks::Locks,
    names,
    namesrv::{
        Directory, Routes,
        data::{TopicConfig, perm},
        forget_silent,
    },
    net::{Connection, Server, Stop},
    processor::Processor,
    properties,
    protocol::{Refused, refuse, status},
    registration::{self, Registry},
    repeats::Repeats,
    scrub::{self, Scrub, Scrubbed},
    stats::Stats,
    timer::{self, Timers},
    topics::{Creating, Topics},
    transaction::{self, Transactions},
};

/// How often small files are written, if they changed.
const SAVE: Duration = Duration::from_secs(1);

/// What all parts of a broker share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: BrokerConfig,
    /// Settings that may change while it runs; in `config` they are as at the start.
    pub(crate) now: admin::Changeable,
    pub(crate) stats: Stats,
    pub(crate) store: Kept,
    /// Where clients find us; part of the ids of messages.
    pub(crate) address: SocketAddr,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) repeats: Repeats,
    pub(crate) scrub: Scrub,
    pub(crate) clients: Clients,
    pub(crate) locks: Locks,
    pub(crate) delays: Progress,
    pub(crate) timers: Timers,
    pub(crate) transactions: Transactions,
    pub(crate) stop: Stop,
    /// How many pulls wait.
    pub(crate) waiting: Count,
    /// How many offsets of groups in queues there are.
    pub(crate) positions: Count,
    pub(crate) registry: Registry,
    saving: Mutex<()>,
    turn: AtomicU32,
    started: i64,
}

impl Core {
    /// Whether an acknowledgement waits for slaves.
    pub(crate) fn wants_slave(&self) -> bool {
        self.config.role == Role::SyncMaster
    }

    /// Where slaves find us.
    pub(crate) fn ha_address(&self) -> String {
        SocketAddr::new(self.address.ip(), self.address.port().wrapping_add(1)).to_string()
    }

    /// One of so many queues, another one each time.
    pub(crate) fn any_of(&self, queues: i32) -> i32 {
        (self.turn.fetch_add(1, Ordering::Relaxed) % queues.max(1) as u32) as i32
    }

    /// A unique key for a message whose client gave it none.
    pub(crate) fn unique_key(&self) -> String {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id() as u16;
        let ip = match self.address.ip() {
            IpAddr::V4(ip) => u32::from(ip),
            IpAddr::V6(ip) => u128::from(ip) as u32,
        };
        format!(
            "{ip:08X}{process:04X}{:08X}{:08X}{turn:04X}",
            self.address.port(),
            self.started as u32
        )
    }

    /// Adds what the broker tells with each message that it takes, in the place of what another
    /// one told.
    pub(crate) fn add_own_properties(&self, encoded: &mut String, has_others: bool) {
        let add = if has_others { properties::set } else { properties::add };
        add(encoded, properties::REGION, "DefaultRegion");
        add(encoded, properties::TRACE, "true");
        add(encoded, properties::CLUSTER, &self.config.cluster);
    }

    /// Makes a topic that `by` sends to. Gives its shape, `None` if it must not be made.
    pub(crate) fn make_topic_for_send(
        &self,
        name: &str,
        creating: Creating<'_>,
        by: &Connection,
    ) -> Result<Option<(i32, i32, i32)>, Refused> {
        if !names::is_of_group(name) && !self.topics.inherits(creating.like) {
            return Ok(None);
        }
        let full = |why| refuse(status::SYSTEM_ERROR, why);
        self.topics.check_room().map_err(full)?;
        self.one_more_name(by)?;
        let made = match names::is_of_group(name) {
            true => self.topics.get(&self.make_group_topic(name.to_owned())),
            false => {
                let made = self.topics.create_by_send(name, creating).map_err(full)?;
                if let Some((topic, true)) = &made {
                    info!(topic = name, queues = topic.write_queue_nums, "made by a send");
                    self.registry.topic_changed(self, topic);
                }
                made.map(|(topic, _)| topic)
            }
        };
        Ok(made.map(|made| (made.perm, made.read_queue_nums, made.write_queue_nums)))
    }

    /// Counts a name that the broker keeps because a client said it.
    fn one_more_name(&self, by: &Connection) -> Result<(), Refused> {
        if by.used.names.take(NAMES_BY_ONE_MOST) {
            return Ok(());
        }
        let why = format!(
            "one connection brings in at most {NAMES_BY_ONE_MOST} new topics and groups; make them \
             by createTopic, or connect again"
        );
        Err(refuse(status::SYSTEM_ERROR, why))
    }

    /// As [`group`](Self::group), when a client says the name.
    pub(crate) fn group_named_by(&self, name: &str, by: &Connection) -> Result<Group, Refused> {
        if let Some(known) = self.groups.get(name) {
            return Ok(known);
        }
        if self.now.auto_create_groups() {
            self.one_more_name(by)?;
        }
        self.group(name)
    }

    /// What holds for a consumer group, which is taken in if need be and allowed.
    pub(crate) fn group(&self, name: &str) -> Result<Group, Refused> {
        if let Some(known) = self.groups.get(name) {
            return Ok(known);
        }
        // Its retries and dead letters have topics of its name.
        names::check_group(name).map_err(|why| refuse(status::INVALID_PARAMETER, why))?;
        let found = self.groups.get_or_create(name, self.now.auto_create_groups());
        found.map_err(|why| refuse(status::SYSTEM_ERROR, why))?.ok_or_else(|| {
            let why = format!("subscription group [{name}] does not exist");
            refuse(status::SUBSCRIPTION_GROUP_NOT_EXIST, why)
        })
    }

    /// Sees to it that there is such a topic.
    pub(crate) fn make_topic(&self, topic: TopicConfig) {
        if self.topics.shape(&topic.topic_name).is_none() && self.topics.add_missing(topic.clone())
        {
            self.registry.topic_changed(self, &topic);
        }
    }

    /// Sees to it that a queue can be consumed that something is delivered to.
    pub(crate) fn make_queue(&self, topic: &str, queue_id: i32) {
        if let Some(changed) = self.topics.widen(topic, queue_id.saturating_add(1)) {
            info!(topic, queues = changed.read_queue_nums, "made for what waited");
            self.registry.topic_changed(self, &changed);
        }
    }

    /// Sees to it that there is a topic of a group's retries or dead letters. Gives its name.
    pub(crate) fn make_group_topic(&self, name: String) -> String {
        self.make_topic(TopicConfig::new(name.clone(), 1, perm::READ_WRITE));
        name
    }

    /// Takes a topic in as somebody says it is. It is durable when this returns.
    pub(crate) fn put_topic(&self, topic: TopicConfig) -> io::Result<()> {
        self.topics.put(topic.clone()).map_err(io::Error::other)?;
        self.topics.save()?;
        self.registry.topic_changed(self, &topic);
        Ok(())
    }

    /// Whether a topic is one that each broker has.
    pub(crate) fn is_own_topic(&self, name: &str) -> bool {
        names::is_forbidden(name)
            || Topics::is_fixed(name)
            || own_topics(&self.config).iter().any(|own| own.topic_name == name)
    }

    /// When it was started.
    pub(crate) fn started(&self) -> i64 {
        self.started
    }

    /// Writes the small files that changed. What fails is told and tried again.
    fn save(&self) {
        // One after the other: two that write the same file could leave the older state in it.
        let _saving = self.saving.lock();
        let saved = [
            self.topics.save(),
            self.groups.save(),
            self.delays.save(self),
            self.timers.save(self),
        ];
        for error in saved.into_iter().filter_map(Result::err) {
            warn!(%error, "a file of the broker was not written; trying again");
        }
        if let Err(error) = keep(self) {
            warn!(%error, "retention does not go on; trying again");
        }
    }
}

/// Why a broker does not start.
#[derive(Debug)]
pub struct StartError(Box<dyn std::error::Error + Send + Sync>);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self(error.into())
    }
}

impl From<steadfast::Error> for StartError {
    fn from(error: steadfast::Error) -> Self {
        Self(error.into())
    }
}

/// A broker that is running, with its name server unless it registers at others.
///
/// Dropping it without [`stop`](Self::stop) ends it as a crash would: nothing that was acknowledged
/// is lost. The store is closed behind its back, by a thread of its own.
#[derive(Debug)]
pub struct Broker {
    pub(crate) core: Arc<Core>,
    name_server: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

impl Broker {
    /// Opens the store and begins to serve. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// What cannot be opened or listened on, and why.
    pub async fn start(config: BrokerConfig) -> Result<Self, StartError> {
        config.check().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let server = Server::bind(config.listen).await?;
        let listened = server.address();
        let address = match &config.advertised {
            None => listened,
            Some(host) => {
                let host: IpAddr = host.parse().map_err(|_| {
                    let why = format!("brokerIP1 has to be an IP address, not {host:?}");
                    io::Error::new(io::ErrorKind::InvalidInput, why)
                })?;
                SocketAddr::new(host, listened.port())
            }
        };
        let (name_server, registry) = match &config.name_servers[..] {
            [] => {
                let bound = Server::bind(config.name_server_listen).await?;
                (Some(bound), Registry::Embedded(Arc::new(Routes::default())))
            }
            servers => {
                let tasks = servers.iter().map(|_| Arc::new(Notify::new())).collect();
                (None, Registry::Remote(tasks))
            }
        };
        let data = config.data.clone();
        let options = config.store.clone();
        let open = move || Store::builder(&data).options(options).store_host(address).open();
        let store = tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??;
        // Until it is known what waits.
        store.keep_from(PhysicalOffset::ZERO)?;
        let core = Arc::new(open_core(config, store, address, registry)?);
        let learning = core.clone();
        let learn = move || {
            let now = StoreTime::from_millis(crate::now_millis());
            learning.repeats.learn(&learning.store, now);
        };
        tokio::task::spawn_blocking(learn).await.map_err(io::Error::other)?;
        let mut broker = Self { core, name_server: None, tasks: JoinSet::new() };
        broker.serve(server, name_server);
        Ok(broker)
    }

    fn serve(&mut self, server: Server, name_server: Option<Server>) {
        let core = &self.core;
        core.registry.register_embedded(core);
        match (&core.registry, name_server) {
            (Registry::Embedded(routes), Some(bound)) => {
                self.name_server = Some(bound.address());
                let handler = Arc::new(Directory::new(routes.clone()));
                self.tasks.spawn(bound.run(handler, core.stop.clone()));
                self.tasks.spawn(forget_silent(routes.clone(), core.stop.clone()));
                self.tasks.spawn(registration::keep_embedded(core.clone()));
            }
            (Registry::Remote(tasks), _) => {
                for (server, changed) in core.config.name_servers.iter().zip(tasks) {
                    self.tasks.spawn(registration::keep(
                        core.clone(),
                        server.clone(),
                        changed.clone(),
                    ));
                }
            }
            _ => {}
        }
        for (level, delay) in core.delays.levels() {
            self.tasks.spawn(delay::run(core.clone(), level, delay));
        }
        self.tasks.spawn(timer::run(core.clone()));
        self.tasks.spawn(transaction::run(core.clone()));
        self.tasks.spawn(scrub::run(core.clone()));
        self.tasks.spawn(housekeeping(core.clone()));
        let processor = Arc::new(Processor { core: core.clone() });
        self.tasks.spawn(server.run(processor, core.stop.clone()));
    }

    /// Where clients find the broker.
    pub fn address(&self) -> SocketAddr {
        self.core.address
    }

    /// Where the embedded name server is, if there is one.
    pub fn name_server(&self) -> Option<SocketAddr> {
        self.name_server
    }

    /// The store, to look into.
    pub fn store(&self) -> &Store {
        &self.core.store
    }

    /// What reading the log in the background found until now.
    pub fn scrubbed(&self) -> Scrubbed {
        self.core.scrub.found()
    }

    /// Takes no more requests, lets those that are under way end, and closes the store.
    ///
    /// # Errors
    ///
    /// Why the store could not be closed cleanly. The next start recovers.
    pub async fn stop(mut self) -> Result<(), StartError> {
        self.core.stop.stop();
        while self.tasks.join_next().await.is_some() {}
        let saving = self.core.clone();
        tokio::task::spawn_blocking(move || saving.save()).await.map_err(io::Error::other)?;
        let mut core = self.core;
        let flushing = core.clone();
        tokio::task::spawn_blocking(move || flushing.store.flush())
            .await
            .map_err(io::Error::other)??;
        // Pulls that wait hold on to it; they were told to end.
        for _ in 0..1000 {
            core = match Arc::try_unwrap(core) {
                Ok(core) => {
                    let closed = tokio::task::spawn_blocking(move || core.store.close());
                    return Ok(closed.await.map_err(io::Error::other)??);
                }
                Err(held) => held,
            };
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let why = "requests did not end; the next start recovers, nothing is lost";
        Err(io::Error::new(io::ErrorKind::TimedOut, why).into())
    }
}

fn open_core(
    config: BrokerConfig,
    store: Store,
    address: SocketAddr,
    registry: Registry,
) -> Result<Core, StartError> {
    let topics = Topics::open(&config.data, &own_topics(&config))?;
    find_topics(&topics, &store, &config.data);
    let groups = Groups::open(&config.data)?;
    let delays = Progress::open(&config, &store)?;
    let timers = Timers::open(&config.data, &store)?;
    let transactions = Transactions::open(&store);
    let repeats = Repeats::new(
        config.idempotent_send.clone(),
        config.idempotent_window,
        config.idempotent_most,
    );
    let consumers = store.consumers();
    let positions = consumers.groups().iter().map(|group| consumers.of_group(group).len()).sum();
    Ok(Core {
        now: admin::Changeable::of(&config),
        stats: Stats::default(),
        store: Kept::new(store),
        address,
        topics,
        groups,
        repeats,
        scrub: Scrub::default(),
        clients: Clients::new(config.property_filter),
        locks: Locks::default(),
        delays,
        timers,
        transactions,
        stop: Stop::new(),
        waiting: Count::default(),
        positions: Count::of(positions),
        registry,
        saving: Mutex::new(()),
        turn: AtomicU32::new(0),
        started: crate::now_millis(),
        config,
    })
}

/// The topics whose shape depends on the settings.
fn own_topics(config: &BrokerConfig) -> Vec<TopicConfig> {
    let like = perm::READ_WRITE | perm::INHERIT;
    let levels = config.delay_levels.len() as i32;
    let mut own = vec![
        TopicConfig::new(names::SCHEDULE, levels, perm::READ_WRITE),
        TopicConfig::new(names::TIMER, 1, perm::READ_WRITE),
        TopicConfig::new(config.cluster.clone(), 16, like),
        TopicConfig::new(config.name.clone(), 1, like),
    ];
    if config.auto_create_topics {
        own.push(TopicConfig::new(names::AUTO_CREATE, config.default_queues, like));
    }
    own
}

/// Topics with messages that no file tells of: they were made by a send just before a crash, or
/// the file is gone. Without them nobody could consume what was acknowledged.
fn find_topics(topics: &Topics, store: &Store, data: &Path) {
    let mut queues = std::collections::BTreeMap::new();
    for queue in store.queues() {
        let most = queues.entry(queue.topic().to_owned()).or_insert(0);
        *most = queue.queue_id().saturating_add(1).max(*most);
    }
    for (name, count) in queues {
        if !topics.is_found(&name, store) {
            continue;
        }
        let topic = TopicConfig::new(name.clone(), count, perm::READ_WRITE);
        if topics.add_missing(topic) {
            info!(topic = %name, queues = count, data = %data.display(), "found by its messages");
        }
    }
}

async fn housekeeping(core: Arc<Core>) {
    let mut tick = tokio::time::interval(SAVE);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                core.stats.tick();
                core.clients.expire(Instant::now());
                core.locks.expire(Instant::now());
                let saving = core.clone();
                let saved = tokio::task::spawn_blocking(move || saving.save()).await;
                if let Err(error) = saved {
                    warn!(%error, "files of the broker were not written");
                }
            }
            () = core.stop.stopped() => return,
        }
    }
}
