//! What one instance knows of the partitions it owns: records waiting for a batch, positions, lag.
//! Plain data behind one lock; nothing in here waits for anybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use rivulet_events::EventType;
use rivulet_telemetry::Link;

use crate::batch::{Batch, Part, Raw};

/// A partition of one of the four topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) event_type: EventType,
    pub(crate) partition: i32,
}

impl Key {
    /// Which of so many lanes it is in. Partitions of different topics that have the same number are in one lane. So
    /// all events of a child are in one lane, and lanes do not wait for each other's rows.
    const fn lane(self, lanes: usize) -> usize {
        self.partition.unsigned_abs() as usize % lanes
    }
}

/// A partition that is being consumed.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) topic: Arc<str>,
    pub(crate) incarnation: Arc<str>,
    epoch: u64,
    /// Where the next part begins.
    position: i64,
    /// The offset after the last record taken from Kafka.
    fetched: i64,
    /// The position in PostgreSQL, as far as this instance moved it.
    pub(crate) committed: i64,
    /// The position that was committed to Kafka; -1 before the first time.
    pub(crate) told: i64,
    /// The end of the log, when last looked at.
    pub(crate) high: i64,
    /// The end of a range that was begun before a crash. Everything up to here is handed out as one part of its own.
    pending_end: Option<i64>,
    records: Vec<Raw>,
    bytes: usize,
    /// When a part was last finished, or nothing was waiting.
    progressed: Instant,
}

/// Where a partition is opened.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) topic: Arc<str>,
    pub(crate) incarnation: Arc<str>,
    pub(crate) position: i64,
    pub(crate) pending_end: Option<i64>,
    pub(crate) high: i64,
}

impl Partition {
    /// Whether its records may go into a batch: no range was begun, or all of the range is here.
    fn is_ready(&self) -> bool {
        self.pending_end.is_none_or(|end| self.fetched >= end)
    }

    fn lags(&self) -> bool {
        self.high > self.committed
    }

    /// Nothing of it is waiting or being processed, as far as this instance knows.
    pub(crate) fn is_idle(&self) -> bool {
        self.committed == self.position && self.records.is_empty() && self.pending_end.is_none()
    }

    fn cut(&mut self, key: Key) -> Part {
        let pending_end = self.pending_end.take();
        let cut = pending_end.map_or(self.records.len(), |end| {
            self.records.partition_point(|record| record.offset < end)
        });
        let rest = self.records.split_off(cut);
        self.bytes = rest.iter().map(Raw::cost).sum();
        let part = Part {
            topic: self.topic.clone(),
            event_type: key.event_type,
            partition: key.partition,
            incarnation: self.incarnation.clone(),
            epoch: self.epoch,
            expected: self.position,
            pending_end,
            records: mem::replace(&mut self.records, rest),
        };
        self.position = part.next_offset();
        part
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Kept,
    /// Its offset was taken before: librdkafka may deliver an offset twice after an assignment.
    Again,
    /// It is of a partition that was revoked, was stopped, or is about to be read again.
    Foreign,
}

/// What is ready for the next batch of a lane.
#[derive(Clone, Copy, Debug, Default)]
struct Gathered {
    records: usize,
    bytes: usize,
    /// When the oldest of them came.
    oldest: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct State {
    max_records: usize,
    max_bytes: usize,
    linger: Duration,
    /// By lane.
    gathered: Vec<Gathered>,
    /// Lanes that have partitions: they share what may be gathered.
    busy_lanes: usize,
    pub(crate) open: BTreeMap<Key, Partition>,
    /// Partitions that the polling thread must open, or open again.
    pub(crate) reopen: BTreeSet<Key>,
    /// Partitions that are not consumed until an operator has looked, and why.
    pub(crate) stopped: BTreeMap<Key, String>,
    /// The partitions that librdkafka was told to fetch.
    pub(crate) assigned: BTreeSet<Key>,
    /// Partitions that are to be paused for now.
    held: BTreeSet<Key>,
    /// Partitions that librdkafka was told to pause.
    hold_told: BTreeSet<Key>,
    /// Whether an assignment came, which may have been empty.
    pub(crate) joined: bool,
    /// Counts assignments of any kind, to see that one happened.
    pub(crate) assignments: u64,
    last_epoch: u64,
    beat: Instant,
    progressed: Instant,
}

impl State {
    pub(crate) fn new(
        max_records: usize,
        max_bytes: usize,
        linger: Duration,
        lanes: usize,
        now: Instant,
    ) -> Self {
        Self {
            max_records,
            max_bytes,
            linger,
            gathered: vec![Gathered::default(); lanes],
            busy_lanes: 1,
            open: BTreeMap::new(),
            reopen: BTreeSet::new(),
            stopped: BTreeMap::new(),
            assigned: BTreeSet::new(),
            held: BTreeSet::new(),
            hold_told: BTreeSet::new(),
            joined: false,
            assignments: 0,
            last_epoch: 0,
            beat: now,
            progressed: now,
        }
    }

    /// From now on the partition is consumed, from where PostgreSQL said.
    pub(crate) fn open(&mut self, key: Key, at: Opening, now: Instant) {
        self.last_epoch += 1;
        self.stopped.remove(&key);
        self.assigned.insert(key);
        self.open.insert(
            key,
            Partition {
                topic: at.topic,
                incarnation: at.incarnation,
                epoch: self.last_epoch,
                position: at.position,
                fetched: at.position,
                committed: at.position,
                told: -1,
                high: at.high,
                pending_end: at.pending_end,
                records: Vec::new(),
                bytes: 0,
                progressed: now,
            },
        );
        self.recount(now);
    }

    /// Says whether the partition is to be paused for now.
    pub(crate) fn hold(&mut self, key: Key, is_held: bool) {
        if !is_held {
            self.held.remove(&key);
        } else if self.open.contains_key(&key) {
            self.held.insert(key);
        }
    }

    /// Which partitions librdkafka is to pause, and which to fetch again, since this was last asked.
    pub(crate) fn holds(&mut self) -> (BTreeSet<Key>, BTreeSet<Key>) {
        let pause = &self.held - &self.hold_told;
        let resume = &self.hold_told - &self.held;
        self.hold_told = self.held.clone();
        (pause, resume)
    }

    /// The partitions that are fetched while the consumer is not paused.
    pub(crate) fn wanted(&self) -> BTreeSet<Key> {
        &self.assigned - &self.held
    }

    /// The lane that a partition is in, always the same.
    pub(crate) fn lane(&self, key: Key) -> usize {
        key.lane(self.gathered.len())
    }

    /// Everything of the partition that is here or was handed out is void.
    pub(crate) fn forget(&mut self, key: Key, now: Instant) -> Option<Partition> {
        let forgotten = self.open.remove(&key);
        // A partition that is assigned again is not paused.
        self.held.remove(&key);
        self.hold_told.remove(&key);
        self.recount(now);
        forgotten
    }

    /// Has the partition read again from the position in PostgreSQL. Returns `false` if it is not this instance's.
    pub(crate) fn void(&mut self, key: Key, now: Instant) -> bool {
        let owned = self.forget(key, now).is_some();
        if owned {
            self.reopen.insert(key);
        }
        owned
    }

    /// The partition is another instance's now.
    pub(crate) fn revoke(&mut self, key: Key, now: Instant) -> Option<Partition> {
        self.reopen.remove(&key);
        self.stopped.remove(&key);
        self.forget(key, now)
    }

    pub(crate) fn take(
        &mut self,
        key: Key,
        offset: i64,
        timestamp: i64,
        payload: &[u8],
        link: Option<Box<Link>>,
        now: Instant,
    ) -> Taken {
        let lane = self.lane(key);
        let Some(partition) = self.open.get_mut(&key) else {
            return Taken::Foreign;
        };
        if offset < partition.fetched {
            return Taken::Again;
        }
        let record = Raw {
            offset,
            timestamp,
            payload: payload.into(),
            link,
        };
        let cost = record.cost();
        let was_ready = partition.is_ready();
        partition.fetched = offset + 1;
        partition.bytes += cost;
        partition.records.push(record);
        let gathered = &mut self.gathered[lane];
        if was_ready {
            gathered.records += 1;
            gathered.bytes += cost;
        } else if partition.is_ready() {
            gathered.records += partition.records.len();
            gathered.bytes += partition.bytes;
        }
        if gathered.records > 0 {
            gathered.oldest.get_or_insert(now);
        }
        Taken::Kept
    }

    /// Whether there is no room for more in the lane's batch.
    pub(crate) fn is_full(&self, lane: usize) -> bool {
        let gathered = &self.gathered[lane];
        gathered.records * self.busy_lanes >= self.max_records
            || gathered.bytes * self.busy_lanes >= self.max_bytes
    }

    /// The lanes whose batches should be handed out, of those that have room for one, and how long it takes until
    /// others are due: `None` if there is nothing in them. A batch is due when it is full. Those that are not full are
    /// due together, when the oldest record in any of them has waited for `linger`. If each of them waited for itself,
    /// records that come seldom would always wait for as long as is allowed.
    pub(crate) fn due(
        &self,
        has_room: impl Fn(usize) -> bool,
        now: Instant,
    ) -> (Vec<usize>, Option<Duration>) {
        let lanes = || (0..self.gathered.len()).filter(|lane| has_room(*lane));
        let oldest = lanes().filter_map(|lane| self.gathered[lane].oldest).min();
        let wait = oldest.map(|oldest| (oldest + self.linger).saturating_duration_since(now));
        let have_waited = wait == Some(Duration::ZERO);
        let is_due = |lane: &usize| {
            self.is_full(*lane) || have_waited && self.gathered[*lane].oldest.is_some()
        };
        (lanes().filter(is_due).collect(), wait)
    }

    /// Takes everything of the lane that is ready.
    pub(crate) fn cut(&mut self, lane: usize, now: Instant) -> Batch {
        let lanes = self.gathered.len();
        let mut parts: Vec<Part> = self
            .open
            .iter_mut()
            .filter(|(key, _)| key.lane(lanes) == lane)
            .filter(|(_, partition)| partition.is_ready() && !partition.records.is_empty())
            .map(|(key, partition)| partition.cut(*key))
            .collect();
        parts.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        self.recount(now);
        Batch { parts }
    }

    fn recount(&mut self, now: Instant) {
        let before = std::mem::take(&mut self.gathered);
        let lanes = before.len();
        let mut gathered = vec![Gathered::default(); lanes];
        let mut is_busy = vec![false; lanes];
        for (key, partition) in &self.open {
            let lane = key.lane(lanes);
            is_busy[lane] = true;
            if partition.is_ready() {
                gathered[lane].records += partition.records.len();
                gathered[lane].bytes += partition.bytes;
            }
        }
        for (lane, before) in gathered.iter_mut().zip(before) {
            lane.oldest = (lane.records > 0).then(|| before.oldest.unwrap_or(now));
        }
        self.busy_lanes = is_busy.into_iter().filter(|busy| *busy).count().max(1);
        self.gathered = gathered;
    }

    pub(crate) fn is_current(&self, key: Key, epoch: u64) -> bool {
        self.open
            .get(&key)
            .is_some_and(|partition| partition.epoch == epoch)
    }

    pub(crate) fn done(&mut self, part: &Part, now: Instant) {
        let key = part.key();
        if !self.is_current(key, part.epoch) {
            return;
        }
        if let Some(partition) = self.open.get_mut(&key) {
            partition.committed = part.next_offset();
            partition.progressed = now;
        }
        self.progressed = now;
    }

    /// The polling thread is alive.
    pub(crate) fn beat(&mut self, now: Instant) {
        self.beat = now;
    }

    /// Restarts the clocks of the watchdog, because it is not this instance's fault that nothing was finished until
    /// now, or not known to be.
    pub(crate) fn excuse(&mut self, now: Instant) {
        self.progressed = now;
        for partition in self.open.values_mut() {
            partition.progressed = now;
        }
    }

    /// Notes the ends of the logs. The clock of a partition that had nothing to do until now starts now.
    pub(crate) fn observe(&mut self, highs: &BTreeMap<Key, i64>, now: Instant) {
        if !self.open.values().any(Partition::lags) {
            self.progressed = now;
        }
        for (key, partition) in &mut self.open {
            if !partition.lags() {
                partition.progressed = now;
            }
            if let Some(high) = highs.get(key) {
                partition.high = *high;
            }
        }
    }

    /// Says what is stuck, if something is. One partition gets five times as long while others make progress, because a
    /// large backlog of others may be before it in the queue.
    pub(crate) fn stuck(&self, stall: Duration, now: Instant) -> Option<String> {
        let late = |since: Instant, limit| now.saturating_duration_since(since) > limit;
        if late(self.beat, stall) {
            return Some("the polling thread hangs".to_owned());
        }
        let mut lagging = self.open.values().filter(|partition| partition.lags());
        if lagging.clone().next().is_some() && late(self.progressed, stall) {
            return Some("records are waiting and none gets done".to_owned());
        }
        lagging
            .find(|partition| late(partition.progressed, stall * 5))
            .map(|partition| {
                format!(
                    "records are waiting in a partition of {} and none gets done",
                    partition.topic
                )
            })
    }
}

impl Part {
    pub(crate) fn key(&self) -> Key {
        Key {
            event_type: self.event_type,
            partition: self.partition,
        }
    }
}

impl Raw {
    /// What it takes in memory, roughly.
    fn cost(&self) -> usize {
        self.payload.len() + 48
    }
}

#[cfg(test)]
mod tests;
