//! Follows one event through all stores.

use chrono::{DateTime, Utc};
use memchr::memmem;
use rdkafka::Message as _;
use rivulet_events::{ChildId, EventType};
use rivulet_registry::{
    revocations::{Revocations, Withdrawn},
    tombstones,
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Error, HISTORY, ROLLUPS, Stores,
    log::{LoggedEvent, OffsetRange, Stretch},
    stores::{self, Books, Stored},
};

/// All that is known of an event: an id of one child and type.
#[derive(Debug, Serialize)]
pub struct Trace {
    /// Its type.
    pub event_type: &'static str,
    /// Its child; none for records that name the id and cannot be read. For a person who asked for
    /// this very event, never for a log.
    pub child_id: Option<Uuid>,
    /// Its records in the log, in the order of their offsets; none when Kafka keeps them no longer.
    pub copies: Vec<Copy>,
    /// Its row in ClickHouse: partition and offset of the copy that it was made from.
    pub history: Option<(i32, i64)>,
}

/// One record of the event.
#[derive(Debug, Serialize)]
pub struct Copy {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// When it was accepted, where the record can be read.
    pub received_at: Option<DateTime<Utc>>,
    /// What the aggregator made of it.
    pub rollups: RecordStatus,
    /// What the sink made of it.
    pub history: RecordStatus,
}

/// What a consumer made of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// It has not come to it yet.
    Waiting,
    /// It took effect: it is counted in the rollups, or it is a row of the history.
    Counted,
    /// A copy of the record at this offset, which took effect.
    DuplicateOf(i64),
    /// Kept out of the history, because `analytics` was not granted for this copy or the first.
    Withheld,
    /// A consent was withdrawn: it was not stored, or is not any more.
    Withdrawn,
    /// Its child was erased: nothing of it is kept, whatever was stored before.
    Erased,
    /// Could not be processed. The text is what the quarantine says.
    Quarantined(String),
    /// The consumer passed it, and it is nowhere: `rivulet verify` finds it too.
    Unaccounted,
}

struct Found {
    range: usize,
    offset: i64,
    event: Option<LoggedEvent>,
}

/// Everything about events with this id: usually one; ids are the clients', and two children may
/// have the same. Reads the log from `since` (Unix milliseconds) to its end.
///
/// # Errors
/// A store is out of reach.
pub async fn trace(stores: &Stores, id: Uuid, since: i64) -> Result<Vec<Trace>, Error> {
    let log = Stretch::open(&stores.cluster, since, i64::MAX).await?;
    let ranges = log.ranges.clone();
    let finder = memmem::Finder::new(id.to_string().as_bytes()).into_owned();
    let (mut chunks, reading) = log.read(move |range, message| {
        let payload = message.payload().unwrap_or_default();
        finder.find(payload)?;
        let event = LoggedEvent::read(range.event_type, payload);
        let is_other = event.is_some_and(|event| event.id != id);
        (!is_other).then_some((message.offset(), event))
    });
    let mut found = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        let range = chunk.range;
        found.extend(chunk.records.into_iter().map(|(offset, event)| Found {
            range,
            offset,
            event,
        }));
    }
    reading.await??;
    found.sort_by_key(|found| (found.range, found.offset));
    // This is read after the log. A consumer that has passed a record by now has processed it.
    let books = stores::books(&stores.pool, 0..0).await?;
    let rows = stores::stored_as(&stores.clickhouse, id).await?;
    judge(stores, &ranges, &found, &books, &rows).await
}

async fn judge(
    stores: &Stores,
    ranges: &[OffsetRange],
    found: &[Found],
    books: &Books,
    rows: &[Stored],
) -> Result<Vec<Trace>, Error> {
    let mut traces: Vec<Trace> = Vec::new();
    for row in rows {
        let kind = EventType::ALL
            .iter()
            .find(|kind| kind.as_str() == row.event_type);
        traces.extend(kind.map(|kind| Trace {
            event_type: kind.as_str(),
            child_id: Some(row.child_id),
            copies: Vec::new(),
            history: Some((row.kafka_partition, row.kafka_offset.cast_signed())),
        }));
    }
    for found in found {
        let range = &ranges[found.range];
        let (event_type, child_id) = (
            range.event_type.as_str(),
            found.event.map(|event| event.child.uuid()),
        );
        let of = |trace: &Trace| trace.event_type == event_type && trace.child_id == child_id;
        let index = traces.iter().position(of).unwrap_or_else(|| {
            traces.push(Trace {
                event_type,
                child_id,
                copies: Vec::new(),
                history: None,
            });
            traces.len() - 1
        });
        let row = rows.iter().find(|row| {
            row.event_type == event_type
                && Some(row.child_id) == child_id
                && Some(row.id_day) == found.event.map(|event| event.identity.day)
        });
        let passed = |consumer: &str| {
            let position = books.position(consumer, range);
            position.is_some_and(|position| found.offset < position.next_offset)
        };
        let copy = Copy {
            topic: range.topic.clone(),
            partition: range.partition,
            offset: found.offset,
            received_at: found
                .event
                .and_then(|event| DateTime::from_timestamp_millis(event.taken.received_at)),
            rollups: if passed(ROLLUPS) {
                in_rollups(stores, range, found, &traces[index].copies).await?
            } else {
                RecordStatus::Waiting
            },
            history: if passed(HISTORY) {
                in_history(stores, range, found, row).await?
            } else {
                RecordStatus::Waiting
            },
        };
        traces[index].copies.push(copy);
    }
    Ok(traces)
}

async fn in_rollups(
    stores: &Stores,
    range: &OffsetRange,
    found: &Found,
    earlier: &[Copy],
) -> Result<RecordStatus, Error> {
    if let Some(reason) = set_aside(stores, ROLLUPS, range, found).await? {
        return Ok(RecordStatus::Quarantined(reason));
    }
    let Some(event) = found.event else {
        return Ok(RecordStatus::Unaccounted);
    };
    let uncounted = stores::uncounted(&stores.pool, [event.identity].into_iter()).await?;
    let counted = earlier
        .iter()
        .find(|copy| copy.rollups == RecordStatus::Counted);
    Ok(match counted {
        _ if is_erased(stores, event.child).await? => RecordStatus::Erased,
        _ if withdrawn(stores, event).await?.from_all => RecordStatus::Withdrawn,
        _ if !uncounted.is_empty() => RecordStatus::Unaccounted,
        None => RecordStatus::Counted,
        Some(copy) => RecordStatus::DuplicateOf(copy.offset),
    })
}

async fn in_history(
    stores: &Stores,
    range: &OffsetRange,
    found: &Found,
    row: Option<&Stored>,
) -> Result<RecordStatus, Error> {
    if let Some(row) = row {
        let offset = row.kafka_offset.cast_signed();
        let is_of =
            row.topic_incarnation == range.incarnation && row.kafka_partition == range.partition;
        if is_of && offset == found.offset {
            return Ok(RecordStatus::Counted);
        }
        return Ok(RecordStatus::DuplicateOf(offset));
    }
    if let Some(reason) = set_aside(stores, HISTORY, range, found).await? {
        return Ok(RecordStatus::Quarantined(reason));
    }
    let Some(event) = found.event else {
        return Ok(RecordStatus::Unaccounted);
    };
    if is_erased(stores, event.child).await? {
        return Ok(RecordStatus::Erased);
    }
    if withdrawn(stores, event).await?.from_history {
        return Ok(RecordStatus::Withdrawn);
    }
    let withheld = stores::withheld(&stores.pool, range, &[(event.child, event.identity)]).await?;
    if !event.analytics || !withheld.is_empty() {
        return Ok(RecordStatus::Withheld);
    }
    Ok(RecordStatus::Unaccounted)
}

async fn withdrawn(stores: &Stores, event: LoggedEvent) -> Result<Withdrawn, Error> {
    let mut revocations = Revocations::default();
    let conn = &mut *stores.pool.acquire().await?;
    revocations.read_all(conn).await?;
    Ok(revocations.of(event.taken, i64::MAX))
}

async fn is_erased(stores: &Stores, child: ChildId) -> Result<bool, Error> {
    let conn = &mut *stores.pool.acquire().await?;
    let erased = tombstones::erased(conn, &[child.uuid()]).await?;
    Ok(!erased.is_empty())
}

/// What the quarantine says of it.
async fn set_aside(
    stores: &Stores,
    consumer: &str,
    range: &OffsetRange,
    found: &Found,
) -> Result<Option<String>, Error> {
    let mut said = stores::quarantined(&stores.pool, consumer, range, &[found.offset]).await?;
    Ok(said.remove(&found.offset))
}
