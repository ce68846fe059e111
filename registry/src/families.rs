//! Parents, their consents and their children, as the product backend declares them.

use rivulet_auditlog::{Action, Entry, record};
use rivulet_events::{ChildId, ParentId, data::AgeGroup};
use rivulet_zones::Zone;
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use crate::{
    consents::{Consents, columns},
    revocations, tombstones,
};

impl Consents {
    /// The entry with the consents that the change speaks of.
    fn told_by(self, entry: Entry) -> Entry {
        [
            ("coppa", self.coppa),
            ("audio", self.audio),
            ("analytics", self.analytics),
        ]
        .into_iter()
        .fold(entry, |entry, (name, consent)| match consent {
            Some(consent) => entry.detail(
                name,
                json!({
                    "granted": consent.granted,
                    "version": consent.version,
                    "method": consent.method.as_str(),
                }),
            ),
            None => entry,
        })
    }
}

/// Why a family could not be changed. Only `Database` is worth trying again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The parent or child was deleted, and stays so.
    #[error("it was deleted; deletion is final")]
    Deleted,
    /// The child's parent does not exist.
    #[error("its parent is not registered; register the parent first")]
    UnknownParent,
    /// The child's parent was deleted.
    #[error("its parent was deleted; deletion is final")]
    DeletedParent,
    /// Nobody of that id is registered.
    #[error("it is not registered")]
    NotFound,
    /// PostgreSQL did not do it.
    #[error("the registry cannot be reached")]
    Database(#[from] sqlx::Error),
}

/// Registers a parent or changes it. `streaks`: whether the family's page shows them; `None` leaves it
/// as it was, and shows them for a new parent.
///
/// # Errors
/// [`Error::Deleted`], [`Error::Database`].
pub async fn put_parent(
    pool: &PgPool,
    id: ParentId,
    timezone: Zone,
    consents: Consents,
    streaks: Option<bool>,
) -> Result<(), Error> {
    if consents.give_any() {
        revocations::settle_families(pool, &[id.uuid()], &[]).await?;
    }
    let mut transaction = pool.begin().await?;
    tombstones::hold(&mut transaction).await?;
    refuse_erased(&tombstones::erased_parents(&mut transaction, &[id.uuid()]).await?)?;
    let [coppa, audio, analytics] =
        [&consents.coppa, &consents.audio, &consents.analytics].map(|one| columns(one.as_ref()));
    let written = sqlx::query(
        "INSERT INTO parents AS p (id, timezone, coppa, coppa_version, coppa_method, audio, audio_version, audio_method,
             analytics, analytics_version, analytics_method, streaks)
         VALUES ($1, $2, coalesce($3, false), $4, coalesce($5, 'other'), coalesce($6, false), $7, coalesce($8, 'other'),
                 coalesce($9, false), $10, coalesce($11, 'other'), coalesce($12, true))
         ON CONFLICT (id) DO UPDATE SET
            timezone = excluded.timezone,
            coppa = coalesce($3, p.coppa),
            coppa_version = CASE WHEN $3 IS NULL THEN p.coppa_version ELSE $4 END,
            coppa_method = coalesce($5, p.coppa_method),
            audio = coalesce($6, p.audio),
            audio_version = CASE WHEN $6 IS NULL THEN p.audio_version ELSE $7 END,
            audio_method = coalesce($8, p.audio_method),
            analytics = coalesce($9, p.analytics),
            analytics_version = CASE WHEN $9 IS NULL THEN p.analytics_version ELSE $10 END,
            analytics_method = coalesce($11, p.analytics_method),
            streaks = coalesce($12, p.streaks),
            updated_at = now()
         WHERE p.deleted_at IS NULL",
    )
    .bind(id.uuid())
    .bind(timezone.name())
    .bind(coppa.0)
    .bind(coppa.1)
    .bind(coppa.2)
    .bind(audio.0)
    .bind(audio.1)
    .bind(audio.2)
    .bind(analytics.0)
    .bind(analytics.1)
    .bind(analytics.2)
    .bind(streaks)
    .execute(&mut *transaction)
    .await?;
    if written.rows_affected() == 0 {
        return Err(Error::Deleted);
    }
    let entry = Entry::done(Action::PutParent).parent(id.uuid());
    record(&mut transaction, consents.told_by(entry)).await?;
    Ok(transaction.commit().await?)
}

/// Who was erased is not registered again. In the transaction that registers: an erasure waits for it.
fn refuse_erased(erased: &[uuid::Uuid]) -> Result<(), Error> {
    match erased {
        [] => Ok(()),
        _ => Err(Error::Deleted),
    }
}

/// Registers a child, changes it, or moves it to another parent.
///
/// # Errors
/// [`Error::Deleted`], [`Error::UnknownParent`], [`Error::DeletedParent`], [`Error::Database`].
pub async fn put_child(
    pool: &PgPool,
    id: ChildId,
    parent: ParentId,
    age_group: AgeGroup,
) -> Result<(), Error> {
    revocations::settle_families(pool, &[], &[id.uuid()]).await?;
    let mut transaction = pool.begin().await?;
    tombstones::hold(&mut transaction).await?;
    refuse_erased(&tombstones::erased(&mut transaction, &[id.uuid()]).await?)?;
    // Parents are locked before children, here, below and in the import: no deadlocks.
    let alive: Option<bool> =
        sqlx::query_scalar("SELECT deleted_at IS NULL FROM parents WHERE id = $1 FOR SHARE")
            .bind(parent.uuid())
            .fetch_optional(&mut *transaction)
            .await?;
    match alive {
        None => return Err(Error::UnknownParent),
        Some(false) => return Err(Error::DeletedParent),
        Some(true) => {}
    }
    let written = sqlx::query(
        "INSERT INTO children AS c (id, parent_id, age_group) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET
            parent_id = excluded.parent_id, age_group = excluded.age_group, updated_at = now()
         WHERE c.deleted_at IS NULL",
    )
    .bind(id.uuid())
    .bind(parent.uuid())
    .bind(age_group.as_str())
    .execute(&mut *transaction)
    .await?;
    if written.rows_affected() == 0 {
        return Err(Error::Deleted);
    }
    record(
        &mut transaction,
        Entry::done(Action::PutChild).child(id.uuid()),
    )
    .await?;
    Ok(transaction.commit().await?)
}

/// What is registered of a parent, deleted or not, as JSON. Its children are those that are not deleted; a
/// consent's time is that of its last change, of its version or method too, null where nothing was ever declared of it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`].
pub async fn parent(pool: &PgPool, id: ParentId) -> Result<String, Error> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT json_build_object(
             'parent_id', id, 'timezone', timezone,
             'consents', (SELECT json_object_agg(consent, json_build_object(
                              'granted', granted, 'version', version, 'method', method,
                              'changed_at', (SELECT max(changed_at) FROM consent_changes c
                                             WHERE c.parent_id = p.id AND c.consent = now.consent)))
                          FROM (VALUES ('coppa', coppa, coppa_version, coppa_method),
                                       ('audio', audio, audio_version, audio_method),
                                       ('analytics', analytics, analytics_version, analytics_method))
                              AS now (consent, granted, version, method)),
             'streaks', streaks,
             'children', ARRAY(SELECT c.id FROM children c
                               WHERE c.parent_id = p.id AND c.deleted_at IS NULL
                               ORDER BY c.created_at, c.id),
             'created_at', created_at, 'updated_at', updated_at,
             'deleted', deleted_at IS NOT NULL, 'deleted_at', deleted_at)::text
         FROM parents p WHERE id = $1",
    )
    .bind(id.uuid())
    .fetch_optional(pool)
    .await?;
    found.ok_or(Error::NotFound)
}

/// What is registered of a child, deleted or not, as JSON.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`].
pub async fn child(pool: &PgPool, id: ChildId) -> Result<String, Error> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT json_build_object(
             'child_id', id, 'parent_id', parent_id, 'age_group', age_group,
             'created_at', created_at, 'updated_at', updated_at,
             'deleted', deleted_at IS NOT NULL, 'deleted_at', deleted_at)::text
         FROM children WHERE id = $1",
    )
    .bind(id.uuid())
    .fetch_optional(pool)
    .await?;
    found.ok_or(Error::NotFound)
}

/// Marks a parent and all of its children deleted. Doing it again changes nothing.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`].
pub async fn delete_parent(pool: &PgPool, id: ParentId) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let marked = mark(
        &mut transaction,
        "UPDATE parents SET deleted_at = coalesce(deleted_at, now()), updated_at = now()
         WHERE id = $1",
        id.uuid(),
    )
    .await?;
    if marked == 0 {
        return Err(Error::NotFound);
    }
    // The children are marked too, so that none of them can move to another parent afterwards.
    let children = mark(
        &mut transaction,
        "UPDATE children SET deleted_at = now(), updated_at = now()
         WHERE id IN (SELECT id FROM children WHERE parent_id = $1 AND deleted_at IS NULL
                      ORDER BY id FOR UPDATE)",
        id.uuid(),
    )
    .await?;
    let entry = Entry::done(Action::DeleteParent).parent(id.uuid());
    record(&mut transaction, entry.detail("children", children)).await?;
    Ok(transaction.commit().await?)
}

/// Marks a child deleted. Doing it again changes nothing.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Database`].
pub async fn delete_child(pool: &PgPool, id: ChildId) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let parent: Option<uuid::Uuid> = sqlx::query_scalar(
        "SELECT p.id FROM parents p JOIN children c ON c.parent_id = p.id WHERE c.id = $1
         FOR SHARE OF p",
    )
    .bind(id.uuid())
    .fetch_optional(&mut *transaction)
    .await?;
    if parent.is_none() {
        return Err(Error::NotFound);
    }
    mark(
        &mut transaction,
        "UPDATE children SET deleted_at = coalesce(deleted_at, now()), updated_at = now()
         WHERE id = $1",
        id.uuid(),
    )
    .await?;
    record(
        &mut transaction,
        Entry::done(Action::DeleteChild).child(id.uuid()),
    )
    .await?;
    Ok(transaction.commit().await?)
}

async fn mark(
    connection: &mut PgConnection,
    update: &'static str,
    id: uuid::Uuid,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(update).bind(id).execute(connection).await?;
    Ok(done.rows_affected())
}
