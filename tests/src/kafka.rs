//! Reading Kafka back: the judge of which copy of an event came first.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, NaiveDate};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{Header, Headers as _, OwnedMessage},
};
use rivulet_kafka::Cluster;
use rivulet_simulator::recount::{Identity, identity};
use serde_json::{Value, json};

const READ_WITHIN: Duration = Duration::from_secs(60);
const REQUEST: Duration = Duration::from_secs(10);

/// Of an event's copies in Kafka the first. Times are Unix milliseconds.
#[derive(Clone, Debug)]
pub struct Copy {
    /// When the server had it.
    pub received_at: i64,
    /// The event's time.
    pub event_time: i64,
    /// The child's day.
    pub local_date: NaiveDate,
    /// Copies in all.
    pub copies: u32,
}

fn consumer(cluster: &Cluster) -> Result<BaseConsumer> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", &cluster.brokers)
        .set("group.id", format!("{}-reader", cluster.topic_prefix))
        .set("enable.auto.commit", "false")
        .create()?;
    Ok(consumer)
}

/// The offset after the last record, by topic and partition.
pub(crate) async fn ends(cluster: &Cluster) -> Result<BTreeMap<(String, i32), i64>> {
    let cluster = cluster.clone();
    tokio::task::spawn_blocking(move || ends_blocking(&cluster, &consumer(&cluster)?)).await?
}

fn ends_blocking(
    cluster: &Cluster,
    consumer: &BaseConsumer,
) -> Result<BTreeMap<(String, i32), i64>> {
    let mut ends = BTreeMap::new();
    for topic in cluster.topics() {
        let metadata = consumer.fetch_metadata(Some(&topic), REQUEST)?;
        let partitions = metadata
            .topics()
            .first()
            .context("no such topic")?
            .partitions();
        for partition in partitions {
            let (_, end) = consumer.fetch_watermarks(&topic, partition.id(), REQUEST)?;
            ends.insert((topic.clone(), partition.id()), end);
        }
    }
    Ok(ends)
}

/// Every record's bytes, key and value, in the order of its partition.
///
/// # Errors
/// Kafka does not deliver them.
pub async fn raw_records(cluster: &Cluster) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let bytes = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
    let raw = |record: OwnedMessage| (bytes(record.key()), bytes(record.payload()));
    Ok(records(cluster).await?.into_iter().map(raw).collect())
}

/// Every record's headers, name and value, in the order of its partition.
///
/// # Errors
/// Kafka does not deliver them.
pub async fn headers(cluster: &Cluster) -> Result<Vec<Vec<(String, String)>>> {
    let text = |header: Header<'_, &[u8]>| {
        let value = String::from_utf8_lossy(header.value.unwrap_or_default());
        (header.key.to_owned(), value.into_owned())
    };
    let headers = |record: OwnedMessage| match record.headers() {
        Some(headers) => headers.iter().map(text).collect(),
        None => Vec::new(),
    };
    Ok(records(cluster).await?.into_iter().map(headers).collect())
}

async fn records(cluster: &Cluster) -> Result<Vec<OwnedMessage>> {
    let cluster = cluster.clone();
    tokio::task::spawn_blocking(move || read(&cluster)).await?
}

fn read(cluster: &Cluster) -> Result<Vec<OwnedMessage>> {
    let consumer = consumer(cluster)?;
    let mut left = ends_blocking(cluster, &consumer)?;
    left.retain(|_, end| *end > 0);
    let mut assignment = TopicPartitionList::new();
    for (topic, partition) in left.keys() {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut records = Vec::new();
    let began = Instant::now();
    while !left.is_empty() {
        if began.elapsed() > READ_WITHIN {
            bail!("Kafka does not deliver what it has: {left:?}");
        }
        let Some(record) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        let record = record?;
        let at = (record.topic().to_owned(), record.partition());
        if left.get(&at).is_some_and(|end| record.offset() + 1 >= *end) {
            left.remove(&at);
        }
        records.push(record.detach());
    }
    Ok(records)
}

/// The first copy of every event in Kafka.
///
/// # Errors
/// Kafka does not deliver, or delivers what is no record or has the wrong key.
pub async fn first_copies(cluster: &Cluster) -> Result<BTreeMap<Identity, Copy>> {
    let mut copies: BTreeMap<Identity, Copy> = BTreeMap::new();
    for (key, value) in raw_records(cluster).await? {
        let record: Value = serde_json::from_slice(&value)?;
        // A child's copies must share a partition, or their order would mean nothing.
        anyhow::ensure!(
            record["child_id"].as_str().map(str::as_bytes) == Some(&key),
            "key {key:?}"
        );
        let millis = |name: &str| record[name].as_i64().context("no time");
        let occurred_at = DateTime::from_timestamp_millis(millis("occurred_at")?);
        let event = json!({
            "type": record["type"], "child_id": record["child_id"], "id": record["id"],
            "occurred_at": occurred_at.context("no time")?.to_rfc3339(),
        });
        let first = Copy {
            received_at: millis("received_at")?,
            event_time: millis("event_time")?,
            local_date: serde_json::from_value(record["local_date"].clone())?,
            copies: 0,
        };
        copies.entry(identity(&event)).or_insert(first).copies += 1;
    }
    Ok(copies)
}
