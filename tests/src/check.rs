//! Everything that is stored against what the ledgers say was sent.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rivulet_simulator::recount::{Account, Counted, Gone, Rows, tables};
use serde_json::{Map, Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{Rivulet, kafka};

/// What was compared.
#[derive(Debug)]
pub struct Checked {
    /// Distinct events.
    pub events: usize,
    /// Copies of them in Kafka beyond the first.
    pub copies: usize,
    /// Events whose last answer was no `accepted`, and that were stored all the same.
    pub unasked: usize,
    /// Rows of `daily_child_metrics`.
    pub daily_rows: usize,
    /// Rows of the history.
    pub history_rows: usize,
}

/// Compares the answers, Kafka, every table of PostgreSQL and the history of ClickHouse with what
/// the simulators' ledgers recount to, once the consumers have taken all in.
///
/// Which copy of an event came first, and so when it happened, only Kafka knows; it must be one that
/// the ledger explains.
///
/// # Errors
/// With the first differences.
pub async fn exact(rivulet: &Rivulet, ledgers: &[PathBuf]) -> Result<Checked> {
    exact_without(rivulet, ledgers, Gone::default()).await
}

/// The same where children were erased and consents withdrawn meanwhile: nothing of that is in a table or in the history.
///
/// # Errors
/// With the first differences.
pub async fn exact_without(rivulet: &Rivulet, ledgers: &[PathBuf], gone: Gone) -> Result<Checked> {
    let account = Account::read_without(ledgers, gone)?;
    let wrong = &account.wrong_answers;
    ensure!(
        wrong.is_empty(),
        "{} wrong answers: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );

    let mut first = kafka::first_copies(&rivulet.bed.cluster).await?;
    let in_kafka = first.len();
    first.retain(|identity, _| {
        let mut parts = identity.split('|');
        let event_type = parts.next().unwrap_or_default();
        let child = parts.next().and_then(|id| id.parse().ok());
        child.is_none_or(|child: Uuid| !account.is_gone(child, event_type))
    });
    for (identity, copy) in &first {
        let entry = account
            .events
            .get(identity)
            .with_context(|| format!("phantom: {identity}"))?;
        ensure!(
            entry.explains(copy.received_at, copy.event_time),
            "{copy:?} is none of the attempts of {entry:?}"
        );
    }
    let lost = |(identity, _): &(&String, _)| !first.contains_key(*identity);
    let accepted = account.events.iter().filter(|(_, entry)| entry.accepted);
    let lost: Vec<_> = accepted.filter(lost).collect();
    ensure!(
        lost.is_empty(),
        "{} accepted and not in Kafka: {:#?}",
        lost.len(),
        lost.first()
    );

    let counted = first.iter().map(|(identity, copy)| {
        let event = &account.events[identity].event;
        let child = event["child_id"]
            .as_str()
            .and_then(|id| id.parse().ok())
            .unwrap_or_default();
        let child = &account.children[&child];
        Counted {
            event,
            child,
            received_at: copy.received_at,
            event_time: copy.event_time,
        }
    });
    let expected = tables(counted);

    rivulet.settle().await?;
    let pool = &rivulet.bed.pool;
    let quarantined: Vec<(String, String)> = sqlx::query_as("SELECT code, detail FROM quarantine")
        .fetch_all(pool)
        .await?;
    ensure!(quarantined.is_empty(), "quarantined: {quarantined:?}");
    let (seen,): (i64,) = sqlx::query_as("SELECT count(*) FROM event_seen")
        .fetch_one(pool)
        .await?;
    // Hashes of what was counted of somebody before the erasure stay until they expire.
    ensure!(
        (first.len()..=in_kafka).contains(&usize::try_from(seen)?),
        "{seen} identities seen of {}",
        first.len()
    );

    let mut report = String::new();
    for (name, query, expected) in [
        ("daily_child_metrics", DAILY, &expected.daily),
        ("learning_analytics", LEARNING, &expected.learning),
        ("topic_progress", TOPICS, &expected.topics),
        ("streaks", STREAKS, &expected.streaks),
    ] {
        differences(
            name,
            expected,
            &postgres_rows(pool, query).await?,
            &mut report,
        );
    }
    differences(
        "history",
        &expected.history,
        &history_rows(rivulet).await?,
        &mut report,
    );
    if !report.is_empty() {
        bail!("{report}");
    }
    // Rivulet's own judgement of itself.
    rivulet.command(&["verify", "--hours", "3"]).await?;
    rivulet.command(&["rebuild", "--all"]).await?;
    Ok(Checked {
        events: first.len(),
        copies: first.values().map(|copy| copy.copies as usize - 1).sum(),
        unasked: first
            .keys()
            .filter(|identity| !account.events[*identity].accepted)
            .count(),
        daily_rows: expected.daily.len(),
        history_rows: expected.history.len(),
    })
}

const DAILY: &str = "
    SELECT child_id || '|' || local_date, to_jsonb(d) - '{child_id,local_date,updated_at}'::text[]
        || jsonb_build_object(
            'first_event_at', (extract(epoch FROM first_event_at) * 1000)::bigint,
            'last_event_at', (extract(epoch FROM last_event_at) * 1000)::bigint,
            'other_first_event_at', (extract(epoch FROM other_first_event_at) * 1000)::bigint,
            'other_last_event_at', (extract(epoch FROM other_last_event_at) * 1000)::bigint)
    FROM daily_child_metrics AS d";
const LEARNING: &str = "
    SELECT child_id || '|' || local_date || '|' || subject,
        to_jsonb(l) - '{child_id,local_date,subject,updated_at}'::text[]
    FROM learning_analytics AS l";
const TOPICS: &str = "
    SELECT child_id || '|' || topic, to_jsonb(t) - '{child_id,topic,updated_at}'::text[]
        || jsonb_build_object(
            'mastery_score', mastery_score::text,
            'first_depth_5_at', (extract(epoch FROM first_depth_5_at) * 1000)::bigint,
            'first_seen_at', (extract(epoch FROM first_seen_at) * 1000)::bigint,
            'last_seen_at', (extract(epoch FROM last_seen_at) * 1000)::bigint)
    FROM topic_progress AS t";
const STREAKS: &str = "
    SELECT child_id::text, to_jsonb(s) - '{child_id,updated_at}'::text[]
        || jsonb_build_object('active_days', active_days::text)
    FROM streaks AS s";

async fn postgres_rows(pool: &PgPool, query: &'static str) -> Result<Rows> {
    let rows: Vec<(String, Value)> = sqlx::query_as(query).fetch_all(pool).await?;
    rows.into_iter()
        .map(|(key, row)| Ok((key, row.as_object().context("no object")?.clone())))
        .collect()
}

/// The history by identity. Every row has its own: a second one of an identity is an error.
async fn history_rows(rivulet: &Rivulet) -> Result<Rows> {
    let bytes = rivulet
        .bed
        .clickhouse
        .query(
            "SELECT * REPLACE (
                 toUnixTimestamp64Milli(occurred_at) AS occurred_at,
                 toUnixTimestamp64Milli(event_time) AS event_time,
                 toUnixTimestamp64Milli(received_at) AS received_at)
             FROM history",
        )
        .with_setting("output_format_json_quote_64bit_integers", "0")
        .fetch_bytes("JSONEachRow")?
        .collect()
        .await?;
    let mut rows = BTreeMap::new();
    for line in bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let mut row: Map<String, Value> = serde_json::from_slice(line)?;
        for name in [
            "kafka_topic",
            "kafka_partition",
            "kafka_offset",
            "topic_incarnation",
        ] {
            ensure!(row.remove(name).is_some(), "the history has no {name}");
        }
        row.retain(|_, value| !value.is_null());
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let key = ["event_type", "child_id", "event_id", "id_day"]
            .map(text)
            .join("|");
        ensure!(
            rows.insert(key.clone(), row).is_none(),
            "twice in the history: {key}"
        );
    }
    Ok(rows)
}

fn differences(table: &str, expected: &Rows, found: &Rows, report: &mut String) {
    const SHOWN: usize = 3;
    let keys = expected
        .keys()
        .chain(found.keys().filter(|key| !expected.contains_key(*key)));
    let mut count = 0;
    for key in keys {
        let told = match (expected.get(key), found.get(key)) {
            (Some(expected), Some(found)) => row_difference(expected, found),
            (Some(_), None) => Some("missing".to_owned()),
            (None, _) => Some("not expected".to_owned()),
        };
        if let Some(told) = told {
            count += 1;
            if count <= SHOWN {
                let _ = writeln!(report, "{table} {key}: {told}");
            }
        }
    }
    if count > 0 {
        let (expected, found) = (expected.len(), found.len());
        let _ = writeln!(
            report,
            "{table}: {count} rows differ, {expected} expected, {found} found"
        );
    }
}

fn row_difference(expected: &Map<String, Value>, found: &Map<String, Value>) -> Option<String> {
    let mut told = String::new();
    for name in expected
        .keys()
        .chain(found.keys().filter(|name| !expected.contains_key(*name)))
    {
        let (wanted, is) = (expected.get(name), found.get(name));
        if wanted.map(plain) != is.map(plain) {
            let _ = write!(told, "{name} is {is:?}, not {wanted:?}; ");
        }
    }
    (!told.is_empty()).then_some(told)
}

/// 12.0 and 12 are one number, whichever way a store prints it.
fn plain(value: &Value) -> Value {
    match value.as_f64() {
        Some(number) => json!(number),
        None => value.clone(),
    }
}
