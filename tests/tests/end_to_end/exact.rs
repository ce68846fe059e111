//! The simulated app's stream through every role: all that is stored equals the naive recount.

use std::{fs::File, io::Write, path::PathBuf};

use rivulet_simulator::ledger::{self, Line, Outcome};
use rivulet_tests::{Rivulet, check};
use serde_json::{Value, json};
use uuid::Uuid;

/// What each role must stay under, bytes.
const MEMORY: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn every_table_equals_the_recount_of_the_ledger() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, roles) = Rivulet::running(&[], ["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let ledger = rivulet.ledger(1);
    let said = rivulet
        .command(&[
            "simulate",
            "--seed",
            "1",
            "--children",
            "120",
            "--history",
            "20",
            "--rate",
            "500",
            "--duration",
            "4",
            "--ledger",
            ledger.to_str().unwrap(),
            "--url",
            &format!("http://{}", roles[0].address),
            "--ingest-key",
            &rivulet.ingest_key,
            "--admin-key",
            &rivulet.admin_key,
        ])
        .await
        .unwrap();
    for word in [
        "accepted",
        "unknown_child",
        "consent_required",
        "invalid_field",
    ] {
        assert!(said.contains(word), "no {word} in: {said}");
    }
    let ledgers = [ledger];
    let checked = check::exact(&rivulet, &ledgers).await.unwrap();
    println!("{said}\n{checked:?}");
    assert!(
        checked.events > 10_000 && checked.copies > 100,
        "{checked:?}"
    );
    for role in roles {
        let memory = role.peak_memory().unwrap();
        println!("{} MiB at most", memory >> 20);
        assert!(memory < MEMORY, "{} MiB", memory >> 20);
        role.stop().await.unwrap();
    }
    the_comparison_itself_notices(&rivulet, &ledgers).await;
}

/// One number, one row or one accepted event that is not as it should be.
async fn the_comparison_itself_notices(rivulet: &Rivulet, ledgers: &[PathBuf]) {
    let change = async |statement: &'static str| {
        let changed = sqlx::query(statement).execute(&rivulet.bed.pool).await;
        assert_eq!(changed.unwrap().rows_affected(), 1, "{statement}");
    };
    let said = async || format!("{:#}", check::exact(rivulet, ledgers).await.unwrap_err());

    change(
        "UPDATE daily_child_metrics SET child_words = child_words + 1 WHERE (child_id, local_date)
         = (SELECT child_id, local_date FROM daily_child_metrics LIMIT 1)",
    )
    .await;
    change("DELETE FROM streaks WHERE child_id = (SELECT child_id FROM streaks LIMIT 1)").await;
    let clickhouse = &rivulet.bed.clickhouse;
    let one = "event_id = (SELECT min(event_id) FROM events)";
    let delete = format!("ALTER TABLE events DELETE WHERE {one} SETTINGS mutations_sync = 2");
    clickhouse.query(&delete).execute().await.unwrap();
    let said_of_tables = said().await;
    for row in [
        "daily_child_metrics: 1 rows differ",
        "streaks: 1 rows differ",
        "history: 1 rows differ",
    ] {
        assert!(said_of_tables.contains(row), "{said_of_tables}");
    }

    change("DELETE FROM event_seen WHERE (day, key) = (SELECT day, key FROM event_seen LIMIT 1)")
        .await;
    assert!(said().await.contains("identities seen"));

    // An accepted event that Kafka does not have.
    let accepted = |line: &Line| match line {
        Line::Event(sent) if sent.attempts[0].outcome == Outcome::Accepted => Some(sent.clone()),
        _ => None,
    };
    let mut lines = ledger::read(&ledgers[0]).unwrap().map(Result::unwrap);
    let mut sent = lines.find_map(|line| accepted(&line)).unwrap();
    let mut event: Value = serde_json::from_str(&sent.event).unwrap();
    event["id"] = json!(Uuid::new_v4());
    sent.event = event.to_string();
    let line = serde_json::to_string(&Line::Event(sent)).unwrap();
    let mut file = File::options().append(true).open(&ledgers[0]).unwrap();
    writeln!(file, "{line}").unwrap();
    assert!(said().await.contains("accepted and not in Kafka"));
}
