//! The queue on the device's disk, in SQLite: events, the clocks that they were made by, and what became of all that
//! ever were in it.
//!
//! A process that is killed loses nothing that was stored: a commit is in the operating system's hands. It is not synced to
//! the disk for each event, which would hold up the app, so a device that loses its power may lose the last of them.
//! What leaves the queue and the counter that says why change in one transaction.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use uuid::Uuid;

use crate::{Dropped, OpenError, clock::Epoch};

/// Of the store's layout. A newer one is not touched: an app that was put back to an older release must not destroy
/// what the newer one has stored.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, epoch INTEGER NOT NULL,
        child BLOB NOT NULL, speech INTEGER NOT NULL, made_ms INTEGER NOT NULL, json TEXT NOT NULL) STRICT;
    CREATE TABLE epochs (id INTEGER PRIMARY KEY AUTOINCREMENT, set_ms INTEGER NOT NULL, offset_ms INTEGER) STRICT;
    CREATE TABLE counts (name TEXT PRIMARY KEY, total INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0) STRICT;
    PRAGMA user_version = 1;";

/// Without a sync for each commit, and without a checkpoint in the way of one: [`Store::tidy`] makes those.
const SETTINGS: &str =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0;
    PRAGMA journal_size_limit = 1048576; PRAGMA cache_size = -512; PRAGMA temp_store = MEMORY;";

/// What the queue may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// 1 to 1 000 000; 10 000 by default. Beyond it the oldest events are dropped.
    pub events: u64,
    /// Of the events' JSON, 100 000 to 1 000 000 000; 10 MB by default. The file is up to half as large again.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            events: 10_000,
            bytes: 10_000_000,
        }
    }
}

/// An event that is new.
pub(crate) struct New<'a> {
    pub(crate) id: Uuid,
    pub(crate) epoch: i64,
    pub(crate) child: Uuid,
    pub(crate) is_speech: bool,
    pub(crate) made_ms: i64,
    pub(crate) json: &'a str,
}

/// An event that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) seq: i64,
    pub(crate) id: Uuid,
    pub(crate) child: Uuid,
    pub(crate) is_speech: bool,
    pub(crate) made_ms: i64,
    pub(crate) json: String,
}

/// The next events to send, all of one epoch.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) epoch: Epoch,
    pub(crate) events: Vec<Waiting>,
}

/// What became of an event of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Accepted,
    Rejected { code: String },
    Dropped(Dropped),
}

impl Fate {
    fn counter(&self) -> String {
        match self {
            Self::Accepted => "accepted".to_owned(),
            Self::Rejected { code } => format!("rejected:{code}"),
            Self::Dropped(reason) => format!("dropped:{}", reason.as_str()),
        }
    }
}

/// Which events a withdrawn consent takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purge {
    /// Of this child, or of every one.
    pub(crate) child: Option<Uuid>,
    /// Speech alone.
    pub(crate) only_speech: bool,
}

/// Everything that ever was in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events that wait now.
    pub queued: u64,
    /// Their JSON, in bytes.
    pub queued_bytes: u64,
    /// Events that the server has accepted.
    pub accepted: u64,
    /// Events that the server has refused for good, by its code.
    pub rejected: BTreeMap<String, u64>,
    /// Events that were not sent, by [reason](Dropped::as_str).
    pub dropped: BTreeMap<String, u64>,
}

pub(crate) struct Store {
    /// Whoever changes the queue. A second connection of SQLite would have to poll for its turn.
    writer: Mutex<Writer>,
    /// Tidies up beside it. In memory there is nothing to tidy up.
    tidier: Option<Mutex<Connection>>,
    bounds: Bounds,
    /// The newest epoch of an earlier process, 0 where there was none, and by how much the clock had been set by then.
    pub(crate) last_epoch_before: i64,
    pub(crate) set_before_ms: i64,
    /// Holds the lock that a second process is refused by, until it is closed or the process is gone.
    _lock: Option<Mutex<Connection>>,
}

struct Writer {
    db: Connection,
    queued: u64,
    bytes: u64,
    /// What is being sent is not dropped to make room: it may be accepted.
    sending_to: i64,
}

impl Store {
    /// A store that is gone with the client.
    pub(crate) fn in_memory(bounds: Bounds) -> Result<Self, OpenError> {
        let db = Connection::open_in_memory()?;
        make(&db)?;
        Self::of(db, None, None, bounds)
    }

    /// Opens the store in `dir`, makes it where there is none, and puts aside one that cannot be read.
    pub(crate) fn open(dir: &Path, bounds: Bounds) -> Result<Self, OpenError> {
        fs::create_dir_all(dir).map_err(|error| OpenError::Store(error.to_string()))?;
        let lock = lock(&dir.join("rivulet.lock"))?;
        let path = dir.join("rivulet.db");
        let (writer, tidier) = match connect(&path) {
            Err(OpenError::Damaged) => {
                put_aside(&path).map_err(|error| OpenError::Store(error.to_string()))?;
                let (writer, tidier) = connect(&path)?;
                // How many events were in it nobody knows.
                bump(&writer, &Fate::Dropped(Dropped::Damaged).counter(), 1)?;
                (writer, tidier)
            }
            connected => connected?,
        };
        Self::of(writer, Some(tidier), Some(lock), bounds)
    }

    fn of(
        db: Connection,
        tidier: Option<Connection>,
        lock: Option<Connection>,
        bounds: Bounds,
    ) -> Result<Self, OpenError> {
        let sizes = "SELECT count(*), coalesce(sum(length(CAST(json AS BLOB))), 0) FROM events";
        let (queued, bytes) = db.query_row(sizes, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let newest = "SELECT id, set_ms FROM epochs ORDER BY id DESC LIMIT 1";
        let newest = db.query_row(newest, [], |row| Ok((row.get(0)?, row.get(1)?)));
        let (last_epoch_before, set_before_ms) = newest.optional()?.unwrap_or_default();
        Ok(Self {
            last_epoch_before,
            set_before_ms,
            writer: Mutex::new(Writer {
                db,
                queued,
                bytes,
                sending_to: 0,
            }),
            tidier: tidier.map(Mutex::new),
            bounds,
            _lock: lock.map(Mutex::new),
        })
    }

    /// Puts an event at the end of the queue; returns how many at its start had to go for it.
    pub(crate) fn push(&self, event: &New<'_>) -> rusqlite::Result<u64> {
        let mut guard = self.writer.lock();
        let writer = &mut *guard;
        let size = event.json.len() as u64;
        let (mut evicted, mut freed) = (0, 0);
        let tx = writer.db.transaction()?;
        if writer.queued + 1 > self.bounds.events || writer.bytes + size > self.bounds.bytes {
            let mut last = None;
            let mut oldest = tx.prepare_cached(
                "SELECT seq, length(CAST(json AS BLOB)) FROM events WHERE seq > ?1 ORDER BY seq",
            )?;
            let mut rows = oldest.query([writer.sending_to])?;
            while writer.queued - evicted + 1 > self.bounds.events
                || writer.bytes - freed + size > self.bounds.bytes
            {
                // Where nothing is left but what is being sent, the bound waits for the answer.
                let Some(row) = rows.next()? else { break };
                last = Some(row.get::<_, i64>(0)?);
                freed += row.get::<_, u64>(1)?;
                evicted += 1;
            }
            drop(rows);
            if let Some(last) = last {
                tx.execute(
                    "DELETE FROM events WHERE seq > ?1 AND seq <= ?2",
                    [writer.sending_to, last],
                )?;
                bump(&tx, &Fate::Dropped(Dropped::Overflow).counter(), evicted)?;
            }
        }
        tx.prepare_cached(
            "INSERT INTO events (id, epoch, child, speech, made_ms, json) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            event.id,
            event.epoch,
            event.child,
            event.is_speech,
            event.made_ms,
            event.json
        ])?;
        tx.commit()?;
        writer.queued = writer.queued + 1 - evicted;
        writer.bytes = writer.bytes + size - freed;
        Ok(evicted)
    }

    /// The oldest events of the oldest epoch that has any: at most `events` of at most `bytes`, and one at least.
    /// They are held until [`Self::settle`] or [`Self::release`].
    pub(crate) fn next(&self, events: usize, bytes: usize) -> rusqlite::Result<Option<Batch>> {
        let mut batch: Option<Batch> = None;
        // With the writer held, so that nothing is dropped between reading it and holding it.
        let mut writer = self.writer.lock();
        {
            let mut waiting = writer.db.prepare_cached(
                "SELECT e.seq, e.id, e.child, e.speech, e.made_ms, e.json, c.id, c.set_ms, c.offset_ms
                 FROM events e JOIN epochs c ON c.id = e.epoch ORDER BY e.seq LIMIT ?1",
            )?;
            let mut rows = waiting.query([events as i64])?;
            let mut size = 0;
            while let Some(row) = rows.next()? {
                let epoch = Epoch {
                    id: row.get(6)?,
                    base_ms: 0,
                    set_ms: row.get(7)?,
                    offset_ms: row.get(8)?,
                };
                let event = Waiting {
                    seq: row.get(0)?,
                    id: row.get(1)?,
                    child: row.get(2)?,
                    is_speech: row.get(3)?,
                    made_ms: row.get(4)?,
                    json: row.get(5)?,
                };
                size += event.json.len() + 1;
                match &mut batch {
                    None => {
                        batch = Some(Batch {
                            epoch,
                            events: vec![event],
                        })
                    }
                    Some(batch) if batch.epoch.id != epoch.id || size > bytes => break,
                    Some(batch) => batch.events.push(event),
                }
            }
        }
        let last = batch.as_ref().and_then(|batch| batch.events.last());
        writer.sending_to = last.map_or(0, |event| event.seq);
        Ok(batch)
    }

    /// Takes out what a batch came to, by seq, and counts it, once: what a withdrawn consent has taken meanwhile was counted.
    /// `told` are the counts of drops that the server has with it.
    pub(crate) fn settle(
        &self,
        fates: &[(i64, Fate)],
        told: &BTreeMap<String, u64>,
    ) -> rusqlite::Result<()> {
        let mut guard = self.writer.lock();
        let writer = &mut *guard;
        let (mut queued, mut bytes) = (writer.queued, writer.bytes);
        let tx = writer.db.transaction()?;
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        {
            let mut delete = tx.prepare_cached(
                "DELETE FROM events WHERE seq = ?1 RETURNING length(CAST(json AS BLOB))",
            )?;
            for (seq, fate) in fates {
                let size: Option<u64> = delete.query_row([seq], |row| row.get(0)).optional()?;
                if let Some(size) = size {
                    queued -= 1;
                    bytes -= size;
                    *counts.entry(fate.counter()).or_default() += 1;
                }
            }
            let mut tell = tx.prepare_cached(
                "UPDATE counts SET told = told + ?2 WHERE name = 'dropped:' || ?1",
            )?;
            for (reason, count) in told {
                tell.execute(params![reason, count])?;
            }
        }
        for (name, count) in counts {
            bump(&tx, &name, count)?;
        }
        // Of this run's epochs any may be of the event that is stored next, and the newest tells the next run how the
        // clock was set.
        tx.prepare_cached(
            "DELETE FROM epochs WHERE id <= ?1 AND id < (SELECT max(id) FROM epochs)
                 AND id NOT IN (SELECT epoch FROM events)",
        )?
        .execute([self.last_epoch_before])?;
        tx.commit()?;
        (writer.queued, writer.bytes, writer.sending_to) = (queued, bytes, 0);
        Ok(())
    }

    /// The batch is not being sent any more, and stays.
    pub(crate) fn release(&self) {
        self.writer.lock().sending_to = 0;
    }

    /// Takes out everything that a consent was for; returns how much.
    pub(crate) fn purge(&self, what: Purge) -> rusqlite::Result<u64> {
        let mut guard = self.writer.lock();
        let writer = &mut *guard;
        let tx = writer.db.transaction()?;
        let freed: Vec<u64> = tx
            .prepare(
                "DELETE FROM events WHERE (?1 IS NULL OR child = ?1) AND (speech OR NOT ?2)
                 RETURNING length(CAST(json AS BLOB))",
            )?
            .query_map(params![what.child, what.only_speech], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let count = freed.len() as u64;
        if count > 0 {
            bump(&tx, &Fate::Dropped(Dropped::Consent).counter(), count)?;
        }
        tx.commit()?;
        writer.queued -= count;
        writer.bytes -= freed.iter().sum::<u64>();
        Ok(count)
    }

    /// Counts events that never came into the queue.
    pub(crate) fn count(&self, reason: Dropped, count: u64) -> rusqlite::Result<()> {
        bump(
            &self.writer.lock().db,
            &Fate::Dropped(reason).counter(),
            count,
        )
    }

    /// Stores an epoch of the clock; returns its id.
    pub(crate) fn begin_epoch(&self, epoch: &Epoch) -> rusqlite::Result<i64> {
        let writer = self.writer.lock();
        writer.db.execute(
            "INSERT INTO epochs (set_ms, offset_ms) VALUES (?1, ?2)",
            params![epoch.set_ms, epoch.offset_ms],
        )?;
        Ok(writer.db.last_insert_rowid())
    }

    /// What an answer told of a clock.
    pub(crate) fn learn(&self, epoch: i64, offset_ms: i64) -> rusqlite::Result<()> {
        let writer = self.writer.lock();
        let sql = "UPDATE epochs SET offset_ms = ?2 WHERE id = ?1";
        writer.db.execute(sql, [epoch, offset_ms]).map(|_| ())
    }

    /// How many events wait.
    pub(crate) fn queued(&self) -> u64 {
        self.writer.lock().queued
    }

    /// What the server has not been told of yet.
    pub(crate) fn untold(&self) -> rusqlite::Result<BTreeMap<String, u64>> {
        let writer = self.writer.lock();
        let mut untold = writer.db.prepare_cached(
            "SELECT substr(name, 9), total - told FROM counts WHERE name LIKE 'dropped:%' AND total > told",
        )?;
        untold
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    }

    pub(crate) fn stats(&self) -> rusqlite::Result<Stats> {
        let writer = self.writer.lock();
        let mut stats = Stats {
            queued: writer.queued,
            queued_bytes: writer.bytes,
            ..Stats::default()
        };
        let mut counts = writer.db.prepare_cached("SELECT name, total FROM counts")?;
        let mut rows = counts.query([])?;
        while let Some(row) = rows.next()? {
            let (name, total): (String, u64) = (row.get(0)?, row.get(1)?);
            match name.split_once(':') {
                Some(("rejected", code)) => _ = stats.rejected.insert(code.to_owned(), total),
                Some(("dropped", reason)) => _ = stats.dropped.insert(reason.to_owned(), total),
                _ => stats.accepted = total,
            }
        }
        Ok(stats)
    }

    /// Moves what was written into the database's own file, beside those who write.
    pub(crate) fn tidy(&self) -> rusqlite::Result<()> {
        let Some(tidier) = &self.tidier else {
            return Ok(());
        };
        let tidier = tidier.lock();
        tidier.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }
}

/// One process, and one client in it: two would send everything twice.
fn lock(path: &Path) -> Result<Connection, OpenError> {
    let lock = Connection::open(path)?;
    lock.busy_timeout(Duration::ZERO)?;
    // No journal: nothing is ever written.
    lock.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE",
    )?;
    Ok(lock)
}

/// The connection that writes, and the one that tidies up.
fn connect(path: &Path) -> Result<(Connection, Connection), OpenError> {
    let open = || -> Result<Connection, OpenError> {
        let db = Connection::open(path)?;
        db.busy_timeout(Duration::from_secs(5))?;
        db.execute_batch(SETTINGS)?;
        Ok(db)
    };
    let writer = open()?;
    make(&writer)?;
    Ok((writer, open()?))
}

/// Makes the tables where there are none.
fn make(db: &Connection) -> Result<(), OpenError> {
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => Ok(db.execute_batch(&format!("BEGIN; {SCHEMA} COMMIT"))?),
        VERSION => Ok(()),
        newer => Err(OpenError::Newer(newer)),
    }
}

/// Keeps one damaged store for whoever looks into it.
fn put_aside(path: &Path) -> std::io::Result<()> {
    for suffix in ["-wal", "-shm"] {
        let beside = path.with_file_name(format!("rivulet.db{suffix}"));
        if beside.exists() {
            fs::remove_file(beside)?;
        }
    }
    fs::rename(path, path.with_extension("damaged"))
}

fn bump(db: &Connection, name: &str, count: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO counts (name, total) VALUES (?1, ?2)
               ON CONFLICT (name) DO UPDATE SET total = total + excluded.total";
    db.prepare_cached(sql)?
        .execute(params![name, count])
        .map(|_| ())
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse,
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged,
            _ => Self::Store(error.to_string()),
        }
    }
}
