//! Whoever may watch sees what each event was answered, and nobody else sees anything.

use std::{collections::VecDeque, time::Duration};

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use reqwest::{Method, Response, StatusCode};
use rivulet_events::ParentId;
use rivulet_ingest::{Config, SpillConfig};
use rivulet_kafka::Cluster;
use rivulet_registry::keys::{self, Scope};
use rivulet_sandbox::TestBed;
use rivulet_tokens::{Config as Tokens, Secret, mint};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Server, config, event, eventually, problem};

const SECRET: &str = "a secret of at least thirty-two bytes";

/// What must not be in any observation.
const PRIVATE: &str = "my name is Tim";

fn inspected() -> Config {
    Config {
        inspect: true,
        audit_every: Duration::from_millis(50),
        ..config()
    }
}

/// A key that the server knows of.
async fn key(server: &Server, name: &str, scope: Scope) -> String {
    let key = keys::create(&server.bed.pool, name, scope).await.unwrap();
    let config = || {
        server
            .client
            .get(server.url("/v1/config"))
            .bearer_auth(&key)
    };
    eventually("the key is known", async || {
        config().send().await.unwrap().status() != StatusCode::UNAUTHORIZED
    })
    .await;
    key
}

async fn ask(server: &Server, credential: &str, query: &str) -> Response {
    let url = server.url(&format!("/v1/admin/tail{query}"));
    let get = server.client.get(url).bearer_auth(credential);
    get.send().await.unwrap()
}

/// A watcher's end of a stream.
struct Watcher {
    response: Response,
    text: String,
    events: VecDeque<(String, Value)>,
}

impl Watcher {
    async fn of(server: &Server, query: &str) -> Self {
        Self::with(server, &server.admin_key, query).await
    }

    async fn with(server: &Server, key: &str, query: &str) -> Self {
        let response = ask(server, key, query).await;
        let status = response.status();
        if status != StatusCode::OK {
            panic!("{status} {}", response.text().await.unwrap());
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self {
            response,
            text: String::new(),
            events: VecDeque::new(),
        }
    }

    /// The next event's name and data; `None` when the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let chunk = self.response.chunk().await.ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            assert!(!self.text.contains(PRIVATE), "{}", self.text);
            while let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                    let data = serde_json::from_str(data).unwrap();
                    self.events.push_back((name.to_owned(), data));
                }
            }
        }
    }

    async fn seen(&mut self) -> Value {
        let (name, data) = self.next().await.unwrap();
        assert_eq!(name, "event", "{data}");
        data
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_told_with_its_answer_and_without_its_content() {
    let server = Server::with(inspected()).await;
    let withheld = (Uuid::new_v4(), Uuid::new_v4());
    server.register(withheld.0, withheld.1).await;
    server
        .consent(withheld.0, json!({"coppa": true, "analytics": false}))
        .await;
    let mut watcher = Watcher::of(&server, "").await;
    let mut message = server.event();
    message["type"] = json!("message");
    message["data"] = json!({"conversation_id": Uuid::new_v4(), "sequence": 1, "role": "user", "content": PRIVATE,
                             "colour": PRIVATE});
    message["attributes"] = json!({"note": PRIVATE});
    message["device"] = json!({"id": PRIVATE, "app_version": PRIVATE});
    let mut bad = server.event();
    bad["data"]["rating"] = json!(PRIVATE);
    let events = [
        message.clone(),
        bad.clone(),
        event(Uuid::new_v4()),
        event(withheld.1),
        json!(PRIVATE),
        json!({"id": PRIVATE, "type": PRIVATE, "child_id": PRIVATE}),
    ];
    let body = json!({"sent_at": chrono::Utc::now().to_rfc3339(), "events": events});
    let answer = server
        .request()
        .header("x-request-id", "app-1")
        .json(&body)
        .send();
    let answer: Value = answer.await.unwrap().json().await.unwrap();
    let mut seen = Vec::new();
    for _ in &events {
        seen.push(watcher.seen().await);
    }
    for (seen, result) in seen.iter().zip(answer["results"].as_array().unwrap()) {
        for name in ["index", "outcome", "code", "pointer", "warnings"] {
            assert_eq!(seen.get(name), result.get(name), "{name} {seen}");
        }
        assert_eq!(seen["request_id"], "app-1");
        assert_eq!(seen["received_at"], answer["received_at"]);
        assert_eq!(seen["key"], json!(server.ingest_key_name));
        assert!(seen["sent_at"].is_string(), "{seen}");
        let is_in_kafka = seen["outcome"] == "accepted";
        for place in ["topic", "partition", "offset"] {
            assert_eq!(seen.get(place).is_some(), is_in_kafka, "{seen}");
        }
    }
    for (seen, sent) in [(&seen[0], &message), (&seen[1], &bad)] {
        for name in ["id", "type", "child_id"] {
            assert_eq!(seen[name], sent[name], "{seen}");
        }
    }
    assert_eq!(seen[0]["topic"], json!(server.cluster.topics()[1]));
    assert_eq!(seen[0].get("withheld"), None);
    assert_eq!(seen[3]["withheld"], true);
    for name in ["id", "type", "child_id", "occurred_at"] {
        assert_eq!(seen[5][name], Value::Null, "{}", seen[5]);
    }
    // Of a dry run nothing is anywhere.
    let url = server.url("/v1/events?dry_run=true");
    let post = server.client.post(url).bearer_auth(&server.ingest_key);
    post.json(&json!({"events": [server.event()]}))
        .send()
        .await
        .unwrap();
    let dry = watcher.seen().await;
    assert_eq!(
        (&dry["outcome"], &dry["dry_run"]),
        (&json!("accepted"), &json!(true))
    );
    assert_eq!(dry.get("topic"), None);
    // A request that was refused as a whole.
    let refused = server
        .request()
        .body("{")
        .header("content-type", "application/json");
    assert_eq!(
        refused.send().await.unwrap().status(),
        StatusCode::BAD_REQUEST
    );
    let refused = watcher.seen().await;
    assert_eq!(refused["outcome"], "refused");
    assert_eq!(
        (&refused["status"], &refused["code"]),
        (&json!(400), &json!("invalid_body"))
    );
    assert_eq!(refused["index"], Value::Null);
    server.stop().await.unwrap();
    assert!(watcher.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_lets_through_what_it_names() {
    let tokens = Tokens {
        secrets: Secret::lines(SECRET),
        audience: "tests".to_owned(),
        ..Tokens::default()
    };
    let server = Server::with(Config {
        tokens: Some(tokens.clone()),
        ..inspected()
    })
    .await;
    let name = "phone & \u{e9}";
    let other = key(&server, name, Scope::Ingest).await;
    let of_child = Watcher::of(&server, &format!("?child={}", server.child)).await;
    let of_key = Watcher::of(&server, "?key=phone+%26+%C3%A9").await;
    let of_code = Watcher::of(&server, "?code=unknown_child&outcome=rejected").await;
    let refused = Watcher::of(&server, "?outcome=refused").await;
    let token = mint(
        &tokens,
        ParentId::new(server.parent),
        Duration::from_secs(60),
    )
    .unwrap();
    let stranger = Uuid::new_v4();
    for (credential, child) in [
        (&server.ingest_key, stranger),
        (&other, stranger),
        (&token, server.child),
        (&"rvk_forged".to_owned(), server.child),
        (&other, server.child),
    ] {
        let post = server
            .client
            .post(server.url("/v1/events"))
            .bearer_auth(credential);
        post.json(&json!({"events": [event(child)]}))
            .send()
            .await
            .unwrap();
    }
    let family = rivulet_auditlog::hex_hash(server.parent);
    for (mut watcher, wanted) in [
        (
            of_child,
            vec![
                json!([null, family, "accepted"]),
                json!([name, null, "accepted"]),
            ],
        ),
        (
            of_key,
            vec![
                json!([name, null, "rejected"]),
                json!([name, null, "accepted"]),
            ],
        ),
        (
            of_code,
            vec![
                json!([server.ingest_key_name, null, "rejected"]),
                json!([name, null, "rejected"]),
            ],
        ),
        (refused, vec![json!([null, null, "refused"])]),
    ] {
        for wanted in wanted {
            let seen = watcher.seen().await;
            assert_eq!(
                json!([seen["key"], seen["family"], seen["outcome"]]),
                wanted,
                "{seen}"
            );
        }
    }
    for (query, pointer) in [
        ("?child=7", "/child"),
        ("?outcome=good", "/outcome"),
        ("?key=nobody", "/key"),
        ("?since=1", ""),
    ] {
        let refused: Value = ask(&server, &server.admin_key, query)
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(
            (&refused["status"], &refused["pointer"]),
            (&json!(422), &json!(pointer))
        );
    }
    server.stop().await.unwrap();
}

/// A child's events are shown to nobody without an admin's key, and to nobody at all where that was not asked for.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_watches() {
    let tokens = Tokens {
        secrets: Secret::lines(SECRET),
        audience: "tests".to_owned(),
        ..Tokens::default()
    };
    for is_on in [true, false] {
        let server = Server::with(Config {
            inspect: is_on,
            tokens: Some(tokens.clone()),
            ..inspected()
        })
        .await;
        let read = key(&server, "reads", Scope::Read).await;
        let token = mint(
            &tokens,
            ParentId::new(server.parent),
            Duration::from_secs(60),
        )
        .unwrap();
        for (credential, status) in [
            ("rvk_forged", 401),
            ("", 401),
            (&read, 403),
            (&server.ingest_key, 403),
            (&token, 403),
            (&server.admin_key, 200),
        ] {
            // A path that is not there is told to whoever has a good credential, as every other one.
            let wanted = if is_on || status == 401 { status } else { 404 };
            let asked = ask(&server, credential, "").await;
            assert_eq!(asked.status().as_u16(), wanted, "{is_on} {status}");
        }
        let url = server.url("/v1/admin/tail");
        let preflight = server
            .client
            .request(Method::OPTIONS, url)
            .header("origin", "https://app.example")
            .header("access-control-request-method", "GET");
        let answer = preflight.send().await.unwrap();
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
        server.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ninth_waits_and_a_revoked_key_sees_no_more() {
    let server = Server::with(inspected()).await;
    let key = key(&server, "leaving", Scope::Admin).await;
    let mut leaving = Watcher::with(&server, &key, "").await;
    let mut staying = Vec::new();
    for _ in 0..7 {
        staying.push(Watcher::of(&server, "").await);
    }
    let (status, code, headers) = problem(ask(&server, &server.admin_key, "").await).await;
    assert_eq!((status, &*code), (503, "unavailable"));
    assert!(headers.contains_key("retry-after"));

    keys::revoke(&server.bed.pool, "leaving").await.unwrap();
    eventually("the key is refused", async || {
        ask(&server, &key, "").await.status() == StatusCode::UNAUTHORIZED
    })
    .await;
    server.send(&[server.event()]).await;
    assert!(leaving.next().await.is_none());
    for watcher in &mut staying {
        assert_eq!(watcher.seen().await["outcome"], "accepted");
    }
    // There is a place again, and another for each who goes.
    let mut ninth = Watcher::of(&server, "").await;
    drop(staying);
    eventually("the others are gone", async || {
        // Their connections are found closed when something is sent.
        server.send(&[server.event()]).await;
        ask(&server, &server.admin_key, "").await.status() == StatusCode::OK
    })
    .await;
    ninth.seen().await;
    server.stop().await.unwrap();
}

/// Who does not read is waited for by nobody, and is told how much they missed.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watcher_costs_others_nothing() {
    let server = Server::with(Config {
        rate: 1_000_000,
        burst: 1_000_000,
        ..inspected()
    })
    .await;
    let mut slow = Watcher::of(&server, "").await;
    let mut fast = Watcher::of(&server, "?outcome=refused").await;
    // Refused all of them, so nothing of it is in Kafka: more than the socket's buffers hold, and the queue.
    let stranger = Uuid::new_v4();
    let batch: Vec<Value> = (0..1_000).map(|_| event(stranger)).collect();
    let mut told = 0;
    for _ in 0..60 {
        let answer = server.send(&batch).await;
        told += answer["rejected"].as_u64().unwrap();
    }
    // It was not kept from what it wants by what it does not.
    let refused = server
        .request()
        .body("{")
        .header("content-type", "application/json");
    refused.send().await.unwrap();
    assert_eq!(fast.seen().await["outcome"], "refused");
    server.send(&[server.event()]).await;
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < told + 2 {
        let (name, data) = slow.next().await.unwrap();
        match &*name {
            "event" => seen += 1,
            _ => missed += data["missed"].as_u64().unwrap(),
        }
    }
    assert_eq!(seen + missed, told + 2);
    assert!(missed > 0, "{seen}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_events_were_seen_is_in_the_audit_log() {
    let server = Server::with(inspected()).await;
    let sibling = Uuid::new_v4();
    server.register(server.parent, sibling).await;
    let mut watcher = Watcher::of(&server, "").await;
    server
        .send(&[server.event(), event(sibling), server.event()])
        .await;
    for _ in 0..3 {
        watcher.seen().await;
    }
    let mut wanted = [server.child, sibling]
        .map(rivulet_auditlog::hex_hash)
        .to_vec();
    wanted.sort();
    eventually("both children are told of", async || {
        let subjects: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT subject FROM audit_log, unnest(subjects) AS subject
             WHERE action = 'read' AND outcome = 'done' AND actor_kind = 'key' AND details::text LIKE '%tail%'
             ORDER BY subject",
        )
        .fetch_all(&server.bed.pool)
        .await
        .unwrap();
        subjects == wanted
    })
    .await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_it_is_told_what_is_kept_and_what_is_not() {
    for spills in [false, true] {
        let mock: MockCluster<'static, DefaultProducerContext> = MockCluster::new(1).unwrap();
        let cluster = Cluster {
            brokers: mock.bootstrap_servers(),
            topic_prefix: "rivulet".to_owned(),
            properties: Vec::new(),
        };
        for topic in cluster.topics() {
            mock.create_topic(&topic, 1, 1).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            message_timeout: Duration::from_secs(2),
            spill: spills.then(|| SpillConfig {
                dir: dir.path().to_owned(),
                max_bytes: 16 << 20,
                max_age: Duration::from_secs(86_400),
            }),
            ..inspected()
        };
        let bed = TestBed::new().await;
        let pool = bed.pool_as("rivulet_ingest", 8);
        let server = Server::on(bed, config, cluster, pool).await;
        let mut watcher = Watcher::of(&server, "").await;
        mock.broker_down(1).unwrap();
        let answer = server.post(&[server.event()]).await;
        let seen = watcher.seen().await;
        assert_eq!(seen.get("offset"), None);
        if spills {
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(
                (&seen["outcome"], &seen["durability"]),
                (&json!("accepted"), &json!("spilled"))
            );
        } else {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(seen["outcome"], "retry");
            // Nothing of it was stored, so the request is refused too.
            assert_eq!(watcher.seen().await["status"], 503);
        }
        server.stop().await.unwrap();
    }
}
