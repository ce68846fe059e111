//! Roles as tasks: one that ends unasked is a failure, a signal ends all of them in order.

use std::time::Duration;

use anyhow::{Context as _, bail};
use rivulet_telemetry::{Collector, Traces};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::services::warn_once;

/// How long roles may take to drain before the process ends regardless. Below the 45 s that
/// docker-compose.yml grants before SIGKILL.
const DRAIN: Duration = Duration::from_secs(40);

/// Waits for SIGTERM or SIGINT; for ever where neither can be watched.
pub(crate) async fn stop_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The running roles of this process.
pub(crate) struct Roles {
    pub(crate) shutdown: CancellationToken,
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    traces: Option<Traces>,
}

impl Roles {
    pub(crate) fn new() -> Self {
        Self {
            shutdown: CancellationToken::new(),
            tasks: JoinSet::new(),
            traces: None,
        }
    }

    /// The same with tracing, where that is switched on. `service` is what the spans are of, unless the
    /// environment names it.
    pub(crate) fn traced(service: &'static str) -> anyhow::Result<Self> {
        let mut roles = Self::new();
        if let Some(collector) = Collector::from_env()? {
            tracing::info!("{collector}");
            if collector.is_exposed() {
                warn_once(
                    "the collector of spans is spoken to in plain text: everybody on the way can read them, \
                     and OTEL_EXPORTER_OTLP_HEADERS; an https:// URL encrypts and verifies",
                );
            }
            roles.traces = Some(collector.install(service)?);
        }
        Ok(roles)
    }

    /// Starts a role, or part of one. It must end when `shutdown` is cancelled, and only then.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        role: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (name, role.await) });
    }

    /// Runs until a signal or the first role's end, then drains the rest.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        tracing::info!("time zones: {}", rivulet_zones::in_use());
        let mut outcome = tokio::select! {
            () = stop_signal() => Ok(()),
            ended = self.tasks.join_next() => Self::ended_early(ended),
        };
        tracing::info!("stopping");
        self.shutdown.cancel();
        let drain = async {
            while let Some(ended) = self.tasks.join_next().await {
                let ended = match ended {
                    Ok((name, ended)) => {
                        ended.with_context(|| format!("{name} did not stop in order"))
                    }
                    Err(panic) => Err(panic.into()),
                };
                if outcome.is_ok() {
                    outcome = ended;
                }
            }
        };
        tokio::select! {
            () = drain => tracing::info!("stopped"),
            () = tokio::time::sleep(DRAIN) => bail!("a role did not stop within {DRAIN:?}; ended regardless"),
            () = stop_signal() => bail!("ended at once by a second signal"),
        }
        if let Some(traces) = self.traces {
            traces.flush().await;
        }
        outcome
    }

    fn ended_early(
        ended: Option<Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>>,
    ) -> anyhow::Result<()> {
        match ended {
            Some(Ok((name, Err(error)))) => {
                tracing::error!(role = name, error = crate::explain(&error), "role failed");
                Err(error.context(format!("{name} failed")))
            }
            Some(Ok((name, Ok(())))) => bail!("{name} ended unasked"),
            Some(Err(panic)) => Err(panic).context("a role panicked"),
            None => bail!("there was nothing to run"),
        }
    }
}
