//! The request: tombstones and deletion marks, in one transaction.

use rivulet_auditlog::{Action, Entry, record};
use rivulet_registry::tombstones;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// Who is to be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A child.
    Child(Uuid),
    /// A parent, with all children.
    Parent(Uuid),
}

/// An erasure that was requested, now or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requested {
    /// By which it can be followed.
    pub erasure_id: Uuid,
    /// How many subjects of this request it has. None where all were erased before.
    pub new_subjects: u64,
}

/// Why nobody was erased.
#[derive(Debug, thiserror::Error)]
pub enum NotErased {
    /// Nobody of this id is registered, and nobody was erased.
    #[error("nobody of this id is registered")]
    NotFound,
    /// PostgreSQL did not do it.
    #[error("PostgreSQL: {0}")]
    Database(#[from] sqlx::Error),
}

/// Erases one who is registered. Asked again, it is the same erasure.
///
/// # Errors
/// [`NotErased::NotFound`], also for an id that is mistyped; PostgreSQL.
pub async fn request(pool: &PgPool, subject: Subject, by: &str) -> Result<Requested, NotErased> {
    requested(pool, &[subject], by, true).await
}

/// Erases all of these in one erasure, registered or not: the registry may have lost somebody of whom another store
/// still knows. Who was erased before is left out; where that is everybody, it is the erasure of the first.
///
/// # Errors
/// [`NotErased::NotFound`] of an empty list; PostgreSQL.
pub async fn request_any(
    pool: &PgPool,
    subjects: &[Subject],
    by: &str,
) -> Result<Requested, NotErased> {
    requested(pool, subjects, by, false).await
}

async fn requested(
    pool: &PgPool,
    subjects: &[Subject],
    by: &str,
    registered: bool,
) -> Result<Requested, NotErased> {
    let of = |wanted: fn(&Subject) -> Option<Uuid>| -> Vec<Uuid> {
        let mut ids: Vec<_> = subjects.iter().filter_map(wanted).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let parents = of(|subject| match subject {
        Subject::Parent(id) => Some(*id),
        Subject::Child(_) => None,
    });
    let mut children = of(|subject| match subject {
        Subject::Child(id) => Some(*id),
        Subject::Parent(_) => None,
    });
    let named = (parents.clone(), children.clone());
    let mut transaction = pool.begin().await?;
    let conn = &mut *transaction;
    let base = next_number(conn).await?;
    // Parents are locked before children, as wherever the registry is written. No child joins a locked parent, and one
    // that leaves meanwhile is asked for its parent again when its row is locked.
    let known_parents: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM parents WHERE id = ANY($1) ORDER BY id FOR UPDATE")
            .bind(&parents)
            .fetch_all(&mut *conn)
            .await?;
    let known_children: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM children WHERE id = ANY($1) OR parent_id = ANY($2) ORDER BY id FOR UPDATE",
    )
    .bind(&children)
    .bind(&parents)
    .fetch_all(&mut *conn)
    .await?;
    let is_known = !known_parents.is_empty() || !known_children.is_empty();
    children.extend(known_children);
    children.sort_unstable();
    children.dedup();

    let erased_parents = tombstones::erased_parents(conn, &parents).await?;
    let erased_children = tombstones::erased(conn, &children).await?;
    let but = |ids: &[Uuid], erased: &[Uuid]| -> Vec<Uuid> {
        let new = ids.iter().filter(|id| !erased.contains(id));
        new.copied().collect()
    };
    let new_parents = but(&parents, &erased_parents);
    let new_children = but(&children, &erased_children);
    let new_subjects = (new_parents.len() + new_children.len()) as u64;
    if registered && !is_known && erased_parents.is_empty() && erased_children.is_empty() {
        return Err(NotErased::NotFound);
    }
    if new_subjects == 0 {
        let (kind, first) = match parents.first() {
            Some(parent) => ("parent", Some(parent)),
            None => ("child", children.first()),
        };
        let erasure: Option<Uuid> = sqlx::query_scalar(
            "SELECT erasure_id FROM tombstones WHERE sha256 = tombstone_hash($1) AND kind = $2",
        )
        .bind(first)
        .bind(kind)
        .fetch_optional(&mut *conn)
        .await?;
        let erasure_id = erasure.ok_or(NotErased::NotFound)?;
        audit(conn, named, erasure_id, new_subjects, by).await?;
        transaction.commit().await?;
        return Ok(Requested {
            erasure_id,
            new_subjects,
        });
    }

    let erasure_id = Uuid::new_v4();
    let newest: i64 = sqlx::query_scalar(
        "WITH subjects AS (
             SELECT 'parent' AS kind, id FROM unnest($2::uuid[]) AS id
             UNION ALL SELECT 'child', id FROM unnest($3::uuid[]) AS id
         ), numbered AS (
             INSERT INTO tombstones (number, sha256, kind, erasure_id)
             SELECT $4 + row_number() OVER (ORDER BY kind, id), tombstone_hash(id), kind, $1
             FROM subjects
             RETURNING number
         )
         SELECT max(number) FROM numbered",
    )
    .bind(erasure_id)
    .bind(&new_parents)
    .bind(&new_children)
    .bind(base)
    .fetch_one(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO erasures (id, requested_by, subjects, tombstone) VALUES ($1, $2, $3, $4)",
    )
    .bind(erasure_id)
    .bind(by)
    .bind(new_subjects.cast_signed())
    .bind(newest)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO erasure_subjects (erasure_id, kind, id)
         SELECT $1, 'parent', id FROM unnest($2::uuid[]) AS id
         UNION ALL SELECT $1, 'child', id FROM unnest($3::uuid[]) AS id",
    )
    .bind(erasure_id)
    .bind(&new_parents)
    .bind(&new_children)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO erasure_stores (erasure_id, store)
         SELECT $1, unnest(ARRAY['postgres', 'clickhouse', 'quarantine', 'spill', 'kafka'])",
    )
    .bind(erasure_id)
    .execute(&mut *conn)
    .await?;
    // Ingest nodes and open pages hear of it as of any deletion.
    for (table, ids) in [("parents", &new_parents), ("children", &new_children)] {
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE {table} SET deleted_at = coalesce(deleted_at, now()), updated_at = now() WHERE id = ANY($1)"
        )))
        .bind(ids)
        .execute(&mut *conn)
        .await?;
    }
    audit(conn, named, erasure_id, new_subjects, by).await?;
    transaction.commit().await?;
    tracing::info!(%erasure_id, subjects = new_subjects, by, "an erasure was requested");
    Ok(Requested {
        erasure_id,
        new_subjects,
    })
}

/// After which number the next tombstones are numbered. Who writes tombstones takes turns until the end of the
/// transaction, so numbers rise in the order of commits. They are the time in microseconds, or more: a number that is
/// given after PostgreSQL was put back is larger than any that was given before.
pub(crate) async fn next_number(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(7262105022)")
        .execute(&mut *conn)
        .await?;
    sqlx::query_scalar(
        "SELECT greatest(max(number), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) FROM tombstones",
    )
    .fetch_one(conn)
    .await
}

/// Who was named, of which some may have been erased before. The certificate has the children of parents.
async fn audit(
    conn: &mut PgConnection,
    (parents, children): (Vec<Uuid>, Vec<Uuid>),
    erasure: Uuid,
    new_subjects: u64,
    by: &str,
) -> Result<(), sqlx::Error> {
    let entry = |entry: Entry| {
        entry
            .detail("erasure_id", erasure.to_string())
            .detail("new_subjects", new_subjects)
            .detail("by", by)
    };
    let of = Entry::done(Action::Erase);
    if !parents.is_empty() {
        record(conn, entry(of.clone().parents(parents))).await?;
    }
    if !children.is_empty() {
        record(conn, entry(of.children(children))).await?;
    }
    Ok(())
}
