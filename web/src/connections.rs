//! Who may be connected: how many in all and from one address, and who makes room for a newcomer.
//!
//! A connection without a request that is known to be worth something holds its place only until somebody
//! wants it: one that shakes hands, has sent no whole head, is idle, or whose request has shown no good
//! credential. Of those, the address with the most gives up its oldest. So whoever opens connections and
//! says nothing takes places from themselves.

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

/// The places for connections.
pub(crate) struct Connections {
    max: usize,
    max_per_address: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: usize,
    /// Counts up whenever a place comes to be without work.
    turn: u64,
    by_address: HashMap<IpAddr, Address, RandomState>,
}

#[derive(Default)]
struct Address {
    open: usize,
    /// Places that make room for newcomers, the one that has been without work for the longest first.
    idle: BTreeMap<u64, Arc<Taken>>,
}

/// What became of a newcomer.
pub(crate) enum Newcomer {
    /// It is let in, perhaps in the place of another.
    In(Place),
    /// Its address has as many places as one may have.
    Refused,
    /// Every place is at work.
    Full,
}

/// A place that is taken, until it is dropped.
pub(crate) struct Place {
    connections: Arc<Connections>,
    taken: Arc<Taken>,
}

struct Taken {
    address: IpAddr,
    given_up: CancellationToken,
    // Both change under the lock of the state alone.
    /// Requests that keep it.
    kept: AtomicU64,
    /// Its key among those without work; means nothing while it is kept.
    since: AtomicU64,
}

impl Connections {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_per_address,
            state: Mutex::default(),
        })
    }

    /// A place for a newcomer from this address.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Newcomer {
        let address = network(address);
        let mut state = self.state.lock();
        let of_address = state.by_address.get(&address);
        if of_address.is_some_and(|of_address| of_address.open >= self.max_per_address) {
            return Newcomer::Refused;
        }
        if state.open >= self.max && !state.make_room() {
            return Newcomer::Full;
        }
        let taken = Arc::new(Taken {
            address,
            given_up: CancellationToken::new(),
            kept: AtomicU64::new(0),
            since: AtomicU64::new(0),
        });
        state.open += 1;
        state.by_address.entry(address).or_default().open += 1;
        state.rest(&taken);
        Newcomer::In(Place {
            connections: Arc::clone(self),
            taken,
        })
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.state.lock().open
    }
}

impl State {
    /// Gives up the place that has been without work for the longest, of the address that has most of them.
    fn make_room(&mut self) -> bool {
        let most = self
            .by_address
            .values_mut()
            .max_by_key(|address| address.idle.len());
        let Some((_, taken)) = most.and_then(|address| address.idle.pop_first()) else {
            return false;
        };
        taken.given_up.cancel();
        self.leave(taken.address);
        true
    }

    /// From here on the place is without work.
    fn rest(&mut self, taken: &Arc<Taken>) {
        self.turn += 1;
        taken.since.store(self.turn, Ordering::Relaxed);
        if let Some(address) = self.by_address.get_mut(&taken.address) {
            address.idle.insert(self.turn, Arc::clone(taken));
        }
    }

    /// The place is not without work any more, or gone.
    fn rouse(&mut self, taken: &Taken) {
        if let Some(address) = self.by_address.get_mut(&taken.address) {
            address.idle.remove(&taken.since.load(Ordering::Relaxed));
        }
    }

    fn leave(&mut self, address: IpAddr) {
        self.open -= 1;
        if let Some(of_address) = self.by_address.get_mut(&address) {
            of_address.open -= 1;
            if of_address.open == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Place {
    /// Waits until the place was given to a newcomer.
    pub(crate) async fn given_up(&self) {
        self.taken.given_up.cancelled().await;
    }

    /// What a request on this connection has of it.
    pub(crate) fn hold(&self) -> Hold {
        Hold(Arc::new(Holding {
            connections: Arc::clone(&self.connections),
            taken: Arc::clone(&self.taken),
            keeps: AtomicBool::new(false),
        }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.connections.state.lock();
        // Whoever made room is counted no more.
        if !self.taken.given_up.is_cancelled() {
            // What was sent may still be on its way: a request that ends later finds no place to rest.
            self.taken.given_up.cancel();
            state.rouse(&self.taken);
            state.leave(self.taken.address);
        }
    }
}

/// What a request has of its connection; among the extensions of each.
///
/// When all places are taken, a connection is closed for a newcomer, also in the middle of a request, unless
/// that is [kept](Self::keep). Whoever found a request's credential good keeps it; it is kept until its
/// answer has been sent.
#[derive(Clone)]
pub struct Hold(Arc<Holding>);

struct Holding {
    connections: Arc<Connections>,
    taken: Arc<Taken>,
    keeps: AtomicBool,
}

impl Hold {
    /// From here on the connection is not closed for a newcomer.
    pub fn keep(&self) {
        self.0.set(true);
    }

    /// From here on it may be, as before [`Self::keep`].
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
        let taken = &self.taken;
        // The answer before may not have been sent whole yet, and keeps it too.
        let others = match keeps {
            true => taken.kept.fetch_add(1, Ordering::Relaxed),
            false => taken.kept.fetch_sub(1, Ordering::Relaxed) - 1,
        };
        if others > 0 || taken.given_up.is_cancelled() {
            return;
        }
        match keeps {
            true => state.rouse(taken),
            false => state.rest(taken),
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

/// What one subscriber has: an IPv4 address, or all of an IPv6 /64.
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

    fn place(connections: &Arc<Connections>, from: &str) -> Place {
        match connect(connections, from) {
            Newcomer::In(place) => place,
            Newcomer::Refused => panic!("{from} was refused"),
            Newcomer::Full => panic!("there was no place for {from}"),
        }
    }

    fn is_open(place: &Place) -> bool {
        !place.taken.given_up.is_cancelled()
    }

    #[test]
    fn one_address_leaves_places_for_others_and_gives_its_own_back() {
        let connections = Connections::new(4, 2);
        let first = place(&connections, "2001:db8::1");
        let second = place(&connections, "2001:db8::ffff:2");
        let same = connect(&connections, "2001:db8::3");
        assert!(matches!(same, Newcomer::Refused), "the same /64");
        let neighbour = place(&connections, "2001:db8:0:1::1");
        let four = place(&connections, "::ffff:192.0.2.1");
        assert_eq!(connections.open(), 4);
        drop((first, neighbour));
        assert_eq!(connections.open(), 2);
        let fifth = place(&connections, "192.0.2.1");
        let same = connect(&connections, "192.0.2.1");
        assert!(matches!(same, Newcomer::Refused), "the same IPv4 address");
        drop(place(&connections, "2001:db8::4"));
        drop((second, four, fifth));
        assert_eq!(connections.open(), 0);
        assert!(connections.state.lock().by_address.is_empty());
    }

    #[test]
    fn the_oldest_idle_of_the_address_with_most_makes_room() {
        let connections = Connections::new(5, 5);
        let honest = place(&connections, "192.0.2.1");
        let many: Vec<_> = (0..3).map(|_| place(&connections, "192.0.2.7")).collect();
        let few = place(&connections, "192.0.2.8");
        // The first has a request that is known, and the second had one.
        let (hold, done) = (many[0].hold(), many[1].hold());
        hold.keep();
        done.keep();
        drop(done);
        let newcomer = place(&connections, "192.0.2.2");
        let left: Vec<_> = many.iter().map(is_open).collect();
        assert_eq!(left, [true, true, false], "the third is the oldest idle");
        assert!([&honest, &few, &newcomer].into_iter().all(is_open));
        assert_eq!(connections.open(), 5);
        hold.release();
        let another = place(&connections, "192.0.2.3");
        assert!(!is_open(&many[1]) && is_open(&many[0]));
        drop((honest, many, few, newcomer, another, hold));
        assert_eq!(connections.open(), 0);
        assert!(connections.state.lock().by_address.is_empty());
    }

    #[test]
    fn who_is_at_work_is_not_sent_away() {
        let connections = Connections::new(2, 2);
        let places = [
            place(&connections, "192.0.2.1"),
            place(&connections, "192.0.2.1"),
        ];
        let holds: Vec<_> = places.iter().map(Place::hold).collect();
        holds.iter().for_each(Hold::keep);
        // Another request on the same connection, while the answer to the one before is on its way.
        let next = places[0].hold();
        next.keep();
        next.keep();
        let refused = connect(&connections, "192.0.2.2");
        assert!(matches!(refused, Newcomer::Full));
        next.release();
        let refused = connect(&connections, "192.0.2.2");
        assert!(matches!(refused, Newcomer::Full));
        drop(holds);
        let newcomer = place(&connections, "192.0.2.2");
        // One that was sent away and ends afterwards counts for nothing.
        next.keep();
        drop(next);
        drop(places);
        assert_eq!(connections.open(), 1);
        drop(newcomer);
        assert!(connections.state.lock().by_address.is_empty());
    }
}
