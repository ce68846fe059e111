//! The aggregator: adds the events in Kafka to the rollups in PostgreSQL, exactly once.
//!
//! The core is pure: [`rollup`] turns events into what they add to the tables, and [`streak`] turns a set of days into
//! a streak. Around it are lanes, each with partitions of its own. A batch is prepared while the one before it is
//! committed, and one transaction holds its position, its dedup and its rollups. Whatever happens, position and effects
//! are both committed or both not.

mod config;
mod health;
mod metrics;
mod prepare;
pub mod recompute;
pub mod rollup;
mod run;
mod store;
pub mod streak;
pub mod text_set;
mod verdict;
mod worker;

// The integration tests' random events and recount, which name this crate.
#[cfg(test)]
extern crate self as rivulet_aggregator;
#[cfg(test)]
#[path = "../tests/aggregator/common/mod.rs"]
mod common;

pub use config::{Config, ConfigError};
pub use health::READINESS_CHECK;
pub use metrics::METRICS;
pub use rollup::Rollup;
pub use run::run;

/// The consumer's name in `kafka_positions` and `quarantine`.
pub const CONSUMER: &str = "aggregator";

/// Why the aggregator stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The consumer: Kafka, or the positions.
    #[error(transparent)]
    Consumer(#[from] rivulet_consumer::Error),
    /// A bug: preparing a batch panicked.
    #[error("preparing a batch failed: {0}")]
    Prepare(#[from] tokio::task::JoinError),
}
