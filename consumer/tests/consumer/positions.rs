//! The compare-and-set, by itself.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rivulet_consumer::positions::{
    Advance, Error, advance, begin_range, consumed_horizon, finish_range,
};
use rivulet_sandbox::TestBed;

const TOPIC: &str = "t";

async fn bed(partitions: i32) -> TestBed {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    sqlx::query(
        "INSERT INTO kafka_positions (consumer, topic, partition, topic_incarnation, next_offset)
         SELECT 'c', $1, p, 'i', 10 FROM generate_series(0, $2 - 1) p",
    )
    .bind(TOPIC)
    .bind(partitions)
    .execute(&bed.pool)
    .await
    .unwrap();
    bed
}

fn step(partition: i32, expected: i64, next: i64) -> Advance<'static> {
    Advance {
        topic: TOPIC,
        partition,
        incarnation: "i",
        expected,
        next,
        received_at: 0,
    }
}

async fn position(bed: &TestBed, partition: i32) -> (i64, Option<i64>) {
    sqlx::query_as("SELECT next_offset, pending_end FROM kafka_positions WHERE partition = $1")
        .bind(partition)
        .fetch_one(&bed.pool)
        .await
        .unwrap()
}

#[track_caller]
fn fenced<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Vec<i32> {
    match outcome {
        Err(Error::Fenced(fenced)) => fenced.into_iter().map(|(_, partition)| partition).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stale_step_moves_nothing_and_is_named() {
    let bed = bed(3).await;
    let mut conn = bed.pool.acquire().await.unwrap();
    advance(&mut conn, "c", &[step(0, 10, 15), step(1, 10, 11)])
        .await
        .unwrap();
    assert_eq!(position(&bed, 0).await, (15, None));

    let stale = advance(&mut conn, "c", &[step(0, 10, 20)]).await;
    assert_eq!(fenced(stale), [0]);
    let other_topic = Advance {
        incarnation: "another",
        ..step(2, 10, 20)
    };
    assert_eq!(fenced(advance(&mut conn, "c", &[other_topic]).await), [2]);
    assert_eq!(
        fenced(advance(&mut conn, "d", &[step(2, 10, 20)]).await),
        [2]
    );
    assert_eq!(fenced(advance(&mut conn, "c", &[step(7, 0, 1)]).await), [7]);
    assert_eq!(position(&bed, 0).await, (15, None));
    assert_eq!(position(&bed, 2).await, (10, None));
}

#[tokio::test]
async fn the_loser_of_a_race_waits_and_is_fenced() {
    let bed = bed(2).await;
    let mut winner = bed.pool.begin().await.unwrap();
    advance(&mut winner, "c", &[step(0, 10, 15)]).await.unwrap();
    let pool = bed.pool.clone();
    let loser = tokio::spawn(async move {
        let mut transaction = pool.begin().await.unwrap();
        advance(&mut transaction, "c", &[step(1, 10, 12), step(0, 10, 13)]).await
    });
    // It is waiting for the winner's lock, and only then compares.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    crate::support::wait_for("the loser to wait", async || {
        let waiting: i64 = sqlx::query_scalar(waiting)
            .fetch_one(&bed.pool)
            .await
            .unwrap();
        waiting == 1
    })
    .await;
    winner.commit().await.unwrap();
    assert_eq!(fenced(loser.await.unwrap()), [0]);
    assert_eq!(position(&bed, 0).await, (15, None));
    assert_eq!(position(&bed, 1).await, (10, None));
}

/// Without the sorted locking two transactions that name the same partitions in opposite order
/// soon end in 40P01.
#[tokio::test(flavor = "multi_thread")]
async fn opposite_orders_do_not_deadlock() {
    const PARTITIONS: i32 = 16;
    let bed = bed(PARTITIONS).await;
    let worker = |reverse: bool| {
        let pool = bed.pool.clone();
        tokio::spawn(async move {
            let mut moved = 0;
            for _ in 0..200 {
                let mut at: Vec<(i32, i64)> =
                    sqlx::query_as("SELECT partition, next_offset FROM kafka_positions ORDER BY 1")
                        .fetch_all(&pool)
                        .await
                        .unwrap();
                if reverse {
                    at.reverse();
                }
                let steps: Vec<_> = at
                    .iter()
                    .map(|(p, next)| step(*p, *next, next + 1))
                    .collect();
                let mut transaction = pool.begin().await.unwrap();
                match advance(&mut transaction, "c", &steps).await {
                    Ok(_) => {
                        transaction.commit().await.unwrap();
                        moved += 1;
                    }
                    Err(Error::Fenced(_)) => transaction.rollback().await.unwrap(),
                    Err(Error::Database(error)) => panic!("{error}"),
                }
            }
            moved
        })
    };
    let (forwards, backwards) = (worker(false), worker(true));
    let moved: i64 = forwards.await.unwrap() + backwards.await.unwrap();
    for partition in 0..PARTITIONS {
        assert_eq!(position(&bed, partition).await.0, 10 + moved);
    }
}

#[tokio::test]
async fn a_range_is_begun_once_and_finished_once() {
    let bed = bed(1).await;
    let mut conn = bed.pool.acquire().await.unwrap();
    let range = [step(0, 10, 15)];
    assert_eq!(fenced(finish_range(&mut conn, "c", &range).await), [0]);
    begin_range(&mut conn, "c", &range).await.unwrap();
    assert_eq!(position(&bed, 0).await, (10, Some(15)));

    assert_eq!(fenced(begin_range(&mut conn, "c", &range).await), [0]);
    let other = [step(0, 10, 14)];
    assert_eq!(fenced(finish_range(&mut conn, "c", &other).await), [0]);
    assert_eq!(fenced(advance(&mut conn, "c", &range).await), [0]);

    finish_range(&mut conn, "c", &range).await.unwrap();
    assert_eq!(position(&bed, 0).await, (15, None));
    assert_eq!(fenced(finish_range(&mut conn, "c", &range).await), [0]);
}

#[tokio::test]
async fn the_horizon_is_the_slowest_partition_and_never_in_the_future() {
    let bed = bed(2).await;
    let mut conn = bed.pool.acquire().await.unwrap();
    assert_eq!(consumed_horizon(&mut conn, "d").await.unwrap(), None);
    let now = Utc::now();
    let received = |step: Advance<'static>, at: i64| Advance {
        received_at: at,
        ..step
    };
    let hour_ago = (now - TimeDelta::hours(1)).timestamp_millis();
    advance(&mut conn, "c", &[received(step(0, 10, 11), hour_ago)])
        .await
        .unwrap();
    let horizon = consumed_horizon(&mut conn, "c").await.unwrap().unwrap();
    assert_eq!(horizon.timestamp(), 0, "partition 1 was not consumed yet");

    // A clock gone wild, as wild as the field allows.
    advance(&mut conn, "c", &[received(step(1, 10, 11), i64::MAX)])
        .await
        .unwrap();
    advance(&mut conn, "c", &[received(step(1, 11, 12), i64::MIN)])
        .await
        .unwrap();
    let horizon = consumed_horizon(&mut conn, "c").await.unwrap().unwrap();
    assert_eq!(horizon.timestamp_millis(), hour_ago);

    advance(&mut conn, "c", &[received(step(0, 11, 12), i64::MAX)])
        .await
        .unwrap();
    let horizon = consumed_horizon(&mut conn, "c").await.unwrap().unwrap();
    assert!(horizon <= Utc::now() + Duration::from_secs(60));
    assert!(horizon > now - TimeDelta::hours(1));
}
