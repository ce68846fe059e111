//! Kafka is down and the spill is on: accepted all the same, on this node's disk, and in Kafka when it
//! is back. A broker that comes and goes is librdkafka's own mock of one; the real one is killed in
//! `tests/`.

use std::{path::Path, time::Duration};

use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use rivulet_ingest::{Config, Error, SpillConfig};
use rivulet_kafka::Cluster;
use rivulet_sandbox::TestBed;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Server, config, event, eventually, outcomes, problem, stored};

const DAY: Duration = Duration::from_secs(86_400);

type Mock = MockCluster<'static, DefaultProducerContext>;

fn mock() -> (Mock, Cluster) {
    let mock = MockCluster::new(1).unwrap();
    let cluster = Cluster {
        brokers: mock.bootstrap_servers(),
        topic_prefix: "rivulet".to_owned(),
        properties: Vec::new(),
    };
    for topic in cluster.topics() {
        mock.create_topic(&topic, 1, 1).unwrap();
    }
    (mock, cluster)
}

fn spilling(dir: &Path) -> Config {
    Config {
        message_timeout: Duration::from_secs(2),
        spill: Some(SpillConfig {
            dir: dir.to_owned(),
            max_bytes: 16 << 20,
            max_age: DAY,
        }),
        ..config()
    }
}

async fn server(config: Config, cluster: &Cluster) -> Server {
    let bed = TestBed::new().await;
    let pool = bed.pool.clone();
    Server::on(bed, config, cluster.clone(), pool).await
}

fn ids(cluster: &Cluster) -> Vec<Value> {
    let records = stored(cluster);
    records
        .iter()
        .map(|record| record.json()["id"].clone())
        .collect()
}

fn durability(answer: &Value) -> Vec<Option<&str>> {
    let results = answer["results"].as_array().unwrap().iter();
    results
        .map(|result| result["durability"].as_str())
        .collect()
}

/// Sends until the server knows that the broker is gone.
async fn spilled(server: &Server, events: &[Value]) -> Value {
    let answer = server.send(events).await;
    assert_eq!(answer["accepted"], events.len(), "{answer}");
    let expected = vec![Some("spilled"); events.len()];
    assert_eq!(durability(&answer), expected, "{answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_spilled_while_kafka_is_down_and_drained_in_order_by_the_next_process() {
    let (mock, cluster) = mock();
    let dir = TempDir::new().unwrap();
    let server = server(spilling(dir.path()), &cluster).await;
    let answer = server.send(&[server.event()]).await;
    assert_eq!(durability(&answer), [None], "Kafka has it");

    mock.broker_down(1).unwrap();
    let events: Vec<Value> = (0..120).map(|_| event(server.child)).collect();
    // The first waits for an acknowledgement that does not come, and is spilled then.
    for some in events.chunks(40) {
        spilled(&server, some).await;
    }
    assert!(server.is_ready().await, "it can do its work");
    let refused = json!({});
    let body = json!({"events": [server.event(), refused]});
    let terse = server.client.post(server.url("/v1/events?verbose=false"));
    let terse = terse.bearer_auth(&server.ingest_key).json(&body);
    let terse: Value = terse.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        outcomes(&terse),
        ["accepted", "rejected"],
        "spills are listed"
    );
    assert_eq!(durability(&terse), [Some("spilled"), None]);
    assert_eq!(
        (&terse["accepted"], &terse["rejected"]),
        (&json!(1), &json!(1))
    );

    // A second process on the same directory is turned away.
    let second = rivulet_ingest::serve(
        spilling(dir.path()),
        cluster.clone(),
        server.bed.pool.clone(),
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
        rivulet_telemetry::Metrics::detached(),
        tokio_util::sync::CancellationToken::new(),
    );
    let said = second.await.unwrap_err();
    assert!(matches!(said, Error::Spill(_)), "{said}");

    let Server {
        bed,
        shutdown,
        running,
        ..
    } = server;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    mock.broker_up(1).unwrap();
    assert_eq!(ids(&cluster).len(), 1);
    let pool = bed.pool.clone();
    let server = Server::started(bed, spilling(dir.path()), cluster.clone(), pool).await;
    eventually("all is drained", async || ids(&cluster).len() >= 122).await;
    let expected: Vec<Value> = events.iter().map(|event| event["id"].clone()).collect();
    let found = ids(&cluster);
    assert_eq!(found[1..=120], expected, "in the order in which they came");
    let answer = server.send(&[server.event()]).await;
    assert_eq!(durability(&answer), [None]);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spill_is_retry_and_has_room_again_when_it_was_drained() {
    let (mock, cluster) = mock();
    let dir = TempDir::new().unwrap();
    let server = server(
        Config {
            rate: 1_000_000,
            burst: 1_000_000,
            ..spilling(dir.path())
        },
        &cluster,
    )
    .await;
    mock.broker_down(1).unwrap();
    let mut kept = 0;
    let refused = loop {
        let events: Vec<Value> = (0..1_000).map(|_| event(server.child)).collect();
        let response = server.post(&events).await;
        if response.status() != 200 {
            break problem(response).await;
        }
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["accepted"], 1_000, "all of them or none: {answer}");
        kept += 1_000;
    };
    assert_eq!((refused.0, refused.1.as_str()), (503, "unavailable"));
    assert!(kept > 10_000, "{kept}");
    eventually("it is not ready", async || !server.is_ready().await).await;
    mock.broker_up(1).unwrap();
    eventually("it is ready", async || server.is_ready().await).await;
    eventually("all is drained", async || ids(&cluster).len() == kept).await;
    mock.broker_down(1).unwrap();
    let answer = server.send(&[server.event()]).await;
    assert_eq!(durability(&answer), [Some("spilled")]);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_will_never_take_is_not_spilled() {
    let (mock, cluster) = mock();
    let dir = TempDir::new().unwrap();
    let server = server(spilling(dir.path()), &cluster).await;
    mock.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD],
    );
    let (status, code, _) = problem(server.post(&[server.event()]).await).await;
    assert_eq!((status, code.as_str()), (503, "unavailable"));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_above_the_largest_age_are_held_back_until_it_is_raised() {
    let (mock, cluster) = mock();
    let dir = TempDir::new().unwrap();
    let first = server(spilling(dir.path()), &cluster).await;
    mock.broker_down(1).unwrap();
    spilled(&first, &[first.event()]).await;
    let Server {
        bed,
        shutdown,
        running,
        ..
    } = first;
    shutdown.cancel();
    running.await.unwrap().unwrap();

    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let mut strict = spilling(dir.path());
    strict.spill.as_mut().unwrap().max_age = Duration::from_secs(1);
    mock.broker_up(1).unwrap();
    let pool = bed.pool.clone();
    let second = Server::started(bed, strict, cluster.clone(), pool).await;
    let young = second.event();
    second.send(std::slice::from_ref(&young)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ids(&cluster), [young["id"].clone()]);
    let Server {
        bed,
        shutdown,
        running,
        ..
    } = second;
    shutdown.cancel();
    running.await.unwrap().unwrap();

    let pool = bed.pool.clone();
    let third = Server::started(bed, spilling(dir.path()), cluster.clone(), pool).await;
    eventually("it is drained", async || ids(&cluster).len() == 2).await;
    third.stop().await.unwrap();
}
