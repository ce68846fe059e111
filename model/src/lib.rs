//! The protocol that counts each event once, small enough to be checked in every interleaving.
//!
//! [`aggregator`] and [`sink`] say in one file each what `rivulet-consumer`, `rivulet-aggregator` and
//! `rivulet-sinks` do, by the same names: two instances that may both believe they own a partition,
//! crashes, commits whose answer is lost, a database put back to an earlier state. Time and Kafka's group
//! are left out: any instance opens any partition at any moment, which is more than a rebalance can do.
//!
//! [`erasure`] says how a child is forgotten meanwhile.
//!
//! Every protection of the code is a [`Protection`] of the model. With all of them no reachable
//! state breaks a property; the tests take out one at a time and expect the counterexample.

pub mod aggregator;
pub mod erasure;
pub mod sink;

use std::collections::BTreeSet;

/// What the code does so that nothing is lost or counted twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// `positions`: a position moves only from where it is believed to be.
    CompareAndSet,
    /// `store::seen` and `ReplacingMergeTree`: copies of an event are recognised.
    Dedup,
    /// The unique index of `event_seen`: a copy that another transaction counts meanwhile is noticed.
    UniqueIndex,
    /// `seen::counted`: an identity is looked for with its day and apart, wherever it would be remembered now.
    BothPartitions,
    /// `partitions::seen_days`: the partition of a day that was not there is not made under a transaction.
    PartitionsLock,
    /// `partitions::drop_seen_before`: what arrived late is not forgotten with its day.
    MovedOnDrop,
    /// `Identity`: its day is one that the client repeats, not the day of arrival.
    IdDay,
    /// Position, identities and sums commit together.
    OneTransaction,
    /// Rows are locked in the order of their keys.
    SortedKeys,
    /// `idle_in_transaction_session_timeout`: a frozen instance loses its locks.
    SessionTimeout,
    /// `positions::begin_range`: what was begun is formed again as it was.
    PendingEnd,
    /// `insert_deduplication_token`: a block that is inserted again under its token adds nothing.
    Token,
    /// `positions::finish_range` comes after the insert was acknowledged.
    InsertFirst,
    /// `Tombstones::has`: what is of somebody who was erased is dropped.
    Tombstones,
    /// `tombstones::HOLD`: a transaction holds before it looks.
    HoldFirst,
    /// `tombstones::holders_end`: an erasure waits for who held when it began.
    WaitForHolders,
    /// `told::blocks`: and for the blocks that were begun before.
    WaitForBlocks,
    /// `kafka_positions.pending_tombstone`: a block is formed again as it was begun.
    PendingTombstone,
}

/// A record of the log.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// What the client calls the event: copies share it.
    pub event: u8,
    /// The day the record arrived. Its event happened on day 0, by the device's clock; what arrives on another
    /// day is not timely.
    pub arrived: u8,
}

/// What makes copies one: the event and its id-day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    event: u8,
    day: u8,
}

impl Record {
    const fn new(event: u8, arrived: u8) -> Self {
        Self { event, arrived }
    }

    fn identity(self, id_day: bool) -> Identity {
        Identity {
            event: self.event,
            day: if id_day { 0 } else { self.arrived },
        }
    }
}

fn events<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeSet<u8> {
    records.into_iter().map(|record| record.event).collect()
}

/// A copy of the database that an operator may put back, once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Backup<D> {
    /// Not made yet.
    None,
    /// As the database was at some moment.
    Made(D),
    /// Put back in place of the database.
    Restored,
}

/// One of the two instances.
pub type Instance = usize;

/// The offset of a record, or the position before it.
pub type Offset = usize;
