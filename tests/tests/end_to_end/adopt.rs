//! Drained topics deleted and created again: every consumer stops, an operator adopts them, and what was
//! counted stays counted.

use std::time::Duration;

use chrono::Utc;
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};
use rivulet_simulator::{Config, run};
use rivulet_tests::{Rivulet, Role, check, first_copies};
use tokio_util::sync::CancellationToken;

async fn simulate(rivulet: &Rivulet, ingest: &Role, seed: u64) {
    let app = Config {
        children: 30,
        history_days: 2,
        rate: 200.0,
        duration: Some(Duration::from_secs(2)),
        ..rivulet.simulator(ingest, seed)
    };
    run(&app, Utc::now(), |_| {}, &CancellationToken::new())
        .await
        .unwrap();
}

async fn counted(rivulet: &Rivulet) -> usize {
    let counted: i64 =
        sqlx::query_scalar("SELECT coalesce(sum(events), 0)::bigint FROM daily_child_metrics")
            .fetch_one(&rivulet.bed.pool)
            .await
            .unwrap();
    usize::try_from(counted).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_made_anew_are_adopted_and_nothing_is_counted_twice() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [ingest, mut aggregate, mut sink]) =
        Rivulet::running(&[], ["ingest", "aggregate", "sink"])
            .await
            .unwrap();
    let said = rivulet.command(&["topics", "adopt"]).await.unwrap();
    assert!(said.contains("every position is within its log"), "{said}");
    simulate(&rivulet, &ingest, 1).await;
    let checked = check::exact(&rivulet, &[rivulet.ledger(1)]).await.unwrap();
    assert_eq!(counted(&rivulet).await, checked.events);

    // The consumers are away, as they would be while somebody works on Kafka.
    aggregate.kill().await.unwrap();
    sink.kill().await.unwrap();
    ingest.stop().await.unwrap();
    let admin: AdminClient<DefaultClientContext> =
        rivulet.bed.cluster.client_config().create().unwrap();
    let topics = rivulet.bed.cluster.topics();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    admin
        .delete_topics(&names, &AdminOptions::new())
        .await
        .unwrap();
    let gone = || {
        let timeout = Duration::from_secs(5);
        rivulet_kafka::incarnations(admin.inner(), &topics, timeout)
            .is_ok_and(|left| left.is_empty())
    };
    while !gone() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    rivulet.command(&["topics"]).await.unwrap();

    aggregate.launch().unwrap();
    sink.launch().unwrap();
    for role in [&aggregate, &sink] {
        role.unready("made anew").await.unwrap();
    }
    let [ingest] = rivulet.start(["ingest"]).await.unwrap();
    simulate(&rivulet, &ingest, 2).await;
    assert_eq!(counted(&rivulet).await, checked.events, "nothing is read");
    let said = rivulet.command(&["topics", "adopt"]).await.unwrap();
    assert!(said.contains("--write does it"), "{said}");
    let said = rivulet
        .command(&["topics", "adopt", "--write"])
        .await
        .unwrap();
    assert!(said.contains("24 positions set"), "{said}");
    for role in [&mut aggregate, &mut sink] {
        role.ready().await.unwrap();
    }
    rivulet.settle().await.unwrap();
    let new = first_copies(&rivulet.bed.cluster).await.unwrap().len();
    assert_eq!(counted(&rivulet).await, checked.events + new);
    rivulet.command(&["verify", "--hours", "3"]).await.unwrap();
    rivulet.command(&["rebuild", "--all"]).await.unwrap();
}
