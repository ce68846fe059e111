//! A rolling upgrade: an ingest that writes the next version of the record beside one of this release, and consumers
//! of this release. Nothing is set aside, and every number is exact.

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use rivulet_simulator::{Config, run};
use rivulet_tests::{Rivulet, check, raw_records};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn records_of_the_next_version_are_counted_beside_ours() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, ours) = Rivulet::running(&[], ["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let next = [("RIVULET_SABOTAGE", "next-version".to_owned())];
    let next = rivulet.start_with("ingest", &next).await.unwrap();
    let app = |ingest, seed| Config {
        children: 30,
        history_days: 3,
        rate: 100.0,
        duration: Some(Duration::from_secs(5)),
        ..rivulet.simulator(ingest, seed)
    };
    let apps = [app(&ours[0], 1), app(&next, 2)];
    let until = CancellationToken::new();
    let [first, second] = apps
        .each_ref()
        .map(|app| run(app, Utc::now(), |_| {}, &until));
    tokio::try_join!(first, second).unwrap();

    let mut versions: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, record) in raw_records(&rivulet.bed.cluster).await.unwrap() {
        let record: Value = serde_json::from_slice(&record).unwrap();
        *versions.entry(record["v"].as_u64().unwrap()).or_default() += 1;
    }
    println!("records by version: {versions:?}");
    assert!(versions.keys().eq(&[1, 2]) && versions.values().all(|records| *records > 500));

    let ledgers = apps.map(|app| app.ledger.unwrap());
    let checked = check::exact(&rivulet, &ledgers).await.unwrap();
    println!("{checked:?}");
    let set_aside: i64 = sqlx::query_scalar("SELECT count(*) FROM quarantine")
        .fetch_one(&rivulet.bed.pool)
        .await
        .unwrap();
    assert_eq!(set_aside, 0);
    for role in ours.into_iter().chain([next]) {
        role.stop().await.unwrap();
    }
}
