//! How many may be connected: in all, and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use ahash::RandomState;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places for connections.
pub(crate) struct Connections {
    max: usize,
    max_per_address: usize,
    free: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, usize, RandomState>>,
}

/// A place that nobody has taken yet.
pub(crate) struct Vacancy(OwnedSemaphorePermit);

/// A place that is taken, until it is dropped.
pub(crate) struct Place {
    connections: Arc<Connections>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(crate) fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_per_address,
            free: Arc::new(Semaphore::new(max)),
            by_address: Mutex::default(),
        })
    }

    /// Waits for a place: whoever wants to connect waits in the operating system's queue meanwhile.
    pub(crate) async fn vacancy(&self) -> Vacancy {
        match Arc::clone(&self.free).acquire_owned().await {
            Ok(permit) => Vacancy(permit),
            // Nobody closes the semaphore.
            Err(_) => std::future::pending().await,
        }
    }

    /// `None` when this address has as many places as one may have.
    pub(crate) fn take(self: &Arc<Self>, vacancy: Vacancy, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut by_address = self.by_address.lock();
        let count = by_address.entry(address).or_default();
        if *count >= self.max_per_address {
            return None;
        }
        *count += 1;
        Some(Place {
            connections: Arc::clone(self),
            address,
            _permit: vacancy.0,
        })
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.max - self.free.available_permits()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.connections.by_address.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
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

    #[tokio::test]
    async fn one_address_leaves_places_for_others_and_gives_its_own_back() {
        let connections = Connections::new(4, 2);
        let connect = async |address: &str| {
            let vacancy = connections.vacancy().await;
            connections.take(vacancy, address.parse().unwrap())
        };
        let first = connect("2001:db8::1").await.unwrap();
        let second = connect("2001:db8::ffff:2").await.unwrap();
        assert!(connect("2001:db8::3").await.is_none(), "the same /64");
        let neighbour = connect("2001:db8:0:1::1").await.unwrap();
        let four = connect("::ffff:192.0.2.1").await.unwrap();
        assert_eq!(connections.open(), 4);
        drop((first, neighbour));
        assert_eq!(connections.open(), 2);
        let fifth = connect("192.0.2.1").await.unwrap();
        assert!(
            connect("192.0.2.1").await.is_none(),
            "the same IPv4 address"
        );
        assert!(connect("2001:db8::4").await.is_some());
        drop((second, four, fifth));
        assert_eq!(connections.open(), 0);
        assert!(connections.by_address.lock().is_empty());
    }
}
