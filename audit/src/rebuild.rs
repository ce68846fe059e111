//! Recounts children's rollups from the history.
//!
//! Both stores are compared below one cut: the aggregator's positions at one moment. The transaction's snapshot has the
//! rollups as they were then. Of the history only what is below the cut is read, after the sink has passed it. So live
//! events may go on meanwhile.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use ahash::{AHashMap, AHashSet};
use chrono::{DateTime, NaiveDate, Utc};
use futures_util::TryStreamExt as _;
use rivulet_aggregator::{
    Rollup,
    recompute::{Compared, Difference, Recompute, blames_rows, make_partitions},
};
use rivulet_auditlog::{Action, Entry, record};
use rivulet_events::{ChildId, DecodeError, EventType, Record, record::child_of};
use rivulet_registry::{revocations, tombstones};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::io::AsyncBufReadExt as _;
use uuid::Uuid;

use crate::{
    Error, HISTORY, ROLLUPS, Stores,
    metrics::{DIFFERING_ROWS, NOT_RECOUNTED_CHILDREN, RECOUNTED_ROWS},
    stores::{ConsumerPartition, Position, positions},
};

/// The first date that all that is counted and compared still has everything of. What is older has gone from one store or
/// another for its age (retention.toml), which is no difference. The two days are for time zones and for what goes today.
const WHOLE_SINCE: &str =
    "SELECT max(greatest(CURRENT_DATE - days, kept_since)) + 2 FROM retention_periods
     WHERE class IN ('speech', 'interactions', 'messages', 'sessions', 'daily', 'learning')";

/// Children at a time: their events are read in one query.
const CHILDREN: usize = 500;

/// When PostgreSQL was too slow for more children than this, it is taken to be too slow for all of them. Each of these
/// children takes some ten times as long as a statement may.
const SLOW: usize = 10;

/// How long the sink may take to pass the cut. While rows are replaced the aggregator waits, so this is shorter than
/// the time after which the aggregator gives its transaction up.
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
    /// This many of them, chosen at random.
    Sample(u32),
}

/// A child that was passed over.
#[derive(Debug, Serialize)]
pub struct NotRecounted {
    /// The child. For the eyes of an operator, never for a log.
    pub child_id: Uuid,
    /// Why; may quote what a store says of the child's events.
    pub problem: String,
}

/// The result of a recount.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// Children looked at.
    pub children: usize,
    /// Children left alone, because a record of theirs is in quarantine: replay or drop it first.
    pub quarantined: usize,
    /// Children that cannot be recounted, because the history has events that no release of Rivulet counts, or
    /// PostgreSQL refuses their rows.
    pub not_recounted: Vec<NotRecounted>,
    /// Of the others' rows, what was compared.
    pub compared: Compared,
    /// Rows that were replaced, made or removed.
    pub written: u64,
}

impl Rebuilt {
    fn add(&mut self, found: Self) {
        self.not_recounted.extend(found.not_recounted);
        self.compared.rows += found.compared.rows;
        self.compared.left_out += found.compared.left_out;
        self.compared.differences.extend(found.compared.differences);
        self.written += found.written;
    }

    /// Tells the outcome as metrics, and at ERROR when something differs and was not replaced, or could not be
    /// recounted.
    pub fn publish(&self) {
        let not_recounted = self.not_recounted.len();
        NOT_RECOUNTED_CHILDREN.set(not_recounted as f64);
        if not_recounted > 0 {
            tracing::error!(
                children = not_recounted,
                "children cannot be recounted from the history: `rivulet rebuild --all` names them"
            );
        }
        let differing = self.compared.differences.len();
        DIFFERING_ROWS.set(differing as f64);
        RECOUNTED_ROWS.set(self.compared.rows as f64);
        if differing > 0 && self.written == 0 {
            tracing::error!(
                rows = differing,
                "rollups differ from the history: `rivulet rebuild --all` names them"
            );
        }
    }
}

/// Compares children's rollups with their history; with `write`, puts the recount in the place of
/// rows that differ, in one transaction for some hundred children, while the aggregator waits. A child that
/// cannot be recounted holds up no other.
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
    let mut waiting: Vec<&[ChildId]> = free.rchunks(CHILDREN).collect();
    let mut slow = 0;
    while let Some(some) = waiting.pop() {
        match compare(stores, some, write).await {
            Ok(found) => rebuilt.add(found),
            Err(Error::Postgres(error)) if blames_rows(&error) => {
                if let [child] = some {
                    slow += usize::from(is_timeout(&error));
                    if slow > SLOW {
                        return Err(error.into());
                    }
                    rebuilt.not_recounted.push(NotRecounted {
                        child_id: child.uuid(),
                        problem: format!("PostgreSQL does not take its rows: {error}"),
                    });
                } else {
                    let (first, second) = some.split_at(some.len() / 2);
                    waiting.extend([second, first]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(rebuilt)
}

fn is_timeout(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "57014")
}

/// Compares these children, and with `write` mends them.
async fn compare(stores: &Stores, children: &[ChildId], write: bool) -> Result<Rebuilt, Error> {
    let since: NaiveDate = sqlx::query_scalar(WHOLE_SINCE)
        .fetch_one(&stores.pool)
        .await?;
    let began = sqlx::query_scalar("SELECT now()")
        .fetch_one(&stores.pool)
        .await?;
    let mut session = Recompute::begin(&stores.pool, COMPARE).await?;
    let children = not_erased(session.connection(), children, began).await?;
    let recount = recount(stores, session.connection(), &children, since).await?;
    let mut found = Rebuilt {
        compared: session.compare(&recount.of, &recount.rollup, since).await?,
        not_recounted: recount.not_recounted,
        ..Rebuilt::default()
    };
    drop(session);
    // A consent may have been withdrawn meanwhile.
    let children = not_erased(&mut *stores.pool.acquire().await?, &children, began).await?;
    found.compared.differences.retain(|difference| {
        child_in(difference).is_none_or(|child| children.contains(&ChildId::new(child)))
    });
    let differing: AHashSet<Uuid> = found
        .compared
        .differences
        .iter()
        .filter_map(child_in)
        .collect();
    if write && !differing.is_empty() {
        // They are recounted once more, and now nobody can write to their rows until it is done.
        let wrong: Vec<ChildId> = differing.into_iter().map(ChildId::new).collect();
        make_partitions(&stores.pool, &recount.rollup).await?;
        let mut session = Recompute::begin(&stores.pool, REPLACE).await?;
        // What is erased now, or withdrawn, is deleted after this transaction.
        tombstones::hold(session.connection()).await?;
        let wrong = not_erased(session.connection(), &wrong, began).await?;
        let recount = self::recount(stores, session.connection(), &wrong, since).await?;
        session.compare(&recount.of, &recount.rollup, since).await?;
        if !recount.of.is_empty() {
            let entry = Entry::done(Action::Rebuild);
            let entry = entry.children(recount.of.iter().map(|child| child.uuid()));
            record(session.connection(), entry).await?;
        }
        found.written = session.replace().await?;
        found.not_recounted.extend(recount.not_recounted);
    }
    Ok(found)
}

fn child_in(difference: &Difference) -> Option<Uuid> {
    difference.key["child_id"].as_str()?.parse().ok()
}

/// Of who is being erased, or of whom a consent was withdrawn, one store may have something that the other has not any
/// more.
async fn not_erased(
    conn: &mut PgConnection,
    children: &[ChildId],
    since: DateTime<Utc>,
) -> Result<Vec<ChildId>, sqlx::Error> {
    let ids: Vec<Uuid> = children.iter().map(|child| child.uuid()).collect();
    let erased = tombstones::erased(conn, &ids).await?;
    let unsettled = revocations::unsettled(conn, &ids, since).await?;
    let is_left =
        |child: &&ChildId| !erased.contains(&child.uuid()) && !unsettled.contains(&child.uuid());
    Ok(children.iter().filter(is_left).copied().collect())
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
        // A child who has no rollups at all may still be in the history.
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

/// Children with a record in quarantine: one store may have its event and the other not. This includes records that
/// cannot be read, if they name the child, because another release of one consumer may have read them.
async fn in_quarantine(stores: &Stores) -> Result<AHashSet<ChildId>, Error> {
    let mut records =
        sqlx::query_scalar::<_, Vec<u8>>("SELECT record FROM quarantine").fetch(&stores.pool);
    let mut children = AHashSet::new();
    while let Some(record) = records.try_next().await? {
        children.extend(child_of(&record));
    }
    Ok(children)
}

/// What the history has of some children.
struct Recount {
    /// The children who could be recounted, and their recount.
    of: Vec<ChildId>,
    rollup: Rollup,
    /// The others.
    not_recounted: Vec<NotRecounted>,
}

/// All that the history has of these children below the transaction's positions.
async fn recount(
    stores: &Stores,
    conn: &mut PgConnection,
    children: &[ChildId],
    since: NaiveDate,
) -> Result<Recount, Error> {
    let mut cut = positions(conn).await?;
    cut.retain(|(consumer, ..), _| consumer == ROLLUPS);
    let began = Instant::now();
    let passed = |now: &AHashMap<ConsumerPartition, Position>| {
        cut.iter().all(|((_, topic, partition), cut)| {
            let sink = now.get(&(HISTORY.to_owned(), topic.clone(), *partition));
            sink.is_some_and(|at| {
                at.incarnation == cut.incarnation && at.next_offset >= cut.next_offset
            })
        })
    };
    while !passed(&positions(&mut *stores.pool.acquire().await?).await?) {
        if began.elapsed() > PATIENCE {
            return Err(Error::SinkBehind(PATIENCE));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let mut above = String::from("false");
    for ((_, topic, partition), cut) in &cut {
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
    let (mut rollup, mut bad) = (Rollup::default(), Bad::default());
    for kind in EventType::ALL.iter().copied() {
        let sql = format!(
            "SELECT 1 AS v, event_type AS type, event_id AS id, child_id, parent_id, age_group,
                    session_id, toUnixTimestamp64Milli(occurred_at) AS occurred_at,
                    toUnixTimestamp64Milli(event_time) AS event_time,
                    toUnixTimestamp64Milli(received_at) AS received_at,
                    local_date, true AS analytics, tuple({data}) AS data
             FROM history
             WHERE child_id IN ({ids}) AND event_type = '{kind}' AND local_date >= '{since}'
               AND NOT ({above})",
            data = data(kind),
            kind = kind.as_str(),
        );
        let rows = stores
            .clickhouse
            .query(&sql)
            .with_setting("output_format_json_quote_64bit_integers", "0")
            .with_setting("output_format_json_named_tuples_as_objects", "1")
            .with_setting("enable_named_columns_in_function_tuple", "1")
            .fetch_bytes("JSONEachRow")?;
        let mut lines = rows.split(b'\n');
        while let Some(line) = lines.next_segment().await? {
            match Record::decode(kind, &line) {
                Ok(record) => rollup.add(&record),
                Err(error) => bad.note(kind, &line, &error)?,
            }
        }
    }
    bad.children.keys().for_each(|child| rollup.forget(*child));
    let is_good = |child: &&ChildId| !bad.children.contains_key(*child);
    Ok(Recount {
        of: children.iter().filter(is_good).copied().collect(),
        rollup,
        not_recounted: bad.into_list(),
    })
}

/// Rows of the history that are no records.
#[derive(Default)]
struct Bad {
    /// For each child, what is wrong with the first of its bad rows, and how many there are.
    children: AHashMap<ChildId, (String, u64)>,
}

impl Bad {
    fn note(&mut self, kind: EventType, line: &[u8], error: &DecodeError) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Row {
            id: Uuid,
            child_id: ChildId,
        }
        // A line without these fields is an error that ClickHouse has written into the middle of its answer.
        let Ok(Row { id, child_id }) = serde_json::from_slice(line) else {
            return Err(Error::Row(error.to_string()));
        };
        let problem = || (format!("{} {id}: {error}", kind.as_str()), 0);
        self.children.entry(child_id).or_insert_with(problem).1 += 1;
        Ok(())
    }

    fn into_list(self) -> Vec<NotRecounted> {
        let listed = |(child, (problem, rows)): (ChildId, (String, u64))| NotRecounted {
            child_id: child.uuid(),
            problem: match rows {
                1 => problem,
                _ => format!("{problem}, and {} more", rows - 1),
            },
        };
        self.children.into_iter().map(listed).collect()
    }
}

/// The `data` of an event as the record has it, of the columns of `events`.
fn data(kind: EventType) -> String {
    let columns = kind.declaration().columns.iter();
    let fields: Vec<_> = columns
        .map(|column| match column.default {
            Some(default) => format!("ifNull({}, {default}) AS {}", column.name, column.field),
            None => format!("{} AS {}", column.name, column.field),
        })
        .collect();
    fields.join(", ")
}
