//! Kafka, PostgreSQL and ClickHouse killed and started again under load, on a stack of this test's
//! own: every role lives through it, and nothing is lost or counted twice.

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use rivulet_sandbox::{Service, TestBed};
use rivulet_simulator::{Config, run};
use rivulet_tests::{OwnServices, Rivulet, check};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn services_restart_under_load_and_every_role_lives_through_it() {
    let _turn = crate::turn::of(module_path!());
    let services = OwnServices::new("restarts").unwrap();
    let sandbox = services.sandbox().unwrap();
    let stack = sandbox.up(&BTreeMap::new()).await.unwrap();
    let bed = TestBed::on(stack).await.unwrap();
    let rivulet = Rivulet::new(bed, &[("RIVULET_RATE", "2000")])
        .await
        .unwrap();
    let mut roles = rivulet
        .start(["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let app = Config {
        children: 90,
        history_days: 6,
        rate: 300.0,
        duration: Some(Duration::from_secs(30)),
        ..rivulet.simulator(&roles[0], 1)
    };
    let ledger = app.ledger.clone().unwrap();
    let app =
        tokio::spawn(async move { run(&app, Utc::now(), |_| {}, &CancellationToken::new()).await });
    let every = [Service::Kafka, Service::Postgres, Service::Clickhouse];
    for victims in [&every[..1], &every[1..2], &every[2..], &every[..]] {
        tokio::time::sleep(Duration::from_millis(1_700)).await;
        for victim in victims {
            let pid = sandbox.pid(*victim).and_then(Pid::from_raw).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
        }
        // Down for a while, so that everybody notices.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        sandbox.up(&BTreeMap::new()).await.unwrap();
        for role in &mut roles {
            role.ready().await.unwrap();
        }
    }
    println!("{}", app.await.unwrap().unwrap());
    let checked = check::exact(&rivulet, &[ledger]).await.unwrap();
    println!("{checked:?}");
    assert!(checked.events > 5_000, "{checked:?}");
    for role in roles {
        role.stop().await.unwrap();
    }
}
