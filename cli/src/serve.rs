//! `steadfast serve`: a broker and a name server.

use std::{io::Write, net::SocketAddr, path::PathBuf};

use clap::ValueEnum;
use steadfast_broker::{Broker, BrokerConfig, NameServer};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::exit::{Failure, Outcome};

/// Serves RocketMQ clients: a broker, and a name server that tells where it is
///
/// When both accept connections it prints `ready broker=IP:PORT namesrv=IP:PORT data=DIR` on stdout.
/// SIGTERM and ctrl-c stop it cleanly. What happens is told on stderr; the variable RUST_LOG says
/// how much of it, such as `debug`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// RocketMQ's broker.conf, as it is
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory of the store [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the broker listens [default: 127.0.0.1:10911]; port 0 is any that is free
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Where the name server listens [default: 127.0.0.1:9876]
    #[arg(long, value_name = "IP:PORT")]
    namesrv_listen: Option<SocketAddr>,
    /// Register at this name server and start none; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    namesrv: Vec<String>,
    /// Start only one of the two
    #[arg(long)]
    only: Option<Only>,
    /// Sets a key of broker.conf, such as flushDiskType=SYNC_FLUSH; may be given several times
    #[arg(short = 'o', value_name = "KEY=VALUE", value_parser = pair)]
    options: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Only {
    Broker,
    Namesrv,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

pub(crate) fn run(args: &Args) -> Result<Outcome, Failure> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter.from_env_lossy())
        .init();
    let config = config(args)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match args.only {
            Some(Only::Namesrv) => serve_names(config.name_server_listen).await,
            _ => serve(config).await,
        }
    })
}

fn config(args: &Args) -> Result<BrokerConfig, Failure> {
    let mut config = BrokerConfig::default();
    let usage = |error: steadfast_broker::ConfigError| Failure::Usage(error.to_string());
    if let Some(file) = &args.config {
        let unknown = config.read_file(file).map_err(usage)?;
        if !unknown.is_empty() {
            let keys = unknown.join(", ");
            tracing::warn!(file = %file.display(), "keys that mean nothing here: {keys}");
        }
    }
    for (key, value) in &args.options {
        if !config.set(key, value).map_err(usage)? {
            return Err(Failure::Usage(format!("-o: there is no key {key:?} of broker.conf here")));
        }
    }
    if let Some(data) = &args.data {
        config.data.clone_from(data);
    }
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(listen) = args.namesrv_listen {
        config.name_server_listen = listen;
    }
    if !args.namesrv.is_empty() {
        config.name_servers.clone_from(&args.namesrv);
    }
    if args.only == Some(Only::Broker) && config.name_servers.is_empty() {
        let why = "--only broker: say where to register with --namesrv HOST:PORT";
        return Err(Failure::Usage(why.into()));
    }
    config.check().map_err(usage)?;
    Ok(config)
}

async fn serve(config: BrokerConfig) -> Result<Outcome, Failure> {
    let data = config.data.display().to_string();
    let servers = config.name_servers.join(";");
    let broker = Broker::start(config).await.map_err(|e| Failure::Blocked(e.to_string()))?;
    let recovery = broker.store().recovery();
    if !recovery.findings.is_empty() {
        tracing::warn!("{recovery}");
    }
    let names = broker.name_server().map_or(servers, |address| address.to_string());
    ready(&format!("ready broker={} namesrv={names} data={data}", broker.address()))?;
    stopped().await?;
    broker.stop().await.map_err(|e| Failure::Refused(e.to_string()))?;
    Ok(Outcome::Done)
}

async fn serve_names(listen: SocketAddr) -> Result<Outcome, Failure> {
    let server = NameServer::start(listen).await.map_err(|e| Failure::Blocked(e.to_string()))?;
    ready(&format!("ready namesrv={}", server.address()))?;
    stopped().await?;
    server.stop().await;
    Ok(Outcome::Done)
}

fn ready(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Returns when we are asked to stop.
async fn stopped() -> Result<(), Failure> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
