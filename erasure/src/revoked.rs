//! What was stored on a consent that was withdrawn since, where retention.toml says `on_revoke = "erase"`: for `analytics`
//! the history, for `audio` all of speech, for `coppa` all of the child's events and rollups.
//!
//! It is an erasure in small. The consumers drop what is on its way, by the row of `revocations` that the change of the
//! consent wrote. Whoever has the erasures' lock waits for those that may not have seen it, takes it out of the rollups, and
//! then out of the history. The registry stays, and so do hashes of events: an event that is sent again is not counted
//! again. No file is written anew for it: who wants that asks for an erasure.

use std::collections::BTreeMap;

use rivulet_auditlog::{Action, Entry, record};
use rivulet_events::EventType;
use rivulet_registry::revocations::settle;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    Error, Stores,
    clickhouse::{self, Withdrawn},
    postgres::{self, Which},
    told,
};

/// Withdrawals of one round: their children go in one mutation.
const TOGETHER: i64 = 2_000;

#[derive(sqlx::FromRow)]
struct Due {
    id: i64,
    child_id: Uuid,
    consent: String,
    number: i64,
    before: Option<i64>,
}

/// What is in the history of a consent that was given again lies before the middle of the time between. So clocks may
/// differ by half of that.
const COLUMNS: &str = "id, child_id, consent, number,
    floor(extract(epoch FROM revoked_at + (granted_at - revoked_at) / 2) * 1000)::bigint AS before";

/// Takes out of the rollups what is due.
pub(crate) async fn settle_rollups(pool: &PgPool) -> Result<(), Error> {
    let due: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT child_id FROM (
             SELECT child_id FROM revocations WHERE erases AND postgres_at IS NULL ORDER BY id LIMIT $1
         ) AS due",
    )
    .bind(TOGETHER)
    .fetch_all(pool)
    .await?;
    Ok(settle(pool, &due).await?)
}

/// Takes out of the history, and of the quarantine, what is out of the rollups.
pub(crate) async fn clean_history(stores: &Stores) -> Result<(), Error> {
    let pool = &stores.pool;
    let due: Vec<Due> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM revocations
         WHERE erases AND postgres_at IS NOT NULL AND clickhouse_at IS NULL ORDER BY id LIMIT $1"
    )))
    .bind(TOGETHER)
    .fetch_all(pool)
    .await?;
    let Some(newest) = due.iter().map(|due| due.number).max() else {
        return Ok(());
    };
    // Before its account is brought up to these: a ClickHouse that was put back may have others, withdrawn before.
    clean_restored(stores).await?;
    let account = clickhouse::cleaned_to(&stores.clickhouse).await?.revocation;
    if !told::blocks(pool, 0, newest).await?.is_empty() {
        // The sink brings them to their end, and the next round comes soon.
        return Ok(());
    }
    let events = clickhouse::remove_withdrawn(&stores.clickhouse, &by_what(&due)).await?;
    let records = remove_quarantined(stores, &due).await?;
    let ids: Vec<i64> = due.iter().map(|due| due.id).collect();
    let mut transaction = pool.begin().await?;
    sqlx::query("UPDATE revocations SET clickhouse_at = now() WHERE id = ANY($1)")
        .bind(&ids)
        .execute(&mut *transaction)
        .await?;
    for consent in ["coppa", "audio", "analytics"] {
        let of = due.iter().filter(|due| due.consent == consent);
        let children: Vec<Uuid> = of.map(|due| due.child_id).collect();
        if children.is_empty() {
            continue;
        }
        let entry = Entry::done(Action::ConsentErased).children(children);
        let entry = entry.detail("consent", consent);
        record(&mut transaction, entry).await?;
    }
    transaction.commit().await?;
    // It was put back meanwhile where it knows of less: then the next look cleans it.
    if clickhouse::cleaned_to(&stores.clickhouse).await?.revocation >= account
        && let Some(done) = done_up_to(pool).await?
    {
        clickhouse::set_cleaned_to(&stores.clickhouse, 0, done).await?;
    }
    tracing::info!(
        withdrawals = due.len(),
        events,
        records,
        "what was stored on withdrawn consents is erased"
    );
    Ok(())
}

/// Cleans a ClickHouse that was put back to a state from before a withdrawal that was done.
pub(crate) async fn clean_restored(stores: &Stores) -> Result<(), Error> {
    let (pool, client) = (&stores.pool, &stores.clickhouse);
    let Some(done) = done_up_to(pool).await? else {
        return Ok(());
    };
    let cleaned_to = clickhouse::cleaned_to(client).await?.revocation;
    if cleaned_to >= done {
        return Ok(());
    }
    let due: Vec<Due> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM revocations
         WHERE erases AND clickhouse_at IS NOT NULL AND number > $1 AND number <= $2"
    )))
    .bind(cleaned_to)
    .bind(done)
    .fetch_all(pool)
    .await?;
    let events = clickhouse::remove_withdrawn(client, &by_what(&due)).await?;
    if events > 0 {
        tracing::warn!(
            events,
            "ClickHouse was put back to a state from before consents were withdrawn; what was stored on them is erased again"
        );
    }
    clickhouse::set_cleaned_to(client, 0, done).await
}

/// Up to which number all withdrawals are out of the history. They are not done in the order of their numbers.
async fn done_up_to(pool: &PgPool) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT max(number) FROM revocations WHERE erases AND clickhouse_at IS NOT NULL AND number < ALL
             (SELECT number FROM revocations WHERE erases AND clickhouse_at IS NULL AND number IS NOT NULL)",
    )
    .fetch_one(pool)
    .await
}

fn by_what(due: &[Due]) -> BTreeMap<Withdrawn, Vec<[u8; 32]>> {
    let mut by_what = BTreeMap::<_, Vec<_>>::new();
    for due in due {
        let what = Withdrawn {
            speech: due.consent == "audio",
            before: due.before,
        };
        let children = by_what.entry(what).or_default();
        children.push(rivulet_auditlog::hash(due.child_id));
    }
    by_what
}

/// Takes out of quarantine what names the children, as far as the consent was for it. Replayed later it would be dropped.
async fn remove_quarantined(stores: &Stores, due: &[Due]) -> Result<u64, Error> {
    let speech = stores.cluster.topic(EventType::Speech);
    let mut removed = 0;
    for (consent, which) in [
        ("coppa", Which::All),
        ("audio", Which::OfTopic(&speech)),
        ("analytics", Which::OfConsumer("history")),
    ] {
        let of = due
            .iter()
            .filter(|due| due.consent == consent && due.before.is_none());
        let children: Vec<Uuid> = of.map(|due| due.child_id).collect();
        if children.is_empty() {
            continue;
        }
        let mut transaction = stores.pool.begin().await?;
        let by = format!("withdrawal of {consent}");
        removed += postgres::drop_quarantined(&mut transaction, &children, which, &by).await?;
        transaction.commit().await?;
    }
    Ok(removed)
}
