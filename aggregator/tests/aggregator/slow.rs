//! What is slow or stuck holds up nobody else.

use std::time::Duration;

use rivulet_events::{InteractionAction::Start, Record};
use rivulet_sandbox::TestBed;

use crate::common::{child, event, interaction, recount, stored};
use crate::instance::{Instance, consumed, eventually, migrated, produce_to};

/// The child whose events are slow, and the partition that they are in.
const SLOW: u8 = 200;
const PARTITION: i32 = 0;

/// Events of many children, in all three partitions, with one of the slow child in the middle.
fn events() -> Vec<Record<'static>> {
    let of = |n: usize| if n == 200 { SLOW } else { (n % 50) as u8 };
    (0..600)
        .map(|n| event(of(n), 0, interaction(Start)))
        .collect()
}

fn partition(n: usize) -> Option<i32> {
    Some(if n == 200 { PARTITION } else { n as i32 % 3 })
}

/// Makes PostgreSQL take so long for each row of the slow child.
async fn slow_down(bed: &TestBed, seconds: f32) {
    let child = child(SLOW).uuid();
    let sql = format!(
        "CREATE OR REPLACE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.child_id = '{child}' THEN PERFORM pg_sleep({seconds}); END IF;
             RETURN NEW;
         END $$;
         CREATE OR REPLACE TRIGGER take_long BEFORE INSERT OR UPDATE ON daily_child_metrics
             FOR EACH ROW EXECUTE FUNCTION take_long();"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&bed.pool)
        .await
        .unwrap();
}

/// Where a partition is, and the position that it is to get to when others do not wait.
async fn position(bed: &TestBed, partition: i32) -> i64 {
    let sql = "SELECT coalesce(max(next_offset), 0) FROM kafka_positions
               WHERE topic LIKE '%interaction' AND partition = $1";
    sqlx::query_scalar(sql)
        .bind(partition)
        .fetch_one(&bed.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_takes_long_goes_on_alone_with_more_time() {
    let bed = migrated().await;
    // A statement is given up after a third of a second, and after two where it is given more time.
    slow_down(&bed, 0.5).await;
    let instance = Instance::with_timeout(&bed, Duration::from_secs(1));
    let events = events();
    produce_to(&bed, &events, partition).await;
    consumed(&bed, events.len()).await;
    assert_eq!(stored(&bed.pool).await, recount(&events));
    let quarantined: i64 = sqlx::query_scalar("SELECT count(*) FROM quarantine")
        .fetch_one(&bed.pool)
        .await
        .unwrap();
    assert_eq!(quarantined, 0);
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_never_ends_holds_up_its_partition_alone() {
    let bed = migrated().await;
    slow_down(&bed, 3_600.0).await;
    let instance = Instance::with_timeout(&bed, Duration::from_secs(1));
    let events = events();
    produce_to(&bed, &events, partition).await;
    // Up to it in its own partition, all in the others: more than fits between Kafka and a lane.
    let before = (0..200)
        .filter(|n| partition(*n) == Some(PARTITION))
        .count() as i64;
    eventually("all that need not wait is counted", async || {
        let at = [
            position(&bed, 0).await,
            position(&bed, 1).await,
            position(&bed, 2).await,
        ];
        at[0] == before && at[1] + at[2] == 399
    })
    .await;
    // Each attempt that was given up has ended in the server, too.
    eventually("one statement at most runs", async || {
        let running: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
             AND state = 'active' AND pid <> pg_backend_pid() AND wait_event = 'PgSleep'",
        )
        .fetch_one(&bed.pool)
        .await
        .unwrap();
        running <= 1
    })
    .await;
    // Somebody mends it.
    slow_down(&bed, 0.0).await;
    consumed(&bed, events.len()).await;
    assert_eq!(stored(&bed.pool).await, recount(&events));
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_somebody_holds_holds_up_its_lane_alone() {
    let bed = migrated().await;
    let instance = Instance::with_timeout(&bed, Duration::from_secs(3));
    let first = event(SLOW, 0, interaction(Start));
    produce_to(&bed, std::slice::from_ref(&first), |_| Some(PARTITION)).await;
    consumed(&bed, 1).await;
    let mut holder = bed.pool.begin().await.unwrap();
    sqlx::query("UPDATE daily_child_metrics SET updated_at = now() WHERE child_id = $1")
        .bind(child(SLOW).uuid())
        .execute(&mut *holder)
        .await
        .unwrap();
    let mut events = events();
    produce_to(&bed, &events, partition).await;
    eventually("the others are counted", async || {
        position(&bed, 1).await + position(&bed, 2).await == 399
    })
    .await;
    let waiting = position(&bed, PARTITION).await;
    assert!(waiting <= 1 + 67, "the row's lane went past it");
    holder.rollback().await.unwrap();
    events.push(first);
    consumed(&bed, events.len()).await;
    assert_eq!(stored(&bed.pool).await, recount(&events));
    instance.stop().await;
}
