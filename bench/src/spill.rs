//! What the spill costs ingest: switched on beside switched off while Kafka is up, and what ingest does
//! onto the disk alone.

use anyhow::Result;

use crate::{
    bed,
    ingest::{ACCEPTED, BODIES, CONNECTIONS, EVENTS, REQUESTS, requests},
    load::{self, Met},
    process,
    report::{Report, median},
};

/// Nobody listens there.
const NO_KAFKA: &str = "127.0.0.1:1";

pub(crate) async fn run(report: &mut Report, rounds: u32) -> Result<()> {
    let title = format!(
        "spill: {REQUESTS} requests of {EVENTS} events on {CONNECTIONS} connections, {rounds} rounds"
    );
    report.title("spill", &title);
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
        let [role] = process::start_all(["ingest"], &environment).await?;
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
        let name = format!("{who}: events a second");
        report.figure(&name, median(&rates), "1/s");
        let name = format!("{who}: latency of a request");
        report.quantiles(&name, &latencies, &[0.5, 0.99]);
        let name = format!("{who}: peak memory");
        report.figure(&name, process::peak_memory(&role)?, "MiB");
        role.stop().await?;
    }
    let name = "events a second while Kafka is up, spill on / off";
    report.at_least(name, medians[1] / medians[0], "x", 0.9);
    Ok(())
}

fn rate(met: &Met) -> f64 {
    (met.latencies.len() * EVENTS) as f64 / met.wall.as_secs_f64()
}
