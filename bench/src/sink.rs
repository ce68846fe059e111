//! The sink beside the `clickhouse` crate's insert of the same rows: rows a second.

use std::time::Instant;

use anyhow::{Result, ensure};
use chrono::Utc;
use rivulet_sandbox::TestBed;

use crate::{
    bed,
    corpus::{Corpus, Order},
    drain,
    events::Author,
    report::{Report, median},
    row::EventRow,
};

const EVENTS: usize = 600_000;
const CHILDREN: usize = 15_000;

pub(crate) async fn run(report: &mut Report, rounds: u32) -> Result<()> {
    let title = format!("sink: {EVENTS} events a round, {rounds} rounds");
    report.title("sink", &title);
    let (mut insert_rate, mut rate) = (Vec::new(), Vec::new());
    let (mut cpu, mut postgres_cpu) = (Vec::new(), Vec::new());
    let mut memory = 0_f64;
    for round in 0..rounds {
        report.progress(&format!("round {} of {rounds}", round + 1));
        let bed = bed::make().await?;
        let mut author = Author::new(u64::from(round));
        let children = bed::children(&mut author, CHILDREN);
        let now = Utc::now().timestamp_millis();
        let corpus = Corpus::compose(&mut author, &children, EVENTS, Order::Together, now)?;
        corpus.fill(&bed.cluster).await?;
        insert_rate.push(insert(&bed, &corpus).await?);
        let drained = drain::drain(&bed, "sink", rivulet_sinks::CONSUMER, &corpus).await?;
        rate.push(drained.rate);
        cpu.push(drained.cpu);
        postgres_cpu.extend(drained.postgres_cpu);
        memory = memory.max(drained.peak_memory);
        let stored: u64 = bed
            .clickhouse
            .query("SELECT count() FROM history")
            .fetch_one()
            .await?;
        ensure!(
            stored == EVENTS as u64,
            "the history has {stored} of {EVENTS} events"
        );
    }
    let mut figure = |name: &str, values: &[f64], unit| report.figure(name, median(values), unit);
    figure("insert() of the clickhouse crate", &insert_rate, "rows/s");
    figure("sink", &rate, "rows/s");
    figure("sink's CPU, a row", &cpu, "us");
    figure("its CPU in PostgreSQL, a row", &postgres_cpu, "us");
    let ratio = median(&rate) / median(&insert_rate);
    report.at_least("sink / insert()", ratio, "x", 0.5);
    report.at_most("peak memory", memory, "MiB", 256.0);
    Ok(())
}

/// Rows a second of one `insert()` into a table like the history's, from rows in memory.
async fn insert(bed: &TestBed, corpus: &Corpus) -> Result<f64> {
    let client = &bed.clickhouse;
    client
        .query("CREATE TABLE plain_events AS events")
        .execute()
        .await?;
    let records = corpus.decoded().collect::<Result<Vec<_>>>()?;
    let rows: Vec<_> = records
        .iter()
        .enumerate()
        .map(|(index, record)| EventRow::new(record, index))
        .collect();
    let started = Instant::now();
    let mut insert = client.insert::<EventRow<'_>>("plain_events").await?;
    for row in &rows {
        insert.write(row).await?;
    }
    insert.end().await?;
    let rate = rows.len() as f64 / started.elapsed().as_secs_f64();
    client
        .query("DROP TABLE plain_events SYNC")
        .execute()
        .await?;
    Ok(rate)
}
