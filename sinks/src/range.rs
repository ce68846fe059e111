//! A range of one partition's offsets on its way to ClickHouse: the unit that is begun, inserted
//! under one token, and finished.

use std::{collections::BTreeMap, sync::Arc};

use ahash::AHashMap;
use rivulet_consumer::{
    Part, Raw,
    ledger::{self, Account},
};
use rivulet_events::{Consented, EventType, Record};
use rivulet_telemetry::Links;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{Config, row::Encoder, rows::Rows};

/// A record for the quarantine table.
#[derive(Debug)]
pub(crate) struct Quarantined {
    pub(crate) offset: i64,
    pub(crate) code: String,
    pub(crate) detail: String,
    pub(crate) record: Vec<u8>,
}

/// What becomes of a range's records, by the hour of their timestamps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    by_hour: BTreeMap<i64, Account>,
    /// From which offset on the records are of which hour.
    hours: Vec<(i64, i64)>,
}

impl Accounts {
    /// The record at this offset, the last so far, is of this hour.
    fn begin(&mut self, offset: i64, hour: i64) {
        if self.hours.last().is_none_or(|(_, last)| *last != hour) {
            self.hours.push((offset, hour));
        }
    }

    /// The account of the hour of a record that was taken.
    pub(crate) fn of(&mut self, offset: i64) -> &mut Account {
        let after = self.hours.partition_point(|(first, _)| *first <= offset);
        let hour = after.checked_sub(1).map_or(0, |at| self.hours[at].1);
        self.by_hour.entry(hour).or_default()
    }

    pub(crate) fn by_hour(&self) -> impl Iterator<Item = (i64, Account)> {
        self.by_hour.iter().map(|(hour, account)| (*hour, *account))
    }
}

/// Consecutive records of one partition, already in the form they are stored in.
#[derive(Debug)]
pub(crate) struct Range {
    /// Where they come from. Its `expected` is the range's first offset; its one record, without
    /// payload, is the range's last.
    pub(crate) part: Part,
    pub(crate) rows: Rows,
    /// Identity key and child of each event that `analytics` keeps out.
    pub(crate) withheld: AHashMap<[u8; 16], Uuid>,
    /// Of rows, by their offset, the `consent_epoch`, which ClickHouse does not get. Those that are not here have 0.
    pub(crate) consent_epochs: AHashMap<i64, i64>,
    pub(crate) withheld_events: u64,
    /// Events whose first copy was withheld.
    pub(crate) suppressed_events: u64,
    pub(crate) quarantined: Vec<Quarantined>,
    /// What becomes of the records.
    pub(crate) accounts: Accounts,
    quarantined_bytes: usize,
    pub(crate) oldest_received_at: i64,
    /// The largest `received_at` of the records, Unix milliseconds; 0 while none is known.
    pub(crate) newest_received_at: i64,
    /// When the first record was taken.
    pub(crate) opened: Instant,
    /// The requests that its records came with, for its span.
    pub(crate) links: Links,
}

impl Range {
    /// An empty range that begins at `first`, of the partition of `part`. If the part is a range that was begun before,
    /// so is this.
    pub(crate) fn new(part: &Part, first: i64, now: Instant) -> Self {
        Self {
            part: Part {
                topic: Arc::clone(&part.topic),
                event_type: part.event_type,
                partition: part.partition,
                incarnation: Arc::clone(&part.incarnation),
                epoch: part.epoch,
                expected: first,
                pending_end: part.pending_end,
                records: Vec::new(),
            },
            rows: Rows::default(),
            withheld: AHashMap::new(),
            consent_epochs: AHashMap::new(),
            withheld_events: 0,
            suppressed_events: 0,
            quarantined: Vec::new(),
            accounts: Accounts::default(),
            quarantined_bytes: 0,
            oldest_received_at: i64::MAX,
            newest_received_at: 0,
            opened: now,
            links: Links::default(),
        }
    }

    /// The first offset after the range.
    pub(crate) fn end(&self) -> i64 {
        self.part.next_offset()
    }

    pub(crate) fn event_type(&self) -> EventType {
        self.part.event_type
    }

    /// The deduplication token of the range. It never changes, so ClickHouse knows a repeated insert by it.
    pub(crate) fn token(&self) -> String {
        let Part {
            incarnation,
            topic,
            partition,
            expected,
            ..
        } = &self.part;
        format!(
            "{incarnation}:{topic}:{partition}:{expected}-{}",
            self.end() - 1
        )
    }

    /// Whether the range was begun before and is being formed again.
    pub(crate) fn is_begun(&self) -> bool {
        self.part.pending_end.is_some()
    }

    /// Whether it has grown to a limit.
    pub(crate) fn is_full(&self, config: &Config) -> bool {
        let records = self.rows.len() + self.withheld.len() + self.quarantined.len();
        records >= config.max_records || self.bytes() >= config.max_bytes
    }

    /// Memory held, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.bytes()
            + (self.withheld.len() + self.consent_epochs.len()) * 48
            + self.quarantined_bytes
    }

    /// Takes one record: as a row, as a withheld or suppressed event, or into quarantine.
    pub(crate) fn take(&mut self, encoder: &Encoder, raw: Raw) {
        let Raw {
            offset,
            timestamp,
            payload,
            link,
        } = raw;
        self.links.add(link.as_deref());
        self.part.records.clear();
        self.part.records.push(Raw {
            offset,
            timestamp,
            payload: Box::default(),
            link: None,
        });
        self.accounts.begin(offset, ledger::hour(timestamp));
        self.accounts.of(offset).counted += 1;
        let record = match Record::decode(self.part.event_type, &payload) {
            Ok(record) => record,
            Err(error) => {
                let (code, detail) = (error.code().to_owned(), error.to_string());
                return self.quarantine(Quarantined {
                    offset,
                    code,
                    detail,
                    record: payload.into(),
                });
            }
        };
        self.oldest_received_at = self.oldest_received_at.min(record.received_at);
        self.newest_received_at = self.newest_received_at.max(record.received_at);
        let identity = record.identity();
        let Some(consented) = Consented::check(&record) else {
            self.withheld_events += 1;
            self.accounts.of(offset).withheld += 1;
            self.withheld.insert(identity.key, record.child_id.uuid());
            return;
        };
        // Records come in the order of their offsets, so the withheld copy has the lower one.
        if !self.withheld.is_empty() && self.withheld.contains_key(&identity.key) {
            self.suppress(offset);
            return;
        }
        let encode = |out: &mut Vec<u8>| {
            encoder.row(consented, identity.day, offset.unsigned_abs(), out);
        };
        self.rows.push(encode);
        if record.consent_epoch != 0 {
            self.consent_epochs.insert(offset, record.consent_epoch);
        }
    }

    /// The record at this offset is no row: the first copy of its event was withheld.
    pub(crate) fn suppress(&mut self, offset: i64) {
        self.suppressed_events += 1;
        let account = self.accounts.of(offset);
        account.counted -= 1;
        account.duplicates += 1;
    }

    /// The record at this offset cannot be stored.
    pub(crate) fn set_aside(&mut self, offset: i64) {
        let account = self.accounts.of(offset);
        account.counted -= 1;
        account.quarantined += 1;
    }

    fn quarantine(&mut self, mut record: Quarantined) {
        self.set_aside(record.offset);
        // PostgreSQL's text cannot hold a NUL, which a quoted record may.
        record.detail = record.detail.replace('\0', "\u{fffd}");
        self.quarantined_bytes += record.record.len() + 256;
        self.quarantined.push(record);
    }
}
