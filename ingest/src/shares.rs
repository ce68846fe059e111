//! Limited resources, shared among senders so that there is always some left for another sender.
//!
//! A sender may hold as much as is still free (the dynamic thresholds of Choudhury and Hahne, 1998, with alpha = 1): a
//! single sender gets half of all there is, two get a third each, and n of them get an (n + 1)th each. A sender that
//! holds nothing yet finds as much free as any other holds. No sender has to be known beforehand.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use parking_lot::Mutex;

use crate::sender::SenderId;

/// A bound on what is held at one time, by all senders together and by each of them.
#[derive(Debug)]
pub(crate) struct Shares {
    max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    by_sender: HashMap<SenderId, usize, RandomState>,
}

impl Shares {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            state: Mutex::default(),
        })
    }

    /// The most that a single sender can hold if there is `max` of it.
    pub(crate) const fn of_one(max: usize) -> usize {
        max / 2
    }

    /// What is held now.
    pub(crate) fn held(&self) -> usize {
        self.state.lock().held
    }

    fn take(&self, sender: SenderId, amount: usize, due: bool) -> bool {
        let mut state = self.state.lock();
        let holds = state.by_sender.get(&sender).copied().unwrap_or(0) + amount;
        let held = state.held + amount;
        if !due && holds > self.max.saturating_sub(held) {
            return false;
        }
        state.held = held;
        state.by_sender.insert(sender, holds);
        true
    }

    fn give_back(&self, sender: SenderId, amount: usize) {
        let mut state = self.state.lock();
        state.held -= amount;
        if let Some(holds) = state.by_sender.get_mut(&sender) {
            *holds -= amount;
            if *holds == 0 {
                state.by_sender.remove(&sender);
            }
        }
    }
}

/// What a sender took of [`Shares`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    shares: Arc<Shares>,
    sender: SenderId,
    amount: usize,
}

impl Reservation {
    pub(crate) const fn none(shares: Arc<Shares>, sender: SenderId) -> Self {
        Self {
            shares,
            sender,
            amount: 0,
        }
    }

    /// Takes more. `false` when that is more than this sender's share.
    #[must_use]
    pub(crate) fn grow(&mut self, amount: usize) -> bool {
        let taken = amount == 0 || self.shares.take(self.sender, amount, false);
        if taken {
            self.amount += amount;
        }
        taken
    }

    /// Takes more, even beyond the share, for what cannot be refused any more. What this sender asks for next may be
    /// refused instead.
    pub(crate) fn grow_regardless(&mut self, amount: usize) {
        if amount > 0 {
            self.shares.take(self.sender, amount, true);
            self.amount += amount;
        }
    }

    /// Gives some back.
    pub(crate) fn shrink(&mut self, amount: usize) {
        let amount = amount.min(self.amount);
        if amount > 0 {
            self.amount -= amount;
            self.shares.give_back(self.sender, amount);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.amount);
    }
}

/// Bytes, and the reservation for them.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Vec<u8>,
    pub(crate) reservation: Reservation,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(n: u8) -> SenderId {
        SenderId::Key([n; 32])
    }

    #[test]
    fn each_gets_as_much_as_is_left_and_all_comes_back() {
        let shares = Shares::new(120);
        let mut all: Vec<_> = (1..=3)
            .map(|n| Reservation::none(Arc::clone(&shares), sender(n)))
            .collect();
        assert!(!all[0].grow(61));
        assert!(all[0].grow(60), "alone: half");
        assert!(!all[0].grow(1));
        // A second reservation is the same sender's.
        let mut more = Reservation::none(Arc::clone(&shares), sender(1));
        assert!(!more.grow(1));
        assert!(all[1].grow(30), "there is room for another");
        assert!(!all[1].grow(1));
        assert!(all[2].grow(15));
        all[0].shrink(40);
        assert!(!all[0].grow(20) && all[0].grow(15), "a share shrinks");
        drop(all.remove(0));
        assert_eq!(shares.held(), 45);
        drop(all);
        assert_eq!(shares.held(), 0);
        assert!(shares.state.lock().by_sender.is_empty());
    }

    #[test]
    fn what_is_due_counts_though_it_is_not_refused() {
        let shares = Shares::new(100);
        let mut answer = Reservation::none(Arc::clone(&shares), sender(1));
        answer.grow_regardless(70);
        let mut next = Reservation::none(Arc::clone(&shares), sender(1));
        assert!(!next.grow(1));
        let mut other = Reservation::none(Arc::clone(&shares), sender(2));
        assert!(other.grow(15), "there is room for another all the same");
        answer.grow_regardless(100);
        assert!(!other.grow(1));
        drop((answer, next, other));
        assert_eq!(shares.held(), 0);
    }
}
