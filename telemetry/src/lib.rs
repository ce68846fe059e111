//! Logs, metrics and the health endpoints every role serves.

mod health;
mod logs;
mod metrics;

pub use health::{Readiness, operations, serve_operations};
pub use logs::{LogFormat, logs};
pub use metrics::{InstallError, Metrics, metrics};
