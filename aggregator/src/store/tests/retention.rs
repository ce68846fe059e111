//! Rollups that are too old go, and nothing else.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use rivulet_sandbox::TestBed;
use sqlx::PgPool;
use uuid::Uuid;

use super::database;
use crate::store::{
    partitions::{Known, Partition},
    retention::sweep,
};

/// The noon of a day.
fn noon(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::from_hms_opt(12, 0, 0).unwrap())
        .and_utc()
}

/// A child with an active day, progress in a subject, and a topic that was last used then.
async fn day_of(pool: &PgPool, child: Uuid, day: NaiveDate) {
    Known::default()
        .ensure(pool, Partition::rollups_of(day))
        .await
        .unwrap();
    let sums = |table: &str| {
        format!(
            "SELECT string_agg(attname, ', '), string_agg(CASE atttypid::regtype::text WHEN 'bigint' THEN '1'
                 WHEN 'boolean' THEN 'false' WHEN 'text[]' THEN '''{{}}''' ELSE '$2' END, ', ')
             FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND attnotnull AND attgenerated = ''
               AND attname NOT IN ('child_id', 'local_date', 'subject', 'topic', 'updated_at')"
        )
    };
    for (table, key) in [
        ("daily_child_metrics", "local_date"),
        ("learning_analytics", "local_date, subject"),
        ("topic_progress", "topic"),
    ] {
        let (columns, values): (String, String) = sqlx::query_as(sqlx::AssertSqlSafe(sums(table)))
            .fetch_one(pool)
            .await
            .unwrap();
        let of_key = match key {
            "topic" => "to_char($2, 'YYYY-MM-DD')",
            "local_date" => "$2::date",
            _ => "$2::date, 'general'",
        };
        let insert = format!(
            "INSERT INTO {table} (child_id, {key}, {columns}) VALUES ($1, {of_key}, {values})"
        );
        sqlx::query(sqlx::AssertSqlSafe(insert))
            .bind(child)
            .bind(noon(day))
            .execute(pool)
            .await
            .unwrap();
    }
    sqlx::query(
        "INSERT INTO streaks AS t (child_id, current_streak, longest_streak, streak_started_on, last_active_date,
                                   freezes_available, active_days, rule_version)
         SELECT $1, s.*, days, 1 FROM (SELECT datemultirange(daterange($2, $2 + 1)) AS days) AS d, streak_of(days) AS s
         ON CONFLICT (child_id) DO UPDATE
         SET (current_streak, longest_streak, streak_started_on, last_active_date, freezes_available)
                 = (SELECT s.* FROM streak_of(t.active_days + excluded.active_days) AS s),
             active_days = t.active_days + excluded.active_days",
    )
    .bind(child)
    .bind(day)
    .execute(pool)
    .await
    .unwrap();
}

async fn count(bed: &TestBed, select: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(select.to_owned()))
        .fetch_one(&bed.pool)
        .await
        .unwrap()
}

async fn days(pool: &PgPool, table: &str, day: &str) -> Vec<(Uuid, NaiveDate)> {
    let select = format!("SELECT child_id, {day} AS day FROM {table} ORDER BY 2, 1");
    sqlx::query_as(sqlx::AssertSqlSafe(select))
        .fetch_all(pool)
        .await
        .unwrap()
}

const TABLES: [(&str, &str); 4] = [
    ("daily_child_metrics", "local_date"),
    ("learning_analytics", "local_date"),
    ("topic_progress", "last_seen_at::date"),
    ("streaks", "unnest(active_days)"),
];

#[tokio::test]
async fn what_is_older_than_the_period_goes_and_what_is_younger_stays() {
    let bed = database().await;
    let pool = &bed.pool;
    let today = Utc::now().date_naive();
    let cut = today - Days::new(1_825);
    let children: Vec<Uuid> = (1..=1_500).map(Uuid::from_u128).collect();
    let (first, second, last) = (children[0], children[1], *children.last().unwrap());
    // One whole month that is over, the edge on both sides, and now. The day before and the day of the edge are in one
    // partition, unless it is the first of a month.
    for (child, day) in [
        (first, cut - Days::new(70)),
        (first, cut - Days::new(1)),
        (first, cut),
        (first, cut + Days::new(1)),
        (second, cut - Days::new(1)),
        (last, cut - Days::new(40)),
        (last, today),
    ] {
        day_of(pool, child, day).await;
    }
    // More than a window of rows that stay, and of rows that go.
    sqlx::query(
        "INSERT INTO topic_progress (child_id, topic, interactions, answers, correct_answers, duration_ms, messages,
             questions_asked, conversations, first_seen_at, last_seen_at, withheld_events)
         SELECT child, topic, 1, 0, 0, 0, 0, 0, 0, $2, CASE topic WHEN 'old' THEN $2 ELSE now() END, 0
         FROM unnest($1::uuid[]) AS child, unnest(ARRAY['old', 'new']) AS topic",
    )
    .bind(&children)
    .bind(noon(cut - Days::new(1)))
    .execute(pool)
    .await
    .unwrap();

    sweep(pool, Utc::now()).await.unwrap();
    let kept = [(first, cut), (first, cut + Days::new(1)), (last, today)];
    for (table, day) in &TABLES[..2] {
        assert_eq!(days(pool, table, day).await, kept, "{table}");
        assert_eq!(
            count(
                &bed,
                &format!("SELECT count(*) FROM partitions_before('{table}', '{cut}')")
            )
            .await,
            0,
            "{table}"
        );
    }
    assert_eq!(
        count(
            &bed,
            "SELECT count(*) FROM topic_progress WHERE topic = 'old'"
        )
        .await,
        0
    );
    assert_eq!(
        count(
            &bed,
            "SELECT count(*) FROM topic_progress WHERE topic = 'new'"
        )
        .await,
        1_500
    );
    let topics = days(
        pool,
        "topic_progress WHERE topic <> 'new'",
        "last_seen_at::date",
    )
    .await;
    assert_eq!(topics, kept);
    // A streak is that of the days that are kept, and nobody has one of days that are not.
    let streaks: Vec<(Uuid, i64, i64, NaiveDate, bool)> = sqlx::query_as(
        "SELECT child_id, current_streak, longest_streak, streak_started_on, active_days = days
         FROM streaks JOIN (SELECT child_id, range_agg(daterange(local_date, local_date + 1)) AS days
                            FROM daily_child_metrics GROUP BY child_id) AS d USING (child_id) ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(
        streaks,
        [(first, 2, 2, cut, true), (last, 1, 1, today, true)]
    );
    assert_eq!(count(&bed, "SELECT count(*) FROM streaks").await, 2);

    // The clock goes on by a day, and one more day is too old.
    sweep(pool, Utc::now() + Days::new(1)).await.unwrap();
    assert_eq!(
        days(pool, "daily_child_metrics", "local_date").await,
        kept[1..]
    );
    assert_eq!(
        days(pool, "learning_analytics", "local_date").await,
        kept[1..]
    );
    assert_eq!(count(&bed, "SELECT current_streak FROM streaks WHERE child_id = '00000000-0000-0000-0000-000000000001'").await, 1);
    // After ten years nothing is left.
    sweep(pool, Utc::now() + Days::new(3_650)).await.unwrap();
    for (table, _) in TABLES {
        assert_eq!(
            count(&bed, &format!("SELECT count(*) FROM {table}")).await,
            0,
            "{table}"
        );
    }
}

#[tokio::test]
async fn a_shorter_period_is_obeyed_on_the_same_day_and_each_class_has_its_own() {
    let bed = database().await;
    let pool = &bed.pool;
    let today = Utc::now().date_naive();
    let child = Uuid::from_u128(7);
    for age in [10, 400, 800] {
        day_of(pool, child, today - Days::new(age)).await;
    }
    sweep(pool, Utc::now()).await.unwrap();
    assert_eq!(
        days(pool, "daily_child_metrics", "local_date").await.len(),
        3
    );
    let period = async |class: &str, days: u32| {
        let file = include_str!("../../../../retention.toml");
        let mut file = file.replacen(
            &format!("[{class}]\nkeep = \"5 years\""),
            &format!("[{class}]\nkeep = \"{days} days\""),
            1,
        );
        // Events go no later than their sums.
        for events in ["speech", "interactions", "messages", "sessions"] {
            for years in ["3 years", "5 years"] {
                file = file.replace(
                    &format!("[{events}]\nkeep = \"{years}\""),
                    &format!("[{events}]\nkeep = \"{days} days\""),
                );
            }
        }
        file = file.replace("after = \"3 years\"", &format!("after = \"{days} days\""));
        rivulet_migrations::retention::postgres(pool, &file.parse().unwrap())
            .await
            .unwrap();
    };
    period("daily", 500).await;
    sweep(pool, Utc::now()).await.unwrap();
    assert_eq!(
        days(pool, "daily_child_metrics", "local_date").await.len(),
        2
    );
    assert_eq!(
        days(pool, "learning_analytics", "local_date").await.len(),
        3
    );
    period("learning", 100).await;
    sweep(pool, Utc::now()).await.unwrap();
    assert_eq!(
        days(pool, "learning_analytics", "local_date").await,
        [(child, today - Days::new(10))]
    );
    assert_eq!(
        days(pool, "topic_progress", "last_seen_at::date").await,
        [(child, today - Days::new(10))]
    );
    // Longer again, and that of the file for daily rows: what is gone stays gone, and that is known.
    let since: NaiveDate =
        sqlx::query_scalar("SELECT kept_since FROM retention_periods WHERE class = 'daily'")
            .fetch_one(pool)
            .await
            .unwrap();
    assert_eq!(since, today - Days::new(500));
}
