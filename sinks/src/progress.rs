//! What the sink writes to PostgreSQL: the range it is about to insert, that it was inserted, and
//! what of it never goes to ClickHouse.

use std::{convert::Infallible, time::Duration};

use ahash::AHashSet;
use chrono::{DateTime, Days, NaiveDate};
use rivulet_consumer::{
    ledger::{self, Account},
    positions::{self, Advance, Heed},
};
use rivulet_registry::{
    revocations::{Revocations, Taken},
    tombstones::{self, Tombstones},
};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{
    CONSUMER,
    range::{Accounts, Quarantined, Range},
    row::RowHead,
    rows::Frozen,
};

/// The result of beginning a range.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The range is ours to insert, without the rows of these indices, which are sorted.
    Insert {
        /// The first copies of these events were withheld.
        suppressed: Vec<usize>,
        /// What is not to be stored at all.
        dropped: Box<Dropped>,
    },
    /// There was nothing to insert, and the position is past the range.
    Settled,
}

/// What of a range is not to be stored, as it was when the range was begun.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    /// Indices of rows, sorted.
    pub(crate) rows: Vec<usize>,
    /// Because the child was erased.
    pub(crate) erased: Offsets,
    /// Because the consent was withdrawn on which it had been taken.
    pub(crate) revoked: Offsets,
    /// Erased children, whose withheld events are not to be remembered.
    erased_children: AHashSet<Uuid>,
}

/// Offsets of records, sorted.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    rows: Vec<i64>,
    /// Of those that would else be in quarantine.
    unfit: Vec<i64>,
}

impl Offsets {
    /// How many records they are.
    pub(crate) fn records(&self) -> usize {
        self.rows.len() + self.unfit.len()
    }

    fn is_unfit(&self, record: &Quarantined) -> bool {
        self.unfit.binary_search(&record.offset).is_ok()
    }

    /// Moves them in the books from where they were to where `to` says.
    fn move_in(&self, accounts: &mut Accounts, to: fn(&mut Account) -> &mut u64) {
        for offset in &self.rows {
            accounts.of(*offset).counted -= 1;
            *to(accounts.of(*offset)) += 1;
        }
        for offset in &self.unfit {
            accounts.of(*offset).quarantined -= 1;
            *to(accounts.of(*offset)) += 1;
        }
    }
}

/// What a process has read of who was erased, and of consents that were withdrawn.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    tombstones: Tombstones,
    revocations: Revocations,
}

impl Gone {
    async fn read(&mut self, conn: &mut PgConnection, heed: Heed) -> Result<(), sqlx::Error> {
        self.tombstones.read(conn, heed.tombstone).await?;
        self.revocations.read(conn, heed.revocation).await
    }

    /// What of the range is not to be stored. `suppressed`: indices of rows that are dropped for another reason.
    fn of(&self, range: &Range, rows: &Frozen, suppressed: &[usize], heed: Heed) -> Dropped {
        let Self {
            tombstones,
            revocations,
        } = self;
        if tombstones.is_empty() && revocations.is_empty() {
            return Dropped::default();
        }
        let mut children: AHashSet<Uuid> = rows.heads().map(|head| head.child).collect();
        children.extend(range.withheld.values());
        let concerned: AHashSet<Uuid> = children
            .iter()
            .copied()
            .filter(|child| revocations.concern(*child))
            .collect();
        children.retain(|child| tombstones.has(*child, heed.tombstone));

        let is_withdrawn = |head: RowHead, row: &[u8]| {
            let offset = head.offset.cast_signed();
            let taken = Taken {
                child: head.child,
                event_type: range.event_type(),
                epoch: range.consent_epochs.get(&offset).copied().unwrap_or(0),
                received_at: RowHead::received_at(row).unwrap_or(i64::MAX),
            };
            revocations.of(taken, heed.revocation).from_history
        };
        let (mut erased, mut revoked) = (Vec::new(), Vec::new());
        for ((row, head), bytes) in rows.heads().enumerate().zip(rows.rows()) {
            if suppressed.binary_search(&row).is_ok() {
                continue;
            }
            if children.contains(&head.child) {
                erased.push(row);
            } else if concerned.contains(&head.child) && is_withdrawn(head, bytes) {
                revoked.push(row);
            }
        }
        let (mut erased_unfit, mut revoked_unfit) = (Vec::new(), Vec::new());
        for Quarantined { offset, record, .. } in &range.quarantined {
            if tombstones.any_in(record, heed.tombstone) {
                erased_unfit.push(*offset);
            } else if revocations.any_in(record, range.event_type(), heed.revocation) {
                revoked_unfit.push(*offset);
            }
        }
        let offsets = |rows_of: &[usize], unfit| Offsets {
            rows: rows.offsets(rows_of),
            unfit,
        };
        let dropped = Dropped {
            rows: Vec::new(),
            erased: offsets(&erased, erased_unfit),
            revoked: offsets(&revoked, revoked_unfit),
            erased_children: children,
        };
        let mut rows = [erased, revoked].concat();
        rows.sort_unstable();
        Dropped { rows, ..dropped }
    }
}

/// Before the insert: notes the range, so that a crash from here on forms the same one again.
///
/// # Errors
/// Fenced, or PostgreSQL failed; the transaction is rolled back.
pub(crate) async fn begin(
    pool: &PgPool,
    gone: &Mutex<Gone>,
    range: &Range,
    rows: &Frozen,
) -> Result<Begun, positions::Error> {
    let mut transaction = pool.begin().await?;
    let connection = &mut *transaction;
    tombstones::hold(connection).await?;
    let step = advance(range);
    let settles = rows.len() == 0 && !range.is_begun();
    // A range that was begun is formed as it was then: who was erased since is still in its block, and that erasure waits
    // for the block. What is read is all there is now: another range of this process may have read it before.
    let (heed, now) = if range.is_begun() {
        let heed = positions::begun_range(connection, CONSUMER, &step).await?;
        (heed, positions::newest(connection).await?)
    } else {
        let heed = match settles {
            true => positions::advance(connection, CONSUMER, &[step]).await?,
            false => positions::begin_range(connection, CONSUMER, &[step]).await?,
        };
        (heed, heed)
    };
    let suppressed = if rows.len() == 0 {
        Vec::new()
    } else {
        suppressed(connection, range, rows).await?
    };
    let dropped = {
        let mut gone = gone.lock().await;
        gone.read(connection, now).await?;
        gone.of(range, rows, &suppressed, heed)
    };
    remember_withheld(connection, range, &dropped).await?;
    if settles {
        settle(connection, range, &[], &dropped).await?;
    }
    transaction.commit().await?;
    if settles {
        return Ok(Begun::Settled);
    }
    Ok(Begun::Insert {
        suppressed,
        dropped: Box::new(dropped),
    })
}

/// After the insert: the position passes the range, and what could not be stored is set aside.
///
/// # Errors
/// Fenced, or PostgreSQL failed; the transaction is rolled back.
pub(crate) async fn finish(
    pool: &PgPool,
    range: &Range,
    poisonous: &[Quarantined],
    dropped: &Dropped,
) -> Result<(), positions::Error> {
    let mut transaction = pool.begin().await?;
    positions::finish_range(&mut transaction, CONSUMER, &[advance(range)]).await?;
    settle(&mut transaction, range, poisonous, dropped).await?;
    Ok(transaction.commit().await?)
}

/// Writes the records that were set aside and the entries of the ledger, in the transaction that moves the position
/// over the range.
async fn settle(
    connection: &mut PgConnection,
    range: &Range,
    poisonous: &[Quarantined],
    dropped: &Dropped,
) -> Result<(), sqlx::Error> {
    let Dropped {
        erased, revoked, ..
    } = dropped;
    let unfit = range.quarantined.iter();
    let unfit = unfit.filter(|record| !erased.is_unfit(record) && !revoked.is_unfit(record));
    quarantine(connection, range, unfit.chain(poisonous)).await?;
    let mut accounts = range.accounts.clone();
    erased.move_in(&mut accounts, |account| &mut account.erased);
    revoked.move_in(&mut accounts, |account| &mut account.revoked);
    let step = advance(range);
    let accounts: Vec<_> = accounts
        .by_hour()
        .map(|(hour, account)| (&step, hour, account))
        .collect();
    ledger::add(connection, CONSUMER, &accounts).await
}

fn advance(range: &Range) -> Advance<'_> {
    Advance {
        topic: &range.part.topic,
        partition: range.part.partition,
        incarnation: &range.part.incarnation,
        expected: range.part.expected,
        next: range.end(),
        received_at: range.newest_received_at,
    }
}

/// Indices of the rows whose event was first seen withheld, in an earlier range or elsewhere.
///
/// Copies within the range were compared while it was formed, by their offsets; ranges compare as a
/// whole, so a range that is formed again after a crash suppresses the same rows. Offsets of another
/// partition or incarnation of the topic do not compare: there, what was seen first counts.
async fn suppressed(
    connection: &mut PgConnection,
    range: &Range,
    rows: &Frozen,
) -> Result<Vec<usize>, sqlx::Error> {
    let mut children: Vec<Uuid> = rows.heads().map(|head| head.child).collect();
    children.sort_unstable();
    children.dedup();
    // Nearly always empty: only children whose consent was granted in the last weeks are in both.
    let flipped: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT child_id FROM withheld_seen
         WHERE child_id = ANY($1) AND topic = $2
           AND NOT (topic_incarnation = $3 AND partition = $4 AND first_offset >= $5)",
    )
    .bind(&children)
    .bind(&*range.part.topic)
    .bind(&*range.part.incarnation)
    .bind(range.part.partition)
    .bind(range.part.expected)
    .fetch_all(&mut *connection)
    .await?;
    if flipped.is_empty() {
        return Ok(Vec::new());
    }

    let (mut indices, mut children, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for (row, head) in (0i32..).zip(rows.heads()) {
        if flipped.contains(&head.child) {
            indices.push(row);
            children.push(head.child);
            keys.push(Uuid::from_bytes(head.key(range.event_type())));
        }
    }
    let found: Vec<i32> = sqlx::query_scalar(
        "SELECT DISTINCT ours.row
         FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS ours (row, child_id, key)
         JOIN withheld_seen AS seen USING (child_id)
         WHERE seen.topic = $4 AND ours.key = ANY(seen.keys)
           AND NOT (seen.topic_incarnation = $5 AND seen.partition = $6 AND seen.first_offset >= $7)
         ORDER BY 1",
    )
    .bind(indices)
    .bind(children)
    .bind(keys)
    .bind(&*range.part.topic)
    .bind(&*range.part.incarnation)
    .bind(range.part.partition)
    .bind(range.part.expected)
    .fetch_all(connection)
    .await?;
    Ok(found
        .into_iter()
        .filter_map(|row| usize::try_from(row).ok())
        .collect())
}

async fn remember_withheld(
    connection: &mut PgConnection,
    range: &Range,
    dropped: &Dropped,
) -> Result<(), sqlx::Error> {
    let (children, keys): (Vec<Uuid>, Vec<Uuid>) = range
        .withheld
        .iter()
        .filter(|(_, child)| !dropped.erased_children.contains(*child))
        .map(|(key, child)| (*child, Uuid::from_bytes(*key)))
        .unzip();
    if children.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO withheld_seen
             (child_id, topic, topic_incarnation, partition, first_offset, received_on, keys)
         SELECT child_id, $3, $4, $5, $6, $7, array_agg(key)
         FROM unnest($1::uuid[], $2::uuid[]) AS withheld (child_id, key)
         GROUP BY child_id ORDER BY child_id
         ON CONFLICT DO NOTHING",
    )
    .bind(children)
    .bind(keys)
    .bind(&*range.part.topic)
    .bind(&*range.part.incarnation)
    .bind(range.part.partition)
    .bind(range.part.expected)
    .bind(utc_day(range.newest_received_at))
    .execute(connection)
    .await?;
    Ok(())
}

async fn quarantine(
    connection: &mut PgConnection,
    range: &Range,
    records: impl Iterator<Item = &Quarantined>,
) -> Result<(), sqlx::Error> {
    for record in records {
        sqlx::query(
            "INSERT INTO quarantine
                 (consumer, topic, partition, kafka_offset, topic_incarnation, code, detail, record)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT DO NOTHING",
        )
        .bind(CONSUMER)
        .bind(&*range.part.topic)
        .bind(range.part.partition)
        .bind(record.offset)
        .bind(&*range.part.incarnation)
        .bind(&record.code)
        .bind(&record.detail)
        .bind(&record.record)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Forgets, every hour for ever, withheld events that are too old for another copy to come. Their
/// age is measured against what has been consumed, not against the clock: a sink that is weeks
/// behind must not forget what it is about to need.
pub(crate) async fn forget_periodically(pool: &PgPool, days: u32) -> Infallible {
    loop {
        if let Err(error) = forget(pool, days.into()).await {
            tracing::warn!(%error, "old rows of withheld_seen could not be dropped; the next hour tries again");
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
}

async fn forget(pool: &PgPool, days: u64) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    ledger::forget(&mut connection, CONSUMER, days).await?;
    let Some(reached) = positions::consumed_horizon(&mut connection, CONSUMER).await? else {
        return Ok(());
    };
    sqlx::query("DELETE FROM withheld_seen WHERE received_on < $1")
        .bind(reached.date_naive() - Days::new(days))
        .execute(&mut *connection)
        .await?;
    Ok(())
}

fn utc_day(unix_ms: i64) -> Option<NaiveDate> {
    DateTime::from_timestamp_millis(unix_ms).map(|at| at.date_naive())
}
