//! An instance frozen for longer than its session: the other takes over, and what the thawed one
//! still has in its hands must not count.

use std::time::Duration;

use chrono::Utc;
use rivulet_simulator::{Config, run};
use rivulet_tests::{Rivulet, check};
use tokio_util::sync::CancellationToken;

/// Longer than the session time-out.
const FROZEN: Duration = Duration::from_millis(3_500);

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_instance_is_replaced_and_fenced() {
    let _turn = crate::turn::of(module_path!());
    let short_sessions = "session.timeout.ms=2000,heartbeat.interval.ms=400";
    let env = [
        ("RIVULET_KAFKA_PROPERTIES", short_sessions),
        ("RIVULET_RATE", "2000"),
    ];
    let (rivulet, [ingest, aggregate_a, aggregate_b, sink_a, sink_b]) =
        Rivulet::running(&env, ["ingest", "aggregate", "aggregate", "sink", "sink"])
            .await
            .unwrap();
    let app = Config {
        children: 120,
        history_days: 8,
        rate: 400.0,
        ..rivulet.simulator(&ingest, 1)
    };
    let ledger = app.ledger.clone().unwrap();
    let enough = CancellationToken::new();
    let stop = enough.clone();
    let app = tokio::spawn(async move { run(&app, Utc::now(), |_| {}, &stop).await });
    // Whether one has a batch in its hands is chance, so until it was seen.
    let (mut rounds, mut fenced) = (0, 0.0);
    while rounds < 2 || (fenced == 0.0 && rounds < 8) {
        for frozen in [[&aggregate_a, &sink_a], [&aggregate_b, &sink_b]] {
            tokio::time::sleep(Duration::from_millis(1_300)).await;
            for role in frozen {
                role.freeze().unwrap();
            }
            tokio::time::sleep(FROZEN).await;
            // Every partition goes on without them.
            rivulet.settle().await.unwrap();
            for role in frozen {
                role.thaw().unwrap();
            }
        }
        rounds += 1;
        fenced = 0.0;
        for role in [&aggregate_a, &aggregate_b] {
            fenced += role
                .counter("rivulet_aggregator_fenced_parts_total")
                .await
                .unwrap();
        }
        for role in [&sink_a, &sink_b] {
            fenced += role
                .counter("rivulet_history_fenced_ranges_total")
                .await
                .unwrap();
        }
    }
    enough.cancel();
    println!("{}", app.await.unwrap().unwrap());
    let checked = check::exact(&rivulet, &[ledger]).await.unwrap();
    println!("fenced {fenced} in {rounds} rounds; {checked:?}");
    assert!(checked.events > 2_000 && fenced > 0.0, "{checked:?}");
}
