//! Sets of texts: bounded, and the same row whatever the order.

use rivulet_events::{Data, InteractionAction as Action, Record};
use sqlx::Row as _;

use super::{Store, batches, commit, database};
use crate::{
    common::{child, event, interaction, recount, stored},
    text_set::TextSet,
};

/// An interaction about the `n`th topic that wins the `n`th badge. Topics take four bytes a character and
/// are as long as they may be; PostgreSQL keeps a full set of them apart from the row.
fn about(n: usize) -> Record<'static> {
    let mut data = interaction(Action::Start);
    if let Data::Interaction(data) = &mut data {
        data.topic = Some(format!("{n:04}{}", "🦊".repeat(96)).into());
        data.badge = Some(format!("badge {}", n % 300).into());
    }
    event(1, 0, data)
}

/// Visits every number below 600 once, in no order.
fn scattered() -> impl Iterator<Item = usize> {
    (0..600).map(|n| n * 7 % 600)
}

async fn rows(events: &[Record<'static>], size: usize) -> serde_json::Value {
    let bed = database().await;
    let mut store = Store::new(bed.pool.clone());
    for batch in batches(events, size) {
        commit(&mut store, batch).await.unwrap();
    }
    let tables = stored(&bed.pool).await;
    assert_eq!(tables, recount(events), "in batches of {size}");
    serde_json::to_value(tables).unwrap()
}

#[tokio::test]
async fn a_day_keeps_the_first_of_its_topics_in_whatever_order_they_come() {
    let events: Vec<_> = scattered().map(about).collect();
    let whole = rows(&events, 600).await;
    assert_eq!(rows(&events, 7).await, whole);
    let mut sorted: Vec<_> = events;
    sorted.sort_by_key(|event| match &event.data {
        Data::Interaction(data) => data.topic.clone(),
        _ => None,
    });
    assert_eq!(rows(&sorted, 100).await, whole);
    sorted.reverse();
    assert_eq!(rows(&sorted, 100).await, whole);
}

/// What is not new is not written again: a full set is far larger than the rest of the row.
#[tokio::test]
async fn a_full_set_is_left_where_it_is_when_nothing_changes() {
    let bed = database().await;
    let mut store = Store::new(bed.pool.clone());
    let events: Vec<_> = scattered().map(about).collect();
    let mut next = batches(&[&events[..], &events[..]].concat(), 600).into_iter();
    commit(&mut store, next.next().unwrap()).await.unwrap();
    let written = async || {
        let sql = "SELECT coalesce(sum(pg_relation_size(reltoastrelid)), 0)::bigint FROM pg_class
                   WHERE relname LIKE 'daily_child_metrics_%' AND reltoastrelid <> 0";
        super::count(&bed, sql).await
    };
    let before = written().await;
    assert!(before > 0, "the set is kept apart");
    for n in [0, 599, 100, 100, 300] {
        let again = Record {
            id: uuid::Uuid::new_v4(),
            ..about(n)
        };
        let mut parts = batches(&[again], 1).remove(0);
        parts[0].expected = super::count(
            &bed,
            "SELECT next_offset FROM kafka_positions WHERE topic = 'interaction' AND partition = 0",
        )
        .await;
        parts[0].records[0].offset = parts[0].expected;
        commit(&mut store, parts).await.unwrap();
    }
    assert_eq!(written().await, before);
}

/// An instance of the release before, which knows no bound, may still be running. Whether the event has a topic
/// that is there or not.
#[tokio::test]
async fn a_longer_set_of_an_older_release_is_cut_at_the_next_event() {
    for next in [0, 1] {
        let bed = database().await;
        let mut store = Store::new(bed.pool.clone());
        let mut batches = batches(&[about(0), about(next)], 1).into_iter();
        commit(&mut store, batches.next().unwrap()).await.unwrap();
        sqlx::query(
            "UPDATE daily_child_metrics
             SET topics = topics || ARRAY(SELECT lpad(n::text, 4, '0') FROM generate_series(1, 400) n)",
        )
        .execute(&bed.pool)
        .await
        .unwrap();
        commit(&mut store, batches.next().unwrap()).await.unwrap();
        let row = sqlx::query("SELECT * FROM daily_child_metrics WHERE child_id = $1")
            .bind(child(1).uuid())
            .fetch_one(&bed.pool)
            .await
            .unwrap();
        assert_eq!(row.get::<i64, _>("events"), 2);
        assert_eq!(row.get::<Vec<String>, _>("topics").len(), TextSet::MOST);
        assert!(row.get::<bool, _>("topics_more"));
        assert!(!row.get::<bool, _>("badges_more"));
    }
}

#[tokio::test]
async fn a_week_unites_the_sets_of_its_days() {
    let bed = database().await;
    let of = |day: i64, topics: std::ops::Range<usize>| {
        topics.map(move |n| {
            let mut data = interaction(Action::Start);
            if let Data::Interaction(data) = &mut data {
                data.topic = Some(format!("{n:04}").into());
                data.badge = (n < 3).then(|| "one".into());
            }
            event(1, day, data)
        })
    };
    // Two weeks: 250 topics on two days, 300 of them in all; 200 on one.
    let events: Vec<_> = of(0, 50..300)
        .chain(of(1, 0..250))
        .chain(of(7, 0..200))
        .collect();
    let mut store = Store::new(bed.pool.clone());
    for batch in batches(&events, 1_000) {
        commit(&mut store, batch).await.unwrap();
    }
    let weeks = sqlx::query("SELECT * FROM weekly_summaries ORDER BY week_start")
        .fetch_all(&bed.pool)
        .await
        .unwrap();
    let found = weeks.iter().map(|week| {
        let topics: Vec<String> = week.get("topics");
        let badges: Vec<String> = week.get("badges");
        assert!(topics.is_sorted());
        let more: (bool, bool) = (week.get("topics_more"), week.get("badges_more"));
        (topics.len(), topics.last().cloned(), badges.len(), more)
    });
    let last = |n: usize| Some(format!("{n:04}"));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            (256, last(255), 1, (true, false)),
            (200, last(199), 1, (false, false))
        ]
    );
}
