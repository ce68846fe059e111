//! How long an analyst waits on a year of history: each panel of the Product board, each query of
//! docs/analysts.md.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rivulet_sandbox::TestBed;
use serde_json::Value;

use crate::report::{Report, median};

/// The rows that history.sql has: 68 days of 20 000 children.
const YEAR: u64 = 68 * 20_000 * 37;
/// Rows of one INSERT, which bounds ClickHouse's memory.
const STEP: u64 = 5_000_000;
/// Inserted a second time at the end.
const COPIES: u64 = 1_000_000;
/// Seconds within which an analyst should have an answer.
const PATIENCE: f64 = 1.0;

const FILL: &str = include_str!("history.sql");
const BOARD: &str = include_str!("../../dashboards/grafana/boards/product.json");
const PAGE: &str = include_str!("../../docs/analysts.md");

pub(crate) async fn run(report: &mut Report, rounds: u32, events: u64) -> Result<()> {
    ensure!(events <= YEAR, "--events: at most {YEAR}");
    let title = format!("history: {events} events, {rounds} rounds");
    report.title("history", &title);
    let bed = TestBed::new().await;
    rivulet_migrations::clickhouse(&bed.clickhouse, &bed.clickhouse_database).await?;
    let mut there = 0;
    while there < events {
        report.progress(&format!("{there} events are there"));
        let next = events.min(there + STEP);
        // The newest days first, so that the last weeks have some, however few there are.
        fill(&bed, YEAR - next, YEAR - there).await?;
        there = next;
    }
    fill(&bed, YEAR - COPIES.min(events), YEAR).await?;

    for which in ["recent", "all"] {
        report.progress(&format!("refreshing {which}"));
        let view = format!("VIEW child_day_rollup_{which}");
        let started = Instant::now();
        execute(&bed, &format!("SYSTEM REFRESH {view}")).await?;
        execute(&bed, &format!("SYSTEM WAIT {view}")).await?;
        let name = format!("recount of child_days, {which}");
        report.figure(&name, started.elapsed().as_secs_f64(), "s");
    }
    let counted: u64 = bed
        .clickhouse
        .query("SELECT sum(events) FROM child_days")
        .fetch_one()
        .await?;
    ensure!(
        counted == events,
        "child_days has {counted} of {events} events"
    );

    for (title, sql) in panels()? {
        let seconds = time(&bed, &sql, rounds).await?;
        let name = format!("board: {title}");
        report.at_most(&name, seconds, "s", PATIENCE);
    }
    for (title, sql) in queries() {
        let seconds = time(&bed, sql, rounds).await?;
        let name = format!("page: {title}");
        if sql.contains("FROM learning_effectiveness") {
            // Reads every answer there is.
            report.figure(&name, seconds, "s");
        } else {
            report.at_most(&name, seconds, "s", PATIENCE);
        }
    }
    Ok(())
}

async fn fill(bed: &TestBed, from: u64, to: u64) -> Result<()> {
    let sql = FILL
        .replace("{from}", &from.to_string())
        .replace("{to}", &to.to_string());
    execute(bed, &sql).await
}

async fn execute(bed: &TestBed, sql: &str) -> Result<()> {
    // `query_raw`, because `query` takes a `?` for a parameter.
    Ok(bed.clickhouse.query_raw(sql).execute().await?)
}

/// Seconds until the whole answer is there, the median of `rounds`.
async fn time(bed: &TestBed, sql: &str, rounds: u32) -> Result<f64> {
    let (child, day): (String, String) = bed
        .clickhouse
        .query("SELECT toString(child_id), toString(local_date) FROM child_days WHERE local_date = today() - 7 LIMIT 1")
        .fetch_one()
        .await?;
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        bed.clickhouse
            .query(sql)
            .param("child", &child)
            .param("day", &day)
            .fetch_bytes("TabSeparated")?
            .collect()
            .await
            .with_context(|| sql.to_owned())?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(median(&seconds))
}

/// The board's queries, by title, over the whole year.
fn panels() -> Result<Vec<(String, String)>> {
    let board: Value = serde_json::from_str(BOARD)?;
    let panels = board["panels"].as_array().context("panels")?;
    let mut queries = Vec::new();
    for panel in panels {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().context("a title")?;
            let sql = target["rawSql"].as_str().context("a query")?;
            let mut parts = sql.split("$__dateFilter(");
            let mut whole = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let (column, rest) = part.split_once(')').context("a column")?;
                whole += &format!("{column} >= today() - 364{rest}");
            }
            queries.push((title.to_owned(), whole));
        }
    }
    Ok(queries)
}

/// The page's numbered queries, by their headings.
fn queries() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGE.split("\n### ").filter_map(|section| {
        let (title, rest) = section.split_once('\n')?;
        let (_, rest) = rest.split_once("```sql\n")?;
        let (sql, _) = rest.split_once("\n```")?;
        title
            .starts_with(|first: char| first.is_ascii_digit())
            .then_some((title, sql))
    })
}
