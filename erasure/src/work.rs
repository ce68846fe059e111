//! Carrying erasures on, in whichever process has the lock.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use rivulet_auditlog::{Action, Entry, record};
use rivulet_registry::tombstones::holders_end;
use sqlx::{Connection as _, PgPool};
use uuid::Uuid;

use crate::{
    Error, Stores, certificate,
    clickhouse::{self, Hashes},
    kafka, log, metrics,
    postgres::{self, Subjects},
    revoked, told,
};

/// How often it is looked whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often their age is told where others carry them on.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// Erasures that are carried on together: their subjects go in one mutation.
const TOGETHER: i64 = 100;

/// How many times as long as a round takes the next one waits that takes withdrawn consents out of the history: each looks
/// through all of it, for however few children, and others want the machine too.
const REST: u32 = 10;

/// How often it is looked whether ClickHouse was put back to a state from before an erasure.
const CHECK_CLICKHOUSE_EVERY: Duration = Duration::from_secs(60);

struct Open {
    id: Uuid,
    tombstone: i64,
    /// As far as PostgreSQL knows them.
    subjects: Subjects,
    /// All of them.
    hashes: Hashes,
}

/// Carries erasures on, for ever, whenever there are some and no other process does.
pub async fn carry_on(stores: Stores) -> Infallible {
    let mut told = false;
    let mut checked: Option<Instant> = None;
    let mut rest_until = Instant::now();
    loop {
        let is_due = checked.is_none_or(|at| at.elapsed() > CHECK_CLICKHOUSE_EVERY);
        let worked = match work(&stores).await {
            Ok(_) if is_due => clean_restored(&stores).await,
            worked => worked,
        };
        let worked = match worked {
            Ok(_) => {
                let began = Instant::now();
                let rests = rest_until > began;
                let worked = erase_withdrawn(&stores, !rests).await;
                if !rests {
                    rest_until = Instant::now() + began.elapsed() * REST;
                }
                worked
            }
            worked => worked,
        };
        match worked {
            Ok(_) => {
                told = false;
                if is_due {
                    checked = Some(Instant::now());
                }
            }
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, "erasures cannot be carried on; trying again");
            }
            Err(_) => {}
        }
        tell_metric(&stores.pool).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Tells how old the oldest erasure is that is not done, for ever, where others carry them on.
pub async fn tell_oldest(pool: PgPool) -> Infallible {
    loop {
        tell_metric(&pool).await;
        tokio::time::sleep(TELL_EVERY).await;
    }
}

async fn tell_metric(pool: &PgPool) {
    if let Ok(seconds) = oldest(pool).await {
        metrics::OLDEST_SECONDS.set(seconds);
    }
}

/// Age of the oldest that is not done, seconds: of erasures, and of withdrawn consents whose events are to go.
async fn oldest(pool: &PgPool) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT coalesce(extract(epoch FROM now() - least(
             (SELECT min(requested_at) FROM erasures WHERE state <> 'done'),
             (SELECT min(revoked_at) FROM revocations WHERE erases AND (postgres_at IS NULL OR clickhouse_at IS NULL))
         )), 0)::float8",
    )
    .fetch_one(pool)
    .await
}

/// Carries erasures on as far as they get now. Returns `false` if another process does that already. Dropped in the
/// middle, the next call goes on.
///
/// # Errors
/// A store is out of reach.
pub async fn work(stores: &Stores) -> Result<bool, Error> {
    let pool = &stores.pool;
    // A crash at the very end leaves files to be written anew.
    let is_idle: bool = sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT FROM erasures WHERE state <> 'done')
            AND NOT EXISTS (SELECT FROM erasure_rewrites)
            AND NOT EXISTS (SELECT FROM tombstones WHERE NOT is_logged)",
    )
    .fetch_one(pool)
    .await?;
    if is_idle {
        kafka_ends(stores).await?;
        return Ok(true);
    }
    alone(pool, round(stores)).await
}

/// Does something that one process does at a time. Returns `false` if another one is at it.
async fn alone(
    pool: &PgPool,
    work: impl Future<Output = Result<(), Error>>,
) -> Result<bool, Error> {
    // A session's lock: it goes with the connection, however this process ends.
    let mut lock = pool.acquire().await?.detach();
    let has_lock: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(7262105023)")
        .fetch_one(&mut lock)
        .await?;
    let worked = if has_lock { work.await } else { Ok(()) };
    let _ = lock.close().await;
    worked.map(|()| has_lock)
}

/// Cleans a ClickHouse that was put back to a state from before erasures that are done. Returns `false` if another
/// process has the lock.
///
/// # Errors
/// A store is out of reach.
pub async fn clean_restored(stores: &Stores) -> Result<bool, Error> {
    alone(&stores.pool, clean_older(stores)).await
}

/// Takes out of the rollups what was stored on consents that have been withdrawn, and with `history` out of the history.
/// Returns `false` if another process is at it.
///
/// # Errors
/// A store is out of reach.
pub async fn erase_withdrawn(stores: &Stores, history: bool) -> Result<bool, Error> {
    let is_due: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM revocations WHERE erases AND (postgres_at IS NULL OR clickhouse_at IS NULL))",
    )
    .fetch_one(&stores.pool)
    .await?;
    let work = async {
        revoked::settle_rollups(&stores.pool).await?;
        if history {
            revoked::clean_history(stores).await?;
        }
        Ok(())
    };
    if is_due {
        alone(&stores.pool, work).await
    } else {
        Ok(true)
    }
}

/// Removes whom ClickHouse has of all that were erased since it was cleaned by its own account, and has it note that. The
/// same of consents that were withdrawn.
async fn clean_older(stores: &Stores) -> Result<(), Error> {
    let (pool, client) = (&stores.pool, &stores.clickhouse);
    revoked::clean_restored(stores).await?;
    let done: Option<i64> =
        sqlx::query_scalar("SELECT max(tombstone) FROM erasures WHERE state = 'done'")
            .fetch_one(pool)
            .await?;
    let Some(done) = done else { return Ok(()) };
    let cleaned_to = clickhouse::cleaned_to(client).await?.tombstone;
    if cleaned_to >= done {
        return Ok(());
    }
    let query = "SELECT kind, sha256 FROM tombstones WHERE number > $1 AND number <= $2";
    let tombstones = sqlx::query_as(query).bind(cleaned_to).bind(done);
    let hashes = Hashes::of(tombstones.fetch_all(pool).await?);
    let found = clickhouse::prove(client, &hashes).await?;
    let rows: u64 = found.iter().map(|proof| proof.answer).sum();
    if rows > 0 {
        tracing::warn!(
            rows,
            "ClickHouse was put back to a state from before children were erased; they are erased again"
        );
        clickhouse::remove(client, &hashes).await?;
    }
    clickhouse::set_cleaned_to(client, done, 0).await
}

async fn round(stores: &Stores) -> Result<(), Error> {
    let pool = &stores.pool;
    let open = begin(pool).await?;
    if let Err(error) = log::write(pool, &stores.cluster).await {
        let why = format!("Kafka to take the hashes into the log of erasures: {error}");
        wait_for(pool, &open, &why).await?;
        return Err(error);
    }
    let Some(newest) = open.iter().map(|erasure| erasure.tombstone).max() else {
        return postgres::rewrite(pool).await.map(drop);
    };
    if !tell(pool, &open, newest).await? {
        return Ok(());
    }
    remove(stores, &open).await?;
    let dirty = postgres::rewrite(pool).await?;
    if !dirty.is_empty() {
        let why = format!(
            "the files of {} to be written anew: they are in use, or a transaction is open that began before",
            dirty.join(", ")
        );
        return wait_for(pool, &open, &why).await;
    }
    for erasure in &open {
        finish(stores, erasure).await?;
    }
    // Not just noted: a ClickHouse that was put back meanwhile may have others, who were erased before these.
    clean_older(stores).await?;
    // The ids of what is done were in this table's file.
    postgres::rewrite(pool).await.map(drop)
}

async fn begin(pool: &PgPool) -> Result<Vec<Open>, Error> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "UPDATE erasures SET state = 'running' WHERE id IN (
             SELECT id FROM erasures WHERE state <> 'done' ORDER BY requested_at, id LIMIT $1)
         RETURNING id, tombstone",
    )
    .bind(TOGETHER)
    .fetch_all(pool)
    .await?;
    let mut open = Vec::new();
    for (id, tombstone) in rows {
        let hashes: Vec<(String, Vec<u8>)> =
            sqlx::query_as("SELECT kind, sha256 FROM tombstones WHERE erasure_id = $1")
                .bind(id)
                .fetch_all(pool)
                .await?;
        open.push(Open {
            id,
            tombstone,
            subjects: postgres::subjects(pool, id).await?,
            hashes: Hashes::of(hashes),
        });
    }
    Ok(open)
}

/// Waits until everybody who stores something has seen the tombstones. Returns `false` if a block of the sink is still
/// on its way.
async fn tell(pool: &PgPool, open: &[Open], newest: i64) -> Result<bool, Error> {
    let ids: Vec<Uuid> = open.iter().map(|erasure| erasure.id).collect();
    let is_told: bool =
        sqlx::query_scalar("SELECT bool_and(is_told) FROM erasures WHERE id = ANY($1)")
            .bind(&ids)
            .fetch_one(pool)
            .await?;
    if is_told {
        return Ok(true);
    }
    holders_end(pool).await?;
    let blocks = told::blocks(pool, newest, 0).await?;
    if !blocks.is_empty() {
        let why = format!(
            "the sink to bring blocks of {} to their end, which it began before; it must be running",
            blocks.join(", ")
        );
        wait_for(pool, open, &why).await?;
        return Ok(false);
    }
    sqlx::query("UPDATE erasures SET is_told = true, waits_for = NULL WHERE id = ANY($1)")
        .bind(&ids)
        .execute(pool)
        .await?;
    Ok(true)
}

async fn wait_for(pool: &PgPool, open: &[Open], why: &str) -> Result<(), Error> {
    let ids: Vec<Uuid> = open.iter().map(|erasure| erasure.id).collect();
    sqlx::query(
        "UPDATE erasures SET waits_for = $2 WHERE id = ANY($1) AND waits_for IS DISTINCT FROM $2",
    )
    .bind(ids)
    .bind(why)
    .execute(pool)
    .await?;
    Ok(())
}

async fn remove(stores: &Stores, open: &[Open]) -> Result<(), Error> {
    let pool = &stores.pool;
    let mut all = Hashes::default();
    let mut any = false;
    for erasure in open {
        let hashes = &erasure.hashes;
        let rows = clickhouse::rows(&stores.clickhouse, &hashes.children).await?;
        any |= rows > 0 || !hashes.parents.is_empty();
        // Before they are removed: after a crash there may be nothing left to count.
        sqlx::query("UPDATE erasure_stores SET removed = greatest(removed, $2) WHERE erasure_id = $1 AND store = 'clickhouse'")
            .bind(erasure.id)
            .bind(rows.cast_signed())
            .execute(pool)
            .await?;
        all.children.extend_from_slice(&hashes.children);
        all.parents.extend_from_slice(&hashes.parents);
    }
    let ids: Vec<Uuid> = open.iter().map(|erasure| erasure.id).collect();
    let was_clean: bool = sqlx::query_scalar(
        "SELECT bool_and(clean_at IS NOT NULL) FROM erasure_stores WHERE erasure_id = ANY($1) AND store = 'clickhouse'",
    )
    .bind(ids)
    .fetch_one(pool)
    .await?;
    if any || !was_clean {
        clickhouse::remove(&stores.clickhouse, &all).await?;
    }
    for erasure in open {
        postgres::remove_quarantined(pool, erasure.id, &erasure.subjects).await?;
        postgres::remove(pool, erasure.id, &erasure.subjects).await?;
    }
    Ok(())
}

/// Proves that the stores are clean, waits for the spills, and writes the certificate.
async fn finish(stores: &Stores, erasure: &Open) -> Result<(), Error> {
    let pool = &stores.pool;
    let proofs = [
        (
            "clickhouse",
            clickhouse::prove(&stores.clickhouse, &erasure.hashes).await?,
        ),
        (
            "quarantine",
            postgres::prove_quarantined(pool, &erasure.subjects).await?,
        ),
        ("postgres", postgres::prove(pool, &erasure.subjects).await?),
    ];
    for (store, proofs) in proofs {
        if let Some(left) = proofs.iter().find(|proof| proof.answer > 0) {
            // The next round removes it. What can bring it here is a backup that was put back meanwhile.
            tracing::warn!(erasure_id = %erasure.id, store, rows = left.answer, "an erasure found rows again");
            return Ok(());
        }
        sqlx::query(
            "UPDATE erasure_stores SET clean_at = coalesce(clean_at, now()),
                 proof = (coalesce(proof, '{}')::jsonb || jsonb_build_object('queries', $3::jsonb))::json
             WHERE erasure_id = $1 AND store = $2",
        )
        .bind(erasure.id)
        .bind(store)
        .bind(serde_json::to_value(&proofs).unwrap_or_default())
        .execute(pool)
        .await?;
    }
    let spills: Vec<String> = sqlx::query_scalar(
        "SELECT host || ':' || directory || ' (' || id || ')' FROM spills WHERE tombstone < $1 ORDER BY 1",
    )
    .bind(erasure.tombstone)
    .fetch_all(pool)
    .await?;
    if !spills.is_empty() {
        let why = format!(
            "ingest to search the spill of {}; where that disk is gone for ever: `rivulet erase --without-spill ID`",
            spills.join(", ")
        );
        return wait_for(pool, std::slice::from_ref(erasure), &why).await;
    }
    let now: DateTime<Utc> = sqlx::query_scalar("SELECT now()").fetch_one(pool).await?;
    let gone_by = kafka::gone_by(&stores.cluster, now).await?;
    sqlx::query(
        "UPDATE erasure_stores SET clean_at = CASE store WHEN 'spill' THEN coalesce(clean_at, now()) ELSE clean_at END,
             gone_by = CASE store WHEN 'kafka' THEN $2 END
         WHERE erasure_id = $1 AND store IN ('spill', 'kafka')",
    )
    .bind(erasure.id)
    .bind(gone_by)
    .execute(pool)
    .await?;
    postgres::forget_subjects(pool, erasure.id).await?;
    let certificate = certificate::write(pool, erasure.id, now).await?;
    sqlx::query(
        "UPDATE erasures SET state = 'done', done_at = $2, waits_for = NULL, certificate = $3 WHERE id = $1",
    )
    .bind(erasure.id)
    .bind(now)
    .bind(certificate)
    .execute(pool)
    .await?;
    tracing::info!(erasure_id = %erasure.id, "an erasure is done");
    Ok(())
}

/// Looks whether Kafka has forgotten, where its retention should have ended by now.
async fn kafka_ends(stores: &Stores) -> Result<(), Error> {
    let due: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "SELECT e.id, e.done_at FROM erasures e JOIN erasure_stores s ON s.erasure_id = e.id AND s.store = 'kafka'
         WHERE e.state = 'done' AND s.clean_at IS NULL AND s.gone_by < now() ORDER BY e.done_at LIMIT 100",
    )
    .fetch_all(&stores.pool)
    .await?;
    for (erasure, done_at) in due {
        if !kafka::is_clean(&stores.cluster, done_at).await? {
            // Its retention was raised since, or a segment is late: it says so once a day.
            sqlx::query("UPDATE erasure_stores SET gone_by = now() + interval '1 day' WHERE erasure_id = $1 AND store = 'kafka'")
                .bind(erasure)
                .execute(&stores.pool)
                .await?;
            tracing::warn!(erasure_id = %erasure, "Kafka still has records from before an erasure, though its retention should have ended");
            continue;
        }
        sqlx::query(
            "UPDATE erasure_stores SET clean_at = now() WHERE erasure_id = $1 AND store = 'kafka'",
        )
        .bind(erasure)
        .execute(&stores.pool)
        .await?;
        let certificate = certificate::write(&stores.pool, erasure, done_at).await?;
        sqlx::query("UPDATE erasures SET certificate = $2 WHERE id = $1")
            .bind(erasure)
            .bind(certificate)
            .execute(&stores.pool)
            .await?;
    }
    Ok(())
}

/// Forgets a spill whose disk is gone for ever, so that erasures need not wait for it. Returns whether there was one.
///
/// # Errors
/// PostgreSQL failed.
pub async fn without_spill(pool: &PgPool, spill: Uuid) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let done = sqlx::query("DELETE FROM spills WHERE id = $1")
        .bind(spill)
        .execute(&mut *transaction)
        .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let entry = Entry::done(Action::EraseWithoutSpill).about("spill", [spill.to_string()]);
    record(&mut transaction, entry).await?;
    transaction.commit().await?;
    Ok(true)
}
