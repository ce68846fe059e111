//! A child's days in a row.

use chrono::{DateTime, NaiveDate, Utc};
use rivulet_events::ChildId;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{problem::Problem, reading::Reading};

/// Days without a gap, the first and the last among them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "PostgreSQL writes it")]
struct Days {
    from: NaiveDate,
    to: NaiveDate,
}

/// Days in a row.
#[derive(ToSchema)]
#[expect(dead_code, reason = "PostgreSQL writes it")]
pub(crate) struct Streak {
    /// The child.
    child_id: Uuid,
    /// The family's time zone, by its IANA name.
    timezone: String,
    /// Today's date in that time zone.
    today: NaiveDate,
    /// Whether the family is shown streaks.
    shown: bool,
    /// What a parent sees today: it falls to 0 as days pass that cannot be bridged.
    streak_today: u64,
    /// As of `last_active_date`.
    current_streak: u64,
    /// The longest ever.
    longest_streak: u64,
    /// The first day of the current streak; null before the first active day.
    #[schema(required = true)]
    streak_started_on: Option<NaiveDate>,
    /// Null before the first active day.
    #[schema(required = true)]
    last_active_date: Option<NaiveDate>,
    /// Missed days that the streak would survive.
    #[schema(maximum = 2)]
    freezes_available: u64,
    /// The rule by which it was computed; null before the first active day.
    #[schema(required = true)]
    rule_version: Option<u64>,
    /// Days with something that counts, in order.
    active_days: Vec<Days>,
    /// When the row was last written; null before the first active day.
    #[schema(required = true)]
    updated_at: Option<DateTime<Utc>>,
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
