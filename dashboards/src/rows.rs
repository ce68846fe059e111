//! What is asked of PostgreSQL both by requests and by live streams.

use chrono::NaiveDate;
use rivulet_events::ChildId;
use serde_json::{Value, json, value::RawValue};

use crate::{problem::Problem, reading::Reading};

/// The columns of a day: all of `daily_child_metrics` but the child.
pub(crate) const DAY: &str = "local_date, events, sessions, active_ms, interactions, starts, answers, \
    correct_answers, hints, skips, completions, response_time_ms, response_time_count, xp, stars, \
    messages_sent, messages_received, questions_asked, conversations_started, aha_moments, \
    messages_filtered, tokens_used, max_depth, speech_windows, speech_ms, child_words, adult_words, \
    conversational_turns, child_vocalizations, utterances, new_words, max_unique_words, topics, badges, \
    qualifying_events, first_event_at, last_event_at, withheld_events, updated_at";

/// JSON as PostgreSQL wrote it: a year of days is 300 kB, which need not be taken apart.
pub(crate) fn raw(json: String) -> Result<Box<RawValue>, Problem> {
    RawValue::from_string(json).map_err(|error| {
        tracing::error!(%error, "PostgreSQL wrote JSON that is none");
        Problem::Unavailable("the numbers cannot be read now")
    })
}

/// Those of these days that have events, in order.
pub(crate) async fn days(
    reading: &mut Reading,
    child: ChildId,
    days: &[NaiveDate],
) -> Result<Vec<(NaiveDate, Box<RawValue>)>, Problem> {
    let sql = format!(
        "SELECT local_date, row_to_json(d)::text FROM (
             SELECT {DAY} FROM daily_child_metrics WHERE child_id = $1 AND local_date = ANY ($2)
         ) d ORDER BY local_date"
    );
    let rows: Vec<(NaiveDate, String)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(child.uuid())
        .bind(days)
        .fetch_all(&mut *reading.tx)
        .await?;
    rows.into_iter()
        .map(|(day, row)| Ok((day, raw(row)?)))
        .collect()
}

/// The row of `streaks`, and what the parent sees today.
pub(crate) async fn streak(reading: &mut Reading, child: ChildId) -> Result<Value, Problem> {
    let streak: Option<Value> = sqlx::query_scalar(
        "SELECT json_build_object(
             'current_streak', current_streak, 'longest_streak', longest_streak,
             'streak_started_on', streak_started_on, 'last_active_date', last_active_date,
             'freezes_available', freezes_available, 'rule_version', rule_version,
             'active_days', (SELECT json_agg(json_build_object('from', lower(r), 'to', upper(r) - 1)
                                             ORDER BY r) FROM unnest(active_days) r),
             'streak_today', streak_as_of(child_id, $2), 'updated_at', updated_at)
         FROM streaks WHERE child_id = $1",
    )
    .bind(child.uuid())
    .bind(reading.today)
    .fetch_optional(&mut *reading.tx)
    .await?;
    // Before the first active day there is no row.
    let mut answer = streak.unwrap_or_else(|| {
        json!({
            "current_streak": 0, "longest_streak": 0, "streak_started_on": null,
            "last_active_date": null, "freezes_available": 0, "rule_version": null,
            "active_days": [], "streak_today": 0, "updated_at": null,
        })
    });
    answer["child_id"] = json!(child.uuid());
    answer["timezone"] = json!(reading.timezone.name());
    answer["today"] = json!(reading.today);
    answer["shown"] = json!(reading.streaks);
    Ok(answer)
}
