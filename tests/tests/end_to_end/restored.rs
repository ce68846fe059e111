//! ClickHouse put back to an older backup, PostgreSQL left as it is: `verify` names what is missing, and what
//! docs/backup.md says to do brings it back. (PostgreSQL put back is one of the faults of faults.rs.)

use std::time::Duration;

use chrono::Utc;
use rivulet_simulator::{Config, run};
use rivulet_tests::{Rivulet, Role, check};
use tokio_util::sync::CancellationToken;

async fn simulate(rivulet: &Rivulet, ingest: &Role, seed: u64) {
    let app = Config {
        children: 30,
        history_days: 2,
        rate: 200.0,
        duration: Some(Duration::from_secs(2)),
        ..rivulet.simulator(ingest, seed)
    };
    run(&app, Utc::now(), |_| {}, &CancellationToken::new())
        .await
        .unwrap();
    rivulet.settle().await.unwrap();
}

/// The statements of the page's section on this.
fn statements() -> &'static str {
    let page = include_str!("../../../docs/backup.md");
    let (_, section) = page.split_once("### ClickHouse alone\n").unwrap();
    let (_, block) = section.split_once("```sql\n").unwrap();
    block.split_once("```").unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_restored_alone_is_filled_up_from_kafka() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [ingest, _aggregate, mut sink]) =
        Rivulet::running(&[], ["ingest", "aggregate", "sink"])
            .await
            .unwrap();
    simulate(&rivulet, &ingest, 1).await;

    let database = &rivulet.bed.clickhouse_database;
    // A backup in memory lives in its session.
    let clickhouse = rivulet
        .bed
        .clickhouse
        .clone()
        .with_database("system")
        .with_setting("session_id", database)
        .with_setting("session_timeout", "600");
    let execute = async |sql: &str| clickhouse.query_raw(sql).execute().await.unwrap();
    execute(&format!("BACKUP DATABASE {database} TO Memory('b')")).await;
    simulate(&rivulet, &ingest, 2).await;
    sink.kill().await.unwrap();
    execute(&format!("DROP DATABASE {database} SYNC")).await;
    execute(&format!("RESTORE DATABASE {database} FROM Memory('b')")).await;

    sink.launch().unwrap();
    sink.ready().await.unwrap();
    let output = rivulet.output(&["verify", "--hours", "3"]).await.unwrap();
    assert_eq!(output.status.code(), Some(3), "nothing is missing");
    let ledgers = [rivulet.ledger(1), rivulet.ledger(2)];
    check::exact(&rivulet, &ledgers).await.unwrap_err();

    sink.kill().await.unwrap();
    sqlx::raw_sql(statements())
        .execute(&rivulet.bed.pool)
        .await
        .unwrap();
    sink.launch().unwrap();
    sink.ready().await.unwrap();
    rivulet.settle().await.unwrap();
    rivulet.command(&["verify", "--hours", "3"]).await.unwrap();
    rivulet.command(&["rebuild", "--all"]).await.unwrap();
    check::exact(&rivulet, &ledgers).await.unwrap();
}
