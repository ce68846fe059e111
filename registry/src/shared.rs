//! What a node holds of the registry, and how it is read from PostgreSQL.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ahash::RandomState;
use parking_lot::{Mutex, RwLock};
use rivulet_events::{ChildId, ConsentVersion, ParentId, Registration, data::AgeGroup};
use sqlx::{PgConnection, PgPool};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout_at,
};
use uuid::Uuid;

use crate::metrics::READS;
use crate::{
    entries::{AsOf, CacheEntries, Confirmation},
    keys::Grant,
    tombstones,
};

/// How long one read of PostgreSQL may take.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// How often an unreachable PostgreSQL is tried again.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Children a query.
const CHILDREN_A_QUERY: usize = 10_000;

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

/// What the cache, the connection that hears of changes and the task that reads have in common.
pub(crate) struct Shared {
    pub(crate) pool: PgPool,
    pub(crate) entries: CacheEntries,
    pub(crate) confirmation: Mutex<Confirmation>,
    pub(crate) keys: RwLock<Option<Keys>>,
    pub(crate) reading_keys: tokio::sync::Mutex<()>,
    /// Set when the last read failed. While it is set, only the prober waits for PostgreSQL.
    pub(crate) unreachable: AtomicBool,
    pub(crate) reads: mpsc::Sender<Read>,
    pub(crate) max_stale: Duration,
}

/// An answer with how long ago it was confirmed.
pub(crate) type Confirmed<T> = Result<(T, Duration), Unavailable>;

pub(crate) struct Keys {
    grants: HashMap<[u8; 32], Arc<Grant>, RandomState>,
    pub(crate) as_of: AsOf,
}

/// Children that somebody wants read, and where to send the answer.
pub(crate) struct Read {
    pub(crate) children: Vec<ChildId>,
    pub(crate) answer: oneshot::Sender<Vec<Known>>,
}

impl Shared {
    /// The key's grant with how long ago that was confirmed, and how long ago keys were read.
    pub(crate) fn known_key(&self, sha256: &[u8; 32]) -> (Confirmed<Option<Arc<Grant>>>, Duration) {
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
    pub(crate) async fn serve(&self, mut waiting: mpsc::Receiver<Read>) {
        let mut batch: Vec<Read> = Vec::new();
        loop {
            if self.unreachable.load(Ordering::Relaxed) {
                // Requests that came in before the flag was set need not wait for the probe.
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
                        // The client of the request may have gone.
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
    pub(crate) async fn on_pool<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let deadline = tokio::time::Instant::now() + READ_TIMEOUT;
        let acquired = timeout_at(deadline, self.pool.acquire()).await;
        let mut connection = acquired.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        if let Ok(done) = timeout_at(deadline, work(&mut connection)).await {
            return done;
        }
        // The server may be gone without closing the connection. The pool must not wait for it as well.
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
        READS.with([result]).increment(1);
        read
    }

    async fn fetch_now(
        &self,
        children: &[Uuid],
    ) -> Result<HashMap<Uuid, Known, RandomState>, sqlx::Error> {
        let as_of = self.confirmation.lock().as_of(Instant::now());
        let tickets: Vec<_> = children
            .iter()
            .map(|id| self.entries.begin_read(*id))
            .collect();
        type Version = Option<String>;
        type Row = (
            Uuid,
            Uuid,
            String,
            String,
            bool,
            bool,
            bool,
            bool,
            Version,
            Version,
            i64,
        );
        let (rows, erased) = self
            .on_pool(async |connection| {
                let rows: Vec<Row> = sqlx::query_as(
                    "SELECT c.id, c.parent_id, c.age_group, p.timezone,
                            c.deleted_at IS NOT NULL OR p.deleted_at IS NOT NULL,
                            p.coppa, p.audio, p.analytics, p.coppa_version, p.audio_version, c.consent_epoch
                     FROM children c JOIN parents p ON p.id = c.parent_id
                     WHERE c.id = ANY($1)",
                )
                .bind(children)
                .fetch_all(&mut *connection)
                .await?;
                let there: HashSet<Uuid> = rows.iter().map(|row| row.0).collect();
                let missing = children.iter().copied().filter(|id| !there.contains(id));
                let missing: Vec<_> = missing.collect();
                Ok((rows, tombstones::erased(connection, &missing).await?))
            })
            .await?;
        let mut found: HashMap<Uuid, Known, RandomState> = HashMap::default();
        found.extend(
            erased
                .into_iter()
                .map(|id| (id, Known::Read(Some(Registration::erased())))),
        );
        for row in rows {
            let (id, parent_id, age_group, timezone, deleted, coppa, audio, analytics, ..) = row;
            let version = |text: Version| match text {
                None => Some(None),
                Some(text) => ConsentVersion::new(&text).map(Some),
            };
            let (Some(age_group), Ok(timezone), Some(coppa_version), Some(audio_version)) = (
                AgeGroup::from_word(&age_group),
                timezone.parse(),
                version(row.8),
                version(row.9),
            ) else {
                // A newer release may have written a value that this one does not know.
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
                coppa_version,
                audio_version,
                consent_epoch: row.10,
            };
            found.insert(id, Known::Read(Some(registration)));
        }
        for (id, ticket) in children.iter().zip(tickets) {
            let registration = match found.get(id) {
                Some(Known::Read(registration)) => *registration,
                _ => None,
            };
            self.entries.finish_read(*id, ticket, registration, as_of);
        }
        Ok(found)
    }
}
