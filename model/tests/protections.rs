//! With all protections the models hold in every state; without one of them, a state breaks them.

#![allow(
    clippy::print_stdout,
    reason = "the ways and their number, for whoever asks"
)]

use std::{fmt::Debug, hash::Hash};

use rivulet_model::{
    Protection::{
        self, BothPartitions, CompareAndSet, Dedup, HoldFirst, IdDay, InsertFirst, MovedOnDrop,
        OneTransaction, PartitionsLock, PendingEnd, PendingTombstone, SessionTimeout, SortedKeys,
        Token, Tombstones, UniqueIndex, WaitForBlocks, WaitForHolders,
    },
    aggregator::Aggregator,
    erasure::Erasure,
    sink::Sink,
};
use stateright::{Checker as _, HasDiscoveries, Model};

/// No state breaks a property, and those states are reached that make the check worth something.
fn holds<M>(model: M)
where
    M: Model<
            Action: Clone + Debug + PartialEq,
            State: Clone + Debug + Hash + PartialEq + Send + Sync,
        >,
    M: Send + Sync + 'static,
{
    let checker = model
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    checker.assert_properties();
    println!(
        "{} states, at most {} steps",
        checker.unique_state_count(),
        checker.max_depth()
    );
}

/// Prints a short way to a state that breaks this property.
fn breaks<M>(without: Protection, property: &'static str, model: M)
where
    M: Model<
            Action: Clone + Debug + PartialEq,
            State: Clone + Debug + Hash + PartialEq + Send + Sync,
        >,
    M: Send + Sync + 'static,
{
    let wanted = HasDiscoveries::AnyOf([property].into());
    let checker = model.checker().finish_when(wanted).spawn_bfs().join();
    let Some(path) = checker.discovery(property) else {
        panic!("without {without:?} it still holds that {property}");
    };
    let states = checker.unique_state_count();
    println!("without {without:?} it breaks that {property} ({states} states looked at):");
    for action in path.into_actions() {
        println!("    {action:?}");
    }
}

#[test]
fn the_aggregator_counts_each_event_once() {
    holds(Aggregator { without: None });
}

#[test]
fn the_sink_stores_each_event_once() {
    holds(Sink { without: None });
}

#[test]
fn who_is_erased_does_not_come_back() {
    holds(Erasure { without: None });
}

#[test]
fn an_erasure_needs_each_protection() {
    let comes_back = "what is erased does not come back";
    for (protection, property) in [
        (Tombstones, comes_back),
        (HoldFirst, comes_back),
        (WaitForHolders, comes_back),
        (WaitForBlocks, comes_back),
        (Token, comes_back),
        (PendingTombstone, "a block is the same whoever forms it"),
    ] {
        let without = Some(protection);
        breaks(protection, property, Erasure { without });
    }
}

#[test]
fn the_aggregator_needs_each_protection() {
    for (protection, property) in [
        (CompareAndSet, "what was consumed is counted"),
        (Dedup, "no event is counted twice"),
        (UniqueIndex, "no event is counted twice"),
        (BothPartitions, "no event is counted twice"),
        (PartitionsLock, "no event is counted twice"),
        (MovedOnDrop, "no event is counted twice"),
        (IdDay, "no event is counted twice"),
        (OneTransaction, "what was consumed is counted"),
        (SortedKeys, "no two wait for each other"),
        (SessionTimeout, "one alone gets all done"),
    ] {
        let without = Some(protection);
        breaks(protection, property, Aggregator { without });
    }
}

#[test]
fn the_sink_needs_each_protection() {
    for (protection, property) in [
        (CompareAndSet, "no record has two rows"),
        (PendingEnd, "no record has two rows"),
        (Token, "no record has two rows"),
        (InsertFirst, "what the position passed is stored"),
        (Dedup, "history has each event once"),
        (IdDay, "history has each event once"),
    ] {
        let without = Some(protection);
        breaks(protection, property, Sink { without });
    }
}
