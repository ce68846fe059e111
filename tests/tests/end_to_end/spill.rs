//! Kafka killed under load with the spill on; ingest killed as well, its disk full for a while: what
//! was accepted is counted once, whichever promise was given.

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use rivulet_sandbox::{Service, TestBed};
use rivulet_simulator::{Config, run};
use rivulet_tests::{OwnServices, Rivulet, Role, check};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

const ROOM: &str = "rivulet_ingest_spill_has_room";
const WAITING: &str = "rivulet_ingest_spill_records";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spilled_is_counted_once_whoever_is_killed() {
    let _turn = crate::turn::of(module_path!());
    let services = OwnServices::new("spill").unwrap();
    let sandbox = services.sandbox().unwrap();
    let stack = sandbox.up(&BTreeMap::new()).await.unwrap();
    let bed = TestBed::on(stack).await.unwrap();
    let dir = services.path("spilled");
    let env = [
        ("RIVULET_RATE", "2000"),
        ("RIVULET_SPILL_DIR", dir.to_str().unwrap()),
    ];
    let rivulet = Rivulet::new(bed, &env).await.unwrap();
    let [mut ingest, aggregate, sink] = rivulet
        .start(["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let app = Config {
        children: 90,
        history_days: 6,
        rate: 300.0,
        ..rivulet.simulator(&ingest, 1)
    };
    let ledger = app.ledger.clone().unwrap();
    // As long as the outages take, which differs: an app that ended before would spill nothing more.
    let enough = CancellationToken::new();
    let until_enough = enough.clone();
    let app = tokio::spawn(async move { run(&app, Utc::now(), |_| {}, &until_enough).await });

    for outage in 0..2 {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let kafka = sandbox.pid(Service::Kafka).and_then(Pid::from_raw);
        kill_process(kafka.unwrap(), Signal::KILL).unwrap();
        until(&ingest, WAITING, |records| records > 300.0).await;
        ingest.crash().await.unwrap();
        // It does its work without Kafka.
        ingest.ready().await.unwrap();
        let before = ingest.counter(WAITING).await.unwrap();
        assert!(before > 300.0, "{before}");
        if outage == 0 {
            // Its disk is full for a while, and the app has to keep what it cannot get rid of.
            ingest.limit_files(Some(64 << 10)).unwrap();
            until(&ingest, ROOM, |room| room == 0.0).await;
            ingest.limit_files(None).unwrap();
            until(&ingest, ROOM, |room| room == 1.0).await;
        }
        until(&ingest, WAITING, |records| records > before + 500.0).await;
        sandbox.up(&BTreeMap::new()).await.unwrap();
        until(&ingest, "rivulet_ingest_drained_records_total", |n| n > 0.0).await;
        // Perhaps between an acknowledgement and the removal.
        ingest.crash().await.unwrap();
        ingest.ready().await.unwrap();
    }
    enough.cancel();
    println!("{}", app.await.unwrap().unwrap());
    until(&ingest, WAITING, |records| records == 0.0).await;
    let checked = check::exact(&rivulet, &[ledger]).await.unwrap();
    println!("{checked:?}");
    assert!(checked.events > 5_000, "{checked:?}");
    for role in [ingest, aggregate, sink] {
        role.stop().await.unwrap();
    }
}

/// Waits until a metric of the role is as wanted; a test that waits in vain fails here.
async fn until(role: &Role, metric: &str, holds: impl Fn(f64) -> bool) {
    let mut last = f64::NAN;
    for _ in 0..600 {
        if let Ok(value) = role.counter(metric).await {
            if holds(value) {
                return;
            }
            last = value;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{metric} stays at {last}");
}
