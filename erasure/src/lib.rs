//! Forgetting children and families: in every store, for ever, with a certificate.
//!
//! An erasure begins with a [request]: one transaction writes the tombstones, the hashes of the ids, and marks the
//! subjects deleted. From its commit on nothing new of them is stored: ingest refuses their events, the consumers drop
//! what is in Kafka already ([`rivulet_registry::tombstones`]), nobody registers them again.
//!
//! Then the stores are cleaned ([`carry_on`]), by whichever process has the advisory lock, step by step, each of which
//! may be done again; so a crash anywhere is resumed by the next process.
//!
//! 0. Write the hashes to the [log] outside of the databases, from which one that is put back learns them again.
//! 1. Wait for every transaction that may not have seen the tombstones, and for every block of the sink that was
//!    formed without them. After that nothing can bring back what is deleted.
//! 2. ClickHouse: a mutation for all subjects at once, by their hashes, and until the old parts are off the disk.
//! 3. PostgreSQL: the rollups, the registry, what is in quarantine. Then the tables' files are written anew, since a
//!    deleted row stays readable in a file until its place is needed.
//! 4. The spills: each ingest node searches its own.
//! 5. Kafka keeps its records until their retention ends. The certificate says when that is, and whoever carries on
//!    looks then.

pub mod aged;
mod certificate;
mod clickhouse;
mod kafka;
pub mod log;
mod metrics;
mod postgres;
mod request;
mod revoked;
mod status;
mod told;
mod work;

pub use metrics::METRICS;
pub use request::{NotErased, Requested, Subject, request, request_any};
pub use status::{Status, StoreStatus, status};
pub use work::{carry_on, clean_restored, erase_withdrawn, tell_oldest, without_spill, work};

/// The stores that an erasure cleans.
#[derive(Clone)]
pub struct Stores {
    /// The registry, the rollups, the quarantine, and what is known of erasures. Its login is the operator's, or owns the
    /// tables.
    pub pool: sqlx::PgPool,
    /// The history.
    pub clickhouse: ::clickhouse::Client,
    /// The raw stream.
    pub cluster: rivulet_kafka::Cluster,
}

/// Why an erasure did not get further now. It goes on when it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL is out of reach, or refuses.
    #[error("PostgreSQL: {0}")]
    Postgres(#[from] sqlx::Error),
    /// ClickHouse is out of reach, or refuses.
    #[error("ClickHouse: {0}")]
    ClickHouse(#[from] ::clickhouse::error::Error),
    /// A mutation does not get through.
    #[error("ClickHouse cannot delete: {0}")]
    Mutation(String),
    /// Kafka is out of reach, or the topics are not there.
    #[error(transparent)]
    Cluster(#[from] rivulet_kafka::Error),
    /// Kafka is out of reach.
    #[error("Kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// Only who carries erasures on erases those again who were put back.
    #[error(
        "PostgreSQL was put back to a state from before {0} were erased; waiting until a process with the login \
         rivulet_operator has erased them again"
    )]
    PutBack(i64),
    /// The reading thread ended.
    #[error("the reading thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}
