//! What the stores know of records and events.

use ahash::{AHashMap, AHashSet};
use chrono::{DateTime, NaiveDate, Utc};
use clickhouse::Row;
use rivulet_consumer::ledger::Account;
use rivulet_events::{ChildId, EventType, Identity, ids::RESET_CLOCK_DAY};
use serde::Deserialize;
use sqlx::{PgConnection, PgPool, postgres::PgBindIterExt as _};
use uuid::Uuid;

use crate::{Error, log::OffsetRange};

/// Identities in one query's text, which ClickHouse reads no more than 256 KiB of.
const IDENTITIES: usize = 1_000;

/// Where a consumer is in a partition.
#[derive(Debug)]
pub(crate) struct Position {
    pub(crate) incarnation: String,
    pub(crate) next_offset: i64,
    /// The offset from which on the ledger is complete, up to `next_offset`.
    pub(crate) ledger_from: i64,
}

/// Consumer, topic and partition.
pub(crate) type ConsumerPartition = (String, String, i32);

/// Positions and ledger at one moment.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) positions: AHashMap<ConsumerPartition, Position>,
    /// By partition and by hour since 1970. Only of the incarnation that the consumer has a position in.
    pub(crate) ledger: AHashMap<(ConsumerPartition, i64), Account>,
}

impl Books {
    /// Where a consumer is in the log of a range; `None` while it has not opened the partition, or has it in
    /// another incarnation.
    pub(crate) fn position(&self, consumer: &str, range: &OffsetRange) -> Option<&Position> {
        let position = self.positions.get(&range.of_consumer(consumer))?;
        (position.incarnation == range.incarnation).then_some(position)
    }
}

/// Where the consumers are.
pub(crate) async fn positions(
    conn: &mut PgConnection,
) -> Result<AHashMap<ConsumerPartition, Position>, Error> {
    type Row = (String, String, i32, String, i64, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT consumer, topic, partition, topic_incarnation, next_offset,
                CASE ledger_to WHEN next_offset THEN ledger_from ELSE next_offset END
         FROM kafka_positions",
    )
    .fetch_all(conn)
    .await?;
    let position = |(consumer, topic, partition, incarnation, next_offset, ledger_from): Row| {
        let position = Position {
            incarnation,
            next_offset,
            ledger_from,
        };
        ((consumer, topic, partition), position)
    };
    Ok(rows.into_iter().map(position).collect())
}

/// The books, with the hours in `since..until`.
pub(crate) async fn books(pool: &PgPool, hours: std::ops::Range<i64>) -> Result<Books, Error> {
    let mut tx = pool
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let mut books = Books {
        positions: positions(&mut tx).await?,
        ledger: AHashMap::new(),
    };
    type LedgerRow = (String, String, i32, DateTime<Utc>, Vec<i64>);
    let rows: Vec<LedgerRow> = sqlx::query_as(
        "SELECT consumer, topic, partition, hour,
                ARRAY[counted, duplicates, quarantined, withheld, erased, revoked]
         FROM consumer_ledger JOIN kafka_positions
             USING (consumer, topic, partition, topic_incarnation)
         WHERE hour >= to_timestamp($1 * 3600) AND hour < to_timestamp($2 * 3600)",
    )
    .bind(hours.start)
    .bind(hours.end)
    .fetch_all(&mut *tx)
    .await?;
    for (consumer, topic, partition, hour, sums) in rows {
        let sum = |at: usize| sums.get(at).map_or(0, |sum| sum.unsigned_abs());
        let account = Account {
            counted: sum(0),
            duplicates: sum(1),
            quarantined: sum(2),
            withheld: sum(3),
            erased: sum(4),
            revoked: sum(5),
        };
        let hour = hour.timestamp().div_euclid(3_600);
        books
            .ledger
            .insert(((consumer, topic, partition), hour), account);
    }
    Ok(books)
}

/// Of these identities, those that the rollups have not counted.
pub(crate) async fn uncounted(
    pool: &PgPool,
    identities: impl Iterator<Item = Identity>,
) -> Result<AHashSet<Identity>, Error> {
    let mut by_day: AHashMap<NaiveDate, AHashSet<[u8; 16]>> = AHashMap::new();
    for identity in identities {
        by_day.entry(identity.day).or_default().insert(identity.key);
    }
    // The index is used whatever the statistics of a day say. If a day has no partition, its identities are in that of
    // reset clocks. A key has the day in it.
    let mut tx = pool
        .begin_with("BEGIN READ ONLY; SET LOCAL enable_seqscan = off")
        .await?;
    let mut uncounted = AHashSet::new();
    for (day, mut keys) in by_day {
        let counted: Vec<Uuid> = sqlx::query_scalar(
            "SELECT key FROM event_seen WHERE day IN ($1, $2) AND key = ANY ($3)",
        )
        .bind(day)
        .bind(RESET_CLOCK_DAY)
        .bind(keys.iter().map(|key| Uuid::from_bytes(*key)).bind_iter())
        .fetch_all(&mut *tx)
        .await?;
        for key in counted {
            keys.remove(key.as_bytes());
        }
        uncounted.extend(keys.into_iter().map(|key| Identity { day, key }));
    }
    Ok(uncounted)
}

/// Of these offsets of a range, those that the consumer set aside, including those that were replayed or dropped since.
/// Each with what the quarantine says of it.
pub(crate) async fn quarantined(
    pool: &PgPool,
    consumer: &str,
    range: &OffsetRange,
    offsets: &[i64],
) -> Result<AHashMap<i64, String>, Error> {
    if offsets.is_empty() {
        return Ok(AHashMap::new());
    }
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT kafka_offset, said FROM (
             SELECT consumer, topic, partition, topic_incarnation, kafka_offset,
                    'quarantined: ' || code AS said
             FROM quarantine
             UNION ALL
             SELECT consumer, topic, partition, topic_incarnation, kafka_offset,
                    action || ' from quarantine: ' || code
             FROM quarantine_actions
         ) AS q
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND topic_incarnation = $4
           AND kafka_offset = ANY ($5)",
    )
    .bind(consumer)
    .bind(&range.topic)
    .bind(range.partition)
    .bind(&range.incarnation)
    .bind(offsets)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().collect())
}

/// Of these identities of a range's type, those that the sink keeps out of ClickHouse because their
/// first copy was withheld.
pub(crate) async fn withheld(
    pool: &PgPool,
    range: &OffsetRange,
    events: &[(ChildId, Identity)],
) -> Result<AHashSet<[u8; 16]>, Error> {
    if events.is_empty() {
        return Ok(AHashSet::new());
    }
    let found: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT asked.key FROM unnest($1::uuid[], $2::uuid[]) AS asked (child_id, key)
         JOIN withheld_seen AS seen USING (child_id)
         WHERE seen.topic = $3 AND asked.key = ANY (seen.keys)",
    )
    .bind(events.iter().map(|(child, _)| child.uuid()).bind_iter())
    .bind(
        events
            .iter()
            .map(|(_, identity)| Uuid::from_bytes(identity.key))
            .bind_iter(),
    )
    .bind(&range.topic)
    .fetch_all(pool)
    .await?;
    Ok(found.into_iter().map(Uuid::into_bytes).collect())
}

/// The offsets of a range that have a row in ClickHouse, copies that are not merged yet among them.
pub(crate) async fn stored_offsets(
    clickhouse: &clickhouse::Client,
    range: &OffsetRange,
) -> Result<Offsets, Error> {
    let mut offsets = Offsets::new(range);
    if range.from == range.to {
        return Ok(offsets);
    }
    let mut rows = clickhouse
        .query(
            "SELECT kafka_offset FROM events
             WHERE event_type = ? AND kafka_topic = ? AND kafka_partition = ?
               AND topic_incarnation = ? AND kafka_offset >= ? AND kafka_offset < ?",
        )
        .bind(range.event_type.as_str())
        .bind(&range.topic)
        .bind(range.partition)
        .bind(&range.incarnation)
        .bind(range.from)
        .bind(range.to)
        .fetch::<u64>()?;
    while let Some(offset) = rows.next().await? {
        offsets.insert(offset.cast_signed());
    }
    Ok(offsets)
}

/// A set of offsets of a range, a bit each.
#[derive(Debug)]
pub(crate) struct Offsets {
    from: i64,
    bits: Vec<u64>,
}

impl Offsets {
    fn new(range: &OffsetRange) -> Self {
        let len = (range.to - range.from).unsigned_abs() as usize;
        Self {
            from: range.from,
            bits: vec![0; len.div_ceil(64)],
        }
    }

    fn bit_of(&self, offset: i64) -> (usize, u64) {
        let at = (offset - self.from).unsigned_abs() as usize;
        (at / 64, 1 << (at % 64))
    }

    fn insert(&mut self, offset: i64) {
        let (word, bit) = self.bit_of(offset);
        self.bits[word] |= bit;
    }

    pub(crate) fn contains(&self, offset: i64) -> bool {
        let (word, bit) = self.bit_of(offset);
        self.bits[word] & bit != 0
    }
}

/// An event's row in ClickHouse, as far as it tells where it came from.
#[derive(Clone, Debug, Deserialize, Row)]
pub(crate) struct Stored {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) event_id: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub(crate) child_id: Uuid,
    pub(crate) event_type: String,
    #[serde(with = "clickhouse::serde::chrono::date")]
    pub(crate) id_day: NaiveDate,
    pub(crate) kafka_partition: i32,
    pub(crate) kafka_offset: u64,
    pub(crate) topic_incarnation: String,
}

const STORED: &str = "SELECT event_id, child_id, event_type, id_day, kafka_partition, kafka_offset, \
                      topic_incarnation FROM history";

/// The rows of these events, known by child, id-day and id, of one type.
pub(crate) async fn stored(
    clickhouse: &clickhouse::Client,
    kind: EventType,
    events: &[(ChildId, NaiveDate, Uuid)],
) -> Result<Vec<Stored>, Error> {
    let mut found = Vec::new();
    for some in events.chunks(IDENTITIES) {
        let keys: Vec<_> = some
            .iter()
            .map(|(child, day, id)| {
                format!(
                    "('{}','{day}','{kind}','{id}')",
                    child.uuid(),
                    kind = kind.as_str()
                )
            })
            .collect();
        let query = format!(
            "{STORED} WHERE (child_id, id_day, event_type, event_id) IN ({})",
            keys.join(",")
        );
        found.extend(clickhouse.query(&query).fetch_all::<Stored>().await?);
    }
    Ok(found)
}

/// The rows of events with this id, whoever sent them: a scan.
pub(crate) async fn stored_as(
    clickhouse: &clickhouse::Client,
    id: Uuid,
) -> Result<Vec<Stored>, Error> {
    let query = format!("{STORED} WHERE event_id = '{id}'");
    Ok(clickhouse.query(&query).fetch_all::<Stored>().await?)
}
