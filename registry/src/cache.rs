//! What ingest asks: children and keys, from memory where that is known to be true.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ahash::RandomState;
use metrics::counter;
use parking_lot::{Mutex, RwLock};
use rivulet_events::{ChildId, ParentId, Registration, data::AgeGroup};
use sqlx::{PgConnection, PgPool};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout_at,
};
use uuid::Uuid;

use crate::{
    keys::Grant,
    listen,
    slots::{AsOf, Confirmation, Slots},
};

/// An answer confirmed less than this ago is given without asking PostgreSQL. With [`READ_TIMEOUT`]
/// and [`PROBE_EVERY`] it stays under the 5 s within which a change must be in force.
pub const FRESH: Duration = Duration::from_secs(2);

/// How long one read of PostgreSQL may take.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// How often an unreachable PostgreSQL is tried again.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(500);

/// An unknown key makes the keys be read again, in case it was made a moment ago, but not more
/// often than this: keys that nobody ever made cost PostgreSQL next to nothing.
const KEYS_READ_EVERY: Duration = Duration::from_millis(100);

/// Children a query.
const CHILDREN_A_QUERY: usize = 10_000;

/// Reads that wait for the running query; more than that is an outage.
const READS_WAITING: usize = 4_096;

/// How much the cache holds and how long it may be used alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Children in memory; about 200 bytes each.
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

/// What is known of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// From memory. Good enough to take an event, never to refuse one.
    Cached(Registration),
    /// Read after the question was asked; `None` is not registered.
    Read(Option<Registration>),
    /// Neither memory nor PostgreSQL can tell now.
    Unavailable,
}

/// PostgreSQL cannot be reached and memory is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registry cannot be reached")]
pub struct Unavailable;

/// The registry as one node knows it. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) pool: PgPool,
    pub(crate) slots: Slots,
    pub(crate) confirmation: Mutex<Confirmation>,
    keys: RwLock<Option<Keys>>,
    reading_keys: tokio::sync::Mutex<()>,
    /// The last read failed. While it is set nobody but the prober waits for PostgreSQL.
    unreachable: AtomicBool,
    reads: mpsc::Sender<Read>,
    max_stale: Duration,
}

/// An answer with how long ago it was confirmed.
type Confirmed<T> = Result<(T, Duration), Unavailable>;

struct Keys {
    grants: HashMap<[u8; 32], Arc<Grant>, RandomState>,
    as_of: AsOf,
}

/// Children that somebody wants read, and where to send the answer.
struct Read {
    children: Vec<ChildId>,
    answer: oneshot::Sender<Vec<Known>>,
}

impl Registry {
    /// With the task that hears of changes and reads. It never ends, and without it nothing is known.
    pub fn new(
        pool: PgPool,
        config: CacheConfig,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (reads, waiting) = mpsc::channel(READS_WAITING);
        let shared = Arc::new(Shared {
            pool,
            slots: Slots::new(config.capacity),
            confirmation: Mutex::new(Confirmation::new(Instant::now())),
            keys: RwLock::new(None),
            reading_keys: tokio::sync::Mutex::new(()),
            unreachable: AtomicBool::new(false),
            reads,
            max_stale: config.max_stale,
        });
        let registry = Self(Arc::clone(&shared));
        let work = async move {
            tokio::select! {
                never = listen::run(&shared) => match never {},
                () = shared.serve(waiting) => {}
            }
        };
        (registry, work)
    }

    /// What is known of each of these children, in order. Misses are read in one query.
    pub async fn lookup(&self, children: &[ChildId]) -> Vec<Known> {
        let shared = &self.0;
        let now = Instant::now();
        let confirmation = *shared.confirmation.lock();
        let mut known = Vec::with_capacity(children.len());
        let mut missing: Vec<usize> = Vec::new();
        for (index, child) in children.iter().enumerate() {
            let mut answer = Known::Unavailable;
            let mut age = Duration::MAX;
            if let Some((registration, as_of)) = shared.slots.get(*child) {
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
        counter!("rivulet_registry_lookups_total", "result" => "hit").increment(hits);
        if missing.is_empty() {
            return known;
        }
        let asked: Vec<ChildId> = missing.iter().map(|index| children[*index]).collect();
        if let Ok(found) = self.read(&asked).await {
            counter!("rivulet_registry_lookups_total", "result" => "read")
                .increment(missing.len() as u64);
            for (index, found) in missing.into_iter().zip(found) {
                known[index] = found;
            }
            return known;
        }
        let stale = |index: &&usize| known[**index] != Known::Unavailable;
        let stale = missing.iter().filter(stale).count();
        counter!("rivulet_registry_lookups_total", "result" => "stale").increment(stale as u64);
        counter!("rivulet_registry_lookups_total", "result" => "unavailable")
            .increment((missing.len() - stale) as u64);
        known
    }

    /// What PostgreSQL says of each of these children now, in order.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn read(&self, children: &[ChildId]) -> Result<Vec<Known>, Unavailable> {
        if self.0.unreachable.load(Ordering::Relaxed) {
            return Err(Unavailable);
        }
        let (answer, answered) = oneshot::channel();
        let children = children.to_vec();
        let read = Read { children, answer };
        self.0.reads.try_send(read).map_err(|_| Unavailable)?;
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
        let shared = &self.0;
        let (known, read_age) = shared.known_key(sha256);
        let doubtful = match &known {
            Ok((Some(_), confirmed_age)) => *confirmed_age >= FRESH,
            _ => read_age >= KEYS_READ_EVERY,
        };
        if !doubtful || shared.unreachable.load(Ordering::Relaxed) {
            return known.map(|(grant, _)| grant);
        }
        // One reads, the others go by what is known: a flood of wrong keys must not queue up here.
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
        let keys = self.0.keys.read();
        let Some(keys) = &*keys else {
            return Err("PostgreSQL was never reached");
        };
        let age = self.0.confirmation.lock().of(keys.as_of).elapsed();
        if age > self.0.max_stale {
            return Err("cut off from PostgreSQL for too long");
        }
        Ok(())
    }
}

impl Shared {
    /// The key's grant with how long ago that was confirmed, and how long ago keys were read.
    fn known_key(&self, sha256: &[u8; 32]) -> (Confirmed<Option<Arc<Grant>>>, Duration) {
        let keys = self.keys.read();
        let Some(keys) = &*keys else {
            return (Err(Unavailable), Duration::MAX);
        };
        let confirmed_age = self.confirmation.lock().of(keys.as_of).elapsed();
        let known = if confirmed_age <= self.max_stale {
            Ok((keys.grants.get(sha256).cloned(), confirmed_age))
        } else {
            Err(Unavailable)
        };
        (known, keys.as_of.read_at.elapsed())
    }

    /// Reads all keys that are not revoked: there are few, and unknown ones are then refused
    /// without a query.
    pub(crate) async fn read_keys(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let as_of = self.confirmation.lock().as_of(Instant::now());
        type Row = (Vec<u8>, String, Vec<String>, Vec<String>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT sha256, scope, origins, event_types FROM api_keys WHERE revoked_at IS NULL",
        )
        .fetch_all(connection)
        .await?;
        let grant = |(sha256, scope, origins, event_types): Row| {
            let sha256 = sha256
                .try_into()
                .map_err(|_| sqlx::Error::Decode("a SHA-256 has 32 bytes".into()))?;
            let grant = Grant::of_row(&scope, origins, &event_types)?;
            Ok((sha256, Arc::new(grant)))
        };
        let grants = rows
            .into_iter()
            .map(grant)
            .collect::<Result<_, sqlx::Error>>()?;
        let mut keys = self.keys.write();
        // A slower read that began earlier must not undo a revocation.
        if keys
            .as_ref()
            .is_none_or(|keys| keys.as_of.read_at < as_of.read_at)
        {
            *keys = Some(Keys { grants, as_of });
        }
        Ok(())
    }

    /// Answers reads, as many as have come in with one query, and probes while PostgreSQL is away.
    async fn serve(&self, mut waiting: mpsc::Receiver<Read>) {
        let mut batch: Vec<Read> = Vec::new();
        loop {
            if self.unreachable.load(Ordering::Relaxed) {
                // Whoever came in before the flag was set need not wait for the probe.
                while waiting.try_recv().is_ok() {}
                tokio::time::sleep(PROBE_EVERY).await;
                if self.fetch(&[]).await.is_ok() {
                    self.unreachable.store(false, Ordering::Relaxed);
                    tracing::info!("PostgreSQL can be reached again");
                }
                continue;
            }
            // The keys may be found unreachable while nobody asks for a child.
            match tokio::time::timeout(PROBE_EVERY, waiting.recv()).await {
                Ok(Some(read)) => batch.push(read),
                Ok(None) => return,
                Err(_) => continue,
            }
            let mut size = batch[0].children.len();
            while size < CHILDREN_A_QUERY
                && let Ok(read) = waiting.try_recv()
            {
                size += read.children.len();
                batch.push(read);
            }
            let children: Vec<Uuid> = batch
                .iter()
                .flat_map(|read| read.children.iter().map(|child| child.uuid()))
                .collect();
            match self.fetch(&children).await {
                Ok(found) => {
                    for read in batch.drain(..) {
                        let known = |child: &ChildId| {
                            *found.get(&child.uuid()).unwrap_or(&Known::Read(None))
                        };
                        let known = read.children.iter().map(known).collect();
                        // The request may have given up.
                        let _ = read.answer.send(known);
                    }
                }
                Err(error) => {
                    batch.clear();
                    self.unreachable.store(true, Ordering::Relaxed);
                    tracing::warn!(%error, "PostgreSQL cannot be reached; serving what is cached");
                }
            }
        }
    }

    /// Work on a connection of the pool, within [`READ_TIMEOUT`].
    async fn on_pool<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let deadline = tokio::time::Instant::now() + READ_TIMEOUT;
        let acquired = timeout_at(deadline, self.pool.acquire()).await;
        let mut connection = acquired.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        if let Ok(done) = timeout_at(deadline, work(&mut connection)).await {
            return done;
        }
        // The peer may be gone without a word; the pool must not wait for it as well.
        connection.close_on_drop();
        Err(sqlx::Error::PoolTimedOut)
    }

    /// Reads children and keeps what is found.
    async fn fetch(
        &self,
        children: &[Uuid],
    ) -> Result<HashMap<Uuid, Known, RandomState>, sqlx::Error> {
        let read = self.fetch_now(children).await;
        let result = if read.is_ok() { "ok" } else { "failed" };
        counter!("rivulet_registry_reads_total", "result" => result).increment(1);
        read
    }

    async fn fetch_now(
        &self,
        children: &[Uuid],
    ) -> Result<HashMap<Uuid, Known, RandomState>, sqlx::Error> {
        let as_of = self.confirmation.lock().as_of(Instant::now());
        let tickets: Vec<_> = children
            .iter()
            .map(|id| self.slots.begin_read(*id))
            .collect();
        type Row = (Uuid, Uuid, String, String, bool, bool, bool, bool);
        let rows: Vec<Row> = self
            .on_pool(async |connection| {
                sqlx::query_as(
                    "SELECT c.id, c.parent_id, c.age_group, p.timezone,
                            c.deleted_at IS NOT NULL OR p.deleted_at IS NOT NULL,
                            p.coppa, p.audio, p.analytics
                     FROM children c JOIN parents p ON p.id = c.parent_id
                     WHERE c.id = ANY($1)",
                )
                .bind(children)
                .fetch_all(connection)
                .await
            })
            .await?;
        let mut found: HashMap<Uuid, Known, RandomState> = HashMap::default();
        for (id, parent_id, age_group, timezone, deleted, coppa, audio, analytics) in rows {
            let (Some(age_group), Ok(timezone)) =
                (AgeGroup::from_word(&age_group), timezone.parse())
            else {
                // Written past this release's rules; a newer one may know it.
                tracing::warn!(timezone, age_group, "a registration cannot be read");
                found.insert(id, Known::Unavailable);
                continue;
            };
            let registration = Registration {
                parent_id: ParentId::new(parent_id),
                age_group,
                timezone,
                deleted,
                coppa,
                audio,
                analytics,
            };
            found.insert(id, Known::Read(Some(registration)));
        }
        for (id, ticket) in children.iter().zip(tickets) {
            let registration = match found.get(id) {
                Some(Known::Read(registration)) => *registration,
                _ => None,
            };
            self.slots.finish_read(*id, ticket, registration, as_of);
        }
        Ok(found)
    }
}
