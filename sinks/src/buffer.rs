//! The records that wait for an insert: the ranges of each partition, and which range is inserted next.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use ahash::AHashMap;
use rivulet_consumer::Part;
use tokio::time::Instant;

use crate::{Config, range::Range, row::Encoder};

/// Names a partition.
pub(crate) type Key = (Arc<str>, i32);

/// The ranges of one partition.
#[derive(Debug)]
struct PartitionBuffer {
    epoch: u64,
    encoder: Encoder,
    /// In the order of their offsets; only the last may still grow.
    ranges: VecDeque<Range>,
    /// The range that is being inserted, if one is.
    inserting: Option<Inserting>,
    /// Whether the partition is held: its insert takes so long that no more of its records are taken.
    is_held: bool,
}

#[derive(Clone, Copy, Debug)]
struct Inserting {
    bytes: usize,
    since: Instant,
}

impl PartitionBuffer {
    fn bytes(&self) -> usize {
        let inserting = self.inserting.map_or(0, |inserting| inserting.bytes);
        inserting + self.ranges.iter().map(Range::bytes).sum::<usize>()
    }

    fn is_slow(&self, now: Instant) -> bool {
        self.inserting
            .is_some_and(|inserting| now.saturating_duration_since(inserting.since) >= SLOW)
    }
}

/// An insert that takes longer than this is slow. Another insert may run beside it, and it may not keep memory from the
/// other partitions.
const SLOW: Duration = Duration::from_secs(3);

/// The records of a part do not follow on those before it: the position must be read again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gap;

/// The ranges of all partitions.
#[derive(Debug)]
pub(crate) struct Buffer {
    config: Config,
    partitions: AHashMap<Key, PartitionBuffer>,
    last_start: Option<Instant>,
}

impl Buffer {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            partitions: AHashMap::new(),
            last_start: None,
        }
    }

    /// Memory held by rows, waiting and being inserted.
    pub(crate) fn bytes(&self) -> usize {
        self.partitions.values().map(PartitionBuffer::bytes).sum()
    }

    /// The same without the partitions that are held, up to as much as all others may have. So partitions that are
    /// stuck do not take memory from the others.
    pub(crate) fn moving_bytes(&self) -> usize {
        let held = self
            .partitions
            .values()
            .filter(|partition| partition.is_held);
        let held: usize = held.map(PartitionBuffer::bytes).sum();
        self.bytes() - held.min(self.config.max_buffered_bytes)
    }

    /// How many inserts take longer than they should.
    pub(crate) fn slow(&self, now: Instant) -> usize {
        self.partitions
            .values()
            .filter(|partition| partition.is_slow(now))
            .count()
    }

    /// Returns the partitions that are held from now on, and those that are not any more. A partition is held if its
    /// insert is slow and it has more than its share of the memory.
    pub(crate) fn holds(&mut self, now: Instant) -> Vec<(Key, bool)> {
        let share = self.config.max_buffered_bytes / 4;
        let mut changed = Vec::new();
        for (key, partition) in &mut self.partitions {
            let is_held =
                partition.is_slow(now) && (partition.is_held || partition.bytes() >= share);
            if std::mem::replace(&mut partition.is_held, is_held) != is_held {
                changed.push((key.clone(), is_held));
            }
        }
        changed
    }

    /// Whether any range waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.partitions
            .values()
            .any(|partition| !partition.ranges.is_empty())
    }

    /// Takes a part's records into the ranges of its partition. A part of a newer epoch replaces what was there,
    /// because the position of the partition has been read again since.
    pub(crate) fn take(&mut self, mut part: Part, now: Instant) -> Result<(), Gap> {
        let key = (Arc::clone(&part.topic), part.partition);
        let encoder = || {
            Encoder::new(
                part.event_type,
                &part.topic,
                part.partition,
                &part.incarnation,
            )
        };
        let partition = self
            .partitions
            .entry(key)
            .or_insert_with(|| PartitionBuffer {
                epoch: part.epoch,
                encoder: encoder(),
                ranges: VecDeque::new(),
                inserting: None,
                is_held: false,
            });
        if partition.epoch != part.epoch {
            partition.epoch = part.epoch;
            partition.encoder = encoder();
            partition.ranges.clear();
        }
        if partition
            .ranges
            .back()
            .is_some_and(|range| range.end() != part.expected)
        {
            partition.ranges.clear();
            return Err(Gap);
        }
        let records = std::mem::take(&mut part.records);
        let begun = part.pending_end.is_some();
        if begun {
            partition
                .ranges
                .push_back(Range::new(&part, part.expected, now));
        }
        for raw in records {
            // A range begun before is exactly the part; any other grows until it is full.
            let takes = |range: &Range| begun || !range.is_begun() && !range.is_full(&self.config);
            if !partition.ranges.back().is_some_and(takes) {
                let first = partition.ranges.back().map_or(part.expected, Range::end);
                partition.ranges.push_back(Range::new(&part, first, now));
            }
            if let Some(range) = partition.ranges.back_mut() {
                range.take(&partition.encoder, raw);
            }
        }
        Ok(())
    }

    /// The range to insert next, if one is due. Its partition gets no other until
    /// [`Buffer::delivered`].
    ///
    /// A range that is full, old or in the way of memory goes at once. Others wait until they are
    /// old enough to be worth an insert and the pace allows one, so that many quiet partitions do
    /// not become many small inserts.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(Key, Range)> {
        let config = &self.config;
        let pressed = self.moving_bytes() >= config.max_buffered_bytes;
        let paced = self.last_start.is_none_or(|last| now - last >= config.pace);
        let is_due = |partition: &PartitionBuffer| {
            let Some(range) = partition.ranges.front() else {
                return false;
            };
            if partition.inserting.is_some() {
                return false;
            }
            let age = now.saturating_duration_since(range.opened);
            let urgent = pressed
                || partition.ranges.len() > 1
                || range.is_begun()
                || range.is_full(config)
                || age >= config.max_age;
            urgent || (paced && age >= config.min_age)
        };
        let due = self
            .partitions
            .iter_mut()
            .filter(|(_, partition)| is_due(partition));
        let (key, partition) =
            due.min_by_key(|(_, partition)| partition.ranges.front().map(|r| r.opened))?;
        let range = partition.ranges.pop_front()?;
        partition.inserting = Some(Inserting {
            bytes: range.bytes(),
            since: now,
        });
        self.last_start = Some(now);
        Some((key.clone(), range))
    }

    /// Notes that the insert of a range has ended. What waits behind it is dropped if it is of `drop_epoch`.
    pub(crate) fn delivered(&mut self, key: &Key, drop_epoch: Option<u64>) {
        if let Some(partition) = self.partitions.get_mut(key) {
            partition.inserting = None;
            if drop_epoch == Some(partition.epoch) {
                partition.ranges.clear();
            }
        }
    }

    /// Drops what belongs to partitions that another instance has now.
    pub(crate) fn retain_ours(&mut self, is_ours: impl Fn(&Part) -> bool) {
        self.partitions.retain(|_, partition| {
            if partition
                .ranges
                .front()
                .is_some_and(|range| !is_ours(&range.part))
            {
                partition.ranges.clear();
            }
            partition.inserting.is_some() || !partition.ranges.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use rivulet_consumer::Raw;
    use rivulet_events::EventType;

    use super::*;

    /// Unreadable records will do: they wait and count like any other.
    fn part(partition: i32, offsets: std::ops::Range<i64>) -> Part {
        Part {
            topic: "t".into(),
            event_type: EventType::Session,
            partition,
            incarnation: "c/t".into(),
            epoch: 1,
            expected: offsets.start,
            pending_end: None,
            records: offsets
                .map(|offset| Raw {
                    offset,
                    timestamp: 0,
                    payload: vec![0; 100].into(),
                    link: None,
                })
                .collect(),
        }
    }

    fn span(range: &Range) -> (i64, i64) {
        (range.part.expected, range.end())
    }

    fn buffer(config: Config) -> Buffer {
        Buffer::new(config)
    }

    /// What goes in the next ten seconds, looked at every 50 ms, when each insert ends at once.
    fn departures(buffer: &mut Buffer, from: Instant) -> Vec<(Duration, i32)> {
        let mut gone = Vec::new();
        for tick in 0..200 {
            let after = Duration::from_millis(50) * tick;
            while let Some((key, _)) = buffer.next(from + after) {
                buffer.delivered(&key, None);
                gone.push((after, key.1));
            }
        }
        gone
    }

    #[test]
    fn quiet_partitions_take_turns_and_none_waits_too_long() {
        let (mut buffer, now) = (buffer(Config::default()), Instant::now());
        for partition in 0..40 {
            let opened = now + Duration::from_millis(partition as u64);
            buffer.take(part(partition, 0..3), opened).unwrap();
        }
        let gone = departures(&mut buffer, now);
        assert_eq!(
            gone.iter()
                .map(|(_, partition)| *partition)
                .collect::<Vec<_>>(),
            (0..40).collect::<Vec<_>>()
        );
        let before_the_limit = gone
            .iter()
            .filter(|(at, _)| *at < Duration::from_secs(3))
            .count();
        assert_eq!(before_the_limit, 8, "four a second, after the first second");
        assert!(
            gone.iter()
                .all(|(at, _)| *at <= Duration::from_millis(3_050))
        );
    }

    #[test]
    fn full_ranges_go_at_once_one_at_a_time() {
        let (mut buffer, now) = (
            buffer(Config {
                max_records: 10,
                ..Config::default()
            }),
            Instant::now(),
        );
        buffer.take(part(0, 0..25), now).unwrap();
        let (key, first) = buffer.next(now).unwrap();
        assert_eq!(span(&first), (0, 10));
        assert!(buffer.next(now).is_none(), "one insert a partition");
        buffer.delivered(&key, None);
        assert_eq!(span(&buffer.next(now).unwrap().1), (10, 20));
        buffer.delivered(&key, None);
        assert!(buffer.next(now).is_none(), "the rest may still grow");
        buffer.take(part(0, 25..30), now).unwrap();
        assert_eq!(span(&buffer.next(now).unwrap().1), (20, 30));
    }

    #[test]
    fn a_begun_range_is_formed_again_as_it_was() {
        let (mut buffer, now) = (
            buffer(Config {
                max_records: 10,
                ..Config::default()
            }),
            Instant::now(),
        );
        let begun = Part {
            pending_end: Some(50),
            ..part(0, 0..37)
        };
        buffer.take(begun, now).unwrap();
        buffer.take(part(0, 50..52), now).unwrap();
        let (key, range) = buffer.next(now).unwrap();
        assert_eq!((span(&range), range.is_begun()), ((0, 50), true));
        assert_eq!(range.token(), "c/t:t:0:0-49");
        buffer.delivered(&key, None);
        let (_, range) = buffer.next(now + Duration::from_secs(5)).unwrap();
        assert_eq!((span(&range), range.is_begun()), ((50, 52), false));
    }

    #[test]
    fn a_newer_epoch_drops_what_waits_and_a_gap_is_told() {
        let (mut buffer, now) = (buffer(Config::default()), Instant::now());
        buffer.take(part(0, 0..5), now).unwrap();
        assert_eq!(buffer.take(part(0, 6..7), now), Err(Gap));
        assert!(!buffer.is_waiting());
        buffer.take(part(0, 0..5), now).unwrap();
        buffer
            .take(
                Part {
                    epoch: 2,
                    ..part(0, 3..8)
                },
                now,
            )
            .unwrap();
        let (key, range) = buffer.next(now + Duration::from_secs(5)).unwrap();
        assert_eq!(span(&range), (3, 8));
        buffer
            .take(
                Part {
                    epoch: 3,
                    ..part(0, 3..8)
                },
                now,
            )
            .unwrap();
        buffer.delivered(&key, Some(2));
        assert!(
            buffer.is_waiting(),
            "what is newer than the failed insert stays"
        );
        buffer.retain_ours(|part| part.epoch > 3);
        assert!(!buffer.is_waiting());
    }

    #[test]
    fn a_partition_that_is_stuck_leaves_the_others_their_room() {
        let (mut buffer, start) = (
            buffer(Config {
                max_records: 10,
                max_buffered_bytes: 16_000,
                ..Config::default()
            }),
            Instant::now(),
        );
        buffer.take(part(0, 0..30), start).unwrap();
        let (stuck, _) = buffer.next(start).unwrap();
        assert!(buffer.holds(start).is_empty(), "it has only just begun");
        assert_eq!(buffer.slow(start), 0);
        let later = start + SLOW;
        assert_eq!(buffer.holds(later), [(stuck.clone(), true)]);
        assert!(buffer.holds(later).is_empty(), "told once");
        assert_eq!((buffer.slow(later), buffer.moving_bytes()), (1, 0));
        // More than all of the memory is not left out.
        buffer.take(part(0, 30..60), later).unwrap();
        assert_eq!(buffer.moving_bytes(), buffer.bytes() - 16_000);
        buffer.delivered(&stuck, None);
        assert_eq!(buffer.holds(later), [(stuck, false)]);
        assert_eq!(buffer.moving_bytes(), buffer.bytes());
    }

    #[test]
    fn memory_running_short_sends_what_there_is() {
        let (mut buffer, now) = (
            buffer(Config {
                max_buffered_bytes: 1_000,
                ..Config::default()
            }),
            Instant::now(),
        );
        buffer.take(part(0, 0..2), now).unwrap();
        assert!(buffer.next(now).is_none());
        buffer.take(part(1, 0..2), now).unwrap();
        assert!(buffer.bytes() >= 1_000);
        assert!(buffer.next(now).is_some());
        assert!(buffer.bytes() >= 1_000, "bytes in the air are still held");
    }
}
