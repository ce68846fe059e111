//! Roles as tasks: one that ends unasked is a failure, a signal ends all of them in order.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

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
}

impl Roles {
    pub(crate) fn new() -> Self {
        Self {
            shutdown: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
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
