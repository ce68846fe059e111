//! The transaction: position, dedup and rollups of one batch, all or nothing.

mod partitions;
pub(crate) mod retention;
mod seen;
pub(crate) mod tables;
#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Days, Months, NaiveDate, Utc};
use rivulet_consumer::{
    ledger,
    positions::{self, Advance},
};
use rivulet_events::{ChildId, changes};
use rivulet_registry::{
    revocations::Revocations,
    tombstones::{HOLD, Tombstones},
};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, postgres::PgBindIterExt as _};

use self::partitions::{Known, Partition};
use crate::{CONSUMER, Rollup, prepare::Prepared};

/// How a transaction that may take `limit` starts, in one round trip.
///
/// - `synchronous_commit = off` is safe: position and effects are lost together, and Kafka has the
///   tail. Nothing outside may be told that a position is durable.
/// - Every table is reached by key. A plan made while a partition was empty must not scan it later. A scan that there is
///   no way around looks so expensive then that PostgreSQL would compile the statement, each time, for 100 ms and more.
/// - An instance that is stopped in mid-transaction holds the lock on its positions and on rows of
///   children: its session ends, so that who took over can go on.
/// - The server gives a statement up before this side gives up the transaction, and notices a client that is
///   gone: otherwise the statement would run on and hold its locks against the next attempt. To wait for
///   somebody else's lock is told apart from being slow.
fn begin(limit: Duration) -> AssertSqlSafe<String> {
    let (statement, lock) = (limit.as_millis() / 3, limit.as_millis() / 6);
    AssertSqlSafe(format!(
        "BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL enable_seqscan = off; \
         SET LOCAL jit = off; \
         SET LOCAL idle_in_transaction_session_timeout = '10s'; \
         SET LOCAL client_connection_check_interval = '2s'; \
         SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; {HOLD}"
    ))
}

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// These partitions (topic, partition) are no longer where this instance believes them to be: another instance has
    /// them, or an earlier attempt did commit.
    #[error("the positions have moved")]
    Fenced(Vec<(String, i32)>),
    /// PostgreSQL did not move the position, whatever the records are.
    #[error("the position: {0}")]
    Position(sqlx::Error),
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<positions::Error> for StoreError {
    fn from(error: positions::Error) -> Self {
        match error {
            positions::Error::Fenced(partitions) => Self::Fenced(partitions),
            positions::Error::Database(error) => Self::Position(error),
        }
    }
}

/// The rollups in PostgreSQL.
#[derive(Debug)]
pub(crate) struct Store {
    pool: PgPool,
    known: Known,
    tombstones: Tombstones,
    revocations: Revocations,
}

impl Store {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            known: Known::default(),
            tombstones: Tombstones::default(),
            revocations: Revocations::default(),
        }
    }

    /// Commits a batch, or nothing of it, within about `limit`. On return `batch` is without what was counted
    /// before, and without what is of erased children or on consents that were withdrawn.
    pub(crate) async fn commit(
        &mut self,
        batch: &mut Prepared,
        limit: Duration,
    ) -> Result<(), StoreError> {
        self.known.ensure(&self.pool, partitions_of(batch)).await?;
        let mut tx = self.pool.begin_with(begin(limit)).await?;
        // This comes first, so that an instance that lost the partition wastes no work. Besides, every transaction
        // locks in this order.
        let heed = positions::advance(&mut tx, CONSUMER, &advances(batch)).await?;
        self.revocations.read(&mut tx, heed.revocation).await?;
        batch.revoke(&self.revocations, heed.revocation);
        self.tombstones.read(&mut tx, heed.tombstone).await?;
        batch.erase(&self.tombstones, heed.tombstone);
        let apart = seen::days_apart(&mut tx, &batch.events).await?;
        let counted = seen::counted(&mut tx, &batch.events, &apart).await?;
        batch.exclude(&counted);
        seen::remember(&mut tx, &batch.events, &apart).await?;
        tables::add(&mut tx, &batch.rollup).await?;
        notify(&mut tx, batch.rollup.days()).await?;
        quarantine(&mut tx, batch).await?;
        let steps = advances(batch);
        let accounts: Vec<_> = batch
            .accounts()
            .into_iter()
            .map(|((part, hour), account)| (&steps[part], hour, account))
            .collect();
        ledger::add(&mut tx, CONSUMER, &accounts).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Forgets which partitions exist, because one that a batch needs is gone.
    pub(crate) fn forget_partitions(&mut self) {
        self.known.forget();
    }
}

/// Makes the partitions of the days to come, and drops the identities that are older than `retention_days` behind what
/// was consumed. Any instance may do it at any time. Two at once wait for each other.
pub(crate) async fn housekeeping(
    pool: &PgPool,
    now: DateTime<Utc>,
    retention_days: u64,
) -> Result<(), sqlx::Error> {
    let today = now.date_naive();
    let mut ahead = vec![
        Partition::Seen(today),
        Partition::Seen(today + Days::new(1)),
    ];
    ahead.extend(Partition::rollups_of(today));
    ahead.extend(Partition::rollups_of(today + Months::new(1)));
    Known::default().ensure(pool, ahead).await?;

    let mut tx = pool.begin().await?;
    ledger::forget(&mut tx, CONSUMER, retention_days).await?;
    // The age is measured against what was consumed and not against the clock. So after a long stop, the identities
    // that the rest of Kafka's log may repeat are still there.
    if let Some(horizon) = positions::consumed_horizon(&mut tx, CONSUMER).await? {
        let until: NaiveDate = horizon.date_naive() - Days::new(retention_days);
        let days = partitions::drop_seen_before(&mut tx, until).await?;
        let rows = seen::purge_apart(&mut tx, until).await?;
        if days > 0 || rows > 0 {
            tracing::info!(days, rows, %until, "forgot identities older than the retention");
        }
    }
    tx.commit().await
}

/// Makes the partitions that a rollup's rows belong in.
pub(crate) async fn ensure_partitions(pool: &PgPool, rollup: &Rollup) -> Result<(), sqlx::Error> {
    let needed = rollup.dates().into_iter().flat_map(Partition::rollups_of);
    Known::default().ensure(pool, needed).await
}

/// Notifies the read API of the days that the transaction has changed. PostgreSQL delivers this when the transaction
/// commits, and never if it does not. It was measured at 0.5 µs a day, with or without listeners. Transactions that
/// notify commit one after the other. That costs nothing here, because they do not wait for the disk.
pub(crate) async fn notify(
    conn: &mut PgConnection,
    days: impl IntoIterator<Item = (ChildId, NaiveDate)>,
) -> Result<(), sqlx::Error> {
    let payloads = changes::payloads(days);
    if payloads.is_empty() {
        return Ok(());
    }
    sqlx::query("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload")
        .bind(changes::CHANNEL)
        .bind(payloads)
        .execute(conn)
        .await
        .map(drop)
}

fn partitions_of(batch: &Prepared) -> Vec<Partition> {
    let mut needed: Vec<_> = batch
        .events
        .iter()
        .filter(|event| event.is_timely())
        .map(|event| Partition::Seen(event.identity.day))
        .collect();
    needed.dedup();
    let dates = batch.rollup.dates();
    needed.extend(dates.into_iter().flat_map(Partition::rollups_of));
    needed
}

fn advances(batch: &Prepared) -> Vec<Advance<'_>> {
    let parts = batch.parts.iter().zip(&batch.received_at);
    parts
        .map(|(part, received_at)| Advance {
            topic: &part.topic,
            partition: part.partition,
            incarnation: &part.incarnation,
            expected: part.expected,
            next: part.next_offset(),
            received_at: *received_at,
        })
        .collect()
}

async fn quarantine(conn: &mut PgConnection, batch: &Prepared) -> Result<(), sqlx::Error> {
    if batch.poison.is_empty() {
        return Ok(());
    }
    let poison = || {
        batch
            .poison
            .iter()
            .map(|poison| (poison, &batch.parts[poison.part]))
    };
    sqlx::query(
        "INSERT INTO quarantine
             (consumer, topic, partition, kafka_offset, topic_incarnation, code, detail, record)
         SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[], $5::text[], $6::text[],
                                  $7::text[], $8::bytea[])
         ON CONFLICT DO NOTHING",
    )
    .bind(CONSUMER)
    .bind(poison().map(|(_, part)| &*part.topic).bind_iter())
    .bind(poison().map(|(_, part)| part.partition).bind_iter())
    .bind(
        poison()
            .map(|(poison, part)| part.records[poison.record].offset)
            .bind_iter(),
    )
    .bind(poison().map(|(_, part)| &*part.incarnation).bind_iter())
    .bind(poison().map(|(poison, _)| poison.code).bind_iter())
    // text cannot hold a NUL, which a quoted record may
    .bind(
        poison()
            .map(|(poison, _)| poison.detail.replace('\0', "\u{fffd}"))
            .bind_iter(),
    )
    .bind(
        poison()
            .map(|(poison, part)| &*part.records[poison.record].payload)
            .bind_iter(),
    )
    .execute(conn)
    .await
    .map(drop)
}
