//! A run against a server that judges events by the types of `rivulet-events` and fails on purpose: the ledger
//! must account for every event, whatever was answered.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::{post, put},
};
use chrono::{DateTime, SecondsFormat, Utc};
use rivulet_events::{Clocks, ParentId, Registration, batch, data::AgeGroup, parse};
use rivulet_simulator::{
    Config,
    recount::{Account, Counted, identity, tables},
    run,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower_http::decompression::RequestDecompressionLayer;

#[derive(Default)]
struct Server {
    parents: Mutex<HashMap<String, Value>>,
    children: Mutex<HashMap<String, Registration>>,
    /// Every copy, in the order taken: identity, received_at, event_time.
    stored: Mutex<Vec<(String, i64, i64)>>,
    requests: AtomicU64,
    /// Fails every so many requests, in turns; 0 never.
    fails_every: u64,
}

async fn parent(
    State(server): State<Arc<Server>>,
    UrlPath(id): UrlPath<String>,
    Json(body): Json<Value>,
) -> StatusCode {
    server.parents.lock().unwrap().insert(id, body);
    StatusCode::NO_CONTENT
}

async fn child(
    State(server): State<Arc<Server>>,
    UrlPath(id): UrlPath<String>,
    Json(body): Json<Value>,
) -> StatusCode {
    let parent_id = body["parent_id"].as_str().unwrap().to_owned();
    let parent = server.parents.lock().unwrap()[&parent_id].clone();
    let granted = |name: &str| parent["consents"][name] == true;
    let registration = Registration {
        parent_id: ParentId::new(parent_id.parse().unwrap()),
        age_group: AgeGroup::from_word(body["age_group"].as_str().unwrap()).unwrap(),
        timezone: parent["timezone"].as_str().unwrap().parse().unwrap(),
        deleted: false,
        coppa: granted("coppa"),
        audio: granted("audio"),
        analytics: granted("analytics"),
        coppa_version: None,
        audio_version: None,
        consent_epoch: 0,
    };
    server.children.lock().unwrap().insert(id, registration);
    StatusCode::NO_CONTENT
}

async fn events(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let number = server.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let fault = match server.fails_every {
        every if every > 0 && number.is_multiple_of(every) => number / every % 4,
        _ => 4,
    };
    if fault == 0 {
        return (StatusCode::SERVICE_UNAVAILABLE, [("Retry-After", "0")]).into_response();
    }
    if fault == 1 {
        return (StatusCode::TOO_MANY_REQUESTS, [("Retry-After", "0")]).into_response();
    }
    let (sent_at, elements) = if headers["content-type"] == "application/x-ndjson" {
        let sent_at = headers
            .get("x-sent-at")
            .map(|value| value.to_str().unwrap());
        let lines = batch::ndjson(&body, 1_000)
            .unwrap()
            .into_iter()
            .map(Result::unwrap)
            .collect();
        (sent_at.and_then(batch::parse_time), lines)
    } else {
        let batch = batch::json(std::str::from_utf8(&body).unwrap(), 1_000).unwrap();
        (batch.sent_at, batch.events)
    };
    let clocks = Clocks {
        received_at: Utc::now().timestamp_millis(),
        sent_at,
    };
    let mut results = Vec::new();
    for (index, element) in elements.into_iter().enumerate() {
        if fault == 2 && index % 3 == 0 {
            results.push(json!({"index": index, "outcome": "retry"}));
            continue;
        }
        let children = server.children.lock().unwrap();
        let taken = parse::event(element, parse::Limits::default())
            .outcome
            .and_then(|event| {
                let who = children.get(&event.child_id.uuid().to_string());
                event.admit(who)?.into_record(&clocks)
            });
        results.push(match taken {
            Ok(record) => {
                let identity = identity(&serde_json::from_str(element).unwrap());
                let copy = (identity, record.received_at, record.event_time);
                server.stored.lock().unwrap().push(copy);
                json!({"index": index, "outcome": "accepted"})
            }
            Err(rejection) => {
                json!({"index": index, "outcome": "rejected", "code": rejection.code.as_str()})
            }
        });
    }
    if fault == 3 {
        // Stored, but the client has long hung up.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let received_at = DateTime::from_timestamp_millis(clocks.received_at).unwrap();
    let received_at = received_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    Json(json!({"received_at": received_at, "results": results})).into_response()
}

async fn serve(server: Arc<Server>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/v1/events", post(events))
        .route("/v1/admin/parents/{id}", put(parent))
        .route("/v1/admin/children/{id}", put(child))
        .layer(RequestDecompressionLayer::new())
        .with_state(server);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Every accepted event was stored, nothing else was, and the recount sees each once.
fn assert_accounted(ledger: &Path, server: &Server) {
    let account = Account::read(&[ledger.to_owned()]).unwrap();
    assert!(
        account.wrong_answers.is_empty(),
        "{:#?}",
        account.wrong_answers
    );
    let stored = server.stored.lock().unwrap();
    let mut first = HashMap::new();
    for (identity, received_at, event_time) in stored.iter() {
        let entry = &account.events[identity];
        assert!(
            entry.explains(*received_at, *event_time),
            "{identity} {entry:?}"
        );
        first.entry(identity).or_insert((*received_at, *event_time));
    }
    for (identity, entry) in &account.events {
        assert!(
            first.contains_key(identity) || !entry.accepted,
            "lost: {identity}"
        );
        if let Some(settled) = entry.settled() {
            assert_eq!(settled, first[identity]);
        }
    }
    let tables = tables(first.iter().map(|(identity, (received_at, event_time))| {
        let event = &account.events[*identity].event;
        let child = event["child_id"].as_str().unwrap().parse().unwrap();
        Counted {
            event,
            child: &account.children[&child],
            received_at: *received_at,
            event_time: *event_time,
        }
    }));
    let counted: i64 = tables
        .daily
        .values()
        .map(|row| row["events"].as_i64().unwrap())
        .sum();
    let withheld: i64 = tables
        .daily
        .values()
        .map(|row| row["withheld_events"].as_i64().unwrap())
        .sum();
    assert_eq!(usize::try_from(counted).unwrap(), first.len());
    assert_eq!(
        usize::try_from(counted - withheld).unwrap(),
        tables.history.len()
    );
    assert!(withheld > 0 && !tables.streaks.is_empty() && !tables.topics.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_accounts_for_every_event_through_failures() {
    let server = Arc::new(Server {
        fails_every: 9,
        ..Server::default()
    });
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger");
    let config = Config {
        url: serve(Arc::clone(&server)).await,
        children: 48,
        history_days: 6,
        duration: Some(Duration::from_secs(1)),
        rate: 500.0,
        timeout: Duration::from_millis(500),
        ledger: Some(ledger.clone()),
        ..Config::default()
    };
    let progress = run(&config, Utc::now(), |_| {}, &CancellationToken::new())
        .await
        .unwrap();
    assert!(
        progress.accepted > 1_000 && progress.retry > 0 && progress.unknown > 0,
        "{progress}"
    );
    for code in ["unknown_child", "consent_required", "invalid_field"] {
        assert!(progress.rejected.contains_key(code), "{progress}");
    }
    let line = progress.to_string();
    assert!(
        line.contains("unknown_child") && line.contains("p99"),
        "{line}"
    );
    assert_accounted(&ledger, &server);
    let copies = server.stored.lock().unwrap();
    let distinct: HashSet<_> = copies.iter().map(|(identity, ..)| identity).collect();
    assert!(distinct.len() < copies.len(), "no copy was ever sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_leaves_a_whole_ledger() {
    let server = Arc::new(Server::default());
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger");
    let config = Config {
        url: serve(Arc::clone(&server)).await,
        children: 48,
        rate: 0.0,
        duration: None,
        ledger: Some(ledger.clone()),
        ..Config::default()
    };
    let shutdown = CancellationToken::new();
    let enough = |progress: &rivulet_simulator::Progress| {
        if progress.accepted > 2_000 {
            shutdown.cancel();
        }
    };
    let progress = run(&config, Utc::now(), enough, &shutdown).await.unwrap();
    assert!(progress.accepted > 2_000);
    assert_accounted(&ledger, &server);
}

#[tokio::test]
async fn what_no_retry_repairs_ends_the_run() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let refuse = || async {
        (
            StatusCode::UNAUTHORIZED,
            Json(json!({"code": "unauthorized"})),
        )
    };
    let router = Router::new().fallback(refuse);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = Config {
        url,
        ..Config::default()
    };
    let error = run(&config, Utc::now(), |_| {}, &CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("401 unauthorized"), "{error}");
}

/// By hand or by the SDK: an app's SDK keeps what it has until somebody changes the key; a run has nobody who would.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_refused_as_a_whole_end_the_run() {
    for (status, code, sdk) in [
        (StatusCode::UNAUTHORIZED, "unauthorized", true),
        (StatusCode::FORBIDDEN, "forbidden", true),
        (StatusCode::NOT_FOUND, "not_found", true),
        (StatusCode::FORBIDDEN, "forbidden", false),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = move |method: Method| async move {
            match method {
                Method::PUT => StatusCode::NO_CONTENT.into_response(),
                _ => (status, Json(json!({"code": code}))).into_response(),
            }
        };
        let router = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let config = Config {
            url,
            sdk,
            rate: 1_000.0,
            duration: Some(Duration::from_secs(60)),
            ..Config::default()
        };
        let never = CancellationToken::new();
        let ran = run(&config, Utc::now(), |_| {}, &never);
        let error = ran.await.unwrap_err().to_string();
        let said = format!("{} {code}", status.as_u16());
        assert!(error.contains(&said), "{error}");
    }
}
