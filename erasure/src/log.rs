//! The log of erasures outside of the databases: who was erased, by hash, in a compacted topic that keeps its records for
//! ever. A database that is put back to a state from before an erasure learns of it from there, and is cleaned again.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use chrono::{DateTime, Utc};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaErrorCode,
};
use rivulet_auditlog::{Action, Entry, record};
use rivulet_kafka::{Cluster, Context, REQUEST_TIMEOUT};
use rivulet_registry::tombstones;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, types::Json};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Error, request::next_number};

/// How often it is looked whether PostgreSQL was put back.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Tombstones that are written to the log at a time.
const AT_ONCE: i64 = 1_000;

/// How many queries name at once what the log has.
const ASKED_AT_ONCE: usize = 10_000;

/// Who erases what a restore has brought back, for the certificate.
const BY: &str = "the log of erasures, after PostgreSQL was put back";

/// One record of the log. Its key is `kind:sha256`.
#[derive(Debug, Serialize, Deserialize)]
struct Logged {
    kind: String,
    /// Lower case hexadecimal.
    sha256: String,
    erasure_id: Uuid,
    erased_at: DateTime<Utc>,
}

/// Writes the tombstones that are not in the log yet, and notes that they are when all in-sync replicas have them.
pub(crate) async fn write(pool: &PgPool, cluster: &Cluster) -> Result<(), Error> {
    let mut producer: Option<FutureProducer<Context>> = None;
    loop {
        let rows: Vec<(i64, Json<Logged>)> = sqlx::query_as(
            "SELECT number, json_build_object('kind', kind, 'sha256', encode(sha256, 'hex'), 'erasure_id', erasure_id,
                                              'erased_at', erased_at)
             FROM tombstones WHERE NOT is_logged ORDER BY number LIMIT $1",
        )
        .bind(AT_ONCE)
        .fetch_all(pool)
        .await?;
        if rows.is_empty() {
            return Ok(());
        }
        let topic = cluster.erasure_log();
        if producer.is_none() {
            rivulet_kafka::require_topic(cluster, &topic).await?;
            let mut config = cluster.client_config();
            config.set("acks", "all").set("enable.idempotence", "true");
            producer = Some(config.create_with_context(Context)?);
        }
        let Some(producer) = &producer else { continue };
        let numbers: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let mut sends = tokio::task::JoinSet::new();
        for (_, Json(logged)) in rows {
            let key = format!("{}:{}", logged.kind, logged.sha256);
            let value = serde_json::to_string(&logged).unwrap_or_default();
            let (producer, topic) = (producer.clone(), topic.clone());
            sends.spawn(async move {
                let record = FutureRecord::to(&topic).key(&key).payload(&value);
                producer.send(record, REQUEST_TIMEOUT).await
            });
        }
        while let Some(sent) = sends.join_next().await {
            sent?.map_err(|(error, _)| error)?;
        }
        sqlx::query("UPDATE tombstones SET is_logged = true WHERE number = ANY($1)")
            .bind(&numbers)
            .execute(pool)
            .await?;
    }
}

/// Everybody who was ever erased, as the log has it, by key. A topic that does not exist is empty: nobody was erased since there
/// is such a log.
async fn read(cluster: &Cluster) -> Result<BTreeMap<Vec<u8>, Logged>, Error> {
    let cluster = cluster.clone();
    spawn_blocking(move || {
        let topic = cluster.erasure_log();
        let mut config = cluster.client_config();
        config.set("group.id", "rivulet-erasure");
        let reader: BaseConsumer<Context> = config.create_with_context(Context)?;
        let metadata = reader.fetch_metadata(Some(&topic), REQUEST_TIMEOUT)?;
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        let mut ends = BTreeMap::new();
        let mut from = TopicPartitionList::new();
        for partition in partitions {
            let (low, high) = reader.fetch_watermarks(&topic, partition.id(), REQUEST_TIMEOUT)?;
            if low < high {
                ends.insert(partition.id(), high);
                from.add_partition_offset(&topic, partition.id(), Offset::Beginning)?;
            }
        }
        reader.assign(&from)?;
        let mut all = BTreeMap::new();
        while !ends.is_empty() {
            let Some(record) = reader.poll(REQUEST_TIMEOUT) else {
                return Err(
                    KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut).into(),
                );
            };
            let record = record?;
            if let (Some(key), Some(value)) = (record.key(), record.payload())
                && let Ok(logged) = serde_json::from_slice(value)
            {
                all.insert(key.to_vec(), logged);
            }
            // Compaction leaves the newest record of a partition.
            if ends
                .get(&record.partition())
                .is_some_and(|end| record.offset() + 1 >= *end)
            {
                ends.remove(&record.partition());
            }
        }
        Ok(all)
    })
    .await?
}

/// Has everybody erased again who is in the log and has no tombstone: PostgreSQL was put back to a state from before.
/// Returns how many they are. From the commit of this on nothing of them is stored; what was put back of them goes as in
/// any erasure, under the id of the one that had erased them.
///
/// # Errors
/// Kafka or PostgreSQL is out of reach.
pub async fn replay(pool: &PgPool, cluster: &Cluster) -> Result<u64, Error> {
    let logged: Vec<Logged> = read(cluster).await?.into_values().collect();
    let mut again = 0;
    for logged in logged.chunks(ASKED_AT_ONCE) {
        again += missing(pool, logged).await?;
    }
    // A topic that was lost is written anew by whoever carries erasures on.
    sqlx::query(
        "UPDATE tombstones SET is_logged = false
         WHERE is_logged AND (SELECT count(*) FROM tombstones WHERE is_logged) > $1",
    )
    .bind(logged.len() as i64)
    .execute(pool)
    .await?;
    if again > 0 {
        tracing::warn!(
            subjects = again,
            "PostgreSQL was put back to a state from before they were erased; they are erased again"
        );
    }
    Ok(again)
}

/// Of those who are in the log, how many have no tombstone.
async fn put_back(pool: &PgPool, cluster: &Cluster) -> Result<i64, Error> {
    let logged: Vec<Logged> = read(cluster).await?.into_values().collect();
    let mut found = 0;
    for logged in logged.chunks(ASKED_AT_ONCE) {
        let of_chunk: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM unnest($1::text[], $2::text[]) AS logged (kind, sha256)
             WHERE NOT EXISTS (SELECT FROM tombstones t
                               WHERE t.kind = logged.kind AND t.sha256 = decode(logged.sha256, 'hex'))",
        )
        .bind(logged.iter().map(|one| &*one.kind).collect::<Vec<_>>())
        .bind(logged.iter().map(|one| &*one.sha256).collect::<Vec<_>>())
        .fetch_one(pool)
        .await?;
        found += of_chunk;
    }
    Ok(found)
}

/// Every column with the id of a child or of a parent, by which those are found who were put back.
const KNOWN: &str = "
    SELECT 'parent', id FROM parents UNION SELECT 'parent', parent_id FROM children
    UNION SELECT 'parent', parent_id FROM consent_changes
    UNION SELECT 'child', id FROM children UNION SELECT 'child', child_id FROM daily_child_metrics
    UNION SELECT 'child', child_id FROM learning_analytics UNION SELECT 'child', child_id FROM topic_progress
    UNION SELECT 'child', child_id FROM streaks UNION SELECT 'child', child_id FROM withheld_seen
    UNION SELECT kind, found.id[1]::uuid
          FROM quarantine, unnest(ARRAY['child', 'parent']) AS kind,
               regexp_matches(encode(record, 'escape') || ' ' || detail,
                              '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', 'gi') AS found (id)";

async fn missing(pool: &PgPool, logged: &[Logged]) -> Result<u64, Error> {
    let mut transaction = pool.begin().await?;
    let conn = &mut *transaction;
    // All ids of the installation may be hashed here.
    sqlx::query("SET LOCAL statement_timeout = 0")
        .execute(&mut *conn)
        .await?;
    let base = next_number(conn).await?;
    let added: Vec<(i64, String, Vec<u8>, Uuid)> = sqlx::query_as(
        "INSERT INTO tombstones (number, sha256, kind, erasure_id, erased_at, is_logged)
         SELECT $1 + row_number() OVER (), sha256, kind, erasure_id, erased_at, true FROM (
             SELECT DISTINCT ON (kind, sha256) kind, decode(sha256, 'hex') AS sha256, erasure_id, erased_at
             FROM unnest($2::text[], $3::text[], $4::uuid[], $5::timestamptz[])
                  AS logged (kind, sha256, erasure_id, erased_at)
             ORDER BY kind, sha256, erased_at
         ) AS logged
         WHERE NOT EXISTS (SELECT FROM tombstones t WHERE t.kind = logged.kind AND t.sha256 = logged.sha256)
         RETURNING number, kind, sha256, erasure_id",
    )
    .bind(base)
    .bind(logged.iter().map(|one| &*one.kind).collect::<Vec<_>>())
    .bind(logged.iter().map(|one| &*one.sha256).collect::<Vec<_>>())
    .bind(logged.iter().map(|one| one.erasure_id).collect::<Vec<_>>())
    .bind(logged.iter().map(|one| one.erased_at).collect::<Vec<_>>())
    .fetch_all(&mut *conn)
    .await?;
    if added.is_empty() {
        return Ok(0);
    }
    let numbers: Vec<i64> = added.iter().map(|row| row.0).collect();
    for statement in [
        &format!(
            "INSERT INTO erasures (id, requested_by, requested_at, subjects, tombstone)
             SELECT erasure_id, '{BY}', min(erased_at), count(*), max(number)
             FROM tombstones WHERE number = ANY($1) GROUP BY erasure_id
             ON CONFLICT (id) DO UPDATE SET state = 'pending', is_told = false, tombstone = excluded.tombstone"
        ),
        "INSERT INTO erasure_stores (erasure_id, store)
         SELECT DISTINCT erasure_id, store
         FROM tombstones, unnest(ARRAY['postgres', 'clickhouse', 'quarantine', 'spill', 'kafka']) AS store
         WHERE number = ANY($1) ON CONFLICT DO NOTHING",
        &format!(
            "INSERT INTO erasure_subjects (erasure_id, kind, id)
             SELECT erasure_id, kind, id FROM ({KNOWN}) AS known (kind, id)
             JOIN tombstones t USING (kind) WHERE t.number = ANY($1) AND t.sha256 = tombstone_hash(id)
             ON CONFLICT DO NOTHING"
        ),
        // Ingest nodes and open pages hear of it as of any deletion.
        "UPDATE parents SET deleted_at = coalesce(deleted_at, now()), updated_at = now() WHERE id IN (
             SELECT id FROM erasure_subjects s JOIN tombstones t USING (erasure_id)
             WHERE number = ANY($1) AND s.kind = 'parent')",
        "UPDATE children SET deleted_at = coalesce(deleted_at, now()), updated_at = now() WHERE id IN (
             SELECT id FROM erasure_subjects s JOIN tombstones t USING (erasure_id)
             WHERE number = ANY($1) AND s.kind = 'child')",
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(&numbers)
            .execute(&mut *conn)
            .await?;
    }
    let entry = Entry::done(Action::Erase).detail("by", BY);
    record(conn, entry.detail("new_subjects", numbers.len() as u64)).await?;
    transaction.commit().await?;
    Ok(numbers.len() as u64)
}

/// Has everybody erased again whom PostgreSQL has forgotten ([`replay`]): at once, which ends `replayed`, and for ever
/// after that, whenever the newest tombstone is older than one that this process has seen. A consumer begins when
/// `replayed` has ended. A login that may not erase waits until another process has done it.
pub async fn keep(pool: PgPool, cluster: Cluster, replayed: CancellationToken) -> Infallible {
    let mut seen = None;
    loop {
        match look(&pool, &cluster, seen).await {
            Ok(newest) => {
                seen = Some(newest);
                replayed.cancel();
            }
            // Without the tables the role itself says what to do.
            Err(Error::Postgres(error)) if is_undefined_table(&error) => replayed.cancel(),
            Err(error) => tracing::warn!(
                %error,
                "who was erased cannot be looked up in Kafka's log of erasures; trying again"
            ),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns the number of the newest tombstone. Where nobody is to be erased again, any login may say so.
async fn look(pool: &PgPool, cluster: &Cluster, seen: Option<i64>) -> Result<i64, Error> {
    let newest = newest(pool).await?;
    if seen.is_some_and(|seen| newest >= seen) {
        return Ok(newest);
    }
    let may_erase: bool =
        sqlx::query_scalar("SELECT has_table_privilege('erasure_rewrites', 'INSERT')")
            .fetch_one(pool)
            .await?;
    if may_erase {
        replay(pool, cluster).await?;
    } else {
        match put_back(pool, cluster).await? {
            0 => {}
            subjects => return Err(Error::PutBack(subjects)),
        }
    }
    Ok(self::newest(pool).await?)
}

async fn newest(pool: &PgPool) -> Result<i64, sqlx::Error> {
    tombstones::newest(&mut *pool.acquire().await?).await
}

fn is_undefined_table(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "42P01")
}
