//! Compares hours of the log with the ledger and the stores.

use std::{collections::BTreeMap, ops::Range};

use ahash::{AHashMap, AHashSet};
use chrono::{DateTime, NaiveDate, Utc};
use rdkafka::Message as _;
use rivulet_consumer::ledger;
use rivulet_events::ChildId;
use rivulet_registry::{
    revocations::{self, Revocations, Withdrawn},
    tombstones,
};
use serde::Serialize;
use uuid::Uuid;

use crate::metrics::{UNACCOUNTED_EVENTS, VERIFIED_RECORDS, VERIFIED_TIMESTAMP_SECONDS};
use crate::{
    Error, HISTORY, ROLLUPS, Stores,
    both::{Both, Consumer},
    log::{Chunk, LoggedEvent, OffsetRange, Stretch},
    stores::{self, Books, Offsets},
};

pub use rivulet_consumer::ledger::Account;

const HOUR_MS: i64 = 3_600_000;

/// Records may be in the log in another order than that of their timestamps, by no more than a
/// producer takes to deliver them.
const DISORDER_MS: i64 = 10 * 60_000;

/// Findings that are listed one by one; the others are only counted.
const LISTED: usize = 100;

/// What was compared, and what does not balance.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The beginning of the first hour that was compared, by Kafka's timestamps.
    pub since: DateTime<Utc>,
    /// The end of the last hour that was compared.
    pub until: DateTime<Utc>,
    /// A row a topic, partition and hour that has records or books, sorted.
    pub rows: Vec<Row>,
    /// The first of the findings.
    pub findings: Vec<Finding>,
    /// What could not be compared, and why.
    pub notes: Vec<String>,
}

impl Report {
    /// Events that are not where they should be, and differences in the books, of both consumers.
    #[must_use]
    pub fn unaccounted(&self) -> u64 {
        let sides = self
            .rows
            .iter()
            .flat_map(|row| [&row.rollups, &row.history]);
        sides.map(|side| side.unaccounted).sum()
    }

    /// Tells the outcome as metrics, and at ERROR when something does not balance.
    pub fn publish(&self) {
        let rollups: u64 = self.rows.iter().map(|row| row.rollups.unaccounted).sum();
        let history: u64 = self.rows.iter().map(|row| row.history.unaccounted).sum();
        for (consumer, unaccounted) in [(ROLLUPS, rollups), (HISTORY, history)] {
            UNACCOUNTED_EVENTS.with([consumer]).set(unaccounted as f64);
        }
        let records: u64 = self.rows.iter().map(|row| row.records).sum();
        VERIFIED_RECORDS.set(records as f64);
        VERIFIED_TIMESTAMP_SECONDS.set(Utc::now().timestamp() as f64);
        if self.unaccounted() > 0 {
            tracing::error!(
                events = self.unaccounted(),
                since = %self.since,
                "events are unaccounted for: `rivulet verify` names them"
            );
        }
    }
}

/// One hour of one partition.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The hour of the records' Kafka timestamps.
    pub hour: DateTime<Utc>,
    /// Records in the log.
    pub records: u64,
    /// What the aggregator made of them.
    pub rollups: Side,
    /// What the sink made of them.
    pub history: Side,
}

/// One consumer's side of a row.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Side {
    /// By its books: took effect. For the sink that is each copy that was stored, and what was withheld.
    pub counted: u64,
    /// By its books: copies of events that took effect before.
    pub duplicates: u64,
    /// By its books: in quarantine, or taken from there since.
    pub quarantined: u64,
    /// By its books, of the counted: not for ClickHouse.
    pub withheld: u64,
    /// By its books: dropped, because the child was erased.
    pub erased: u64,
    /// By its books: dropped, because the consent was withdrawn on which it had been taken.
    pub revoked: u64,
    /// Records that it has not come to yet.
    pub waiting: u64,
    /// Records that it passed and that are nowhere, or where they should not be; and records by
    /// which its books differ from the log.
    pub unaccounted: u64,
}

impl std::iter::Sum for Side {
    fn sum<I: Iterator<Item = Self>>(sides: I) -> Self {
        sides.fold(Self::default(), |sum, side| Self {
            counted: sum.counted + side.counted,
            duplicates: sum.duplicates + side.duplicates,
            quarantined: sum.quarantined + side.quarantined,
            withheld: sum.withheld + side.withheld,
            erased: sum.erased + side.erased,
            revoked: sum.revoked + side.revoked,
            waiting: sum.waiting + side.waiting,
            unaccounted: sum.unaccounted + side.unaccounted,
        })
    }
}

/// Something that does not balance.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// `aggregator` or `history`.
    pub consumer: &'static str,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The hour of the record's Kafka timestamp.
    pub hour: DateTime<Utc>,
    /// The record; none where the books as a whole differ.
    pub offset: Option<i64>,
    /// The event, where the record can be read.
    pub event_id: Option<Uuid>,
    /// What is wrong, for a person.
    pub problem: String,
}

const WITHDRAWN: &str = "is in ClickHouse, though the consent was withdrawn";

/// What is compared of a record.
struct Seen {
    offset: i64,
    hour: i64,
    event: Option<LoggedEvent>,
}

/// Compares the hours since 1970 in `hours`. It reads the log of these hours, so it takes as long as a
/// consumer needs for them; nothing is locked and nothing is changed.
///
/// # Errors
/// A store is out of reach. That something does not balance is no error: see [`Report::unaccounted`].
pub async fn verify(stores: &Stores, hours: Range<i64>) -> Result<Report, Error> {
    // The ledger is read first. The log and the stores are read later, so they can only have more.
    let books = stores::books(&stores.pool, hours.clone()).await?;
    let since = hours.start * HOUR_MS - DISORDER_MS;
    let until = hours.end * HOUR_MS + DISORDER_MS;
    let log = Stretch::open(&stores.cluster, since, until).await?;
    let ranges = log.ranges.clone();
    let mut audit = Audit::new(stores, &books, &ranges, hours.clone()).await?;
    let (mut chunks, reading) = log.read(move |range, message| {
        let hour = ledger::hour(message.timestamp().to_millis().unwrap_or(0));
        hours.contains(&hour).then(|| Seen {
            offset: message.offset(),
            hour,
            event: LoggedEvent::read(range.event_type, message.payload().unwrap_or_default()),
        })
    });
    while let Some(chunk) = chunks.recv().await {
        audit.check(chunk).await?;
    }
    reading.await??;
    Ok(audit.report())
}

struct Audit<'a> {
    stores: &'a Stores,
    books: &'a Books,
    ranges: &'a [OffsetRange],
    hours: Range<i64>,
    /// The rows of each range that ClickHouse has.
    stored: Vec<Offsets>,
    /// Consents that were withdrawn, and when that was first looked at.
    revocations: Revocations,
    began: DateTime<Utc>,
    /// By range and hour.
    rows: BTreeMap<(usize, i64), Counts>,
    findings: Vec<Finding>,
    notes: Vec<String>,
}

#[derive(Default)]
struct Counts {
    records: u64,
    /// Some of the hour is from before the ledger began, or gone from the log.
    partial: bool,
    waiting: Both<u64>,
    unaccounted: Both<u64>,
}

impl<'a> Audit<'a> {
    async fn new(
        stores: &'a Stores,
        books: &'a Books,
        ranges: &'a [OffsetRange],
        hours: Range<i64>,
    ) -> Result<Self, Error> {
        let began = sqlx::query_scalar("SELECT now()")
            .fetch_one(&stores.pool)
            .await?;
        let mut revocations = Revocations::default();
        revocations
            .read_all(&mut *stores.pool.acquire().await?)
            .await?;
        let mut stored = Vec::new();
        for range in ranges {
            stored.push(stores::stored_offsets(&stores.clickhouse, range).await?);
        }
        let mut notes = Vec::new();
        for range in ranges {
            for consumer in Consumer::ALL.map(Consumer::name) {
                let why = match books.positions.get(&range.of_consumer(consumer)) {
                    None => "has never opened it",
                    Some(position) if position.incarnation != range.incarnation => {
                        "is in a topic of this name that is gone: it was deleted and created again"
                    }
                    Some(_) => continue,
                };
                notes.push(format!(
                    "{}[{}]: {consumer} {why}; its records are waiting",
                    range.topic, range.partition
                ));
            }
        }
        Ok(Self {
            stores,
            books,
            ranges,
            hours,
            stored,
            revocations,
            began,
            rows: BTreeMap::new(),
            findings: Vec::new(),
            notes,
        })
    }

    async fn check(&mut self, chunk: Chunk<Seen>) -> Result<(), Error> {
        let range = &self.ranges[chunk.range];
        let positions = Both::of_each(|consumer| self.books.position(consumer.name(), range));
        let has_passed = |consumer: Consumer, offset: i64| {
            let position = positions.of(consumer);
            position.is_some_and(|position| offset < position.next_offset)
        };
        for seen in &chunk.records {
            let counts = self.rows.entry((chunk.range, seen.hour)).or_default();
            counts.records += 1;
            for consumer in Consumer::ALL {
                *counts.waiting.of_mut(consumer) += u64::from(!has_passed(consumer, seen.offset));
                let position = positions.of(consumer);
                counts.partial |=
                    position.is_some_and(|position| seen.offset < position.ledger_from);
            }
            // The log may have lost what came before this record in the same hour.
            counts.partial |= seen.offset == range.low && range.low > 0;
        }
        let passed = |consumer: Consumer| {
            let records = chunk.records.iter();
            records.filter(move |seen| has_passed(consumer, seen.offset))
        };

        let events = passed(Consumer::Rollups).filter_map(|seen| Some(seen.event?.identity));
        let uncounted = stores::uncounted(&self.stores.pool, events).await?;
        let suspects = passed(Consumer::Rollups)
            .filter(|seen| {
                seen.event
                    .is_none_or(|event| uncounted.contains(&event.identity))
            })
            .map(|seen| (seen, "was passed and is neither counted nor in quarantine"));
        self.report_missing(Consumer::Rollups, chunk.range, suspects.collect())
            .await?;

        let suspects = self
            .not_in_history(chunk.range, passed(Consumer::History))
            .await?;
        self.report_missing(Consumer::History, chunk.range, suspects)
            .await
    }

    /// The records that the sink passed and that are not where they should be. The quarantine is not asked here.
    async fn not_in_history<'s>(
        &self,
        range: usize,
        passed: impl Iterator<Item = &'s Seen>,
    ) -> Result<Vec<(&'s Seen, &'static str)>, Error> {
        let stored = &self.stored[range];
        let range = &self.ranges[range];
        let mut suspects = Vec::new();
        let mut elsewhere: Vec<(&Seen, LoggedEvent)> = Vec::new();
        for seen in passed {
            let has_row = stored.contains(seen.offset);
            match seen.event {
                Some(event) if event.analytics && !has_row => elsewhere.push((seen, event)),
                Some(event) if !event.analytics && has_row => {
                    suspects.push((seen, "is in ClickHouse, though `analytics` was not granted"));
                }
                Some(event) if has_row && self.withdrawn(event).from_history => {
                    suspects.push((seen, WITHDRAWN));
                }
                None => suspects.push((seen, "cannot be read and is not in quarantine")),
                Some(_) => {}
            }
        }
        // These may have been merged with a copy, or their first copy was withheld.
        let keys: Vec<(ChildId, NaiveDate, Uuid)> = elsewhere
            .iter()
            .map(|(_, event)| (event.child, event.identity.day, event.id))
            .collect();
        let found = stores::stored(&self.stores.clickhouse, range.event_type, &keys).await?;
        let found: AHashSet<_> = found
            .iter()
            .map(|row| (row.child_id, row.id_day, row.event_id))
            .collect();
        elsewhere.retain(|(_, event)| {
            !found.contains(&(event.child.uuid(), event.identity.day, event.id))
        });
        let events: Vec<_> = elsewhere
            .iter()
            .map(|(_, event)| (event.child, event.identity))
            .collect();
        let withheld = stores::withheld(&self.stores.pool, range, &events).await?;
        elsewhere.retain(|(_, event)| !withheld.contains(&event.identity.key));
        let problem = "was passed and is neither in ClickHouse nor in quarantine";
        suspects.extend(elsewhere.into_iter().map(|(seen, _)| (seen, problem)));
        Ok(suspects)
    }

    /// Reports the suspects that are not in quarantine either.
    async fn report_missing(
        &mut self,
        consumer: Consumer,
        range: usize,
        suspects: Vec<(&Seen, &'static str)>,
    ) -> Result<(), Error> {
        let of = &self.ranges[range];
        // Of who was erased nothing is to be found, whatever was stored before.
        let children = suspects.iter().filter_map(|(seen, _)| seen.event);
        let mut children: Vec<Uuid> = children.map(|event| event.child.uuid()).collect();
        children.sort_unstable();
        children.dedup();
        let mut conn = self.stores.pool.acquire().await?;
        let erased = tombstones::erased(&mut conn, &children).await?;
        // What was on its way when a consent was withdrawn, and what was stored on it until then.
        self.revocations.read_all(&mut conn).await?;
        let unsettled = revocations::unsettled(&mut conn, &children, self.began).await?;
        // There are two in the pool, and the next question needs one.
        drop(conn);
        let offsets: Vec<i64> = suspects.iter().map(|(seen, _)| seen.offset).collect();
        let excused = stores::quarantined(&self.stores.pool, consumer.name(), of, &offsets).await?;
        for (seen, problem) in suspects {
            let is_gone = seen.event.is_some_and(|event| {
                let withdrawn = self.withdrawn(event);
                erased.contains(&event.child.uuid())
                    || match (problem, consumer) {
                        (WITHDRAWN, _) => unsettled.contains(&event.child.uuid()),
                        (_, Consumer::Rollups) => withdrawn.from_all,
                        (_, Consumer::History) => withdrawn.from_history,
                    }
            });
            if is_gone || excused.contains_key(&seen.offset) {
                continue;
            }
            let counts = self.rows.entry((range, seen.hour)).or_default();
            *counts.unaccounted.of_mut(consumer) += 1;
            if self.findings.len() < LISTED {
                self.findings.push(Finding {
                    consumer: consumer.name(),
                    topic: of.topic.clone(),
                    partition: of.partition,
                    hour: start(seen.hour),
                    offset: Some(seen.offset),
                    event_id: seen.event.map(|event| event.id),
                    problem: format!("the record {problem}"),
                });
            }
        }
        Ok(())
    }

    fn withdrawn(&self, event: LoggedEvent) -> Withdrawn {
        self.revocations.of(event.taken, i64::MAX)
    }

    fn report(mut self) -> Report {
        let ranges: AHashMap<_, _> = (0..)
            .zip(self.ranges)
            .map(|(index, range)| ((&*range.topic, range.partition), index))
            .collect();
        // Hours that are in the books alone.
        for ((_, topic, partition), hour) in self.books.ledger.keys() {
            if let Some(range) = ranges.get(&(&**topic, *partition))
                && self.ranges[*range].low == 0
            {
                self.rows.entry((*range, *hour)).or_default();
            }
        }
        let mut rows = Vec::new();
        for ((index, hour), counts) in std::mem::take(&mut self.rows) {
            let range = &self.ranges[index];
            let sides = Both::of_each(|consumer| self.side(consumer, range, hour, &counts));
            rows.push(Row {
                topic: range.topic.clone(),
                partition: range.partition,
                hour: start(hour),
                records: counts.records,
                rollups: sides.rollups,
                history: sides.history,
            });
        }
        Report {
            since: start(self.hours.start),
            until: start(self.hours.end),
            rows,
            findings: self.findings,
            notes: self.notes,
        }
    }

    fn side(
        &mut self,
        consumer: Consumer,
        range: &OffsetRange,
        hour: i64,
        counts: &Counts,
    ) -> Side {
        let account = self
            .books
            .ledger
            .get(&(range.of_consumer(consumer.name()), hour));
        let account = account.copied().unwrap_or_default();
        let mut side = Side {
            counted: account.counted,
            duplicates: account.duplicates,
            quarantined: account.quarantined,
            withheld: account.withheld,
            erased: account.erased,
            revoked: account.revoked,
            waiting: *counts.waiting.of(consumer),
            unaccounted: *counts.unaccounted.of(consumer),
        };
        let booked = account.records();
        let passed = counts.records - side.waiting;
        let is_open = self.books.position(consumer.name(), range).is_some();
        if !counts.partial && booked != passed && is_open {
            side.unaccounted += booked.abs_diff(passed);
            self.findings.push(Finding {
                consumer: consumer.name(),
                topic: range.topic.clone(),
                partition: range.partition,
                hour: start(hour),
                offset: None,
                event_id: None,
                problem: format!(
                    "it passed {passed} records of this hour and its books have {booked}"
                ),
            });
        }
        side
    }
}

fn start(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(hour * 3_600, 0).unwrap_or_default()
}
