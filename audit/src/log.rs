//! Reads ranges of the log, those of all partitions at the same time.

use std::time::{Duration, Instant};

use ahash::AHashMap;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    config::FromClientConfigAndContext as _,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
};
use rivulet_events::{ChildId, EventType, Identity, Record};
use rivulet_kafka::{Cluster, Context, REQUEST_TIMEOUT, incarnations};
use rivulet_registry::revocations::Taken;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use uuid::Uuid;

use crate::{Error, stores::ConsumerPartition};

/// If nothing comes for this long while there is more to read, the broker does not answer.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// Records handed over at a time.
const CHUNK: usize = 10_000;

/// Consecutive records of a partition.
#[derive(Clone, Debug)]
pub(crate) struct OffsetRange {
    pub(crate) topic: String,
    pub(crate) event_type: EventType,
    pub(crate) partition: i32,
    pub(crate) incarnation: String,
    /// The oldest record that Kafka still has.
    pub(crate) low: i64,
    /// The first offset of the range, and the first after it.
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// What is compared of a record that can be read.
#[derive(Clone, Copy)]
pub(crate) struct LoggedEvent {
    pub(crate) id: Uuid,
    pub(crate) child: ChildId,
    pub(crate) identity: Identity,
    pub(crate) analytics: bool,
    pub(crate) taken: Taken,
}

impl LoggedEvent {
    pub(crate) fn read(kind: EventType, payload: &[u8]) -> Option<Self> {
        let record = Record::read(kind, payload).ok()?;
        Some(Self {
            id: record.id,
            child: record.child_id,
            identity: record.identity(),
            analytics: record.analytics,
            taken: Taken::from(&record),
        })
    }
}

/// Some records of a range, as `look` made them.
pub(crate) struct Chunk<T> {
    pub(crate) range: usize,
    pub(crate) records: Vec<T>,
}

impl OffsetRange {
    /// As a consumer calls it.
    pub(crate) fn of_consumer(&self, consumer: &str) -> ConsumerPartition {
        (consumer.to_owned(), self.topic.clone(), self.partition)
    }
}

/// A stretch of the log, opened by a reader that is in no group and commits nothing.
pub(crate) struct Stretch {
    reader: BaseConsumer<Context>,
    /// One of each partition of all topics.
    pub(crate) ranges: Vec<OffsetRange>,
}

impl Stretch {
    /// What lies between two timestamps (Unix milliseconds, the second excluded).
    pub(crate) async fn open(cluster: &Cluster, since: i64, until: i64) -> Result<Self, Error> {
        let cluster = cluster.clone();
        let open = move || {
            let mut config = cluster.client_config();
            config
                .set("group.id", "rivulet-audit")
                .set("enable.auto.commit", "false")
                .set("auto.offset.reset", "earliest")
                .set("enable.partition.eof", "true")
                .set("queued.max.messages.kbytes", "16384");
            let reader = BaseConsumer::from_config_and_context(&config, Context)?;
            let ranges = ranges(&reader, &cluster, since, until)?;
            Ok(Self { reader, ranges })
        };
        spawn_blocking(open).await?
    }

    /// Hands over what `look` makes of each record, in the order of the offsets of a range, and how that ended;
    /// it ends early when nobody listens any more.
    pub(crate) fn read<T: Send + 'static>(
        self,
        look: impl FnMut(&OffsetRange, &BorrowedMessage<'_>) -> Option<T> + Send + 'static,
    ) -> (mpsc::Receiver<Chunk<T>>, JoinHandle<Result<(), Error>>) {
        let (sender, chunks) = mpsc::channel(4);
        let reading = spawn_blocking(move || read(&self.reader, &self.ranges, &sender, look));
        (chunks, reading)
    }
}

fn ranges(
    reader: &BaseConsumer<Context>,
    cluster: &Cluster,
    since: i64,
    until: i64,
) -> Result<Vec<OffsetRange>, Error> {
    let types = EventType::ALL;
    let topics: Vec<_> = types.iter().map(|kind| cluster.topic(*kind)).collect();
    let incarnations = incarnations(reader.client(), &topics, REQUEST_TIMEOUT)?;
    let mut ranges = Vec::new();
    for (event_type, topic) in types.iter().zip(topics) {
        let Some(incarnation) = incarnations.get(&topic) else {
            continue;
        };
        let metadata = reader.fetch_metadata(Some(&topic), REQUEST_TIMEOUT)?;
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        for partition in partitions.map(|partition| partition.id()) {
            let (low, high) = reader.fetch_watermarks(&topic, partition, REQUEST_TIMEOUT)?;
            ranges.push(OffsetRange {
                topic: topic.clone(),
                event_type: *event_type,
                partition,
                incarnation: incarnation.clone(),
                low,
                from: low,
                to: high,
            });
        }
    }
    // If no record is younger than the time, the end of the log is the answer.
    for (time, is_start) in [(since, true), (until, false)] {
        let mut asked = TopicPartitionList::new();
        for range in &ranges {
            asked.add_partition_offset(
                &range.topic,
                range.partition,
                Offset::Offset(time.max(0)),
            )?;
        }
        let answered = reader.offsets_for_times(asked, REQUEST_TIMEOUT)?;
        for range in &mut ranges {
            let found = answered.find_partition(&range.topic, range.partition);
            let offset = match found.map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset.clamp(range.low, range.to),
                _ => range.to,
            };
            *(if is_start {
                &mut range.from
            } else {
                &mut range.to
            }) = offset;
        }
    }
    ranges.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(ranges)
}

fn read<T>(
    reader: &BaseConsumer<Context>,
    ranges: &[OffsetRange],
    chunks: &mpsc::Sender<Chunk<T>>,
    mut look: impl FnMut(&OffsetRange, &BorrowedMessage<'_>) -> Option<T>,
) -> Result<(), Error> {
    let mut assignment = TopicPartitionList::new();
    let mut open: AHashMap<(&str, i32), usize> = AHashMap::new();
    for (index, range) in ranges.iter().enumerate() {
        if range.from < range.to {
            assignment.add_partition_offset(
                &range.topic,
                range.partition,
                Offset::Offset(range.from),
            )?;
            open.insert((&range.topic, range.partition), index);
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    reader.assign(&assignment)?;
    let mut gathered: Vec<Vec<T>> = ranges.iter().map(|_| Vec::new()).collect();
    let mut heard = Instant::now();
    while !open.is_empty() {
        match reader.poll(POLL) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let key = (message.topic(), message.partition());
                let Some(&index) = open.get(&key) else {
                    continue;
                };
                let range = &ranges[index];
                if message.offset() < range.to {
                    let records = &mut gathered[index];
                    records.extend(look(range, &message));
                    if records.len() >= CHUNK && !send(chunks, index, records) {
                        return Ok(());
                    }
                }
                if message.offset() + 1 >= range.to {
                    // A log may end in offsets without a record, so the positions are checked below.
                    open.remove(&(range.topic.as_str(), range.partition));
                    let mut done = TopicPartitionList::new();
                    done.add_partition(&range.topic, range.partition);
                    reader.pause(&done)?;
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {
                let positions = reader.position()?;
                let before = open.len();
                open.retain(|(topic, partition), index| {
                    let position = positions.find_partition(topic, *partition);
                    !matches!(position.map(|found| found.offset()),
                        Some(Offset::Offset(at)) if at >= ranges[*index].to)
                });
                if open.len() < before {
                    heard = Instant::now();
                }
                if heard.elapsed() > PATIENCE {
                    return Err(Error::Stalled(PATIENCE));
                }
            }
            // librdkafka retries by itself. If that does not help, nothing more comes, and this ends after
            // [`PATIENCE`].
            Some(Err(error)) if heard.elapsed() > PATIENCE => return Err(error.into()),
            Some(Err(_)) => {}
        }
    }
    for (index, mut records) in gathered.into_iter().enumerate() {
        if !records.is_empty() && !send(chunks, index, &mut records) {
            break;
        }
    }
    Ok(())
}

fn send<T>(chunks: &mpsc::Sender<Chunk<T>>, range: usize, records: &mut Vec<T>) -> bool {
    let records = std::mem::take(records);
    chunks.blocking_send(Chunk { range, records }).is_ok()
}
