//! dbt and DuckDB on the history: dashboards/dbt and the commands of docs/warehouse.md, as they stand there.

use std::path::Path;

use rivulet_sandbox::tools;
use tokio::process::Command;

use crate::{bed::Bed, rollup::DAYS};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[tokio::test(flavor = "multi_thread")]
async fn dbt_and_duckdb_read_the_history() {
    let requirements = root().join("dashboards/dbt/requirements.txt");
    let Some(python) = tools::python("dbt and DuckDB on the history", "dbt", &requirements) else {
        return;
    };
    let bed = Bed::new().await;
    for day in DAYS - 3..DAYS {
        bed.fill(day, 0..100).await;
    }
    bed.refresh("all").await;
    let mut check = Command::new(python);
    check
        .arg(root().join("sinks/tests/tools/check.py"))
        .arg(&bed.test.clickhouse_database)
        .arg(root())
        .env("CLICKHOUSE_URL", &bed.test.clickhouse_url)
        .env("NO_PROXY", "127.0.0.1");
    assert!(
        check.status().await.unwrap().success(),
        "what failed is above"
    );
}

/// The statements that need users and grants, which the library behind the development door has not: they are read
/// as ClickHouse reads them, and not run.
#[tokio::test(flavor = "multi_thread")]
async fn the_statements_for_a_login_are_ones() {
    let bed = Bed::new().await;
    let page = include_str!("../../../docs/analysts.md");
    let (_, section) = page.split_once("\n## Connect\n").unwrap();
    let (_, block) = section.split_once("\n```\n").unwrap();
    let (block, _) = block.split_once("\n```").unwrap();
    let statements: Vec<_> = block.split_terminator(';').collect();
    assert_eq!(statements.len(), 3, "{block}");
    for statement in statements {
        let explained: Vec<String> = bed
            .test
            .clickhouse
            .query_raw(&format!("EXPLAIN AST {statement}"))
            .fetch_all()
            .await
            .unwrap();
        assert!(!explained.is_empty(), "{statement}");
    }
}

/// As docs/analysts.md warns: without constraints, a query's own settings win over those of its login.
#[tokio::test(flavor = "multi_thread")]
async fn readonly_2_is_no_limit() {
    let bed = Bed::new().await;
    let asked = |query: &str| {
        let client = bed.test.clickhouse.clone();
        let query = client.query(query);
        query
            .with_setting("readonly", "2")
            .with_setting("max_execution_time", "60")
            .fetch_one::<String>()
    };
    let limit = "SELECT toString(getSetting('max_execution_time'))";
    assert_eq!(asked(limit).await.unwrap(), "60");
    let own = format!("{limit} SETTINGS max_execution_time = 0");
    assert_eq!(asked(&own).await.unwrap(), "0");
    assert!(asked("SELECT '1' SETTINGS readonly = 0").await.is_err());
}
