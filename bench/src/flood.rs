//! One child with a million topics: what the aggregator's others notice, and how that child is read.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::Utc;
use rivulet_sandbox::TestBed;
use uuid::Uuid;

use crate::{
    bed,
    corpus::{Corpus, Order},
    drain,
    events::Author,
    load::{self, Client},
    process,
    report::{Report, median},
};

const TOPICS: usize = 1_000_000;
/// Events of others in a drain.
const OTHERS: usize = 400_000;
/// What one key may send a second, by default.
const RATE: f64 = 5_000.0;
const ROUNDS: usize = 3;
const ASKED: usize = 20;

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let title = format!(
        "a child with {TOPICS} topics in a day: {OTHERS} events of others worked off, {ROUNDS} rounds"
    );
    report.title("fairness", &title);
    let bed = bed::make().await?;
    let mut author = Author::new(23);
    let children = bed::children(&mut author, OTHERS / 100);
    let child = bed::children(&mut author, 1)[0];
    bed::register(&bed, &[child]).await?;
    report.progress(&format!("{TOPICS} topics"));
    let mut number = 0;
    let mut memory = 0_f64;
    let mut done = 0;
    while number < TOPICS {
        // By parts: what is composed is held in memory.
        let now = Utc::now().timestamp_millis();
        let some = Corpus::topics(&mut author, child, number, TOPICS / 4, now)?;
        number += TOPICS / 4;
        some.fill(&bed.cluster).await?;
        done += some.len();
        memory = memory.max(drained(&bed, child, done, OTHERS).await?.1);
    }
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let round = round + 1;
        report.progress(&format!("round {round} of {ROUNDS}: without and with"));
        let mut took = 0.0;
        for with in [false, true] {
            let now = Utc::now().timestamp_millis();
            let mut corpus = Corpus::compose(&mut author, &children, OTHERS, Order::Together, now)?;
            if with {
                // As many as one key may send in the time that the others take.
                let more = (RATE * took) as usize;
                corpus.mix(Corpus::topics(&mut author, child, number, more, now)?);
                number += more;
            }
            corpus.fill(&bed.cluster).await?;
            sqlx::query("CHECKPOINT").execute(&bed.pool).await?;
            done += corpus.len();
            let (others, peak) = drained(&bed, child, done, OTHERS).await?;
            memory = memory.max(peak);
            took = OTHERS as f64 / others;
            if with { &mut beside } else { &mut quiet }.push(others);
        }
    }
    let (quiet, beside) = (median(&quiet), median(&beside));
    report.figure("others alone", quiet, "events/s");
    let name = "others beside a topic an event, at one key's rate";
    report.figure(name, beside, "events/s");
    report.at_least("beside / alone", beside / quiet, "x", 0.9);
    report.at_most("peak memory of the aggregator", memory, "MiB", 256.0);
    read(report, &bed, child).await
}

/// Works off what is there, up to so many records in all. Returns how many events of other children were counted a
/// second, and MiB. Of the others the last quarter is left out: there the partitions that have nothing more to do
/// would be reckoned among those that go slower.
async fn drained(bed: &TestBed, child: Uuid, records: usize, others: usize) -> Result<(f64, f64)> {
    let before = counted(bed, child).await?;
    let running = process::start("aggregate", &bed::environment(bed))?;
    let asked = Instant::now();
    let (mut first, mut last) = (None, None);
    while drain::done(&bed.pool, rivulet_aggregator::CONSUMER).await? < records {
        let now = (Instant::now(), counted(bed, child).await? - before);
        if now.1 > 0 {
            first.get_or_insert(now);
        }
        if now.1 <= others * 3 / 4 {
            last = Some(now);
        }
        ensure!(
            asked.elapsed() < Duration::from_secs(300),
            "{records} records were not done in time"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rate = first.zip(last).map_or(0.0, |((from, few), (to, many))| {
        (many - few) as f64 / (to - from).as_secs_f64()
    });
    let memory = process::peak_memory(&running)?;
    running.stop().await?;
    Ok((rate, memory))
}

/// Events of children other than this one.
async fn counted(bed: &TestBed, child: Uuid) -> Result<usize> {
    let sql =
        "SELECT coalesce(sum(events), 0)::bigint FROM daily_child_metrics WHERE child_id <> $1";
    let events: i64 = sqlx::query_scalar(sql)
        .bind(child)
        .fetch_one(&bed.pool)
        .await?;
    Ok(usize::try_from(events)?)
}

/// How that child is read: the slowest of some answers, and the largest.
async fn read(report: &mut Report, bed: &TestBed, child: Uuid) -> Result<()> {
    let environment = bed::environment(bed);
    let key = process::key("reader", "read", &environment).await?;
    let [api] = process::start_all(["api"], &environment).await?;
    let mut client = Client::connect(&api.address).await?;
    for what in [
        "children/ID/daily",
        "children/ID/learning",
        "children/ID/topics",
        "children/ID/streak",
        "families/ID",
    ] {
        let path = format!("/v1/{}", what.replace("ID", &child.to_string()));
        let request = load::get(&path, &key);
        let (mut slowest, mut largest) = (0_f64, 0);
        for asked in 0..=ASKED {
            let sent = Instant::now();
            client.succeed(&request).await.context(what)?;
            largest = largest.max(client.body().len());
            // The first fills caches.
            if asked > 0 {
                slowest = slowest.max(sent.elapsed().as_secs_f64() * 1e3);
            }
        }
        let name = format!("{what}: slowest of {ASKED}");
        report.at_most(&name, slowest, "ms", 100.0);
        let kilobytes = largest as f64 / 1e3;
        report.at_most(&format!("{what}: largest"), kilobytes, "kB", 200.0);
    }
    api.stop().await
}
