//! Logs, metrics, traces and the health endpoints every role serves.

mod collector;
mod health;
mod logs;
mod metrics;
mod openapi;
mod repeats;
mod span;

pub use collector::{Collector, InvalidCollector, Traces};
pub use health::{Operations, Readiness};
pub use logs::{LogFormat, Logs, logs};
pub use metrics::{InstallError, Metrics, metrics};
pub use openapi::openapi;
pub use opentelemetry::trace::SpanKind;
pub use span::{Link, Links, Span, TRACEPARENT, tracing_is_on};
