//! The rollup tables: one upsert a table, of all the batch's rows.

use std::{fmt::Write as _, sync::LazyLock};

use ahash::AHashMap;
use chrono::{DateTime, NaiveDate, Utc};
use rivulet_events::ChildId;
use sqlx::{
    PgConnection, Postgres, Row as _,
    postgres::{PgArguments, PgBindIterExt as _},
    query::Query,
};
use uuid::Uuid;

use crate::{
    rollup::{Child, DailySums, Day, EventTimes, LearningSums, Rollup, Topic, TopicSums},
    streak::RULE_VERSION,
    text_set::TextSet,
};

/// How a column of an existing row is merged with what a batch adds.
#[derive(Clone, Copy)]
enum Merge {
    Key,
    Greatest,
    Least,
    /// A [`TextSet`], sent as the literal of a `text[]`, because an `unnest` of arrays of arrays flattens
    /// them; the column `<name>_more` comes after it.
    Set,
    /// The `<name>_more` of a set.
    More,
}

/// The SQL that merges a set `name` and its `name_more`. Its cost is bounded, because the number of members is. A few
/// new members are looked up one by one, and many are sorted together with the existing ones. If nothing changes, the
/// column keeps the stored value: a large value is stored outside of its row, and would be written again. `OFFSET 0`
/// keeps the planner from computing the union for each time that it is named.
fn unite(name: &str) -> [String; 2] {
    let most = TextSet::MOST;
    [
        format!(
            "{name} = CASE
                 WHEN cardinality(excluded.{name}) * cardinality(t.{name}) <= {FEW}
                      AND cardinality(t.{name}) <= {most} AND excluded.{name} <@ t.{name} THEN t.{name}
                 ELSE (SELECT CASE WHEN s.first = t.{name} THEN t.{name} ELSE s.first END
                       FROM (SELECT (text_set_union(t.{name}, excluded.{name}))[1:{most}] AS first OFFSET 0) AS s)
             END"
        ),
        // The union is computed only if there can be too many members, and not once it is known that there are.
        format!(
            "{name}_more = t.{name}_more OR excluded.{name}_more
                 OR cardinality(t.{name}) + cardinality(excluded.{name}) > {most}
                    AND cardinality(text_set_union(t.{name}, excluded.{name})) > {most}"
        ),
    ]
}

/// Comparisons of two texts that cost less than sorting some hundred.
const FEW: usize = 4_096;

/// The upsert of a table from one array for each of `columns`, in their order, then two for `sums`:
/// the sums of all rows in one, row after row, and where in it each row begins. Arrays that `unnest`
/// opens cost far more a value than one that is read by its subscript.
///
/// One prepared statement whatever the number of rows. It locks rows in the order of the arrays:
/// they must be sorted by key, and no key may come twice.
fn upsert(table: &str, columns: &[(&str, &str, Merge)], sums: &[&str], returning: &str) -> String {
    let (mut names, mut values, mut arrays) = (Vec::new(), Vec::new(), Vec::new());
    let (mut keys, mut merges) = (Vec::new(), Vec::new());
    for (i, &(name, kind, merge)) in columns.iter().enumerate() {
        names.push(name.to_owned());
        arrays.push(format!("${}::{kind}[]", i + 1));
        values.push(match merge {
            Merge::Set => format!("coalesce(d.{name}::text[], '{{}}')"),
            _ => format!("d.{name}"),
        });
        match merge {
            Merge::Key => keys.push(name),
            Merge::Greatest => merges.push(format!("{name} = greatest(t.{name}, excluded.{name})")),
            Merge::Least => merges.push(format!("{name} = least(t.{name}, excluded.{name})")),
            Merge::Set => merges.extend(unite(name)),
            Merge::More => {}
        }
    }
    let (opened, begin, all) = (names.join(", "), columns.len() + 1, columns.len() + 2);
    for (i, name) in sums.iter().enumerate() {
        names.push((*name).to_owned());
        values.push(format!("(${all}::bigint[])[d.begin + {}]", i + 1));
        merges.push(format!("{name} = t.{name} + excluded.{name}"));
    }
    format!(
        "INSERT INTO {table} AS t ({names}) SELECT {values} \
         FROM unnest({arrays}, ${begin}::int[]) AS d ({opened}, begin) \
         ON CONFLICT ({keys}) DO UPDATE SET {merges}, updated_at = now() {returning}",
        names = names.join(", "),
        values = values.join(", "),
        arrays = arrays.join(", "),
        keys = keys.join(", "),
        merges = merges.join(", "),
    )
}

/// Binds what [`upsert`] expects for its sums.
fn bind_sums<'q, const N: usize>(
    query: Query<'q, Postgres, PgArguments>,
    rows: impl ExactSizeIterator<Item = [i64; N]>,
) -> Query<'q, Postgres, PgArguments> {
    let begin: Vec<i32> = (0..rows.len()).map(|row| (row * N) as i32).collect();
    let sums: Vec<i64> = rows.flatten().collect();
    query.bind(begin).bind(sums)
}

static DAILY: LazyLock<String> = LazyLock::new(|| {
    let columns = [
        ("child_id", "uuid", Merge::Key),
        ("local_date", "date", Merge::Key),
        ("max_depth", "bigint", Merge::Greatest),
        ("max_unique_words", "bigint", Merge::Greatest),
        ("topics", "text", Merge::Set),
        ("topics_more", "boolean", Merge::More),
        ("badges", "text", Merge::Set),
        ("badges_more", "boolean", Merge::More),
        ("first_event_at", "timestamptz", Merge::Least),
        ("last_event_at", "timestamptz", Merge::Greatest),
        ("other_first_event_at", "timestamptz", Merge::Least),
        ("other_last_event_at", "timestamptz", Merge::Greatest),
    ];
    let returning = "RETURNING child_id, local_date, qualifying_events";
    upsert(
        "daily_child_metrics",
        &columns,
        DailySums::COLUMNS,
        returning,
    )
});

static LEARNING: LazyLock<String> = LazyLock::new(|| {
    let columns = [
        ("child_id", "uuid", Merge::Key),
        ("local_date", "date", Merge::Key),
        ("subject", "text", Merge::Key),
    ];
    upsert("learning_analytics", &columns, LearningSums::COLUMNS, "")
});

static TOPICS: LazyLock<String> = LazyLock::new(|| {
    let columns = [
        ("child_id", "uuid", Merge::Key),
        ("topic", "text", Merge::Key),
        ("max_depth", "bigint", Merge::Greatest),
        ("first_depth_5_at", "timestamptz", Merge::Least),
        ("first_seen_at", "timestamptz", Merge::Least),
        ("last_seen_at", "timestamptz", Merge::Greatest),
    ];
    upsert("topic_progress", &columns, TopicSums::COLUMNS, "")
});

/// The days are united and the streak computed from the union under the row's lock, which the
/// upsert takes before it looks: another topic's consumer may be adding a day of the same child.
const STREAKS: &str = "
    INSERT INTO streaks AS t (child_id, current_streak, longest_streak, streak_started_on,
                              last_active_date, freezes_available, active_days, rule_version)
    SELECT d.child_id, s.*, d.days, $3
    FROM (SELECT child_id, range_agg(daterange(day, day + 1)) AS days
          FROM unnest($1::uuid[], $2::date[]) AS n (child_id, day)
          GROUP BY child_id ORDER BY child_id) AS d
    CROSS JOIN LATERAL streak_of(d.days) AS s
    ON CONFLICT (child_id) DO UPDATE
    SET (current_streak, longest_streak, streak_started_on, last_active_date, freezes_available)
            = (SELECT s.* FROM streak_of(t.active_days + excluded.active_days) AS s),
        active_days = t.active_days + excluded.active_days,
        rule_version = excluded.rule_version,
        updated_at = now()
    WHERE NOT t.active_days @> excluded.active_days";

/// Adds the rollup to every table.
pub(crate) async fn add(conn: &mut PgConnection, rollup: &Rollup) -> Result<(), sqlx::Error> {
    let children = rollup.sorted();
    let active = add_days(conn, &children).await?;
    add_learning(conn, &children).await?;
    add_topics(conn, &children).await?;
    add_active_days(conn, &active).await
}

/// Returns the days that became active: those whose qualifying events are all of this batch.
async fn add_days(
    conn: &mut PgConnection,
    children: &[(ChildId, &Child)],
) -> Result<Vec<(Uuid, NaiveDate)>, sqlx::Error> {
    let rows: Vec<(Uuid, NaiveDate, &Day, [i64; DailySums::COLUMNS.len()])> = children
        .iter()
        .flat_map(|(id, child)| {
            child
                .days
                .iter()
                .map(|(date, day)| (id.uuid(), *date, &**day, day.sums.values()))
        })
        .collect();
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let query = sqlx::query(DAILY.as_str())
        .bind(rows.iter().map(|row| row.0).bind_iter())
        .bind(rows.iter().map(|row| row.1).bind_iter())
        .bind(rows.iter().map(|row| row.2.max_depth).bind_iter())
        .bind(rows.iter().map(|row| row.2.max_unique_words).bind_iter())
        .bind(rows.iter().map(|row| literal(&row.2.topics)).bind_iter())
        .bind(rows.iter().map(|row| row.2.topics.has_more()).bind_iter())
        .bind(rows.iter().map(|row| literal(&row.2.badges)).bind_iter())
        .bind(rows.iter().map(|row| row.2.badges.has_more()).bind_iter())
        .bind(
            rows.iter()
                .map(|row| timestamp(row.2.event_times.first))
                .bind_iter(),
        )
        .bind(
            rows.iter()
                .map(|row| timestamp(row.2.event_times.last))
                .bind_iter(),
        );
    let other = |of: fn(EventTimes) -> i64| {
        rows.iter()
            .map(move |row| row.2.other_times.map(of).map(timestamp))
    };
    let query = query
        .bind(other(|times| times.first).bind_iter())
        .bind(other(|times| times.last).bind_iter());
    let query = bind_sums(query, rows.iter().map(|row| row.3));
    let added: AHashMap<_, _> = rows
        .iter()
        .map(|row| ((row.0, row.1), row.2.sums.qualifying_events))
        .collect();
    let mut active = Vec::new();
    for row in query.fetch_all(conn).await? {
        let key = (row.try_get(0)?, row.try_get(1)?);
        let qualifying: i64 = row.try_get(2)?;
        if qualifying > 0 && added.get(&key) == Some(&qualifying) {
            active.push(key);
        }
    }
    Ok(active)
}

async fn add_learning(
    conn: &mut PgConnection,
    children: &[(ChildId, &Child)],
) -> Result<(), sqlx::Error> {
    let mut rows: Vec<(Uuid, NaiveDate, &str, [i64; LearningSums::COLUMNS.len()])> = Vec::new();
    for (id, child) in children {
        for (date, day) in &child.days {
            let subjects = day.learning.iter();
            rows.extend(
                subjects.map(|(subject, sums)| (id.uuid(), *date, &**subject, sums.values())),
            );
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(LEARNING.as_str())
        .bind(rows.iter().map(|row| row.0).bind_iter())
        .bind(rows.iter().map(|row| row.1).bind_iter())
        .bind(rows.iter().map(|row| row.2).bind_iter());
    bind_sums(query, rows.iter().map(|row| row.3))
        .execute(conn)
        .await
        .map(drop)
}

async fn add_topics(
    conn: &mut PgConnection,
    children: &[(ChildId, &Child)],
) -> Result<(), sqlx::Error> {
    let rows: Vec<(Uuid, &str, &Topic, [i64; TopicSums::COLUMNS.len()])> = children
        .iter()
        .flat_map(|(id, child)| {
            child
                .topics
                .iter()
                .map(|(name, topic)| (id.uuid(), &**name, &**topic, topic.sums.values()))
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(TOPICS.as_str())
        .bind(rows.iter().map(|row| row.0).bind_iter())
        .bind(rows.iter().map(|row| row.1).bind_iter())
        .bind(rows.iter().map(|row| row.2.max_depth).bind_iter())
        .bind(
            rows.iter()
                .map(|row| row.2.first_depth_5_at.map(timestamp))
                .bind_iter(),
        )
        .bind(
            rows.iter()
                .map(|row| timestamp(row.2.event_times.first))
                .bind_iter(),
        )
        .bind(
            rows.iter()
                .map(|row| timestamp(row.2.event_times.last))
                .bind_iter(),
        );
    bind_sums(query, rows.iter().map(|row| row.3))
        .execute(conn)
        .await
        .map(drop)
}

async fn add_active_days(
    conn: &mut PgConnection,
    days: &[(Uuid, NaiveDate)],
) -> Result<(), sqlx::Error> {
    if days.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(STREAKS)
        .bind(days.iter().map(|day| day.0).bind_iter())
        .bind(days.iter().map(|day| day.1).bind_iter())
        .bind(RULE_VERSION);
    query.execute(conn).await.map(drop)
}

/// The literal of a `text[]`, `None` for an empty one.
fn literal(set: &TextSet) -> Option<String> {
    let mut text = String::new();
    for item in set.first() {
        text.push(if text.is_empty() { '{' } else { ',' });
        let _ = write!(
            text,
            "\"{}\"",
            item.replace('\\', "\\\\").replace('"', "\\\"")
        );
    }
    (!text.is_empty()).then(|| text + "}")
}

/// PostgreSQL's form of Unix milliseconds.
#[expect(
    clippy::expect_used,
    reason = "preparation refused times outside of 2020 to 2200"
)]
fn timestamp(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).expect("a time of the calendar")
}
