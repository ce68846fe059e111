//! How long the databases keep what, on real ones: brought to the file, compared with it, and obeyed.

use chrono::NaiveDate;
use rivulet_migrations::retention::{
    Changed, clickhouse, clickhouse_drift, postgres, postgres_drift,
};
use rivulet_retention::{Class, Policy};
use rivulet_sandbox::TestBed;

const FILE: &str = include_str!("../../../retention.toml");

/// The default with another time for one class.
fn file(class: &str, keep: &str) -> Policy {
    let (before, after) = FILE.split_once(&format!("\n[{class}]\nkeep = ")).unwrap();
    let (_, after) = after.split_once('\n').unwrap();
    format!("{before}\n[{class}]\nkeep = \"{keep}\"\n{after}")
        .parse()
        .unwrap()
}

async fn bed() -> TestBed {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    rivulet_migrations::clickhouse(&bed.clickhouse, &bed.clickhouse_database)
        .await
        .unwrap();
    bed
}

/// What there is, as `what:days ago`.
async fn history(bed: &TestBed) -> Vec<String> {
    let select = "SELECT concat(event_type, ':', toString(dateDiff('day', toDate(received_at), today()))) AS one FROM history
                  UNION ALL
                  SELECT concat('day:', toString(dateDiff('day', toDate(last_received_at), today()))) AS one
                  FROM child_day_rollup";
    let mut there: Vec<String> = bed.clickhouse.query_raw(select).fetch_all().await.unwrap();
    there.sort();
    there
}

async fn run(bed: &TestBed, statement: &str) {
    bed.clickhouse.query_raw(statement).execute().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_databases_are_as_the_default_says() {
    let bed = bed().await;
    let policy = Policy::default();
    let database = &bed.clickhouse_database;
    assert_eq!(postgres_drift(&bed.pool, &policy).await.unwrap(), []);
    assert_eq!(
        clickhouse_drift(&bed.clickhouse, database, &policy)
            .await
            .unwrap(),
        []
    );
    assert_eq!(postgres(&bed.pool, &policy).await.unwrap(), []);
    assert!(
        !clickhouse(&bed.clickhouse, database, &policy, false)
            .await
            .unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_told_with_both_values_and_migrating_ends_it() {
    let bed = bed().await;
    let database = &bed.clickhouse_database;
    let policy = file("speech", "400 days");
    let told = |drifts: Vec<rivulet_retention::Drift>| {
        drifts.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let stored = told(postgres_drift(&bed.pool, &policy).await.unwrap());
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert!(
        stored[0].contains("of speech: the file says 400 days")
            && stored[0].contains("has 1095 days"),
        "{stored:?}"
    );
    let stored = told(
        clickhouse_drift(&bed.clickhouse, database, &policy)
            .await
            .unwrap(),
    );
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert!(
        stored[0].contains(
            "of speech: the file says 400 days, ClickHouse (TTL of events) has 1095 days"
        ),
        "{stored:?}"
    );
    let changed = postgres(&bed.pool, &policy).await.unwrap();
    assert_eq!(
        changed,
        [Changed {
            class: Class::Speech,
            from: 1_095,
            to: 400
        }]
    );
    assert!(
        clickhouse(&bed.clickhouse, database, &policy, false)
            .await
            .unwrap()
    );
    assert_eq!(postgres_drift(&bed.pool, &policy).await.unwrap(), []);
    assert_eq!(
        clickhouse_drift(&bed.clickhouse, database, &policy)
            .await
            .unwrap(),
        []
    );
    // All statements run at every migration, and none takes it back.
    rivulet_migrations::clickhouse(&bed.clickhouse, database)
        .await
        .unwrap();
    assert_eq!(
        clickhouse_drift(&bed.clickhouse, database, &policy)
            .await
            .unwrap(),
        []
    );

    // A table of a release before there was the file, and one whose TTL somebody took away.
    run(
        &bed,
        "ALTER TABLE events MODIFY TTL toDateTime(received_at) + INTERVAL 25 MONTH",
    )
    .await;
    run(&bed, "ALTER TABLE child_day_rollup REMOVE TTL").await;
    let stored = told(
        clickhouse_drift(&bed.clickhouse, database, &policy)
            .await
            .unwrap(),
    );
    assert_eq!(stored.len(), 5, "{stored:?}");
    assert!(
        stored[0].contains("400 days") || stored[0].contains("1825 days"),
        "{stored:?}"
    );
    assert!(stored[0].contains("toIntervalMonth(25)"), "{stored:?}");
    assert!(
        stored[4].contains("of daily: the file says 1825 days") && stored[4].contains("for ever"),
        "{stored:?}"
    );
    assert!(
        clickhouse(&bed.clickhouse, database, &policy, false)
            .await
            .unwrap()
    );
    assert_eq!(
        clickhouse_drift(&bed.clickhouse, database, &policy)
            .await
            .unwrap(),
        []
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_shorter_period_deleted_stays_deleted_when_it_is_longer_again() {
    let bed = bed().await;
    let since = async || -> (i64, NaiveDate) {
        sqlx::query_as("SELECT (CURRENT_DATE - kept_since)::bigint, kept_since FROM retention_periods WHERE class = 'messages'")
            .fetch_one(&bed.pool)
            .await
            .unwrap()
    };
    let months_25 = since().await.0;
    assert!(
        (755..=762).contains(&months_25),
        "the history forgot after 25 months: {months_25}"
    );
    postgres(&bed.pool, &file("messages", "100 days"))
        .await
        .unwrap();
    assert_eq!(since().await.0, months_25);
    postgres(&bed.pool, &Policy::default()).await.unwrap();
    assert_eq!(since().await.0, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn clickhouse_drops_each_type_at_its_own_age() {
    let bed = bed().await;
    let database = &bed.clickhouse_database;
    run(
        &bed,
        "INSERT INTO events (event_id, event_type, id_day, child_id, parent_id, received_at, event_time, kafka_offset)
         SELECT generateUUIDv4(), type, today(), generateUUIDv4(), generateUUIDv4(), now() - toIntervalDay(age), now(), number
         FROM (SELECT arrayJoin(['speech', 'interaction', 'message', 'session']) AS type) AS types,
              (SELECT arrayJoin([1, 1094, 1096, 1824, 1826]) AS age) AS ages, numbers(1) AS number",
    )
    .await;
    run(
        &bed,
        "INSERT INTO child_day_rollup (local_date, child_id, last_received_at)
         SELECT today(), toUUID(concat('00000000-0000-0000-0000-00000000', toString(age))), now() - toIntervalDay(age) FROM (SELECT arrayJoin([1824, 1826]) AS age) AS ages",
    )
    .await;
    let optimize = async || {
        run(&bed, "OPTIMIZE TABLE events FINAL").await;
        run(&bed, "OPTIMIZE TABLE child_day_rollup FINAL").await;
    };
    optimize().await;
    let mut kept = vec!["day:1824".to_owned()];
    for kind in ["interaction", "message", "session"] {
        kept.extend([1, 1_094, 1_096, 1_824].map(|age| format!("{kind}:{age}")));
    }
    kept.extend([1, 1_094].map(|age| format!("speech:{age}")));
    kept.sort();
    assert_eq!(history(&bed).await, kept);

    // Shorter for one type: what is there already goes too, without the table being written anew for it.
    let written = "SELECT max(delete_ttl_info_max) < now() + INTERVAL 1830 DAY, sum(rows)
                   FROM system.parts WHERE database = currentDatabase() AND table = 'events' AND active";
    let policy = file("messages", "1200 days");
    assert!(
        clickhouse(&bed.clickhouse, database, &policy, false)
            .await
            .unwrap()
    );
    let (_, rows): (u8, u64) = bed.clickhouse.query_raw(written).fetch_one().await.unwrap();
    assert_eq!(rows, kept.len() as u64 - 1, "only looked at so far");
    optimize().await;
    kept.retain(|one| one != "message:1824");
    assert_eq!(history(&bed).await, kept);
}
