//! Each service down for ten minutes in turn, under load: every role's memory stays within 256 MiB, each
//! catches up by itself afterwards, and nothing is lost or counted twice.
//! `./dev test --test end_to_end outages:: -- --ignored --nocapture`; RIVULET_OUTAGE_MINUTES makes it shorter,
//! RIVULET_OUTAGE_OF=Postgres (Kafka, Clickhouse) is one of them alone.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chrono::Utc;
use rivulet_sandbox::{Service, TestBed};
use rivulet_simulator::{Config, run};
use rivulet_tests::{OwnServices, Rivulet, check};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

const MINUTES: &str = "RIVULET_OUTAGE_MINUTES";
const MEMORY: u64 = 256 << 20;
/// Events a second.
const LOAD: f64 = 400.0;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half an hour"]
async fn memory_is_flat_while_a_service_is_down() {
    let _turn = crate::turn::of(module_path!());
    let minutes = std::env::var(MINUTES).map_or(10.0, |minutes| {
        minutes.parse().expect("RIVULET_OUTAGE_MINUTES is a number")
    });
    let outage = Duration::from_secs_f64(60.0 * minutes);
    let services = OwnServices::new("outages").unwrap();
    let sandbox = services.sandbox().unwrap();
    let bed = TestBed::on(sandbox.up(&BTreeMap::new()).await.unwrap()).await;
    let rivulet = Rivulet::new(bed.unwrap(), &[("RIVULET_RATE", "2000")])
        .await
        .unwrap();
    let mut roles = rivulet
        .start(["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let app = Config {
        children: 200,
        history_days: 5,
        rate: LOAD,
        ..rivulet.simulator(&roles[0], 1)
    };
    let ledger = app.ledger.clone().unwrap();
    let enough = CancellationToken::new();
    let stop = enough.clone();
    let app = tokio::spawn(async move { run(&app, Utc::now(), |_| {}, &stop).await });
    tokio::time::sleep(Duration::from_secs(20)).await;

    let only = std::env::var("RIVULET_OUTAGE_OF").unwrap_or_default();
    for service in [Service::Kafka, Service::Postgres, Service::Clickhouse] {
        if !format!("{service:?}").contains(&only) {
            continue;
        }
        let pid = sandbox.pid(service).and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        tokio::time::sleep(outage).await;
        sandbox.up(&BTreeMap::new()).await.unwrap();
        let up = Instant::now();
        for role in &mut roles {
            role.ready().await.unwrap();
        }
        let ready = up.elapsed().as_secs_f64();
        if let Err(error) = rivulet.settle().await {
            let log = rivulet.logs().unwrap();
            panic!("{error}\n{}", String::from_utf8_lossy(&log));
        }
        let settled = up.elapsed().as_secs_f64();
        let peaks = roles.each_ref().map(|role| role.peak_memory().unwrap());
        let [ingest, aggregate, sink] = peaks.map(|bytes| bytes >> 20);
        println!(
            "{service:?} down for {minutes} min: every role ready after {ready:.1} s, all stored after \
             {settled:.1} s; peak memory so far, MiB: ingest {ingest}, aggregate {aggregate}, sink {sink}"
        );
        assert!(peaks.into_iter().all(|bytes| bytes < MEMORY), "{peaks:?}");
    }
    enough.cancel();
    println!("{}", app.await.unwrap().unwrap());
    println!("{:?}", check::exact(&rivulet, &[ledger]).await.unwrap());
}
