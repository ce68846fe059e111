//! Benchmarks of the product against the plainest way to do the same work, in one run.
//!
//! Every figure that has a target is a ratio: the real role, as a process of its own on the real
//! services, beside a baseline on the same machine, services and events, alternated. So it says
//! something on any machine. Nothing here asserts: it measures and prints.
#![expect(clippy::print_stdout, reason = "a command that prints its results")]

mod aggregator;
mod api;
mod attacks;
mod bed;
mod copy;
mod corpus;
mod drain;
mod erase;
mod events;
mod fairness;
mod flood;
mod history;
mod ingest;
mod latency;
mod load;
mod plain;
mod process;
mod report;
mod row;
mod sdk;
mod sink;
mod spill;
mod streams;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::report::Report;

/// Measures rivulet against its targets. Needs the services of `./dev up --services`.
#[derive(Parser)]
struct Cli {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// One line of JSON a figure instead of the table.
    #[arg(long)]
    json: bool,
    /// How often each side of a comparison is measured; the figure is the median.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// How many events `history` is measured on.
    #[arg(long, default_value_t = 50_000_000)]
    events: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum What {
    All,
    Ingest,
    Spill,
    Aggregator,
    Sink,
    Latency,
    Api,
    Sdk,
    /// How long an erasure takes: four minutes.
    Erase,
    /// What others notice while one does its worst: five minutes.
    Fairness,
    /// The part of `fairness` that is about one child with a million topics.
    Flood,
    /// What analysts ask of a year of events: ten minutes and 5 GB, so not one of `all`.
    History,
    /// The baseline of `ingest`, a process of its own.
    #[value(hide = true)]
    PlainHandler,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    if cli.what == What::PlainHandler {
        return plain::serve().await;
    }
    let mut report = Report::new(cli.json);
    let wanted = |what| cli.what == What::All || cli.what == what;
    if wanted(What::Ingest) {
        ingest::run(&mut report, cli.rounds).await?;
    }
    if wanted(What::Spill) {
        spill::run(&mut report, cli.rounds).await?;
    }
    if wanted(What::Aggregator) {
        aggregator::run(&mut report, cli.rounds).await?;
    }
    if wanted(What::Sink) {
        sink::run(&mut report, cli.rounds).await?;
    }
    if wanted(What::Latency) {
        latency::run(&mut report).await?;
    }
    if wanted(What::Api) {
        api::run(&mut report).await?;
    }
    if wanted(What::Sdk) {
        sdk::run(&mut report)?;
    }
    if wanted(What::Erase) {
        erase::run(&mut report).await?;
    }
    if wanted(What::Fairness) {
        fairness::run(&mut report).await?;
    }
    if wanted(What::Fairness) || cli.what == What::Flood {
        flood::run(&mut report).await?;
    }
    if cli.what == What::History {
        history::run(&mut report, cli.rounds, cli.events).await?;
    }
    report.finish();
    Ok(())
}
