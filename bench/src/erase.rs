//! How long a family waits for its certificate: one child among a million events while others go on sending, then a
//! thousand children at once.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use chrono::Utc;
use rivulet_sandbox::TestBed;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    bed,
    corpus::{Corpus, Order},
    drain,
    events::Author,
    latency::load_steadily,
    process,
    report::Report,
};

const EVENTS: usize = 1_000_000;
const CHILDREN: usize = 15_000;
const MANY: usize = 1_000;
/// Requests of 50 events: 2 000 events a second.
const LOADS: u32 = 40;
const SECONDS: u32 = 60;
/// Seconds within which one child, and many, must be gone.
const ONE_MOST: f64 = 300.0;
const MANY_MOST: f64 = 600.0;
/// How long the consumers may take for all events.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let title =
        format!("erase: of {EVENTS} events of {CHILDREN} children, while 2 000 events/s come");
    report.title("erase", &title);
    let bed = bed::make().await?;
    let mut author = Author::new(11);
    let children = bed::children(&mut author, CHILDREN);
    let others = bed::children(&mut author, 1_000);
    bed::register(&bed, &children).await?;
    bed::register(&bed, &others).await?;
    let now = Utc::now().timestamp_millis();
    let corpus = Corpus::compose(&mut author, &children, EVENTS, Order::Together, now)?;
    corpus.fill(&bed.cluster).await?;
    drop(corpus);
    let key = bed::ingest_key(&bed).await?;
    let environment = bed::environment(&bed);
    let roles = process::start_all(["ingest", "aggregate", "sink"], &environment).await?;
    report.progress("the consumers take in all events");
    consumed(&bed).await?;

    let load = load_steadily(&roles[0].address, &key, &others, LOADS, SECONDS);
    let (one, rest) = children.split_at(1);
    let before = sums(&bed, rest, one, now).await?;
    report.progress("one child");
    let seconds = erase(one, &environment).await?;
    report.at_most("one child, until the certificate", seconds, "s", ONE_MOST);
    ensure!(
        sums(&bed, rest, one, now).await? == before,
        "another child's rows have changed"
    );
    load.await??;

    report.progress("a thousand children");
    let (gone, rest) = children.split_at(1 + MANY);
    let before = sums(&bed, rest, gone, now).await?;
    let seconds = erase(&gone[1..], &environment).await?;
    report.at_most("a thousand children at once", seconds, "s", MANY_MOST);
    ensure!(
        sums(&bed, rest, gone, now).await? == before,
        "another child's rows have changed"
    );
    for role in roles {
        role.stop().await?;
    }
    Ok(())
}

/// Erases these children by a file, as an operator does; seconds until the certificate.
async fn erase(children: &[Uuid], environment: &[(&'static str, String)]) -> Result<f64> {
    let mut list = tempfile::NamedTempFile::new()?;
    for child in children {
        writeln!(list, "{child}")?;
    }
    let started = Instant::now();
    let path = list.path().to_str().context("a path")?;
    let certificate = process::command(&["erase", "--file", path, "--json"], environment).await?;
    let seconds = started.elapsed().as_secs_f64();
    let certificate: Value = serde_json::from_str(&certificate)?;
    let subjects = certificate["certificate"]["subjects"]
        .as_array()
        .map_or(0, Vec::len);
    ensure!(
        subjects == children.len(),
        "the certificate names {subjects} children"
    );
    Ok(seconds)
}

/// Waits until both consumers have taken in what is in Kafka.
async fn consumed(bed: &TestBed) -> Result<()> {
    let started = Instant::now();
    for consumer in [rivulet_aggregator::CONSUMER, rivulet_sinks::CONSUMER] {
        while drain::done(&bed.pool, consumer).await? < EVENTS {
            ensure!(started.elapsed() < PATIENCE, "{consumer} is too slow");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

/// A sum over every row of those who stay, in both databases. `gone` are those who go or are gone; of who sends
/// meanwhile nothing was received before `now`.
async fn sums(bed: &TestBed, stay: &[Uuid], gone: &[Uuid], now: i64) -> Result<(String, String)> {
    let postgres: String = sqlx::query_scalar(
        "SELECT coalesce(sum(hashtextextended(row, 0)), 0)::text FROM (
             SELECT d::text FROM daily_child_metrics d WHERE child_id = ANY($1)
             UNION ALL SELECT t::text FROM topic_progress t WHERE child_id = ANY($1)
             UNION ALL SELECT l::text FROM learning_analytics l WHERE child_id = ANY($1)
             UNION ALL SELECT s::text FROM streaks s WHERE child_id = ANY($1)) AS rows (row)",
    )
    .bind(stay)
    .fetch_one(&bed.pool)
    .await?;
    let query = "SELECT toString(assumeNotNull(sum(cityHash64(*)))) FROM history
                 WHERE toString(child_id) NOT IN ? AND received_at <= fromUnixTimestamp64Milli(?)";
    let gone: Vec<String> = gone.iter().map(Uuid::to_string).collect();
    let query = bed.clickhouse.query(query).bind(gone).bind(now);
    Ok((postgres, query.fetch_one().await?))
}
