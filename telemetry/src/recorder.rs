//! The process's Prometheus recorder.

use std::{convert::Infallible, time::Duration};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

use crate::Declaration;

/// How often the process is measured and histogram buckets are drained. If they were not, a process that nobody scrapes
/// would grow.
const UPKEEP: Duration = Duration::from_secs(5);

/// Bucket bounds in seconds for every `*_seconds` histogram: 1 ms to 2 min.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];

/// Bucket bounds for every `*_events`, `*_rows` or `*_records` histogram.
const COUNTS: &[f64] = &[
    1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0, 100_000.0,
];

/// The recorder's reading end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

/// The recorder could not be installed; the process has one already.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be recorded: {0}")]
pub struct InstallError(#[from] BuildError);

impl Metrics {
    /// The exposition text, Prometheus format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Measures the process and drains histograms, for ever.
    pub async fn upkeep(self) -> Infallible {
        // CPU, memory, file descriptors and threads, under Prometheus' own names, `process_…`.
        let process = Collector::default();
        process.describe();
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tick.tick().await;
            process.collect();
            self.0.run_upkeep();
        }
    }

    /// The reading end of no recorder, for tests of one role among many.
    #[must_use]
    pub fn detached() -> Self {
        Self(PrometheusBuilder::new().build_recorder().handle())
    }
}

/// Installs the recorder, which tells what these metrics mean, each list the `METRICS` of a crate. Call it
/// once, and run its [upkeep](Metrics::upkeep).
///
/// # Errors
/// A recorder is installed already.
pub fn metrics(declared: &[&[&Declaration]]) -> Result<Metrics, InstallError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_events".into()), COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_records".into()), COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_rows".into()), COUNTS)?
        .install_recorder()?;
    metrics::with_recorder(|recorder| {
        for declaration in declared.iter().copied().flatten() {
            declaration.describe(recorder);
        }
    });
    Ok(Metrics(handle))
}
