//! Kafka to PostgreSQL: `rivulet_aggregator::store` on `rivulet_consumer::positions`.

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Model, Property};

use crate::{Backup, Identity, Instance, Offset, Protection, Record, events};

/// Two partitions, in which two children's events lie with their copies: sent again within a
/// partition, and in another one (the topic was given more partitions meanwhile).
const LOG: [&[Record]; 2] = [
    &[Record::new(0, 0), Record::new(1, 0), Record::new(0, 1)],
    &[Record::new(1, 1), Record::new(0, 0), Record::new(2, 1)],
];

/// More steps than an undisturbed instance needs for the whole log.
const ENOUGH: usize = 60;

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Aggregator {
    /// The protection that is taken out.
    pub without: Option<Protection>,
}

/// What PostgreSQL has committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Database {
    /// `kafka_positions.next_offset`, by partition.
    next_offset: [Offset; LOG.len()],
    /// Day 0 has a partition of `event_seen`.
    day_is_made: bool,
    /// What is in it.
    of_day: BTreeSet<Identity>,
    /// What is apart, in the partition of reset clocks.
    apart: BTreeSet<Identity>,
    /// The rollups: how often each event was added.
    rollup: BTreeMap<u8, u8>,
}

/// Consecutive records `[expected, next)` of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    partition: usize,
    expected: Offset,
    next: Offset,
}

/// What a transaction has done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Its position, whose row it has locked since.
    Advanced,
    /// Looked which events were counted before. The others it remembers and adds, one after the
    /// other in this order; of so many it has locked the rows.
    Adding(Vec<Identity>, usize, Partition),
}

/// The partition of the table `event_seen` in which a transaction remembers identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Partition {
    /// The day's own. The transaction uses it until its end.
    OfDay,
    /// The partition that all days without one share. The day gets none before the end of the transaction.
    Apart,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// It has no position: new, crashed or fenced.
    Away,
    /// It has read the position of a partition, or moved it there itself.
    Open(usize, Offset),
    /// It has a batch, and no transaction.
    Prepared(Batch),
    /// It has a batch in a transaction.
    Committing(Batch, Step),
}

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    database: Database,
    backup: Backup<Database>,
    owners: [Owner; 2],
}

/// A step of an instance or a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads a partition's position: a rebalance, or `resync`. Works on nothing else from here on.
    Open(Instance, usize),
    /// Takes records up to this offset.
    Take(Instance, Offset),
    /// Begins a transaction: locks the position, compares and sets it.
    Advance(Instance),
    /// `Known::ensure`: makes the day's partition, which a batch with timely records needs.
    Make(Instance),
    /// `housekeeping`: drops the day's partition.
    Drop,
    /// `seen::days_apart` and `seen::counted`.
    Counted(Instance),
    /// `seen::remember` and `tables::add`, one row.
    Add(Instance),
    /// Commits.
    Commit(Instance),
    /// Commits, and the answer is lost: the batch is tried again.
    CommitUnheard(Instance),
    /// The connection is lost, and with it the transaction: the batch is tried again.
    LoseConnection(Instance),
    /// Everything that the instance knew is gone.
    Crash(Instance),
    /// Somebody makes a backup.
    BackUp,
    /// The database is put back to the backup; no transaction survives that.
    Rewind,
}

impl Aggregator {
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    fn identity(&self, record: Record) -> Identity {
        record.identity(self.has(Protection::IdDay))
    }

    /// The events of a batch, of copies one, in the order in which their rows are locked.
    fn identities(&self, batch: Batch) -> Vec<Identity> {
        let mut identities = Vec::new();
        for record in &LOG[batch.partition][batch.expected..batch.next] {
            let identity = self.identity(*record);
            if !identities.contains(&identity) {
                identities.push(identity);
            }
        }
        if self.has(Protection::SortedKeys) {
            identities.sort_unstable();
        }
        identities
    }

    /// The other instance holds the lock that this one's next step needs.
    fn waits(&self, state: &State, owner: Instance) -> bool {
        let Owner::Committing(theirs, their_step) = &state.owners[1 - owner] else {
            return false;
        };
        match &state.owners[owner] {
            Owner::Prepared(batch) => {
                batch.partition == theirs.partition && self.has(Protection::OneTransaction)
            }
            Owner::Committing(_, Step::Adding(rows, locked, _)) => {
                let Step::Adding(theirs, held, _) = their_step else {
                    return false;
                };
                rows.get(*locked)
                    .is_some_and(|row| theirs[..*held].contains(row))
            }
            _ => false,
        }
    }

    fn advance(&self, state: &mut State, owner: Instance, batch: Batch) {
        let next_offset = &mut state.database.next_offset[batch.partition];
        let fenced = *next_offset != batch.expected && self.has(Protection::CompareAndSet);
        state.owners[owner] = if fenced {
            Owner::Away
        } else {
            Owner::Committing(batch, Step::Advanced)
        };
        if !fenced && !self.has(Protection::OneTransaction) {
            *next_offset = batch.next;
        }
    }

    /// Takes the lock on the next row, and notices what the transaction before counted.
    fn add(
        &self,
        state: &mut State,
        owner: Instance,
        batch: Batch,
        rows: &[Identity],
        at: usize,
        partition: Partition,
    ) {
        let race = self.has(Protection::UniqueIndex)
            && self.has(Protection::Dedup)
            && state.database.seen(partition).contains(&rows[at]);
        state.owners[owner] = if race {
            Owner::Prepared(batch)
        } else {
            Owner::Committing(batch, Step::Adding(rows.to_vec(), at + 1, partition))
        };
    }

    /// Whether a batch needs the day's partition.
    fn is_timely(batch: Batch) -> bool {
        let records = &LOG[batch.partition][batch.expected..batch.next];
        records.iter().any(|record| record.arrived == 0)
    }

    /// Which of a batch's events are new, and where they will be remembered; `None` where the partition that it
    /// needs was dropped since it was made.
    fn counted(&self, database: &Database, batch: Batch) -> Option<Step> {
        let partition = match (database.day_is_made, Self::is_timely(batch)) {
            (true, _) => Partition::OfDay,
            (false, false) => Partition::Apart,
            (false, true) => return None,
        };
        let mut fresh = self.identities(batch);
        if self.has(Protection::Dedup) {
            let partitions = match self.has(Protection::BothPartitions) {
                true => &[Partition::OfDay, Partition::Apart][..],
                false => &[partition],
            };
            fresh.retain(|identity| {
                let seen = |partition: &Partition| database.seen(*partition).contains(identity);
                !partitions.iter().any(seen)
            });
        }
        Some(Step::Adding(fresh, 0, partition))
    }

    /// A transaction relies on the day's partition: that it is there, or that it is not.
    fn uses(&self, state: &State, partition: Partition) -> bool {
        let uses = |owner: &Owner| matches!(owner, Owner::Committing(_, Step::Adding(.., held)) if *held == partition);
        (partition == Partition::OfDay || self.has(Protection::PartitionsLock))
            && state.owners.iter().any(uses)
    }

    /// Everything that is left is done by this instance alone; the other one is frozen for ever.
    fn recovers(&self, state: &State, alone: Instance) -> bool {
        let mut state = state.clone();
        if let Owner::Committing(batch, _) = state.owners[1 - alone]
            && self.has(Protection::SessionTimeout)
        {
            state.owners[1 - alone] = Owner::Prepared(batch);
        }
        for _ in 0..ENOUGH {
            let lags =
                |partition: &usize| state.database.next_offset[*partition] < LOG[*partition].len();
            let next = match &state.owners[alone] {
                Owner::Open(partition, at) if *at < LOG[*partition].len() => {
                    Action::Take(alone, LOG[*partition].len())
                }
                Owner::Away | Owner::Open(..) => match (0..LOG.len()).find(lags) {
                    Some(partition) => Action::Open(alone, partition),
                    None => return is_exact(&state.database),
                },
                Owner::Prepared(batch)
                    if Self::is_timely(*batch) && !state.database.day_is_made =>
                {
                    Action::Make(alone)
                }
                Owner::Prepared(_) => Action::Advance(alone),
                Owner::Committing(_, Step::Advanced) => Action::Counted(alone),
                Owner::Committing(_, Step::Adding(rows, locked, _)) if *locked < rows.len() => {
                    Action::Add(alone)
                }
                Owner::Committing(..) => Action::Commit(alone),
            };
            match self.next_state(&state, next) {
                Some(after) => state = after,
                None => return false,
            }
        }
        false
    }
}

/// Each event that was consumed is in the rollups.
fn is_complete(database: &Database) -> bool {
    let consumed = LOG
        .iter()
        .zip(database.next_offset)
        .flat_map(|(log, next_offset)| &log[..next_offset]);
    events(consumed)
        .iter()
        .all(|event| database.rollup.contains_key(event))
}

/// Everything is consumed, and each event was added once.
fn is_exact(database: &Database) -> bool {
    let all = events(LOG.into_iter().flatten());
    let once = all.into_iter().map(|event| (event, 1)).collect();
    (0..LOG.len()).all(|partition| database.next_offset[partition] == LOG[partition].len())
        && database.rollup == once
}

impl Database {
    const fn seen(&self, partition: Partition) -> &BTreeSet<Identity> {
        match partition {
            Partition::OfDay => &self.of_day,
            Partition::Apart => &self.apart,
        }
    }

    fn add(&mut self, fresh: &[Identity], partition: Partition) {
        for identity in fresh {
            match partition {
                Partition::OfDay => self.of_day.insert(*identity),
                Partition::Apart => self.apart.insert(*identity),
            };
            let added = self.rollup.entry(identity.event).or_default();
            *added = (*added + 1).min(3);
        }
    }
}

impl Model for Aggregator {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            database: Database::default(),
            backup: Backup::None,
            owners: [Owner::Away, Owner::Away],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for owner in 0..2 {
            match &state.owners[owner] {
                Owner::Away => {}
                Owner::Open(partition, position) => {
                    let ends = position + 1..=LOG[*partition].len();
                    actions.extend(ends.map(|next| Action::Take(owner, next)));
                }
                Owner::Prepared(_) => {
                    actions.extend([Action::Make(owner), Action::Advance(owner)]);
                }
                Owner::Committing(_, Step::Advanced) => actions.push(Action::Counted(owner)),
                Owner::Committing(_, Step::Adding(rows, locked, _)) if *locked < rows.len() => {
                    actions.push(Action::Add(owner));
                }
                Owner::Committing(..) => {
                    actions.extend([Action::Commit(owner), Action::CommitUnheard(owner)]);
                }
            }
            if matches!(state.owners[owner], Owner::Committing(..)) {
                actions.push(Action::LoseConnection(owner));
            } else {
                // What was taken is given up: `is_current` is asked before each transaction.
                actions.extend((0..LOG.len()).map(|partition| Action::Open(owner, partition)));
            }
            actions.push(Action::Crash(owner));
        }
        actions.extend([Action::Drop, Action::BackUp, Action::Rewind]);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Open(owner, partition) => {
                let position = state.database.next_offset[partition];
                state.owners[owner] = Owner::Open(partition, position);
            }
            Action::Take(owner, next) => {
                let Owner::Open(partition, expected) = last.owners[owner] else {
                    return None;
                };
                state.owners[owner] = Owner::Prepared(Batch {
                    partition,
                    expected,
                    next,
                });
            }
            Action::Make(owner) => match last.owners[owner] {
                Owner::Prepared(batch)
                    if Self::is_timely(batch) && !self.uses(last, Partition::Apart) =>
                {
                    state.database.day_is_made = true;
                }
                _ => return None,
            },
            Action::Drop => {
                if !last.database.day_is_made || self.uses(last, Partition::OfDay) {
                    return None;
                }
                state.database.day_is_made = false;
                let late = std::mem::take(&mut state.database.of_day);
                if self.has(Protection::MovedOnDrop) {
                    state.database.apart.extend(late);
                }
            }
            Action::Advance(owner) => match last.owners[owner] {
                Owner::Prepared(batch)
                    if !self.waits(last, owner)
                        && (last.database.day_is_made || !Self::is_timely(batch)) =>
                {
                    self.advance(&mut state, owner, batch);
                }
                _ => return None,
            },
            Action::Counted(owner) => {
                let Owner::Committing(batch, Step::Advanced) = last.owners[owner] else {
                    return None;
                };
                state.owners[owner] = match self.counted(&last.database, batch) {
                    Some(step) => Owner::Committing(batch, step),
                    None => Owner::Prepared(batch),
                };
            }
            Action::Add(owner) => match &last.owners[owner] {
                Owner::Committing(batch, Step::Adding(rows, locked, partition))
                    if !self.waits(last, owner) =>
                {
                    self.add(&mut state, owner, *batch, rows, *locked, *partition);
                }
                _ => return None,
            },
            Action::Commit(owner) | Action::CommitUnheard(owner) => {
                let Owner::Committing(batch, Step::Adding(fresh, _, partition)) =
                    &last.owners[owner]
                else {
                    return None;
                };
                state.database.add(fresh, *partition);
                if self.has(Protection::OneTransaction) {
                    state.database.next_offset[batch.partition] = batch.next;
                }
                state.owners[owner] = match action {
                    Action::Commit(_) => Owner::Open(batch.partition, batch.next),
                    _ => Owner::Prepared(*batch),
                };
            }
            Action::LoseConnection(owner) => {
                let Owner::Committing(batch, _) = last.owners[owner] else {
                    return None;
                };
                state.owners[owner] = Owner::Prepared(batch);
            }
            Action::Crash(owner) => state.owners[owner] = Owner::Away,
            Action::BackUp => match last.backup {
                Backup::None => state.backup = Backup::Made(last.database.clone()),
                _ => return None,
            },
            Action::Rewind => {
                let Backup::Made(database) = &last.backup else {
                    return None;
                };
                state.database = database.clone();
                state.backup = Backup::Restored;
                for owner in &mut state.owners {
                    if let Owner::Committing(batch, _) = owner {
                        *owner = Owner::Prepared(*batch);
                    }
                }
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no event is counted twice", |_, state: &State| {
                state.database.rollup.values().all(|times| *times == 1)
            }),
            Property::always("what was consumed is counted", |_, state: &State| {
                is_complete(&state.database)
            }),
            Property::always(
                "no two wait for each other",
                |model: &Self, state: &State| !(model.waits(state, 0) && model.waits(state, 1)),
            ),
            Property::always("one alone gets all done", |model: &Self, state: &State| {
                (0..2).all(|alone| model.recovers(state, alone))
            }),
            Property::sometimes("all is counted after a rewind", |_, state: &State| {
                state.backup == Backup::Restored && is_exact(&state.database)
            }),
            Property::sometimes(
                "both have the same records",
                |_, state: &State| matches!(&state.owners, [Owner::Prepared(a), Owner::Committing(b, _)] if a == b),
            ),
        ]
    }
}
