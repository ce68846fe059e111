//! `rivulet rebuild`: the recount from the history equals what was rolled up, finds what was edited, and
//! mends it while events go on arriving.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::time::Duration;

use chrono::Utc;
use rivulet_sandbox::TestBed;
use rivulet_simulator::Config;
use rivulet_tests::{Rivulet, check};
use tokio_util::sync::CancellationToken;

async fn simulate(config: &Config) {
    let never = CancellationToken::new();
    let sent = rivulet_simulator::run(config, Utc::now(), |_| (), &never).await;
    assert!(sent.unwrap().accepted > 0);
}

async fn rebuild(rivulet: &Rivulet, args: &[&str]) -> (String, Option<i32>) {
    let output = rivulet
        .output(&[&["rebuild"], args].concat())
        .await
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    (format!("{said}{complaint}"), output.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_rows_are_found_and_mended_under_load() {
    let rivulet = Rivulet::new(TestBed::new().await, &[]).await.unwrap();
    let roles = rivulet
        .start(["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let before = Config {
        children: 60,
        history_days: 12,
        rate: 200.0,
        duration: Some(Duration::from_secs(2)),
        ..rivulet.simulator(&roles[0], 11)
    };
    simulate(&before).await;
    rivulet.settle().await.unwrap();

    // To the bit: every row of every table that has no withheld event.
    let (said, code) = rebuild(&rivulet, &["--all"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(" 0 differ") && said.contains("left alone: some"),
        "{said}"
    );
    let (said, code) = rebuild(&rivulet, &["--sample", "5"]).await;
    assert!(code == Some(0) && said.contains("of 5 children"), "{said}");

    let pool = &rivulet.bed.pool;
    let change = async |statement: &'static str| {
        let changed = sqlx::query(statement).execute(pool).await;
        assert_eq!(changed.unwrap().rows_affected(), 1, "{statement}");
    };
    change(
        "UPDATE daily_child_metrics SET xp = xp + 7, topics = '{made,up}' WHERE (child_id, local_date) =
         (SELECT child_id, local_date FROM daily_child_metrics WHERE withheld_events = 0 LIMIT 1)",
    )
    .await;
    change(
        "DELETE FROM learning_analytics WHERE (child_id, local_date, subject) =
         (SELECT child_id, local_date, subject FROM learning_analytics WHERE withheld_events = 0 LIMIT 1)",
    )
    .await;
    change(
        "INSERT INTO topic_progress (child_id, topic, interactions, answers, correct_answers, duration_ms,
             messages, questions_asked, conversations, first_seen_at, last_seen_at, withheld_events)
         SELECT child_id, 'never seen', 1, 1, 1, 1, 1, 1, 1, now(), now(), 0 FROM streaks LIMIT 1",
    )
    .await;
    // A day that was not: the other columns are computed from the days whenever one is added.
    change(
        "UPDATE streaks SET active_days = active_days + datemultirange(daterange(
             last_active_date - 200, last_active_date - 199))
         WHERE child_id = (SELECT child_id FROM streaks LIMIT 1)",
    )
    .await;
    let (said, code) = rebuild(&rivulet, &["--all"]).await;
    assert_eq!(code, Some(3), "{said}");
    for word in [
        "4 differ, 0 replaced",
        "xp:",
        "topics: [\"made\",\"up\"], recounted",
        "learning_analytics",
        "missing, recounted",
        "never seen",
        "should not be there",
        "active_days:",
    ] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    assert!(check::exact(&rivulet, &[rivulet.ledger(11)]).await.is_err());

    // The same children go on sending while their rows are replaced.
    let during = Config {
        rate: 300.0,
        duration: Some(Duration::from_secs(8)),
        history_days: 0,
        ledger: Some(rivulet.ledger(12)),
        ..before.clone()
    };
    let live = tokio::spawn(async move { simulate(&during).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (said, code) = rebuild(&rivulet, &["--all", "--write"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("4 differ, 4 replaced"), "{said}");
    live.await.unwrap();
    check::exact(&rivulet, &[rivulet.ledger(11), rivulet.ledger(12)])
        .await
        .unwrap();
    let (said, code) = rebuild(&rivulet, &["--all"]).await;
    assert_eq!(code, Some(0), "{said}");

    // Without a sink there is nothing to measure by.
    let [ingest, aggregate, sink] = roles;
    sink.stop().await.unwrap();
    let more = Config {
        ledger: None,
        duration: Some(Duration::from_secs(1)),
        history_days: 0,
        ..before
    };
    simulate(&more).await;
    let (said, code) = rebuild(&rivulet, &["--sample", "1"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the sink has not come"), "{said}");
    let (said, code) = rebuild(&rivulet, &[]).await;
    assert!(code == Some(2) && said.contains("--all"), "{said}");
    ingest.stop().await.unwrap();
    aggregate.stop().await.unwrap();
}
