//! The table `quarantine`: records that a consumer could not process.
//!
//! Consumers put them there in the transaction that moves their position, so that no record stops a
//! partition and none is skipped in silence. This crate is what comes after: an operator looks at them
//! ([`list`], [`count`], [`show`]), gives them to their topic again ([`replay`]) or drops them
//! ([`discard`]); what nobody looked after goes in time ([`expire`]), and whatever leaves the table is told in `quarantine_actions`. A consumer that would set
//! aside too large a share of a topic stops instead, and waits for that operator ([`Breaker`]).

mod actions;
mod breaker;
mod entries;
mod metrics;
mod pauses;
mod replay;
mod selection;

pub use actions::{Outcome, discard, expire, keep_expiring};
pub use breaker::{Breaker, READINESS_CHECK, Share};
pub use entries::{Count, Details, Entry, count, list, show};
pub use metrics::METRICS;
pub use pauses::{Pause, resume};
pub use replay::{Replay, replay};
pub use selection::Selection;

/// Why a command on the quarantine ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL failed. What was done before stays done and is logged.
    #[error("PostgreSQL: {0}")]
    Database(#[from] sqlx::Error),
    /// A record was not acknowledged: it stays in quarantine.
    #[error("Kafka did not take a record, which stays in quarantine: {0}")]
    Produce(rdkafka::error::KafkaError),
    /// Kafka cannot be asked for its topics, or one of them is gone.
    #[error(transparent)]
    Kafka(#[from] rivulet_kafka::Error),
    /// The records' topic is not one of the cluster's four.
    #[error(
        "{0} is none of this cluster's topics: is RIVULET_TOPIC_PREFIX as it was for the consumers?"
    )]
    ForeignTopic(String),
    /// A bug: a helper thread panicked.
    #[error("asking Kafka failed: {0}")]
    Thread(#[from] tokio::task::JoinError),
    /// [`show`] was asked for one record and found others, too.
    #[error("more than one record matches: name its --topic, --partition and --offset")]
    Ambiguous,
}
