//! A Kafka consumer whose positions live in PostgreSQL.

mod batch;
pub mod positions;

use std::time::Duration;

use rivulet_kafka::Cluster;
use rivulet_telemetry::Readiness;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

pub use batch::{Batch, Part, Raw};

/// How a consumer is set up. [`Config::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the four topics are.
    pub cluster: Cluster,
    /// Its name in `kafka_positions` and in the labels of its metrics.
    pub name: &'static str,
    /// The Kafka group that shares the partitions out. It decides who works, never where.
    pub group: String,
    /// Kafka's `group.instance.id`: a restart within the session time-out moves no partitions.
    pub instance: Option<String>,
    /// A batch is handed out when it has this many records,
    pub max_batch_records: usize,
    /// or this many bytes of records,
    pub max_batch_bytes: usize,
    /// or when its oldest record has waited this long.
    pub linger: Duration,
    /// How long the role may go without finishing a part while there are records to process, before
    /// it is taken for stuck and ended. Longer than any pause it is meant to live through without
    /// [`Handle::still_trying`].
    pub stall: Duration,
    /// How long PostgreSQL or Kafka may be out of reach while partitions are being opened, before the
    /// role ends. Below Kafka's `max.poll.interval.ms` (5 min).
    pub patience: Duration,
    /// How often lag, topics and ends of logs are looked at.
    pub audit: Duration,
}

impl Config {
    /// The defaults: batches of 20 000 records, 8 MiB or 100 ms.
    #[must_use]
    pub fn new(cluster: Cluster, name: &'static str, group: impl Into<String>) -> Self {
        Self {
            cluster,
            name,
            group: group.into(),
            instance: None,
            max_batch_records: 20_000,
            max_batch_bytes: 8 << 20,
            linger: Duration::from_millis(100),
            stall: Duration::from_secs(120),
            patience: Duration::from_secs(60),
            audit: Duration::from_secs(15),
        }
    }
}

/// Why a consumer ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client could not be made, or broke for good.
    #[error("Kafka: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
}

/// A consumer of the four topics, as one of its group's instances.
#[derive(Debug)]
pub struct Consumer {}

/// To the consumer, from whoever processes its batches.
#[derive(Clone, Debug)]
pub struct Handle {}

impl Consumer {
    /// Joins the group. Readiness has the checks `kafka` and `positions`.
    ///
    /// # Errors
    /// The settings are not Kafka's.
    pub async fn start(
        config: Config,
        pool: PgPool,
        readiness: Readiness,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        let _ = (config, pool, readiness, shutdown);
        unimplemented!()
    }

    /// The next batch; `None` once the consumer has ended, by shutdown or by an error that
    /// [`Consumer::join`] tells. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Batch> {
        unimplemented!()
    }

    /// For whoever processes the batches.
    #[must_use]
    pub fn handle(&self) -> Handle {
        unimplemented!()
    }

    /// Leaves the group and says why the consumer ended.
    ///
    /// # Errors
    /// Why it ended, unless it was by shutdown.
    pub async fn join(self) -> Result<(), Error> {
        unimplemented!()
    }
}

impl Handle {
    /// Whether the partition is still this instance's, and this part not overtaken. `false` says that
    /// processing it is a waste; `true` proves nothing: the compare-and-set decides.
    #[must_use]
    pub fn is_current(&self, _part: &Part) -> bool {
        unimplemented!()
    }

    /// The part's effects and its position are committed.
    pub fn done(&self, _part: &Part) {
        unimplemented!()
    }

    /// The position is not where this instance thought: everything of the partition that was handed
    /// out is void, and it is read again from where PostgreSQL says.
    pub fn resync(&self, _topic: &str, _partition: i32) {
        unimplemented!()
    }

    /// A store is out of reach and being retried: the watchdog counts this as progress.
    pub fn still_trying(&self) {
        unimplemented!()
    }
}
