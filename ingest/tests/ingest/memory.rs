//! The server that keeps nothing, beside one that does.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Method, StatusCode};
use rivulet_events::ParentId;
use rivulet_ingest::{Config, Error, serve_in_memory};
use rivulet_registry::Registry;
use rivulet_tokens::{Config as Tokens, Secret, mint};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::common::{Server, config, event, eventually, metrics, stored};

const SECRET: &str = "a secret of at least thirty-two bytes";

fn tokens() -> Tokens {
    Tokens {
        secrets: Secret::lines(SECRET),
        audience: "rivulet".to_owned(),
        ..Tokens::default()
    }
}

fn with_tokens() -> Config {
    Config {
        tokens: Some(tokens()),
        ..config()
    }
}

fn token(parent: Uuid) -> String {
    mint(&tokens(), ParentId::new(parent), Duration::from_secs(600)).unwrap()
}

struct Memory {
    address: SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

impl Memory {
    async fn start(registry: Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serve = serve_in_memory(
            with_tokens(),
            registry,
            listener,
            metrics(),
            shutdown.clone(),
        );
        let memory = Self {
            address,
            shutdown,
            running: tokio::spawn(serve),
        };
        eventually("it is ready", async || {
            let asked = reqwest::get(memory.url("/readyz")).await;
            asked.is_ok_and(|answer| answer.status() == StatusCode::OK)
        })
        .await;
        memory
    }

    async fn of(families: &str) -> Self {
        Self::start(Registry::of_file(families.as_bytes()).await.unwrap()).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        credential: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let mut request = reqwest::Client::new().request(method, self.url(path));
        if !credential.is_empty() {
            request = request.bearer_auth(credential);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        if path.starts_with("/v1/events") && status.is_success() {
            assert_eq!(headers["x-rivulet-storage"], "none");
        }
        (status, response.json().await.unwrap_or_default())
    }

    async fn post(&self, credential: &str, events: &[Value]) -> (StatusCode, Value) {
        let body = json!({"events": events});
        self.ask(Method::POST, "/v1/events", credential, Some(&body))
            .await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn family(parent: Uuid, children: &[Uuid], consents: Value) -> String {
    let child = |id: &Uuid| json!({"child_id": id, "age_group": "wonder_cubs"});
    let children: Vec<_> = children.iter().map(child).collect();
    let line = json!({"parent_id": parent, "timezone": "Europe/Rome", "consents": consents, "children": children});
    format!("{line}\n")
}

fn speech(child: Uuid) -> Value {
    let mut speech = event(child);
    speech["type"] = json!("speech");
    speech["data"] = json!({"audio_session_id": Uuid::new_v4(), "window_ms": 1000});
    speech
}

/// Whatever an app's tests see of it, they would see of a server that keeps what it accepts.
#[tokio::test(flavor = "multi_thread")]
async fn it_answers_as_a_server_that_keeps_what_it_accepts() {
    let server = Server::with(with_tokens()).await;
    let silent = (Uuid::new_v4(), Uuid::new_v4());
    server.register(silent.0, silent.1).await;
    let consents = json!({"coppa": true, "audio": false});
    server.consent(silent.0, consents.clone()).await;
    let all = json!({"coppa": true, "audio": true, "analytics": true});
    let file =
        family(server.parent, &[server.child], all) + &family(silent.0, &[silent.1], consents);
    let memory = Memory::of(&file).await;

    let with = |change: fn(&mut Value)| {
        let mut event = server.event();
        change(&mut event);
        event
    };
    let events = [
        server.event(),
        with(|event| event["data"]["colour"] = json!("red")),
        with(|event| event["data"]["rating"] = json!(9)),
        with(|event| event["occurred_at"] = json!("2001-01-01T00:00:00Z")),
        with(|event| event["data"]["note"] = json!("data:audio/wav;base64,AAAA")),
        with(|event| event["attributes"] = json!({"mail": "ana@example.com"})),
        event(Uuid::new_v4()),
        event(silent.1),
        speech(server.child),
        speech(silent.1),
        json!(7),
    ];
    let compare = async |credential: &str| {
        let body = json!({"events": events});
        let real = server.client.post(server.url("/v1/events"));
        let real = real
            .bearer_auth(credential)
            .json(&body)
            .send()
            .await
            .unwrap();
        let mut real: Value = real.json().await.unwrap();
        let (status, answer) = memory.post(credential, &events).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        for of_the_moment in ["request_id", "received_at"] {
            real[of_the_moment] = answer[of_the_moment].clone();
        }
        assert_eq!(answer, real);
        answer["accepted"].as_u64().unwrap()
    };
    assert_eq!(compare(&server.ingest_key).await, 5);
    // Those of its own family alone.
    assert_eq!(compare(&token(silent.0)).await, 1);
    assert_eq!(compare(&token(Uuid::new_v4())).await, 0);
    let kept = stored(&server.cluster).len();
    assert_eq!(kept, 6, "of the one that keeps them");

    for (path, body) in [
        ("/v1/events", json!({"events": []})),
        ("/v1/events", json!({"event": []})),
        ("/v1/events", json!([])),
        (
            "/v1/events?dry_run=perhaps",
            json!({"events": [server.event()]}),
        ),
        (
            "/v1/events?dry_run=true",
            json!({"events": [server.event()]}),
        ),
        ("/v1/nothing", json!({})),
    ] {
        let real = server.client.post(server.url(path));
        let real = real.bearer_auth(&server.ingest_key).json(&body).send();
        let real = real.await.unwrap();
        let (status, answer) = memory
            .ask(Method::POST, path, &server.ingest_key, Some(&body))
            .await;
        assert_eq!(status, real.status(), "{path} {body}: {answer}");
        let real: Value = real.json().await.unwrap();
        for field in ["code", "detail", "pointer", "accepted", "dry_run"] {
            assert_eq!(answer.get(field), real.get(field), "{path} {body}");
        }
    }
    memory.stop().await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_child_is_registered_where_there_is_no_file() {
    let memory = Memory::start(Registry::every_child()).await;
    let (child, parent) = (Uuid::new_v4(), Uuid::new_v4());
    for credential in ["any key", &token(parent)] {
        let (status, answer) = memory
            .post(credential, &[event(child), speech(child)])
            .await;
        assert_eq!(
            (status, &answer["accepted"]),
            (StatusCode::OK, &json!(2)),
            "{answer}"
        );
    }
    let (status, _) = memory.post("", &[event(child)]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    // A token of somebody else's secret looks like one of ours.
    let (status, _) = memory
        .post("eyJhbGciOiJIUzI1NiJ9.e30.c2ln", &[event(child)])
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    memory.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_is_told_what_a_family_of_the_file_consented_to() {
    let parent = Uuid::new_v4();
    // A later line changes what it speaks of.
    let first = json!({"coppa": {"granted": true, "version": "2026-01", "method": "form"}});
    let second = json!({"audio": true});
    let file = family(parent, &[], first) + "\n" + &family(parent, &[Uuid::new_v4()], second);
    let memory = Memory::of(&file).await;
    for (credential, consents) in [
        (
            token(parent),
            json!({"coppa": true, "audio": true, "analytics": false}),
        ),
        (
            token(Uuid::new_v4()),
            json!({"coppa": false, "audio": false, "analytics": false}),
        ),
        ("a key".to_owned(), Value::Null),
    ] {
        let (status, config) = memory
            .ask(Method::GET, "/v1/config", &credential, None)
            .await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            (&config["enabled"], &config["consents"]),
            (&json!(true), &consents)
        );
    }
    memory.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_no_registry_to_change_and_says_so() {
    let memory = Memory::of("").await;
    let path = format!("/v1/admin/parents/{}", Uuid::new_v4());
    let body = json!({"timezone": "UTC", "consents": {}});
    for (method, path) in [
        (Method::PUT, path.as_str()),
        (Method::GET, &path),
        (Method::DELETE, &path),
        (Method::GET, "/v1/admin/tail"),
    ] {
        let (status, answer) = memory.ask(method.clone(), path, "a key", Some(&body)).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}");
        assert!(
            answer["detail"].as_str().unwrap().contains("--memory"),
            "{answer}"
        );
        let (status, _) = memory.ask(method, path, "", Some(&body)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    let (_, answer) = memory.post("a key", &[event(Uuid::new_v4())]).await;
    assert_eq!(answer["results"][0]["code"], "unknown_child");
    memory.stop().await;
}

#[tokio::test]
async fn a_bad_line_of_the_file_is_named() {
    let parent = Uuid::new_v4();
    let good = family(parent, &[Uuid::new_v4()], json!({}));
    for (file, said) in [
        ("{".to_owned(), "line 1: "),
        (
            format!("{good}\n\n{{\"parent_id\": 7}}"),
            "line 4: /parent_id",
        ),
        (
            good.replace("Europe/Rome", "Mars/Olympus"),
            "line 1: /timezone",
        ),
        (
            good.replace("wonder_cubs", "adults"),
            "line 1: /children/0/age_group",
        ),
    ] {
        let error = Registry::of_file(file.as_bytes()).await.err().unwrap();
        assert!(error.to_string().starts_with(said), "{error}");
    }
}
