//! The read API while events come in: a year of a child's days, and what a thousand listeners cost.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use chrono::{Days, Utc};
use rivulet_sandbox::TestBed;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
};
use uuid::Uuid;

use crate::{
    bed,
    events::Author,
    latency::{load_steadily, ticks},
    load::{self, Client},
    process,
    report::{Report, quantile},
    streams,
};

const SECONDS: u32 = 20;
/// Requests of 50 events a second: 2 000 events.
const LOADS: u32 = 40;
/// Connections that ask, and how often each does a second: 200 requests in all.
const ASKERS: usize = 8;
const ASKS: u32 = 25;
/// Children with a year of days.
const CHILDREN: usize = 40;
const LISTENERS: usize = 1_000;
/// Events a second of children who are listened to, each the first of its child.
const MARKERS: u32 = 20;

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let title = format!(
        "api: {} requests/s for a year of days, and {LISTENERS} listeners, for {SECONDS} s each, at {} events/s",
        ASKERS as u32 * ASKS,
        LOADS * 50
    );
    report.title("api", &title);
    let bed = bed::make().await?;
    let mut author = Author::new(11);
    let families = bed::children(&mut author, 1_000);
    let old = bed::children(&mut author, CHILDREN);
    let markers = bed::children(&mut author, (SECONDS * MARKERS) as usize);
    let wordy = bed::children(&mut author, 1);
    for children in [&families, &old, &markers, &wordy] {
        bed::register(&bed, children).await?;
    }
    a_year_of_days(&bed, &old).await?;
    let key = bed::ingest_key(&bed).await?;
    let environment = bed::environment(&bed);
    let reader = process::key("reader", "read", &environment).await?;
    let roles = process::start_all(["ingest", "aggregate", "api"], &environment).await?;
    let (ingest, api) = (roles[0].address.clone(), roles[2].address.clone());

    report.progress(&format!("{SECONDS} s of requests"));
    let load = load_steadily(&ingest, &key, &families, LOADS, SECONDS);
    let times = ask_for_years(&api, &reader, &old).await?;
    load.await??;
    report.quantiles("a year of days", &times, &[0.5]);
    let p99 = quantile(&times, 0.99);
    report.at_most("a year of days, p99", p99, "ms", 20.0);

    report.progress(&format!("{SECONDS} s of {LISTENERS} listeners"));
    let (told, mut hears) = unbounded_channel();
    let mut listeners = JoinSet::new();
    for child in markers.iter().chain(&families).take(LISTENERS) {
        listeners.spawn(listen(api.clone(), reader.clone(), *child, told.clone()));
        // As they come in life; a connection attempt is not what is measured.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let load = load_steadily(&ingest, &key, &families, LOADS, SECONDS);
    let mut client = Client::connect(&ingest).await?;
    let mut answered = HashMap::new();
    let mut ticks = ticks(MARKERS);
    for child in &markers {
        ticks.tick().await;
        let events = author.batch(*child, Utc::now().timestamp_millis() - 4_000, 1);
        client.succeed(&load::post(&key, &events)).await?;
        answered.insert(*child, Instant::now());
    }
    load.await??;
    let mut delays = Vec::new();
    while delays.len() < markers.len() {
        let next = tokio::time::timeout(Duration::from_secs(30), hears.recv()).await;
        let (child, at) = next
            .context("an update was missed")?
            .context("nobody listens")?;
        if let Some(answered) = answered.get(&child) {
            delays.push(at.saturating_duration_since(*answered).as_secs_f64() * 1e3);
        }
    }
    report.quantiles("answer to live update", &delays, &[0.5, 0.95]);
    let memory = process::peak_memory(&roles[2])?;
    report.at_most("peak memory of api", memory, "MiB", 150.0);
    drop(listeners);
    report.progress("20 s of streams of one child");
    let (ingest, api) = (
        (ingest.as_str(), key.as_str()),
        (api.as_str(), reader.as_str()),
    );
    streams::run(report, &bed, ingest, api, wordy[0]).await?;
    for role in roles {
        role.stop().await?;
    }
    Ok(())
}

/// Rows as the aggregator leaves them, one for each of 366 days.
async fn a_year_of_days(bed: &TestBed, children: &[Uuid]) -> Result<()> {
    let today = Utc::now().date_naive();
    let first = today.checked_sub_days(Days::new(365)).context("a date")?;
    bed::partitions(&bed.pool, first.iter_days().take(366)).await?;
    sqlx::query(
        "INSERT INTO daily_child_metrics
         SELECT child, day, 140, 4, 3600000, 60, 12, 30, 24, 3, 1, 10, 90000, 30, 240, 12, 20, 20, 8, 3, 2, 0,
                4000, 5, 12, 720000, 900, 1400, 60, 30, 220, 12, 180, '{colours,fractions,planets}', '{}', 90,
                day + time '09:00', day + time '17:00', 0
         FROM unnest($1::uuid[]) AS child, generate_series($2::date, $3::date, '1 day') AS day",
    )
    .bind(children)
    .bind(first)
    .bind(today)
    .execute(&bed.pool)
    .await?;
    sqlx::raw_sql("ANALYZE daily_child_metrics")
        .execute(&bed.pool)
        .await?;
    Ok(())
}

/// Milliseconds from the moment a year was due to all of it.
async fn ask_for_years(api: &str, key: &str, children: &[Uuid]) -> Result<Vec<f64>> {
    let today = Utc::now().date_naive();
    let from = today.checked_sub_days(Days::new(365)).context("a date")?;
    let mut askers = JoinSet::new();
    for asker in 0..ASKERS {
        let mut client = Client::connect(api).await?;
        let paths: Vec<_> = children
            .iter()
            .map(|child| format!("/v1/children/{child}/daily?from={from}&to={today}"))
            .collect();
        let key = key.to_owned();
        askers.spawn(async move {
            let mut times = Vec::new();
            let mut ticks = ticks(ASKS);
            for request in 0..(SECONDS * ASKS) as usize {
                let due = ticks.tick().await;
                let path = &paths[(asker + request) % paths.len()];
                let mut page = path.clone();
                loop {
                    client.succeed(&load::get(&page, &key)).await?;
                    match next(client.body()) {
                        Some(after) => page = format!("{path}&after={after}"),
                        None => break,
                    }
                }
                times.push(due.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(asker) = askers.join_next().await {
        times.extend(asker??);
    }
    Ok(times)
}

/// What comes after this answer, if anything does: it says so last.
fn next(body: &[u8]) -> Option<String> {
    let end = body.len().saturating_sub(4_096);
    let end = String::from_utf8_lossy(&body[end..]);
    let (_, next) = end.rsplit_once("\"next\":\"")?;
    next.split_once('"').map(|(next, _)| next.to_owned())
}

/// Listens for good, and says when the child's first day is told.
async fn listen(
    api: String,
    key: String,
    child: Uuid,
    told: UnboundedSender<(Uuid, Instant)>,
) -> Result<()> {
    let mut stream = TcpStream::connect(&api).await?;
    let request = load::get(&format!("/v1/children/{child}/live"), &key);
    stream.write_all(&request).await?;
    let mut text = Vec::new();
    let mut said = false;
    while stream.read_buf(&mut text).await? > 0 {
        let sign = b"\"local_date\"";
        if !said && text.windows(sign.len()).any(|part| part == sign) {
            told.send((child, Instant::now()))?;
            said = true;
        }
        if said {
            text.clear();
        }
    }
    Ok(())
}
