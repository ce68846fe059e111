//! Who may be connected: how many connections there may be in all and from one address, and which of them is closed
//! for a new one.
//!
//! Each open connection has a slot. A slot is busy while its connection has a request whose credential was found good.
//! Otherwise it is idle: during a TLS handshake, before the head of a request is complete, between two requests, and
//! while a request has shown no good credential. When all slots are taken, a new connection gets an idle slot, and the
//! connection that had it is closed. It is the oldest one of the address that has the most idle slots. So whoever opens
//! connections and sends nothing takes slots only from themselves.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ahash::RandomState;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The slots for connections.
pub(crate) struct Connections {
    max: usize,
    max_per_address: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: usize,
    /// How often a slot has become idle. It numbers the idle slots in the order in which they did.
    idled: u64,
    by_address: HashMap<IpAddr, Address, RandomState>,
}

#[derive(Default)]
struct Address {
    open: usize,
    /// Idle slots, the one that has been idle for the longest first.
    idle: BTreeMap<u64, Arc<SlotState>>,
}

/// What becomes of a new connection.
pub(crate) enum Newcomer {
    /// It has a slot now. Another connection may have been closed for it.
    Accepted(Slot),
    /// Its address has as many slots as one address may have.
    Refused,
    /// All slots are busy.
    Full,
}

/// A connection's slot, until it is dropped.
pub(crate) struct Slot {
    connections: Arc<Connections>,
    state: Arc<SlotState>,
}

struct SlotState {
    address: IpAddr,
    /// Cancelled when the slot was given to a new connection.
    evicted: CancellationToken,
    // Both numbers change only under the lock of `State`.
    /// Requests that make it busy.
    requests: AtomicU64,
    /// Its key in [`Address::idle`]. It has no meaning while the slot is busy.
    idle_key: AtomicU64,
}

impl Connections {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_per_address,
            state: Mutex::default(),
        })
    }

    /// Gives a new connection from this address a slot, if there is one.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Newcomer {
        let address = network(address);
        let mut state = self.state.lock();
        let of_address = state.by_address.get(&address);
        if of_address.is_some_and(|of_address| of_address.open >= self.max_per_address) {
            return Newcomer::Refused;
        }
        if state.open >= self.max && !state.evict_idle() {
            return Newcomer::Full;
        }
        let slot = Arc::new(SlotState {
            address,
            evicted: CancellationToken::new(),
            requests: AtomicU64::new(0),
            idle_key: AtomicU64::new(0),
        });
        state.open += 1;
        state.by_address.entry(address).or_default().open += 1;
        state.set_idle(&slot);
        Newcomer::Accepted(Slot {
            connections: Arc::clone(self),
            state: slot,
        })
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.state.lock().open
    }
}

impl State {
    /// Evicts the connection that has been idle for the longest, of the address that has most idle slots. Returns
    /// `false` if all slots are busy.
    fn evict_idle(&mut self) -> bool {
        let most = self
            .by_address
            .values_mut()
            .max_by_key(|address| address.idle.len());
        let Some((_, slot)) = most.and_then(|address| address.idle.pop_first()) else {
            return false;
        };
        slot.evicted.cancel();
        self.release(slot.address);
        true
    }

    /// From here on the slot is idle.
    fn set_idle(&mut self, slot: &Arc<SlotState>) {
        self.idled += 1;
        slot.idle_key.store(self.idled, Ordering::Relaxed);
        if let Some(address) = self.by_address.get_mut(&slot.address) {
            address.idle.insert(self.idled, Arc::clone(slot));
        }
    }

    /// From here on the slot is busy, or it is gone.
    fn unset_idle(&mut self, slot: &SlotState) {
        if let Some(address) = self.by_address.get_mut(&slot.address) {
            address.idle.remove(&slot.idle_key.load(Ordering::Relaxed));
        }
    }

    /// Counts one open connection less.
    fn release(&mut self, address: IpAddr) {
        self.open -= 1;
        if let Some(of_address) = self.by_address.get_mut(&address) {
            of_address.open -= 1;
            if of_address.open == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Slot {
    /// Waits until the slot was given to a new connection.
    pub(crate) async fn evicted(&self) {
        self.state.evicted.cancelled().await;
    }

    /// What lets a request on this connection keep it open.
    pub(crate) fn hold(&self) -> Hold {
        Hold(Arc::new(Holding {
            connections: Arc::clone(&self.connections),
            slot: Arc::clone(&self.state),
            keeps: AtomicBool::new(false),
        }))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.connections.state.lock();
        // A connection that was evicted is no longer counted.
        if !self.state.evicted.is_cancelled() {
            // A request may still be being answered. When it ends, it must not make a slot idle that is gone.
            self.state.evicted.cancel();
            state.unset_idle(&self.state);
            state.release(self.state.address);
        }
    }
}

/// Lets a request keep its connection open. It is among the extensions of each request.
///
/// When all slots are taken, a connection may be closed for a new one, also in the middle of a request, unless the
/// request [keeps](Self::keep) it. A role calls `keep` once it has found the request's credential good. The connection
/// is then kept until the answer has been sent.
#[derive(Clone)]
pub struct Hold(Arc<Holding>);

struct Holding {
    connections: Arc<Connections>,
    slot: Arc<SlotState>,
    keeps: AtomicBool,
}

impl Hold {
    /// From here on the connection is not closed for a new one.
    pub fn keep(&self) {
        self.0.set(true);
    }

    /// From here on the connection may be closed for a new one again, as before [`Self::keep`].
    pub fn release(&self) {
        self.0.set(false);
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.0.keeps.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.is_kept();
        f.debug_struct("Hold")
            .field("kept", &kept)
            .finish_non_exhaustive()
    }
}

impl Holding {
    fn set(&self, keeps: bool) {
        let mut state = self.connections.state.lock();
        if self.keeps.swap(keeps, Ordering::Relaxed) == keeps {
            return;
        }
        let slot = &self.slot;
        // The answer to the request before may not have been sent completely yet. Then that request keeps it too.
        let others = match keeps {
            true => slot.requests.fetch_add(1, Ordering::Relaxed),
            false => slot.requests.fetch_sub(1, Ordering::Relaxed) - 1,
        };
        if others > 0 || slot.evicted.is_cancelled() {
            return;
        }
        match keeps {
            true => state.unset_idle(slot),
            false => state.set_idle(slot),
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if *self.keeps.get_mut() {
            self.set(false);
        }
    }
}

/// The addresses that one subscriber has: an IPv4 address, or all of an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(network).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(connections: &Arc<Connections>, from: &str) -> Newcomer {
        connections.take(from.parse().unwrap())
    }

    fn slot(connections: &Arc<Connections>, from: &str) -> Slot {
        match connect(connections, from) {
            Newcomer::Accepted(slot) => slot,
            Newcomer::Refused => panic!("{from} was refused"),
            Newcomer::Full => panic!("there was no slot for {from}"),
        }
    }

    fn is_open(slot: &Slot) -> bool {
        !slot.state.evicted.is_cancelled()
    }

    #[test]
    fn one_address_leaves_slots_for_others_and_gives_its_own_back() {
        let connections = Connections::new(4, 2);
        let first = slot(&connections, "2001:db8::1");
        let second = slot(&connections, "2001:db8::ffff:2");
        let same = connect(&connections, "2001:db8::3");
        assert!(matches!(same, Newcomer::Refused), "the same /64");
        let neighbour = slot(&connections, "2001:db8:0:1::1");
        let four = slot(&connections, "::ffff:192.0.2.1");
        assert_eq!(connections.open(), 4);
        drop((first, neighbour));
        assert_eq!(connections.open(), 2);
        let fifth = slot(&connections, "192.0.2.1");
        let same = connect(&connections, "192.0.2.1");
        assert!(matches!(same, Newcomer::Refused), "the same IPv4 address");
        drop(slot(&connections, "2001:db8::4"));
        drop((second, four, fifth));
        assert_eq!(connections.open(), 0);
        assert!(connections.state.lock().by_address.is_empty());
    }

    #[test]
    fn the_oldest_idle_of_the_address_with_most_makes_room() {
        let connections = Connections::new(5, 5);
        let honest = slot(&connections, "192.0.2.1");
        let many: Vec<_> = (0..3).map(|_| slot(&connections, "192.0.2.7")).collect();
        let few = slot(&connections, "192.0.2.8");
        // The first has a request that is known, and the second had one.
        let (hold, done) = (many[0].hold(), many[1].hold());
        hold.keep();
        done.keep();
        drop(done);
        let newcomer = slot(&connections, "192.0.2.2");
        let left: Vec<_> = many.iter().map(is_open).collect();
        assert_eq!(left, [true, true, false], "the third is the oldest idle");
        assert!([&honest, &few, &newcomer].into_iter().all(is_open));
        assert_eq!(connections.open(), 5);
        hold.release();
        let another = slot(&connections, "192.0.2.3");
        assert!(!is_open(&many[1]) && is_open(&many[0]));
        drop((honest, many, few, newcomer, another, hold));
        assert_eq!(connections.open(), 0);
        assert!(connections.state.lock().by_address.is_empty());
    }

    #[test]
    fn who_is_at_work_is_not_sent_away() {
        let connections = Connections::new(2, 2);
        let slots = [
            slot(&connections, "192.0.2.1"),
            slot(&connections, "192.0.2.1"),
        ];
        let holds: Vec<_> = slots.iter().map(Slot::hold).collect();
        holds.iter().for_each(Hold::keep);
        // Another request on the same connection, while the answer to the one before is on its way.
        let next = slots[0].hold();
        next.keep();
        next.keep();
        let refused = connect(&connections, "192.0.2.2");
        assert!(matches!(refused, Newcomer::Full));
        next.release();
        let refused = connect(&connections, "192.0.2.2");
        assert!(matches!(refused, Newcomer::Full));
        drop(holds);
        let newcomer = slot(&connections, "192.0.2.2");
        // One that was sent away and ends afterwards counts for nothing.
        next.keep();
        drop(next);
        drop(slots);
        assert_eq!(connections.open(), 1);
        drop(newcomer);
        assert!(connections.state.lock().by_address.is_empty());
    }
}
