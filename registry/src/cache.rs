//! What ingest asks: children and keys, from memory where that is known to be true.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use rivulet_events::{ChildId, ParentId};
use sqlx::PgPool;
use tokio::{
    io::AsyncBufRead,
    sync::{mpsc, oneshot},
};

use crate::metrics::LOOKUPS;
use crate::{
    consents,
    entries::{CacheEntries, Confirmation},
    fixed::{BadLine, Fixed},
    keys::Grant,
    listen,
    shared::{Known, READ_TIMEOUT, Read, Shared, Unavailable},
};

/// An answer confirmed less than this ago is given without asking PostgreSQL. With `READ_TIMEOUT`
/// and `PROBE_EVERY` it stays under the 5 s within which a change must be in force.
pub const FRESH: Duration = Duration::from_secs(2);

/// An unknown key makes the registry read the keys again, in case the key was made a moment ago. It does so at most
/// this often, so that keys that nobody ever made cost PostgreSQL next to nothing.
const KEYS_READ_EVERY: Duration = Duration::from_millis(100);

/// Reads that wait for the running query; more than that is an outage.
const READS_WAITING: usize = 4_096;

/// How much the cache holds and how long it may be used alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Children in memory; about 350 bytes each.
    pub capacity: usize,
    /// How long a node that is cut off from PostgreSQL goes on with what it knows.
    pub max_stale: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            capacity: 100_000,
            max_stale: Duration::from_secs(60),
        }
    }
}

/// The registry as one node knows it. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Source);

#[derive(Clone)]
enum Source {
    /// PostgreSQL.
    Cached(Arc<Shared>),
    /// For the tests of apps.
    Fixed(Arc<Fixed>),
}

impl Registry {
    /// Returns the registry, and the task that hears of changes and reads PostgreSQL. The task never ends, and without
    /// it nothing is known.
    pub fn new(
        pool: PgPool,
        config: CacheConfig,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (reads, waiting) = mpsc::channel(READS_WAITING);
        let shared = Arc::new(Shared {
            pool,
            entries: CacheEntries::new(config.capacity),
            confirmation: Mutex::new(Confirmation::new(Instant::now())),
            keys: RwLock::new(None),
            reading_keys: tokio::sync::Mutex::new(()),
            unreachable: AtomicBool::new(false),
            reads,
            max_stale: config.max_stale,
        });
        let registry = Self(Source::Cached(Arc::clone(&shared)));
        let work = async move {
            tokio::select! {
                never = listen::run(&shared) => match never {},
                () = shared.serve(waiting) => {}
            }
        };
        (registry, work)
    }

    /// Without PostgreSQL: every child is registered, in UTC and with all consents, and every key may post events.
    #[must_use]
    pub fn every_child() -> Self {
        Self(Source::Fixed(Arc::new(Fixed::every_child())))
    }

    /// Without PostgreSQL: the families of a file as [`crate::import`] takes it, and every key may post events.
    ///
    /// # Errors
    /// The first line that cannot be used.
    pub async fn of_file(reader: impl AsyncBufRead + Unpin) -> Result<Self, BadLine> {
        let fixed = Fixed::read(reader).await?;
        Ok(Self(Source::Fixed(Arc::new(fixed))))
    }

    /// Whether every child is registered, so that nobody can say of which family it is.
    #[must_use]
    pub fn has_every_child(&self) -> bool {
        matches!(&self.0, Source::Fixed(fixed) if fixed.has_every_child())
    }

    /// Whether a family consented to `coppa`, `audio` and `analytics`, as PostgreSQL says now; to nothing where it is not
    /// registered, or was deleted.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn granted(&self, parent: ParentId) -> Result<[bool; 3], Unavailable> {
        match &self.0 {
            Source::Fixed(fixed) => Ok(fixed.granted(parent)),
            Source::Cached(shared) => {
                let granted = consents::granted(&shared.pool, parent).await;
                granted.map_err(|_| Unavailable)
            }
        }
    }

    /// What is known of each of these children, in order. Misses are read in one query.
    pub async fn lookup(&self, children: &[ChildId]) -> Vec<Known> {
        let shared = match &self.0 {
            Source::Cached(shared) => shared,
            Source::Fixed(fixed) => return fixed.all(children),
        };
        let now = Instant::now();
        let confirmation = *shared.confirmation.lock();
        let mut known = Vec::with_capacity(children.len());
        let mut missing: Vec<usize> = Vec::new();
        for (index, child) in children.iter().enumerate() {
            let mut answer = Known::Unavailable;
            let mut age = Duration::MAX;
            if let Some((registration, as_of)) = shared.entries.get(*child) {
                age = now.saturating_duration_since(confirmation.of(as_of));
                if age <= shared.max_stale {
                    answer = Known::Cached(registration);
                }
            }
            known.push(answer);
            if age >= FRESH.min(shared.max_stale) {
                missing.push(index);
            }
        }
        let hits = (children.len() - missing.len()) as u64;
        LOOKUPS.with(["hit"]).increment(hits);
        if missing.is_empty() {
            return known;
        }
        let asked: Vec<ChildId> = missing.iter().map(|index| children[*index]).collect();
        if let Ok(found) = self.read(&asked).await {
            LOOKUPS.with(["read"]).increment(missing.len() as u64);
            for (index, found) in missing.into_iter().zip(found) {
                known[index] = found;
            }
            return known;
        }
        let stale = |index: &&usize| known[**index] != Known::Unavailable;
        let stale = missing.iter().filter(stale).count();
        LOOKUPS.with(["stale"]).increment(stale as u64);
        LOOKUPS
            .with(["unavailable"])
            .increment((missing.len() - stale) as u64);
        known
    }

    /// What PostgreSQL says of each of these children now, in order.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn read(&self, children: &[ChildId]) -> Result<Vec<Known>, Unavailable> {
        let shared = match &self.0 {
            Source::Cached(shared) => shared,
            Source::Fixed(fixed) => return Ok(fixed.all(children)),
        };
        if shared.unreachable.load(Ordering::Relaxed) {
            return Err(Unavailable);
        }
        let (answer, answered) = oneshot::channel();
        let children = children.to_vec();
        let read = Read { children, answer };
        shared.reads.try_send(read).map_err(|_| Unavailable)?;
        match tokio::time::timeout(READ_TIMEOUT, answered).await {
            Ok(Ok(known)) => Ok(known),
            _ => Err(Unavailable),
        }
    }

    /// What the key with this SHA-256 may do; `None` when there is none, or it was revoked.
    ///
    /// # Errors
    /// The keys were never read, or too long ago.
    pub async fn key(&self, sha256: &[u8; 32]) -> Result<Option<Arc<Grant>>, Unavailable> {
        let shared = match &self.0 {
            Source::Cached(shared) => shared,
            Source::Fixed(fixed) => return Ok(Some(fixed.grant())),
        };
        let (known, read_age) = shared.known_key(sha256);
        let doubtful = match &known {
            Ok((Some(_), confirmed_age)) => *confirmed_age >= FRESH,
            _ => read_age >= KEYS_READ_EVERY,
        };
        if !doubtful || shared.unreachable.load(Ordering::Relaxed) {
            return known.map(|(grant, _)| grant);
        }
        // Only one request reads the keys, and the others use what is known. A flood of wrong keys must not queue up
        // here.
        if let Ok(_reading) = shared.reading_keys.try_lock() {
            let read = shared
                .on_pool(async |connection| shared.read_keys(connection).await)
                .await;
            if read.is_err() {
                shared.unreachable.store(true, Ordering::Relaxed);
            }
        }
        shared.known_key(sha256).0.map(|(grant, _)| grant)
    }

    /// Whether what is in memory may be used.
    ///
    /// # Errors
    /// Why not, as `/readyz` says it.
    pub fn check(&self) -> Result<(), &'static str> {
        let Source::Cached(shared) = &self.0 else {
            return Ok(());
        };
        let keys = shared.keys.read();
        let Some(keys) = &*keys else {
            return Err("PostgreSQL was never reached");
        };
        let age = shared.confirmation.lock().of(keys.as_of).elapsed();
        if age > shared.max_stale {
            return Err("cut off from PostgreSQL for too long");
        }
        Ok(())
    }
}
