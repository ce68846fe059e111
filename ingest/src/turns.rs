//! Turns for long work, in a fair order.
//!
//! As many turns run at once as leave a processor for everything else. A sender that waits lets each other sender have
//! one turn first, however many turns that one waits for.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use ahash::RandomState;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::sender::SenderId;

/// Requests of one sender that wait for their first turn. (Others are bounded by the sender's share of requests.)
const WAITING: usize = 64;

/// Who works now, and who is next.
pub(crate) struct Turns {
    at_once: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    waiting: HashMap<SenderId, VecDeque<oneshot::Sender<Turn>>, RandomState>,
    /// The senders of the requests that wait, each once, in the order of their turns.
    order: VecDeque<SenderId>,
}

/// Permission to work, until it is dropped.
pub(crate) struct Turn(Option<Arc<Turns>>);

impl Turns {
    /// At most `at_once` turns run at the same time.
    pub(crate) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self {
            at_once: at_once.max(1),
            state: Mutex::default(),
        })
    }

    /// Waits for a turn. Returns `None` if as many requests of this sender as allowed are waiting already. A request
    /// that had a turn `before` always waits.
    pub(crate) async fn take(self: &Arc<Self>, sender: SenderId, before: bool) -> Option<Turn> {
        let turn = {
            let mut state = self.state.lock();
            if state.running < self.at_once {
                state.running += 1;
                return Some(Turn(Some(Arc::clone(self))));
            }
            let State { waiting, order, .. } = &mut *state;
            let of_sender = waiting.entry(sender).or_insert_with(|| {
                order.push_back(sender);
                VecDeque::new()
            });
            if of_sender.len() >= WAITING && !before {
                // Requests whose clients went away no longer count.
                of_sender.retain(|waiting| !waiting.is_closed());
                if of_sender.len() >= WAITING {
                    return None;
                }
            }
            let (turn, taken) = oneshot::channel();
            // A request that had a turn is finished first. Many half-done bodies would take more than the sender's
            // share of bytes.
            match before {
                true => of_sender.push_front(turn),
                false => of_sender.push_back(turn),
            }
            taken
        };
        turn.await.ok()
    }

    /// Requests that wait for a turn.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.waiting.values().map(VecDeque::len).sum()
    }
}

impl State {
    /// Takes the next request out of the queue.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let sender = self.order.pop_front()?;
        let of_sender = self.waiting.get_mut(&sender)?;
        let next = of_sender.pop_front();
        match of_sender.is_empty() {
            true => drop(self.waiting.remove(&sender)),
            false => self.order.push_back(sender),
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else {
            return;
        };
        loop {
            let mut state = turns.state.lock();
            let Some(next) = state.next() else {
                state.running -= 1;
                return;
            };
            drop(state);
            // A request whose client went away is passed over. If the client goes away after its request got the turn,
            // the turn is dropped.
            match next.send(Turn(Some(Arc::clone(&turns)))) {
                Ok(()) => return,
                Err(mut unused) => unused.0 = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    fn sender(n: u8) -> SenderId {
        SenderId::Key([n; 32])
    }

    /// The order of turns, where one after the other began to wait, of these senders, perhaps after a turn before.
    async fn order(wanted: &[(u8, bool)]) -> Vec<usize> {
        let turns = Turns::new(1);
        let first = turns.take(sender(0), false).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for (index, (n, before)) in wanted.iter().copied().enumerate() {
            let (waits, order) = (Arc::clone(&turns), Arc::clone(&order));
            tasks.spawn(async move {
                let turn = waits.take(sender(n), before).await;
                order.lock().push(index);
                drop(turn);
            });
            while turns.waiting() <= index {
                tokio::task::yield_now().await;
            }
        }
        drop(first);
        tasks.join_all().await;
        let state = turns.state.lock();
        assert_eq!((state.running, state.order.len()), (0, 0));
        assert!(state.waiting.is_empty());
        drop(state);
        Arc::into_inner(order).unwrap().into_inner()
    }

    #[tokio::test]
    async fn one_turn_of_each_sender_after_the_other() {
        let wanted = [1, 1, 1, 2, 1, 3].map(|n| (n, false));
        assert_eq!(order(&wanted).await, [0, 3, 5, 1, 2, 4]);
    }

    #[tokio::test]
    async fn what_a_sender_began_is_finished_first() {
        assert_eq!(order(&[(1, false), (2, false), (1, true)]).await, [2, 1, 0]);
    }

    #[tokio::test]
    async fn nobody_queues_without_end_and_who_goes_away_is_passed_over() {
        let turns = Turns::new(2);
        let (one, other) = (
            turns.take(sender(1), false).await,
            turns.take(sender(1), false).await,
        );
        let answered = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..WAITING {
            let (turns, answered) = (Arc::clone(&turns), Arc::clone(&answered));
            tasks.spawn(async move {
                let turn = turns.take(sender(1), false).await;
                answered.fetch_add(1, Ordering::Relaxed);
                turn
            });
        }
        while turns.waiting() < WAITING {
            tokio::task::yield_now().await;
        }
        let refused = turns.take(sender(1), false).await;
        assert!(refused.is_none(), "one too many");
        // Another sender waits all the same; everybody else goes away.
        let patient = Arc::clone(&turns);
        let patient = tokio::spawn(async move { patient.take(sender(2), false).await.is_some() });
        while turns.waiting() == WAITING {
            tokio::task::yield_now().await;
        }
        tasks.shutdown().await;
        assert_eq!(answered.load(Ordering::Relaxed), 0);
        drop(one);
        assert!(patient.await.unwrap());
        drop(other);
        assert_eq!(turns.state.lock().running, 0);
        assert_eq!(turns.waiting(), 0);
        assert!(turns.take(sender(1), false).await.is_some());
    }
}
