//! Structured logs on standard error.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::repeats::Repeats;

/// Libraries that quote data below INFO: ClickHouse's error texts hold values of rows. No filter
/// may ask for that.
const QUOTES_DATA: &str = "clickhouse";

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// The logger, which must live as long as the process logs. When it is dropped, it reports how many repeated lines were
/// left out and not reported yet.
#[must_use = "what is left out at the end would not be told"]
#[derive(Debug)]
pub struct Logs(Repeats);

impl Drop for Logs {
    fn drop(&mut self) {
        self.0.report();
    }
}

/// Installs the process's logger. Does nothing if one is there already.
///
/// Of warnings and errors that repeat, one a second is written. Then a line with the same message has `suppressed` in
/// place of its other fields, and says how many were left out.
///
/// `filter` is `tracing`'s directive syntax (`info`, `info,rivulet_ingest=debug`).
///
/// # Errors
/// The filter cannot be read.
pub fn logs(
    filter: &str,
    format: LogFormat,
) -> Result<Logs, tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    // Filters of everything, not of the layer: a layer's own carries what it said of one callsite over to
    // the next on that thread, and sqlx asks after each query whether to log it. Then a span, and even a
    // line at ERROR, is lost (tokio-rs/tracing#2519).
    let repeats = Repeats::default();
    // A test harness may have set a logger up; its own is as good.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(holds_no_data))
        .with(repeats.clone())
        .with(layer)
        .try_init();
    Ok(Logs(repeats))
}

fn holds_no_data(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || !metadata.target().starts_with(QUOTES_DATA)
}
