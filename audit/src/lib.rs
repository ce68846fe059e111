//! Compares what the consumers stored with the log in Kafka, record by record.
//!
//! It asks two questions of each consumer. Neither answer rests on what the consumer reports of itself:
//!
//! - **Bookkeeping.** Does the log have as many records of a partition and hour as `consumer_ledger` says that the
//!   consumer counted, took for copies or set aside? A batch that was skipped or applied twice shows here.
//! - **Existence.** Is each record that the consumer passed where it should be? That is its identity in `event_seen`, its
//!   row in ClickHouse or its identity among the withheld, or the record in `quarantine`. What was removed or never
//!   arrived shows here.

mod both;
mod log;
mod metrics;
mod rebuild;
mod stores;
mod trace;
mod verify;

use rivulet_kafka::Cluster;
use sqlx::PgPool;

pub use metrics::METRICS;
pub use rebuild::{Children, NotRecounted, Rebuilt, rebuild};
pub use trace::{Copy, RecordStatus, Trace, trace};
pub use verify::{Account, Finding, Report, Row, Side, verify};

/// The three stores that are compared.
#[derive(Clone)]
pub struct Stores {
    /// Where the log is.
    pub cluster: Cluster,
    /// The rollups, and the positions and ledger of both consumers.
    pub pool: PgPool,
    /// Where the history is.
    pub clickhouse: clickhouse::Client,
}

/// Why nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Kafka is out of reach, or refuses.
    #[error("Kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// Kafka is out of reach, or the topics are not there.
    #[error(transparent)]
    Cluster(#[from] rivulet_kafka::Error),
    /// Kafka stopped sending in the middle of the log.
    #[error("Kafka sent nothing for {0:?}, though there is more to read")]
    Stalled(std::time::Duration),
    /// PostgreSQL is out of reach, or `rivulet migrate` has not been run.
    #[error("PostgreSQL: {0}")]
    Postgres(#[from] sqlx::Error),
    /// ClickHouse is out of reach, or `rivulet migrate` has not been run.
    #[error("ClickHouse: {0}")]
    ClickHouse(#[from] clickhouse::error::Error),
    /// ClickHouse stopped sending.
    #[error("ClickHouse: {0}")]
    Reading(#[from] std::io::Error),
    /// ClickHouse's answer is not the rows that were asked for.
    #[error("what ClickHouse answers cannot be read: {0}")]
    Row(String),
    /// Until the sink is at least where the aggregator is, the history is no measure.
    #[error(
        "the sink has not come to where the aggregator is within {0:?}: is it running? `rivulet verify` \
         tells how far it is"
    )]
    SinkBehind(std::time::Duration),
    /// The reading thread ended.
    #[error("the reading thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// The aggregator's name in `kafka_positions` and `consumer_ledger`: the consumer that makes the rollups.
pub const ROLLUPS: &str = rivulet_aggregator::CONSUMER;
/// The sink's name there: the consumer that makes the history, which is what ClickHouse has.
pub const HISTORY: &str = rivulet_sinks::CONSUMER;
