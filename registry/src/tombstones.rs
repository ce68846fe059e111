//! Who was erased, as a consumer must know it: in the transaction in which it stores what it made of records.
//!
//! A transaction that stores something of children first [`hold`]s, and looks the tombstones up after that. An erasure
//! commits its tombstones, notes which transactions hold at that moment, and waits for their end: any other one began
//! to look after the commit, and has seen them. So nobody is kept waiting but the erasure.

use std::time::Duration;

use ahash::AHashMap;
use rivulet_auditlog::hash;
use rivulet_events::sabotage::sabotaged;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// The advisory lock that [`hold`] shares. Nobody takes it exclusively: it is there to be seen in `pg_locks`.
const LOCK: i64 = 7_262_105_021;

/// What makes a transaction one that an erasure waits for, as a command without rows. The statement that looks
/// tombstones up must be a later one.
pub const HOLD: &str = "DO 'BEGIN PERFORM pg_advisory_xact_lock_shared(7262105021); END'";

/// Makes this transaction one that an erasure waits for; see [`HOLD`].
///
/// # Errors
/// PostgreSQL failed.
pub async fn hold(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(HOLD).execute(conn).await.map(drop)
}

/// Waits for the end of every transaction that held when this began: those that begin later see what is committed now.
/// They last for seconds at most, and nobody waits for this.
///
/// # Errors
/// PostgreSQL failed.
pub async fn holders_end(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut left = holders(pool).await?;
    while !left.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = holders(pool).await?;
        left.retain(|holder| now.contains(holder));
    }
    Ok(())
}

async fn holders(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT virtualtransaction FROM pg_locks
         WHERE locktype = 'advisory' AND mode = 'ShareLock' AND objsubid = 1
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND classid::bigint = $1::bigint >> 32 AND objid::bigint = $1::bigint & 4294967295",
    )
    .bind(LOCK)
    .fetch_all(pool)
    .await
}

/// The number of the newest tombstone; 0 where there is none. Who stores something after that calls it after [`hold`].
///
/// # Errors
/// PostgreSQL failed.
pub async fn newest(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(max(number), 0) FROM tombstones")
        .fetch_one(conn)
        .await
}

/// Which of these children were erased.
///
/// # Errors
/// PostgreSQL failed.
pub async fn erased(conn: &mut PgConnection, children: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    erased_of(conn, "child", children).await
}

/// Which of these parents were erased.
///
/// # Errors
/// PostgreSQL failed.
pub async fn erased_parents(
    conn: &mut PgConnection,
    parents: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    erased_of(conn, "parent", parents).await
}

async fn erased_of(
    conn: &mut PgConnection,
    kind: &str,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(
        "SELECT id FROM unnest($1::uuid[]) AS asked (id)
         WHERE EXISTS (SELECT FROM tombstones WHERE sha256 = tombstone_hash(id) AND kind = $2)",
    )
    .bind(ids)
    .bind(kind)
    .fetch_all(conn)
    .await
}

/// The tombstones of children that a process has read: some 50 bytes each.
#[derive(Debug, Default)]
pub struct Tombstones {
    /// Half of each hash, which is enough to tell it, with its number.
    numbers: AHashMap<[u8; 16], i64>,
    read_to: i64,
}

impl Tombstones {
    /// Reads what was added up to `newest`, which the caller's transaction has seen.
    ///
    /// # Errors
    /// PostgreSQL failed, or was put back to a state from before tombstones that were read already. Then nothing may be
    /// stored until they are there again (`rivulet_erasure::log`).
    pub async fn read(&mut self, conn: &mut PgConnection, newest: i64) -> Result<(), sqlx::Error> {
        if newest < self.read_to {
            return Err(sqlx::Error::Protocol(
                "PostgreSQL was put back to a state from before an erasure; waiting until that is done again".to_owned(),
            ));
        }
        if newest == self.read_to {
            return Ok(());
        }
        let added: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "SELECT number, substring(sha256 FOR 16) FROM tombstones
             WHERE number > $1 AND number <= $2 AND kind = 'child'",
        )
        .bind(self.read_to)
        .bind(newest)
        .fetch_all(conn)
        .await?;
        let half = |(number, half): (i64, Vec<u8>)| Some((half.try_into().ok()?, number));
        self.numbers.extend(added.into_iter().filter_map(half));
        self.read_to = newest;
        Ok(())
    }

    /// Whether nobody was erased, so that nobody need be looked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether this child was erased, by a tombstone up to the number `to`.
    #[must_use]
    pub fn has(&self, child: Uuid, to: i64) -> bool {
        if self.numbers.is_empty() || sabotaged("tombstones") {
            return false;
        }
        let hash = hash(child);
        let half = hash.first_chunk::<16>();
        half.and_then(|half| self.numbers.get(half))
            .is_some_and(|number| *number <= to)
    }

    /// Whether bytes that cannot be read as a record have the id of somebody who was erased up to the number `to`.
    #[must_use]
    pub fn any_in(&self, bytes: &[u8], to: i64) -> bool {
        !self.numbers.is_empty() && ids_in(bytes).any(|id| self.has(id, to))
    }
}

/// Whatever looks like an id in these bytes.
pub(crate) fn ids_in(bytes: &[u8]) -> impl Iterator<Item = Uuid> {
    const ID: usize = 36;
    bytes.windows(ID).filter_map(|window| {
        let text = match (window[8], window[13]) {
            (b'-', b'-') => str::from_utf8(window).ok(),
            _ => None,
        };
        text?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_the_one_that_is_held() {
        assert!(HOLD.contains(&LOCK.to_string()));
    }

    #[test]
    fn ids_are_found_in_any_bytes() {
        let child = Uuid::from_u128(7);
        let mut tombstones = Tombstones::default();
        assert!(!tombstones.any_in(child.to_string().as_bytes(), 9));
        let half = *hash(child).first_chunk().unwrap();
        tombstones.numbers.insert(half, 5);
        assert!(tombstones.has(child, 5) && !tombstones.has(child, 4));
        let text = child.to_string();
        for bytes in [
            format!("\u{1}{{{text}"),
            text.to_uppercase(),
            format!("a-b-c {text} d"),
        ] {
            assert!(tombstones.any_in(bytes.as_bytes(), 5), "{bytes}");
        }
        assert!(!tombstones.any_in(&text.as_bytes()[1..], 5));
    }
}
