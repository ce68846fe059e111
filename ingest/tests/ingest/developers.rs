//! What is there for whoever makes an app: the dry run, and what an SDK asks when it starts.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use rivulet_events::ParentId;
use rivulet_ingest::Config;
use rivulet_registry::keys::{self, Scope};
use rivulet_tokens::{Config as Tokens, Secret, mint};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Server, config, event, problem, stored};

const SECRET: &str = "a secret of at least thirty-two bytes";

async fn post(server: &Server, query: &str, events: &[Value]) -> (StatusCode, Value) {
    let response = server
        .client
        .post(server.url(&format!("/v1/events{query}")))
        .bearer_auth(&server.ingest_key)
        .json(&json!({"events": events}))
        .send()
        .await
        .unwrap();
    (response.status(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_answered_as_it_would_be_and_stores_nothing() {
    let server = Server::start().await;
    let refusing = (Uuid::new_v4(), Uuid::new_v4());
    server.register(refusing.0, refusing.1).await;
    server
        .consent(refusing.0, json!({"coppa": true, "audio": false}))
        .await;
    let with = |change: fn(&mut Value)| {
        let mut event = server.event();
        change(&mut event);
        event
    };
    let mut speech = event(refusing.1);
    speech["type"] = json!("speech");
    speech["data"] = json!({"audio_session_id": Uuid::new_v4(), "window_ms": 1000});
    let events = [
        server.event(),
        with(|event| event["data"]["colour"] = json!("red")),
        with(|event| event["data"]["rating"] = json!(9)),
        with(|event| event["occurred_at"] = json!("2001-01-01T00:00:00Z")),
        with(|event| event["data"]["note"] = json!("data:audio/wav;base64,AAAA")),
        event(Uuid::new_v4()),
        speech,
        json!(7),
    ];
    let (status, dry) = post(&server, "?dry_run=true", &events).await;
    assert_eq!(status, StatusCode::OK, "{dry}");
    assert_eq!(dry["dry_run"], true);
    assert_eq!(stored(&server.cluster).len(), 0);
    // Of a real one it differs in nothing but what is of the moment.
    for query in ["", "?dry_run=false"] {
        let (_, mut real) = post(&server, query, &events).await;
        assert_eq!(real.get("dry_run"), None);
        real["dry_run"] = json!(true);
        for of_the_moment in ["request_id", "received_at"] {
            real[of_the_moment] = dry[of_the_moment].clone();
        }
        assert_eq!(real, dry);
    }
    assert_eq!(dry["accepted"], 2);
    assert_eq!(stored(&server.cluster).len(), 4);
    let (_, terse) = post(&server, "?verbose=false&dry_run=true", &events).await;
    assert_eq!(terse["results"].as_array().unwrap().len(), 7);
    assert_eq!(stored(&server.cluster).len(), 4);
    server.stop().await.unwrap();
}

/// An app that says it in other words must not find its events in the stores, nor think that they are there.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_in_other_words_is_refused() {
    let server = Server::start().await;
    for query in [
        "?dry_run",
        "?dry_run=",
        "?dry_run=1",
        "?dry_run=TRUE",
        "?dry_run=yes",
        "?dry_run=true&dry_run=false",
        "?verbose=false&dry_run=no",
    ] {
        let (status, answer) = post(&server, query, &[server.event()]).await;
        assert_eq!(
            status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{query}: {answer}"
        );
        assert_eq!(answer["pointer"], "/dry_run", "{query}");
    }
    assert_eq!(stored(&server.cluster).len(), 0);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_costs_what_a_real_one_does() {
    let config = Config {
        rate: 1,
        burst: 1_000,
        ..config()
    };
    let server = Server::with(config).await;
    let events = vec![server.event(); 999];
    let (status, answer) = post(&server, "?dry_run=true", &events).await;
    assert_eq!((status, &answer["accepted"]), (StatusCode::OK, &json!(999)));
    let (status, _) = post(&server, "?dry_run=true", &events).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    server.stop().await.unwrap();
}

fn get(server: &Server, credential: &str) -> RequestBuilder {
    let get = server.client.get(server.url("/v1/config"));
    get.bearer_auth(credential)
}

async fn answer(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["cache-control"], "no-store");
    response.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_is_told_how_to_send_and_what_the_family_consents_to() {
    let tokens = Tokens {
        secrets: Secret::lines(SECRET),
        audience: "rivulet".to_owned(),
        ..Tokens::default()
    };
    let config = Config {
        max_events: 500,
        max_event_bytes: 32 << 10,
        clients_enabled: false,
        flush_interval: Duration::from_secs(90),
        tokens: Some(tokens.clone()),
        ..config()
    };
    let server = Server::with(config).await;
    let expected = |consents: Value| {
        json!({
            "enabled": false, "max_events": 500, "max_event_bytes": 32 << 10, "flush_interval_s": 90,
            "consents": consents,
        })
    };
    assert_eq!(
        answer(get(&server, &server.ingest_key)).await,
        expected(Value::Null)
    );
    let token =
        |parent: Uuid| mint(&tokens, ParentId::new(parent), Duration::from_secs(600)).unwrap();
    let of = async |parent| answer(get(&server, &token(parent))).await;
    let none = json!({"coppa": false, "audio": false, "analytics": false});
    assert_eq!(
        of(server.parent).await,
        expected(json!({"coppa": true, "audio": true, "analytics": true}))
    );
    server.consent(server.parent, json!({"audio": false})).await;
    assert_eq!(
        of(server.parent).await,
        expected(json!({"coppa": true, "audio": false, "analytics": true}))
    );
    assert_eq!(of(Uuid::new_v4()).await, expected(none.clone()));
    server
        .admin_delete(&format!("parents/{}", server.parent))
        .await;
    assert_eq!(of(server.parent).await, expected(none));

    // Nobody else is told, and pages may ask.
    let read_key = keys::create(&server.bed.pool, "reader", Scope::Read)
        .await
        .unwrap();
    for (credential, status, code) in [
        (&*read_key, 403, "forbidden"),
        (&server.admin_key, 403, "forbidden"),
        ("no such key", 401, "unauthorized"),
    ] {
        let refused = get(&server, credential).send().await.unwrap();
        let (found, found_code, _) = problem(refused).await;
        assert_eq!((found, &*found_code), (status, code));
    }
    let preflight = server
        .client
        .request(Method::OPTIONS, server.url("/v1/config"))
        .header("origin", "https://app.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");

    // Without PostgreSQL it does not guess what a family wants.
    sqlx::query("ALTER TABLE parents RENAME TO parents_elsewhere")
        .execute(&server.bed.pool)
        .await
        .unwrap();
    let refused = get(&server, &token(server.parent)).send().await.unwrap();
    let (status, code, headers) = problem(refused).await;
    assert_eq!((status, &*code), (503, "unavailable"));
    assert!(headers.contains_key("retry-after"));
    server.stop().await.unwrap();
}

/// It is a number for operators, by reason; a request that is to be sent again says it again, and a dry run tells of nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_clients_lost_is_counted_once_and_costs_no_event() {
    let server = Server::start().await;
    let lost = async |reason: &str| {
        let name = format!(r#"rivulet_ingest_client_dropped_events_total{{reason="{reason}"}} "#);
        let metrics = server.client.get(server.url("/metrics")).send().await;
        let metrics = metrics.unwrap().text().await.unwrap();
        let counted = metrics.lines().find_map(|line| line.strip_prefix(&name));
        counted.map_or(0, |counted| counted.parse::<u64>().unwrap())
    };
    let post = async |query: &str, body: Value| {
        let url = server.url(&format!("/v1/events{query}"));
        let request = server.client.post(url).bearer_auth(&server.ingest_key);
        request.json(&body).send().await.unwrap().status()
    };
    let (before, disk_before) = (lost("overflow").await, lost("disk").await);
    let dropped = json!({"overflow": 31, "disk": 7});
    let events = [server.event()];
    let bad = json!({"dropped": dropped, "events": 5});
    assert_eq!(post("", bad).await, StatusCode::BAD_REQUEST);
    let good = json!({"dropped": dropped, "events": events});
    assert_eq!(post("?dry_run=true", good.clone()).await, StatusCode::OK);
    assert_eq!(lost("overflow").await, before);
    assert_eq!(post("", good).await, StatusCode::OK);
    assert_eq!(
        (lost("overflow").await, lost("disk").await),
        (before + 31, disk_before + 7)
    );
    let nonsense = json!({"dropped": "much", "events": events});
    assert_eq!(post("", nonsense).await, StatusCode::OK);
    assert_eq!(stored(&server.cluster).len(), 2);
    server.stop().await.unwrap();
}
