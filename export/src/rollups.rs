//! What PostgreSQL has of a child: one snapshot, for a parent through row level security.

use futures_util::TryStreamExt as _;
use serde_json::{Map, Value, json};
use sqlx::{
    AssertSqlSafe, Executor, FromRow, PgPool, Postgres, Row as _, Transaction, postgres::PgRow,
};
use uuid::Uuid;

use crate::{
    Error, Subject,
    archive::Archive,
    csv,
    fields::{CONSENT_CHANGES, Field, Kind},
};

/// As other reads of a child: along the keys, however much there is. Times are printed as UTC.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL statement_timeout = '60s'; SET LOCAL timezone = 'UTC';
    SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off";

/// RFC 3339 in UTC, to the microsecond.
const TIME: &str = r#"'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"#;

/// A child that is exported, as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Child {
    pub(crate) id: Uuid,
    pub(crate) parent_id: Uuid,
    pub(crate) age_group: String,
    pub(crate) timezone: String,
    pub(crate) streaks: bool,
}

/// The numbers of the page, over all days.
#[derive(Debug, Default, FromRow)]
pub(crate) struct Totals {
    pub(crate) first_day: Option<chrono::NaiveDate>,
    pub(crate) last_day: Option<chrono::NaiveDate>,
    pub(crate) days: i64,
    pub(crate) events: i64,
    pub(crate) withheld_events: i64,
    pub(crate) sessions: i64,
    pub(crate) active_ms: i64,
    pub(crate) interactions: i64,
    pub(crate) completions: i64,
    pub(crate) answers: i64,
    pub(crate) correct_answers: i64,
    pub(crate) messages_sent: i64,
    pub(crate) messages_received: i64,
    pub(crate) questions_asked: i64,
    pub(crate) speech_windows: i64,
    pub(crate) speech_ms: i64,
    pub(crate) child_words: i64,
}

/// The children that are exported, in the order of their registration.
pub(crate) async fn children<'e>(
    from: impl Executor<'e, Database = Postgres>,
    subject: Subject,
    viewer: Option<Uuid>,
) -> Result<Vec<Child>, Error> {
    let (child, parent) = match subject {
        Subject::Child(id) => (Some(id), None),
        Subject::Parent(id) => (None, Some(id)),
    };
    let rows = sqlx::query(
        "SELECT c.id, p.id AS parent_id, c.age_group, p.timezone, p.streaks
         FROM parents p LEFT JOIN children c ON c.parent_id = p.id AND c.deleted_at IS NULL
         WHERE p.deleted_at IS NULL AND ($3::uuid IS NULL OR p.id = $3)
             AND (p.id = $2 OR ($2 IS NULL AND c.id = $1))
         ORDER BY c.created_at, c.id",
    )
    .bind(child)
    .bind(parent)
    .bind(viewer)
    .fetch_all(from)
    .await?;
    if rows.is_empty() {
        return Err(Error::Unknown);
    }
    let has_child = |row: &&PgRow| !matches!(row.try_get::<Option<Uuid>, _>(0), Ok(None));
    let children: Result<Vec<Child>, sqlx::Error> =
        rows.iter().filter(has_child).map(Child::from_row).collect();
    match children? {
        children if children.is_empty() => Err(Error::NoChildren),
        children => Ok(children),
    }
}

/// A snapshot of PostgreSQL.
pub(crate) struct Snapshot {
    tx: Transaction<'static, Postgres>,
    /// The parent as whom rollups are read.
    viewer: Option<Uuid>,
}

impl Snapshot {
    pub(crate) async fn begin(pool: &PgPool, viewer: Option<Uuid>) -> Result<Self, Error> {
        let tx = pool.begin_with(BEGIN).await?;
        Ok(Self { tx, viewer })
    }

    pub(crate) async fn children(&mut self, subject: Subject) -> Result<Vec<Child>, Error> {
        children(&mut *self.tx, subject, self.viewer).await
    }

    /// What the parent consents to, and every change. It is read before [`Self::as_viewer`], like the registry.
    pub(crate) async fn consents(&mut self, parent: Uuid) -> Result<Value, Error> {
        let now: Value = sqlx::query_scalar(
            "SELECT json_build_object('coppa', coppa, 'audio', audio, 'analytics', analytics)
             FROM parents WHERE id = $1",
        )
        .bind(parent)
        .fetch_one(&mut *self.tx)
        .await?;
        let columns: Vec<_> = CONSENT_CHANGES
            .iter()
            .map(|(name, kind, ..)| format!("'{name}', {}", expression(name, *kind)))
            .collect();
        let sql = format!(
            "SELECT json_build_object({}) FROM consent_changes WHERE parent_id = $1 ORDER BY id",
            columns.join(", ")
        );
        let history: Vec<Value> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(parent)
            .fetch_all(&mut *self.tx)
            .await?;
        Ok(json!({"parent_id": parent, "now": now, "history": history}))
    }

    /// From here on a parent's export reads as that parent.
    pub(crate) async fn as_viewer(&mut self) -> Result<(), Error> {
        if let Some(parent) = self.viewer {
            sqlx::query(
                "SELECT set_config('rivulet.parent_id', $1, true), set_config('role', 'rivulet_parent', true)",
            )
            .bind(parent.to_string())
            .execute(&mut *self.tx)
            .await?;
        }
        Ok(())
    }

    pub(crate) async fn totals(&mut self, child: Uuid) -> Result<Totals, Error> {
        let totals = sqlx::query_as(
            "SELECT min(local_date) AS first_day, max(local_date) AS last_day, count(*) AS days,
                 coalesce(sum(events), 0)::bigint AS events, coalesce(sum(withheld_events), 0)::bigint AS withheld_events,
                 coalesce(sum(sessions), 0)::bigint AS sessions, coalesce(sum(active_ms), 0)::bigint AS active_ms,
                 coalesce(sum(interactions), 0)::bigint AS interactions,
                 coalesce(sum(completions), 0)::bigint AS completions,
                 coalesce(sum(answers), 0)::bigint AS answers,
                 coalesce(sum(correct_answers), 0)::bigint AS correct_answers,
                 coalesce(sum(messages_sent), 0)::bigint AS messages_sent,
                 coalesce(sum(messages_received), 0)::bigint AS messages_received,
                 coalesce(sum(questions_asked), 0)::bigint AS questions_asked,
                 coalesce(sum(speech_windows), 0)::bigint AS speech_windows,
                 coalesce(sum(speech_ms), 0)::bigint AS speech_ms,
                 coalesce(sum(child_words), 0)::bigint AS child_words
             FROM daily_child_metrics WHERE child_id = $1",
        );
        Ok(totals.bind(child).fetch_one(&mut *self.tx).await?)
    }

    /// The row of `streaks`, or what it would be before the first active day.
    pub(crate) async fn streak(&mut self, child: &Child, fields: &[Field]) -> Result<Value, Error> {
        let of_row = |field: &&Field| {
            !matches!(
                field.name.as_str(),
                "child_id" | "timezone" | "shown" | "active_days"
            )
        };
        let columns: Vec<_> = fields
            .iter()
            .filter(of_row)
            .map(|field| format!("'{}', {}", field.name, expression(&field.name, field.kind)))
            .collect();
        let sql = format!(
            "SELECT json_build_object({}, 'active_days', (
                 SELECT json_agg(json_build_object('from', lower(r), 'to', upper(r) - 1) ORDER BY r)
                 FROM unnest(active_days) r))
             FROM streaks WHERE child_id = $1",
            columns.join(", ")
        );
        let row: Option<Value> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(child.id)
            .fetch_optional(&mut *self.tx)
            .await?;
        let mut row = row.unwrap_or_default();
        let mut streak = Map::new();
        for field in fields {
            let value = match field.name.as_str() {
                "child_id" => json!(child.id),
                "timezone" => json!(child.timezone),
                "shown" => json!(child.streaks),
                name => match row[name].take() {
                    Value::Null if field.nullable => Value::Null,
                    Value::Null if field.kind == Kind::Integer => json!(0),
                    Value::Null => json!([]),
                    value => value,
                },
            };
            streak.insert(field.name.clone(), value);
        }
        Ok(Value::Object(streak))
    }

    /// Writes the rows of a table, in the order of its key, as CSV.
    pub(crate) async fn csv<W: std::io::Write + Send + 'static>(
        &mut self,
        child: Uuid,
        (table, order): (&str, &str),
        fields: &[Field],
        to: &mut Archive<W>,
    ) -> Result<(), Error> {
        csv::header(&mut to.text, fields.iter().map(|field| field.name.as_str()));
        let columns: Vec<_> = fields
            .iter()
            .map(|field| expression(&field.name, field.kind))
            .collect();
        let columns: Vec<_> = columns
            .into_iter()
            .map(|column| format!("({column})::text"))
            .collect();
        let sql = format!(
            "SELECT {} FROM {table} WHERE child_id = $1 ORDER BY {order}",
            columns.join(", ")
        );
        let mut rows = sqlx::query(AssertSqlSafe(sql))
            .bind(child)
            .fetch(&mut *self.tx);
        while let Some(row) = rows.try_next().await? {
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    to.text.push(b',');
                }
                let value: Option<&str> = row.try_get(index)?;
                match value {
                    Some(text) if field.kind.is_free() => csv::guarded(&mut to.text, text),
                    Some(text) => csv::cell(&mut to.text, text.as_bytes()),
                    None => {}
                }
            }
            to.text.extend_from_slice(b"\r\n");
            to.settle().await?;
        }
        Ok(())
    }
}

/// SQL for a column. Its name is one of those that this program declares.
fn expression(name: &str, kind: Kind) -> String {
    match kind {
        Kind::Time => format!("to_char({name}, {TIME})"),
        Kind::List => format!("to_json({name})"),
        _ => name.to_owned(),
    }
}
