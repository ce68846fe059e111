//! The entries of the cache: registrations in memory, bounded, sharded, and never older than the last notice.

use std::time::Instant;

use ahash::RandomState;
use hashlink::LruCache;
use parking_lot::Mutex;
use rivulet_events::{ChildId, Registration};
use uuid::Uuid;

/// Few enough to stay small, and so many that two threads seldom need the same one.
const SHARDS: usize = 32;

/// When an answer was read from PostgreSQL, and through which connection changes to it are heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsOf {
    /// Before the query was sent.
    pub(crate) read_at: Instant,
    /// The [`Confirmation::epoch`] at that time.
    pub(crate) epoch: u64,
}

/// How far the notices heard so far confirm what is in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confirmation {
    /// Counts the connections that listened, one after another.
    epoch: u64,
    /// Everything committed before this was heard in this epoch.
    at: Instant,
    /// The same time of the epoch before, when that ended.
    before: Instant,
}

impl Confirmation {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            epoch: 0,
            at: now,
            before: now,
        }
    }

    /// An answer read now.
    pub(crate) const fn as_of(&self, read_at: Instant) -> AsOf {
        AsOf {
            read_at,
            epoch: self.epoch,
        }
    }

    /// A new connection listens since `now`. What was read before may have changed without a notice.
    pub(crate) const fn begin_epoch(&mut self, now: Instant) {
        self.epoch += 1;
        self.before = self.at;
        self.at = now;
    }

    /// This epoch heard everything committed before `at`.
    pub(crate) const fn confirm(&mut self, at: Instant) {
        self.at = at;
    }

    /// Up to when an answer is known to be true.
    pub(crate) fn of(&self, as_of: AsOf) -> Instant {
        let heard = match self.epoch - as_of.epoch {
            0 => self.at,
            1 => self.before,
            _ => as_of.read_at,
        };
        heard.max(as_of.read_at)
    }
}

/// Permission to store what a read found. It is lost if a notice of that child comes in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket(u64);

#[derive(Clone, Copy)]
struct CacheEntry {
    ticket: u64,
    value: Option<(Registration, AsOf)>,
}

struct Shard {
    next_ticket: u64,
    entries: LruCache<Uuid, CacheEntry, RandomState>,
}

/// The cache itself. It knows no clock and no database.
pub(crate) struct CacheEntries(Box<[Mutex<Shard>]>);

impl CacheEntries {
    /// Holds about `capacity` children. When it is full, those that were not used for the longest are dropped.
    pub(crate) fn new(capacity: usize) -> Self {
        let shard = || {
            let entries = LruCache::with_hasher(capacity.div_ceil(SHARDS), RandomState::new());
            Mutex::new(Shard {
                next_ticket: 0,
                entries,
            })
        };
        Self((0..SHARDS).map(|_| shard()).collect())
    }

    /// The last byte is random in every version of UUID that SDKs make.
    fn shard(&self, id: Uuid) -> &Mutex<Shard> {
        &self.0[usize::from(id.as_bytes()[15]) % SHARDS]
    }

    pub(crate) fn get(&self, child: ChildId) -> Option<(Registration, AsOf)> {
        let mut shard = self.shard(child.uuid()).lock();
        shard
            .entries
            .get(&child.uuid())
            .and_then(|entry| entry.value)
    }

    /// Call it before the query is sent.
    pub(crate) fn begin_read(&self, id: Uuid) -> Ticket {
        let mut shard = self.shard(id).lock();
        if let Some(entry) = shard.entries.peek(&id) {
            return Ticket(entry.ticket);
        }
        let ticket = shard.next_ticket;
        shard.next_ticket += 1;
        let value = None;
        shard.entries.insert(id, CacheEntry { ticket, value });
        Ticket(ticket)
    }

    /// Keeps what a read found, unless the child was forgotten since the read began.
    pub(crate) fn finish_read(
        &self,
        id: Uuid,
        ticket: Ticket,
        found: Option<Registration>,
        as_of: AsOf,
    ) {
        let mut shard = self.shard(id).lock();
        match shard.entries.peek_mut(&id) {
            Some(entry) if entry.ticket == ticket.0 => {
                if let Some(found) = found {
                    entry.value = Some((found, as_of));
                } else {
                    shard.entries.remove(&id);
                }
            }
            _ => {}
        }
    }

    /// The child changed: what is known of it, and what a running read will find, is out of date.
    pub(crate) fn forget(&self, id: Uuid) {
        self.shard(id).lock().entries.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rivulet_events::{ParentId, data::AgeGroup};
    use rivulet_zones::Zone;

    use super::*;

    fn registration(coppa: bool) -> Registration {
        Registration {
            parent_id: ParentId::new(Uuid::from_u128(1)),
            age_group: AgeGroup::WonderCubs,
            timezone: Zone::named("Europe/Rome").unwrap(),
            deleted: false,
            coppa,
            audio: false,
            analytics: false,
            coppa_version: None,
            audio_version: None,
            consent_epoch: 0,
        }
    }

    fn consent(entries: &CacheEntries, id: Uuid) -> Option<bool> {
        entries.get(ChildId::new(id)).map(|(found, _)| found.coppa)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_notice_during_a_read_keeps_its_result_out() {
        let entries = CacheEntries::new(100);
        let as_of = Confirmation::new(Instant::now()).as_of(Instant::now());
        let id = Uuid::from_u128(7);

        let ticket = entries.begin_read(id);
        entries.forget(id);
        entries.finish_read(id, ticket, Some(registration(true)), as_of);
        assert_eq!(consent(&entries, id), None);

        // Another read began after the notice; the late first one must not spoil it either.
        let late = entries.begin_read(id);
        entries.forget(id);
        let fresh = entries.begin_read(id);
        entries.finish_read(id, fresh, Some(registration(false)), as_of);
        entries.finish_read(id, late, Some(registration(true)), as_of);
        assert_eq!(consent(&entries, id), Some(false));
    }

    #[test]
    fn a_full_cache_drops_the_longest_unused_and_unknown_children_take_no_room() {
        let entries = CacheEntries::new(SHARDS * 2);
        let as_of = Confirmation::new(Instant::now()).as_of(Instant::now());
        let in_one_shard = |n: u128| Uuid::from_u128(n << 64);
        for n in 1..=2 {
            let ticket = entries.begin_read(in_one_shard(n));
            entries.finish_read(in_one_shard(n), ticket, Some(registration(true)), as_of);
        }
        assert_eq!(consent(&entries, in_one_shard(1)), Some(true));
        for n in 3..=50 {
            let ticket = entries.begin_read(in_one_shard(n));
            entries.finish_read(in_one_shard(n), ticket, None, as_of);
        }
        assert_eq!(consent(&entries, in_one_shard(1)), Some(true));
        assert_eq!(consent(&entries, in_one_shard(2)), None);
    }

    #[test]
    fn an_echo_confirms_what_was_read_while_its_connection_listened() {
        let start = Instant::now();
        let mut heard = Confirmation::new(start);
        let deaf = heard.as_of(start + SECOND);
        heard.confirm(start);
        assert_eq!(heard.of(deaf), start + SECOND);

        heard.begin_epoch(start + 2 * SECOND);
        let entry = heard.as_of(start + 3 * SECOND);
        heard.confirm(start + 9 * SECOND);
        assert_eq!(heard.of(entry), start + 9 * SECOND);
        assert_eq!(
            heard.of(deaf),
            start + SECOND,
            "read before anybody listened"
        );
    }

    #[test]
    fn a_reconnect_confirms_nothing_that_was_read_before_it() {
        let start = Instant::now();
        let mut heard = Confirmation::new(start);
        heard.begin_epoch(start);
        let entry = heard.as_of(start + SECOND);
        heard.confirm(start + 5 * SECOND);
        heard.begin_epoch(start + 30 * SECOND);
        heard.confirm(start + 40 * SECOND);
        assert_eq!(heard.of(entry), start + 5 * SECOND);
        heard.begin_epoch(start + 50 * SECOND);
        assert_eq!(heard.of(entry), start + SECOND);
    }
}
