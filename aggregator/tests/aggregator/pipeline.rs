//! The whole aggregator: real Kafka, real PostgreSQL, instances that come, go and are cut off.

use std::{collections::BTreeSet, time::Duration};

use rivulet_events::{EventType, InteractionAction, Record};
use rivulet_kafka::TopicPlan;
use rivulet_sandbox::TestBed;

use crate::common::{distinct, event, interaction, recount, some_events, stored};
use crate::instance::{Instance, consumed, eventually, migrated, produce, produce_raw, produce_to};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_come_go_and_are_cut_off_count_each_event_once() {
    let bed = migrated().await;
    let events = some_events(3_000);
    let (first, rest) = events.split_at(1_000);
    let (second, third) = rest.split_at(1_000);

    let one = Instance::start(&bed);
    produce(&bed, first).await;
    let two = Instance::start(&bed);
    produce(&bed, second).await;
    one.cut_off().await;
    produce(&bed, third).await;
    let three = Instance::start(&bed);
    consumed(&bed, events.len()).await;
    assert!(three.readiness.is_ready() || two.readiness.is_ready());
    assert_eq!(stored(&bed.pool).await, recount(&distinct(&events)));
    two.stop().await;
    three.stop().await;

    // A restart replays nothing: no row was touched but the new event's.
    let touched = async || {
        let sql = "SELECT updated_at::text FROM daily_child_metrics";
        let times: Vec<String> = sqlx::query_scalar(sql).fetch_all(&bed.pool).await.unwrap();
        times.into_iter().collect::<BTreeSet<_>>()
    };
    let before = touched().await;
    let again = Instance::start(&bed);
    let last = event(77, 0, interaction(InteractionAction::Start));
    produce(&bed, std::slice::from_ref(&last)).await;
    consumed(&bed, events.len() + 1).await;
    assert_eq!(touched().await.difference(&before).count(), 1);
    let mut all = distinct(&events);
    all.push(last);
    assert_eq!(stored(&bed.pool).await, recount(&all));
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_and_dropped_days_cost_an_attempt_and_no_event() {
    let bed = migrated().await;
    let events = some_events(2_000);
    let instance = Instance::start(&bed);
    for chunk in events.chunks(250) {
        produce(&bed, chunk).await;
        let mut conn = eventually_connected(&bed).await;
        let _ = sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .execute(&mut *conn)
        .await;
    }
    consumed(&bed, events.len()).await;
    assert_eq!(stored(&bed.pool).await, recount(&distinct(&events)));

    // The day of an event goes while the instance believes in it.
    let mut late = event(78, 0, interaction(InteractionAction::Start));
    late.occurred_at += 40 * crate::common::DAY_MS;
    late.event_time = late.occurred_at;
    late.received_at = late.occurred_at;
    late.local_date = crate::common::date(40);
    produce(&bed, std::slice::from_ref(&late)).await;
    consumed(&bed, events.len() + 1).await;
    sqlx::query("DROP TABLE event_seen_20251213")
        .execute(&bed.pool)
        .await
        .unwrap();
    let later = Record {
        id: uuid::Uuid::new_v4(),
        ..late.clone()
    };
    produce(&bed, std::slice::from_ref(&later)).await;
    consumed(&bed, events.len() + 2).await;
    let mut all = distinct(&events);
    all.extend([late, later]);
    assert_eq!(stored(&bed.pool).await, recount(&all));
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_says_that_transactions_fail_until_those_of_no_lane_do() {
    let bed = migrated().await;
    let instance = Instance::start(&bed);
    let rename = async |from: &str, to: &str| {
        let sql = sqlx::AssertSqlSafe(format!("ALTER TABLE {from} RENAME TO {to}"));
        sqlx::query(sql).execute(&bed.pool).await.unwrap();
    };
    eventually("it is ready", async || instance.readiness.is_ready()).await;
    rename("event_seen", "away").await;
    // Of many children, so of every lane that has partitions.
    let events = some_events(200);
    produce(&bed, &events).await;
    eventually("it is unready", async || !instance.readiness.is_ready()).await;
    rename("away", "event_seen").await;
    consumed(&bed, events.len()).await;
    eventually("it is ready again", async || instance.readiness.is_ready()).await;
    assert_eq!(stored(&bed.pool).await, recount(&distinct(&events)));
    instance.stop().await;
}

/// Children whose events lie in every partition, so that all lanes want the same rows. Each time one
/// of the rows is held until every lane waits: only an order that all keep leads out of that. A
/// deadlock costs an attempt and no event, so PostgreSQL has to be asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_want_the_same_rows_never_deadlock() {
    let bed = migrated().await;
    let instance = Instance::start(&bed);
    let mut sent = Vec::new();
    for round in 0..8 {
        let mut held = bed.pool.begin().await.unwrap();
        sqlx::query("SELECT FROM daily_child_metrics WHERE child_id = $1 FOR UPDATE")
            .bind(crate::common::child(15).uuid())
            .execute(&mut *held)
            .await
            .unwrap();
        let events: Vec<_> = (0..90)
            .map(|number| event(number / 3, 0, interaction(InteractionAction::Start)))
            .collect();
        produce_to(&bed, &events, |number| Some(number as i32 % 3)).await;
        sent.extend(events);
        if round > 0 {
            eventually("every lane waits", async || {
                let waiting = "SELECT count(*) FROM pg_stat_activity
                               WHERE datname = current_database() AND wait_event_type = 'Lock'";
                let waiting: i64 = sqlx::query_scalar(waiting)
                    .fetch_one(&bed.pool)
                    .await
                    .unwrap();
                waiting == 3
            })
            .await;
        }
        held.rollback().await.unwrap();
        consumed(&bed, sent.len()).await;
    }
    assert_eq!(stored(&bed.pool).await, recount(&sent));
    instance.stop().await;

    // A connection tells its share of the statistics when it ends, if not before.
    let mut conn = bed.pool.acquire().await.unwrap();
    eventually("the other connections have ended", async || {
        let others: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .fetch_one(&mut *conn)
        .await
        .unwrap();
        others == 0
    })
    .await;
    let deadlocks: i64 = sqlx::query_scalar(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
    )
    .fetch_one(&mut *conn)
    .await
    .unwrap();
    assert_eq!(deadlocks, 0);
}

/// A tablet that never heard the answer sends again when it is next online.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_arrives_days_later_is_counted_once() {
    let bed = migrated().await;
    let instance = Instance::start(&bed);
    let first = event(1, 0, interaction(InteractionAction::Start));
    let again = Record {
        received_at: first.received_at + 3 * crate::common::DAY_MS,
        ..first.clone()
    };
    produce(&bed, std::slice::from_ref(&first)).await;
    consumed(&bed, 1).await;
    produce(&bed, &[again]).await;
    consumed(&bed, 2).await;
    assert_eq!(stored(&bed.pool).await, recount(&[first]));
    instance.stop().await;
}

/// A tablet whose clock is days ahead sends again when its days have come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_whose_id_day_has_come_is_counted_once() {
    let bed = migrated().await;
    let instance = Instance::start(&bed);
    let again = event(1, 0, interaction(InteractionAction::Start));
    let early = 5 * crate::common::DAY_MS;
    let first = Record {
        event_time: again.event_time - early,
        received_at: again.received_at - early,
        local_date: crate::common::date(-5),
        ..again.clone()
    };
    produce(&bed, std::slice::from_ref(&first)).await;
    consumed(&bed, 1).await;
    produce(&bed, &[again]).await;
    consumed(&bed, 2).await;
    assert_eq!(stored(&bed.pool).await, recount(&[first]));
    instance.stop().await;
}

async fn eventually_connected(bed: &TestBed) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
    loop {
        if let Ok(conn) = bed.pool.acquire().await {
            return conn;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_keep_longer_than_identities_are_refused_at_boot() {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    let plan = TopicPlan {
        retention: Duration::from_secs(12 * 86_400),
        ..TopicPlan::default()
    };
    rivulet_kafka::create_topics(&bed.cluster, &plan)
        .await
        .unwrap();
    let refused = Instance::start(&bed).task.await.unwrap().unwrap_err();
    assert!(
        refused.to_string().contains("at least 49 days"),
        "{refused}"
    );
}

/// Half of them are in Kafka, and some of those counted, when the child is erased.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_an_erased_child_is_dropped_and_booked() {
    let bed = migrated().await;
    let events: Vec<_> = (0..40)
        .map(|number| event(number % 4, 0, interaction(InteractionAction::Start)))
        .collect();
    let (first, second) = events.split_at(20);
    let erased = events[0].child_id;
    let instance = Instance::start(&bed);
    produce(&bed, first).await;
    consumed(&bed, first.len()).await;
    for statement in [
        "INSERT INTO tombstones (number, sha256, kind, erasure_id)
         VALUES (7, tombstone_hash($1), 'child', gen_random_uuid())",
        "DELETE FROM daily_child_metrics WHERE child_id = $1",
        "DELETE FROM learning_analytics WHERE child_id = $1",
        "DELETE FROM topic_progress WHERE child_id = $1",
        "DELETE FROM streaks WHERE child_id = $1",
    ] {
        let query = sqlx::query(statement).bind(erased.uuid());
        query.execute(&bed.pool).await.unwrap();
    }
    produce(&bed, second).await;
    // The second half of a copy, so that nobody reads whose it is but by the id in its bytes.
    let cut_off = format!("{{\"child_id\":\"{}\",\"id", erased.uuid());
    produce_raw(
        &bed,
        std::iter::once((String::new(), (EventType::Session, cut_off.into_bytes()))),
    )
    .await;
    consumed(&bed, events.len() + 1).await;
    let others: Vec<_> = events
        .iter()
        .filter(|event| event.child_id != erased)
        .cloned()
        .collect();
    assert_eq!(stored(&bed.pool).await, recount(&others));
    let of_the_second = second.iter().filter(|event| event.child_id == erased);
    let booked: (i64, i64) = sqlx::query_as(
        "SELECT sum(erased)::bigint, (SELECT count(*) FROM quarantine) FROM consumer_ledger",
    )
    .fetch_one(&bed.pool)
    .await
    .unwrap();
    assert_eq!(booked, (of_the_second.count() as i64 + 1, 0));
    instance.stop().await;
}
