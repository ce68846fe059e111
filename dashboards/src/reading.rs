//! One request's view of PostgreSQL: a snapshot, of what the viewer may see, for a bounded time.

use chrono::{DateTime, NaiveDate, Utc};
use rivulet_events::{ChildId, ParentId};
use rivulet_telemetry::Span;
use rivulet_zones::Zone;
use sqlx::{FromRow, PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::{problem::Problem, share::Permit, viewer::Viewer};

/// A query may take three seconds, because it holds a connection that others need. The queries here take milliseconds:
/// they read along a key and stop, however much there is of a child. PostgreSQL must not choose, by outdated statistics
/// of a table that has grown, to read all rows of a child and sort them, or to compile what it does once.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL statement_timeout = '3s';
    SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off";

pub(crate) const NO_CHILD: Problem = Problem::NotFound("no child of this id can be seen here");
const NO_FAMILY: Problem = Problem::NotFound("no family of this id can be seen here");

/// A read-only transaction. For a parent everything after the registry was asked is read as the role
/// `rivulet_parent`; both settings end with the transaction, so the connection's next user has neither.
pub(crate) struct Reading {
    pub(crate) tx: Transaction<'static, Postgres>,
    /// The family's time zone.
    pub(crate) timezone: Zone,
    /// Today's date in that time zone.
    pub(crate) today: NaiveDate,
    /// Whether the family is shown streaks.
    pub(crate) streaks: bool,
    /// The span of the reading, if the request is traced.
    _span: Option<Span>,
    /// The caller's permit for the connection.
    _permit: Option<Permit>,
}

/// A child of a family.
#[derive(FromRow)]
pub(crate) struct Member {
    pub(crate) id: Uuid,
    pub(crate) age_group: String,
    pub(crate) created_at: DateTime<Utc>,
}

impl Reading {
    /// A reading of a child that the viewer may see. `request` is the span of the request, if it is traced.
    pub(crate) async fn child(
        pool: &PgPool,
        viewer: Viewer,
        child: ChildId,
        now: DateTime<Utc>,
        request: Option<&Span>,
    ) -> Result<Self, Problem> {
        let span = request.map(span);
        let mut tx = begin(pool).await?;
        let (parent, timezone, streaks) = registered(&mut tx, child).await?;
        if !viewer.may_see(parent) {
            return Err(NO_CHILD);
        }
        Self::of(tx, viewer, &timezone, streaks, now, span).await
    }

    /// A reading of a child as its parent sees it, and the parent. It is for everybody who may see the child.
    pub(crate) async fn as_parent(
        pool: &PgPool,
        child: ChildId,
        now: DateTime<Utc>,
    ) -> Result<(Self, ParentId), Problem> {
        let mut tx = begin(pool).await?;
        let (parent, timezone, streaks) = registered(&mut tx, child).await?;
        let parent = ParentId::new(parent);
        let viewer = Viewer::Parent(parent);
        let reading = Self::of(tx, viewer, &timezone, streaks, now, None).await?;
        Ok((reading, parent))
    }

    /// A reading of a family that the viewer may see, with at most so many of its children, in the order in which they
    /// were registered, that come after one of them.
    pub(crate) async fn family(
        pool: &PgPool,
        viewer: Viewer,
        parent: ParentId,
        after: Option<(DateTime<Utc>, Uuid)>,
        most: i64,
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
        let members = sqlx::query_as(
            "SELECT id, age_group, created_at FROM children WHERE parent_id = $1 AND deleted_at IS NULL
                 AND ($2::timestamptz IS NULL OR (created_at, id) > ($2, $3))
             ORDER BY created_at, id LIMIT $4",
        )
        .bind(parent.uuid())
        .bind(after.map(|(created_at, _)| created_at))
        .bind(after.map(|(_, id)| id))
        .bind(most)
        .fetch_all(&mut *tx)
        .await?;
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
            _permit: None,
        })
    }

    /// Keeps the permit for as long as the reading lasts.
    pub(crate) fn holding(self, permit: Permit) -> Self {
        Self {
            _permit: Some(permit),
            ..self
        }
    }
}

fn span(request: &Span) -> Span {
    request.database_call("read", "postgresql")
}

impl Viewer {
    fn may_see(self, family: Uuid) -> bool {
        match self {
            Self::Product(_) => true,
            Self::Parent(parent) => parent.uuid() == family,
        }
    }
}

/// A child's parent, with the family's time zone and whether it is shown streaks.
async fn registered(
    tx: &mut Transaction<'static, Postgres>,
    child: ChildId,
) -> Result<(Uuid, String, bool), Problem> {
    let found: Option<(Uuid, String, bool)> = sqlx::query_as(
        "SELECT p.id, p.timezone, p.streaks FROM children c JOIN parents p ON p.id = c.parent_id
         WHERE c.id = $1 AND c.deleted_at IS NULL AND p.deleted_at IS NULL",
    )
    .bind(child.uuid())
    .fetch_optional(&mut **tx)
    .await?;
    found.ok_or(NO_CHILD)
}

async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    pool.begin_with(BEGIN).await
}
