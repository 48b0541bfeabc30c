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

mod back;
mod broker;
mod clients;
mod config;
mod delay;
mod deliver;
mod files;
mod follow;
mod groups;
mod keep;
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
mod send;
mod subscription;
mod timer;
mod topics;
mod transaction;

pub use broker::{Broker, StartError};
pub use config::{BrokerConfig, ConfigError, Role};
pub use namesrv::NameServer;

/// The time of day, in milliseconds since 1970.
fn now_millis() -> i64 {
    use steadfast::Clock;
    steadfast::SystemClock::default().now().as_millis()
}
