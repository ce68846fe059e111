//! How long telling the SDK's core of an event holds up the app, on the disk of this machine.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rivulet_sdk::{Client, Config, Event, fake::FakeServer};
use serde_json::json;
use uuid::Uuid;

use crate::report::{Report, quantile};

const EVENTS: u32 = 10_000;
const A_SECOND: u32 = 1_000;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let title = format!("sdk: {EVENTS} events, {A_SECOND} a second and as fast as can be");
    report.title("sdk", &title);
    report.progress("a client that sends to a server in this process meanwhile");
    let paced = told(Some(Duration::from_secs(1) / A_SECOND))?;
    report.quantiles("a call at 1 000 a second", &paced, &[0.5, 0.999]);
    let p99 = quantile(&paced, 0.99);
    report.at_most("a call at 1 000 a second, p99", p99, "ms", 1.0);
    report.figure("the longest", quantile(&paced, 1.0), "ms");
    let fast = told(None)?;
    let mean = fast.iter().sum::<f64>() / fast.len() as f64;
    report.figure("events a second, one thread", 1_000.0 / mean, "1/s");
    Ok(())
}

/// How long each call took, in milliseconds.
fn told(pause: Option<Duration>) -> Result<Vec<f64>> {
    let dir = tempfile::tempdir()?;
    let server = Arc::new(FakeServer::default());
    let transport = Arc::clone(&server) as _;
    let mut config = Config::with("http://fake", "rvk_fake", dir.path(), transport);
    config.bounds.events = EVENTS.into();
    let client = Client::open(config)?;
    let child = Uuid::new_v4();
    let mut calls = Vec::new();
    let began = Instant::now();
    for n in 0..EVENTS {
        if let Some(pause) = pause {
            std::thread::sleep((began + pause * n).saturating_duration_since(Instant::now()));
        }
        let data = json!({"action": "answer", "subject": "math", "is_correct": true, "response_time_ms": 2300});
        let event = Event::new("interaction", data);
        let call = Instant::now();
        client.track(child, event)?;
        calls.push(call.elapsed().as_secs_f64() * 1e3);
    }
    ensure!(
        client.close(Duration::from_secs(60)),
        "the client does not end"
    );
    let arrived = server.events().len();
    ensure!(
        arrived == EVENTS as usize,
        "{arrived} of {EVENTS} events arrived"
    );
    Ok(calls)
}
