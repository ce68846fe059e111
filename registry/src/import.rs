//! Many families at once, from NDJSON.

use std::collections::{BTreeMap, BTreeSet};

use rivulet_auditlog::{Action, Entry, record};
use rivulet_events::data::AgeGroup;
use rivulet_zones::Zone;
use serde_json::Value;
use sqlx::PgPool;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, Lines};
use uuid::Uuid;

use crate::{
    consents::{Consent, Consents, columns},
    declarations::{Invalid, age_group, consents, id, streaks, timezone},
    json::{Unreadable, object},
    revocations, tombstones,
};

/// Families a transaction; a failure undoes at most these.
const CHUNK: usize = 500;

/// What an import wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Lines, each a parent.
    pub parents: u64,
    /// Their children.
    pub children: u64,
}

/// Why an import stopped. The families in `imported` are in; running it again from the start is safe.
#[derive(Debug, thiserror::Error)]
#[error(
    "line {line}: {reason} (the first {} families are imported; run it again once this is repaired)",
    imported.parents
)]
pub struct ImportError {
    /// The line to look at, from 1; for an error of the database, the first of its chunk.
    pub line: u64,
    /// What is wrong with it.
    #[source]
    pub reason: Reason,
    /// What was written before.
    pub imported: Imported,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// No JSON object, or one in which a key is given twice.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A field breaks its rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The parent was deleted before.
    #[error("the parent was deleted; deletion is final")]
    DeletedParent,
    /// A child was deleted before.
    #[error("/children/{0} was deleted; deletion is final")]
    DeletedChild(usize),
    /// PostgreSQL did not do it.
    #[error("PostgreSQL: {0}")]
    Database(#[from] sqlx::Error),
}

#[derive(Debug)]
pub(crate) struct Parent {
    line: u64,
    pub(crate) timezone: Zone,
    pub(crate) consents: Consents,
    streaks: Option<bool>,
}

impl Parent {
    /// What a line says of a parent of whom an earlier one said `before`: a consent that it leaves out stays as it was.
    pub(crate) fn after(self, before: &Self) -> Self {
        let consents = Consents {
            coppa: self.consents.coppa.or(before.consents.coppa),
            audio: self.consents.audio.or(before.consents.audio),
            analytics: self.consents.analytics.or(before.consents.analytics),
        };
        Self { consents, ..self }
    }
}

pub(crate) struct Child {
    line: u64,
    /// Its place among the line's children.
    index: usize,
    pub(crate) parent: Uuid,
    pub(crate) age_group: AgeGroup,
}

/// Families that go into one transaction, sorted so that two imports cannot deadlock.
#[derive(Default)]
struct Chunk {
    parents: BTreeMap<Uuid, Parent>,
    children: BTreeMap<Uuid, Child>,
}

/// Registers or changes the families of `{"parent_id", "timezone", "consents", "streaks", "children"}` lines,
/// [`CHUNK`] lines a transaction. The same rules as one PUT for each parent and child.
///
/// # Errors
/// The first line that cannot be imported; nothing of its chunk is written.
pub async fn import(
    reader: impl AsyncBufRead + Unpin,
    pool: &PgPool,
) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    let mut chunk = Chunk::default();
    let mut families = Families::of(reader);
    loop {
        let next = families.next().await.map_err(|reason| ImportError {
            line: families.line(),
            reason,
            imported,
        })?;
        let Some((parent, declared, children)) = next else {
            break;
        };
        // One statement cannot write a row twice; a later line must win.
        let again = chunk.parents.contains_key(&parent)
            || children.keys().any(|id| chunk.children.contains_key(id));
        if again || chunk.parents.len() == CHUNK {
            std::mem::take(&mut chunk)
                .write(pool, &mut imported)
                .await?;
        }
        chunk.parents.insert(parent, declared);
        chunk.children.extend(children);
    }
    chunk.write(pool, &mut imported).await?;
    Ok(imported)
}

/// A parent and its children, as a line declares them.
pub(crate) type Family = (Uuid, Parent, BTreeMap<Uuid, Child>);

/// The families of a file, one after another.
pub(crate) struct Families<R> {
    lines: Lines<R>,
    line: u64,
}

impl<R: AsyncBufRead + Unpin> Families<R> {
    pub(crate) fn of(reader: R) -> Self {
        Self {
            lines: reader.lines(),
            line: 0,
        }
    }

    /// The line of what was read last, from 1.
    pub(crate) const fn line(&self) -> u64 {
        self.line
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Family>, Reason> {
        loop {
            self.line += 1;
            let Some(text) = self.lines.next_line().await? else {
                return Ok(None);
            };
            // A file may begin with a byte order mark, and several of them may have been put together.
            if !text.trim_start_matches('\u{feff}').trim().is_empty() {
                return read(&text, self.line).map(Some);
            }
        }
    }
}

fn read(text: &str, line: u64) -> Result<Family, Reason> {
    let object = object(text.as_bytes())?;
    let parent = id(&object, "parent_id")?;
    let declared = Parent {
        line,
        timezone: timezone(&object)?,
        consents: consents(&object)?,
        streaks: streaks(&object)?,
    };
    let mut children = BTreeMap::new();
    let listed = match object.get("children") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(listed)) => listed,
        Some(_) => return Err(at("/children", "must be an array")),
    };
    for (index, child) in listed.iter().enumerate() {
        let within = |error: Invalid| {
            let pointer = format!("/children/{index}{}", error.pointer);
            at(pointer, error.message)
        };
        let Value::Object(child) = child else {
            return Err(at(format!("/children/{index}"), "must be an object"));
        };
        let declared = Child {
            line,
            index,
            parent,
            age_group: age_group(child).map_err(within)?,
        };
        let child = id(child, "child_id").map_err(within)?;
        if children.insert(child, declared).is_some() {
            let pointer = format!("/children/{index}/child_id");
            return Err(at(pointer, "is given twice in this line"));
        }
    }
    Ok((parent, declared, children))
}

fn at(pointer: impl Into<std::borrow::Cow<'static, str>>, message: &'static str) -> Reason {
    Reason::Invalid(Invalid {
        pointer: pointer.into(),
        message,
    })
}

impl Chunk {
    async fn write(self, pool: &PgPool, imported: &mut Imported) -> Result<(), ImportError> {
        let Some(first) = self.parents.values().map(|parent| parent.line).min() else {
            return Ok(());
        };
        let counts = (self.parents.len() as u64, self.children.len() as u64);
        self.transaction(pool)
            .await
            .map_err(|(line, reason)| ImportError {
                line: line.unwrap_or(first),
                reason,
                imported: *imported,
            })?;
        imported.parents += counts.0;
        imported.children += counts.1;
        Ok(())
    }

    async fn transaction(self, pool: &PgPool) -> Result<(), (Option<u64>, Reason)> {
        let database = |error: sqlx::Error| (None, error.into());
        let given = self.parents.iter();
        let given = given.filter(|(_, parent)| parent.consents.give_any());
        let parents: Vec<Uuid> = given.map(|(id, _)| *id).collect();
        let children: Vec<Uuid> = self.children.keys().copied().collect();
        let settled = revocations::settle_families(pool, &parents, &children).await;
        settled.map_err(database)?;
        let mut transaction = pool.begin().await.map_err(database)?;
        tombstones::hold(&mut transaction).await.map_err(database)?;
        let parents: Vec<Uuid> = self.parents.keys().copied().collect();
        let erased = tombstones::erased_parents(&mut transaction, &parents).await;
        if let Some(parent) = erased.map_err(database)?.first() {
            return Err((Some(self.parents[parent].line), Reason::DeletedParent));
        }
        let children: Vec<Uuid> = self.children.keys().copied().collect();
        let erased = tombstones::erased(&mut transaction, &children).await;
        if let Some(child) = erased.map_err(database)?.first() {
            let child = &self.children[child];
            return Err((Some(child.line), Reason::DeletedChild(child.index)));
        }

        let ids: Vec<Uuid> = self.parents.keys().copied().collect();
        let zones: Vec<&str> = self.parents.values().map(|p| p.timezone.name()).collect();
        let given = |of: fn(&Consents) -> &Option<Consent>| -> (Vec<_>, Vec<_>, Vec<_>) {
            let declared = self.parents.values().map(|parent| of(&parent.consents));
            declared.map(|consent| columns(consent.as_ref())).collect()
        };
        let coppa = given(|consents| &consents.coppa);
        let audio = given(|consents| &consents.audio);
        let analytics = given(|consents| &consents.analytics);
        let streaks: Vec<_> = self.parents.values().map(|parent| parent.streaks).collect();
        // Three steps, because a consent that is left out must stay as it was. The second takes the
        // locks in order, the third in whatever order the planner likes.
        sqlx::query(
            "INSERT INTO parents (id, timezone) SELECT * FROM unnest($1::uuid[], $2::text[])
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(&ids)
        .bind(&zones)
        .execute(&mut *transaction)
        .await
        .map_err(database)?;
        sqlx::query("SELECT FROM parents WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE")
            .bind(&ids)
            .execute(&mut *transaction)
            .await
            .map_err(database)?;
        let written: BTreeSet<Uuid> = sqlx::query_scalar(
            "UPDATE parents p SET
                timezone = g.timezone,
                coppa = coalesce(g.coppa, p.coppa),
                coppa_version = CASE WHEN g.coppa IS NULL THEN p.coppa_version ELSE g.coppa_version END,
                coppa_method = coalesce(g.coppa_method, p.coppa_method),
                audio = coalesce(g.audio, p.audio),
                audio_version = CASE WHEN g.audio IS NULL THEN p.audio_version ELSE g.audio_version END,
                audio_method = coalesce(g.audio_method, p.audio_method),
                analytics = coalesce(g.analytics, p.analytics),
                analytics_version =
                    CASE WHEN g.analytics IS NULL THEN p.analytics_version ELSE g.analytics_version END,
                analytics_method = coalesce(g.analytics_method, p.analytics_method),
                streaks = coalesce(g.streaks, p.streaks),
                updated_at = now()
             FROM unnest($1::uuid[], $2::text[], $3::bool[], $4::text[], $5::text[], $6::bool[], $7::text[], $8::text[],
                         $9::bool[], $10::text[], $11::text[], $12::bool[])
                AS g (id, timezone, coppa, coppa_version, coppa_method, audio, audio_version, audio_method,
                      analytics, analytics_version, analytics_method, streaks)
             WHERE p.id = g.id AND p.deleted_at IS NULL
             RETURNING p.id",
        )
        .bind(&ids)
        .bind(&zones)
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
        .fetch_all(&mut *transaction)
        .await
        .map_err(database)?
        .into_iter()
        .collect();
        for (id, parent) in &self.parents {
            if !written.contains(id) {
                return Err((Some(parent.line), Reason::DeletedParent));
            }
        }

        let ids: Vec<Uuid> = self.children.keys().copied().collect();
        let parents: Vec<Uuid> = self.children.values().map(|c| c.parent).collect();
        let groups: Vec<&str> = self
            .children
            .values()
            .map(|c| c.age_group.as_str())
            .collect();
        let written: BTreeSet<Uuid> = sqlx::query_scalar(
            "INSERT INTO children AS c (id, parent_id, age_group)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[])
             ON CONFLICT (id) DO UPDATE SET
                parent_id = excluded.parent_id, age_group = excluded.age_group, updated_at = now()
             WHERE c.deleted_at IS NULL
             RETURNING id",
        )
        .bind(&ids)
        .bind(&parents)
        .bind(&groups)
        .fetch_all(&mut *transaction)
        .await
        .map_err(database)?
        .into_iter()
        .collect();
        for (id, child) in &self.children {
            if !written.contains(id) {
                return Err((Some(child.line), Reason::DeletedChild(child.index)));
            }
        }
        let of_parents = Entry::done(Action::Import).parents(self.parents.into_keys());
        record(&mut transaction, of_parents)
            .await
            .map_err(database)?;
        if !self.children.is_empty() {
            let of_children = Entry::done(Action::Import).children(self.children.into_keys());
            record(&mut transaction, of_children)
                .await
                .map_err(database)?;
        }
        transaction.commit().await.map_err(database)
    }
}
