//! Reads and refusals, which are frequent: put together in memory by who, what and whom, and written once a minute.
//!
//! What is in memory is bounded. What does not fit is still counted, in a row that does not say whom it was about; and
//! what is left when a process ends without PostgreSQL is counted as lost. A process that is killed loses what it had
//! not written, a minute at most.

use std::{collections::BTreeMap, mem};

use ahash::AHashMap;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::{
    Action, Actor, Entry, Outcome, Subject,
    entry::{SUBJECTS, record_all},
    hex,
    metrics::{COARSE, GROUPED_ROWS},
};

/// Subjects in memory, over all groups: some 10 MB.
const MOST_SUBJECTS: usize = 50_000;
/// Groups in memory.
const MOST_GROUPS: usize = 20_000;
/// Subjects that are told of one actor's refusals in a row. Who guesses ids must not fill the table.
const REFUSED_SUBJECTS: usize = 16;
/// Rows that are committed together, and how many subjects they may have. Who appends something meanwhile waits for some
/// 50 ms.
const CHUNK: usize = 200;
const CHUNK_SUBJECTS: usize = 5_000;

/// Reads and refusals that are not written yet.
#[derive(Debug, Default)]
pub struct Groups {
    buffer: Mutex<Buffer>,
    /// Told when it should be written before its time.
    pub(crate) is_full: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    groups: AHashMap<Key, Group>,
    /// Subjects of all groups.
    subjects: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    actor: Actor,
    action: Action,
    outcome: Outcome,
}

#[derive(Debug, Default)]
struct Group {
    subjects: AHashMap<Subject, Seen>,
    /// About nobody, or about somebody for whom there was no room.
    others: Option<Seen>,
    /// The first request's.
    request_id: Option<String>,
}

#[derive(Clone, Debug)]
struct Seen {
    /// At what, or why not; sorted.
    kinds: Vec<&'static str>,
    times: u64,
    first: DateTime<Utc>,
    last: DateTime<Utc>,
}

impl Seen {
    fn now(now: DateTime<Utc>) -> Self {
        Self {
            kinds: Vec::new(),
            times: 0,
            first: now,
            last: now,
        }
    }

    fn add(&mut self, kind: &'static str, now: DateTime<Utc>) {
        if let Err(place) = self.kinds.binary_search(&kind) {
            self.kinds.insert(place, kind);
        }
        self.times += 1;
        self.last = now;
    }

    fn merge(&mut self, other: &Self) {
        self.times += other.times;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// What [`Groups::note`] is told.
#[derive(Clone, Debug)]
pub(crate) struct Noted<'a> {
    pub(crate) actor: Actor,
    pub(crate) action: Action,
    pub(crate) outcome: Outcome,
    pub(crate) kind: &'static str,
    pub(crate) subject: Option<Subject>,
    pub(crate) request_id: Option<&'a str>,
    pub(crate) now: DateTime<Utc>,
}

impl Groups {
    /// Notes that `actor` did this, or was refused it. `kind` says at what was looked, or why it was refused, by one of
    /// few words. It takes about a microsecond and never waits for PostgreSQL.
    pub fn note(
        &self,
        (actor, request_id): (Actor, Option<&str>),
        action: Action,
        outcome: Outcome,
        kind: &'static str,
        subject: Option<Subject>,
    ) {
        let noted = Noted {
            actor,
            action,
            outcome,
            kind,
            subject,
            request_id,
            now: Utc::now(),
        };
        if self.buffer.lock().add(noted) {
            self.is_full.notify_one();
        }
    }

    /// Takes out what there is, as the rows that it becomes.
    pub(crate) fn take(&self) -> Vec<Entry> {
        mem::take(&mut *self.buffer.lock()).into_entries()
    }
}

impl Buffer {
    /// Returns whether it should be written soon.
    fn add(&mut self, noted: Noted<'_>) -> bool {
        let mut key = Key {
            actor: noted.actor,
            action: noted.action,
            outcome: noted.outcome,
        };
        let mut subject = noted.subject;
        if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&key) {
            COARSE.with(["full"]).increment(1);
            key.actor = Actor::Unknown;
            subject = None;
        }
        let is_refused = noted.outcome != Outcome::Done;
        let group = self.groups.entry(key).or_insert_with(|| Group {
            request_id: noted.request_id.map(str::to_owned),
            ..Group::default()
        });
        if let Some(about) = subject
            && !group.subjects.contains_key(&about)
        {
            if is_refused && group.subjects.len() >= REFUSED_SUBJECTS {
                COARSE.with(["refused"]).increment(1);
                subject = None;
            } else if self.subjects >= MOST_SUBJECTS {
                COARSE.with(["full"]).increment(1);
                subject = None;
            } else {
                self.subjects += 1;
            }
        }
        let seen = match subject {
            Some(subject) => group
                .subjects
                .entry(subject)
                .or_insert_with(|| Seen::now(noted.now)),
            None => group.others.get_or_insert_with(|| Seen::now(noted.now)),
        };
        seen.add(noted.kind, noted.now);
        self.subjects >= MOST_SUBJECTS / 2 || self.groups.len() >= MOST_GROUPS / 2
    }

    /// Subjects of whom an actor saw the same kinds are told in one row.
    fn into_entries(self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (key, group) in self.groups {
            let mut alike: BTreeMap<_, Vec<(Vec<Subject>, Seen)>> = BTreeMap::new();
            for (subject, seen) in group.subjects {
                let rows = alike.entry((subject.kind, seen.kinds.clone())).or_default();
                match rows.last_mut() {
                    Some((subjects, all)) if subjects.len() < SUBJECTS => {
                        subjects.push(subject);
                        all.merge(&seen);
                    }
                    _ => rows.push((vec![subject], seen)),
                }
            }
            let entry = |seen: &Seen| {
                let mut entry = Entry::of(key.action, key.outcome);
                entry.actor = Some(key.actor.clone());
                entry.request_id.clone_from(&group.request_id);
                entry.times = seen.times;
                entry.between = Some((seen.first, seen.last));
                let word = match key.outcome {
                    Outcome::Done => "kinds",
                    _ => "reasons",
                };
                entry.detail(word, seen.kinds.clone())
            };
            for ((kind, _), rows) in alike {
                for (mut subjects, seen) in rows {
                    subjects.sort_unstable();
                    let hashes = subjects.iter().map(|subject| hex(&subject.hash));
                    entries.push(entry(&seen).about(kind, hashes));
                }
            }
            if let Some(seen) = &group.others {
                entries.push(entry(seen));
            }
        }
        entries
    }
}

/// Writes entries, as many as PostgreSQL takes; what is left stays in the list.
///
/// # Errors
/// PostgreSQL did not take some. They may be tried again.
pub(crate) async fn write(pool: &PgPool, entries: &mut Vec<Entry>) -> Result<(), sqlx::Error> {
    while !entries.is_empty() {
        let mut subjects = 0;
        let fits = |entry: &&Entry| {
            subjects += entry.subjects.len();
            subjects <= CHUNK_SUBJECTS
        };
        let fitting = entries.iter().rev().take(CHUNK).take_while(fits).count();
        let some = entries.len() - fitting.max(1);
        let mut transaction = pool.begin().await?;
        record_all(&mut transaction, &entries[some..]).await?;
        transaction.commit().await?;
        GROUPED_ROWS.increment((entries.len() - some) as u64);
        entries.truncate(some);
    }
    Ok(())
}

/// Doings that these entries stand for.
pub(crate) fn times(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.times).sum()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn noted(actor: Actor, outcome: Outcome, kind: &'static str, child: u128) -> Noted<'static> {
        Noted {
            actor,
            action: Action::Read,
            outcome,
            kind,
            subject: Some(Subject::child(Uuid::from_u128(child))),
            request_id: None,
            now: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_row_tells_of_all_of_whom_the_same_was_seen() {
        let mut buffer = Buffer::default();
        let parent = Actor::token(Uuid::from_u128(1));
        for (kind, child) in [
            ("daily", 1),
            ("streak", 1),
            ("daily", 2),
            ("daily", 3),
            ("daily", 3),
        ] {
            buffer.add(noted(parent.clone(), Outcome::Done, kind, child));
        }
        buffer.add(noted(Actor::Key([1; 32]), Outcome::Done, "daily", 1));
        let mut entries = buffer.into_entries();
        entries.sort_by_key(|entry| entry.times);
        assert_eq!(
            entries.iter().map(|entry| entry.times).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert_eq!(times(&entries), 6);
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_uncounted() {
        let mut buffer = Buffer::default();
        let key = Actor::Key([1; 32]);
        for child in 0..(MOST_SUBJECTS as u128 + 10) {
            buffer.add(noted(key.clone(), Outcome::Done, "daily", child));
        }
        for child in 0..100 {
            buffer.add(noted(key.clone(), Outcome::Refused, "not_found", child));
        }
        let mut actors = buffer.groups.len();
        for parent in 0..(MOST_GROUPS as u128 + 10) {
            let actor = Actor::token(Uuid::from_u128(parent));
            buffer.add(noted(actor, Outcome::Refused, "not_found", parent));
            actors += 1;
        }
        assert!(buffer.subjects <= MOST_SUBJECTS && actors > MOST_GROUPS);
        assert!(buffer.groups.len() <= MOST_GROUPS + 1);
        let entries = buffer.into_entries();
        let all = (MOST_SUBJECTS + 10) + 100 + (MOST_GROUPS + 10);
        assert_eq!(times(&entries), all as u64);
        // Many subjects are several rows, none of them long.
        assert!(entries.iter().all(|entry| entry.subjects.len() <= SUBJECTS));
        let named: usize = entries.iter().map(|entry| entry.subjects.len()).sum();
        assert!(
            (MOST_SUBJECTS - 100..=MOST_SUBJECTS).contains(&named),
            "{named}"
        );
    }
}
