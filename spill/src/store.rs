//! The file: an `SQLite` database with one table for the queue and one for its damaged records.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};

use crate::{OpenError, Record, Spilled};

const FILE: &str = "spill.db";
const JOURNAL: &str = "spill.db-journal";

/// The layout of the tables below, in the file's `user_version`.
const LAYOUT: i64 = 1;

/// Bytes of records that are handed out at a time; a single record may be longer.
const MAX_BYTES_OUT: usize = 4 << 20;

/// A file above this is made small again when the queue has run empty.
const WORTH_SHRINKING: u64 = 1 << 20;

/// The largest file that an erasure writes anew, through memory and in a second or so. A larger one is of an outage:
/// once that is over, it becomes small.
const REWRITTEN: u64 = 64 << 20;

/// Records that an erasure looks at between two appends.
const ERASED_AT_ONCE: i64 = 1_000;

/// How many bytes a trial of the disk writes.
const TRIAL_BYTES: i32 = 256 << 10;

/// What is removed is overwritten (`secure_delete`), because it is what children did. Nobody else opens the file while
/// this process has it (`EXCLUSIVE`). The journal's file stays (`PERSIST`),
/// so that records can be removed when the disk is full.
const SETTINGS: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = PERSIST;
    PRAGMA journal_size_limit = 4194304;
    PRAGMA synchronous = FULL;
    PRAGMA secure_delete = ON;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -8000;
    BEGIN EXCLUSIVE; COMMIT;";

const TABLES: &str = "
    BEGIN;
    CREATE TABLE queue (
        seq INTEGER PRIMARY KEY, since INTEGER NOT NULL, sum INTEGER NOT NULL, bytes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE damaged (
        seq INTEGER NOT NULL, since INTEGER NOT NULL, sum INTEGER NOT NULL, bytes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE trial (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
    PRAGMA user_version = 1;
    COMMIT;";

#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    /// Records in the queue.
    pub(crate) records: u64,
    pub(crate) damaged: u64,
    /// Every record up to this number was too old when the queue was read, and will stay so.
    held_to: i64,
    pub(crate) held: u64,
}

impl Store {
    /// Opens the file, and sets a damaged one aside for a new one.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        make_private(dir).map_err(|error| OpenError::Directory(dir.to_owned(), error))?;
        match Self::open_file(dir) {
            Err(Unopened::Store(error)) if is_damage(&error) => {
                set_aside(dir, &error)
                    .map_err(|error| OpenError::Directory(dir.to_owned(), error))?;
                Self::open_file(dir)
            }
            opened => opened,
        }
        .map_err(|unopened| match unopened {
            Unopened::Layout(layout) => OpenError::UnknownLayout(dir.to_owned(), layout),
            Unopened::File(error) => OpenError::Directory(dir.to_owned(), error),
            Unopened::Store(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) =>
            {
                OpenError::InUse(dir.to_owned())
            }
            Unopened::Store(error) => OpenError::Store(dir.to_owned(), error),
        })
    }

    fn open_file(dir: &Path) -> Result<Self, Unopened> {
        let path = dir.join(FILE);
        // SQLite gives its journal the permissions of the database.
        match fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // The permissions are set by path, because closing another handle of the file would drop SQLite's locks
                // on it.
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            }
            Err(error) => return Err(error.into()),
        }
        // The file's name must survive a power cut too. SQLite sees to that for its journal.
        fs::File::open(dir)?.sync_all()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        connection.execute_batch(SETTINGS)?;
        match connection.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => connection.execute_batch(TABLES)?,
            LAYOUT => {}
            other => return Err(Unopened::Layout(other)),
        }
        let verdict: String =
            connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        if verdict != "ok" {
            return Err(Unopened::Store(damage(verdict)));
        }
        let count = |table: &str| {
            let sql = format!("SELECT count(*) FROM {table}");
            connection.query_row(&sql, [], |row| row.get::<_, i64>(0))
        };
        let (records, damaged) = (count("queue")?, count("damaged")?);
        Ok(Self {
            connection,
            records: records.unsigned_abs(),
            damaged: damaged.unsigned_abs(),
            held_to: i64::MIN,
            held: 0,
        })
    }

    /// Appends the records, all or none, durably.
    pub(crate) fn append<'r>(
        &mut self,
        records: impl Iterator<Item = &'r Record>,
    ) -> Result<(), rusqlite::Error> {
        let mut appended = 0;
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO queue (since, sum, bytes) VALUES (?1, ?2, ?3)")?;
            for record in records {
                insert.execute(params![record.since, sum(record), record.bytes])?;
                appended += 1;
            }
        }
        transaction.commit()?;
        self.records += appended;
        Ok(())
    }

    /// The first records that are not from before `not_before`. Damaged ones are moved to the table of damaged records.
    pub(crate) fn first(
        &mut self,
        not_before: i64,
        max_records: usize,
    ) -> Result<Vec<Spilled>, rusqlite::Error> {
        let (mut found, mut damaged, mut bytes) = (Vec::new(), Vec::new(), 0);
        let (mut held_to, mut held, mut all_held) = (self.held_to, 0, true);
        {
            let mut select = self.connection.prepare_cached(
                "SELECT seq, since, sum, bytes FROM queue WHERE seq > ?1 ORDER BY seq",
            )?;
            let mut rows = select.query([self.held_to])?;
            while found.len() < max_records
                && bytes < MAX_BYTES_OUT
                && let Some(row) = rows.next()?
            {
                let (seq, since) = (row.get(0)?, row.get(1)?);
                if since < not_before {
                    if all_held {
                        held_to = seq;
                        held += 1;
                    }
                    continue;
                }
                all_held = false;
                let record = Record {
                    since,
                    bytes: row.get(3)?,
                };
                if row.get::<_, u32>(2).ok() != Some(sum(&record)) {
                    damaged.push(seq);
                    continue;
                }
                bytes += record.bytes.len();
                found.push(Spilled { seq, record });
            }
        }
        self.held_to = held_to;
        self.held += held;
        if !damaged.is_empty() {
            self.take_out(&damaged)?;
        }
        Ok(found)
    }

    fn take_out(&mut self, damaged: &[i64]) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        for seq in damaged {
            transaction.execute(
                "INSERT INTO damaged SELECT seq, since, sum, bytes FROM queue WHERE seq = ?1",
                [seq],
            )?;
        }
        let gone = delete(&transaction, damaged)?;
        transaction.commit()?;
        self.records -= gone;
        self.damaged += gone;
        tracing::error!(
            records = gone,
            "records in the spill are damaged and were put into its table `damaged`: they were \
             accepted and will not reach Kafka"
        );
        Ok(())
    }

    /// Removes records; the file is made small when none is left.
    pub(crate) fn remove(&mut self, seqs: &[i64]) -> Result<(), rusqlite::Error> {
        match self.try_remove(seqs) {
            // The journal cannot grow, but it has room for fewer records. A disk that the spill has filled must not
            // keep it from running empty.
            Err(error) if is_no_room(&error) && seqs.len() > 1 => {
                let (some, others) = seqs.split_at(seqs.len() / 2);
                self.remove(some)?;
                self.remove(others)
            }
            tried => tried,
        }
    }

    fn try_remove(&mut self, seqs: &[i64]) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        let gone = delete(&transaction, seqs)?;
        transaction.commit()?;
        self.records -= gone;
        if self.records + self.damaged == 0
            && self.file_pages()? * self.page_size()? > WORTH_SHRINKING
        {
            // What children did must not stay in free pages. If this fails, the next time is early enough.
            if let Err(error) = self.connection.execute_batch("VACUUM") {
                tracing::warn!(%error, "the empty spill could not be made small");
            }
        }
        Ok(())
    }

    /// Looks at up to [`ERASED_AT_ONCE`] records after this place, and removes those that are to go; after the last of
    /// them at the damaged ones, and at what the journal still has. Returns where to go on, and how many went.
    pub(crate) fn erase(
        &mut self,
        after: i64,
        is_gone: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(Option<i64>, u64), rusqlite::Error> {
        let (mut gone, mut last, mut looked_at) = (Vec::new(), after, 0);
        {
            let mut select = self.connection.prepare_cached(
                "SELECT seq, bytes FROM queue WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?;
            let mut rows = select.query(params![after, ERASED_AT_ONCE])?;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                looked_at += 1;
                if is_gone(row.get_ref(1)?.as_blob().unwrap_or_default()) {
                    gone.push(last);
                }
            }
        }
        self.remove(&gone)?;
        if looked_at == ERASED_AT_ONCE {
            return Ok((Some(last), gone.len() as u64));
        }
        let transaction = self.connection.transaction()?;
        let mut damaged = Vec::new();
        {
            let mut select = transaction.prepare("SELECT rowid, bytes FROM damaged")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                if is_gone(row.get_ref(1)?.as_blob().unwrap_or_default()) {
                    damaged.push(row.get::<_, i64>(0)?);
                }
            }
        }
        for row in &damaged {
            transaction.execute("DELETE FROM damaged WHERE rowid = ?1", [row])?;
        }
        transaction.commit()?;
        self.damaged -= damaged.len() as u64;
        // Where records were moved within the file, or between pages, their bytes are left; and the journal has the
        // pages as they were before the last transactions.
        if self.file_pages()? * self.page_size()? > REWRITTEN {
            return Err(too_large());
        }
        self.connection.execute_batch(
            "VACUUM; PRAGMA journal_mode = TRUNCATE;
             INSERT OR REPLACE INTO trial VALUES (1, zeroblob(1)); DELETE FROM trial;
             PRAGMA journal_mode = PERSIST;",
        )?;
        Ok((None, (gone.len() + damaged.len()) as u64))
    }

    /// Writes something of some size and removes it again, both durably.
    pub(crate) fn try_disk(&mut self) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT OR REPLACE INTO trial VALUES (1, zeroblob(?1))",
            [TRIAL_BYTES],
        )?;
        transaction.commit()?;
        self.connection.execute("DELETE FROM trial", []).map(drop)
    }

    /// `since` of the first record.
    pub(crate) fn oldest(&self) -> Result<Option<i64>, rusqlite::Error> {
        let mut select = self
            .connection
            .prepare_cached("SELECT since FROM queue ORDER BY seq LIMIT 1")?;
        let mut rows = select.query([])?;
        rows.next()?.map(|row| row.get(0)).transpose()
    }

    /// Bytes of the file that are in use.
    pub(crate) fn bytes(&self) -> Result<u64, rusqlite::Error> {
        let free = self.pragma("freelist_count")?;
        Ok((self.file_pages()? - free) * self.page_size()?)
    }

    fn file_pages(&self) -> Result<u64, rusqlite::Error> {
        self.pragma("page_count")
    }

    fn page_size(&self) -> Result<u64, rusqlite::Error> {
        self.pragma("page_size")
    }

    fn pragma(&self, name: &str) -> Result<u64, rusqlite::Error> {
        let value: i64 = self
            .connection
            .pragma_query_value(None, name, |row| row.get(0))?;
        Ok(value.unsigned_abs())
    }
}

fn delete(transaction: &Transaction<'_>, seqs: &[i64]) -> Result<u64, rusqlite::Error> {
    let mut delete = transaction.prepare_cached("DELETE FROM queue WHERE seq = ?1")?;
    let mut gone = 0;
    for seq in seqs {
        gone += delete.execute([seq])? as u64;
    }
    Ok(gone)
}

fn sum(record: &Record) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record.since.to_le_bytes());
    hasher.update(&record.bytes);
    hasher.finalize()
}

enum Unopened {
    Layout(i64),
    File(io::Error),
    Store(rusqlite::Error),
}

impl From<io::Error> for Unopened {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<rusqlite::Error> for Unopened {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

pub(crate) fn is_no_room(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// The file is not what was written.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

fn too_large() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_TOOBIG);
    let why = "the spill is too large to be written anew now";
    rusqlite::Error::SqliteFailure(code, Some(why.to_owned()))
}

/// The file is to be written anew, and is too large for that.
pub(crate) fn is_too_large(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::TooBig)
}

fn damage(verdict: String) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(verdict))
}

/// Gives the damaged file another name, for a person to look at: `sqlite3` can recover most of it.
pub(crate) fn set_aside(dir: &Path, why: &rusqlite::Error) -> io::Result<()> {
    let mut number = 1;
    let name = |number: u32| format!("damaged-{number}.db");
    while dir.join(name(number)).exists() {
        number += 1;
    }
    let aside = dir.join(name(number));
    fs::rename(dir.join(FILE), &aside)?;
    match fs::rename(dir.join(JOURNAL), dir.join(name(number) + "-journal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    tracing::error!(
        file = %aside.display(),
        %why,
        "the spill is damaged and was set aside: what is in it was accepted and will not reach Kafka"
    );
    Ok(())
}

fn make_private(dir: &Path) -> io::Result<()> {
    if !dir.is_dir() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        if let Some(parent) = dir.parent().filter(|parent| *parent != Path::new("")) {
            fs::File::open(parent)?.sync_all()?;
        }
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}
