//! The rollups, the registry and the quarantine: what is deleted there, and that it leaves the tables' files.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, types::Json};
use uuid::Uuid;

use crate::{Error, certificate::Proof, told};

/// Each table with rows of a child, and the column with its id.
const OF_CHILDREN: [(&str, &str); 7] = [
    ("daily_child_metrics", "child_id"),
    ("learning_analytics", "child_id"),
    ("topic_progress", "child_id"),
    ("streaks", "child_id"),
    ("withheld_seen", "child_id"),
    ("revocations", "child_id"),
    ("children", "id"),
];

/// The same of a parent, in an order that foreign keys allow.
const OF_PARENTS: [(&str, &str); 2] = [("consent_changes", "parent_id"), ("parents", "id")];

/// How long a table's readers and writers may be kept waiting by one that waits to write it anew.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '2s'; SET statement_timeout = 0";

/// How often that is tried in a row.
const TRIES: u32 = 10;

/// The subjects of an erasure.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    pub(crate) children: Vec<Uuid>,
    pub(crate) parents: Vec<Uuid>,
}

impl Subjects {
    fn all(&self) -> Vec<Uuid> {
        self.children.iter().chain(&self.parents).copied().collect()
    }
}

/// The subjects of an erasure that is not done.
pub(crate) async fn subjects(pool: &PgPool, erasure: Uuid) -> Result<Subjects, sqlx::Error> {
    let rows: Vec<(String, Uuid)> =
        sqlx::query_as("SELECT kind, id FROM erasure_subjects WHERE erasure_id = $1 ORDER BY id")
            .bind(erasure)
            .fetch_all(pool)
            .await?;
    let mut subjects = Subjects::default();
    for (kind, id) in rows {
        match &*kind {
            "parent" => subjects.parents.push(id),
            _ => subjects.children.push(id),
        }
    }
    Ok(subjects)
}

/// Deletes what is of the subjects, and notes which tables' files still have it. What was removed is added to the
/// store's account.
pub(crate) async fn remove(pool: &PgPool, erasure: Uuid, subjects: &Subjects) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let conn = &mut *transaction;
    // Many subjects have many days.
    sqlx::query("SET LOCAL statement_timeout = 0")
        .execute(&mut *conn)
        .await?;
    let consents: Json<Vec<Value>> = sqlx::query_scalar(
        "SELECT coalesce(json_agg(json_build_object('parent_sha256', encode(tombstone_hash(parent_id), 'hex'),
                    'consent', consent, 'granted', granted, 'version', version, 'method', method,
                    'changed_at', changed_at) ORDER BY changed_at, id), '[]')
         FROM consent_changes WHERE parent_id = ANY($1)",
    )
    .bind(&subjects.parents)
    .fetch_one(&mut *conn)
    .await?;
    let mut removed = BTreeMap::new();
    let of_children = OF_CHILDREN.map(|table| (table, &subjects.children));
    let of_parents = OF_PARENTS.map(|table| (table, &subjects.parents));
    for ((table, column), ids) in of_children.into_iter().chain(of_parents) {
        let gone: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(format!(
            "WITH gone AS (DELETE FROM {table} WHERE {column} = ANY($1) RETURNING tableoid)
             SELECT tableoid::regclass::text, count(*) FROM gone GROUP BY 1"
        )))
        .bind(ids)
        .fetch_all(&mut *conn)
        .await?;
        for (relation, rows) in gone {
            rewrite_later(conn, &relation).await?;
            *removed.entry(table).or_insert(0) += rows;
        }
    }
    account(conn, erasure, "postgres", &removed, consents.0).await?;
    Ok(transaction.commit().await?)
}

/// Takes the subjects' records out of quarantine, by the ids that are anywhere in their bytes.
pub(crate) async fn remove_quarantined(
    pool: &PgPool,
    erasure: Uuid,
    subjects: &Subjects,
) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let conn = &mut *transaction;
    sqlx::query("SET LOCAL statement_timeout = 0")
        .execute(&mut *conn)
        .await?;
    let by = format!("erasure {erasure}");
    let rows = drop_quarantined(conn, &subjects.all(), Which::All, &by).await?;
    if rows > 0 {
        rewrite_later(conn, "quarantine").await?;
    }
    let removed = BTreeMap::from([("quarantine", rows.cast_signed())]);
    account(conn, erasure, "quarantine", &removed, Vec::new()).await?;
    Ok(transaction.commit().await?)
}

/// Which quarantined records.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    /// Every one.
    All,
    /// Of this topic.
    OfTopic(&'a str),
    /// That this consumer set aside.
    OfConsumer(&'a str),
}

/// Takes out of quarantine, of the records that `which` says, those that name these ids. Returns how many.
pub(crate) async fn drop_quarantined(
    conn: &mut PgConnection,
    ids: &[Uuid],
    which: Which<'_>,
    by: &str,
) -> Result<u64, Error> {
    let (topic, consumer) = match which {
        Which::All => (None, None),
        Which::OfTopic(topic) => (Some(topic), None),
        Which::OfConsumer(consumer) => (None, Some(consumer)),
    };
    let done = sqlx::query(AssertSqlSafe(format!(
        "WITH gone AS (
             DELETE FROM quarantine
             WHERE coalesce(topic = $3, true) AND coalesce(consumer = $4, true) AND {NAMES_SUBJECT} RETURNING *
         )
         INSERT INTO quarantine_actions
             (consumer, topic, partition, kafka_offset, topic_incarnation, code, action, acted_by)
         SELECT consumer, topic, partition, kafka_offset, topic_incarnation, code, 'erased', $2 FROM gone
         ON CONFLICT (consumer, topic, partition, kafka_offset, topic_incarnation) DO UPDATE
         SET code = excluded.code, action = excluded.action, acted_by = excluded.acted_by,
             acted_at = excluded.acted_at"
    )))
    .bind(ids)
    .bind(by)
    .bind(topic)
    .bind(consumer)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// A record that cannot be read is searched for ids: whatever looks like one is compared.
const NAMES_SUBJECT: &str = "EXISTS (
    SELECT FROM regexp_matches(encode(record, 'escape') || ' ' || detail,
                               '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', 'gi') AS found (id)
    WHERE found.id[1]::uuid = ANY($1))";

/// Adds to what was removed of a store, and to the evidence of what it was kept on. Removing again, after a crash, finds
/// nothing and adds nothing; a backup that was put back meanwhile has more.
async fn account(
    conn: &mut PgConnection,
    erasure: Uuid,
    store: &str,
    removed: &BTreeMap<&str, i64>,
    consents: Vec<Value>,
) -> Result<(), sqlx::Error> {
    if removed.values().all(|rows| *rows == 0) {
        return Ok(());
    }
    let so_far: Option<Json<Value>> = sqlx::query_scalar(
        "SELECT proof FROM erasure_stores WHERE erasure_id = $1 AND store = $2 FOR UPDATE",
    )
    .bind(erasure)
    .bind(store)
    .fetch_one(&mut *conn)
    .await?;
    let mut proof = so_far.map_or_else(|| json!({}), |proof| proof.0);
    for (table, rows) in removed {
        let before = proof["removed"][table].as_i64().unwrap_or(0);
        proof["removed"][table] = json!(before + rows);
    }
    for consent in consents {
        match &mut proof["consents"] {
            Value::Array(all) => all.push(consent),
            none => *none = json!([consent]),
        }
    }
    sqlx::query(
        "UPDATE erasure_stores SET removed = removed + $3, proof = $4 WHERE erasure_id = $1 AND store = $2",
    )
    .bind(erasure)
    .bind(store)
    .bind(removed.values().sum::<i64>())
    .bind(Json(proof))
    .execute(conn)
    .await
    .map(drop)
}

async fn rewrite_later(conn: &mut PgConnection, relation: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO erasure_rewrites VALUES ($1::regclass) ON CONFLICT DO NOTHING")
        .bind(relation)
        .execute(conn)
        .await
        .map(drop)
}

/// Writes the files anew of all tables of which something was deleted. Returns the names of those that are still to
/// do: somebody uses them all the time, or has a transaction open that may still see what was deleted.
///
/// Who reads or writes such a table waits meanwhile: for two seconds at most until it begins, and for as long as its
/// live rows take to be copied, some 100 MB a second.
pub(crate) async fn rewrite(pool: &PgPool) -> Result<Vec<String>, Error> {
    const LEFT: &str = "SELECT relation::text FROM erasure_rewrites ORDER BY 1";
    let mut left: Vec<String> = sqlx::query_scalar(LEFT).fetch_all(pool).await?;
    if left.is_empty() || !told::everybody(pool, Duration::from_secs(10)).await? {
        return Ok(left);
    }
    let mut conn = pool.acquire().await?;
    // Not back into the pool with these settings.
    conn.close_on_drop();
    sqlx::query(LOCK_TIMEOUT).execute(&mut *conn).await.ok();
    for relation in left.clone() {
        for _ in 0..TRIES {
            match write_anew(&mut conn, &relation).await {
                Ok(()) => {
                    left.retain(|other| *other != relation);
                    sqlx::query("DELETE FROM erasure_rewrites WHERE relation = $1::regclass")
                        .bind(&relation)
                        .execute(&mut *conn)
                        .await?;
                    break;
                }
                // lock_not_available
                Err(error) if is(&error, "55P03") => {
                    tokio::time::sleep(Duration::from_millis(500)).await
                }
                // undefined_table: a partition that was dropped, and its file with it
                Err(error) if is(&error, "42P01") => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    // Housekeeping may have dropped a partition, whose number stands for nothing then.
    sqlx::query(
        "DELETE FROM erasure_rewrites WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = relation)",
    )
    .execute(&mut *conn)
    .await?;
    flush_notices(&mut conn).await?;
    Ok(sqlx::query_scalar(LEFT).fetch_all(pool).await?)
}

/// Who does not own the table has a function for it: `VACUUM` would pass over it with nothing but a warning.
async fn write_anew(conn: &mut PgConnection, relation: &str) -> Result<(), sqlx::Error> {
    let is_owner: bool = sqlx::query_scalar(
        "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = $1::regclass",
    )
    .bind(relation)
    .fetch_one(&mut *conn)
    .await?;
    if is_owner {
        let rewrite = AssertSqlSafe(format!("VACUUM (FULL) {relation}"));
        return sqlx::raw_sql(rewrite).execute(conn).await.map(drop);
    }
    let rewrite = sqlx::query("SELECT rewrite_erased($1::regclass)").bind(relation);
    rewrite.execute(conn).await.map(drop)
}

fn is(error: &sqlx::Error, code: &str) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|found| found == code)
}

/// Notices of changes name children, and PostgreSQL's queue of notices is a file of 256 KiB pieces, each dropped when
/// all have read past it.
async fn flush_notices(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT pg_notify('rivulet_nothing', number || repeat(' ', 7000)) FROM generate_series(1, 80) AS number",
    )
    .execute(conn)
    .await
    .map(drop)
}

/// What is left of the subjects, as queries with their answers; each must be 0.
pub(crate) async fn prove(pool: &PgPool, subjects: &Subjects) -> Result<Vec<Proof>, Error> {
    let mut proofs = Vec::new();
    let of_children = OF_CHILDREN.map(|table| (table, &subjects.children));
    let of_parents = OF_PARENTS.map(|table| (table, &subjects.parents));
    for ((table, column), ids) in of_children.into_iter().chain(of_parents) {
        let query = |is: &str| format!("SELECT count(*) FROM {table} WHERE {column} = ANY({is})");
        proofs.push(Proof {
            answer: count(pool, query("$1"), ids).await?,
            query: query("{subjects}"),
        });
    }
    Ok(proofs)
}

/// The same of the quarantine.
pub(crate) async fn prove_quarantined(
    pool: &PgPool,
    subjects: &Subjects,
) -> Result<Vec<Proof>, Error> {
    let query = format!("SELECT count(*) FROM quarantine WHERE {NAMES_SUBJECT}");
    Ok(vec![Proof {
        answer: count(pool, query.clone(), &subjects.all()).await?,
        query: query.replace("$1", "{subjects}"),
    }])
}

async fn count(pool: &PgPool, query: String, ids: &[Uuid]) -> Result<u64, sqlx::Error> {
    let found: i64 = sqlx::query_scalar(AssertSqlSafe(query))
        .bind(ids)
        .fetch_one(pool)
        .await?;
    Ok(found.unsigned_abs())
}

/// Forgets the ids themselves, and the file that had them.
pub(crate) async fn forget_subjects(pool: &PgPool, erasure: Uuid) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("DELETE FROM erasure_subjects WHERE erasure_id = $1")
        .bind(erasure)
        .execute(&mut *transaction)
        .await?;
    rewrite_later(&mut transaction, "erasure_subjects").await?;
    Ok(transaction.commit().await?)
}
