//! What a key may be limited to: whose pages use it, and for which events.

use reqwest::{Method, Response, StatusCode};
use rivulet_events::EventType;
use rivulet_ingest::Config;
use rivulet_registry::keys::{self, Limits, Scope};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Server, config, eventually, outcomes, problem, stored};

const APP: &str = "https://app.example";
const OTHER: &str = "https://other.example";

async fn key(server: &Server, name: &str, limits: &Limits) -> String {
    let pool = &server.bed.pool;
    let key = keys::create_limited(pool, name, Scope::Ingest, limits)
        .await
        .unwrap();
    eventually("the key is known", async || {
        post(server, &key, Some(APP), &[]).await.status() != StatusCode::UNAUTHORIZED
    })
    .await;
    key
}

async fn post(server: &Server, key: &str, origin: Option<&str>, events: &[Value]) -> Response {
    let mut post = server.client.post(server.url("/v1/events"));
    if let Some(origin) = origin {
        post = post.header("origin", origin);
    }
    let body = json!({"events": events});
    post.bearer_auth(key).json(&body).send().await.unwrap()
}

async fn preflight(server: &Server, origin: &str) -> Response {
    server
        .client
        .request(Method::OPTIONS, server.url("/v1/events"))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization")
        .send()
        .await
        .unwrap()
}

fn allowed_origin(response: &Response) -> Option<&str> {
    let header = response.headers().get("access-control-allow-origin")?;
    Some(header.to_str().unwrap())
}

async fn is_forbidden(response: Response) {
    let (status, code, _) = problem(response).await;
    assert_eq!((status, code.as_str()), (403, "forbidden"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_origins_is_for_the_pages_of_these() {
    let server = Server::start().await;
    let limits = Limits {
        origins: vec![APP.parse().unwrap()],
        ..Limits::default()
    };
    let web = key(&server, "web", &limits).await;
    let event = [server.event()];
    let taken = post(&server, &web, Some(APP), &event).await;
    assert_eq!(allowed_origin(&taken), Some("*"));
    assert_eq!(taken.status(), StatusCode::OK);
    for origin in [
        Some(OTHER),
        Some("https://app.example.evil.example"),
        Some("http://app.example"),
        Some("null"),
        None,
    ] {
        let refused = post(&server, &web, origin, &event).await;
        // The page that is refused can read why.
        let page_can_read_it = origin.is_none() || allowed_origin(&refused) == Some("*");
        assert!(page_can_read_it, "{origin:?}");
        is_forbidden(refused).await;
    }
    // Another key is nobody's but its own affair.
    for origin in [Some(OTHER), None] {
        let taken = post(&server, &server.ingest_key, origin, &event).await;
        assert_eq!(taken.status(), StatusCode::OK);
    }
    assert_eq!(stored(&server.cluster).len(), 3);

    keys::limit(&server.bed.pool, "web", &Limits::default())
        .await
        .unwrap();
    eventually("the limit is lifted", async || {
        post(&server, &web, None, &event).await.status() == StatusCode::OK
    })
    .await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_be_for_the_pages_of_some_origins() {
    let server = Server::with(Config {
        origins: vec![
            APP.parse().unwrap(),
            "http://localhost:3000".parse().unwrap(),
        ],
        ..config()
    })
    .await;
    for origin in [APP, "http://localhost:3000"] {
        let allowed = preflight(&server, origin).await;
        assert_eq!(allowed_origin(&allowed), Some(origin));
        let varies = allowed.headers().get_all("vary").iter();
        let mut varies = varies.map(|value| value.to_str().unwrap().to_lowercase());
        assert!(varies.any(|value| value.contains("origin")));
        let taken = post(&server, &server.ingest_key, Some(origin), &[server.event()]).await;
        assert_eq!(allowed_origin(&taken), Some(origin));
        assert_eq!(taken.status(), StatusCode::OK);
    }
    assert_eq!(allowed_origin(&preflight(&server, OTHER).await), None);
    let refused = post(&server, &server.ingest_key, Some(OTHER), &[server.event()]).await;
    assert_eq!(allowed_origin(&refused), None);
    is_forbidden(refused).await;
    // Who is no page says no origin.
    server.send(&[server.event()]).await;

    // A key only narrows it.
    let limits = Limits {
        origins: vec![APP.parse().unwrap(), OTHER.parse().unwrap()],
        ..Limits::default()
    };
    let web = key(&server, "web", &limits).await;
    assert_eq!(
        post(&server, &web, Some(APP), &[]).await.status(),
        StatusCode::OK
    );
    for origin in [OTHER, "http://localhost:3000"] {
        is_forbidden(post(&server, &web, Some(origin), &[]).await).await;
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_some_types_takes_all_of_a_request_or_nothing() {
    let server = Server::start().await;
    let limits = Limits {
        event_types: vec![EventType::Interaction, EventType::Session],
        ..Limits::default()
    };
    let narrow = key(&server, "narrow", &limits).await;
    let mut session = server.event();
    session["type"] = json!("session");
    session["session_id"] = json!(Uuid::new_v4());
    session["data"] = json!({"action": "start"});
    let mut speech = server.event();
    speech["type"] = json!("speech");
    speech["data"] = json!({"audio_session_id": Uuid::new_v4(), "window_ms": 1});
    let mut unknown = server.event();
    unknown["type"] = json!("sleep");

    let taken = post(
        &server,
        &narrow,
        None,
        &[server.event(), session.clone(), unknown],
    )
    .await;
    let answer: Value = taken.json().await.unwrap();
    assert_eq!(outcomes(&answer), ["accepted", "accepted", "rejected"]);
    assert_eq!(answer["results"][2]["code"], "unknown_type");

    let mixed = [server.event(), speech.clone(), session];
    let refused = post(&server, &narrow, None, &mixed).await;
    let document: Value = refused.json().await.unwrap();
    assert_eq!(document["status"], 403);
    assert_eq!(document["code"], "forbidden");
    let detail = document["detail"].as_str().unwrap();
    assert!(detail.contains("`speech`"), "{detail}");
    let stored = stored(&server.cluster).len();
    assert_eq!(stored, 2, "nothing of the refused request was taken");

    // Once the key is wide enough, the same request succeeds: nothing was lost.
    keys::limit(&server.bed.pool, "narrow", &Limits::default())
        .await
        .unwrap();
    eventually("the limit is lifted", async || {
        post(&server, &narrow, None, &mixed).await.status() == StatusCode::OK
    })
    .await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_without_a_gap() {
    let server = Server::start().await;
    let new = key(&server, "tablet-2", &Limits::default()).await;
    for both in [&server.ingest_key, &new] {
        let taken = post(&server, both, None, &[server.event()]).await;
        assert_eq!(taken.status(), StatusCode::OK);
    }
    keys::revoke(&server.bed.pool, &server.ingest_key_name)
        .await
        .unwrap();
    eventually("the old key is refused", async || {
        let taken = post(&server, &new, None, &[server.event()]).await;
        assert_eq!(taken.status(), StatusCode::OK, "the new one never is");
        let old = post(&server, &server.ingest_key, None, &[server.event()]).await;
        old.status() == StatusCode::UNAUTHORIZED
    })
    .await;
    server.stop().await.unwrap();
}
