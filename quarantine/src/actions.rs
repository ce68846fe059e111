//! Taking records out of quarantine, with a line in `quarantine_actions` for each.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    time::Duration,
};

use chrono::{DateTime, Utc};
use rivulet_auditlog::{Action as Audited, Entry, record};
use sqlx::{FromRow, PgConnection, PgPool, QueryBuilder};

use crate::{Error, Selection, metrics::EXPIRED_RECORDS};

/// Rows that a transaction drops.
const CHUNK: i64 = 1_000;

/// What a command did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Records of Kafka.
    pub records: u64,
    /// Rows of `quarantine`: several consumers may have set the same record aside.
    pub rows: u64,
    /// Records left where they are: whether their event was counted is no longer remembered.
    pub too_old: u64,
}

/// A row's key, and its code.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Row {
    pub(crate) consumer: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) kafka_offset: i64,
    pub(crate) topic_incarnation: String,
    pub(crate) code: String,
}

impl Row {
    /// Whether both are about one record of Kafka.
    pub(crate) fn is_same_record(&self, other: &Self) -> bool {
        (self.partition, self.kafka_offset) == (other.partition, other.kafka_offset)
            && self.topic == other.topic
            && self.topic_incarnation == other.topic_incarnation
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Replayed,
    Dropped,
    Expired,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Dropped => "dropped",
            Self::Expired => "expired",
        }
    }
}

/// Drops the selected rows for good, at most `limit`; with `dry_run` only counts them.
///
/// # Errors
/// PostgreSQL failed. What was dropped before stays dropped and is logged.
pub async fn discard(
    pool: &PgPool,
    selection: &Selection,
    limit: Option<i64>,
    by: &str,
    dry_run: bool,
) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    let mut left = limit.unwrap_or(i64::MAX);
    loop {
        let chunk = if dry_run { left } else { left.min(CHUNK) };
        let mut transaction = pool.begin().await?;
        let mut query = QueryBuilder::new(
            "SELECT consumer, topic, partition, kafka_offset, topic_incarnation, code FROM quarantine",
        );
        selection.push_where(&mut query);
        query
            .push(" ORDER BY topic, partition, kafka_offset, topic_incarnation, consumer LIMIT ")
            .push_bind(chunk)
            .push(if dry_run { "" } else { " FOR UPDATE" });
        let rows: Vec<Row> = query.build_query_as().fetch_all(&mut *transaction).await?;
        let found = rows.len() as u64;
        outcome.rows += found;
        outcome.records += rows.chunk_by(Row::is_same_record).count() as u64;
        if dry_run {
            return Ok(outcome);
        }
        take_out(&mut transaction, &rows, Action::Dropped, by).await?;
        transaction.commit().await?;
        log(&rows, Action::Dropped, by);
        left = left.saturating_sub_unsigned(found);
        if found < chunk.unsigned_abs() || left == 0 {
            return Ok(outcome);
        }
    }
}

/// How often it is looked for what is too old.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Drops what is too old ([`expire`]), for ever.
pub async fn keep_expiring(pool: PgPool) -> Infallible {
    loop {
        if let Err(error) = expire(&pool, Utc::now()).await {
            tracing::warn!(%error, "quarantined records that are too old could not be deleted, trying again later");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Drops what is older than `retention_periods` lets it be; returns how many rows.
///
/// # Errors
/// PostgreSQL failed. What was dropped before stays dropped and is logged.
pub async fn expire(pool: &PgPool, now: DateTime<Utc>) -> Result<u64, Error> {
    let mut expired = 0;
    loop {
        let mut transaction = pool.begin().await?;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT consumer, topic, partition, kafka_offset, topic_incarnation, code FROM quarantine
             WHERE quarantined_at < $1 - (SELECT days FROM retention_periods WHERE class = 'quarantine') * interval '1 day'
             ORDER BY topic, partition, kafka_offset, topic_incarnation, consumer LIMIT $2 FOR UPDATE SKIP LOCKED",
        )
        .bind(now)
        .bind(CHUNK)
        .fetch_all(&mut *transaction)
        .await?;
        if rows.is_empty() {
            return Ok(expired);
        }
        take_out(&mut transaction, &rows, Action::Expired, "retention").await?;
        transaction.commit().await?;
        log(&rows, Action::Expired, "retention");
        EXPIRED_RECORDS.increment(rows.len() as u64);
        expired += rows.len() as u64;
    }
}

/// Deletes these rows, which the transaction has locked, and writes down who did it.
pub(crate) async fn take_out(
    connection: &mut PgConnection,
    rows: &[Row],
    action: Action,
    by: &str,
) -> Result<(), sqlx::Error> {
    fn column<'r, T>(rows: &'r [Row], field: impl Fn(&'r Row) -> T) -> Vec<T> {
        rows.iter().map(field).collect()
    }
    if rows.is_empty() {
        return Ok(());
    }
    let audited = match action {
        Action::Replayed => Audited::QuarantineReplay,
        Action::Dropped => Audited::QuarantineDrop,
        Action::Expired => Audited::Retention,
    };
    let topics: BTreeSet<_> = rows.iter().map(|row| row.topic.as_str()).collect();
    let codes: BTreeSet<_> = rows.iter().map(|row| row.code.as_str()).collect();
    let entry = Entry::done(audited)
        .about("topic", topics)
        .detail("rows", rows.len())
        .detail("codes", codes.into_iter().collect::<Vec<_>>())
        .detail("by", by);
    record(connection, entry).await?;
    // After a position was set back, a record may come here a second time. Then the last action counts.
    sqlx::query(
        "WITH gone AS (
             DELETE FROM quarantine
             USING unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::text[])
                 AS r (consumer, topic, partition, kafka_offset, topic_incarnation)
             WHERE (quarantine.consumer, quarantine.topic, quarantine.partition,
                    quarantine.kafka_offset, quarantine.topic_incarnation)
                 = (r.consumer, r.topic, r.partition, r.kafka_offset, r.topic_incarnation)
             RETURNING quarantine.*
         )
         INSERT INTO quarantine_actions
             (consumer, topic, partition, kafka_offset, topic_incarnation, code, action, acted_by)
         SELECT consumer, topic, partition, kafka_offset, topic_incarnation, code, $6, $7 FROM gone
         ON CONFLICT (consumer, topic, partition, kafka_offset, topic_incarnation) DO UPDATE
         SET code = excluded.code, action = excluded.action, acted_by = excluded.acted_by,
             acted_at = excluded.acted_at",
    )
    .bind(column(rows, |row| &*row.consumer))
    .bind(column(rows, |row| &*row.topic))
    .bind(column(rows, |row| row.partition))
    .bind(column(rows, |row| row.kafka_offset))
    .bind(column(rows, |row| &*row.topic_incarnation))
    .bind(action.as_str())
    .bind(by)
    .execute(connection)
    .await
    .map(drop)
}

/// Logs how many records were taken out. The table `quarantine_actions` has each of them.
pub(crate) fn log(rows: &[Row], action: Action, by: &str) {
    let mut counts = BTreeMap::<_, u64>::new();
    for Row {
        consumer,
        topic,
        code,
        ..
    } in rows
    {
        *counts.entry((consumer, topic, code)).or_default() += 1;
    }
    for ((consumer, topic, code), records) in counts {
        let action = action.as_str();
        tracing::info!(
            consumer,
            topic,
            code,
            records,
            action,
            by,
            "records left quarantine"
        );
    }
}
