//! One request's view of PostgreSQL: a snapshot, of what the viewer may see.

use chrono::{DateTime, NaiveDate, Utc};
use rivulet_events::{ChildId, ParentId};
use rivulet_telemetry::Span;
use rivulet_zones::Zone;
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::{problem::Problem, viewer::Viewer};

const NO_CHILD: Problem = Problem::NotFound("no child of this id can be seen here");
const NO_FAMILY: Problem = Problem::NotFound("no family of this id can be seen here");

/// A read-only transaction. For a parent everything after the registry was asked is read as the role
/// `rivulet_parent`; both settings end with the transaction, so the connection's next user has neither.
pub(crate) struct Reading {
    pub(crate) tx: Transaction<'static, Postgres>,
    /// The family's time zone.
    pub(crate) timezone: Zone,
    /// The day that it is there.
    pub(crate) today: NaiveDate,
    /// Whether the family is shown streaks.
    pub(crate) streaks: bool,
    /// Ends with it, where the request is traced.
    _span: Option<Span>,
}

/// A child of a family.
pub(crate) struct Member {
    pub(crate) id: Uuid,
    pub(crate) age_group: String,
}

impl Reading {
    /// Of a child that the viewer may see. `request`: the span of the request, where that is traced.
    pub(crate) async fn child(
        pool: &PgPool,
        viewer: Viewer,
        child: ChildId,
        now: DateTime<Utc>,
        request: Option<&Span>,
    ) -> Result<Self, Problem> {
        let span = request.map(span);
        let mut tx = begin(pool).await?;
        let found: Option<(Uuid, String, bool)> = sqlx::query_as(
            "SELECT p.id, p.timezone, p.streaks FROM children c JOIN parents p ON p.id = c.parent_id
             WHERE c.id = $1 AND c.deleted_at IS NULL AND p.deleted_at IS NULL",
        )
        .bind(child.uuid())
        .fetch_optional(&mut *tx)
        .await?;
        let (parent, timezone, streaks) = found.ok_or(NO_CHILD)?;
        if !viewer.may_see(parent) {
            return Err(NO_CHILD);
        }
        Self::of(tx, viewer, &timezone, streaks, now, span).await
    }

    /// Of a family that the viewer may see, with its children.
    pub(crate) async fn family(
        pool: &PgPool,
        viewer: Viewer,
        parent: ParentId,
        now: DateTime<Utc>,
        request: Option<&Span>,
    ) -> Result<(Self, Vec<Member>), Problem> {
        if !viewer.may_see(parent.uuid()) {
            return Err(NO_FAMILY);
        }
        let span = request.map(span);
        let mut tx = begin(pool).await?;
        let found: Option<(String, bool)> = sqlx::query_as(
            "SELECT timezone, streaks FROM parents WHERE id = $1 AND deleted_at IS NULL",
        )
        .bind(parent.uuid())
        .fetch_optional(&mut *tx)
        .await?;
        let (timezone, streaks) = found.ok_or(NO_FAMILY)?;
        let members: Vec<(Uuid, String)> = sqlx::query_as(
            "SELECT id, age_group FROM children WHERE parent_id = $1 AND deleted_at IS NULL
             ORDER BY created_at, id",
        )
        .bind(parent.uuid())
        .fetch_all(&mut *tx)
        .await?;
        let members = members
            .into_iter()
            .map(|(id, age_group)| Member { id, age_group })
            .collect();
        let reading = Self::of(tx, viewer, &timezone, streaks, now, span).await?;
        Ok((reading, members))
    }

    async fn of(
        mut tx: Transaction<'static, Postgres>,
        viewer: Viewer,
        timezone: &str,
        streaks: bool,
        now: DateTime<Utc>,
        span: Option<Span>,
    ) -> Result<Self, Problem> {
        if let Viewer::Parent(parent) = viewer {
            // As with SET LOCAL: until the end of the transaction.
            sqlx::query(
                "SELECT set_config('rivulet.parent_id', $1, true), set_config('role', 'rivulet_parent', true)",
            )
            .bind(parent.uuid().to_string())
            .execute(&mut *tx)
            .await?;
        }
        // The registry takes no zone that is not known; one that another node knows from newer rules may be
        // new here.
        let timezone = Zone::named(timezone).unwrap_or_else(Zone::utc);
        Ok(Self {
            tx,
            timezone,
            today: now.with_timezone(&timezone).date_naive(),
            streaks,
            _span: span,
        })
    }
}

fn span(request: &Span) -> Span {
    request.store("read", "postgresql")
}

impl Viewer {
    fn may_see(self, family: Uuid) -> bool {
        match self {
            Self::Product(_) => true,
            Self::Parent(parent) => parent.uuid() == family,
        }
    }
}

async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
}
