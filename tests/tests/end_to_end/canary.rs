//! `rivulet canary`: what it sends arrives, counts for nobody, and where it does not arrive that is said.

use std::process::Output;

use rivulet_canary::{CHILD, PARENT};
use rivulet_tests::{Rivulet, Role};
use sqlx::Row as _;

/// One round: what it says, and whether it is content.
async fn round(rivulet: &Rivulet, ingest: &Role, key: &str, patience: &str) -> (bool, String) {
    let url = format!("http://{}", ingest.address);
    let flags = ["--url", &url, "--ingest-key", key, "--patience", patience];
    let Output {
        status,
        stdout,
        stderr,
    } = rivulet
        .output(&[&["canary"], &flags[..]].concat())
        .await
        .unwrap();
    let said = [stdout, stderr].concat();
    (status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_arrives_and_counts_for_nobody() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [ingest, _aggregate, _sink]) =
        Rivulet::running(&[], ["ingest", "aggregate", "sink"])
            .await
            .unwrap();
    let (arrived, said) = round(&rivulet, &ingest, &rivulet.ingest_key, "60").await;
    assert!(arrived, "{said}");
    assert!(said.contains("in ClickHouse's history after"), "{said}");

    let day = sqlx::query("SELECT events, qualifying_events, sessions, active_ms FROM daily_child_metrics WHERE child_id = $1")
        .bind(CHILD.uuid())
        .fetch_one(&rivulet.bed.pool)
        .await
        .unwrap();
    let day: Vec<i64> = (0..4).map(|column| day.get(column)).collect();
    assert_eq!(day, [4, 0, 0, 0]);
    let streaks: i64 = sqlx::query_scalar("SELECT count(*) FROM streaks")
        .fetch_one(&rivulet.bed.pool)
        .await
        .unwrap();
    assert_eq!(streaks, 0, "it is nobody's activity");

    let clickhouse = &rivulet.bed.clickhouse;
    let count = async |from: &str| -> u64 {
        let query = format!("SELECT count() FROM {from}");
        clickhouse.query(&query).fetch_one().await.unwrap()
    };
    let own = format!("history WHERE parent_id = '{}'", PARENT.uuid());
    assert_eq!(count(&own).await, 4);
    for view in [
        "daily_active_children",
        "retention_cohorts",
        "content_performance",
        "learning_effectiveness",
        "speech_development",
        "conversation_depth",
        "child_days_recounted(since = '2000-01-01')",
    ] {
        assert_eq!(count(view).await, 0, "{view}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_how_far_its_events_came() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [mut ingest]) = Rivulet::running(&[], ["ingest"]).await.unwrap();
    let key = &rivulet.ingest_key;
    let complaint = async |ingest: &Role, key: &str| {
        let (arrived, said) = round(&rivulet, ingest, key, "2").await;
        assert!(!arrived, "{said}");
        said
    };
    let said = complaint(&ingest, key).await;
    assert!(said.contains("PostgreSQL has 0 of 4"), "{said}");
    let [aggregate] = rivulet.start(["aggregate"]).await.unwrap();
    let said = complaint(&ingest, key).await;
    assert!(said.contains("ClickHouse has 0 of 4"), "{said}");
    let said = complaint(&ingest, "rvk_nobodys").await;
    assert!(
        said.contains("does not know the credential (401)"),
        "{said}"
    );
    let said = complaint(&ingest, "").await;
    assert!(said.contains("rivulet keys create"), "{said}");

    // As a role, without and with a sink.
    let env = [
        ("RIVULET_INGEST_URL", format!("http://{}", ingest.address)),
        ("RIVULET_INGEST_KEY", key.clone()),
    ];
    let mut sink = rivulet.start(["sink"]).await.unwrap();
    let mut canary = rivulet
        .start_with("canary --every 1 --patience 5", &env)
        .await
        .unwrap();
    const ARRIVED: &str = "rivulet_canary_rounds_total{outcome=\"arrived\"}";
    assert!(canary.counter(ARRIVED).await.unwrap() >= 1.0);
    assert!(
        canary
            .counter("rivulet_canary_seconds_count")
            .await
            .unwrap()
            >= 3.0
    );
    assert!(
        canary
            .counter("rivulet_canary_arrived_timestamp")
            .await
            .unwrap()
            > 1.7e9
    );
    sink[0].kill().await.unwrap();
    canary.unready("ClickHouse has 0 of 4").await.unwrap();
    const MISSED: &str = "rivulet_canary_rounds_total{outcome=\"not_in_history\"}";
    assert!(canary.counter(MISSED).await.unwrap() >= 1.0);
    sink[0].launch().unwrap();
    canary.ready().await.unwrap();

    // Somebody withdraws what its family consented to: the registry is told again.
    sqlx::query("UPDATE parents SET coppa = false WHERE id = $1")
        .bind(PARENT.uuid())
        .execute(&rivulet.bed.pool)
        .await
        .unwrap();
    canary.unready("consent_required").await.unwrap();
    canary.ready().await.unwrap();
    aggregate.stop().await.unwrap();
    canary.unready("PostgreSQL has 0 of 4").await.unwrap();
    ingest.kill().await.unwrap();
    canary.unready("no answer").await.unwrap();
    canary.stop().await.unwrap();

    sqlx::query("UPDATE parents SET deleted_at = now() WHERE id = $1")
        .bind(PARENT.uuid())
        .execute(&rivulet.bed.pool)
        .await
        .unwrap();
    let said = complaint(&ingest, key).await;
    assert!(
        said.contains("cannot be registered: it was deleted"),
        "{said}"
    );
}
