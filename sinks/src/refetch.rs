//! Reading single records from Kafka a second time.

use std::time::{Duration, Instant};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use rivulet_kafka::Cluster;

/// How long one record may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    #[error("Kafka did not deliver it in time")]
    Late,
    #[error("the reading thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// The records at these offsets (ascending), each with its offset. A record that Kafka no longer has is empty.
pub(crate) async fn records(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    offsets: Vec<i64>,
) -> Result<Vec<(i64, Vec<u8>)>, Error> {
    let mut config = cluster.client_config();
    // No group is joined: the partition is assigned by hand and nothing is committed.
    config
        .set("group.id", "rivulet-history-refetch")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create()?;
        offsets
            .into_iter()
            .map(|at| Ok((at, read(&consumer, &topic, partition, at)?)))
            .collect()
    })
    .await?
}

fn read(
    consumer: &BaseConsumer,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Vec<u8>, Error> {
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    consumer.assign(&assignment)?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(message) = consumer.poll(Duration::from_millis(200)) {
            let message = message?;
            let found = message.offset() == offset;
            return Ok(message
                .payload()
                .filter(|_| found)
                .unwrap_or_default()
                .to_vec());
        }
    }
    Err(Error::Late)
}
