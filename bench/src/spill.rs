//! What the spill costs ingest: switched on beside switched off while Kafka is up, and what ingest does
//! onto the disk alone.

use anyhow::Result;

use crate::{
    bed,
    ingest::{ACCEPTED, BODIES, CONNECTIONS, EVENTS, REQUESTS, requests},
    load::{self, Met},
    process::Role,
    report::{Report, Target, median, quantile},
};

const BENCH: &str = "spill";

/// Nobody listens there.
const NO_KAFKA: &str = "127.0.0.1:1";

pub(crate) async fn run(report: &mut Report, rounds: u32) -> Result<()> {
    report.title(&format!(
        "spill: {REQUESTS} requests of {EVENTS} events on {CONNECTIONS} connections, {rounds} rounds"
    ));
    report
        .progress("ingest without a spill, with one that rests, and with nothing but one, in turn");
    let bed = bed::make().await?;
    let (requests, _) = requests(&bed).await?;
    let dir = tempfile::tempdir()?;
    let off = bed::environment(&bed);
    let spill = |name: &str| {
        let dir = dir.path().join(name).display().to_string();
        [off.clone(), vec![("RIVULET_SPILL_DIR", dir)]].concat()
    };
    let mut alone = spill("alone");
    alone.push(("KAFKA_BROKERS", NO_KAFKA.to_owned()));
    // Its client says so many times a second.
    alone.push(("RIVULET_LOG", "error".to_owned()));
    let mut roles = Vec::new();
    for environment in [off.clone(), spill("resting"), alone] {
        let mut role = Role::start("ingest", &environment).await?;
        role.ready().await?;
        roles.push((role, Vec::new(), Vec::new()));
    }
    // The first load of each fills caches and is not counted.
    for round in 0..=rounds {
        let count = if round == 0 { BODIES * 2 } else { REQUESTS };
        for (role, rates, latencies) in &mut roles {
            let met = load::run(&role.address, &requests, count, CONNECTIONS, ACCEPTED).await?;
            if round > 0 {
                rates.push(rate(&met));
                latencies.extend(met.latencies);
            }
        }
    }
    let mut medians = Vec::new();
    for (who, (role, rates, latencies)) in ["off", "on, Kafka up", "on, no Kafka"].iter().zip(roles)
    {
        medians.push(median(&rates));
        report.figure(
            BENCH,
            &format!("{who}: events a second"),
            median(&rates),
            "1/s",
        );
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let name = format!("{who}: latency of a request, {name}");
            report.figure(BENCH, &name, quantile(&latencies, share), "ms");
        }
        report.figure(
            BENCH,
            &format!("{who}: peak memory"),
            role.peak_memory()?,
            "MiB",
        );
        role.stop().await?;
    }
    report.target(
        BENCH,
        "events a second while Kafka is up, spill on / off",
        medians[1] / medians[0],
        "x",
        Target::AtLeast(0.9),
    );
    Ok(())
}

fn rate(met: &Met) -> f64 {
    (met.latencies.len() * EVENTS) as f64 / met.wall.as_secs_f64()
}
