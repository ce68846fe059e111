//! Children's rollups recounted from the history.
//!
//! Both stores are looked at below one cut: the aggregator's positions at one moment. The rollups are
//! what they were then, by the transaction's snapshot; of the history only what is below the cut is
//! read, once the sink has passed it. So live events may go on meanwhile.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use ahash::AHashSet;
use chrono::{Days, NaiveDate, Utc};
use metrics::{describe_gauge, gauge};
use rivulet_aggregator::{
    Rollup,
    recompute::{Compared, Recompute, make_partitions},
};
use rivulet_events::{ChildId, EventType, Record};
use sqlx::PgConnection;
use tokio::io::AsyncBufReadExt as _;
use uuid::Uuid;

use crate::{Error, HISTORY, ROLLUPS, Stores, stores::Position};

/// The history forgets after 25 months; days near that edge are left alone.
const HISTORY_DAYS: u64 = 24 * 30;

/// Children at a time: their events are read in one query.
const CHILDREN: usize = 500;

/// How long the sink may take to pass the cut. While rows are replaced the aggregator waits for it, so
/// it is shorter than the time after which that gives its transaction up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Rows as they are now: what is compared needs no lock.
const COMPARE: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
/// Nobody may move the positions, and so add to the rows, until the end of the transaction.
const REPLACE: &str = "BEGIN; SELECT FROM kafka_positions WHERE consumer = 'aggregator' \
                       ORDER BY topic, partition FOR UPDATE";

/// Which children to look at.
#[derive(Clone, Debug)]
pub enum Children {
    /// These.
    These(Vec<ChildId>),
    /// Everyone that either store knows.
    All,
    /// So many of them, by chance.
    Sample(u32),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// Children looked at.
    pub children: usize,
    /// Children left alone, because a record of theirs is in quarantine: replay or drop it first.
    pub quarantined: usize,
    /// Of the others' rows, what was compared.
    pub compared: Compared,
    /// Rows that were replaced, made or removed.
    pub written: u64,
}

impl Rebuilt {
    /// Tells the outcome as metrics, and at ERROR when something differs and was not replaced.
    pub fn publish(&self) {
        describe_gauge!(
            "rivulet_differing_rows",
            "Rollup rows of the children last recounted that are not what the history says: 0"
        );
        describe_gauge!(
            "rivulet_recounted_rows",
            "Rollup rows of the children last recounted"
        );
        let differing = self.compared.differences.len();
        gauge!("rivulet_differing_rows").set(differing as f64);
        gauge!("rivulet_recounted_rows").set(self.compared.rows as f64);
        if differing > 0 && self.written == 0 {
            tracing::error!(
                rows = differing,
                "rollups differ from the history: `rivulet rebuild --all` names them"
            );
        }
    }
}

/// Compares children's rollups with their history; with `write`, puts the recount in the place of
/// rows that differ, in one transaction for some hundred children, while the aggregator waits.
///
/// # Errors
/// A store is out of reach, or the sink is too far behind. What was replaced until then stays.
pub async fn rebuild(stores: &Stores, children: &Children, write: bool) -> Result<Rebuilt, Error> {
    let in_quarantine = in_quarantine(stores).await?;
    let all = find(stores, children).await?;
    let mut rebuilt = Rebuilt {
        children: all.len(),
        ..Rebuilt::default()
    };
    let (held, free): (Vec<ChildId>, Vec<ChildId>) = all
        .into_iter()
        .partition(|child| in_quarantine.contains(child));
    rebuilt.quarantined = held.len();
    let since = Utc::now().date_naive() - Days::new(HISTORY_DAYS);
    for some in free.chunks(CHILDREN) {
        let mut session = Recompute::begin(&stores.pool, COMPARE, some).await?;
        let recount = recount(stores, session.connection(), some, since).await?;
        let compared = session.compare(&recount, since).await?;
        drop(session);
        let differing: AHashSet<Uuid> = compared
            .differences
            .iter()
            .filter_map(|difference| difference.key["child_id"].as_str()?.parse().ok())
            .collect();
        if write && !differing.is_empty() {
            // Once more, and this time nobody writes to them until it is done.
            let wrong: Vec<ChildId> = differing.into_iter().map(ChildId::new).collect();
            make_partitions(&stores.pool, &recount).await?;
            let mut session = Recompute::begin(&stores.pool, REPLACE, &wrong).await?;
            let recount = self::recount(stores, session.connection(), &wrong, since).await?;
            session.compare(&recount, since).await?;
            rebuilt.written += session.replace().await?;
        }
        rebuilt.compared.rows += compared.rows;
        rebuilt.compared.left_out += compared.left_out;
        rebuilt.compared.differences.extend(compared.differences);
    }
    Ok(rebuilt)
}

async fn find(stores: &Stores, children: &Children) -> Result<Vec<ChildId>, Error> {
    let (order, limit) = match children {
        Children::These(children) => return Ok(children.clone()),
        Children::All => ("", i64::MAX),
        Children::Sample(children) => ("ORDER BY random()", i64::from(*children)),
    };
    let sql = format!(
        "SELECT child_id FROM (SELECT DISTINCT child_id FROM daily_child_metrics) AS d
         {order} LIMIT $1"
    );
    let mut found: AHashSet<Uuid> = sqlx::query_scalar::<_, Uuid>(sqlx::AssertSqlSafe(sql))
        .bind(limit)
        .fetch_all(&stores.pool)
        .await?
        .into_iter()
        .collect();
    if matches!(children, Children::All) {
        // A child of whom nothing was rolled up is in the history alone.
        let mut rows = stores
            .clickhouse
            .query("SELECT DISTINCT toString(child_id) FROM events")
            .fetch::<String>()?;
        while let Some(child) = rows.next().await? {
            found.extend(child.parse::<Uuid>());
        }
    }
    let mut found: Vec<_> = found.into_iter().map(ChildId::new).collect();
    found.sort_unstable();
    Ok(found)
}

/// Children with a record in quarantine that can be read: one store may have it and the other not.
async fn in_quarantine(stores: &Stores) -> Result<AHashSet<ChildId>, Error> {
    let records: Vec<(String, Vec<u8>)> = sqlx::query_as("SELECT topic, record FROM quarantine")
        .fetch_all(&stores.pool)
        .await?;
    let children = records.iter().filter_map(|(topic, record)| {
        let kind = EventType::ALL
            .iter()
            .find(|kind| stores.cluster.topic(**kind) == *topic)?;
        Some(Record::decode(*kind, record).ok()?.child_id)
    });
    Ok(children.collect())
}

/// All that the history has of these children below the transaction's positions.
async fn recount(
    stores: &Stores,
    conn: &mut PgConnection,
    children: &[ChildId],
    since: NaiveDate,
) -> Result<Rollup, Error> {
    let cut = positions(&mut *conn, ROLLUPS).await?;
    let began = Instant::now();
    let passed = |sink: &[(String, i32, Position)]| {
        cut.iter().all(|(topic, partition, cut)| {
            sink.iter().any(|(of, part, at)| {
                of == topic
                    && part == partition
                    && at.incarnation == cut.incarnation
                    && at.next_offset >= cut.next_offset
            })
        })
    };
    while !passed(&positions(&mut *stores.pool.acquire().await?, HISTORY).await?) {
        if began.elapsed() > PATIENCE {
            return Err(Error::SinkBehind(PATIENCE));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let mut above = String::from("false");
    for (topic, partition, cut) in &cut {
        let (incarnation, next) = (&cut.incarnation, cut.next_offset);
        let _ = write!(
            above,
            " OR (kafka_topic = '{topic}' AND kafka_partition = {partition}
                  AND topic_incarnation = '{incarnation}' AND kafka_offset >= {next})"
        );
    }
    let ids: Vec<_> = children
        .iter()
        .map(|child| format!("'{}'", child.uuid()))
        .collect();
    let ids = ids.join(",");
    let mut rollup = Rollup::default();
    for (kind, data) in DATA {
        let sql = format!(
            "SELECT 1 AS v, event_type AS type, event_id AS id, child_id, parent_id, age_group,
                    session_id, toUnixTimestamp64Milli(occurred_at) AS occurred_at,
                    toUnixTimestamp64Milli(event_time) AS event_time,
                    toUnixTimestamp64Milli(received_at) AS received_at,
                    local_date, true AS analytics, tuple({data}) AS data
             FROM history
             WHERE child_id IN ({ids}) AND event_type = '{kind}' AND local_date >= '{since}'
               AND NOT ({above})",
            kind = kind.as_str(),
        );
        let rows = stores
            .clickhouse
            .query(&sql)
            .with_setting("output_format_json_quote_64bit_integers", "0")
            .with_setting("output_format_json_named_tuples_as_objects", "1")
            .with_setting("enable_named_columns_in_function_tuple", "1")
            .fetch_bytes("JSONEachRow")?;
        let mut lines = rows.lines();
        while let Some(line) = lines.next_line().await? {
            let record = Record::decode(kind, line.as_bytes())
                .map_err(|error| Error::Row(error.to_string()))?;
            rollup.add(&record);
        }
    }
    Ok(rollup)
}

async fn positions(
    conn: &mut PgConnection,
    consumer: &str,
) -> Result<Vec<(String, i32, Position)>, Error> {
    let rows: Vec<(String, i32, String, i64, i64)> = sqlx::query_as(
        "SELECT topic, partition, topic_incarnation, next_offset, ledger_from
         FROM kafka_positions WHERE consumer = $1",
    )
    .bind(consumer)
    .fetch_all(conn)
    .await?;
    let position = |(topic, partition, incarnation, next_offset, ledger_from)| {
        let position = Position {
            incarnation,
            next_offset,
            ledger_from,
        };
        (topic, partition, position)
    };
    Ok(rows.into_iter().map(position).collect())
}

/// The `data` of each type as the record has it, of the columns of `events`.
const DATA: [(EventType, &str); 4] = [
    (
        EventType::Interaction,
        "interaction_action AS action, activity_id, subject, topic, is_correct, response_time_ms, \
         duration_ms, confidence, difficulty, rating, xp, stars, badge",
    ),
    (
        EventType::Message,
        "conversation_id, sequence, role, topic, chars, words, ifNull(is_question, false) AS is_question, \
         ifNull(is_free_form, false) AS is_free_form, ifNull(aha_moment, false) AS aha_moment, \
         ifNull(was_filtered, false) AS was_filtered, selected_choice, depth_level, tokens_used, \
         processing_time_ms, filter_reason",
    ),
    (
        EventType::Speech,
        "audio_session_id, window_ms, child_words, adult_words, child_vocalizations, \
         conversational_turns, utterances, unique_words, new_words, snr_db, language, model_version",
    ),
    (
        EventType::Session,
        "session_action AS action, active_ms, kind, device_type",
    ),
];
