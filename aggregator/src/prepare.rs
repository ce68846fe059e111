//! Prepares a batch for its transaction: decodes and judges the records, keeps one of the copies of each event, and
//! sums the rollup as if every event were new. There is no I/O, so this runs while the transaction of the batch before
//! is running.

use std::collections::BTreeMap;

use ahash::AHashSet;
use chrono::{DateTime, NaiveDate};
use rivulet_consumer::{
    Part,
    ledger::{self, Account},
};
use rivulet_events::{ChildId, Identity, Record};
use rivulet_quarantine::Share;
use rivulet_registry::{
    revocations::{Revocations, Taken},
    tombstones::Tombstones,
};

use crate::rollup::Rollup;

/// An event of the batch. Of the copies of an event that the batch has, only one is here: the one that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DistinctEvent {
    pub(crate) identity: Identity,
    /// The UTC day of `received_at`.
    pub(crate) seen_on: NaiveDate,
    /// `analytics` keeps it out of ClickHouse.
    withheld: bool,
    child: ChildId,
    part: usize,
    record: usize,
}

impl DistinctEvent {
    /// Whether it arrived near its id-day, which then has a partition of its own.
    pub(crate) fn is_timely(&self) -> bool {
        self.identity.is_timely(self.seen_on)
    }
}

/// A record that cannot be counted.
#[derive(Debug)]
pub(crate) struct Poison {
    pub(crate) part: usize,
    pub(crate) record: usize,
    pub(crate) code: &'static str,
    /// For a person; may quote the record, so it goes to the database and never to a log.
    pub(crate) detail: String,
}

/// A batch ready for its transaction.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) parts: Vec<Part>,
    /// Largest `received_at` of each part, Unix milliseconds; 0 if none of it could be read.
    pub(crate) received_at: Vec<i64>,
    /// Sorted by identity: the order of the dedup table's index, and of its locks.
    pub(crate) events: Vec<DistinctEvent>,
    pub(crate) rollup: Rollup,
    pub(crate) poison: Vec<Poison>,
    /// Part and record of each event that was dropped, because its child was erased.
    erased: Vec<(usize, usize)>,
    /// The same, because the consent was withdrawn on which it had been taken.
    revoked: Vec<(usize, usize)>,
}

impl Prepared {
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        Self::heeding(parts, &Revocations::default(), 0)
    }

    /// Without what was taken on consents that have been withdrawn, by withdrawals up to the number `to`.
    fn heeding(parts: Vec<Part>, revocations: &Revocations, to: i64) -> Self {
        let mut received_at = vec![0; parts.len()];
        let (mut poison, mut revoked) = (Vec::new(), Vec::new());
        let mut decoded = Vec::with_capacity(parts.iter().map(|part| part.records.len()).sum());
        let mut events = Vec::with_capacity(decoded.capacity());
        for (part, of) in parts.iter().enumerate() {
            for (record, raw) in of.records.iter().enumerate() {
                match Record::decode(of.event_type, &raw.payload) {
                    Ok(mut event) => {
                        received_at[part] = received_at[part].max(event.received_at);
                        let withdrawn = revocations.of(Taken::from(&event), to);
                        if withdrawn.from_all {
                            revoked.push((part, record));
                            continue;
                        }
                        event.analytics &= !withdrawn.from_history;
                        let found = DistinctEvent {
                            identity: event.identity(),
                            seen_on: utc_day(event.received_at),
                            withheld: !event.analytics,
                            child: event.child_id,
                            part,
                            record,
                        };
                        events.push((found, raw.offset, decoded.len()));
                        decoded.push(event);
                    }
                    Err(_) if revocations.any_in(&raw.payload, of.event_type, to) => {
                        revoked.push((part, record));
                    }
                    Err(error) => poison.push(Poison {
                        part,
                        record,
                        code: error.code(),
                        detail: error.to_string(),
                    }),
                }
            }
        }
        // Of several copies, the one with the lowest offset counts.
        events.sort_unstable_by_key(|(event, offset, _)| (event.identity, *offset, event.part));
        events.dedup_by_key(|(event, ..)| event.identity);

        let mut rollup = Rollup::default();
        for (.., at) in &events {
            rollup.add(&decoded[*at]);
        }
        let events = events.into_iter().map(|(event, ..)| event).collect();
        Self {
            events,
            rollup,
            received_at,
            poison,
            parts,
            erased: Vec::new(),
            revoked,
        }
    }

    /// Takes out what was taken on consents that have been withdrawn, by withdrawals up to the number `to`. Where there is
    /// something, the batch is prepared again: a copy of what goes may be on a consent that was given again. Most batches
    /// have none of such a child.
    pub(crate) fn revoke(&mut self, revocations: &Revocations, to: i64) {
        if self.is_concerned_by(revocations, to) {
            *self = Self::heeding(std::mem::take(&mut self.parts), revocations, to);
        }
    }

    fn is_concerned_by(&self, revocations: &Revocations, to: i64) -> bool {
        if revocations.is_empty() {
            return false;
        }
        let raw = |part: usize, record: usize| {
            let of = &self.parts[part];
            (of.event_type, &*of.records[record].payload)
        };
        let mut events = self.events.iter();
        events.any(|event| {
            revocations.concern(event.child.uuid()) && {
                let (event_type, payload) = raw(event.part, event.record);
                Record::decode(event_type, payload).is_ok_and(|record| {
                    let withdrawn = revocations.of(Taken::from(&record), to);
                    withdrawn.from_all || withdrawn.from_history && record.analytics
                })
            }
        }) || self.poison.iter().any(|poison| {
            let (event_type, payload) = raw(poison.part, poison.record);
            revocations.any_in(payload, event_type, to)
        })
    }

    /// Takes out what is of children who were erased, by tombstones up to the number `to`.
    pub(crate) fn erase(&mut self, tombstones: &Tombstones, to: i64) {
        if tombstones.is_empty() {
            return;
        }
        let children: AHashSet<_> = self.events.iter().map(|event| event.child).collect();
        let gone: AHashSet<_> = children
            .into_iter()
            .filter(|child| tombstones.has(child.uuid(), to))
            .collect();
        for child in &gone {
            self.rollup.forget(*child);
        }
        let events = self
            .events
            .extract_if(.., |event| gone.contains(&event.child));
        self.erased
            .extend(events.map(|event| (event.part, event.record)));
        let payload = |poison: &Poison| &*self.parts[poison.part].records[poison.record].payload;
        let poison = self
            .poison
            .extract_if(.., |poison| tombstones.any_in(payload(poison), to));
        self.erased
            .extend(poison.map(|poison| (poison.part, poison.record)));
    }

    /// Takes out the events that were counted before this batch. Only the children that have such
    /// events are summed anew; most batches have few.
    pub(crate) fn exclude(&mut self, counted: &AHashSet<Identity>) {
        let mut affected = AHashSet::new();
        self.events.retain(|event| {
            let fresh = !counted.contains(&event.identity);
            if !fresh {
                affected.insert(event.child);
            }
            fresh
        });
        for child in &affected {
            self.rollup.forget(*child);
        }
        for event in self
            .events
            .iter()
            .filter(|event| affected.contains(&event.child))
        {
            let part = &self.parts[event.part];
            let payload = &part.records[event.record].payload;
            if let Ok(mut record) = Record::decode(part.event_type, payload) {
                record.analytics &= !event.withheld;
                self.rollup.add(&record);
            }
        }
    }

    /// Sets the only record of the batch aside, because PostgreSQL refused it.
    pub(crate) fn set_aside(&mut self, detail: String) {
        self.events.clear();
        self.rollup = Rollup::default();
        self.poison = vec![Poison {
            part: 0,
            record: 0,
            code: "refused_by_database",
            detail,
        }];
    }

    /// Whether the batch has only one record.
    pub(crate) fn is_single(&self) -> bool {
        self.parts
            .iter()
            .map(|part| part.records.len())
            .sum::<usize>()
            == 1
    }

    /// Its records in two halves, each a batch of its own.
    pub(crate) fn halves(mut self) -> [Vec<Part>; 2] {
        let mut rest = self.parts.split_off(self.parts.len() / 2);
        if self.parts.is_empty()
            && let Some(mut only) = rest.pop()
        {
            rest.push(only.split_off(only.records.len() / 2));
            self.parts.push(only);
        }
        [self.parts, rest]
    }

    /// How many of the records are unfit, by part.
    pub(crate) fn shares(&self) -> Vec<Share<'_>> {
        let mut shares: Vec<_> = self
            .parts
            .iter()
            .map(|part| Share {
                topic: &part.topic,
                records: part.records.len() as u64,
                unfit: 0,
                code: None,
            })
            .collect();
        for poison in &self.poison {
            let share = &mut shares[poison.part];
            share.unfit += 1;
            share.code = Some(poison.code);
        }
        shares
    }

    /// What becomes of the records, by part and hour of their timestamps.
    pub(crate) fn accounts(&self) -> BTreeMap<(usize, i64), Account> {
        let mut accounts = BTreeMap::<_, Account>::new();
        let key = |part: usize, record: usize| {
            (
                part,
                ledger::hour(self.parts[part].records[record].timestamp),
            )
        };
        for (part, of) in self.parts.iter().enumerate() {
            for record in 0..of.records.len() {
                accounts.entry(key(part, record)).or_default().duplicates += 1;
            }
        }
        for event in &self.events {
            let account = accounts.entry(key(event.part, event.record)).or_default();
            account.duplicates -= 1;
            account.counted += 1;
            account.withheld += u64::from(event.withheld);
        }
        for poison in &self.poison {
            let account = accounts.entry(key(poison.part, poison.record)).or_default();
            account.duplicates -= 1;
            account.quarantined += 1;
        }
        for (part, record) in &self.erased {
            let account = accounts.entry(key(*part, *record)).or_default();
            account.duplicates -= 1;
            account.erased += 1;
        }
        for (part, record) in &self.revoked {
            let account = accounts.entry(key(*part, *record)).or_default();
            account.duplicates -= 1;
            account.revoked += 1;
        }
        accounts
    }
}

/// The UTC date of Unix milliseconds that are within the calendar, as those of a decoded record are.
fn utc_day(millis: i64) -> NaiveDate {
    DateTime::from_timestamp_millis(millis)
        .unwrap_or_default()
        .date_naive()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rivulet_events::{Data, EventType, InteractionAction, record::SCHEMA_VERSION};

    use super::*;
    use crate::common::{
        DAY_MS, any_events, distinct, encode, event, interaction, part, parts, rollup_rows, rows_of,
    };

    proptest! {
        #[test]
        fn batches_with_copies_are_the_recount_of_the_distinct_events(
            batches in prop::collection::vec(any_events(60), 1..5),
        ) {
            let mut seen = AHashSet::new();
            let mut rollup = Rollup::default();
            for events in &batches {
                let mut batch = Prepared::new(parts(events));
                prop_assert!(batch.events.is_sorted_by(|a, b| a.identity < b.identity));
                batch.exclude(&seen);
                let tally: Vec<_> = batch.accounts().into_values().collect();
                let counted: u64 = tally.iter().map(|tally| tally.counted).sum();
                let duplicates: u64 = tally.iter().map(|tally| tally.duplicates).sum();
                prop_assert_eq!(counted, batch.events.len() as u64);
                prop_assert_eq!(counted + duplicates, events.len() as u64);
                seen.extend(batch.events.iter().map(|event| event.identity));
                rollup.merge(batch.rollup);
            }
            let events = distinct(batches.iter().flatten());
            prop_assert_eq!(rows_of(&rollup), rollup_rows(&events));
        }
    }

    #[test]
    fn of_copies_the_lowest_offset_wins_wherever_it_lies() {
        let first = event(1, 0, interaction(InteractionAction::Start));
        let copy = Record {
            data: interaction(InteractionAction::Skip),
            ..first.clone()
        };
        let other = event(1, 0, interaction(InteractionAction::Hint));
        let kind = EventType::Interaction;
        let batch = Prepared::new(vec![
            part(kind, 0, 0, [encode(&other), encode(&copy)]),
            part(kind, 1, 0, [encode(&first)]),
        ]);
        assert_eq!(rows_of(&batch.rollup), rollup_rows(&[first, other]));
        let counted = Account {
            counted: 1,
            ..Account::default()
        };
        let with_copy = Account {
            duplicates: 1,
            ..counted
        };
        assert_eq!(
            batch.accounts(),
            BTreeMap::from([((0, 0), with_copy), ((1, 0), counted)])
        );
    }

    #[test]
    fn what_cannot_be_counted_is_set_aside_with_its_reason() {
        let good = event(1, 0, interaction(InteractionAction::Start));
        let wild = |change: fn(&mut Record<'static>)| {
            let mut record = good.clone();
            change(&mut record);
            encode(&record)
        };
        let payloads = [
            encode(&good),
            b"{\"v\":1".to_vec(),
            Vec::new(),
            wild(|record| record.v = SCHEMA_VERSION + 7),
            wild(|record| record.received_at = i64::MAX),
            wild(|record| record.event_time = record.received_at - 100 * DAY_MS),
            wild(|record| record.event_time = i64::MIN),
            wild(|record| record.local_date = NaiveDate::MAX),
            wild(|record| {
                if let Data::Interaction(data) = &mut record.data {
                    data.topic = Some("a\0b".into());
                }
            }),
            wild(|record| {
                if let Data::Interaction(data) = &mut record.data {
                    data.subject = Some("long ".repeat(1_000).into());
                }
            }),
            wild(|record| {
                if let Data::Interaction(data) = &mut record.data {
                    data.confidence = Some(1e300);
                }
            }),
            wild(|record| {
                if let Data::Interaction(data) = &mut record.data {
                    data.xp = Some(u16::MAX);
                }
            }),
        ];
        let bad = payloads.len() - 1;
        let batch = Prepared::new(vec![part(EventType::Interaction, 0, 0, payloads)]);
        let offsets: Vec<_> = batch.poison.iter().map(|poison| poison.record).collect();
        assert_eq!(offsets, (1..=bad).collect::<Vec<_>>());
        let codes: BTreeSet<_> = batch.poison.iter().map(|poison| poison.code).collect();
        assert_eq!(
            codes,
            BTreeSet::from(["implausible_record", "malformed_record", "unknown_version"])
        );
        assert_eq!(batch.received_at, [good.received_at]);
        assert_eq!(rows_of(&batch.rollup), rollup_rows(&[good]));
        let account = Account {
            counted: 1,
            quarantined: bad as u64,
            ..Account::default()
        };
        assert_eq!(batch.accounts(), BTreeMap::from([((0, 0), account)]));
    }

    #[test]
    fn any_clock_of_a_device_is_plausible() {
        let record = event(1, 0, interaction(InteractionAction::Start));
        let received = record.received_at;
        for (clock, timely) in [
            (0, false),
            (i64::MIN, false),
            (i64::MAX, false),
            (received + 400 * DAY_MS, false),
            (received - 35 * DAY_MS, false),
            (received - 34 * DAY_MS, true),
            (received + DAY_MS, true),
            (received + 2 * DAY_MS, false),
        ] {
            let mut record = record.clone();
            record.occurred_at = clock;
            let batch = Prepared::new(parts(&[record]));
            assert!(batch.poison.is_empty());
            assert_eq!(batch.events[0].is_timely(), timely, "{clock}");
        }
    }
}
