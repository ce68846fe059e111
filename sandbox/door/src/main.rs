//! ClickHouse's HTTP interface in front of libchdb, so that a checkout has a ClickHouse without
//! an installation. **A door for development**: it listens on the loopback interface only, takes
//! any user and password, and knows no users, quotas or external tables.
//!
//! ```text
//! clickhouse-door --listen 127.0.0.1:8123 --data DIR --library PATH/libchdb.so
//! ```
//!
//! It prints one line once it answers; `GET /ping` then says `Ok.`. SIGTERM and SIGINT end it
//! after the running queries, or ten seconds; SIGKILL does no harm to what was answered.
//!
//! Where it differs from a server: a SELECT in a format whose blocks cannot be joined (JSON, Parquet,
//! Pretty, ...) is collected in memory before it is answered; `query_id` is echoed but unknown to
//! the engine; a setting of the URL is back at its default afterwards, even in a session.

mod answer;
mod codec;
mod door;
mod exception;
mod ffi;
mod request;
mod session;
mod statement;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use crate::{door::Door, ffi::Engine};

/// How long running queries have to come to their end, once the door is told to.
const GRACE: Duration = Duration::from_secs(10);

/// ClickHouse's HTTP interface in front of libchdb, for development only.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one. Must be a loopback address.
    #[arg(long, default_value = "127.0.0.1:8123")]
    listen: SocketAddr,
    /// The directory of the data, made if absent. One process at a time can use it.
    #[arg(long)]
    data: PathBuf,
    /// The path of libchdb.so (npm package @chdb/lib-linux-x64-gnu and its kin, 26.7.3).
    #[arg(long)]
    library: PathBuf,
    /// What all queries together may use, in MiB: one that wants more fails.
    #[arg(long, default_value_t = 4096)]
    memory_limit: u64,
}

fn main() -> ExitCode {
    let result = run(&Arguments::parse());
    if let Err(error) = &result {
        let _ = writeln!(io::stderr(), "clickhouse-door: {error:#}");
    }
    if result.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(
        arguments.listen.ip().is_loopback(),
        "--listen {}: a development door, open to anyone who can reach it, so only a loopback \
         address will do",
        arguments.listen
    );
    std::fs::create_dir_all(&arguments.data)
        .with_context(|| format!("cannot make {}", arguments.data.display()))?;
    let data = arguments.data.canonicalize()?;
    let engine = Engine::start(&arguments.library, &data, arguments.memory_limit << 20)?;
    let door = Arc::new(Door::new(engine)?);

    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(serve(arguments.listen, door.clone()))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    match Arc::into_inner(door) {
        Some(door) => door.close(),
        // A query outlived the grace. Its engine cannot be closed, only left, as by a SIGKILL.
        None => ffi::leave(),
    }
    Ok(())
}

async fn serve(listen: SocketAddr, door: Arc<Door>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    writeln!(
        io::stdout(),
        "clickhouse-door: a development door to ClickHouse {} on http://{}",
        door.version,
        listener.local_addr()?
    )?;
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let server = axum::serve(listener, door.router()).with_graceful_shutdown(async move {
        told_to_stop(&mut terminate, &mut interrupt).await;
        let _ = stopping.send(());
    });
    let server = tokio::spawn(server.into_future());
    let _ = stopped.await;
    match timeout(GRACE, server).await {
        Ok(ended) => Ok(ended??),
        Err(_) => Ok(()),
    }
}

async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
