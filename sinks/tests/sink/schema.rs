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
        "erased_to",
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

/// As it was before versions of consents were kept.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_table_gets_the_column_and_its_rows_have_no_version() {
    let bed = Bed::new().await;
    let client = &bed.test.clickhouse;
    for statement in [
        "CREATE OR REPLACE VIEW history AS SELECT local_date, * EXCEPT (local_date, consent_version) FROM events FINAL",
        "ALTER TABLE events DROP COLUMN consent_version",
        "INSERT INTO events (event_id, received_at) VALUES (generateUUIDv4(), now())",
    ] {
        client.query(statement).execute().await.unwrap();
    }
    rivulet_migrations::clickhouse(client, &bed.test.clickhouse_database)
        .await
        .unwrap();
    let none = "SELECT count() FROM history WHERE consent_version IS NULL";
    assert_eq!(count(client, none).await, 1);
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
                AND table NOT IN ('events', 'erased_to') AND table NOT LIKE 'child_day_rollup%'",
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

/// What a tool shows beside a column's name, and what it takes for the time of a row.
#[tokio::test(flavor = "multi_thread")]
async fn every_column_says_what_it_is() {
    let bed = Bed::new().await;
    // Once more, as at every upgrade: replacing a view forgets what was said of it.
    rivulet_migrations::clickhouse(&bed.test.clickhouse, &bed.test.clickhouse_database)
        .await
        .unwrap();
    let columns: Vec<(String, String, String, String)> = bed
        .test
        .clickhouse
        .query(
            "SELECT table, name, comment, type FROM system.columns WHERE database = currentDatabase()
             ORDER BY table, position",
        )
        .fetch_all()
        .await
        .unwrap();
    // All that have columns before they are asked for something: but for the view with a parameter.
    let mut tables: Vec<_> = columns.iter().map(|column| column.0.as_str()).collect();
    tables.dedup();
    assert_eq!(tables.len(), 15, "{tables:?}");
    let silent: Vec<_> = columns
        .iter()
        .filter(|(_, _, comment, _)| comment.is_empty())
        .map(|(table, name, ..)| format!("{table}.{name}"))
        .collect();
    assert_eq!(silent, Vec::<String>::new());

    let of = |wanted: &str| -> Vec<_> {
        columns
            .iter()
            .filter(|(table, ..)| table == wanted)
            .map(|(_, name, comment, kind)| (name.as_str(), comment.as_str(), kind.as_str()))
            .collect()
    };
    let (mut events, history) = (of("events"), of("history"));
    assert_eq!(history[0].0, "local_date");
    events.retain(|(name, ..)| *name != "version");
    events.sort_by_key(|(name, ..)| *name != "local_date");
    assert_eq!(history, events);
    for view in ["child_day_rollup_all", "child_day_rollup_recent"] {
        let said = |table| -> Vec<_> { of(table).into_iter().map(|(a, b, _)| (a, b)).collect() };
        assert_eq!(said(view), said("child_day_rollup"));
    }
}

/// Another order of columns for as long as a migration runs would put the columns of whoever reads them
/// by their place into one another.
#[tokio::test(flavor = "multi_thread")]
async fn history_is_the_same_while_it_is_migrated_again() {
    let bed = Bed::new().await;
    let migrate =
        rivulet_migrations::clickhouse(&bed.test.clickhouse, &bed.test.clickhouse_database);
    tokio::pin!(migrate);
    let first = async || {
        let query = "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = 'history'
                     ORDER BY position LIMIT 1";
        bed.test
            .clickhouse
            .query(query)
            .fetch_optional::<String>()
            .await
            .unwrap()
    };
    let mut looks = 0;
    loop {
        tokio::select! {
            biased;
            done = &mut migrate => break done.unwrap(),
            seen = first() => {
                looks += 1;
                // None for the moment in which one view is exchanged for the other.
                assert!(seen.is_none_or(|name| name == "local_date"));
            }
        }
    }
    assert!(looks > 0, "it was looked at while it was migrated");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_expires_by_when_it_was_received() {
    let bed = Bed::new().await;
    // Months the device's clock is off by do not matter.
    let insert = "INSERT INTO events (event_id, event_type, id_day, event_time, received_at, badge) VALUES
        (generateUUIDv4(), 'interaction', today(), now(), now() - INTERVAL 1826 DAY, 'old'),
        (generateUUIDv4(), 'interaction', '1970-01-01', '1970-01-01', now() - INTERVAL 1824 DAY, 'young')";
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
