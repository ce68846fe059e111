//! Nothing that identifies a child, a family, a client or a key is in the log, at any level, nor in
//! the metrics.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

#[path = "ingest/common.rs"]
mod common;

use std::{
    io,
    sync::{Arc, Mutex},
};

use common::{Server, config, eventually, read_answer};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use uuid::Uuid;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_secrets_stay_out_of_log_and_metrics() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let tokens = rivulet_tokens::Config {
        secrets: rivulet_tokens::Secret::lines("planted secret of at least thirty-two bytes"),
        audience: "planted-audience".to_owned(),
        ..rivulet_tokens::Config::default()
    };
    let server = Server::with(rivulet_ingest::Config {
        tokens: Some(tokens.clone()),
        ..config()
    })
    .await;
    let parent = rivulet_events::ParentId::new(server.parent);
    let minute = std::time::Duration::from_secs(60);
    let token = rivulet_tokens::mint(&tokens, parent, minute).unwrap();
    let bad_token = format!("{token}x");
    let stranger = Uuid::new_v4();
    let event = |child: Uuid| {
        json!({
            "id": Uuid::now_v7(), "type": "message", "child_id": child,
            "occurred_at": chrono::Utc::now().to_rfc3339(),
            "device": {"id": "planted-device"},
            "attributes": {"planted-key": "planted-value"},
            "planted_field": 1,
            "data": {
                "conversation_id": Uuid::now_v7(), "sequence": 1, "role": "user",
                "content": "planted words of a child", "topic": "planted-topic",
            },
        })
    };
    let mut audio = event(server.child);
    audio["data"]["audio_base64"] = json!("planted-sound");
    let mut broken = event(server.child);
    broken["child_id"] = json!("planted-child");
    let good = json!({"events": [
        event(server.child), event(stranger), audio, broken, "planted-string",
    ]})
    .to_string();
    let key = server.ingest_key.clone();
    let admin = server.admin_key.clone();
    let parents = format!("PUT /v1/admin/parents/{}", server.parent);
    let children = format!("DELETE /v1/admin/children/{}", server.child);
    let requests = [
        ("POST /v1/events?planted-query", &key, "", good.as_str()),
        ("POST /v1/events", &key, "", "{\"events\": [planted-json"),
        (
            "POST /v1/events",
            &key,
            "x-sent-at: planted-time\r\n",
            "{\"events\": []}",
        ),
        (
            "POST /v1/events",
            &key,
            "content-encoding: planted-encoding\r\n",
            "{}",
        ),
        ("POST /v1/planted-path", &key, "", "{}"),
        (
            "POST /v1/events",
            &"rvk_planted_wrong_key".to_owned(),
            "",
            "{}",
        ),
        (
            "POST /v1/events",
            &token,
            "origin: https://planted.example\r\n",
            good.as_str(),
        ),
        ("POST /v1/events", &bad_token, "", good.as_str()),
        (&parents, &token, "", "{}"),
        (&parents, &admin, "", "{\"timezone\": \"planted/zone\"}"),
        (&parents, &admin, "", "{\"timezone\": \"Asia/Tokyo\"}"),
        (&children, &admin, "", ""),
        (&children, &key, "", ""),
    ];
    for (line, key, headers, body) in requests {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\nx-request-id: planted-request-id\r\n\
             x-forwarded-for: 203.0.113.77\r\nuser-agent: planted-agent\r\n{headers}\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut stream).await;
    }
    let text = || String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    eventually("the last request is in the log", async || {
        text().matches("answered").count() >= 13
    })
    .await;
    let secrets = [
        "planted".to_owned(),
        "203.0.113.77".to_owned(),
        server.child.to_string(),
        server.child.simple().to_string(),
        server.parent.to_string(),
        stranger.to_string(),
        key,
        admin,
        token.rsplit('.').next().unwrap().to_owned(),
        token,
    ];
    let exposed = server
        .client
        .get(server.url("/metrics"))
        .send()
        .await
        .unwrap();
    let exposed = exposed.text().await.unwrap();
    for expected in [
        "rivulet_ingest_events_total{outcome=\"accepted\",type=\"message\",code=\"\"} 2\n",
        "rivulet_ingest_events_total{outcome=\"rejected\",type=\"\",code=\"unknown_child\"} 2\n",
        "rivulet_http_requests_total{role=\"ingest\",route=\"events\",code=\"ok\"} 2\n",
        "rivulet_http_requests_total{role=\"ingest\",route=\"admin\",code=\"forbidden\"} 2\n",
        "rivulet_http_requests_total{role=\"ingest\",route=\"other\",code=\"not_found\"} 1\n",
        "rivulet_http_request_seconds_bucket",
        "rivulet_ingest_in_flight_bytes",
        "rivulet_ingest_producer_queue_records",
        "rivulet_registry_confirmed_timestamp_seconds",
    ] {
        assert!(
            exposed.contains(expected),
            "{expected} is not in:\n{exposed}"
        );
    }
    server.stop().await.unwrap();
    let text = format!("{}{exposed}", text());
    for secret in secrets {
        let found = text.lines().find(|line| line.contains(&secret));
        assert_eq!(found, None, "a secret got out");
    }
}
