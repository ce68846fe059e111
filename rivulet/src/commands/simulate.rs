//! `rivulet simulate`

use std::{
    cell::Cell,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use chrono::Utc;
use clap::Args;
use rivulet_simulator::{Config, Progress};
use tokio_util::sync::CancellationToken;

use crate::services::Endpoint;

/// How often progress is told where it cannot rewrite its line.
const LOGGED_EVERY: Duration = Duration::from_secs(30);

/// Plays a family app: children with habits, sessions, lessons, conversations and speech windows;
/// clocks that are off, offline bursts, retries, duplicates, two devices at once.
#[derive(Args)]
pub(crate) struct Simulate {
    #[command(flatten)]
    endpoint: Endpoint,
    /// A key with scope `admin`, to register the families.
    #[arg(long, env = "RIVULET_ADMIN_KEY", hide_env_values = true)]
    admin_key: String,
    /// The same seed and start give the same events (with --sdk, but for their ids).
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Children in all, in families of one to three.
    #[arg(long, default_value_t = 100)]
    children: usize,
    /// Live events a second; 0 is as fast as they are taken.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Seconds of live events; without it, until stopped.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Days to back-fill first, at most 29.
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    history: u32,
    /// Live events go through the SDK (sdk/core), which makes their ids and decides when to send again; without it they
    /// are sent as badly written clients do too, with copies, broken events and connections that are given up.
    #[arg(long)]
    sdk: bool,
    /// Where to write the ledger: every event and what it was answered.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

impl Simulate {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let config = Config {
            url: self.endpoint.url()?,
            ingest_key: self.endpoint.key()?,
            admin_key: self.admin_key,
            seed: self.seed,
            children: self.children,
            rate: self.rate,
            duration: self.duration.map(Duration::from_secs),
            history_days: self.history,
            sdk: self.sdk,
            ledger: self.ledger,
            ..Config::default()
        };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            crate::supervise::stop_signal().await;
            stop.cancel();
        });
        // A terminal gets one line rewritten, a log file a line now and then.
        let terminal = std::io::stderr().is_terminal();
        let told = Cell::new(Duration::ZERO);
        let show = |progress: &Progress| {
            if !terminal && progress.elapsed < told.get() + LOGGED_EVERY {
                return;
            }
            told.set(progress.elapsed);
            let (before, after) = if terminal {
                ("\r\x1b[2K", "")
            } else {
                ("", "\n")
            };
            let mut err = std::io::stderr().lock();
            // Nobody to tell when standard error is gone.
            let _ = write!(err, "{before}{progress}{after}").and_then(|()| err.flush());
        };
        let done = rivulet_simulator::run(&config, Utc::now(), show, &shutdown).await;
        if terminal {
            eprintln!();
        }
        println!("{}", done?);
        Ok(())
    }
}
