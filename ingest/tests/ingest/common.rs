//! A running ingest role on the real stack, for one test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its part; a test that cannot go on should say so"
)]

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use reqwest::{RequestBuilder, Response, StatusCode};
use rivulet_ingest::{Config, Error, serve};
use rivulet_kafka::{Cluster, TopicPlan, create_topics};
use rivulet_registry::keys::{self, Scope};
use rivulet_sandbox::TestBed;
use rivulet_telemetry::Metrics;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// One recorder serves the process, and so all of its tests.
pub(crate) fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    let installed = METRICS.get_or_init(|| rivulet_telemetry::metrics(&[]).unwrap());
    installed.clone()
}

pub(crate) struct Server {
    pub(crate) bed: TestBed,
    pub(crate) cluster: Cluster,
    pub(crate) address: SocketAddr,
    /// Over TLS the server is called `localhost`.
    pub(crate) origin: String,
    pub(crate) client: reqwest::Client,
    pub(crate) ingest_key: String,
    pub(crate) ingest_key_name: String,
    pub(crate) admin_key: String,
    /// A registered family with every consent, in Rome.
    pub(crate) parent: Uuid,
    pub(crate) child: Uuid,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<Result<(), Error>>,
}

/// What production has, but for the wait at shutdown.
pub(crate) fn config() -> Config {
    Config {
        shutdown_grace: Duration::ZERO,
        ..Config::default()
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let bed = TestBed::new().await;
        create_topics(&bed.cluster, &TopicPlan::default())
            .await
            .unwrap();
        let (cluster, pool) = (bed.cluster.clone(), bed.pool_as("rivulet_ingest", 8));
        Self::on(bed, config, cluster, pool).await
    }

    /// The same with a broker and a pool of the test's own.
    pub(crate) async fn on(bed: TestBed, config: Config, cluster: Cluster, pool: PgPool) -> Self {
        rivulet_migrations::postgres(&bed.pool).await.unwrap();
        Self::started(bed, config, cluster, pool).await
    }

    /// The same on a bed that has been used before; with keys and a family of its own.
    pub(crate) async fn started(
        bed: TestBed,
        config: Config,
        cluster: Cluster,
        pool: PgPool,
    ) -> Self {
        Self::reached_by(reqwest::Client::new(), bed, config, cluster, pool).await
    }

    /// The same, spoken to by a client of the test's own.
    pub(crate) async fn reached_by(
        client: reqwest::Client,
        bed: TestBed,
        config: Config,
        cluster: Cluster,
        pool: PgPool,
    ) -> Self {
        let ingest_key_name = format!("tablet {}", Uuid::new_v4());
        let ingest_key = keys::create(&bed.pool, &ingest_key_name, Scope::Ingest)
            .await
            .unwrap();
        let admin_key = keys::create(&bed.pool, &Uuid::new_v4().to_string(), Scope::Admin)
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = match config.port.tls {
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://{address}"),
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(serve(
            config,
            cluster.clone(),
            pool,
            listener,
            // The first server of a process has the recorder.
            metrics(),
            shutdown.clone(),
        ));
        let server = Self {
            bed,
            cluster,
            address,
            origin,
            client,
            ingest_key,
            ingest_key_name,
            admin_key,
            parent: Uuid::new_v4(),
            child: Uuid::new_v4(),
            shutdown,
            running,
        };
        eventually("the server is ready", async || server.is_ready().await).await;
        server.register(server.parent, server.child).await;
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let asked = self.client.get(self.url("/readyz")).send().await;
        asked.is_ok_and(|response| response.status() == StatusCode::OK)
    }

    /// A family with every consent.
    pub(crate) async fn register(&self, parent: Uuid, child: Uuid) {
        let all = json!({"coppa": true, "audio": true, "analytics": true});
        self.consent(parent, all).await;
        let body = json!({"parent_id": parent, "age_group": "wonder_cubs"});
        let put = self.admin_put(&format!("children/{child}"), &body).await;
        assert_eq!(put.status(), StatusCode::NO_CONTENT);
    }

    pub(crate) async fn consent(&self, parent: Uuid, consents: Value) {
        let body = json!({"timezone": "Europe/Rome", "consents": consents});
        let put = self.admin_put(&format!("parents/{parent}"), &body).await;
        assert_eq!(put.status(), StatusCode::NO_CONTENT);
    }

    pub(crate) async fn admin_put(&self, path: &str, body: &Value) -> Response {
        let url = self.url(&format!("/v1/admin/{path}"));
        let put = self.client.put(url).bearer_auth(&self.admin_key);
        put.json(body).send().await.unwrap()
    }

    pub(crate) async fn admin_get(&self, path: &str) -> Response {
        let url = self.url(&format!("/v1/admin/{path}"));
        let get = self.client.get(url).bearer_auth(&self.admin_key);
        get.send().await.unwrap()
    }

    pub(crate) async fn admin_delete(&self, path: &str) -> Response {
        let url = self.url(&format!("/v1/admin/{path}"));
        let delete = self.client.delete(url).bearer_auth(&self.admin_key);
        delete.send().await.unwrap()
    }

    /// `POST /v1/events` with a key, and nothing else yet.
    pub(crate) fn request(&self) -> RequestBuilder {
        self.client
            .post(self.url("/v1/events"))
            .bearer_auth(&self.ingest_key)
    }

    pub(crate) async fn post(&self, events: &[Value]) -> Response {
        let body = json!({"events": events});
        self.request().json(&body).send().await.unwrap()
    }

    /// The answer to a batch that is understood.
    pub(crate) async fn send(&self, events: &[Value]) -> Value {
        let response = self.post(events).await;
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    /// An answer of this server's child.
    pub(crate) fn event(&self) -> Value {
        event(self.child)
    }

    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.shutdown.cancel();
        self.running.await.unwrap()
    }

    /// A request by hand: head, then whatever the test wants to send of a body.
    pub(crate) async fn raw(&self, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\n{headers}\r\n",
            self.ingest_key
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }
}

pub(crate) fn event(child: Uuid) -> Value {
    json!({
        "id": Uuid::now_v7(),
        "type": "interaction",
        "child_id": child,
        "occurred_at": chrono::Utc::now().to_rfc3339(),
        "data": {"action": "answer", "is_correct": true, "topic": "fractions"},
    })
}

/// All of an answer, as text.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(length) = stream.read(&mut chunk).await {
        answer.extend_from_slice(&chunk[..length]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(length > 0, "the connection ended before an answer: {text}");
            continue;
        };
        if head.starts_with("HTTP/1.1 204") {
            return text.into_owned();
        }
        let length_of_body: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap();
        if body.len() >= length_of_body || length == 0 {
            return text.into_owned();
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Status, problem document and headers of a refusal; the document must be one.
pub(crate) async fn problem(response: Response) -> (u16, String, reqwest::header::HeaderMap) {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let document: Value = response.json().await.unwrap();
    assert_eq!(
        headers["content-type"], "application/problem+json",
        "{document}"
    );
    assert_eq!(document["status"], status, "{document}");
    for member in ["type", "title", "detail"] {
        assert!(document[member].is_string(), "{document}");
    }
    assert!(headers.contains_key("x-request-id"));
    let code = document["code"].as_str().unwrap().to_owned();
    (status, code, headers)
}

pub(crate) fn outcomes(answer: &Value) -> Vec<&str> {
    let results = answer["results"].as_array().unwrap();
    results
        .iter()
        .map(|result| result["outcome"].as_str().unwrap())
        .collect()
}

/// A record as a plain consumer finds it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) payload: Vec<u8>,
}

impl Stored {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// Every record of the four topics.
pub(crate) fn stored(cluster: &Cluster) -> Vec<Stored> {
    let limit = Duration::from_secs(20);
    let consumer: BaseConsumer = cluster
        .client_config()
        .set("group.id", "none")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    let mut expected = 0;
    for topic in cluster.topics() {
        let metadata = consumer.fetch_metadata(Some(&topic), limit).unwrap();
        for partition in metadata.topics()[0].partitions() {
            let (low, high) = consumer
                .fetch_watermarks(&topic, partition.id(), limit)
                .unwrap();
            expected += high - low;
            assignment
                .add_partition_offset(&topic, partition.id(), Offset::Beginning)
                .unwrap();
        }
    }
    consumer.assign(&assignment).unwrap();
    let mut found = Vec::new();
    while (found.len() as i64) < expected {
        let message = consumer.poll(limit).unwrap().unwrap();
        found.push(Stored {
            topic: message.topic().to_owned(),
            key: String::from_utf8(message.key().unwrap().to_vec()).unwrap(),
            payload: message.payload().unwrap().to_vec(),
        });
    }
    found
}

/// Asks until it is so; a test that waits in vain fails here.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never came true: {what}");
}
