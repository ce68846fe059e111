//! What goes for its age, and children of whom nothing comes any more.

use chrono::{DateTime, Datelike as _, Days, Months, NaiveTime, TimeDelta, Utc};
use rivulet_erasure::aged::{expire, inactive};
use rivulet_sandbox::TestBed;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

/// Of consents, erasures and the audit log alike.
const KEPT: u64 = 2_555;

async fn bed() -> TestBed {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    bed
}

async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}

async fn number(pool: &PgPool, select: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {select}")))
        .fetch_one(pool)
        .await
        .unwrap()
}

fn days_ago(days: u64) -> DateTime<Utc> {
    Utc::now() - Days::new(days)
}

/// A family of two children, deleted at a time or not.
async fn family(pool: &PgPool, deleted_at: Option<DateTime<Utc>>) -> (Uuid, [Uuid; 2]) {
    let (parent, children) = (Uuid::new_v4(), [Uuid::new_v4(), Uuid::new_v4()]);
    sqlx::query("INSERT INTO parents (id, timezone, coppa, audio, deleted_at) VALUES ($1, 'UTC', true, true, $2)")
        .bind(parent)
        .bind(deleted_at)
        .execute(pool)
        .await
        .unwrap();
    sqlx::query("INSERT INTO children (id, parent_id, age_group) SELECT unnest($1::uuid[]), $2, 'wonder_cubs'")
        .bind(children)
        .bind(parent)
        .execute(pool)
        .await
        .unwrap();
    (parent, children)
}

#[tokio::test(flavor = "multi_thread")]
async fn consents_go_with_the_family_when_it_was_deleted_long_ago() {
    let bed = bed().await;
    let pool = &bed.pool;
    let (here, [child, gone]) = family(pool, None).await;
    let (young, _) = family(pool, Some(days_ago(KEPT - 1))).await;
    // More than one transaction takes.
    for _ in 0..120 {
        family(pool, Some(days_ago(KEPT + 1))).await;
    }
    run(
        pool,
        // However old its consents are, a family that is registered keeps them.
        &format!(
            "ALTER TABLE consent_changes DISABLE TRIGGER consent_changes_kept;
             UPDATE consent_changes SET changed_at = changed_at - interval '9 years';
             ALTER TABLE consent_changes ENABLE TRIGGER consent_changes_kept;
             UPDATE children SET deleted_at = now() - interval '{} days' WHERE id = '{gone}'",
            KEPT + 1
        ),
    )
    .await;
    expire(&bed.pool_as("rivulet_operator", 8), Utc::now(), None)
        .await
        .unwrap();
    let parents: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM parents")
        .fetch_all(pool)
        .await
        .unwrap();
    assert_eq!(parents.len(), 2);
    assert!(parents.contains(&here) && parents.contains(&young));
    assert_eq!(
        number(pool, "consent_changes").await,
        4,
        "two consents of each"
    );
    assert_eq!(number(pool, "children").await, 3);
    assert_eq!(
        number(pool, &format!("children WHERE id = '{child}'")).await,
        1
    );
    assert_eq!(
        number(pool, &format!("children WHERE id = '{gone}'")).await,
        0
    );
    // The clock goes on, and only who was never deleted is left.
    expire(
        &bed.pool_as("rivulet_operator", 8),
        Utc::now() + Days::new(KEPT),
        None,
    )
    .await
    .unwrap();
    assert_eq!(number(pool, "parents").await, 1);
    assert_eq!(number(pool, "consent_changes").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_go_and_tombstones_stay() {
    let bed = bed().await;
    let pool = &bed.pool;
    let (old, young, open) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    for (number, (erasure, done)) in (1..).zip([
        (old, Some(days_ago(KEPT + 1))),
        (young, Some(days_ago(KEPT - 1))),
        (open, None),
    ]) {
        sqlx::query(
            "WITH erasure AS (
                 INSERT INTO erasures (id, state, requested_by, requested_at, done_at, subjects, tombstone)
                 VALUES ($1, CASE WHEN $2::timestamptz IS NULL THEN 'running' ELSE 'done' END, 'a test',
                         now() - interval '9 years', $2, 1, $3) RETURNING id
             ), store AS (
                 INSERT INTO erasure_stores (erasure_id, store) SELECT $1, 'postgres'
             )
             INSERT INTO tombstones (number, sha256, kind, erasure_id)
             SELECT $3, tombstone_hash($1), 'child', $1",
        )
        .bind(erasure)
        .bind(done)
        .bind(i64::from(number))
        .execute(pool)
        .await
        .unwrap();
    }
    expire(&bed.pool_as("rivulet_operator", 8), Utc::now(), None)
        .await
        .unwrap();
    assert_eq!(number(pool, "erasures").await, 2);
    assert_eq!(
        number(pool, &format!("erasures WHERE id = '{old}'")).await,
        0
    );
    assert_eq!(number(pool, "erasure_stores").await, 2);
    expire(
        &bed.pool_as("rivulet_operator", 8),
        Utc::now() + Days::new(3_650),
        None,
    )
    .await
    .unwrap();
    assert_eq!(
        number(pool, &format!("erasures WHERE id = '{open}'")).await,
        1
    );
    assert_eq!(number(pool, "erasures").await, 1);
    assert_eq!(number(pool, "tombstones").await, 3);
}

/// Moves the clock of the audit log, which only goes forward.
async fn set_audit_clock(pool: &PgPool, at: DateTime<Utc>) {
    run(
        pool,
        &format!(
            "CREATE OR REPLACE FUNCTION audit_now() RETURNS timestamptz LANGUAGE sql VOLATILE
             AS $$ SELECT timestamptz '{}' $$",
            at.to_rfc3339()
        ),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_goes_by_whole_months() {
    let bed = bed().await;
    let pool = &bed.pool;
    let this_month = Utc::now().date_naive().with_day(1).unwrap();
    let start = |month: u32| {
        (this_month + Months::new(month))
            .and_time(NaiveTime::MIN)
            .and_utc()
    };
    // The first and the last moment of each of four months.
    for month in 1..=4 {
        for at in [start(month), start(month + 1) - TimeDelta::seconds(1)] {
            set_audit_clock(pool, at).await;
            run(
                pool,
                "INSERT INTO audit_intake (action, outcome, actor_kind) VALUES ('test.read', 'done', 'user')",
            )
            .await;
        }
    }
    // What is too old ends in the third month.
    let cut = start(3) + Days::new(10);
    let now = cut + Days::new(KEPT);
    set_audit_clock(pool, now).await;
    sqlx::query(
        "INSERT INTO quarantine_actions (consumer, topic, partition, kafka_offset, topic_incarnation, code, action, acted_by, acted_at)
         SELECT 'history', 't', 0, number, 'c', 'x', 'dropped', 'me', CASE WHEN number <= 250 THEN $1 ELSE $2 END
         FROM generate_series(1, 251) AS number",
    )
    .bind(cut - Days::new(1))
    .bind(cut + Days::new(1))
    .execute(pool)
    .await
    .unwrap();
    expire(&bed.pool_as("rivulet_operator", 8), now, None)
        .await
        .unwrap();
    // A month goes when all of it is too old, and no younger row with it.
    let read = "audit_log WHERE action = 'test.read'";
    assert_eq!(number(pool, read).await, 4);
    let older = format!("audit_log WHERE at < '{}'", start(3).to_rfc3339());
    assert_eq!(number(pool, &older).await, 0);
    assert_eq!(number(pool, "quarantine_actions").await, 1);
    let verified = rivulet_auditlog::verify(pool, &[]).await.unwrap();
    assert!(verified.is_whole(), "{:?}", verified.findings);

    let later = now + Days::new(100);
    set_audit_clock(pool, later).await;
    expire(&bed.pool_as("rivulet_operator", 8), later, None)
        .await
        .unwrap();
    assert_eq!(number(pool, read).await, 0);
    let verified = rivulet_auditlog::verify(pool, &[]).await.unwrap();
    assert!(verified.is_whole(), "{:?}", verified.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_whom_nothing_comes_are_found_and_erased_where_the_file_says_so() {
    let bed = bed().await;
    let pool = &bed.pool;
    let (_, [active, silent]) = family(pool, None).await;
    let (_, [new, returned]) = family(pool, None).await;
    run(
        pool,
        &format!(
            "UPDATE children SET created_at = now() - interval '4 years' WHERE id <> '{new}';
             CREATE TABLE daily_now PARTITION OF daily_child_metrics DEFAULT;
             INSERT INTO kafka_positions (consumer, topic, partition, topic_incarnation, next_offset, consumed_until)
             VALUES ('aggregator', 't', 0, 'c', 0, now())"
        ),
    )
    .await;
    let columns: (String, String) = sqlx::query_as(
        "SELECT string_agg(attname, ', '), string_agg(CASE atttypid::regtype::text WHEN 'bigint' THEN '1'
             WHEN 'boolean' THEN 'false' WHEN 'text[]' THEN '''{}''' ELSE 'now()' END, ', ')
         FROM pg_attribute WHERE attrelid = 'daily_child_metrics'::regclass AND attnum > 0 AND attnotnull
           AND attname NOT IN ('child_id', 'local_date', 'updated_at')",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    for (child, days) in [
        (active, 10),
        (silent, 1_200),
        (returned, 1_200),
        (returned, 1_000),
    ] {
        let (names, values) = &columns;
        run(
            pool,
            &format!(
                "INSERT INTO daily_child_metrics (child_id, local_date, {names}) VALUES ('{child}', CURRENT_DATE - {days}, {values})"
            ),
        )
        .await;
    }
    let found = async || inactive(pool, Utc::now(), 1_095, 10).await.unwrap();
    assert_eq!(found().await, [silent]);
    // Who might be back in what was not counted yet is not judged.
    run(
        pool,
        "UPDATE kafka_positions SET consumed_until = now() - interval '2 days'",
    )
    .await;
    assert!(found().await.is_empty());
    run(pool, "UPDATE kafka_positions SET consumed_until = now()").await;
    // Nor is anybody of whom the days went that would tell.
    run(
        pool,
        "UPDATE retention_periods SET kept_since = CURRENT_DATE - 500 WHERE class = 'daily'",
    )
    .await;
    assert!(found().await.is_empty());
    run(
        pool,
        "UPDATE retention_periods SET kept_since = '2000-01-01' WHERE class = 'daily'",
    )
    .await;

    expire(&bed.pool_as("rivulet_operator", 8), Utc::now(), None)
        .await
        .unwrap();
    assert_eq!(number(pool, "erasures").await, 0, "only reported");
    expire(&bed.pool_as("rivulet_operator", 8), Utc::now(), Some(1_095))
        .await
        .unwrap();
    expire(&bed.pool_as("rivulet_operator", 8), Utc::now(), Some(1_095))
        .await
        .unwrap();
    let erased: Vec<(Uuid, String)> = sqlx::query_as(
        "SELECT s.id, e.requested_by FROM erasure_subjects s JOIN erasures e ON e.id = s.erasure_id",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(erased, [(silent, "retention".to_owned())]);
}
