//! A child's learning, in pages that cost the same however many subjects there are.

use std::sync::Arc;

use axum::{extract::State, http::request::Parts, response::Response};
use chrono::NaiveDate;
use rivulet_events::ChildId;
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::AssertSqlSafe;
use utoipa::IntoParams;

use crate::{
    answers::Learning,
    app::{App, Id, answer, open},
    cursor::{self, FOREIGN, Position},
    date_range::{self, DateRange},
    described::{Conditional, OfChild, Refusals, Unchanged},
    period::Period,
    problem::Problem,
    reading::Reading,
    rows::{Metric, fitting},
};

/// Subjects of periods in one answer.
const GROUPS: usize = 500;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LearningParameters {
    /// Whether there is one number for each day, week or month.
    #[serde(default)]
    period: Period,
    /// The first day, of the family's time zone. Without it, thirty days up to the last.
    #[serde(default, deserialize_with = "date_range::day")]
    from: Option<NaiveDate>,
    /// The last day, 366 in all at most. Without it, today.
    #[serde(default, deserialize_with = "date_range::day")]
    to: Option<NaiveDate>,
    /// The `next` of the answer that this one goes on from.
    #[serde(default, deserialize_with = "cursor::after")]
    #[param(value_type = Option<String>)]
    after: Option<Position>,
}

/// A child's learning, by period and subject
///
/// The rows of `learning_metrics`, of every period that any of the days is in; those of one period and subject
/// are in one answer. 500 subjects of periods, and 512 KiB, are in one answer at most: `next` leads on.
#[utoipa::path(
    get,
    path = "/v1/children/{id}/learning",
    tag = "reading",
    params(OfChild, LearningParameters, Conditional),
    responses(
        (status = 200, description = "Numbers to chart", body = Learning,
         headers(("ETag" = String, description = "For `If-None-Match`."))),
        Unchanged,
        Refusals,
    ),
)]
pub(crate) async fn learning(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    answer(&parts.headers, async {
        let (asked, child, mut reading): (LearningParameters, _, _) =
            open(&app, &parts, id).await?;
        let dates = DateRange::of(asked.from, asked.to, reading.today)?;
        let after = match asked.after {
            None => None,
            Some(Position::Learning(period, subject)) => Some((period, subject)),
            Some(_) => return Err(FOREIGN),
        };
        let (metrics, next) = page(&mut reading, child, asked.period.of(dates), after).await?;
        Ok(Learning {
            child_id: child.uuid(),
            timezone: reading.timezone.name(),
            today: reading.today,
            period: asked.period.as_str(),
            from: dates.from,
            to: dates.to,
            metrics,
            next: next.as_ref().map(Position::to_string),
        })
    })
    .await
}

/// The metrics of the first subjects of the periods after a position, and where the next page goes on.
///
/// A page has the first subjects of a period, bytewise. So they are among the first of each of its days, and only that
/// many rows of each day are read by the key, even if there are a hundred thousand subjects.
async fn page(
    reading: &mut Reading,
    child: ChildId,
    periods: Vec<(NaiveDate, NaiveDate)>,
    after: Option<(NaiveDate, String)>,
) -> Result<(Box<RawValue>, Option<Position>), Problem> {
    let (place, subject) = after.unzip();
    let (starts, ends): (Vec<_>, Vec<_>) = periods
        .into_iter()
        .filter(|(start, _)| Some(*start) >= place)
        .unzip();
    let sql = format!(
        "SELECT {METRIC} FROM (
             SELECT period_start, s.*
             FROM (SELECT * FROM unnest($2::date[], $3::date[]) AS p (period_start, last_day)
                   ORDER BY period_start) AS p
             CROSS JOIN LATERAL (
                 SELECT subject, sum(interactions)::bigint AS interactions, sum(starts)::bigint AS starts,
                        sum(completions)::bigint AS completions, sum(answers)::bigint AS answers,
                        sum(correct_answers)::bigint AS correct_answers, sum(skips)::bigint AS skips,
                        sum(response_time_ms)::bigint AS response_time_ms,
                        sum(response_time_count)::bigint AS response_time_count,
                        sum(duration_ms)::bigint AS duration_ms,
                        sum(difficulty_sum)::bigint AS difficulty_sum,
                        sum(difficulty_count)::bigint AS difficulty_count,
                        sum(rating_sum)::bigint AS rating_sum, sum(rating_count)::bigint AS rating_count
                 FROM generate_series(0, last_day - period_start) AS n
                 CROSS JOIN LATERAL (
                     SELECT * FROM learning_analytics
                     WHERE child_id = $1 AND local_date = period_start + n
                         -- Which partitions there are to look into, before each day is looked for.
                         AND local_date BETWEEN $4 AND $5
                         AND subject > CASE WHEN period_start = $6 THEN $7 ELSE '' END
                     ORDER BY subject LIMIT {GROUPS} + 1
                 ) AS day
                 GROUP BY subject ORDER BY subject LIMIT {GROUPS} + 1
             ) AS s
             ORDER BY period_start, subject LIMIT {GROUPS} + 1
         ) AS s
         -- Whatever there is has an interaction, and so one number at least.
         CROSS JOIN LATERAL learning_metrics_of(
             interactions, starts, completions, answers, correct_answers, skips, response_time_ms,
             response_time_count, duration_ms, difficulty_sum, difficulty_count, rating_sum, rating_count
         ) AS m
         ORDER BY period_start, subject, metric_type COLLATE \"C\"",
        METRIC = Metric::COLUMNS,
    );
    let found: Vec<Metric> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(child.uuid())
        .bind(&starts)
        .bind(&ends)
        .bind(starts.first())
        .bind(ends.last())
        .bind(place)
        .bind(subject)
        .fetch_all(&mut *reading.tx)
        .await?;
    let (metrics, last) = fitting(&found, |one, other| one.group() == other.group(), GROUPS)?;
    let next = last.map(|metric| {
        let (period, subject) = metric.group();
        Position::Learning(period, subject.to_owned())
    });
    Ok((metrics, next))
}
