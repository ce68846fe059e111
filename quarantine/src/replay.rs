//! Puts records into their topic again, for every consumer of it.

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use chrono::{DateTime, Days, NaiveDate, Utc};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rivulet_events::{Record, ids::RESET_CLOCK_DAY, record::child_of};
use rivulet_kafka::{Cluster, REQUEST_TIMEOUT};
use sqlx::{FromRow, PgPool, Postgres, QueryBuilder, Transaction};
use tokio::time::Instant;

use crate::{
    Error, Outcome, Selection,
    actions::{Action, Row, log, take_out},
};

/// Most records between two commits: that many may be produced twice when the command is killed. A
/// row is locked for as long as Kafka takes for them.
const CHUNK: u32 = 100;

/// Longest time for Kafka to acknowledge a record. Below the time that a session may be idle in a
/// transaction.
const ACKNOWLEDGED_WITHIN: &str = "20000";

/// How to replay.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Which records. One that several consumers set aside is replayed once for all of them, even
    /// where only one's row is selected: all of them read the topic.
    pub selection: Selection,
    /// At most so many records.
    pub limit: Option<i64>,
    /// Records a second.
    pub rate: NonZeroU32,
    /// Days that the identities of events are remembered, to count each once.
    pub remembered_days: u32,
    /// Who does it.
    pub by: String,
    /// Only count.
    pub dry_run: bool,
}

/// What tells a record of Kafka from all others.
#[derive(Clone, Debug, FromRow)]
struct RecordId {
    topic: String,
    partition: i32,
    kafka_offset: i64,
    topic_incarnation: String,
}

#[derive(FromRow)]
struct Held {
    #[sqlx(flatten)]
    row: Row,
    record: Vec<u8>,
}

/// Produces the selected records again, with the child as key where one can be read, and takes
/// them out of quarantine. Records that come into quarantine meanwhile, perhaps these same ones,
/// stay there.
///
/// A record whose event is too old for anybody to remember whether a copy of it was counted is left
/// in quarantine: it could be counted twice.
///
/// # Errors
/// What was replayed before stays replayed and is logged. Of the last few records some may be in Kafka and still in
/// quarantine. Another replay takes them out, and deduplication counts them once.
pub async fn replay(pool: &PgPool, cluster: &Cluster, replay: &Replay) -> Result<Outcome, Error> {
    let producer = producer(cluster)?;
    let began: DateTime<Utc> = sqlx::query_scalar("SELECT now()").fetch_one(pool).await?;
    let forgotten_until = forgotten_until(began, replay.remembered_days);
    let mut topics = BTreeSet::new();
    let mut outcome = Outcome::default();
    let mut after = None;
    let (started, mut sent) = (Instant::now(), 0u32);
    loop {
        // Several commits a second, so that a small rate is an even one.
        let chunk = i64::from(replay.rate.get().div_ceil(4).min(CHUNK));
        let taken = i64::try_from(outcome.records).unwrap_or(i64::MAX);
        let left = replay.limit.map_or(chunk, |limit| chunk.min(limit - taken));
        let ids = next_ids(pool, &replay.selection, began, after.as_ref(), left).await?;
        let Some(last) = ids.last() else {
            return Ok(outcome);
        };
        after = Some(last.clone());
        let of: BTreeSet<_> = ids.iter().map(|id| id.topic.clone()).collect();
        if !of.is_subset(&topics) {
            check_topics(&producer, cluster, &of).await?;
            topics.extend(of);
        }

        let mut transaction = pool.begin().await?;
        let mut held = lock(&mut transaction, &ids).await?;
        let mut too_old = BTreeSet::new();
        for Held { row, record } in &held {
            let kind = cluster.event_type(&row.topic);
            let event = kind.and_then(|kind| Record::read(kind, record).ok());
            if event.is_some_and(|event| is_forgotten(&event, forgotten_until)) {
                too_old.insert((row.topic.clone(), row.partition, row.kafka_offset));
            }
        }
        held.retain(|Held { row, .. }| {
            !too_old.contains(&(row.topic.clone(), row.partition, row.kafka_offset))
        });
        outcome.too_old += too_old.len() as u64;
        let records: Vec<_> = held.chunk_by(|a, b| a.row.is_same_record(&b.row)).collect();
        let replayed = u32::try_from(records.len()).unwrap_or(u32::MAX);
        outcome.records += u64::from(replayed);
        outcome.rows += held.len() as u64;
        if replay.dry_run {
            continue;
        }
        produce(&producer, records.iter().map(|of_one| &of_one[0])).await?;
        let rows: Vec<Row> = held.into_iter().map(|held| held.row).collect();
        take_out(&mut transaction, &rows, Action::Replayed, &replay.by).await?;
        transaction.commit().await?;
        log(&rows, Action::Replayed, &replay.by);

        sent = sent.saturating_add(replayed);
        let due = Duration::from_secs(1) * sent / replay.rate.get();
        tokio::time::sleep_until(started + due).await;
    }
}

fn producer(cluster: &Cluster) -> Result<FutureProducer, Error> {
    let mut config = cluster.client_config();
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        // As ingest: a child's records stay in one partition.
        .set("partitioner", "murmur2_random")
        .set("message.timeout.ms", ACKNOWLEDGED_WITHIN);
    config.create().map_err(|error| Error::Kafka(error.into()))
}

/// The first day of which all identities are still remembered. They are forgotten by their distance from what was
/// consumed, so later than by the clock. But a record that is put into its topic now is consumed only after the
/// aggregator has caught up. So this goes by the clock, and leaves a day for the aggregator to catch up.
fn forgotten_until(now: DateTime<Utc>, remembered_days: u32) -> NaiveDate {
    let days = Days::new(u64::from(remembered_days.saturating_sub(1)));
    now.date_naive()
        .checked_sub_days(days)
        .unwrap_or(NaiveDate::MIN)
}

/// Whether a copy of the event may have been counted and forgotten since.
fn is_forgotten(event: &Record<'_>, until: NaiveDate) -> bool {
    let day = match event.identity().day {
        // Identities of reset clocks are forgotten by the day on which the event came.
        RESET_CLOCK_DAY => DateTime::from_timestamp_millis(event.received_at)
            .map_or(NaiveDate::MIN, |received| received.date_naive()),
        day => day,
    };
    day < until
}

/// The next records after `after`, in the order of topic, partition, offset and incarnation.
async fn next_ids(
    pool: &PgPool,
    selection: &Selection,
    began: DateTime<Utc>,
    after: Option<&RecordId>,
    limit: i64,
) -> Result<Vec<RecordId>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT DISTINCT topic, partition, kafka_offset, topic_incarnation FROM quarantine",
    );
    selection.push_where(&mut query);
    query.push(" AND quarantined_at <= ").push_bind(began);
    if let Some(id) = after {
        query
            .push(" AND (topic, partition, kafka_offset, topic_incarnation) > (")
            .push_bind(&id.topic)
            .push(", ")
            .push_bind(id.partition)
            .push(", ")
            .push_bind(id.kafka_offset)
            .push(", ")
            .push_bind(&id.topic_incarnation)
            .push(")");
    }
    query
        .push(" ORDER BY topic, partition, kafka_offset, topic_incarnation LIMIT ")
        .push_bind(limit.max(0));
    Ok(query.build_query_as().fetch_all(pool).await?)
}

/// Every consumer's row of these records, locked: another replay finds them gone.
async fn lock(
    transaction: &mut Transaction<'_, Postgres>,
    ids: &[RecordId],
) -> Result<Vec<Held>, Error> {
    let topics: Vec<_> = ids.iter().map(|id| &*id.topic).collect();
    let incarnations: Vec<_> = ids.iter().map(|id| &*id.topic_incarnation).collect();
    Ok(sqlx::query_as(
        "SELECT consumer, topic, partition, kafka_offset, topic_incarnation, code, record
         FROM quarantine
         WHERE (topic, partition, kafka_offset, topic_incarnation) IN
             (SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[]))
         ORDER BY topic, partition, kafka_offset, topic_incarnation, consumer
         FOR UPDATE",
    )
    .bind(topics)
    .bind(ids.iter().map(|id| id.partition).collect::<Vec<_>>())
    .bind(ids.iter().map(|id| id.kafka_offset).collect::<Vec<_>>())
    .bind(incarnations)
    .fetch_all(&mut **transaction)
    .await?)
}

/// Checks that the topics exist. Producing to a topic that is gone would create it, with the broker's default settings.
async fn check_topics(
    producer: &FutureProducer,
    cluster: &Cluster,
    topics: &BTreeSet<String>,
) -> Result<(), Error> {
    if let Some(foreign) = topics
        .iter()
        .find(|topic| cluster.event_type(topic).is_none())
    {
        return Err(Error::ForeignTopic(foreign.clone()));
    }
    let (producer, asked) = (producer.clone(), topics.iter().cloned().collect::<Vec<_>>());
    let found = tokio::task::spawn_blocking(move || {
        rivulet_kafka::incarnations(producer.client(), &asked, REQUEST_TIMEOUT)
    })
    .await??;
    match topics.iter().find(|topic| !found.contains_key(*topic)) {
        Some(gone) => Err(rivulet_kafka::Error::MissingTopic(gone.clone()).into()),
        None => Ok(()),
    }
}

/// Returns when every in-sync replica has all of the records.
async fn produce<'h>(
    producer: &FutureProducer,
    records: impl Iterator<Item = &'h Held>,
) -> Result<(), Error> {
    let mut sent = Vec::new();
    for Held { row, record } in records {
        let key = key(record);
        let mut message = FutureRecord::<str, [u8]>::to(&row.topic).payload(record);
        if let Some(key) = &key {
            message = message.key(key);
        }
        sent.push(
            producer
                .send_result(message)
                .map_err(|(error, _)| Error::Produce(error))?,
        );
    }
    for delivery in sent {
        match delivery.await {
            Ok(Ok(_)) => {}
            Ok(Err((error, _))) => return Err(Error::Produce(error)),
            Err(_) => return Err(Error::Produce(rdkafka::error::KafkaError::Canceled)),
        }
    }
    Ok(())
}

/// The key that ingest gives the record: its child, if the record names one.
fn key(record: &[u8]) -> Option<String> {
    child_of(record).map(|child| child.uuid().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_child_of_any_record_that_names_one() {
        let child = "0193a7b2-0000-7000-8000-00000000000a";
        let newer = format!(
            "{{\"v\":99,\"child_id\":\"{}\",\"what\":1}}",
            child.to_uppercase()
        );
        assert_eq!(key(newer.as_bytes()).as_deref(), Some(child));
        assert_eq!(key(b"{\"child_id\":\"nobody\"}"), None);
        assert_eq!(key(b"\xff not json"), None);
        assert_eq!(key(b""), None);
    }
}
