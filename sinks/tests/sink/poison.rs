//! Records that cannot be read, and rows that ClickHouse does not take.

use std::time::Duration;

use rivulet_events::EventType::Interaction;
use rivulet_sinks::Config;

use crate::bed::{Bed, Sink, badge, config, payload, until};

async fn quarantine(bed: &Bed) -> Vec<(i64, String, Vec<u8>)> {
    sqlx::query_as(
        "SELECT kafka_offset, code, record FROM quarantine
         WHERE consumer = 'history' AND topic = $1 AND partition = 0 ORDER BY kafka_offset",
    )
    .bind(bed.test.cluster.topic(Interaction))
    .fetch_all(&bed.test.pool)
    .await
    .unwrap()
}

async fn badges(bed: &Bed) -> Vec<String> {
    let query = "SELECT assumeNotNull(badge) FROM history ORDER BY badge";
    bed.test.clickhouse.query(query).fetch_all().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_records_are_set_aside() {
    let bed = Bed::new().await;
    let _sink = bed.start(&bed.test.clickhouse).await;
    bed.send(&[badge("a")]).await;
    let garbage = bed.send_bytes(Interaction, 0, b"\xff not json").await;
    let empty = bed.send_bytes(Interaction, 0, b"").await;
    let mut nul = serde_json::from_slice::<serde_json::Value>(&payload(&badge("c"))).unwrap();
    nul["data"]["action"] = "a\0b".into();
    let nul = bed
        .send_bytes(Interaction, 0, nul.to_string().as_bytes())
        .await;
    let mut stray = badge("stray");
    stray.local_date = chrono::NaiveDate::from_ymd_opt(2200, 1, 1).unwrap();
    let stray = bed.send(&[stray]).await[0];
    let last = bed.send(&[badge("b")]).await[0];
    bed.until_settled(Interaction, last).await;
    assert_eq!(badges(&bed).await, ["a", "b"]);
    let set_aside = quarantine(&bed).await;
    let found: Vec<_> = set_aside
        .iter()
        .map(|(offset, code, _)| (*offset, code.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (garbage, "malformed_record"),
            (empty, "malformed_record"),
            (nul, "malformed_record"),
            (stray, "implausible_record")
        ]
    );
    assert_eq!(set_aside[0].2, b"\xff not json");
    // A range of nothing but those.
    let last = bed.send_bytes(Interaction, 0, b"{}").await;
    bed.until_settled(Interaction, last).await;
    assert_eq!(quarantine(&bed).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_clickhouse_refuses_are_found_and_set_aside() {
    let bed = Bed::new().await;
    let constraint = "ALTER TABLE events ADD CONSTRAINT sane CHECK badge NOT LIKE 'poison%'";
    bed.test
        .clickhouse
        .query(constraint)
        .execute()
        .await
        .unwrap();
    let mut expected = Vec::new();
    let mut poisons = Vec::new();
    let mut last = 0;
    for number in 0..20 {
        let is_poison = number % 7 == 3;
        let name = format!("{}{number:02}", if is_poison { "poison" } else { "good" });
        let record = badge(&name);
        last = bed.send(std::slice::from_ref(&record)).await[0];
        if is_poison {
            poisons.push((last, "clickhouse_469".to_owned(), payload(&record)));
        } else {
            expected.push(name);
        }
    }
    let _sink = bed.start(&bed.test.clickhouse).await;
    bed.until_settled(Interaction, last).await;
    assert_eq!(badges(&bed).await, expected);
    assert_eq!(bed.raw_rows().await, expected.len() as u64);
    assert_eq!(quarantine(&bed).await, poisons);
}

/// A table somebody has altered would misread every row. That is no row's fault.
#[tokio::test(flavor = "multi_thread")]
async fn an_altered_table_puts_nothing_into_quarantine() {
    let bed = Bed::new().await;
    let client = &bed.test.clickhouse;
    let sink = bed.start(client).await;
    // As many bytes, and another meaning.
    client
        .query("ALTER TABLE events MODIFY COLUMN confidence Nullable(UInt64)")
        .execute()
        .await
        .unwrap();
    let mut sure = badge("a");
    if let rivulet_events::Data::Interaction(data) = &mut sure.data {
        data.confidence = Some(0.5);
    }
    let last = bed.send(&[sure]).await[0];
    until("the sink to say so", || async {
        !sink.readiness.is_ready()
    })
    .await;
    assert_eq!(bed.raw_rows().await, 0);
    client
        .query("ALTER TABLE events MODIFY COLUMN confidence Nullable(Float64)")
        .execute()
        .await
        .unwrap();
    bed.until_settled(Interaction, last).await;
    assert_eq!(
        bed.number("SELECT count() FROM history WHERE confidence = 0.5")
            .await,
        1
    );
    assert!(quarantine(&bed).await.is_empty());
}

async fn has_stopped(bed: &Bed, sink: &Sink, unfit: i64) {
    until("the sink to stop", || async {
        let told: Option<i64> = sqlx::query_scalar("SELECT unfit FROM quarantine_pauses")
            .fetch_optional(&bed.test.pool)
            .await
            .unwrap();
        told == Some(unfit) && !sink.readiness.is_ready()
    })
    .await;
}

async fn resume(bed: &Bed) {
    let pool = &bed.test.pool;
    let resumed = rivulet_quarantine::resume(pool, Some("history"), None, "tester").await;
    assert_eq!(resumed.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unreadable_records_stops_the_sink_until_an_operator_says_so() {
    let bed = Bed::new().await;
    let mut flood = vec![b"garbage".to_vec(); 1_500];
    flood.push(payload(&badge("fine")));
    bed.send_together(Interaction, &flood).await;
    // All of it is one range: none of it is committed, before a restart or after.
    for _ in 0..2 {
        let sink = bed.start_with(&bed.test.clickhouse, patient());
        has_stopped(&bed, &sink, 1_500).await;
        sink.crash().await;
        assert_eq!(bed.position(Interaction).await, Some((0, None)));
        assert!(quarantine(&bed).await.is_empty() && badges(&bed).await.is_empty());
    }
    let sink = bed.start_with(&bed.test.clickhouse, patient());
    has_stopped(&bed, &sink, 1_500).await;
    resume(&bed).await;
    bed.until_settled(Interaction, 1_500).await;
    assert_eq!(quarantine(&bed).await.len(), 1_500);
    assert_eq!(badges(&bed).await, ["fine"]);
    until("the sink to be ready again", || async {
        sink.readiness.is_ready()
    })
    .await;
}

/// ClickHouse has the rows that it takes when the others turn out to be too many.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_rows_stops_the_sink_and_repeats_none() {
    let bed = Bed::new().await;
    let constraint = "ALTER TABLE events ADD CONSTRAINT sane CHECK badge NOT LIKE 'poison%'";
    let client = &bed.test.clickhouse;
    client.query(constraint).execute().await.unwrap();
    let mut records = vec![payload(&badge("poison")); 12];
    records.extend((0..1_000).map(|number| payload(&badge(&format!("{number:04}")))));
    bed.send_together(Interaction, &records).await;
    let strict = Config {
        quarantine_share: 0.01,
        ..patient()
    };
    let sink = bed.start_with(client, strict.clone());
    has_stopped(&bed, &sink, 12).await;
    assert_eq!(bed.position(Interaction).await, Some((0, Some(1_012))));
    sink.crash().await;
    let sink = bed.start_with(client, strict);
    resume(&bed).await;
    bed.until_settled(Interaction, 1_011).await;
    assert_eq!(quarantine(&bed).await.len(), 12);
    assert_eq!(bed.raw_rows().await, 1_000);
    sink.crash().await;
}

/// Waits for all that was sent in one go.
fn patient() -> Config {
    Config {
        min_age: Duration::from_secs(3),
        max_age: Duration::from_secs(3),
        ..config()
    }
}
