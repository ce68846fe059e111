//! What many live streams of one child cost in bytes, where that child's sets are as full as they may be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use chrono::{SecondsFormat, Utc};
use rivulet_sandbox::TestBed;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};
use uuid::Uuid;

use crate::{
    latency::ticks,
    load::{self, Client},
    report::Report,
};

/// As many as may watch one child.
const STREAMS: u64 = 64;
/// An event each.
const SECONDS: u64 = 20;
/// Topics, and badges, that a day keeps.
const TOPICS: u64 = 256;

/// Listens to `child`, whose day this fills.
pub(crate) async fn run(
    report: &mut Report,
    bed: &TestBed,
    ingest: (&str, &str),
    api: (&str, &str),
    child: Uuid,
) -> Result<()> {
    let mut sender = Client::connect(ingest.0).await?;
    let mut send = async |numbers: std::ops::Range<u64>| {
        let events: Vec<_> = numbers.map(|number| event(child, number)).collect();
        sender.succeed(&load::post(ingest.1, &events)).await
    };
    // From the last to the first: each that comes later pushes another out.
    send(SECONDS..SECONDS + TOPICS).await?;
    let counted = async {
        loop {
            let sql = "SELECT coalesce(sum(events), 0)::bigint FROM daily_child_metrics WHERE child_id = $1";
            let events: i64 = sqlx::query_scalar(sql)
                .bind(child)
                .fetch_one(&bed.pool)
                .await?;
            if events == TOPICS as i64 {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(30), counted).await;
    counted.context("the events were not counted")??;

    let bytes = Arc::new(AtomicU64::new(0));
    let (told, mut hears) = unbounded_channel();
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let request = load::get(&format!("/v1/children/{child}/live"), api.1);
        let stream = TcpStream::connect(api.0).await?;
        streams.spawn(listen(stream, request, Arc::clone(&bytes), told.clone()));
    }
    hear(&mut hears, STREAMS).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let whole = bytes.swap(0, Ordering::Relaxed) / STREAMS;
    report.figure("of it at first, of one day", whole as f64 / 1e3, "kB");
    let mut ticks = ticks(1);
    for second in (0..SECONDS).rev() {
        ticks.tick().await;
        send(second..second + 1).await?;
    }
    hear(&mut hears, STREAMS * SECONDS).await?;
    let name = "64 streams of a child with 256 long topics and badges, an event a second";
    let kilobytes = bytes.load(Ordering::Relaxed) as f64 / 1e3;
    report.at_most(name, kilobytes / SECONDS as f64, "kB/s", 100.0);
    Ok(())
}

/// With a topic and a badge of 100 characters.
fn event(child: Uuid, number: u64) -> String {
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    format!(
        r#"{{"id":"{}","type":"interaction","child_id":"{child}","occurred_at":"{now}","data":{{"action":"reward","topic":"{number:0100}","badge":"{number:0100}"}}}}"#,
        Uuid::now_v7()
    )
}

/// Waits for so many updates.
async fn hear(hears: &mut UnboundedReceiver<()>, updates: u64) -> Result<()> {
    for _ in 0..updates {
        let next = tokio::time::timeout(Duration::from_secs(30), hears.recv());
        next.await.context("an update was missed")?;
    }
    Ok(())
}

/// Listens for good; counts bytes and says when there is an update.
async fn listen(
    mut stream: TcpStream,
    request: Vec<u8>,
    bytes: Arc<AtomicU64>,
    told: UnboundedSender<()>,
) -> Result<()> {
    stream.write_all(&request).await?;
    let sign = b"event: update\n";
    let mut text = Vec::new();
    loop {
        let read = stream.read_buf(&mut text).await?;
        ensure!(read > 0, "a stream has ended");
        bytes.fetch_add(read as u64, Ordering::Relaxed);
        while let Some(at) = text.windows(sign.len()).position(|part| part == sign) {
            text.drain(..at + sign.len());
            told.send(())?;
        }
        // It may have been cut.
        text.drain(..text.len().saturating_sub(sign.len()));
    }
}
