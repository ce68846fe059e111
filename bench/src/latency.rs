//! From the answer to the row: how soon an accepted event can be seen in either database.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use chrono::Utc;
use sqlx::PgPool;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
    time::MissedTickBehavior,
};
use uuid::Uuid;

use crate::{
    bed,
    events::Author,
    load::{self, Client},
    process,
    report::{Report, quantile},
};

const SECONDS: u32 = 20;
/// Ten requests of 50 events a second are the load; between them, markers are sent.
const LOADS: u32 = 10;
const EVENTS: usize = 50;
/// A marker is the first event of a child of its own, in a request of its own.
const MARKERS: u32 = 20;
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let title = format!(
        "latency: {} events/s for {SECONDS} s through every role",
        LOADS * EVENTS as u32 + MARKERS
    );
    report.title("latency", &title);
    report.progress(&format!("{SECONDS} s of load"));
    let bed = bed::make().await?;
    let mut author = Author::new(7);
    let families = bed::children(&mut author, 1_000);
    let markers = bed::children(&mut author, (SECONDS * MARKERS) as usize);
    bed::register(&bed, &families).await?;
    bed::register(&bed, &markers).await?;
    let key = bed::ingest_key(&bed).await?;
    let names = ["ingest", "aggregate", "sink"];
    let roles = process::start_all(names, &bed::environment(&bed)).await?;
    let address = roles[0].address.clone();

    let (to_postgres, from_answers) = unbounded_channel();
    let pool = bed.pool.clone();
    let postgres = tokio::spawn(watch(
        from_answers,
        Duration::from_millis(5),
        move |children| in_postgres(pool.clone(), children),
    ));
    let (to_clickhouse, from_answers) = unbounded_channel();
    let client = bed.clickhouse.clone();
    let clickhouse = tokio::spawn(watch(
        from_answers,
        Duration::from_millis(50),
        move |children| in_clickhouse(client.clone(), children),
    ));

    let load = load_steadily(&address, &key, &families, LOADS, SECONDS);
    let mut client = Client::connect(&address).await?;
    let mut answers = Vec::new();
    let mut ticks = ticks(MARKERS);
    for child in &markers {
        ticks.tick().await;
        let events = author.batch(*child, Utc::now().timestamp_millis() - 4_000, 1);
        let sent = Instant::now();
        client.succeed(&load::post(&key, &events)).await?;
        let answered = Instant::now();
        answers.push((answered - sent).as_secs_f64() * 1e3);
        to_postgres.send((*child, answered))?;
        to_clickhouse.send((*child, answered))?;
    }
    load.await??;
    drop((to_postgres, to_clickhouse));
    let (postgres, clickhouse) = (postgres.await??, clickhouse.await??);

    report.quantiles("request to answer", &answers, &[0.5, 0.99]);
    for (store, delays, most) in [
        ("PostgreSQL", postgres, 1_000.0),
        ("ClickHouse", clickhouse, 5_000.0),
    ] {
        let name = format!("answer to row in {store}");
        report.quantiles(&name, &delays, &[0.5]);
        let p99 = quantile(&delays, 0.99);
        report.at_most(&format!("{name}, p99"), p99, "ms", most);
    }
    for (name, role) in names.iter().zip(roles) {
        let memory = process::peak_memory(&role)?;
        report.at_most(&format!("peak memory of {name}"), memory, "MiB", 256.0);
        role.stop().await?;
    }
    Ok(())
}

/// So many requests of [`EVENTS`] events a second.
pub(crate) fn load_steadily(
    address: &str,
    key: &str,
    families: &[Uuid],
    loads: u32,
    seconds: u32,
) -> JoinHandle<Result<()>> {
    let (address, key) = (address.to_owned(), key.to_owned());
    let families = families.to_owned();
    tokio::spawn(async move {
        let mut author = Author::new(8);
        let mut client = Client::connect(&address).await?;
        let mut ticks = ticks(loads);
        for request in 0..(seconds * loads) as usize {
            ticks.tick().await;
            let child = families[request % families.len()];
            let events = author.batch(child, Utc::now().timestamp_millis() - 300_000, EVENTS);
            client.succeed(&load::post(&key, &events)).await?;
        }
        Ok(())
    })
}

pub(crate) fn ticks(a_second: u32) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / a_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Asks `find` which of the answered children have a row, until all have; milliseconds each took.
pub(crate) async fn watch<Found: Future<Output = Result<Vec<Uuid>>>>(
    mut answered: UnboundedReceiver<(Uuid, Instant)>,
    every: Duration,
    find: impl Fn(Vec<Uuid>) -> Found,
) -> Result<Vec<f64>> {
    let mut waiting = HashMap::new();
    let mut delays = Vec::new();
    loop {
        if waiting.is_empty() {
            match answered.recv().await {
                Some((child, since)) => waiting.insert(child, since),
                None => return Ok(delays),
            };
        }
        while let Ok((child, since)) = answered.try_recv() {
            waiting.insert(child, since);
        }
        for child in find(waiting.keys().copied().collect()).await? {
            if let Some(since) = waiting.remove(&child) {
                delays.push(since.elapsed().as_secs_f64() * 1e3);
            }
        }
        let stuck = waiting.values().any(|since| since.elapsed() > LIMIT);
        ensure!(!stuck, "an accepted event had no row after {LIMIT:?}");
        tokio::time::sleep(every).await;
    }
}

pub(crate) async fn in_postgres(pool: PgPool, children: Vec<Uuid>) -> Result<Vec<Uuid>> {
    let sql = "SELECT child_id FROM daily_child_metrics WHERE child_id = ANY ($1)";
    Ok(sqlx::query_scalar(sql)
        .bind(children)
        .fetch_all(&pool)
        .await?)
}

async fn in_clickhouse(client: clickhouse::Client, children: Vec<Uuid>) -> Result<Vec<Uuid>> {
    let list: Vec<_> = children.iter().map(|child| format!("'{child}'")).collect();
    let query = format!(
        "SELECT toString(child_id) FROM events WHERE child_id IN ({})",
        list.join(",")
    );
    let found: Vec<String> = client.query(&query).fetch_all().await?;
    Ok(found
        .iter()
        .filter_map(|child| child.parse().ok())
        .collect())
}
