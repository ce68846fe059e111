//! `rivulet verify` and `rivulet trace`: the books balance, and what is not as it should be is named.

use std::time::Duration;

use chrono::{DateTime, Timelike as _, Utc};
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use rivulet_simulator::Config;
use rivulet_tests::{Rivulet, raw_records};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What `verify` says, and whether it is content.
async fn verify(rivulet: &Rivulet) -> (String, Option<i32>) {
    let output = rivulet.output(&["verify", "--hours", "3"]).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    (format!("{said}{complaint}"), output.status.code())
}

async fn simulate(config: &Config) {
    let never = CancellationToken::new();
    let sent = rivulet_simulator::run(config, Utc::now(), |_| (), &never).await;
    assert!(sent.unwrap().accepted > 0);
}

async fn balanced(rivulet: &Rivulet) {
    let (said, code) = verify(rivulet).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Every record is accounted for"), "{said}");
}

async fn trace(rivulet: &Rivulet, id: &str) -> Vec<Value> {
    let said = rivulet.command(&["trace", id, "--json"]).await.unwrap();
    let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

async fn produce(rivulet: &Rivulet, topic: &str, key: &[u8], payload: &[u8]) -> (i32, i64) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &rivulet.bed.cluster.brokers)
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    let record = FutureRecord::to(topic).key(key).payload(payload);
    let sent = producer.send(record, Duration::from_secs(10)).await;
    let delivery = sent.unwrap();
    (delivery.partition, delivery.offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_or_booked_wrongly_is_named() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, roles) = Rivulet::running(&[], ["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let (said, code) = verify(&rivulet).await;
    assert_eq!(code, Some(0), "nothing was sent yet: {said}");
    let config = Config {
        children: 40,
        history_days: 3,
        rate: 400.0,
        duration: Some(Duration::from_secs(3)),
        ..rivulet.simulator(&roles[0], 5)
    };
    simulate(&config).await;

    // What makes books hard: records that cannot be counted and that cannot even be read, and an event whose
    // first copy was withheld and whose second is allowed.
    let records = raw_records(&rivulet.bed.cluster).await.unwrap();
    let (key, payload) = records
        .iter()
        .find(|(_, payload)| {
            let record: Value = serde_json::from_slice(payload).unwrap();
            record["type"] == "interaction" && record["analytics"] == true
        })
        .unwrap();
    let topic = &rivulet.bed.cluster.topics()[0];
    let like = |change: &dyn Fn(&mut Value)| {
        let mut record: Value = serde_json::from_slice(payload).unwrap();
        record["id"] = json!(Uuid::now_v7());
        change(&mut record);
        (
            record["id"].as_str().unwrap().to_owned(),
            record.to_string(),
        )
    };
    let (withheld, first) = like(&|record| record["analytics"] = json!(false));
    let mut second: Value = serde_json::from_str(&first).unwrap();
    second["analytics"] = json!(true);
    let (implausible, late) = like(&|record| {
        record["event_time"] = json!(record["event_time"].as_i64().unwrap() - 100 * 86_400_000);
    });
    let (unknown, future) = like(&|record| record["v"] = json!(99));
    let (plain, once) = like(&|_| ());
    for payload in [&first, &second.to_string(), &late, &future, &once, &once] {
        produce(&rivulet, topic, key, payload.as_bytes()).await;
    }
    produce(&rivulet, topic, b"", b"no JSON").await;
    rivulet.settle().await.unwrap();
    balanced(&rivulet).await;

    let fates = |traces: &[Value]| -> Vec<(String, String)> {
        let copies = traces[0]["copies"].as_array().unwrap().iter();
        copies
            .map(|copy| (copy["rollups"].to_string(), copy["history"].to_string()))
            .collect()
    };
    let told = fates(&trace(&rivulet, &withheld).await);
    assert_eq!(told[0], (r#""counted""#.into(), r#""withheld""#.into()));
    assert!(told[1].0.contains("duplicate_of"), "{told:?}");
    assert_eq!(told[1].1, r#""withheld""#);
    let told = fates(&trace(&rivulet, &implausible).await);
    assert!(told[0].0.contains("implausible_record"), "{told:?}");
    assert_eq!(told[0].0, told[0].1);
    let told = fates(&trace(&rivulet, &unknown).await);
    assert!(told[0].0.contains("unknown_version") && told[0].1.contains("unknown_version"));
    let told = trace(&rivulet, &plain).await;
    let [first, copy] = &fates(&told)[..] else {
        panic!("two copies: {told:?}")
    };
    assert_eq!(first, &(r#""counted""#.into(), r#""counted""#.into()));
    assert!(copy.0.contains("duplicate_of") && copy.1.contains("duplicate_of"));
    let missing = rivulet
        .output(&["trace", &Uuid::now_v7().to_string()])
        .await;
    assert_eq!(missing.unwrap().status.code(), Some(1));

    // An event that was counted is forgotten: the row is told by its id's milliseconds.
    let pool = &rivulet.bed.pool;
    let time = Uuid::parse_str(&plain).unwrap();
    let same_time = "encode(uuid_send(key), 'hex') LIKE $1 || '%'";
    let prefix = &time.simple().to_string()[..12];
    let forget = format!("DELETE FROM event_seen WHERE {same_time} RETURNING day, seen_on, key");
    type Forgotten = (chrono::NaiveDate, chrono::NaiveDate, Uuid);
    let rows: Vec<Forgotten> = sqlx::query_as(sqlx::AssertSqlSafe(forget))
        .bind(prefix)
        .fetch_all(pool)
        .await
        .unwrap();
    assert!(!rows.is_empty());
    let (said, code) = verify(&rivulet).await;
    assert_eq!(code, Some(3), "{said}");
    let partition = told[0]["copies"][0]["partition"].as_i64().unwrap();
    let received = told[0]["copies"][0]["received_at"].as_str().unwrap();
    assert!(received.parse::<DateTime<Utc>>().is_ok());
    let finding = said.lines().find(|line| line.contains(&plain)).unwrap();
    let hours = [0, 1].map(|before| {
        let hour = Utc::now() - chrono::TimeDelta::hours(before);
        hour.with_minute(0)
            .unwrap()
            .format("%Y-%m-%d %H:%M")
            .to_string()
    });
    assert!(hours.iter().any(|hour| finding.contains(hour)), "{finding}");
    assert!(
        finding.contains(&format!("{topic}[{partition}]  aggregator")),
        "{finding}"
    );
    assert_eq!(
        fates(&trace(&rivulet, &plain).await)[0].0,
        r#""unaccounted""#
    );
    for (day, seen_on, key) in rows {
        sqlx::query("INSERT INTO event_seen (day, seen_on, key) VALUES ($1, $2, $3)")
            .bind(day)
            .bind(seen_on)
            .bind(key)
            .execute(pool)
            .await
            .unwrap();
    }
    balanced(&rivulet).await;

    // A batch that was counted once more than the log has it.
    let book = async |by: i64| {
        let changed = sqlx::query(
            "UPDATE consumer_ledger SET counted = counted + $2 WHERE topic = $1 AND consumer = 'history'
             AND (partition, hour) = (SELECT partition, hour FROM consumer_ledger
             WHERE topic = $1 AND consumer = 'history' ORDER BY 1, 2 LIMIT 1)",
        )
        .bind(topic)
        .bind(by)
        .execute(pool)
        .await;
        assert_eq!(changed.unwrap().rows_affected(), 1);
    };
    book(2).await;
    let (said, code) = verify(&rivulet).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("its books have") && said.contains("2 unaccounted"),
        "{said}"
    );
    book(-2).await;
    balanced(&rivulet).await;

    // A row that ClickHouse lost.
    let delete =
        format!("ALTER TABLE events DELETE WHERE event_id = '{plain}' SETTINGS mutations_sync = 2");
    let clickhouse = &rivulet.bed.clickhouse;
    clickhouse.query(&delete).execute().await.unwrap();
    let (said, code) = verify(&rivulet).await;
    assert_eq!(code, Some(3), "{said}");
    let finding = said.lines().find(|line| line.contains(&plain)).unwrap();
    assert!(
        finding.contains(&format!("{topic}[{partition}]  history")),
        "{finding}"
    );
    for role in roles {
        role.stop().await.unwrap();
    }
    the_metrics_tell(&rivulet).await;
}

/// Every role in one process looks after its own books.
async fn the_metrics_tell(rivulet: &Rivulet) {
    let [all] = rivulet.start(["all"]).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/metrics", all.address);
    let told = async || client.get(&url).send().await.unwrap().text().await.unwrap();
    let wanted = [
        "rivulet_unaccounted_events{consumer=\"aggregator\"} 0",
        // Both copies.
        "rivulet_unaccounted_events{consumer=\"history\"} 2",
        // The lost event's child has records in quarantine, and so is left alone.
        "rivulet_differing_rows 0",
    ];
    let mut metrics = told().await;
    for _ in 0..200 {
        if wanted.iter().all(|line| metrics.contains(line)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        metrics = told().await;
    }
    for line in wanted {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    all.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_not_missing() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, roles) = Rivulet::running(&[], ["ingest"]).await.unwrap();
    let config = Config {
        children: 5,
        rate: 100.0,
        duration: Some(Duration::from_secs(1)),
        ..rivulet.simulator(&roles[0], 6)
    };
    simulate(&config).await;
    let said = rivulet.command(&["verify", "--json"]).await.unwrap();
    let report: Value = serde_json::from_str(&said).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!(row["rollups"]["waiting"], row["records"]);
        assert_eq!(row["history"]["unaccounted"], 0);
    }
    let notes = report["notes"].to_string();
    assert!(notes.contains("has never opened it"), "{notes}");
    // Bad input, and a service that is not there.
    for (args, word) in [
        (&["verify", "--hours", "0"][..], "1..=87840"),
        (&["verify", "--since", "yesterday"], "--since"),
        (&["verify", "--kafka-brokers", "127.0.0.1:1"], "Kafka"),
        (&["trace", "no-id"], "EVENT_ID"),
    ] {
        let output = rivulet.output(args).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(word),
            "{args:?}: {said}"
        );
    }
    for role in roles {
        role.stop().await.unwrap();
    }
}
