//! Every code of docs/contract.md, "Posting events".

use std::time::Duration;

use reqwest::{Method, StatusCode};
use rivulet_ingest::Config;
use rivulet_registry::keys::{self, Scope};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::common::{Server, config, eventually, problem, read_answer, stored};

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_read() {
    let server = Server::start().await;
    let post = |body: &[u8], headers: &[(&'static str, &'static str)]| {
        let mut request = server.request().body(body.to_vec());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send()
    };
    let json = ("content-type", "application/json");
    type Case<'a> = (&'a [u8], &'a [(&'static str, &'static str)], u16, &'a str);
    let cases: &[Case<'_>] = &[
        (b"", &[json], 400, "invalid_body"),
        (b"{", &[json], 400, "invalid_body"),
        (b"[]", &[json], 400, "invalid_body"),
        (b"{\"events\": []} {}", &[json], 400, "invalid_body"),
        (b"{\"events\": [\"\xff\"]}", &[json], 400, "invalid_body"),
        (
            b"{\"events\": []}",
            &[json, ("content-encoding", "gzip")],
            400,
            "invalid_body",
        ),
        (
            b"{\"events\": []}",
            &[json, ("content-encoding", "zstd")],
            400,
            "invalid_body",
        ),
        (b"{}", &[json], 400, "missing_events"),
        (
            b"{\"sent_at\": \"today\", \"events\": []}",
            &[json],
            400,
            "invalid_sent_at",
        ),
        (
            b"{\"events\": []}",
            &[json, ("x-sent-at", "today")],
            400,
            "invalid_sent_at",
        ),
        (b"{\"events\": []}", &[], 415, "unsupported_media_type"),
        (
            b"{\"events\": []}",
            &[("content-type", "text/plain")],
            415,
            "unsupported_media_type",
        ),
        (
            b"{\"events\": []}",
            &[json, ("content-encoding", "lzma")],
            415,
            "unsupported_encoding",
        ),
        (
            b"{\"events\": []}",
            &[json, ("content-encoding", "gzip, br")],
            415,
            "unsupported_encoding",
        ),
    ];
    for (body, headers, status, code) in cases {
        let found = problem(post(body, headers).await.unwrap()).await;
        assert_eq!((found.0, found.1.as_str()), (*status, *code), "{headers:?}");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_checked_before_anything_else() {
    let server = Server::start().await;
    let post = |authorization: Option<String>| {
        let mut request = server
            .client
            .post(server.url("/v1/events"))
            .body("nonsense");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        request.send()
    };
    let revoked = keys::create(&server.bed.pool, "lost", Scope::Ingest)
        .await
        .unwrap();
    let reader = keys::create(&server.bed.pool, "reader", Scope::Read)
        .await
        .unwrap();
    keys::revoke(&server.bed.pool, "lost").await.unwrap();
    // A node hears of a revocation soon, not at once.
    eventually("the revocation is known", async || {
        let answer = post(Some(format!("Bearer {revoked}"))).await.unwrap();
        answer.status() == StatusCode::UNAUTHORIZED
    })
    .await;
    let good = &server.ingest_key;
    for (sent, challenge) in [
        (None, "Bearer realm=\"rivulet\""),
        (Some(format!("Basic {good}")), "Bearer realm=\"rivulet\""),
        (Some(format!("Bearer {good}x")), "error=\"invalid_token\""),
        (Some("Bearer ".to_owned()), "Bearer realm=\"rivulet\""),
        (Some(format!("Bearer {revoked}")), "error=\"invalid_token\""),
    ] {
        let (status, code, headers) = problem(post(sent).await.unwrap()).await;
        assert_eq!((status, code.as_str()), (401, "unauthorized"));
        assert!(
            headers["www-authenticate"]
                .to_str()
                .unwrap()
                .contains(challenge)
        );
    }
    for key in [&reader, &server.admin_key] {
        eventually("the scope is refused", async || {
            let refused = post(Some(format!("Bearer {key}"))).await.unwrap();
            let (status, code, headers) = problem(refused).await;
            (status, code.as_str()) == (403, "forbidden")
                && headers["www-authenticate"]
                    .to_str()
                    .unwrap()
                    .contains("insufficient_scope")
        })
        .await;
    }
    // The scheme's name is not case-sensitive, and now the body is looked at.
    let found = problem(post(Some(format!("bearer {good}"))).await.unwrap()).await;
    assert_eq!(found.1, "unsupported_media_type");
    for method in [Method::PUT, Method::DELETE] {
        let url = server.url(&format!("/v1/admin/children/{}", server.child));
        let request = server.client.request(method.clone(), url).bearer_auth(good);
        let found = problem(request.send().await.unwrap()).await;
        assert_eq!((found.0, found.1.as_str()), (403, "forbidden"), "{method}");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_while_in_use_is_refused() {
    let server = Server::start().await;
    server.send(&[server.event()]).await;
    keys::revoke(&server.bed.pool, &server.ingest_key_name)
        .await
        .unwrap();
    eventually("the key is refused", async || {
        server.post(&[server.event()]).await.status() == StatusCode::UNAUTHORIZED
    })
    .await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods_are_problems_too() {
    let server = Server::start().await;
    let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
    let strange = Method::from_bytes(b"CONFUSE").unwrap();
    let long = format!("/v1/{}", "x".repeat(20_000));
    for (method, path, status, code) in [
        (&get, "/", 404, "not_found"),
        (&get, "/%FF", 404, "not_found"),
        (&post, "/healthz", 405, "method_not_allowed"),
        (&post, "/v1/event", 404, "not_found"),
        (&post, "/v1/%FF?%FF", 404, "not_found"),
        (&post, &long, 404, "not_found"),
        (&get, "/v1/events", 405, "method_not_allowed"),
        (&strange, "/v1/events", 405, "method_not_allowed"),
        (&post, "/v1/admin/parents/x", 405, "method_not_allowed"),
        (&post, "/v1/admin/parents/%FF", 405, "method_not_allowed"),
        // The body is no concern of who has no such path.
        (&put, "/v1/admin/parents/%FF", 415, "unsupported_media_type"),
        (&get, "/v1/admin/parents/%FF", 404, "not_found"),
        (&get, "/v1/admin/children/%FF", 404, "not_found"),
        (&Method::DELETE, "/v1/admin/parents/%FF", 404, "not_found"),
        (
            &Method::DELETE,
            "/v1/admin/children/%C3%28",
            404,
            "not_found",
        ),
    ] {
        let what = format!("{method} {path:.40}");
        // Who asks is asked first, wherever there is something to know.
        let request = server.client.request(method.clone(), server.url(path));
        let found = problem(request.send().await.unwrap()).await;
        let unknown = match path.starts_with("/v1/") {
            true => (401, "unauthorized"),
            false => (status, code),
        };
        assert_eq!((found.0, found.1.as_str()), unknown, "{what}");
        let request = server.client.request(method.clone(), server.url(path));
        let request = request.bearer_auth(&server.admin_key);
        let found = problem(request.send().await.unwrap()).await;
        assert_eq!((found.0, found.1.as_str()), (status, code), "{what}");
        if status == 405 {
            assert!(found.2.contains_key("allow"), "{what}");
        }
    }
    // Nor is one who may do something else told what there is.
    for path in ["/v1/admin/parents/%FF", "/v1/admin/children/7"] {
        let request = server
            .client
            .get(server.url(path))
            .bearer_auth(&server.ingest_key);
        let found = problem(request.send().await.unwrap()).await;
        assert_eq!((found.0, found.1.as_str()), (403, "forbidden"), "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let response = server.client.get(server.url(path)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_code_of_an_event() {
    let server = Server::start().await;
    let (orphan, deaf, deleted) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let mute = Uuid::new_v4();
    server.register(Uuid::new_v4(), deleted).await;
    server.admin_delete(&format!("children/{deleted}")).await;
    let guarded = Uuid::new_v4();
    server.register(guarded, deaf).await;
    server.consent(guarded, json!({"audio": false})).await;
    let refusing = Uuid::new_v4();
    server.register(refusing, mute).await;
    server.consent(refusing, json!({"coppa": false})).await;

    let days_ago = |days| (chrono::Utc::now() - chrono::TimeDelta::days(days)).to_rfc3339();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut event = server.event();
        change(&mut event);
        event
    };
    let speech = |event: &mut Value| {
        event["type"] = json!("speech");
        event["data"] = json!({"audio_session_id": Uuid::new_v4(), "window_ms": 1});
    };
    let of = |child: Uuid| with(&|event| event["child_id"] = json!(child));
    let cases = [
        (
            "too_large",
            with(&|e| e["attributes"] = json!({"a": "x ".repeat(40_000)})),
        ),
        ("invalid_json", json!("no object")),
        (
            "raw_audio_forbidden",
            with(&|e| e["data"]["Wave_Form"] = json!([1])),
        ),
        ("unknown_type", with(&|e| e["type"] = json!("sleep"))),
        ("missing_field", with(&|e| e["child_id"] = Value::Null)),
        (
            "invalid_field",
            with(&|e| e["data"]["confidence"] = json!(2)),
        ),
        ("unknown_child", of(orphan)),
        ("child_deleted", of(deleted)),
        ("consent_required", of(mute)),
        (
            "consent_required",
            with(&|e| {
                speech(e);
                e["child_id"] = json!(deaf);
            }),
        ),
        ("too_old", with(&|e| e["occurred_at"] = json!(days_ago(31)))),
        (
            "in_future",
            with(&|e| e["occurred_at"] = json!(days_ago(-1))),
        ),
    ];
    let mut events: Vec<Value> = cases.iter().map(|(_, event)| event.clone()).collect();
    // What a child without `audio` may still send.
    events.push(of(deaf));
    // Twice: the second time what was read is in memory.
    for _ in 0..2 {
        let answer = server.send(&events).await;
        for (index, (code, _)) in cases.iter().enumerate() {
            assert_eq!(
                answer["results"][index]["outcome"], "rejected",
                "{code}: {answer}"
            );
            assert_eq!(answer["results"][index]["code"], *code, "{answer}");
        }
        assert_eq!(answer["results"][cases.len()]["outcome"], "accepted");
    }
    assert_eq!(stored(&server.cluster).len(), 2);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_limit_counts_events_and_takes_all_or_nothing() {
    let server = Server::with(Config {
        // Slow enough that nothing comes back during the test.
        rate: 1,
        burst: 1_000,
        ..config()
    })
    .await;
    let refused: Vec<Value> = (0..600).map(|_| json!({})).collect();
    let response = server.post(&refused).await;
    assert_eq!(
        response.status(),
        StatusCode::OK,
        "refused events count too"
    );
    let (status, code, headers) = problem(server.post(&refused).await).await;
    assert_eq!((status, code.as_str()), (429, "rate_limited"));
    let number = |name: &str| -> u64 { headers[name].to_str().unwrap().parse().unwrap() };
    assert_eq!(number("ratelimit-limit"), 1_000);
    assert!(
        (400..600).contains(&number("ratelimit-remaining")),
        "{headers:?}"
    );
    assert!((1..=200).contains(&number("retry-after")), "{headers:?}");
    assert!(
        (1..=600).contains(&number("ratelimit-reset")),
        "{headers:?}"
    );
    // What is left can be used, and another key has its own.
    assert_eq!(server.post(&refused[..400]).await.status(), StatusCode::OK);
    let other = keys::create(&server.bed.pool, "other", Scope::Ingest)
        .await
        .unwrap();
    eventually("the other key may send", async || {
        let post = server
            .client
            .post(server.url("/v1/events"))
            .bearer_auth(&other);
        let response = post.json(&json!({"events": refused})).send().await.unwrap();
        response.status() == StatusCode::OK
    })
    .await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_not_waited_for() {
    let server = Server::with(Config {
        body_timeout: Duration::from_millis(300),
        ..config()
    })
    .await;
    let mut stream = server.raw("content-length: 100\r\n").await;
    stream.write_all(b"{\"events\"").await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"code\":\"timeout\""), "{answer}");
    server.stop().await.unwrap();
}
