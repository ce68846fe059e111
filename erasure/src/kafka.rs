//! The raw stream, which forgets by age.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use rivulet_kafka::{Cluster, Context, REQUEST_TIMEOUT};
use tokio::task::spawn_blocking;

use crate::Error;

/// Kafka looks for what is too old every five minutes, and deletes a file a minute after that.
const SLACK: Duration = Duration::from_secs(6 * 60);

/// When the last record that was written before `told` is gone; `None` if the topics keep records without end.
///
/// A record goes with its segment, which may be written to for as long as `segment.ms`; `rivulet topics` makes that a
/// seventh of the retention, as is reckoned here with whatever the topics' setting is.
pub(crate) async fn gone_by(
    cluster: &Cluster,
    told: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Error> {
    let longest = rivulet_kafka::longest_kept(cluster).await?;
    Ok(longest.map(|kept| told + kept + SLACK))
}

/// Whether no topic has a record any more that was written before `told`.
pub(crate) async fn is_clean(cluster: &Cluster, told: DateTime<Utc>) -> Result<bool, Error> {
    let cluster = cluster.clone();
    spawn_blocking(move || {
        let mut config = cluster.client_config();
        config.set("group.id", "rivulet-erasure");
        let reader: BaseConsumer<Context> = config.create_with_context(Context)?;
        for topic in cluster.topics() {
            let metadata = reader.fetch_metadata(Some(&topic), REQUEST_TIMEOUT)?;
            let partitions = metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions());
            let mut asked = TopicPartitionList::new();
            for partition in partitions {
                let told = Offset::Offset(told.timestamp_millis());
                asked.add_partition_offset(&topic, partition.id(), told)?;
            }
            let first_after = reader.offsets_for_times(asked, REQUEST_TIMEOUT)?;
            for partition in first_after.elements() {
                let (low, high) =
                    reader.fetch_watermarks(&topic, partition.partition(), REQUEST_TIMEOUT)?;
                let first_after = match partition.offset() {
                    Offset::Offset(offset) => offset,
                    _ => high,
                };
                if low < first_after {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    })
    .await?
}
