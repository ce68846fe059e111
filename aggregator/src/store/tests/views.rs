//! The views, on data small enough to reckon by hand.

use std::collections::BTreeSet;

use rivulet_events::{Data, Interaction, InteractionAction as Action};
use sqlx::Row as _;

use super::{Store, commit, count, database};
use crate::common::{child, date, event, interaction, message, parts, speech};

fn lesson(action: Action, change: impl FnOnce(&mut Interaction<'static>)) -> Data<'static> {
    let mut data = interaction(action);
    if let Data::Interaction(interaction) = &mut data {
        interaction.subject = Some("maths".into());
        change(interaction);
    }
    data
}

#[tokio::test]
async fn learning_metrics_are_ratios_of_sums() {
    let bed = database().await;
    // Two days of one week and month, and one of the week and month after.
    let events = [
        event(
            1,
            25,
            lesson(Action::Start, |data| data.duration_ms = Some(90_000)),
        ),
        event(1, 25, lesson(Action::Start, |_| {})),
        event(
            1,
            25,
            lesson(Action::Complete, |data| data.difficulty = Some(4)),
        ),
        event(
            1,
            25,
            lesson(Action::Answer, |data| data.response_time_ms = Some(1_500)),
        ),
        event(
            1,
            26,
            lesson(Action::Answer, |data| data.is_correct = Some(false)),
        ),
        event(1, 26, lesson(Action::Rate, |data| data.rating = Some(4))),
        event(1, 26, lesson(Action::Skip, |_| {})),
        event(1, 28, lesson(Action::View, |_| {})),
        event(1, 28, interaction(Action::Hint)),
    ];
    commit(&mut Store::new(bed.pool.clone()), parts(&events))
        .await
        .unwrap();

    let rows = sqlx::query(
        "SELECT period, period_start::text, subject, metric_type, metric_value, metric_unit, sample_count
         FROM learning_metrics WHERE child_id = $1",
    )
    .bind(child(1).uuid())
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    let found: BTreeSet<String> = rows
        .iter()
        .map(|row| {
            let text = |column: usize| row.get::<String, _>(column);
            let (value, samples): (f64, i64) = (row.get(4), row.get(6));
            let name = [text(0), text(1), text(2), text(3)].join(" ");
            format!("{name} {value:.4} {} {samples}", text(5))
        })
        .collect();
    // 28 and 29 November; the week from the 24th, all of November; then 1 December, a Monday.
    let first_day = [
        "completion_rate 0.5000 ratio 2",
        "accuracy 1.0000 ratio 1",
        "time_spent 1.5000 minutes 4",
        "response_speed 1.5000 seconds 1",
        "difficulty_rating 4.0000 1-5 1",
        // (4/4 + 1/2) / 2
        "engagement_score 75.0000 0-100 4",
    ];
    let second_day = [
        "accuracy 0.0000 ratio 1",
        "satisfaction 4.0000 1-5 1",
        // (2/3 + 3/4) / 2
        "engagement_score 70.8333 0-100 3",
    ];
    let both = [
        "completion_rate 0.5000 ratio 2",
        "accuracy 0.5000 ratio 2",
        "time_spent 1.5000 minutes 7",
        "response_speed 1.5000 seconds 1",
        "difficulty_rating 4.0000 1-5 1",
        "satisfaction 4.0000 1-5 1",
        // (6/7 + 1/2 + 3/4) / 3
        "engagement_score 70.2381 0-100 7",
    ];
    let last = ["engagement_score 100.0000 0-100 1"];
    let mut expected = BTreeSet::new();
    let mut expect = |period: &str, subject: &str, metrics: &[&str]| {
        expected.extend(
            metrics
                .iter()
                .map(|metric| format!("{period} {subject} {metric}")),
        );
    };
    expect("daily 2025-11-28", "maths", &first_day);
    expect("daily 2025-11-29", "maths", &second_day);
    expect("weekly 2025-11-24", "maths", &both);
    expect("monthly 2025-11-01", "maths", &both);
    for period in [
        "daily 2025-12-01",
        "weekly 2025-12-01",
        "monthly 2025-12-01",
    ] {
        expect(period, "maths", &last);
        expect(period, "general", &last);
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn weekly_summaries_cover_monday_to_sunday() {
    let bed = database().await;
    let topic = |name: &'static str| {
        move |data: &mut Interaction<'static>| {
            data.topic = Some(name.into());
            data.xp = Some(5);
        }
    };
    let mut deep = message(rivulet_events::Role::Assistant);
    if let Data::Message(data) = &mut deep {
        data.depth_level = Some(6);
    }
    let events = [
        event(1, -1, lesson(Action::Start, topic("before"))),
        event(1, 0, lesson(Action::Start, topic("b"))),
        event(1, 2, lesson(Action::Start, topic("B"))),
        event(1, 2, lesson(Action::Answer, topic("a"))),
        event(1, 4, deep),
        event(1, 6, speech(3)),
        event(1, 7, lesson(Action::Start, topic("after"))),
    ];
    commit(&mut Store::new(bed.pool.clone()), parts(&events))
        .await
        .unwrap();
    // The session's zone must not move a week.
    let mut tx = bed.pool.begin().await.unwrap();
    sqlx::query("SET LOCAL TimeZone = 'Pacific/Apia'")
        .execute(&mut *tx)
        .await
        .unwrap();
    let row = sqlx::query("SELECT * FROM weekly_summaries WHERE child_id = $1 AND week_start = $2")
        .bind(child(1).uuid())
        .bind(date(0))
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    for (column, value) in [
        ("events", 5),
        ("interactions", 3),
        ("starts", 2),
        ("xp", 15),
        ("messages_received", 1),
        ("max_depth", 6),
        ("child_words", 3),
        ("max_unique_words", 5),
        ("qualifying_events", 4),
        ("active_days", 3),
        ("withheld_events", 0),
    ] {
        assert_eq!(row.get::<i64, _>(column), value, "{column}");
    }
    assert_eq!(row.get::<Vec<String>, _>("topics"), ["B", "a", "b"]);
    assert!(row.get::<Vec<String>, _>("badges").is_empty());
    let weeks: i64 = sqlx::query_scalar("SELECT count(*) FROM weekly_summaries")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert_eq!(weeks, 3);
    // Every column of the daily row is in the summary, but those by which speech is taken out of the row.
    let missing = "SELECT count(*) FROM pg_attribute d
        WHERE attrelid = 'daily_child_metrics'::regclass AND attnum > 0 AND attname <> 'local_date'
          AND attname NOT IN ('speech_qualifying_events', 'speech_withheld_events', 'other_first_event_at',
                              'other_last_event_at')
          AND NOT EXISTS (SELECT FROM pg_attribute w WHERE w.attrelid = 'weekly_summaries'::regclass
                          AND w.attname = d.attname AND w.atttypid = d.atttypid)";
    assert_eq!(count(&bed, missing).await, 0);
}

#[tokio::test]
async fn mastery_needs_more_than_one_lucky_answer() {
    let bed = database().await;
    let answer = |correct| {
        lesson(Action::Answer, move |data| {
            data.topic = Some("fractions".into());
            data.is_correct = Some(correct);
        })
    };
    let mut store = Store::new(bed.pool.clone());
    let seen = lesson(Action::View, |data| data.topic = Some("stars".into()));
    let events = [
        event(1, 0, answer(true)),
        event(1, 0, answer(true)),
        event(1, 0, answer(false)),
        event(1, 0, seen),
    ];
    commit(&mut store, parts(&events)).await.unwrap();
    let scores: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT topic, mastery_score::text FROM topic_progress ORDER BY topic")
            .fetch_all(&bed.pool)
            .await
            .unwrap();
    // 100 * (2 + 1) / (3 + 2)
    let expected = [
        ("fractions".to_owned(), Some("60.00".to_owned())),
        ("stars".to_owned(), None),
    ];
    assert_eq!(scores, expected);
}
