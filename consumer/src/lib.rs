//! A Kafka consumer whose positions live in PostgreSQL.
//!
//! Kafka's group distributes the partitions. Where to begin in each of them is stored in PostgreSQL, and the code that
//! processes records moves the position in the transaction that holds their effects ([`positions`]). So a crash, a
//! rebalance in the middle of a batch, or an instance that does not know yet that another one has its partitions can at
//! most waste work: it finds that the position has moved, and rolls back.
//!
//! A position may not be in the log, because retention has passed it or the log lost its end. It may also belong to a
//! topic of the same name that was deleted. Then no other position is guessed: the partition is stopped, readiness and
//! an ERROR say why, the other partitions go on, and it is checked again every few seconds. One gap is left: a topic
//! that is deleted and created again under a running consumer is noticed at the next check. Until then its records are
//! read if the new log is already longer than the old position.
//!
//! librdkafka is polled by a thread of its own, because its callbacks wait for PostgreSQL, and because it must be
//! polled at least every few minutes, however long the processing takes. Between the thread and the processing is a
//! bounded channel. While it is full, fetching is paused, but polling goes on. A consumer may have several lanes, each
//! with a channel and partitions of its own. If the processing of one lane is stuck, the others go on.

mod adopt;
mod batch;
mod context;
pub mod ledger;
mod metrics;
mod poll;
pub mod positions;
mod queues;
mod reconcile;
mod state;
mod trace;

use std::{
    fmt, mem,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use rivulet_kafka::{BATCH_BYTES, Cluster};
use rivulet_telemetry::Readiness;
use sqlx::PgPool;
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{context::Context, queues::Queues};

pub use adopt::{Adopted, adopt};
pub use batch::{Batch, Part, Raw};
pub use metrics::METRICS;

/// How a consumer is set up. [`Config::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the four topics are.
    pub cluster: Cluster,
    /// Its name in `kafka_positions` and in the labels of its metrics.
    pub name: &'static str,
    /// The Kafka group that distributes the partitions. It decides which instance works, but never where it begins.
    pub group: String,
    /// Kafka's `group.instance.id`: a restart within the session time-out moves no partitions.
    pub instance: Option<String>,
    /// A batch is handed out when it has this many records.
    pub max_batch_records: usize,
    /// A batch is handed out when its records have this many bytes.
    pub max_batch_bytes: usize,
    /// A batch is handed out when its oldest record has waited this long.
    pub linger: Duration,
    /// How many lanes process the partitions at the same time. Partitions of different topics that have the same number
    /// are in one lane. `None` is one lane that takes records in the order in which Kafka gives them.
    ///
    /// With lanes a backlog is processed roughly in the order of the records' timestamps, instead of a long stretch of
    /// one partition after the other. So what a child did at one time, in whatever topics, comes in one batch. This
    /// takes a queue for each partition, of up to some 2 MiB. The lanes that have partitions share `max_batch_records`
    /// and `max_batch_bytes`.
    pub lanes: Option<NonZeroUsize>,
    /// How long the role may go without finishing a part while there are records to process. After that it is taken to
    /// be stuck, and ends. It must be longer than any pause that the role should survive without
    /// [`Handle::still_trying`].
    pub stall: Duration,
    /// How long PostgreSQL or Kafka may be out of reach while partitions are being opened, before the
    /// role ends. Below librdkafka's `max.poll.interval.ms` (5 min unless the cluster's properties say
    /// otherwise).
    pub patience: Duration,
    /// How often lag, topics and the ends of the logs are checked.
    pub reconcile_every: Duration,
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
            lanes: None,
            stall: Duration::from_secs(120),
            patience: Duration::from_secs(60),
            reconcile_every: Duration::from_secs(15),
        }
    }
}

/// Batches of a lane that wait between the polling thread and the processing.
const CHANNEL: usize = 2;

/// How long leaving the group may take. Closing a librdkafka consumer has been seen to hang; the
/// group notices an instance that is gone without it.
const LEAVE: Duration = Duration::from_secs(10);

/// Why a consumer ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings contradict each other.
    #[error(
        "patience ({0:?}) must be below max.poll.interval.ms ({1} ms), or an instance that waits for PostgreSQL \
         is thrown out of the group"
    )]
    Patience(Duration, u64),
    /// The client could not be made, or broke for good.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// Kafka did not say what the topics are while partitions were being opened.
    #[error(transparent)]
    Topics(#[from] rivulet_kafka::Error),
    /// PostgreSQL could not be reached while partitions were being opened.
    #[error("the positions cannot be read: {0}")]
    Database(#[source] sqlx::Error),
    /// The watchdog found it stuck.
    #[error("stuck: {0}")]
    Stuck(String),
    /// The polling thread could not be started.
    #[error("no polling thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A thread or task without which it cannot work panicked.
    #[error("{0} panicked")]
    Panicked(&'static str),
}

/// A consumer of the four topics, as one of its group's instances.
pub struct Consumer {
    lanes: Vec<Lane>,
    handle: Handle,
    left: oneshot::Receiver<()>,
    watchdog: JoinHandle<()>,
    /// Ends the thread when the consumer is dropped without being joined.
    _end: DropGuard,
}

/// The batches of one lane.
pub struct Lane {
    batches: mpsc::Receiver<Batch>,
    context: Arc<Context>,
}

impl Lane {
    /// The next batch; `None` once the consumer has ended, by shutdown or by an error that
    /// [`Consumer::join`] tells. May be dropped and called again: no batch is lost.
    pub async fn next(&mut self) -> Option<Batch> {
        let batch = tokio::select! {
            biased;
            () = self.context.ended.cancelled() => None,
            batch = self.batches.recv() => batch,
        };
        // The channel has room for another batch now, and one may be waiting.
        self.context.wake();
        batch
    }
}

/// What the code that processes the batches can tell the consumer.
#[derive(Clone)]
pub struct Handle(Arc<Context>);

impl Consumer {
    /// Joins the group. Readiness has the checks `kafka` and `positions`; neither topics nor brokers need
    /// be there yet. Runs until `shutdown`, or until an error that [`Consumer::join`] tells.
    ///
    /// # Errors
    /// The settings contradict each other or are not Kafka's, or there is no thread to be had.
    pub async fn start(
        config: Config,
        pool: PgPool,
        readiness: Readiness,
        shutdown: CancellationToken,
    ) -> Result<Self, Error> {
        Self::start_with(config, pool, readiness, shutdown, watch)
    }

    fn start_with<W: Future<Output = ()> + Send + 'static>(
        config: Config,
        pool: PgPool,
        readiness: Readiness,
        shutdown: CancellationToken,
        watch: fn(Arc<Context>) -> W,
    ) -> Result<Self, Error> {
        let name = config.name;
        let topics = config.cluster.topics();
        let native = client_config(&config);
        let poll_interval = native.get("max.poll.interval.ms").map(str::parse);
        let poll_interval = poll_interval.and_then(Result::ok).unwrap_or(300_000);
        if config.patience >= Duration::from_millis(poll_interval) {
            return Err(Error::Patience(config.patience, poll_interval));
        }
        let ended = shutdown.child_token();
        let context = Context::new(
            config,
            pool,
            readiness,
            runtime::Handle::current(),
            ended.clone(),
        );
        let consumer: BaseConsumer<Context> = native.create_with_context(context)?;
        consumer.subscribe(&topics.each_ref().map(String::as_str))?;
        let context = consumer.context().clone();
        let lanes = context.config.lanes.map_or(1, NonZeroUsize::get);
        let (send, lanes): (Vec<_>, Vec<_>) = (0..lanes)
            .map(|_| {
                let (send, batches) = mpsc::channel(CHANNEL);
                let context = context.clone();
                (send, Lane { batches, context })
            })
            .unzip();
        let (gone, left) = oneshot::channel();
        thread::Builder::new()
            .name(format!("kafka-{name}"))
            .spawn(move || {
                let consumer = poll::prepare(consumer);
                // librdkafka's consumer is closed when it is dropped, and that polls. It must not happen while a panic
                // unwinds the stack.
                let run = AssertUnwindSafe(|| poll::run(&consumer, &send));
                let outcome =
                    catch_unwind(run).unwrap_or(Err(Error::Panicked("the polling thread")));
                consumer.context().end(outcome.err());
                consumer.context().commit_to_kafka(&consumer);
                // The queues hold the consumer, which must be dropped here.
                *consumer.context().queues.lock() = Queues::default();
                drop(consumer);
                let _ = gone.send(());
            })?;
        let (watched, watching) = (EndedByPanic(context.clone()), watch(context.clone()));
        let watchdog = tokio::spawn(async move {
            let _watched = watched;
            watching.await;
        });
        Ok(Self {
            lanes,
            handle: Handle(context),
            left,
            watchdog,
            _end: ended.drop_guard(),
        })
    }

    /// The next batch of the first lane, which is the only one unless there are [more](Config::lanes); as
    /// [`Lane::next`]. `None` also when the lanes were [taken](Self::take_lanes).
    pub async fn next(&mut self) -> Option<Batch> {
        self.lanes.first_mut()?.next().await
    }

    /// The lanes, each to be processed by itself. All of them must be: the consumer ends with the first that
    /// is dropped.
    pub fn take_lanes(&mut self) -> Vec<Lane> {
        mem::take(&mut self.lanes)
    }

    /// The handle for the code that processes the batches.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Leaves the group and says why the consumer ended.
    ///
    /// # Errors
    /// Why it ended, unless it was by shutdown.
    pub async fn join(self) -> Result<(), Error> {
        let Self {
            lanes,
            handle: Handle(context),
            left,
            watchdog,
            _end,
        } = self;
        context.ended.cancel();
        drop(lanes);
        // Its panic is an outcome already.
        let _ = watchdog.await;
        if tokio::time::timeout(LEAVE, left).await.is_err() {
            tracing::warn!(
                consumer = context.config.name,
                "the consumer did not leave its group in time; the group will notice that it is gone"
            );
        }
        context.outcome().map_or(Ok(()), Err)
    }
}

impl Handle {
    /// Whether the partition is still this instance's, and the part is not out of date. If this is `false`, it is
    /// useless to process the part. If it is `true`, that proves nothing: the compare-and-set decides.
    #[must_use]
    pub fn is_current(&self, part: &Part) -> bool {
        self.0.state().is_current(part.key(), part.epoch)
    }

    /// The part's effects and its position are committed.
    pub fn done(&self, part: &Part) {
        self.0.state().done(part, Instant::now());
    }

    /// The position is not where this instance thought: everything of the partition that was handed
    /// out is void, and it is read again from where PostgreSQL says.
    pub fn resync(&self, topic: &str, partition: i32) {
        let voided = self
            .0
            .key(topic, partition)
            .is_some_and(|key| self.0.state().void(key, Instant::now()));
        if voided {
            metrics::resync(self.0.config.name);
            tracing::warn!(
                consumer = self.0.config.name,
                topic,
                partition,
                "the position was moved by somebody else; it is read again"
            );
        }
    }

    /// Pauses a partition, or lets it go on. What was fetched of it is thrown away, so this is for a partition whose
    /// processing takes long while others go on. The pause ends when the partition is opened again. It is only for a
    /// consumer without [lanes](Config::lanes): with lanes, the queues wait by themselves.
    pub fn hold(&self, topic: &str, partition: i32, is_held: bool) {
        if let Some(key) = self.0.key(topic, partition) {
            self.0.state().hold(key, is_held);
        }
    }

    /// A store is out of reach and is being retried. The watchdog takes this for progress.
    pub fn still_trying(&self) {
        self.0.state().excuse(Instant::now());
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.0.config.name).finish()
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Consumer")
            .field(&self.handle.0.config.name)
            .finish()
    }
}

fn client_config(config: &Config) -> ClientConfig {
    let mut native = config.cluster.client_config();
    // This bounds the memory: at most this much is fetched ahead, in a queue and in a response on its way. It is
    // fetched in small shares of each partition in turn, so that a busy partition cannot keep the others waiting.
    let (queue_kib, share) = if config.lanes.is_some() {
        ("1024", BATCH_BYTES.to_string())
    } else {
        ("16384", "1048576".to_owned())
    };
    for (name, value) in [
        // An instance that was killed is noticed after this: its partitions are consumed again within
        // 15 s. One that only pauses for longer is fenced, which costs a rebalance and nothing else.
        ("session.timeout.ms", "8000"),
        ("heartbeat.interval.ms", "2000"),
        ("queued.max.messages.kbytes", queue_kib),
        ("fetch.max.bytes", "8388608"),
        ("max.partition.fetch.bytes", &share),
        ("fetch.queue.backoff.ms", "50"),
        // While the queues of all partitions that have records are full, librdkafka asks the broker only for partitions
        // without records. The broker holds this request for so long, and is asked for the other partitions only after
        // it has answered.
        ("fetch.wait.max.ms", "100"),
        ("check.crcs", "true"),
    ] {
        if native.get(name).is_none() {
            native.set(name, value);
        }
    }
    // Correctness needs these settings, whatever the properties say.
    native
        .set("group.id", &config.group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "false");
    if let Some(instance) = &config.instance {
        native.set("group.instance.id", instance);
    }
    native
}

/// Ends the consumer, should the watchdog panic.
struct EndedByPanic(Arc<Context>);

impl Drop for EndedByPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end(Some(Error::Panicked("the watchdog")));
        }
    }
}

/// Ends the consumer when it is stuck. It does not run in the polling thread, because that may be what hangs.
async fn watch(context: Arc<Context>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = context.ended.cancelled() => return,
            _ = tick.tick() => {}
        }
        let stuck = context.state().stuck(context.config.stall, Instant::now());
        if let Some(what) = stuck {
            tracing::error!(consumer = context.config.name, "stuck: {what}");
            context.end(Some(Error::Stuck(what)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_consumer_does_not_outlive_its_watchdog() {
        let cluster = Cluster {
            brokers: "127.0.0.1:1".to_owned(),
            topic_prefix: "test".to_owned(),
            properties: Vec::new(),
        };
        let pool = PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap();
        let mut consumer = Consumer::start_with(
            Config::new(cluster, "test", "test"),
            pool,
            Readiness::new("test", &["kafka", "positions"]),
            CancellationToken::new(),
            |_| async { panic!("a test's panic") },
        )
        .unwrap();
        let next = tokio::time::timeout(Duration::from_secs(60), consumer.next());
        assert!(next.await.unwrap().is_none());
        let error = consumer.join().await.unwrap_err();
        assert_eq!(error.to_string(), "the watchdog panicked");
    }
}
