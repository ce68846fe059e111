//! Ingest beside a handler that only parses: CPU time an event.

use std::{process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use chrono::Utc;
use rivulet_sandbox::TestBed;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    bed,
    events::Author,
    load::{self, Met},
    process,
    report::{Report, median},
};

pub(crate) const EVENTS: usize = 50;
pub(crate) const BODIES: usize = 400;
pub(crate) const REQUESTS: usize = 4_000;
pub(crate) const CONNECTIONS: usize = 32;

/// What an answer says when every event was taken.
pub(crate) const ACCEPTED: &str = r#""accepted":50"#;

pub(crate) async fn run(report: &mut Report, rounds: u32) -> Result<()> {
    let title = format!(
        "ingest: {REQUESTS} requests of {EVENTS} events on {CONNECTIONS} connections, {rounds} rounds"
    );
    report.title("ingest", &title);
    report.progress("the real role and the plain handler in turn");
    let bed = bed::make().await?;
    let (requests, bytes) = requests(&bed).await?;
    let mean = bytes as f64 / (BODIES * EVENTS) as f64;
    report.figure("an event's JSON, mean", mean, "bytes");

    let [role] = process::start_all(["ingest"], &bed::environment(&bed)).await?;
    let plain = Plain::start().await?;
    let mut real_figures = Figures::default();
    let mut plain_figures = Figures::default();
    // The first load of each fills caches and is not counted.
    for round in 0..=rounds {
        let count = if round == 0 { BODIES * 2 } else { REQUESTS };
        let before = plain.cpu()?;
        let met = load::run(&plain.address, &requests, count, CONNECTIONS, "parsed 50").await?;
        let plain_cpu = plain.cpu()? - before;
        let before = process::cpu_of(&role)?;
        let real = load::run(&role.address, &requests, count, CONNECTIONS, ACCEPTED).await?;
        let real_cpu = process::cpu_of(&role)? - before;
        if round > 0 {
            plain_figures.add(&met, plain_cpu);
            real_figures.add(&real, real_cpu);
        }
    }
    plain_figures.report(report, "plain handler");
    real_figures.report(report, "ingest");
    let ratio = median(&real_figures.cpu) / median(&plain_figures.cpu);
    report.at_most("CPU an event, ingest / plain handler", ratio, "x", 4.0);
    let memory = process::peak_memory(&role)?;
    report.at_most("peak memory of ingest", memory, "MiB", 256.0);
    role.stop().await
}

/// Requests, each of a child of its own, registered; and the bytes of all events in them.
pub(crate) async fn requests(bed: &TestBed) -> Result<(Arc<Vec<Vec<u8>>>, usize)> {
    let mut author = Author::new(1);
    let children = bed::children(&mut author, BODIES);
    bed::register(bed, &children).await?;
    let key = bed::ingest_key(bed).await?;
    let now = Utc::now().timestamp_millis();
    let mut bytes = 0;
    let mut requests = Vec::with_capacity(BODIES);
    for child in children {
        let events = author.batch(child, now - 600_000, EVENTS);
        bytes += events.iter().map(String::len).sum::<usize>();
        requests.push(load::post(&key, &events));
    }
    Ok((Arc::new(requests), bytes))
}

#[derive(Default)]
struct Figures {
    cpu: Vec<f64>,
    rate: Vec<f64>,
    latencies: Vec<f64>,
}

impl Figures {
    fn add(&mut self, met: &Met, cpu: Duration) {
        let events = (met.latencies.len() * EVENTS) as f64;
        self.cpu.push(cpu.as_secs_f64() * 1e6 / events);
        self.rate.push(events / met.wall.as_secs_f64());
        self.latencies.extend(&met.latencies);
    }

    fn report(&self, report: &mut Report, who: &str) {
        let name = format!("{who}: CPU an event");
        report.figure(&name, median(&self.cpu), "us");
        let name = format!("{who}: events a second");
        report.figure(&name, median(&self.rate), "1/s");
        let name = format!("{who}: latency of a request");
        report.quantiles(&name, &self.latencies, &[0.5, 0.99]);
    }
}

/// The baseline's process.
struct Plain {
    child: Child,
    address: String,
}

impl Plain {
    async fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("plain-handler")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address).await?;
        Ok(Self {
            child,
            address: address.trim().to_owned(),
        })
    }

    fn cpu(&self) -> Result<Duration> {
        self.child
            .id()
            .and_then(process::cpu)
            .context("the plain handler has ended")
    }
}
