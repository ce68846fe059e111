//! Logs, metrics, traces and the health endpoints every role serves.

mod collector;
mod declared;
mod health;
mod logs;
mod metrics;
mod openapi;
mod recorder;
mod repeats;
mod span;

pub use ::metrics::{Counter, Gauge, Histogram, Unit};
pub use collector::{Collector, InvalidCollector, Traces};
pub use declared::{Declaration, Kind, Metric};
pub use health::{Operations, Readiness};
pub use logs::{LogFormat, Logs, logs};
pub use metrics::METRICS;
pub use openapi::openapi;
pub use opentelemetry::trace::SpanKind;
pub use recorder::{InstallError, Metrics, metrics};
pub use span::{Link, Links, Span, TRACEPARENT, tracing_is_on};
