//! What operators do with records in quarantine, on real PostgreSQL and Kafka.

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use rivulet_events::EventType;
use rivulet_kafka::TopicPlan;
use rivulet_quarantine::{
    Error, Outcome, Replay, Selection, count, discard, expire, list, replay, show,
};
use rivulet_sandbox::TestBed;
use serde_json::json;
use uuid::Uuid;

const INCARNATION: &str = "cluster/topic";

async fn bed() -> TestBed {
    let bed = TestBed::new().await;
    rivulet_migrations::postgres(&bed.pool).await.unwrap();
    let plan = TopicPlan {
        partitions: 2,
        ..TopicPlan::default()
    };
    rivulet_kafka::create_topics(&bed.cluster, &plan)
        .await
        .unwrap();
    bed
}

async fn set_aside(bed: &TestBed, consumer: &str, offset: i64, code: &str, record: &[u8]) {
    sqlx::query(
        "INSERT INTO quarantine (consumer, topic, partition, kafka_offset, topic_incarnation, code,
             detail, record, quarantined_at)
         VALUES ($1, $2, 0, $3, $4, $5, 'why', $6, '2026-03-01'::timestamptz + $3 * interval '1 minute')",
    )
    .bind(consumer)
    .bind(bed.cluster.topic(EventType::Session))
    .bind(offset)
    .bind(INCARNATION)
    .bind(code)
    .bind(record)
    .execute(&bed.pool)
    .await
    .unwrap();
}

/// A record that this release reads, of a child and some days ago.
fn session(child: Uuid, days_ago: i64) -> Vec<u8> {
    let at = Utc::now() - TimeDelta::days(days_ago);
    let millis = at.timestamp_millis();
    json!({
        "v": 1, "type": "session", "id": Uuid::new_v4(), "child_id": child, "parent_id": Uuid::new_v4(),
        "age_group": "wonder_cubs", "session_id": Uuid::new_v4(), "occurred_at": millis,
        "event_time": millis, "received_at": millis, "local_date": at.date_naive(), "analytics": true,
        "data": {"action": "start", "active_ms": 0},
    })
    .to_string()
    .into_bytes()
}

fn everything() -> Replay {
    Replay {
        selection: Selection::default(),
        limit: None,
        rate: NonZeroU32::new(10_000).unwrap(),
        remembered_days: 45,
        by: "tester".to_owned(),
        dry_run: false,
    }
}

/// Keys and values in the topic of sessions.
async fn produced(bed: &TestBed) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
    let (cluster, topic) = (bed.cluster.clone(), bed.cluster.topic(EventType::Session));
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = cluster
            .client_config()
            .set("group.id", "reader")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let mut records = Vec::new();
        for partition in 0..2 {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, partition, Offset::Beginning)
                .unwrap();
            consumer.assign(&list).unwrap();
            loop {
                match consumer.poll(Duration::from_secs(1)) {
                    None => {}
                    Some(Ok(message)) => records.push((
                        message.key().map(<[u8]>::to_vec),
                        message.payload().unwrap_or_default().to_vec(),
                    )),
                    Some(Err(KafkaError::PartitionEOF(_))) => break,
                    Some(Err(error)) => panic!("{error}"),
                }
            }
        }
        records
    })
    .await
    .unwrap()
}

async fn actions(bed: &TestBed) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT concat_ws(' ', consumer, partition, kafka_offset, topic_incarnation, code, action, acted_by)
         FROM quarantine_actions ORDER BY consumer, kafka_offset",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap()
}

async fn left(bed: &TestBed) -> Vec<i64> {
    let entries = list(&bed.pool, &Selection::default(), None).await.unwrap();
    entries.iter().map(|entry| entry.kafka_offset).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_two_consumers_is_replayed_once_for_both() {
    let bed = bed().await;
    let child = Uuid::new_v4();
    let good = session(child, 3);
    set_aside(&bed, "counter", 1, "refused_by_database", &good).await;
    set_aside(&bed, "history", 1, "clickhouse_469", &good).await;
    set_aside(&bed, "history", 2, "malformed_record", b"\xff not json").await;
    set_aside(&bed, "history", 3, "malformed_record", b"").await;

    let nothing = Replay {
        dry_run: true,
        ..everything()
    };
    let told = replay(&bed.pool, &bed.cluster, &nothing).await.unwrap();
    let all = Outcome {
        records: 3,
        rows: 4,
        too_old: 0,
    };
    assert_eq!(told, all);
    assert_eq!(left(&bed).await, [1, 1, 2, 3]);
    assert!(produced(&bed).await.is_empty() && actions(&bed).await.is_empty());

    // One consumer's row is asked for; the topic is everybody's.
    let one = Replay {
        selection: Selection {
            code: Some("clickhouse_469".to_owned()),
            ..Selection::default()
        },
        ..everything()
    };
    let did = replay(&bed.pool, &bed.cluster, &one).await.unwrap();
    assert_eq!((did.records, did.rows), (1, 2));
    let key = Some(child.to_string().into_bytes());
    assert_eq!(produced(&bed).await, [(key.clone(), good.clone())]);

    let did = replay(&bed.pool, &bed.cluster, &everything())
        .await
        .unwrap();
    assert_eq!((did.records, did.rows), (2, 2));
    let mut found = produced(&bed).await;
    found.sort();
    let mut expected = [
        (key, good),
        (None, b"\xff not json".to_vec()),
        (None, Vec::new()),
    ];
    expected.sort();
    assert_eq!(found, expected);
    assert!(left(&bed).await.is_empty());
    assert_eq!(
        actions(&bed).await,
        [
            "counter 0 1 cluster/topic refused_by_database replayed tester",
            "history 0 1 cluster/topic clickhouse_469 replayed tester",
            "history 0 2 cluster/topic malformed_record replayed tester",
            "history 0 3 cluster/topic malformed_record replayed tester",
        ]
    );
}

/// Identities are remembered for 45 days.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_could_be_counted_twice_stays() {
    let bed = bed().await;
    for (offset, days_ago) in [(1, 46), (2, 43)] {
        let record = session(Uuid::new_v4(), days_ago);
        set_aside(&bed, "history", offset, "unstorable", &record).await;
    }
    // Its clock was reset: what counts is when it came.
    for (offset, days_ago) in [(3, 46), (4, 43)] {
        let record = session(Uuid::new_v4(), days_ago);
        let mut reset: serde_json::Value = serde_json::from_slice(&record).unwrap();
        reset["occurred_at"] = json!(86_400_000);
        let record = reset.to_string();
        set_aside(&bed, "history", offset, "unstorable", record.as_bytes()).await;
    }
    let did = replay(&bed.pool, &bed.cluster, &everything())
        .await
        .unwrap();
    assert_eq!((did.records, did.too_old), (2, 2));
    assert_eq!(left(&bed).await, [1, 3]);
    assert_eq!(produced(&bed).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_into_quarantine_meanwhile_stays_and_two_replays_share_the_work() {
    let bed = bed().await;
    for offset in 0..500 {
        set_aside(&bed, "history", offset, "malformed_record", b"{}").await;
    }
    // As if a consumer had refused the replayed ones again already.
    sqlx::query(
        "INSERT INTO quarantine SELECT consumer, topic, 1, kafka_offset, topic_incarnation, code, detail,
             record, now() + interval '1 hour' FROM quarantine WHERE kafka_offset < 7",
    )
    .execute(&bed.pool)
    .await
    .unwrap();
    let (one, other) = (everything(), everything());
    let (one, other) = tokio::join!(
        replay(&bed.pool, &bed.cluster, &one),
        replay(&bed.pool, &bed.cluster, &other)
    );
    assert_eq!(one.unwrap().records + other.unwrap().records, 500);
    assert_eq!(produced(&bed).await.len(), 500);
    assert_eq!(left(&bed).await, (0..7).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_select_and_dropping_tells_who() {
    let bed = bed().await;
    for offset in 0..4 {
        set_aside(&bed, "counter", offset, "implausible_record", b"{}").await;
        set_aside(&bed, "history", offset, "unstorable", b"{}").await;
    }
    let topic = bed.cluster.topic(EventType::Session);
    let at = |minute: i64| {
        let first: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().unwrap();
        Some(first + TimeDelta::minutes(minute))
    };
    let any = Selection::default;
    for (selection, rows) in [
        (any(), 8),
        (
            Selection {
                consumer: Some("counter".to_owned()),
                ..any()
            },
            4,
        ),
        (
            Selection {
                code: Some("unstorable".to_owned()),
                offset: Some(2),
                ..any()
            },
            1,
        ),
        (
            Selection {
                topic: Some(topic.clone()),
                partition: Some(0),
                ..any()
            },
            8,
        ),
        (
            Selection {
                partition: Some(1),
                ..any()
            },
            0,
        ),
        (
            Selection {
                topic: Some("another".to_owned()),
                ..any()
            },
            0,
        ),
        (
            Selection {
                since: at(1),
                until: at(3),
                ..any()
            },
            4,
        ),
    ] {
        let entries = list(&bed.pool, &selection, None).await.unwrap();
        assert_eq!(entries.len(), rows, "{selection:?}");
        let counts = count(&bed.pool, &selection).await.unwrap();
        let counted: i64 = counts.iter().map(|count| count.records).sum();
        assert_eq!(counted, rows as i64, "{selection:?}");
    }
    let one = Selection {
        offset: Some(2),
        ..any()
    };
    let shown = show(&bed.pool, &one).await.unwrap();
    let whose: Vec<_> = shown.iter().map(|shown| &*shown.entry.consumer).collect();
    assert_eq!(whose, ["counter", "history"]);
    let several = show(&bed.pool, &any()).await;
    assert!(matches!(several, Err(Error::Ambiguous)));

    let counters = Selection {
        consumer: Some("counter".to_owned()),
        ..any()
    };
    let would = discard(&bed.pool, &counters, Some(3), "tester", true).await;
    assert_eq!(would.unwrap().rows, 3);
    assert_eq!(left(&bed).await.len(), 8);
    let did = discard(&bed.pool, &counters, Some(3), "tester", false).await;
    assert_eq!(did.unwrap().rows, 3);
    assert_eq!(left(&bed).await, [0, 1, 2, 3, 3]);
    assert_eq!(
        actions(&bed).await,
        [0, 1, 2].map(|offset| {
            format!("counter 0 {offset} cluster/topic implausible_record dropped tester")
        })
    );
    // The position was set back, and the record is refused and dropped again.
    set_aside(&bed, "counter", 0, "unknown_version", b"{}").await;
    let again = discard(&bed.pool, &counters, None, "another", false).await;
    assert_eq!(again.unwrap().rows, 2);
    assert_eq!(
        actions(&bed).await[0],
        "counter 0 0 cluster/topic unknown_version dropped another"
    );
    let audited: Vec<(String, Option<i64>, Option<String>)> = sqlx::query_as(
        "SELECT action, (details->>'rows')::bigint, details->>'by' FROM audit_log ORDER BY seq",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    let row = |action: &str, rows, by: &str| (action.to_owned(), Some(rows), Some(by.to_owned()));
    assert_eq!(
        audited[1..],
        [
            row("quarantine.drop", 3, "tester"),
            row("quarantine.drop", 2, "another"),
        ]
    );
    assert_eq!(audited[0].0, "read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_not_made() {
    let bed = bed().await;
    set_aside(&bed, "history", 1, "malformed_record", b"{}").await;
    let rename = |to: String| {
        let query = sqlx::query("UPDATE quarantine SET topic = $1").bind(to);
        query.execute(&bed.pool)
    };
    rename("elsewhere.session".to_owned()).await.unwrap();
    let foreign = replay(&bed.pool, &bed.cluster, &everything()).await;
    assert!(
        matches!(foreign, Err(Error::ForeignTopic(_))),
        "{foreign:?}"
    );

    let gone = rivulet_kafka::Cluster {
        topic_prefix: format!("{}-gone", bed.cluster.topic_prefix),
        ..bed.cluster.clone()
    };
    rename(gone.topic(EventType::Session)).await.unwrap();
    for _ in 0..2 {
        let missing = replay(&bed.pool, &gone, &everything()).await;
        let is_missing = matches!(
            missing,
            Err(Error::Kafka(rivulet_kafka::Error::MissingTopic(_)))
        );
        assert!(is_missing, "{missing:?}");
    }
    assert_eq!(left(&bed).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_looked_after_goes_when_it_is_as_old_as_the_file_says() {
    let bed = bed().await;
    let limit = DateTime::parse_from_rfc3339("2026-03-01T00:00:00Z").unwrap() + TimeDelta::days(45);
    for offset in [0, 1, 2] {
        for consumer in ["aggregator", "history"] {
            set_aside(&bed, consumer, offset, "malformed_record", b"{").await;
        }
    }
    // They came a minute apart. The clock stands between the second and the third.
    let now = limit.to_utc() + TimeDelta::seconds(90);
    assert_eq!(
        expire(&bed.pool, now - TimeDelta::minutes(2))
            .await
            .unwrap(),
        0
    );
    assert_eq!(expire(&bed.pool, now).await.unwrap(), 4);
    assert_eq!(expire(&bed.pool, now).await.unwrap(), 0);
    let left = list(&bed.pool, &Selection::default(), None).await.unwrap();
    assert_eq!(left.len(), 2, "{left:?}");
    let told: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT kafka_offset, action, acted_by FROM quarantine_actions ORDER BY kafka_offset, consumer",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    let of = |offset| (offset, "expired".to_owned(), "retention".to_owned());
    assert_eq!(told, [of(0), of(0), of(1), of(1)]);
}
