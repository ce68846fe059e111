//! Two instances of every role, killed at random moments under load: nothing lost, nothing twice.

use std::time::Duration;

use chrono::Utc;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rivulet_simulator::{Config, run};
use rivulet_tests::{Rivulet, Role, check};
use tokio_util::sync::CancellationToken;

const KILLS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_nothing_is_lost_or_counted_twice() {
    let _turn = crate::turn::of(module_path!());
    let short_sessions = "session.timeout.ms=3000,heartbeat.interval.ms=500";
    let env = [
        ("RIVULET_KAFKA_PROPERTIES", short_sessions),
        ("RIVULET_RATE", "2000"),
    ];
    let (rivulet, mut roles) = Rivulet::running(
        &env,
        ["ingest", "ingest", "aggregate", "aggregate", "sink", "sink"],
    )
    .await
    .unwrap();
    // An app for each ingest, so that both have load.
    let apps = [1, 2].map(|seed| Config {
        children: 90,
        history_days: 8,
        rate: 300.0,
        duration: Some(Duration::from_secs(20)),
        ..rivulet.simulator(&roles[usize::try_from(seed).unwrap() - 1], seed)
    });
    let ledgers = apps.clone().map(|app| app.ledger.unwrap());
    let apps = apps.map(|app| {
        tokio::spawn(async move { run(&app, Utc::now(), |_| {}, &CancellationToken::new()).await })
    });
    let killed = kill_at_random(&mut roles).await;
    for app in apps {
        println!("{}", app.await.unwrap().unwrap());
    }
    for role in &mut roles {
        role.ready().await.unwrap();
    }
    let checked = check::exact(&rivulet, &ledgers).await.unwrap();
    println!("killed {killed:?}; {checked:?}");
    assert!(checked.events > 2_000, "{checked:?}");
    assert!(
        killed.iter().all(|times| *times > 0),
        "every instance should have died: {killed:?}"
    );
}

/// Kills one role after another, each soon enough to meet some of them starting up.
async fn kill_at_random<const N: usize>(roles: &mut [Role; N]) -> [usize; N] {
    let mut rng = ChaCha8Rng::seed_from_u64(20_260_504);
    let mut killed = [0; N];
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(rng.random_range(200..2_200))).await;
        let victim = if kill < N {
            kill
        } else {
            rng.random_range(0..N)
        };
        roles[victim].crash().await.unwrap();
        killed[victim] += 1;
    }
    killed
}
