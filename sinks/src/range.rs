//! A range of one partition's offsets on its way to ClickHouse: the unit that is begun, inserted
//! under one token, and finished.

use std::{ops::Range as Span, sync::Arc};

use ahash::AHashMap;
use bytes::Bytes;
use rivulet_consumer::{Part, Raw};
use rivulet_events::{EventType, Record};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Config,
    row::{Encoder, RowHead, Unstorable},
};

/// Encoded rows, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    bytes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn start(&self, row: usize) -> usize {
        row.checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .copied()
            .unwrap_or(0)
    }

    /// The head of each row, in order.
    pub(crate) fn heads(&self) -> impl Iterator<Item = RowHead> {
        (0..self.len()).filter_map(|row| RowHead::read(self.bytes.get(self.start(row)..)?))
    }

    /// Takes out the rows whose index is in `dropped`, which is sorted.
    pub(crate) fn remove(&mut self, dropped: &[usize]) {
        if dropped.is_empty() {
            return;
        }
        let mut kept = Self::default();
        for row in 0..self.len() {
            if dropped.binary_search(&row).is_err() {
                kept.bytes
                    .extend_from_slice(&self.bytes[self.start(row)..self.ends[row]]);
                kept.ends.push(kept.bytes.len());
            }
        }
        *self = kept;
    }

    /// The rows for sending and sending again: cheap to slice and to share.
    pub(crate) fn freeze(self) -> Frozen {
        Frozen {
            bytes: Bytes::from(self.bytes),
            ends: self.ends,
        }
    }
}

/// [`Rows`] that no longer change.
#[derive(Debug)]
pub(crate) struct Frozen {
    bytes: Bytes,
    ends: Vec<usize>,
}

impl Frozen {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn start(&self, row: usize) -> usize {
        row.checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .copied()
            .unwrap_or(0)
    }

    /// The bytes of these rows.
    pub(crate) fn slice(&self, rows: Span<usize>) -> Bytes {
        self.bytes
            .slice(self.start(rows.start)..self.start(rows.end))
    }

    /// The Kafka offset of a row.
    pub(crate) fn offset(&self, row: usize) -> Option<u64> {
        RowHead::read(self.bytes.get(self.start(row)..)?).map(|head| head.offset)
    }
}

/// A record for the quarantine table.
#[derive(Debug)]
pub(crate) struct Quarantined {
    pub(crate) offset: i64,
    pub(crate) code: String,
    pub(crate) detail: String,
    pub(crate) record: Vec<u8>,
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
    pub(crate) withheld_events: u64,
    /// Events whose first copy was withheld.
    pub(crate) suppressed_events: u64,
    pub(crate) quarantined: Vec<Quarantined>,
    quarantined_bytes: usize,
    pub(crate) oldest_received_at: i64,
    /// 0 while none is known.
    pub(crate) newest_received_at: i64,
    /// When the first record was taken.
    pub(crate) opened: Instant,
}

impl Range {
    /// An empty range from `first` on, of the partition `part` is of. When that part is a range begun
    /// before, so is this.
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
            withheld_events: 0,
            suppressed_events: 0,
            quarantined: Vec::new(),
            quarantined_bytes: 0,
            oldest_received_at: i64::MAX,
            newest_received_at: 0,
            opened: now,
        }
    }

    /// The first offset after the range.
    pub(crate) fn end(&self) -> i64 {
        self.part.next_offset()
    }

    pub(crate) fn event_type(&self) -> EventType {
        self.part.event_type
    }

    /// Names the range for ever, and so is what ClickHouse tells repeated inserts by.
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
        self.rows.bytes.len()
            + self.rows.ends.len() * size_of::<usize>()
            + self.withheld.len() * 48
            + self.quarantined_bytes
    }

    /// Takes one record: as a row, as a withheld or suppressed event, or into quarantine.
    pub(crate) fn take(&mut self, encoder: &Encoder, raw: Raw) {
        let Raw { offset, payload } = raw;
        self.part.records.clear();
        self.part.records.push(Raw {
            offset,
            payload: Box::default(),
        });
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
        if !record.analytics {
            self.withheld_events += 1;
            self.withheld.insert(identity.key, record.child_id.uuid());
            return;
        }
        // Records come in the order of their offsets, so the withheld copy has the lower one.
        if !self.withheld.is_empty() && self.withheld.contains_key(&identity.key) {
            self.suppressed_events += 1;
            return;
        }
        let row = encoder.row(
            &record,
            identity.day,
            offset.unsigned_abs(),
            &mut self.rows.bytes,
        );
        match row {
            Ok(()) => self.rows.ends.push(self.rows.bytes.len()),
            Err(error) => {
                let (code, detail) = (Unstorable::CODE.to_owned(), error.to_string());
                self.quarantine(Quarantined {
                    offset,
                    code,
                    detail,
                    record: payload.into(),
                });
            }
        }
    }

    fn quarantine(&mut self, record: Quarantined) {
        self.quarantined_bytes += record.record.len() + 256;
        self.quarantined.push(record);
    }
}
