//! Roles as tasks: one that ends unasked is a failure, a signal ends all of them in order.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use anyhow::{Context as _, bail};
use rivulet_telemetry::{Collector, Metrics, Operations, Readiness, Traces};
use rivulet_web::serve_operations;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::exposure::warn_once;

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
#[derive(Default)]
pub(crate) struct Roles {
    pub(crate) shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
    traces: Option<Traces>,
}

impl Roles {
    /// None yet, and the process's metrics, which are kept as a role is.
    pub(crate) fn new() -> anyhow::Result<(Self, Metrics)> {
        let mut roles = Self::default();
        let metrics = rivulet_telemetry::metrics(&crate::metrics::ALL)?;
        roles.spawn_until_shutdown("the upkeep of metrics", metrics.clone().upkeep());
        Ok((roles, metrics))
    }

    /// The same with tracing, where that is switched on. `service` is what the spans are of, unless the
    /// environment names it.
    pub(crate) fn traced(service: &'static str) -> anyhow::Result<(Self, Metrics)> {
        let traces = match Collector::from_env()? {
            Some(collector) => {
                tracing::info!("{collector}");
                if collector.is_exposed() {
                    warn_once(
                        "spans are sent to the collector in plain text: everybody on the network can read them, \
                         and OTEL_EXPORTER_OTLP_HEADERS; an https:// URL encrypts and verifies",
                    );
                }
                Some(collector.install(service)?)
            }
            None => None,
        };
        let (roles, metrics) = Self::new()?;
        Ok((Self { traces, ..roles }, metrics))
    }

    /// Starts a role, or part of one. It must end when `shutdown` is cancelled, and only then.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        role: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let id = self.tasks.spawn(role).id();
        self.names.insert(id, name);
    }

    /// Starts a role once `begin` is through. Stopped before that, there is nothing to drain.
    pub(crate) fn spawn_after(
        &mut self,
        name: &'static str,
        begin: impl Future<Output = anyhow::Result<()>> + Send + 'static,
        role: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let shutdown = self.shutdown.clone();
        self.spawn(name, async move {
            match shutdown.run_until_cancelled(begin).await {
                Some(begun) => begun?,
                None => return Ok(()),
            }
            role.await
        });
    }

    /// Starts what may be dropped anywhere.
    pub(crate) fn spawn_until_shutdown(
        &mut self,
        name: &'static str,
        part: impl Future<Output = Infallible> + Send + 'static,
    ) {
        self.spawn(name, until_shutdown(self.shutdown.clone(), part));
    }

    /// Runs until a signal or the first role's end, then drains the rest.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        tracing::info!("time zones: {}", rivulet_zones::in_use());
        let mut outcome = tokio::select! {
            () = stop_signal() => Ok(()),
            ended = self.tasks.join_next_with_id() => self.ended_early(ended),
        };
        tracing::info!("stopping");
        self.shutdown.cancel();
        let drain = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                let (name, ended) = named(&self.names, ended);
                let ended = ended.with_context(|| format!("{name} did not stop in order"));
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

    fn ended_early(&self, ended: Option<Ended>) -> anyhow::Result<()> {
        let Some(ended) = ended else {
            bail!("there was nothing to run");
        };
        match named(&self.names, ended) {
            (name, Ok(())) => bail!("{name} ended unasked"),
            (name, Err(error)) => {
                tracing::error!(role = name, error = crate::explain(&error), "role failed");
                Err(error.context(format!("{name} failed")))
            }
        }
    }
}

/// Ends only with the process, anywhere in `part`.
async fn until_shutdown(
    shutdown: CancellationToken,
    part: impl Future<Output = Infallible>,
) -> anyhow::Result<()> {
    match shutdown.run_until_cancelled(part).await {
        Some(never) => match never {},
        None => Ok(()),
    }
}

type Ended = Result<(Id, anyhow::Result<()>), JoinError>;

/// Whose end it is, and how it came about; a panic is one.
fn named(names: &HashMap<Id, &'static str>, ended: Ended) -> (&'static str, anyhow::Result<()>) {
    let (id, outcome) = match ended {
        Ok(ended) => ended,
        Err(panic) => (panic.id(), Err(panic.into())),
    };
    (names.get(&id).copied().unwrap_or("a role"), outcome)
}

/// Listens on an address, or says which it cannot.
pub(crate) async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("{address} cannot be listened on"))
}

/// For a role that has no other port.
pub(crate) async fn spawn_operations(
    roles: &mut Roles,
    name: &'static str,
    address: &str,
    readiness: &Readiness,
    metrics: Metrics,
) -> anyhow::Result<()> {
    let operations = Operations::alone(metrics, readiness.clone());
    spawn_listener(roles, name, address, operations).await
}

/// Serves what is to be known of the process on an address of its own.
pub(crate) async fn spawn_listener(
    roles: &mut Roles,
    name: &'static str,
    address: &str,
    operations: Operations,
) -> anyhow::Result<()> {
    let listener = bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "{name} listen");
    let serve = serve_operations(listener, operations, roles.shutdown.clone());
    roles.spawn(name, async { Ok(serve.await?) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_end_ends_the_process_and_is_named() {
        let ended_by = async |role: fn() -> anyhow::Result<()>| {
            let mut roles = Roles::default();
            let shutdown = roles.shutdown.clone();
            roles.spawn("the other", async move {
                shutdown.cancelled().await;
                Ok(())
            });
            roles.spawn("the one", async move { role() });
            roles.run().await.unwrap_err().to_string()
        };
        assert_eq!(ended_by(|| Ok(())).await, "the one ended unasked");
        assert_eq!(ended_by(|| bail!("no disk")).await, "the one failed");
        assert_eq!(
            ended_by(|| panic!("a test's panic")).await,
            "the one failed"
        );
    }
}
