//! The aggregator beside COPY of the same events: events a second.

use anyhow::Result;
use chrono::Utc;

use crate::{
    bed, copy,
    corpus::{Corpus, Order},
    drain,
    events::Author,
    report::{Report, median},
};

/// Enough for a rate that lasts: the first and last batch of a drain, and the WAL files that a new server has
/// to make first, do not show.
const EVENTS: usize = 500_000;

pub(crate) async fn run(report: &mut Report, rounds: u32) -> Result<()> {
    let cases = [
        (Order::Together, "20 events of a child together", 5_000),
        (Order::Spread, "one event a child a batch", 40_000),
    ];
    for (order, case, children) in cases {
        let title = format!(
            "aggregator, {case}: {EVENTS} events of {children} children a round, {rounds} rounds"
        );
        report.title("aggregator", &title);
        measure(report, rounds, order, case, children).await?;
    }
    Ok(())
}

async fn measure(
    report: &mut Report,
    rounds: u32,
    order: Order,
    case: &str,
    children: usize,
) -> Result<()> {
    let (mut copy_rate, mut copy_cpu) = (Vec::new(), Vec::new());
    let (mut rate, mut cpu, mut postgres_cpu) = (Vec::new(), Vec::new(), Vec::new());
    let mut memory = 0_f64;
    for round in 0..rounds {
        report.progress(&format!("round {} of {rounds}", round + 1));
        let bed = bed::make().await?;
        let mut author = Author::new(u64::from(round));
        let children = bed::children(&mut author, children);
        let now = Utc::now().timestamp_millis();
        let corpus = Corpus::compose(&mut author, &children, EVENTS, order, now)?;
        corpus.fill(&bed.cluster).await?;

        copy::create_table(&bed.pool).await?;
        let rows = copy::encode(&corpus)?;
        let copied = copy::copy(&bed.pool, &rows).await?;
        drop(rows);
        // What COPY left to be written is not the aggregator's.
        sqlx::query("CHECKPOINT").execute(&bed.pool).await?;
        copy_rate.push(EVENTS as f64 / copied.wall.as_secs_f64());
        copy_cpu.extend(
            copied
                .backend_cpu
                .map(|cpu| cpu.as_secs_f64() * 1e6 / EVENTS as f64),
        );

        let drained =
            drain::drain(&bed, "aggregate", rivulet_aggregator::CONSUMER, &corpus).await?;
        rate.push(drained.rate);
        cpu.push(drained.cpu);
        postgres_cpu.extend(drained.postgres_cpu);
        memory = memory.max(drained.peak_memory);
    }
    let mut figure =
        |name: &str, value, unit| report.figure(&format!("{case}: {name}"), value, unit);
    figure("COPY", median(&copy_rate), "events/s");
    let name = "COPY's CPU in PostgreSQL, an event";
    figure(name, median(&copy_cpu), "us");
    figure("aggregator", median(&rate), "events/s");
    figure("aggregator's CPU, an event", median(&cpu), "us");
    let name = "its CPU in PostgreSQL, an event";
    figure(name, median(&postgres_cpu), "us");
    let ratio = median(&rate) / median(&copy_rate);
    let name = format!("{case}: aggregator / COPY");
    match order {
        Order::Together => report.at_least(&name, ratio, "x", 0.5),
        Order::Spread => report.figure(&name, ratio, "x"),
    }
    report.at_most(&format!("{case}: peak memory"), memory, "MiB", 256.0);
    Ok(())
}
