//! What each partition has waiting, and which range goes next.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use ahash::AHashMap;
use rivulet_consumer::Part;
use tokio::time::Instant;

use crate::{Config, range::Range, row::Encoder};

/// Names a partition.
pub(crate) type Key = (Arc<str>, i32);

/// One partition's ranges.
#[derive(Debug)]
struct Lane {
    epoch: u64,
    encoder: Encoder,
    /// In the order of their offsets; only the last may still grow.
    ranges: VecDeque<Range>,
    /// The range that is being inserted, if one is.
    flying: Option<Flying>,
    /// Its insert takes so long that nothing more is taken of it.
    is_held: bool,
}

#[derive(Clone, Copy, Debug)]
struct Flying {
    bytes: usize,
    since: Instant,
}

impl Lane {
    fn bytes(&self) -> usize {
        let flying = self.flying.map_or(0, |flying| flying.bytes);
        flying + self.ranges.iter().map(Range::bytes).sum::<usize>()
    }

    fn is_slow(&self, now: Instant) -> bool {
        self.flying
            .is_some_and(|flying| now.saturating_duration_since(flying.since) >= SLOW)
    }
}

/// An insert that takes longer is no longer reckoned with: others get its place, and room in memory.
const SLOW: Duration = Duration::from_secs(3);

/// The records of a part do not follow on those before it: the position must be read again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gap;

/// Every partition's ranges.
#[derive(Debug)]
pub(crate) struct Lanes {
    config: Config,
    lanes: AHashMap<Key, Lane>,
    last_start: Option<Instant>,
}

impl Lanes {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            lanes: AHashMap::new(),
            last_start: None,
        }
    }

    /// Memory held by rows, waiting and being inserted.
    pub(crate) fn bytes(&self) -> usize {
        self.lanes.values().map(Lane::bytes).sum()
    }

    /// The same without what lies in partitions that are held, up to as much as all others may have: so
    /// partitions that are stuck leave the others their room.
    pub(crate) fn moving_bytes(&self) -> usize {
        let held = self.lanes.values().filter(|lane| lane.is_held);
        let held: usize = held.map(Lane::bytes).sum();
        self.bytes() - held.min(self.config.max_buffered_bytes)
    }

    /// How many inserts take longer than they should.
    pub(crate) fn slow(&self, now: Instant) -> usize {
        self.lanes.values().filter(|lane| lane.is_slow(now)).count()
    }

    /// Which partitions are held from now on, and which are not any more: those whose insert is slow while they
    /// have more than a share of the memory.
    pub(crate) fn holds(&mut self, now: Instant) -> Vec<(Key, bool)> {
        let share = self.config.max_buffered_bytes / 4;
        let mut changed = Vec::new();
        for (key, lane) in &mut self.lanes {
            let is_held = lane.is_slow(now) && (lane.is_held || lane.bytes() >= share);
            if std::mem::replace(&mut lane.is_held, is_held) != is_held {
                changed.push((key.clone(), is_held));
            }
        }
        changed
    }

    /// Whether anything waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.lanes.values().any(|lane| !lane.ranges.is_empty())
    }

    /// Takes a part's records into the ranges of its partition. A part of a newer epoch drops what
    /// was there: its owner's position has been read again since.
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
        let lane = self.lanes.entry(key).or_insert_with(|| Lane {
            epoch: part.epoch,
            encoder: encoder(),
            ranges: VecDeque::new(),
            flying: None,
            is_held: false,
        });
        if lane.epoch != part.epoch {
            lane.epoch = part.epoch;
            lane.encoder = encoder();
            lane.ranges.clear();
        }
        if lane
            .ranges
            .back()
            .is_some_and(|range| range.end() != part.expected)
        {
            lane.ranges.clear();
            return Err(Gap);
        }
        let records = std::mem::take(&mut part.records);
        let begun = part.pending_end.is_some();
        if begun {
            lane.ranges.push_back(Range::new(&part, part.expected, now));
        }
        for raw in records {
            // A range begun before is exactly the part; any other grows until it is full.
            let takes = |range: &Range| begun || !range.is_begun() && !range.is_full(&self.config);
            if !lane.ranges.back().is_some_and(takes) {
                let first = lane.ranges.back().map_or(part.expected, Range::end);
                lane.ranges.push_back(Range::new(&part, first, now));
            }
            if let Some(range) = lane.ranges.back_mut() {
                range.take(&lane.encoder, raw);
            }
        }
        Ok(())
    }

    /// The range to insert next, if one is due. Its partition gets no other until
    /// [`Lanes::delivered`].
    ///
    /// A range that is full, old or in the way of memory goes at once. Others wait until they are
    /// old enough to be worth an insert and the pace allows one, so that many quiet partitions do
    /// not become many small inserts.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(Key, Range)> {
        let config = &self.config;
        let pressed = self.moving_bytes() >= config.max_buffered_bytes;
        let paced = self.last_start.is_none_or(|last| now - last >= config.pace);
        let is_due = |lane: &Lane| {
            let Some(range) = lane.ranges.front() else {
                return false;
            };
            if lane.flying.is_some() {
                return false;
            }
            let age = now.saturating_duration_since(range.opened);
            let urgent = pressed
                || lane.ranges.len() > 1
                || range.is_begun()
                || range.is_full(config)
                || age >= config.max_age;
            urgent || (paced && age >= config.min_age)
        };
        let due = self.lanes.iter_mut().filter(|(_, lane)| is_due(lane));
        let (key, lane) = due.min_by_key(|(_, lane)| lane.ranges.front().map(|r| r.opened))?;
        let range = lane.ranges.pop_front()?;
        lane.flying = Some(Flying {
            bytes: range.bytes(),
            since: now,
        });
        self.last_start = Some(now);
        Some((key.clone(), range))
    }

    /// A range's insert has ended. `drop_epoch`: what waits behind it is of no use.
    pub(crate) fn delivered(&mut self, key: &Key, drop_epoch: Option<u64>) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.flying = None;
            if drop_epoch == Some(lane.epoch) {
                lane.ranges.clear();
            }
        }
    }

    /// Drops what belongs to partitions that have gone elsewhere.
    pub(crate) fn keep(&mut self, is_ours: impl Fn(&Part) -> bool) {
        self.lanes.retain(|_, lane| {
            if lane
                .ranges
                .front()
                .is_some_and(|range| !is_ours(&range.part))
            {
                lane.ranges.clear();
            }
            lane.flying.is_some() || !lane.ranges.is_empty()
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

    fn lanes(config: Config) -> Lanes {
        Lanes::new(config)
    }

    /// What goes in the next ten seconds, looked at every 50 ms, when each insert ends at once.
    fn departures(lanes: &mut Lanes, from: Instant) -> Vec<(Duration, i32)> {
        let mut gone = Vec::new();
        for tick in 0..200 {
            let after = Duration::from_millis(50) * tick;
            while let Some((key, _)) = lanes.next(from + after) {
                lanes.delivered(&key, None);
                gone.push((after, key.1));
            }
        }
        gone
    }

    #[test]
    fn quiet_partitions_take_turns_and_none_waits_too_long() {
        let (mut lanes, now) = (lanes(Config::default()), Instant::now());
        for partition in 0..40 {
            let opened = now + Duration::from_millis(partition as u64);
            lanes.take(part(partition, 0..3), opened).unwrap();
        }
        let gone = departures(&mut lanes, now);
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
        let (mut lanes, now) = (
            lanes(Config {
                max_records: 10,
                ..Config::default()
            }),
            Instant::now(),
        );
        lanes.take(part(0, 0..25), now).unwrap();
        let (key, first) = lanes.next(now).unwrap();
        assert_eq!(span(&first), (0, 10));
        assert!(lanes.next(now).is_none(), "one insert a partition");
        lanes.delivered(&key, None);
        assert_eq!(span(&lanes.next(now).unwrap().1), (10, 20));
        lanes.delivered(&key, None);
        assert!(lanes.next(now).is_none(), "the rest may still grow");
        lanes.take(part(0, 25..30), now).unwrap();
        assert_eq!(span(&lanes.next(now).unwrap().1), (20, 30));
    }

    #[test]
    fn a_begun_range_is_formed_again_as_it_was() {
        let (mut lanes, now) = (
            lanes(Config {
                max_records: 10,
                ..Config::default()
            }),
            Instant::now(),
        );
        let begun = Part {
            pending_end: Some(50),
            ..part(0, 0..37)
        };
        lanes.take(begun, now).unwrap();
        lanes.take(part(0, 50..52), now).unwrap();
        let (key, range) = lanes.next(now).unwrap();
        assert_eq!((span(&range), range.is_begun()), ((0, 50), true));
        assert_eq!(range.token(), "c/t:t:0:0-49");
        lanes.delivered(&key, None);
        let (_, range) = lanes.next(now + Duration::from_secs(5)).unwrap();
        assert_eq!((span(&range), range.is_begun()), ((50, 52), false));
    }

    #[test]
    fn a_newer_epoch_drops_what_waits_and_a_gap_is_told() {
        let (mut lanes, now) = (lanes(Config::default()), Instant::now());
        lanes.take(part(0, 0..5), now).unwrap();
        assert_eq!(lanes.take(part(0, 6..7), now), Err(Gap));
        assert!(!lanes.is_waiting());
        lanes.take(part(0, 0..5), now).unwrap();
        lanes
            .take(
                Part {
                    epoch: 2,
                    ..part(0, 3..8)
                },
                now,
            )
            .unwrap();
        let (key, range) = lanes.next(now + Duration::from_secs(5)).unwrap();
        assert_eq!(span(&range), (3, 8));
        lanes
            .take(
                Part {
                    epoch: 3,
                    ..part(0, 3..8)
                },
                now,
            )
            .unwrap();
        lanes.delivered(&key, Some(2));
        assert!(
            lanes.is_waiting(),
            "what is newer than the failed insert stays"
        );
        lanes.keep(|part| part.epoch > 3);
        assert!(!lanes.is_waiting());
    }

    #[test]
    fn a_partition_that_is_stuck_leaves_the_others_their_room() {
        let (mut lanes, start) = (
            lanes(Config {
                max_records: 10,
                max_buffered_bytes: 16_000,
                ..Config::default()
            }),
            Instant::now(),
        );
        lanes.take(part(0, 0..30), start).unwrap();
        let (stuck, _) = lanes.next(start).unwrap();
        assert!(lanes.holds(start).is_empty(), "it has only just begun");
        assert_eq!(lanes.slow(start), 0);
        let later = start + SLOW;
        assert_eq!(lanes.holds(later), [(stuck.clone(), true)]);
        assert!(lanes.holds(later).is_empty(), "told once");
        assert_eq!((lanes.slow(later), lanes.moving_bytes()), (1, 0));
        // More than all of the memory is not left out.
        lanes.take(part(0, 30..60), later).unwrap();
        assert_eq!(lanes.moving_bytes(), lanes.bytes() - 16_000);
        lanes.delivered(&stuck, None);
        assert_eq!(lanes.holds(later), [(stuck, false)]);
        assert_eq!(lanes.moving_bytes(), lanes.bytes());
    }

    #[test]
    fn memory_running_short_sends_what_there_is() {
        let (mut lanes, now) = (
            lanes(Config {
                max_buffered_bytes: 1_000,
                ..Config::default()
            }),
            Instant::now(),
        );
        lanes.take(part(0, 0..2), now).unwrap();
        assert!(lanes.next(now).is_none());
        lanes.take(part(1, 0..2), now).unwrap();
        assert!(lanes.bytes() >= 1_000);
        assert!(lanes.next(now).is_some());
        assert!(lanes.bytes() >= 1_000, "bytes in the air are still held");
    }
}
