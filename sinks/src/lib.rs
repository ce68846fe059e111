//! The sink: reads events from Kafka and inserts them into ClickHouse, always in the same blocks, whatever happens.
//!
//! Each partition's records are gathered into a *range* of offsets ([`range`]), and encoded at once ([`row`]). A range
//! is begun in PostgreSQL, inserted into ClickHouse as one block under a token made of its offsets, and finished in
//! PostgreSQL ([`delivery`]). An instance that finds a range begun forms the same range again and inserts it under the
//! same token, which ClickHouse takes only once. What `analytics` withholds is never sent to ClickHouse ([`progress`]).
//!
//! One task ([`run`]) owns the records that are not inserted yet ([`buffer`]). Inserts of different partitions run at
//! the same time; a partition has only one at a time.

mod backoff;
mod buffer;
mod delivery;
mod health;
mod metrics;
mod progress;
mod range;
mod refetch;
mod row;
mod rows;
mod sink;
mod verdict;
mod warehouse;

use std::time::Duration;

pub use health::CHECK;
pub use metrics::METRICS;
pub use sink::run;

/// The name of the sink as a consumer: of its positions, its ledger and its quarantine in PostgreSQL.
///
/// It is `history`, after what the sink writes, and the consumer group is `rivulet-history`. PostgreSQL and Kafka have
/// these names stored. To rename them, every operator would have to migrate both while the sink is stopped, and would
/// gain nothing by it.
pub const CONSUMER: &str = "history";

/// How the sink batches, waits and gives up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Kafka consumer group. For why it is not called after the sink, see [`CONSUMER`].
    pub group: String,
    /// Records after which a range is inserted; below 4 194 304.
    pub max_records: usize,
    /// Bytes after which a range is inserted.
    pub max_bytes: usize,
    /// A range younger than this waits for more records.
    pub min_age: Duration,
    /// A range older than this is inserted whatever the pace.
    pub max_age: Duration,
    /// The least time between two inserts that are not urgent. That makes four a second, whatever the number of
    /// partitions, as long as it keeps them below `max_age`.
    pub pace: Duration,
    /// Inserts at the same time, at most; twice as many where some take longer than 3 s.
    pub inserts: usize,
    /// Memory for rows that wait or are being inserted. When it is full, no more records are taken. A partition is held
    /// while its insert takes longer than 3 s and it has a quarter of this memory. Partitions that are held may have as
    /// much memory again, so that they do not keep the others from going on.
    pub max_buffered_bytes: usize,
    /// Longest time for ClickHouse to take 256 KiB of an insert.
    pub send_timeout: Duration,
    /// Longest time for ClickHouse to answer once an insert is sent. An insert that lands after the
    /// table has forgotten its token (10 000 blocks) would be stored twice, so keep it to minutes.
    pub answer_timeout: Duration,
    /// Stops where a larger share of a topic's recent records would go into quarantine; 1 for never.
    pub quarantine_share: f64,
    /// How long the identities of withheld events are remembered, in days behind what was consumed: as long as the
    /// aggregator remembers those of all events.
    pub identities_days: u32,
    /// How long inserts may take to end on shutdown; those that do not are repeated by the next owner.
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            group: "rivulet-history".to_owned(),
            max_records: 50_000,
            max_bytes: 6 << 20,
            min_age: Duration::from_millis(1_000),
            max_age: Duration::from_secs(3),
            pace: Duration::from_millis(250),
            inserts: 4,
            max_buffered_bytes: 32 << 20,
            send_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(60),
            quarantine_share: 0.1,
            identities_days: 45,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// Why the sink stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The consumer could not start, or stopped for an operator.
    #[error(transparent)]
    Consumer(#[from] rivulet_consumer::Error),
    /// A bug: an insert's task panicked. The range it had is repeated after a restart.
    #[error("an insert's task ended without a result: {0}")]
    Task(#[from] tokio::task::JoinError),
}
