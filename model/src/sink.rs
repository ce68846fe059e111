//! Kafka to ClickHouse: `rivulet_sinks::{lanes, delivery, progress}` on `rivulet_consumer::positions`.
//!
//! One partition, since nothing is shared between two. Withheld events and quarantine change what is
//! in a block, never its bounds or its token, and are left out.

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Model, Property};

use crate::{Backup, Instance, Offset, Protection, Record, events};

/// The partition: an event, another one, and a copy of the first that came a day later.
const LOG: &[Record] = &[Record::new(0, 0), Record::new(1, 0), Record::new(0, 1)];

/// More steps than an undisturbed instance needs for the whole log.
const ENOUGH: usize = 40;

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Sink {
    /// The protection that is taken out.
    pub without: Option<Protection>,
}

/// The partition's row of `kafka_positions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    next_offset: Offset,
    pending_end: Option<Offset>,
}

/// The records `[first, end)`. Its bounds are its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    first: Offset,
    end: Offset,
}

/// An instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// It has no position: new, crashed or fenced.
    Away,
    /// It has read the position, or moved it there itself.
    Open(Position),
    /// It has a range, which was begun by somebody before or not.
    Formed {
        /// The range.
        range: Range,
        /// It is the one that the position said was begun.
        is_begun: bool,
    },
    /// The range is begun, and is being inserted.
    Begun(Range),
    /// ClickHouse said that it has the range.
    Inserted(Range),
}

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    position: Position,
    backup: Backup<Position>,
    /// Inserts on their way to ClickHouse; they may arrive long after who sent them is gone.
    requests: BTreeSet<Range>,
    /// The tokens of the inserts that ClickHouse has taken.
    tokens: BTreeSet<Range>,
    /// The bare table: how many rows each record has.
    rows: [u8; LOG.len()],
    owners: [Owner; 2],
}

/// A step of an instance or of ClickHouse, or a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads the position: a rebalance, or `resync`.
    Open(Instance),
    /// Forms a range up to this offset.
    Take(Instance, Offset),
    /// `progress::begin`.
    Begin(Instance),
    /// The same, and the answer is lost: it is tried again.
    BeginUnheard(Instance),
    /// Sends the insert, the first time or again.
    Send(Instance),
    /// The insert's answer arrives.
    Answer(Instance),
    /// `progress::finish`.
    Finish(Instance),
    /// The same, and the answer is lost: it is tried again.
    FinishUnheard(Instance),
    /// Everything that the instance knew is gone; what it sent is not.
    Crash(Instance),
    /// ClickHouse takes an insert.
    Land(Range),
    /// An insert is lost on its way.
    Drop(Range),
    /// Somebody makes a backup of PostgreSQL.
    BackUp,
    /// PostgreSQL is put back to the backup, and ClickHouse is not.
    Rewind,
}

impl Sink {
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    /// Where the position is after `range` was begun; `None` if that is fenced.
    fn begin(&self, at: Position, range: Range) -> Option<Position> {
        let is_there = at.next_offset == range.first || !self.has(Protection::CompareAndSet);
        let is_free = at.pending_end.is_none() || !self.has(Protection::CompareAndSet);
        let pending_end = self.has(Protection::PendingEnd).then_some(range.end);
        (is_there && is_free).then_some(Position { pending_end, ..at })
    }

    /// Where the position is after `range` was finished; `None` if that is fenced.
    fn finish(&self, at: Position, range: Range) -> Option<Position> {
        let pending_end = self.has(Protection::PendingEnd).then_some(range.end);
        let is_there = at.next_offset == range.first && at.pending_end == pending_end;
        (is_there || !self.has(Protection::CompareAndSet)).then_some(Position {
            next_offset: range.end,
            pending_end: None,
        })
    }

    /// Everything that is left is done by this instance alone; the other one is frozen for ever.
    fn recovers(&self, state: &State, alone: Instance) -> bool {
        let mut state = state.clone();
        for _ in 0..ENOUGH {
            let next = match state.owners[alone] {
                Owner::Open(position) if position.next_offset < LOG.len() => {
                    Action::Take(alone, position.pending_end.unwrap_or(LOG.len()))
                }
                Owner::Away | Owner::Open(_) if state.position.next_offset < LOG.len() => {
                    Action::Open(alone)
                }
                Owner::Away | Owner::Open(_) => return self.is_exact(&state),
                Owner::Formed { .. } => Action::Begin(alone),
                Owner::Begun(range) if state.requests.contains(&range) => Action::Land(range),
                Owner::Begun(range) if state.tokens.contains(&range) => Action::Answer(alone),
                Owner::Begun(_) => Action::Send(alone),
                Owner::Inserted(_) => Action::Finish(alone),
            };
            match self.next_state(&state, next) {
                Some(after) => state = after,
                None => return false,
            }
        }
        false
    }

    /// Everything is consumed, and `history` has each event once, in its first copy.
    fn is_exact(&self, state: &State) -> bool {
        let history = self.history(state);
        state.position.next_offset == LOG.len()
            && events(LOG).into_iter().all(|event| {
                let first = LOG.iter().position(|record| record.event == event);
                history.get(&event) == Some(&Vec::from_iter(first))
            })
    }

    /// The view `history`: the records of each event that it shows. `ReplacingMergeTree` keeps of each
    /// identity the copy with the lowest offset.
    fn history(&self, state: &State) -> BTreeMap<u8, Vec<Offset>> {
        let mut kept = BTreeSet::new();
        let mut history = BTreeMap::<u8, Vec<Offset>>::new();
        for (offset, record) in LOG.iter().enumerate() {
            let identity = record.identity(self.has(Protection::IdDay));
            for _ in 0..state.rows[offset] {
                if kept.insert(identity) || !self.has(Protection::Dedup) {
                    history.entry(record.event).or_default().push(offset);
                }
            }
        }
        history
    }
}

impl Model for Sink {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            position: Position::default(),
            backup: Backup::None,
            requests: BTreeSet::new(),
            tokens: BTreeSet::new(),
            rows: [0; LOG.len()],
            owners: [Owner::Away; 2],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for owner in 0..2 {
            actions.extend([Action::Open(owner), Action::Crash(owner)]);
            match state.owners[owner] {
                Owner::Away => {}
                Owner::Open(at) => {
                    let ends = match at.pending_end {
                        Some(end) => end..=end,
                        None => at.next_offset + 1..=LOG.len(),
                    };
                    actions.extend(ends.map(|end| Action::Take(owner, end)));
                }
                Owner::Formed { .. } => {
                    actions.extend([Action::Begin(owner), Action::BeginUnheard(owner)]);
                }
                Owner::Begun(_) => {
                    actions.extend([Action::Send(owner), Action::Answer(owner)]);
                    if !self.has(Protection::InsertFirst) {
                        actions.push(Action::Finish(owner));
                    }
                }
                Owner::Inserted(_) => {
                    actions.extend([Action::Finish(owner), Action::FinishUnheard(owner)]);
                }
            }
        }
        for range in &state.requests {
            actions.extend([Action::Land(*range), Action::Drop(*range)]);
        }
        actions.extend([Action::BackUp, Action::Rewind]);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Open(owner) => state.owners[owner] = Owner::Open(last.position),
            Action::Take(owner, end) => {
                let Owner::Open(at) = last.owners[owner] else {
                    return None;
                };
                state.owners[owner] = Owner::Formed {
                    range: Range {
                        first: at.next_offset,
                        end,
                    },
                    is_begun: at.pending_end.is_some(),
                };
            }
            Action::Begin(owner) | Action::BeginUnheard(owner) => {
                let Owner::Formed { range, is_begun } = last.owners[owner] else {
                    return None;
                };
                let begun = if is_begun {
                    Some(last.position)
                } else {
                    self.begin(last.position, range)
                };
                state.position = begun.unwrap_or(last.position);
                state.owners[owner] = match (begun, action) {
                    (None, _) => Owner::Away,
                    (_, Action::Begin(_)) => Owner::Begun(range),
                    _ => last.owners[owner],
                };
            }
            Action::Send(owner) => {
                let Owner::Begun(range) = last.owners[owner] else {
                    return None;
                };
                state.requests.insert(range);
            }
            Action::Answer(owner) => match last.owners[owner] {
                Owner::Begun(range) if last.tokens.contains(&range) => {
                    state.owners[owner] = Owner::Inserted(range);
                }
                _ => return None,
            },
            Action::Finish(owner) | Action::FinishUnheard(owner) => {
                let (Owner::Begun(range) | Owner::Inserted(range)) = last.owners[owner] else {
                    return None;
                };
                let finished = self.finish(last.position, range);
                state.position = finished.unwrap_or(last.position);
                state.owners[owner] = match (finished, action) {
                    (None, _) => Owner::Away,
                    (Some(at), Action::Finish(_)) => Owner::Open(at),
                    _ => last.owners[owner],
                };
            }
            Action::Crash(owner) => state.owners[owner] = Owner::Away,
            Action::Land(range) => {
                state.requests.remove(&range);
                if state.tokens.insert(range) || !self.has(Protection::Token) {
                    for rows in &mut state.rows[range.first..range.end] {
                        *rows = (*rows + 1).min(3);
                    }
                }
            }
            Action::Drop(range) => {
                state.requests.remove(&range);
            }
            Action::BackUp => match last.backup {
                Backup::None => state.backup = Backup::Made(last.position),
                _ => return None,
            },
            Action::Rewind => {
                let Backup::Made(position) = last.backup else {
                    return None;
                };
                state.position = position;
                state.backup = Backup::Restored;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no record has two rows", |_, state: &State| {
                // Ranges formed after a rewind have other bounds; `history` tells their rows apart.
                state.backup == Backup::Restored || state.rows.iter().all(|rows| *rows <= 1)
            }),
            Property::always("what the position passed is stored", |_, state: &State| {
                state.rows[..state.position.next_offset]
                    .iter()
                    .all(|rows| *rows > 0)
            }),
            Property::always(
                "history has each event once",
                |model: &Self, state: &State| {
                    let shown = model.history(state);
                    shown.values().all(|records| records.len() == 1)
                        && (state.position.next_offset < LOG.len() || model.is_exact(state))
                },
            ),
            Property::always("one alone gets all done", |model: &Self, state: &State| {
                (0..2).all(|alone| model.recovers(state, alone))
            }),
            Property::sometimes("a rewind repeats rows", |model: &Self, state: &State| {
                state.rows.iter().any(|rows| *rows > 1) && model.is_exact(state)
            }),
            Property::sometimes("an insert outlives its sender", |_, state: &State| {
                state.owners == [Owner::Away; 2] && !state.requests.is_empty()
            }),
        ]
    }
}
