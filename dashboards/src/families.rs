//! A family's children, in pages.

use std::sync::Arc;

use axum::{extract::State, http::request::Parts, response::Response};
use chrono::{Days, NaiveDate, Utc};
use rivulet_events::ParentId;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::{
    answers::{CHILDREN, Family},
    app::{App, Id, answer, authenticate, parameters, uuid},
    cursor::{self, FOREIGN, Position},
    described::{Conditional, OfFamily, Refusals, Unchanged},
    period::monday,
    problem::Problem,
    reading::{Member, Reading},
    rows::{self, BYTES, ChildOfFamily, Page},
};

/// How many are read at once: of two weeks that name as much as they may, a child takes half a megabyte.
const TOGETHER: usize = 8;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct FamilyParameters {
    /// The `next` of the answer that this one goes on from.
    #[serde(default, deserialize_with = "cursor::after")]
    #[param(value_type = Option<String>)]
    after: Option<Position>,
}

/// A family's children side by side
///
/// Of each the streak, this week and the one before, in the order in which they were registered. 100 children,
/// and 512 KiB unless one child has more, are in one answer at most: `next` leads on.
#[utoipa::path(
    get,
    path = "/v1/families/{id}",
    tag = "reading",
    params(OfFamily, FamilyParameters, Conditional),
    responses(
        (status = 200, description = "Its children", body = Family,
         headers(("ETag" = String, description = "For `If-None-Match`."))),
        Unchanged,
        Refusals,
    ),
)]
pub(crate) async fn family(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    answer(&parts.headers, async {
        let viewer = authenticate(&app, &parts).await?;
        let asked: FamilyParameters = parameters(&parts)?;
        let parent = ParentId::new(uuid(id)?);
        let after = match asked.after {
            None => None,
            Some(Position::Child(created_at, id)) => Some((created_at, id)),
            Some(_) => return Err(FOREIGN),
        };
        let permit = app.shares.take(viewer, parts.extensions.get()).await?;
        let most = CHILDREN as i64 + 1;
        let (reading, members) = Reading::family(
            &app.pool,
            viewer,
            parent,
            after,
            most,
            Utc::now(),
            parts.extensions.get(),
        )
        .await?;
        let mut reading = reading.holding(permit);
        let this_week = monday(reading.today);
        let shown = &members[..members.len().min(CHILDREN)];
        let children = children(&mut reading, shown, this_week).await?;
        let last = children
            .len()
            .checked_sub(1)
            .and_then(|last| members.get(last));
        let next = last.filter(|_| children.len() < members.len());
        Ok(Family {
            parent_id: parent.uuid(),
            timezone: reading.timezone.name(),
            today: reading.today,
            week_start: this_week,
            streaks: reading.streaks,
            next: next.map(|child| Position::Child(child.created_at, child.id).to_string()),
            children: rows::array(children.iter().map(String::as_str))?,
        })
    })
    .await
}

/// As many of the children as fit into one answer.
async fn children(
    reading: &mut Reading,
    members: &[Member],
    this_week: NaiveDate,
) -> Result<Vec<String>, Problem> {
    let last_week = this_week
        .checked_sub_days(Days::new(7))
        .unwrap_or(this_week);
    let week = "SELECT to_jsonb(w) - 'child_id' - 'week_start' FROM weekly_summaries w WHERE w.child_id = m.child_id";
    let rows = format!(
        "SELECT place, row_to_json(c)::text AS json
         FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS m (child_id, age_group, place)
         CROSS JOIN LATERAL (
             SELECT {CHILD} FROM (SELECT
                 CASE WHEN $3 THEN streak_as_of(m.child_id, $4) END AS streak_today,
                 (SELECT last_active_date FROM streaks s WHERE s.child_id = m.child_id) AS last_active_date,
                 ({week} AND week_start = $5) AS this_week,
                 ({week} AND week_start = $6) AS last_week) AS weeks
         ) AS c",
        CHILD = ChildOfFamily::COLUMNS,
    );
    let mut children: Vec<String> = Vec::with_capacity(members.len());
    let mut bytes = 0;
    for some in members.chunks(TOGETHER) {
        let page = Page {
            rows: &rows,
            keys: "place",
            order: "place",
            most: TOGETHER,
            bytes: BYTES.saturating_sub(bytes),
        };
        let ids: Vec<Uuid> = some.iter().map(|member| member.id).collect();
        let ages: Vec<&str> = some
            .iter()
            .map(|member| member.age_group.as_str())
            .collect();
        let found: Vec<(String, i64, i64)> = sqlx::query_as(page.sql())
            .bind(&ids)
            .bind(&ages)
            .bind(reading.streaks)
            .bind(reading.today)
            .bind(this_week)
            .bind(last_week)
            .fetch_all(&mut *reading.tx)
            .await?;
        let is_whole = found.len() == some.len();
        for (json, ..) in found {
            bytes += json.len() + 1;
            if bytes > BYTES && !children.is_empty() {
                return Ok(children);
            }
            children.push(json);
        }
        if !is_whole {
            break;
        }
    }
    Ok(children)
}
