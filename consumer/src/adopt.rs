//! Lets stopped partitions go on: an operator decides to take the log as it is now.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rivulet_auditlog::{Action, Entry, record};
use rivulet_kafka::{Cluster, Context, REQUEST_TIMEOUT, incarnations};
use sqlx::PgPool;

use crate::Error;

/// A position that its log does not have, and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The consumer, as in `kafka_positions`.
    pub consumer: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Why it was stopped, and what going on means.
    pub reason: String,
    /// The first offset that was not processed yet.
    pub before: i64,
    /// The offset that is next now: that of the oldest record in the log.
    pub now: i64,
}

/// Finds the positions, of every consumer, that are of a topic that was deleted and made again or that
/// lie outside of the log; with `write`, sets each to the oldest record that there is. What was
/// processed before is recognised by its identity, so reading too much is harmless.
///
/// Consumers that are running go on within seconds; one that is about to move such a position is
/// fenced. `topics` is which to look at; those that do not exist are left alone.
///
/// # Errors
/// Kafka or PostgreSQL is out of reach.
pub async fn adopt(
    cluster: &Cluster,
    pool: &PgPool,
    topics: &[String],
    write: bool,
) -> Result<Vec<Adopted>, Error> {
    type Position = (String, String, i32, String, i64, Option<i64>);
    let positions: Vec<Position> = sqlx::query_as(
        "SELECT consumer, topic, partition, topic_incarnation, next_offset, pending_end
         FROM kafka_positions WHERE topic = ANY ($1) ORDER BY topic, partition, consumer",
    )
    .bind(topics)
    .fetch_all(pool)
    .await
    .map_err(Error::Database)?;
    let partitions: Vec<_> = positions
        .iter()
        .map(|(_, topic, partition, ..)| (topic.clone(), *partition))
        .collect();
    let logs = logs(cluster, topics, partitions).await?;
    let mut adopted = Vec::new();
    for ((consumer, topic, partition, incarnation, next, pending), log) in
        positions.into_iter().zip(logs)
    {
        let Some((current, low, high)) = log else {
            continue;
        };
        let end = pending.unwrap_or(next);
        let reason = if incarnation != current {
            "the topic was deleted and made again: all of the new one is read".to_owned()
        } else if next < low {
            format!(
                "{} records were gone before they were processed",
                low - next
            )
        } else if end > high {
            format!(
                "the log lost its end, from {high} on: all that it has is read again, and what was \
                 processed before is recognised"
            )
        } else {
            continue;
        };
        if write {
            let mut transaction = pool.begin().await.map_err(Error::Database)?;
            let moved: i64 = sqlx::query_scalar(
                // The entries in the ledger are deleted, because what is read again would be in it twice.
                "WITH moved AS (
                     UPDATE kafka_positions SET topic_incarnation = $4, next_offset = $5,
                         pending_end = NULL, ledger_from = $5, ledger_to = $5, updated_at = now()
                     WHERE consumer = $1 AND topic = $2 AND partition = $3
                       AND topic_incarnation = $6 AND next_offset = $7
                     RETURNING consumer, topic, partition, topic_incarnation),
                 gone AS (
                     DELETE FROM consumer_ledger USING moved
                     WHERE consumer_ledger.consumer = moved.consumer
                       AND consumer_ledger.topic = moved.topic
                       AND consumer_ledger.partition = moved.partition
                       AND consumer_ledger.topic_incarnation = moved.topic_incarnation)
                 SELECT count(*) FROM moved",
            )
            .bind(&consumer)
            .bind(&topic)
            .bind(partition)
            .bind(&current)
            .bind(low)
            .bind(&incarnation)
            .bind(next)
            .fetch_one(&mut *transaction)
            .await
            .map_err(Error::Database)?;
            if moved > 0 {
                let entry = Entry::done(Action::TopicsAdopt)
                    .about("topic", [topic.as_str()])
                    .detail("consumer", consumer.as_str())
                    .detail("partition", partition)
                    .detail("before", next)
                    .detail("now", low);
                let recorded = record(&mut transaction, entry).await;
                recorded.map_err(Error::Database)?;
            }
            transaction.commit().await.map_err(Error::Database)?;
        }
        adopted.push(Adopted {
            consumer,
            topic,
            partition,
            reason,
            before: next,
            now: low,
        });
    }
    Ok(adopted)
}

/// Incarnation, oldest record and end of each partition; `None` where there is no such topic.
async fn logs(
    cluster: &Cluster,
    topics: &[String],
    partitions: Vec<(String, i32)>,
) -> Result<Vec<Option<(String, i64, i64)>>, Error> {
    let config = cluster.client_config();
    let topics = topics.to_vec();
    let ask = move || {
        use rdkafka::config::FromClientConfigAndContext as _;
        let client: BaseConsumer<Context> =
            BaseConsumer::from_config_and_context(&config, Context)?;
        let incarnations =
            incarnations(client.client(), &topics, REQUEST_TIMEOUT).map_err(Error::Topics)?;
        let log = |(topic, partition): (String, i32)| match incarnations.get(&topic) {
            None => Ok(None),
            Some(incarnation) => {
                let (low, high) = client.fetch_watermarks(&topic, partition, REQUEST_TIMEOUT)?;
                Ok(Some((incarnation.clone(), low, high)))
            }
        };
        partitions.into_iter().map(log).collect()
    };
    tokio::task::spawn_blocking(ask)
        .await
        .map_err(|_| Error::Panicked("the question to Kafka"))?
}
