//! How many connections to PostgreSQL one caller may use at a time, so that there are some left for everybody else.

use std::{sync::Arc, time::Duration};

use ahash::AHashMap;
use parking_lot::Mutex;
use rivulet_web::Peer;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    problem::{Problem, refused_read},
    viewer::Viewer,
};

/// How long a request waits for others of the same caller.
const PATIENCE: Duration = Duration::from_secs(2);

const TOO_MANY: Problem =
    Problem::Unavailable("too many requests with this key or token are being answered already");

/// The shares of the connections. What a caller asks beyond its share waits for that caller's own requests, and is
/// refused when that takes too long. Nobody else waits for it.
pub(crate) struct Shares {
    product: usize,
    parent: usize,
    patience: Duration,
    callers: Mutex<AHashMap<Viewer, Arc<Semaphore>>>,
}

/// Lets a request of a caller use one of the connections, until it is dropped.
pub(crate) type Permit = OwnedSemaphorePermit;

impl Shares {
    /// Half of the connections for a product, which asks for many families, and a quarter for a parent.
    pub(crate) fn of(connections: u32) -> Self {
        let connections = connections as usize;
        Self {
            product: (connections / 2).max(1),
            parent: (connections / 4).max(1),
            patience: PATIENCE,
            callers: Mutex::default(),
        }
    }

    /// Waits for a permit, for as long as the client is connected.
    pub(crate) async fn take(
        &self,
        viewer: Viewer,
        peer: Option<&Peer>,
    ) -> Result<Permit, Problem> {
        let share = match viewer {
            Viewer::Product(_) => self.product,
            Viewer::Parent(_) => self.parent,
        };
        let permits = {
            let mut callers = self.callers.lock();
            let permits = callers.entry(viewer);
            Arc::clone(permits.or_insert_with(|| Arc::new(Semaphore::new(share))))
        };
        let is_gone = async {
            match peer {
                Some(peer) => peer.is_gone().await,
                None => std::future::pending().await,
            }
        };
        let permit = tokio::select! {
            biased;
            permit = timeout(self.patience, permits.acquire_owned()) => permit.ok().and_then(Result::ok),
            () = is_gone => None,
        };
        permit.ok_or_else(|| {
            refused_read("share");
            TOO_MANY
        })
    }

    /// Forgets callers without a request in progress.
    pub(crate) fn tidy(&self) {
        // A request that waits or has a permit holds the semaphore too.
        let mut callers = self.callers.lock();
        callers.retain(|_, permits| Arc::strong_count(permits) > 1);
        callers.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use rivulet_events::ParentId;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_caller_waits_for_itself_alone_and_is_forgotten() {
        let shares = Shares {
            patience: Duration::from_millis(20),
            ..Shares::of(8)
        };
        let [greedy, other] = [(); 2].map(|()| Viewer::Parent(ParentId::new(Uuid::new_v4())));
        let held = [
            shares.take(greedy, None).await,
            shares.take(greedy, None).await,
        ];
        assert!(matches!(
            shares.take(greedy, None).await,
            Err(Problem::Unavailable(_))
        ));
        drop(shares.take(other, None).await.unwrap());
        let mut product = Vec::new();
        while let Ok(permit) = shares.take(Viewer::Product([0; 32]), None).await {
            product.push(permit);
        }
        assert_eq!(product.len(), 4);
        shares.tidy();
        assert_eq!(shares.callers.lock().len(), 2);
        let (next, _) = tokio::join!(shares.take(greedy, None), async { drop(held) });
        drop(next.unwrap());
        drop(product);
        shares.tidy();
        assert_eq!(shares.callers.lock().len(), 0);
    }

    #[test]
    fn everybody_may_have_one() {
        let shares = Shares::of(1);
        assert_eq!((shares.product, shares.parent), (1, 1));
    }
}
