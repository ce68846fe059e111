//! What arrives, shown to an admin: ingest nodes that the test plays, and what PostgreSQL says of their events.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use chrono::{DateTime, Utc};
use futures_util::stream;
use rivulet_dashboards::Config;
use rivulet_events::{ChildId, EventType, Identity};
use rivulet_registry::keys::{self, Scope};
use rivulet_sandbox::TestBed;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::broadcast};
use uuid::Uuid;

use crate::common::Api;

/// An ingest node, as far as it is watched.
#[derive(Clone)]
struct Node {
    url: String,
    tell: broadcast::Sender<String>,
    /// Each request's query and credential.
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Node {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            tell: broadcast::channel(100).0,
            asked: Arc::default(),
        };
        let router = Router::new()
            .route("/v1/admin/tail", get(told))
            .with_state(node.clone());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        node
    }

    fn tell(&self, name: &str, data: &Value) {
        self.tell
            .send(format!("event: {name}\ndata: {data}\n\n"))
            .unwrap();
    }
}

async fn told(State(node): State<Node>, uri: Uri, headers: HeaderMap) -> Response {
    let credential = headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
    let query = uri.query().unwrap_or_default().to_owned();
    node.asked.lock().unwrap().push((query.clone(), credential));
    if query.contains("full") {
        return (StatusCode::SERVICE_UNAVAILABLE, r#"{"detail": "8 watch"}"#).into_response();
    }
    let pieces = stream::unfold(node.tell.subscribe(), async |mut told| {
        Some((told.recv().await, told))
    });
    let welcome = stream::iter([Ok("retry: 1000\n\n".to_owned())]);
    Body::from_stream(futures_util::StreamExt::chain(welcome, pieces)).into_response()
}

/// The page's end of a stream.
struct Watching {
    response: reqwest::Response,
    text: String,
}

impl Watching {
    async fn of(api: &Api, key: &str, query: &str) -> Self {
        let response = api.get(key, &format!("/v1/inspect{query}")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next update of this kind.
    async fn next(&mut self, kind: &str) -> Option<Value> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) else {
                    continue;
                };
                let update: Value = serde_json::from_str(data).unwrap();
                if let Some(update) = update.get(kind) {
                    return Some(update.clone());
                }
            }
            let chunk = self.response.chunk().await.ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

fn observation(child: Uuid, id: Uuid, at: DateTime<Utc>, more: &Value) -> Value {
    let mut seen = json!({
        "request_id": "r", "received_at": at, "key": "tablet", "family": null, "index": 0, "id": id,
        "type": "message", "child_id": child, "occurred_at": at, "sent_at": null, "outcome": "accepted",
        "topic": "t.message", "partition": 3, "offset": 7,
    });
    for (name, value) in more.as_object().unwrap() {
        seen[name] = value.clone();
    }
    seen
}

/// A key that the role knows of.
async fn key(api: &Api, name: &str, scope: Scope) -> String {
    let key = keys::create(&api.bed.pool, name, scope).await.unwrap();
    let anything = format!("/v1/children/{}/daily", Uuid::nil());
    while api.get(&key, &anything).await.status() == 401 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    key
}

async fn watched(nodes: &[&Node]) -> (Api, String) {
    let bed = TestBed::new().await;
    let api = Api::on(
        bed,
        Config {
            inspect: nodes.iter().map(|node| node.url.clone()).collect(),
            ..Config::default()
        },
    )
    .await;
    let admin = key(&api, "admin", Scope::Admin).await;
    (api, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_all_nodes_become_one_with_what_became_of_events() {
    let (one, two) = (Node::start().await, Node::start().await);
    let (api, admin) = watched(&[&one, &two]).await;
    let mut watching = Watching::of(&api, &admin, "?child=&outcome=accepted").await;
    let mut up = [
        watching.next("node").await.unwrap(),
        watching.next("node").await.unwrap(),
    ];
    up.sort_by_key(|node| node["node"] == json!(two.url));
    assert_eq!(up[0], json!({"node": one.url, "trouble": null}));
    assert_eq!(up[1], json!({"node": two.url, "trouble": null}));
    let wanted = vec![("outcome=accepted".to_owned(), format!("Bearer {admin}"))];
    assert_eq!(
        *one.asked.lock().unwrap(),
        wanted,
        "asked with the viewer's own key"
    );

    let (child, id, at) = (Uuid::new_v4(), Uuid::now_v7(), Utc::now());
    one.tell("event", &observation(child, id, at, &json!({})));
    let event = watching.next("event").await.unwrap();
    assert_eq!(
        (&event["node"], &event["number"]),
        (&json!(one.url), &json!(0))
    );
    assert_eq!(event["id"], json!(id));
    let curl = event["curl"].as_str().unwrap();
    assert!(
        curl.contains("dry_run=true") && curl.contains(&id.to_string()),
        "{curl}"
    );
    let fate = watching.next("fate").await.unwrap();
    let open = json!({"number": 0, "rollups": "waiting", "history": null, "duplicate_of": null, "history_after_ms": null});
    assert_eq!(fate, open);
    // As the aggregator does: the identity and its position in one transaction.
    let identity = Identity::of(
        EventType::Message,
        ChildId::new(child),
        id,
        at.timestamp_millis(),
    );
    let mut tx = api.bed.pool.begin().await.unwrap();
    sqlx::query("SELECT make_partition('event_seen', $1)")
        .bind(identity.day)
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query("INSERT INTO event_seen (day, seen_on, key) VALUES ($1, $2, $3)")
        .bind(identity.day)
        .bind(at.date_naive())
        .bind(Uuid::from_bytes(identity.key))
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO kafka_positions (consumer, topic, partition, topic_incarnation, next_offset)
         VALUES ('aggregator', 't.message', 3, 'c/t', 8)",
    )
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let fate = watching.next("fate").await.unwrap();
    assert_eq!(
        (&fate["number"], &fate["rollups"]),
        (&json!(0), &json!("counted"))
    );
    // The same again, in the other node, is a copy; what is no event has no fate.
    two.tell("event", &observation(child, id, at, &json!({"offset": 9})));
    two.tell(
        "event",
        &json!({"request_id": "r", "received_at": at, "outcome": "refused", "status": 400, "code": "invalid_body",
                "key": null, "family": null, "index": null, "id": null, "type": null, "child_id": null,
                "occurred_at": null, "sent_at": null}),
    );
    two.tell("missed", &json!({"missed": 7}));
    let copy = watching.next("event").await.unwrap();
    assert_eq!(
        (&copy["node"], &copy["number"]),
        (&json!(two.url), &json!(1))
    );
    let refused = watching.next("event").await.unwrap();
    assert_eq!(
        (&refused["status"], &refused["curl"]),
        (&json!(400), &Value::Null)
    );
    assert_eq!(watching.next("missed").await.unwrap(), json!(7));
    let fate = watching.next("fate").await.unwrap();
    assert_eq!(fate["number"], 1);
    assert_eq!(
        (&fate["rollups"], &fate["duplicate_of"]),
        (&json!("duplicate"), &json!(7))
    );
    // Who leaves is missed by nobody.
    drop(watching);
    for node in [&one, &two] {
        for _ in 0..600 {
            if node.tell.receiver_count() == 0 {
                break;
            }
            let _ = node.tell.send(":\n\n".to_owned());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(node.tell.receiver_count(), 0);
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_an_admins_key_is_shown_anything() {
    let node = Node::start().await;
    let (api, admin) = watched(&[&node]).await;
    let family = api.family(&[]).await;
    let ingest = key(&api, "ingest", Scope::Ingest).await;
    let path = "/v1/inspect";
    for (credential, status) in [
        (&*api.key, 403),
        (&*ingest, 403),
        (&*family.token, 403),
        ("rvk_forged", 401),
        ("a.b.c", 401),
        ("", 401),
    ] {
        assert_eq!(api.refusal(credential, path).await.0, status, "{status}");
    }
    for query in ["?child=7", "?outcome=good", "?since=1"] {
        assert_eq!(api.refusal(&admin, &format!("{path}{query}")).await.0, 400);
    }
    assert!(node.asked.lock().unwrap().is_empty());
    // An admin's key reads nothing else here.
    let daily = format!("/v1/children/{}/daily", family.child);
    assert_eq!(api.refusal(&admin, &daily).await.0, 403);

    let mut watching = Watching::of(&api, &admin, "").await;
    watching.next("node").await.unwrap();
    keys::revoke(&api.bed.pool, "admin").await.unwrap();
    let revoked = async {
        while api.get(&admin, path).await.status() != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    revoked.await;
    let seen = observation(family.child, Uuid::now_v7(), Utc::now(), &json!({}));
    node.tell("event", &seen);
    assert!(watching.next("event").await.is_none());
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_there_unless_somebody_wants_it() {
    let (node, off) = (Node::start().await, Api::start().await);
    let admin = key(&off, "admin", Scope::Admin).await;
    for path in ["/inspect/", "/inspect", "/inspect/inspect.js"] {
        assert_eq!(off.refusal(&admin, path).await.0, 404, "{path}");
    }
    // As whatever is not there: only who may read is told so.
    assert_eq!(off.refusal(&off.key, "/v1/inspect").await.0, 404);
    assert_eq!(off.refusal("rvk_forged", "/v1/inspect").await.0, 401);
    off.stop().await;

    let (api, _) = watched(&[&node]).await;
    let page = api.get("", "/inspect/").await;
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let page = page.text().await.unwrap();
    let names = page.split('"').filter(|name| name.starts_with("/inspect/"));
    let names: Vec<_> = names.collect();
    assert!(names.len() >= 7, "{page}");
    for name in names {
        let file = api.get("", name).await;
        assert_eq!(file.status(), 200, "{name}");
        assert!(
            file.headers()["cache-control"]
                .to_str()
                .unwrap()
                .contains("immutable"),
            "{name}"
        );
    }
    api.stop().await;
}

#[test]
fn a_node_that_cannot_be_asked_is_refused_at_boot() {
    let refusal = |nodes: &[&str]| {
        let config = Config {
            inspect: nodes.iter().map(|node| (*node).to_owned()).collect(),
            ..Config::default()
        };
        config.validate().map_err(|error| error.to_string())
    };
    refusal(&["http://ingest-1:8080", "https://ingest-2/"]).unwrap();
    for (nodes, consequence) in [
        (&["ingest:8080"][..], "would show nothing of that node"),
        (&["http://me:secret@ingest"], "a key of their own"),
        (
            &["http://ingest", "http://ingest/"],
            "each of its events twice",
        ),
    ] {
        let said = refusal(nodes).unwrap_err();
        assert!(
            said.contains(consequence) && !said.contains("secret"),
            "{said}"
        );
    }
    let many: Vec<String> = (0..33).map(|n| format!("http://ingest-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(refusal(&many).unwrap_err().contains("32 at most"));
}
