//! The tables and views themselves.

use clickhouse::Client;
use rivulet_sandbox::TestBed;

use crate::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn migrating_again_and_from_two_nodes_at_once_changes_nothing() {
    let test = TestBed::new().await;
    // A client whose own database is not there, as on a new server.
    let client = test.clickhouse.clone().with_database("not_there");
    let name = &test.clickhouse_database;
    let migrate = || rivulet_migrations::clickhouse(&client, name);
    let (one, two, three) = tokio::join!(migrate(), migrate(), migrate());
    one.unwrap();
    two.unwrap();
    three.unwrap();
    let tables = || async {
        let query =
            "SELECT name FROM system.tables WHERE database = currentDatabase() ORDER BY name";
        test.clickhouse
            .query(query)
            .fetch_all::<String>()
            .await
            .unwrap()
    };
    let expected = [
        "child_day_activities",
        "child_day_conversations",
        "child_day_rollup",
        "child_day_rollup_all",
        "child_day_rollup_recent",
        "child_days",
        "child_days_recounted",
        "content_performance",
        "conversation_depth",
        "daily_active_children",
        "events",
        "history",
        "learning_effectiveness",
        "retention_cohorts",
        "speech_development",
    ];
    assert_eq!(tables().await, expected);
    let insert = "INSERT INTO events (event_id, received_at) VALUES (generateUUIDv4(), now())";
    test.clickhouse.query(insert).execute().await.unwrap();
    migrate().await.unwrap();
    assert_eq!(tables().await, expected);
    assert_eq!(
        count(&test.clickhouse, "SELECT count() FROM history").await,
        1
    );
}

async fn count(client: &Client, sql: &str) -> u64 {
    client.query(sql).fetch_one().await.unwrap()
}

/// A dashboard asks for one child: the filter must reach the sort key through the view and FINAL.
#[tokio::test(flavor = "multi_thread")]
async fn history_of_one_child_reads_little() {
    let bed = Bed::new().await;
    let fill = "INSERT INTO events (event_id, child_id, id_day, received_at)
                SELECT generateUUIDv4(), reinterpretAsUUID(intHash64(intDiv(number, 100))), today(), now() FROM numbers(200000)";
    bed.test.clickhouse.query(fill).execute().await.unwrap();
    bed.test
        .clickhouse
        .query("OPTIMIZE TABLE events FINAL")
        .execute()
        .await
        .unwrap();
    let explained: Vec<String> = bed
        .test
        .clickhouse
        .query("EXPLAIN ESTIMATE SELECT * FROM history WHERE child_id = reinterpretAsUUID(intHash64(7))")
        .fetch_all::<(String, String, u64, u64, u64)>()
        .await
        .unwrap()
        .into_iter()
        .map(|(_, table, _, rows, _)| {
            assert!(rows <= 3 * 8192, "{rows} rows of {table} read for one child");
            table
        })
        .collect();
    assert_eq!(explained, ["events"]);
    let one = "SELECT count() FROM history WHERE child_id = reinterpretAsUUID(intHash64(7))";
    assert_eq!(bed.number(one).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_column_is_documented() {
    let bed = Bed::new().await;
    let page = include_str!("../../../docs/analysts.md");
    let columns: Vec<(String, String)> = bed
        .test
        .clickhouse
        .query(
            "SELECT table, name FROM system.columns WHERE database = currentDatabase()
                AND table != 'events' AND table NOT LIKE 'child_day_rollup%'",
        )
        .fetch_all()
        .await
        .unwrap();
    assert!(columns.len() > 100);
    for (table, column) in columns {
        let section = page
            .split("\n## ")
            .find(|section| section.starts_with(&format!("`{table}`")))
            .unwrap_or_else(|| panic!("docs/analysts.md has no section on `{table}`"));
        assert!(
            section.contains(&format!("`{column}`")),
            "`{table}`.`{column}` is not documented"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_expires_by_when_it_was_received() {
    let bed = Bed::new().await;
    // Months the device's clock is off by do not matter.
    let insert = "INSERT INTO events (event_id, id_day, event_time, received_at, badge) VALUES
        (generateUUIDv4(), today(), now(), now() - INTERVAL 26 MONTH, 'old'),
        (generateUUIDv4(), '1970-01-01', '1970-01-01', now() - INTERVAL 24 MONTH, 'young')";
    bed.test.clickhouse.query(insert).execute().await.unwrap();
    bed.test
        .clickhouse
        .query("OPTIMIZE TABLE events FINAL")
        .execute()
        .await
        .unwrap();
    let left: Vec<String> = bed
        .test
        .clickhouse
        .query("SELECT assumeNotNull(badge) FROM history")
        .fetch_all()
        .await
        .unwrap();
    assert_eq!(left, ["young"]);
}
