//! `accepted` means that Kafka has it, whatever Kafka does.
//!
//! Faults that a healthy broker cannot show come from librdkafka's own mock of one.

use std::{collections::HashSet, time::Duration};

use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use reqwest::StatusCode;
use rivulet_ingest::{Config, Error};
use rivulet_kafka::Cluster;
use rivulet_registry::keys::{self, Scope};
use rivulet_sandbox::TestBed;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::common::{Server, config, event, eventually, outcomes, problem, stored};

type Mock = MockCluster<'static, DefaultProducerContext>;

async fn on_a_mock(config: Config) -> (Mock, Server) {
    let mock = MockCluster::new(1).unwrap();
    let cluster = Cluster {
        brokers: mock.bootstrap_servers(),
        topic_prefix: "rivulet".to_owned(),
        properties: Vec::new(),
    };
    for topic in cluster.topics() {
        mock.create_topic(&topic, 1, 1).unwrap();
    }
    let bed = TestBed::new().await;
    let pool = bed.pool.clone();
    (mock, Server::on(bed, config, cluster, pool).await)
}

fn stored_ids(cluster: &Cluster) -> HashSet<String> {
    let id = |record: &crate::common::Stored| record.json()["id"].as_str().unwrap().to_owned();
    stored(cluster).iter().map(id).collect()
}

/// Ids of the events that an answer calls accepted.
fn accepted_ids(answer: &Value) -> Vec<String> {
    let results = answer["results"].as_array().unwrap().iter();
    results
        .filter(|result| result["outcome"] == "accepted")
        .map(|result| result["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_nothing_is_accepted_and_nothing_is_a_client_error() {
    let (mock, server) = on_a_mock(Config {
        message_timeout: Duration::from_secs(2),
        ..config()
    })
    .await;
    server.send(&[server.event()]).await;
    mock.broker_down(1).unwrap();
    // The first ones still wait for an acknowledgement that does not come; later ones do not.
    for _ in 0..3 {
        let (status, code, headers) = problem(server.post(&[server.event()]).await).await;
        assert_eq!((status, code.as_str()), (503, "unavailable"));
        assert!(headers.contains_key("retry-after"));
    }
    let refused: Value = server.send(&[json!({})]).await;
    assert_eq!(outcomes(&refused), ["rejected"], "that needs no broker");
    eventually("it is not ready", async || !server.is_ready().await).await;

    mock.broker_up(1).unwrap();
    eventually("it is ready", async || server.is_ready().await).await;
    let answer = server.send(&[server.event()]).await;
    assert_eq!(outcomes(&answer), ["accepted"]);
    assert!(stored_ids(&server.cluster).contains(&accepted_ids(&answer)[0]));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_has_its_own_acknowledgement() {
    let (mock, server) = on_a_mock(config()).await;
    let mut message = server.event();
    message["type"] = json!("message");
    message["data"] = json!({"conversation_id": Uuid::new_v4(), "sequence": 1, "role": "user"});
    // Two topics, two requests to the broker; it will not have the first.
    mock.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD],
    );
    let response = server.post(&[server.event(), message, json!({})]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().contains_key("retry-after"));
    let answer: Value = response.json().await.unwrap();
    let mut found = outcomes(&answer);
    found.sort_unstable();
    assert_eq!(found, ["accepted", "rejected", "retry"], "{answer}");
    let stored = stored_ids(&server.cluster);
    assert_eq!(stored, accepted_ids(&answer).into_iter().collect());

    // A broker that is short of replicas for a moment is tried again, unseen by the client.
    mock.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3],
    );
    assert_eq!(
        outcomes(&server.send(&[server.event()]).await),
        ["accepted"]
    );
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_lost_its_place_ends_the_process() {
    let (mock, server) = on_a_mock(config()).await;
    mock.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER; 3],
    );
    let (status, code, _) = problem(server.post(&[server.event()]).await).await;
    assert_eq!((status, code.as_str()), (503, "unavailable"));
    let ended = server.running.await.unwrap();
    assert!(matches!(ended, Err(Error::ProducerFatal)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_retry_at_once_and_never_accepted() {
    let server = Server::with(Config {
        max_events: 10,
        queue_messages: 20,
        // Long enough that requests meet in the queue.
        linger: Duration::from_millis(500),
        ..config()
    })
    .await;
    let requests: Vec<_> = (0..20)
        .map(|_| {
            let events: Vec<Value> = (0..10).map(|_| event(server.child)).collect();
            let request = server.request().json(&json!({"events": events}));
            tokio::spawn(async move { request.send().await.unwrap() })
        })
        .collect();
    let mut accepted = HashSet::new();
    let mut turned_away = 0;
    for request in requests {
        let response = request.await.unwrap();
        match response.status() {
            StatusCode::OK => {
                let answer: Value = response.json().await.unwrap();
                accepted.extend(accepted_ids(&answer));
                turned_away += answer["retry"].as_u64().unwrap();
            }
            status => {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                turned_away += 10;
            }
        }
    }
    assert!(
        accepted.len() >= 10 && turned_away > 0,
        "{} {turned_away}",
        accepted.len()
    );
    assert_eq!(accepted.len() as u64 + turned_away, 200);
    assert_eq!(stored_ids(&server.cluster), accepted);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_who_fills_the_queue_leaves_room_for_another() {
    let server = Server::with(Config {
        max_events: 10,
        queue_messages: 30,
        // Long enough that requests meet in the queue.
        linger: Duration::from_secs(1),
        ..config()
    })
    .await;
    let other = keys::create(&server.bed.pool, "other", Scope::Ingest)
        .await
        .unwrap();
    let post = async |key: &str, events: usize| {
        let events: Vec<Value> = (0..events).map(|_| event(server.child)).collect();
        let request = server.client.post(server.url("/v1/events"));
        let request = request.bearer_auth(key).json(&json!({"events": events}));
        request.send().await.unwrap()
    };
    eventually("the other key is known", async || {
        post(&other, 0).await.status() == StatusCode::OK
    })
    .await;
    let (key, url) = (server.ingest_key.clone(), server.url("/v1/events"));
    let stop = CancellationToken::new();
    let flood: Vec<_> = (0..4)
        .map(|_| {
            let (client, key, url) = (server.client.clone(), key.clone(), url.clone());
            let (child, stop) = (server.child, stop.clone());
            tokio::spawn(async move {
                let mut turned_away = 0;
                while !stop.is_cancelled() {
                    let events: Vec<Value> = (0..10).map(|_| event(child)).collect();
                    let request = client.post(&url).bearer_auth(&key);
                    let request = request.json(&json!({"events": events}));
                    let answer = request.send().await.unwrap();
                    turned_away += u32::from(answer.status() == StatusCode::SERVICE_UNAVAILABLE);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                turned_away
            })
        })
        .collect();
    for _ in 0..5 {
        let answer: Value = post(&other, 5).await.json().await.unwrap();
        assert_eq!(answer["accepted"], 5, "{answer}");
    }
    stop.cancel();
    let mut turned_away = 0;
    for flood in flood {
        turned_away += flood.await.unwrap();
    }
    assert!(turned_away > 0, "the queue was never full");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_what_was_begun() {
    let server = Server::with(Config {
        shutdown_grace: Duration::from_secs(2),
        ..config()
    })
    .await;
    let event = server.event();
    let body = json!({"events": [event]}).to_string();
    let (first, rest) = body.split_at(body.len() / 2);
    let mut stream = server
        .raw(&format!("content-length: {}\r\n", body.len()))
        .await;
    stream.write_all(first.as_bytes()).await.unwrap();
    // Nothing tells a client that its half-sent request was begun; the grace is for that.

    server.shutdown.cancel();
    eventually("it says that it will go", async || !server.is_ready().await).await;
    eventually("it takes no new connections", async || {
        TcpStream::connect(server.address).await.is_err()
    })
    .await;
    assert!(!server.running.is_finished());
    stream.write_all(rest.as_bytes()).await.unwrap();
    let answer = crate::common::read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"accepted\":1"), "{answer}");
    server.running.await.unwrap().unwrap();
    let id = event["id"].as_str().unwrap();
    assert!(stored_ids(&server.cluster).contains(id));
}
