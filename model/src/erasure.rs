//! Forgetting a child while everybody goes on storing: `rivulet_erasure::{request, told, work}` against
//! `rivulet_registry::tombstones`, the aggregator's transactions and the sink's blocks.
//!
//! One child, whose events never end: each transaction and each block has one of them, but where the tombstone was
//! seen. What is stored of it is there or not; how often is the other models' question.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::{Instance, Protection};

/// How many blocks the sink makes.
const BLOCKS: u8 = 2;

/// Two aggregators, then two sinks.
const SINKS: [Instance; 2] = [2, 3];

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Erasure {
    /// The protection that is taken out.
    pub without: Option<Protection>,
}

/// A transaction that stores something, or begins a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// It shares the lock that is there to be seen.
    holds: bool,
    /// It has looked for the tombstone: whether it was there.
    saw: Option<bool>,
}

/// A block of the sink. Its number stands for its bounds, which are its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    number: u8,
    has_child: bool,
}

/// What an instance does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Nothing, or it has crashed.
    #[default]
    Away,
    /// It is in a transaction.
    Open(Transaction),
    /// A sink: it inserts the block that was begun.
    Begun(Block),
}

/// How far the erasure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Progress {
    /// Nobody has asked.
    None,
    /// The tombstone is committed.
    Requested,
    /// It waits for those who held then and still do.
    Noted([bool; 4]),
    /// Nobody stores anything any more who has not seen the tombstone.
    Told,
    /// ClickHouse was cleaned.
    HistoryClean,
    /// PostgreSQL was cleaned, too.
    Done,
}

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    progress: Progress,
    owners: [Owner; 4],
    /// The rollups have something of the child.
    rollup: bool,
    /// The sink's position, in blocks.
    next: u8,
    /// The block there is begun; whether the tombstone was seen.
    begun: Option<bool>,
    /// Inserts on their way; they may arrive long after who sent them is gone.
    requests: BTreeSet<Block>,
    /// The tokens that ClickHouse has taken.
    tokens: BTreeSet<u8>,
    /// The history has something of the child.
    history: bool,
}

/// A step of somebody, or a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begins a transaction with its first step.
    Begin(Instance),
    /// Its second step.
    GoOn(Instance),
    /// Commits.
    Commit(Instance),
    /// Forms the block that is begun.
    Form(Instance),
    /// Sends the insert, the first time or again.
    Send(Instance),
    /// The insert was acknowledged: moves the position.
    Finish(Instance),
    /// Everything that the instance knew is gone; what it sent is not.
    Crash(Instance),
    /// ClickHouse takes an insert.
    Land(Block),
    /// An insert is lost on its way.
    Lose(Block),
    /// Somebody asks for the erasure.
    Request,
    /// Notes who holds.
    Note,
    /// Those are gone, and the blocks from before.
    Tell,
    /// Mutates.
    CleanHistory,
    /// Deletes.
    CleanRollup,
    /// Whoever carries it on crashes, and another one goes on.
    CrashEraser,
}

impl Erasure {
    fn has(&self, protection: Protection) -> bool {
        self.without != Some(protection)
    }

    fn look(&self, state: &State) -> bool {
        state.is_requested() && self.has(Protection::Tombstones)
    }

    /// The two steps of a transaction before it stores: it holds, and it looks.
    fn step(&self, state: &State, transaction: Transaction) -> Transaction {
        let looks_first = !self.has(Protection::HoldFirst);
        if transaction.holds || (looks_first && transaction.saw.is_none()) {
            let saw = Some(self.look(state));
            Transaction { saw, ..transaction }
        } else {
            Transaction {
                holds: true,
                ..transaction
            }
        }
    }

    /// The block at the position, as whoever forms it now does.
    fn block(&self, state: &State, seen: bool) -> Block {
        let seen = match self.has(Protection::PendingTombstone) {
            true => seen,
            false => self.look(state),
        };
        Block {
            number: state.next,
            has_child: !seen,
        }
    }
}

impl State {
    fn is_requested(&self) -> bool {
        self.progress != Progress::None
    }

    /// Ends what an instance was at. Nobody waits for its transaction any more.
    fn leave(&mut self, owner: Instance, to: Owner) {
        self.owners[owner] = to;
        if let Progress::Noted(holders) = &mut self.progress {
            holders[owner] = false;
        }
    }
}

impl Model for Erasure {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            progress: Progress::None,
            owners: [Owner::Away; 4],
            rollup: true,
            next: 0,
            begun: None,
            requests: BTreeSet::new(),
            tokens: BTreeSet::new(),
            history: true,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for owner in 0..state.owners.len() {
            match state.owners[owner] {
                Owner::Away if SINKS.contains(&owner) && state.begun.is_some() => {
                    actions.push(Action::Form(owner));
                }
                Owner::Away => actions.push(Action::Begin(owner)),
                Owner::Open(Transaction {
                    holds: true,
                    saw: Some(_),
                }) => actions.push(Action::Commit(owner)),
                Owner::Open(_) => actions.push(Action::GoOn(owner)),
                Owner::Begun(_) => actions.extend([Action::Send(owner), Action::Finish(owner)]),
            }
            actions.push(Action::Crash(owner));
        }
        for block in &state.requests {
            actions.extend([Action::Land(*block), Action::Lose(*block)]);
        }
        actions.push(match state.progress {
            Progress::None => Action::Request,
            Progress::Requested => Action::Note,
            Progress::Noted(_) => Action::Tell,
            Progress::Told => Action::CleanHistory,
            Progress::HistoryClean => Action::CleanRollup,
            Progress::Done => return,
        });
        actions.push(Action::CrashEraser);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Begin(owner) => {
                if SINKS.contains(&owner) && last.next == BLOCKS {
                    return None;
                }
                let begun = self.step(last, Transaction::default());
                state.owners[owner] = Owner::Open(begun);
            }
            Action::GoOn(owner) => {
                let Owner::Open(transaction) = last.owners[owner] else {
                    return None;
                };
                state.owners[owner] = Owner::Open(self.step(last, transaction));
            }
            Action::Commit(owner) => {
                let Owner::Open(Transaction { saw: Some(saw), .. }) = last.owners[owner] else {
                    return None;
                };
                state.leave(owner, Owner::Away);
                if !SINKS.contains(&owner) {
                    state.rollup |= !saw;
                } else if last.begun.is_none() && last.next < BLOCKS {
                    // Otherwise it is fenced.
                    state.begun = Some(saw);
                }
            }
            Action::Form(owner) => {
                state.owners[owner] = Owner::Begun(self.block(last, last.begun?));
            }
            Action::Send(owner) => {
                let Owner::Begun(block) = last.owners[owner] else {
                    return None;
                };
                state.requests.insert(block);
            }
            Action::Finish(owner) => match last.owners[owner] {
                Owner::Begun(block) if last.tokens.contains(&block.number) => {
                    state.owners[owner] = Owner::Away;
                    if last.next == block.number {
                        state.next += 1;
                        state.begun = None;
                    }
                }
                _ => return None,
            },
            Action::Crash(owner) => state.leave(owner, Owner::Away),
            Action::Land(block) => {
                state.requests.remove(&block);
                if state.tokens.insert(block.number) || !self.has(Protection::Token) {
                    state.history |= block.has_child;
                }
            }
            Action::Lose(block) => {
                state.requests.remove(&block);
            }
            Action::Request => state.progress = Progress::Requested,
            Action::Note => {
                let holds = |owner: &Owner| {
                    matches!(owner, Owner::Open(Transaction { holds: true, .. }))
                        && self.has(Protection::WaitForHolders)
                };
                state.progress = Progress::Noted(last.owners.each_ref().map(holds));
            }
            Action::Tell => {
                let is_from_before =
                    last.begun == Some(false) && self.has(Protection::WaitForBlocks);
                if last.progress != Progress::Noted([false; 4]) || is_from_before {
                    return None;
                }
                state.progress = Progress::Told;
            }
            Action::CleanHistory => {
                state.history = false;
                state.progress = Progress::HistoryClean;
            }
            Action::CleanRollup => {
                state.rollup = false;
                // It is done only when both are found clean.
                state.progress = match last.history {
                    true => Progress::Told,
                    false => Progress::Done,
                };
            }
            Action::CrashEraser => {
                state.progress = match last.progress {
                    Progress::Noted(_) => Progress::Requested,
                    Progress::HistoryClean => Progress::Told,
                    _ => return None,
                };
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("what is erased does not come back", |_, state: &State| {
                state.progress != Progress::Done || !(state.rollup || state.history)
            }),
            Property::always(
                "a block is the same whoever forms it",
                |_, state: &State| {
                    (0..BLOCKS).all(|number| {
                        let of = |has_child| Block { number, has_child };
                        !(state.requests.contains(&of(true)) && state.requests.contains(&of(false)))
                    })
                },
            ),
            Property::sometimes("it is done while others go on", |_, state: &State| {
                state.progress == Progress::Done
                    && state.owners.iter().all(|owner| *owner != Owner::Away)
            }),
            Property::sometimes(
                "an insert from before is on its way when it is done",
                |_, state: &State| {
                    let is_from_before = |block: &Block| block.has_child;
                    state.progress == Progress::Done && state.requests.iter().any(is_from_before)
                },
            ),
        ]
    }
}
