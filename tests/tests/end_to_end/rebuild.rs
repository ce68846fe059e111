//! `rivulet rebuild`: the recount from the history equals what was rolled up, finds what was edited, and
//! mends it while events go on arriving.

use std::time::Duration;

use chrono::Utc;
use rivulet_simulator::Config;
use rivulet_tests::{Rivulet, check};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

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
    let _turn = crate::turn::of(module_path!());
    let (rivulet, roles) = Rivulet::running(&[], ["ingest", "aggregate", "sink"])
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

/// What an earlier release stored and nobody counts, or what PostgreSQL refuses, is one child's affair.
#[tokio::test(flavor = "multi_thread")]
async fn children_that_cannot_be_recounted_are_named_and_passed_over() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, roles) = Rivulet::running(&[], ["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let app = Config {
        children: 40,
        history_days: 6,
        duration: Some(Duration::ZERO),
        ..rivulet.simulator(&roles[0], 13)
    };
    simulate(&app).await;
    rivulet.settle().await.unwrap();
    let (pool, clickhouse) = (&rivulet.bed.pool, &rivulet.bed.clickhouse);
    let children: Vec<Uuid> = sqlx::query_scalar(
        "SELECT child_id FROM daily_child_metrics GROUP BY child_id
         HAVING sum(withheld_events) = 0 AND sum(interactions) > 2 ORDER BY child_id LIMIT 5",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let [nul, bytes, range, refused, edited] = children[..] else {
        panic!("too few children")
    };
    for (child, change) in [
        (nul, "'a\\0b' AS topic"),
        (nul, "'\\0' AS badge"),
        (bytes, "unhex('ff') AS topic"),
        (range, "65535 AS xp"),
    ] {
        let insert = format!(
            "INSERT INTO events SELECT * REPLACE (generateUUIDv4() AS event_id, {change}) FROM events
             WHERE child_id = '{child}' AND event_type = 'interaction' LIMIT 1"
        );
        clickhouse.query(&insert).execute().await.unwrap();
    }
    for statement in [
        format!(
            "ALTER TABLE daily_child_metrics ADD CONSTRAINT sane CHECK (child_id <> '{refused}') NOT VALID"
        ),
        format!("UPDATE daily_child_metrics SET xp = xp + 7 WHERE child_id = '{edited}'"),
    ] {
        let statement = sqlx::AssertSqlSafe(statement);
        sqlx::query(statement).execute(pool).await.unwrap();
    }

    let (said, code) = rebuild(&rivulet, &["--all"]).await;
    assert_eq!(code, Some(3), "{said}");
    for (child, problem) in [
        // The history has its two bad rows in the order of ids that it made.
        (nul, " holds a NUL, and 1 more"),
        (bytes, "not a record of this schema"),
        (
            range,
            "no ingest lets this through: data.xp is out of its range",
        ),
        (refused, "violates check constraint \"sane\""),
    ] {
        let line = said.lines().find(|line| line.contains(&child.to_string()));
        let line = line.unwrap_or_else(|| panic!("{child} is not named: {said}"));
        assert!(line.contains(problem), "{line}");
    }
    assert!(said.contains("4 children passed over"), "{said}");
    assert!(
        said.contains(&format!("daily_child_metrics {edited}")),
        "{said}"
    );

    // For machines, and only for them who asked: not in a log.
    let output = rivulet
        .output(&["rebuild", "--all", "--json"])
        .await
        .unwrap();
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let named = |key: &str| lines.iter().filter(|line| !line[key].is_null()).count();
    assert_eq!(named("child_id"), 4, "{lines:#?}");
    assert!(named("table") > 0, "{lines:#?}");
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        complaint.contains("4 children were passed over"),
        "{complaint}"
    );

    // The audit goes on, too, and tells how many.
    let [audit] = rivulet.start(["verify --every 60"]).await.unwrap();
    let passed_over = audit
        .counter("rivulet_not_recounted_children")
        .await
        .unwrap();
    let differing = audit.counter("rivulet_differing_rows").await.unwrap();
    assert!(
        passed_over == 4.0 && differing >= 1.0,
        "{passed_over} {differing}"
    );
    audit.stop().await.unwrap();
    let log = String::from_utf8(rivulet.logs().unwrap()).unwrap();
    assert!(log.contains("children cannot be recounted"), "{log}");
    for child in [nul, bytes, range, refused, edited] {
        assert!(!complaint.contains(&child.to_string()));
        assert!(!log.contains(&child.to_string()));
    }

    // Others are mended meanwhile. What is still in the way is still told.
    let (said, code) = rebuild(&rivulet, &["--all", "--write"]).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(!said.contains(" 0 replaced"), "{said}");
    let (said, code) = rebuild(&rivulet, &["--child", &edited.to_string()]).await;
    assert_eq!(code, Some(0), "{said}");
    let mend = "ALTER TABLE events DELETE WHERE xp = 65535 OR topic IN ('a\\0b', unhex('ff')) OR badge = '\\0'";
    let mended = clickhouse.query(mend).with_setting("mutations_sync", "1");
    mended.execute().await.unwrap();
    sqlx::query("ALTER TABLE daily_child_metrics DROP CONSTRAINT sane")
        .execute(pool)
        .await
        .unwrap();
    let (said, code) = rebuild(&rivulet, &["--all"]).await;
    assert_eq!(code, Some(0), "{said}");
    check::exact(&rivulet, &[rivulet.ledger(13)]).await.unwrap();
    for role in roles {
        role.stop().await.unwrap();
    }
}
