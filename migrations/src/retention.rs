//! How long the databases keep what: brought to the file, and compared with it.
//!
//! ClickHouse drops events by the tables' TTLs. PostgreSQL has the periods in `retention_periods`, and whoever deletes
//! there goes by that table, so that processes with different files cannot work against each other.

use rivulet_events::EventType;
use rivulet_retention::{Class, Drift, Policy};
use sqlx::PgPool;

use crate::{
    Error,
    clickhouse::{quote, run},
};

const MEND: &str = "rivulet migrate";

/// A period that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What is kept.
    pub class: Class,
    /// Days until now.
    pub from: u32,
    /// Days from now on.
    pub to: u32,
}

/// The TTL of a table of the history.
pub(crate) struct Ttl {
    pub(crate) table: &'static str,
    /// As ClickHouse prints it.
    pub(crate) text: String,
}

/// The tables' TTLs. A day of `child_day_rollup` goes with the last of its events.
pub(crate) fn ttls(policy: &Policy) -> [Ttl; 2] {
    let of = |kind: &EventType| (kind.as_str(), policy.days(Class::of(*kind)));
    let kinds: Vec<_> = EventType::ALL.iter().map(of).collect();
    let cases: String = kinds
        .iter()
        .map(|(kind, days)| format!("event_type = '{kind}', {days}, "))
        .collect();
    // For a type of a newer release.
    let other = kinds.iter().map(|(_, days)| *days).min().unwrap_or(1);
    [
        Ttl {
            table: "events",
            text: format!("toDateTime(received_at) + toIntervalDay(multiIf({cases}{other}))"),
        },
        Ttl {
            table: "child_day_rollup",
            text: format!(
                "toDateTime(last_received_at) + toIntervalDay({})",
                policy.days(Class::Daily)
            ),
        },
    ]
}

async fn on_revoke(pool: &PgPool) -> Result<String, Error> {
    let stored = sqlx::query_scalar("SELECT on_revoke FROM revocation_state");
    Ok(stored.fetch_one(pool).await?)
}

/// Brings PostgreSQL's periods to the file, and what becomes of what was stored on consents that are withdrawn from now on.
/// Who deletes goes by them from the next round on.
///
/// # Errors
/// PostgreSQL failed; nothing was changed.
pub async fn postgres(pool: &PgPool, policy: &Policy) -> Result<Vec<Changed>, Error> {
    let mut changed = Vec::new();
    let mut transaction = pool.begin().await?;
    for class in Class::IN_POSTGRES {
        let to = policy.days(class);
        let from: Option<i32> =
            sqlx::query_scalar("SELECT days FROM retention_periods WHERE class = $1 FOR UPDATE")
                .bind(class.as_str())
                .fetch_optional(&mut *transaction)
                .await?;
        let from = from.map_or(0, i32::unsigned_abs);
        if from == to {
            continue;
        }
        // What the shorter period has deleted stays deleted.
        sqlx::query(
            "INSERT INTO retention_periods AS r (class, days) VALUES ($1, $2)
             ON CONFLICT (class) DO UPDATE SET kept_since = greatest(r.kept_since, CURRENT_DATE - r.days),
                 days = excluded.days, swept_until = NULL, applied_at = now()",
        )
        .bind(class.as_str())
        .bind(to.cast_signed())
        .execute(&mut *transaction)
        .await?;
        changed.push(Changed { class, from, to });
    }
    sqlx::query("UPDATE revocation_state SET on_revoke = $1 WHERE on_revoke <> $1")
        .bind(policy.on_revoke.as_str())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(changed)
}

/// Where PostgreSQL's periods differ from the file.
///
/// # Errors
/// PostgreSQL failed.
pub async fn postgres_drift(pool: &PgPool, policy: &Policy) -> Result<Vec<Drift>, Error> {
    let stored: Vec<(String, i32)> = sqlx::query_as("SELECT class, days FROM retention_periods")
        .fetch_all(pool)
        .await?;
    let days_of = |class: Class| {
        let mut found = stored.iter().filter(|(name, _)| name == class.as_str());
        found.next().map(|(_, days)| days.unsigned_abs())
    };
    let drift = |class: Class| {
        let (file, stored) = (policy.days(class), days_of(class));
        (stored != Some(file)).then(|| {
            let stored = stored.map_or_else(|| "none".to_owned(), |days| format!("{days} days"));
            let store = "PostgreSQL (retention_periods)".to_owned();
            Drift::of(class, store, file, stored, MEND)
        })
    };
    let mut drifts: Vec<_> = Class::IN_POSTGRES.into_iter().filter_map(drift).collect();
    let on_revoke = on_revoke(pool).await?;
    if on_revoke != policy.on_revoke.as_str() {
        drifts.push(Drift {
            what: "on_revoke of withdrawn consents".to_owned(),
            store: "PostgreSQL (revocation_state)".to_owned(),
            file: policy.on_revoke.as_str().to_owned(),
            stored: on_revoke,
            mend: MEND,
        });
    }
    Ok(drifts)
}

/// Brings ClickHouse's TTLs to the file, where they differ. Nothing is written anew for it: only the moments at which
/// parts are to be looked at are counted again, from two columns. With `again` these are in any case, for parts of which
/// an earlier call was cut short.
///
/// # Errors
/// ClickHouse failed. Running it again, with `again`, completes it.
pub async fn clickhouse(
    client: &clickhouse::Client,
    database: &str,
    policy: &Policy,
    again: bool,
) -> Result<bool, Error> {
    let client = client
        .clone()
        .with_database("system")
        .with_setting("materialize_ttl_after_modify", "0");
    let mut changed = false;
    for Ttl { table, text } in ttls(policy) {
        let differs = ttl_of(&client, database, table).await? != text;
        changed |= differs;
        let table = format!("{}.{table}", quote(database));
        if differs {
            run(&client, &format!("ALTER TABLE {table} MODIFY TTL {text}")).await?;
        }
        if differs || again {
            let cheaply =
                format!("ALTER TABLE {table} MODIFY SETTING materialize_ttl_recalculate_only = 1");
            run(&client, &cheaply).await?;
            run(&client, &format!("ALTER TABLE {table} MATERIALIZE TTL")).await?;
        }
    }
    Ok(changed)
}

/// Where ClickHouse's TTLs differ from the file.
///
/// # Errors
/// ClickHouse failed.
pub async fn clickhouse_drift(
    client: &clickhouse::Client,
    database: &str,
    policy: &Policy,
) -> Result<Vec<Drift>, Error> {
    let mut drifts = Vec::new();
    for Ttl { table, text } in ttls(policy) {
        let stored = ttl_of(client, database, table).await?;
        if stored == text {
            continue;
        }
        let drift = |class: Class, stored: String| {
            let store = format!("ClickHouse (TTL of {table})");
            Drift::of(class, store, policy.days(class), stored, MEND)
        };
        let before = drifts.len();
        if table == "events" {
            for kind in EventType::ALL.iter().copied() {
                let class = Class::of(kind);
                match days_in(&stored, &format!("event_type = '{}', ", kind.as_str())) {
                    Some(days) if days == policy.days(class) => {}
                    Some(days) => drifts.push(drift(class, format!("{days} days"))),
                    None => drifts.push(drift(class, said(&stored))),
                }
            }
        }
        if drifts.len() == before {
            let days = days_in(&stored, "toIntervalDay(").filter(|_| table != "events");
            let stored = days.map_or_else(|| said(&stored), |days| format!("{days} days"));
            drifts.push(drift(Class::Daily, stored));
        }
    }
    Ok(drifts)
}

fn said(ttl: &str) -> String {
    match ttl {
        "" => "no TTL, which is for ever".to_owned(),
        ttl => format!("TTL {ttl}"),
    }
}

/// The number after these words.
fn days_in(ttl: &str, words: &str) -> Option<u32> {
    let (_, rest) = ttl.split_once(words)?;
    let digits = rest.split(|char: char| !char.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// A table's TTL as ClickHouse prints it; empty where there is none.
async fn ttl_of(client: &clickhouse::Client, database: &str, table: &str) -> Result<String, Error> {
    let engine: String = client
        .clone()
        .with_database("system")
        .query("SELECT engine_full FROM tables WHERE database = ? AND name = ?")
        .bind(database)
        .bind(table)
        .fetch_optional()
        .await?
        .ok_or(Error::Behind)?;
    let ttl = engine.split_once(" TTL ").map_or("", |(_, after)| after);
    Ok(ttl
        .split(" SETTINGS ")
        .next()
        .unwrap_or_default()
        .to_owned())
}
