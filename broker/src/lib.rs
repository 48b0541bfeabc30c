//! A RocketMQ broker and name server on the [`steadfast`] store: unmodified RocketMQ clients
//! produce and consume.
//!
//! ```no_run
//! use steadfast_broker::{Broker, BrokerConfig};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = BrokerConfig::default();
//! config.data = "data".into();
//! config.listen.set_port(0);
//! config.name_server_listen.set_port(0);
//! let broker = Broker::start(config).await?;
//! println!("clients connect to {:?}", broker.name_server());
//! broker.stop().await?;
//! # Ok(())
//! # }
//! ```

mod admin;
mod back;
mod broker;
mod clients;
mod config;
mod delay;
mod deliver;
mod files;
mod floor;
mod follow;
mod groups;
mod kept;
mod limits;
mod locks;
mod names;
mod namesrv;
mod net;
mod offsets;
mod processor;
mod properties;
mod protocol;
mod pull;
mod put;
mod query;
mod registration;
mod repeats;
mod scrub;
mod send;
mod sql;
mod stats;
mod subscription;
mod timer;
mod timercheck;
mod topics;
mod transaction;
pub mod wire;

pub use broker::{Broker, StartError};
pub use config::{BrokerConfig, ConfigError, Idempotent, Role};
pub use namesrv::NameServer;
pub use scrub::Scrubbed;

/// Does what may wait for the disk, without keeping other tasks from this thread.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // Others have no second thread to go on with.
        _ => work(),
    }
}

/// The time of day, in milliseconds since 1970.
fn now_millis() -> i64 {
    use steadfast::Clock;
    steadfast::SystemClock::default().now().as_millis()
}
