//! What is accepted is in Kafka, and the answer says what became of each event.

use std::io::Write as _;

use flate2::{Compression, write};
use reqwest::StatusCode;
use rivulet_events::{EventType, Record};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use crate::common::{Server, outcomes, problem, stored};

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_event_is_in_kafka() {
    let server = Server::start().await;
    let event = server.event();
    let response = server
        .request()
        .header("x-request-id", "from-the-sdk.1")
        .json(&json!({"events": [event]}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["x-request-id"], "from-the-sdk.1");
    let answer: Value = response.json().await.unwrap();
    let received_at = answer["received_at"].as_str().unwrap();
    assert!(
        received_at.len() == 24 && received_at.ends_with('Z'),
        "{received_at}"
    );
    assert_eq!(
        answer,
        json!({
            "request_id": "from-the-sdk.1",
            "received_at": received_at,
            "accepted": 1, "rejected": 0, "retry": 0,
            "results": [{"index": 0, "id": event["id"], "outcome": "accepted"}],
        })
    );

    let records = stored(&server.cluster);
    assert_eq!(records.len(), 1);
    assert_eq!(
        records[0].topic,
        server.cluster.topic(EventType::Interaction)
    );
    assert_eq!(records[0].key, server.child.hyphenated().to_string());
    let record = Record::decode(EventType::Interaction, &records[0].payload).unwrap();
    assert_eq!(json!(record.id), event["id"]);
    assert_eq!(record.parent_id.uuid(), server.parent);
    assert!(record.analytics);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_event_spoils_only_itself() {
    let server = Server::start().await;
    let mut coloured = server.event();
    coloured["data"]["colour"] = json!("red");
    let mut bad = server.event();
    bad["data"]["rating"] = json!(9);
    bad["id"] = json!("id \"with\" quotes");
    let events = [
        server.event(),
        coloured.clone(),
        bad,
        json!(17),
        server.event(),
    ];
    let answer = server.send(&events).await;
    assert_eq!(
        outcomes(&answer),
        ["accepted", "accepted", "rejected", "rejected", "accepted"]
    );
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(3), &json!(2))
    );
    let results = &answer["results"];
    assert_eq!(results[1]["warnings"], json!(["unknown_field:data.colour"]));
    assert_eq!(results[1]["id"], coloured["id"]);
    assert_eq!(results[2]["code"], "invalid_field");
    assert_eq!(results[2]["pointer"], "/id");
    assert_eq!(results[2]["id"], "id \"with\" quotes");
    assert!(results[2]["message"].is_string());
    assert_eq!(results[3]["code"], "invalid_json");
    assert_eq!(results[3]["id"], Value::Null);
    for (index, result) in results.as_array().unwrap().iter().enumerate() {
        assert_eq!(result["index"], index);
    }
    assert_eq!(stored(&server.cluster).len(), 3);

    let terse = server
        .client
        .post(server.url("/v1/events?verbose=false"))
        .bearer_auth(&server.ingest_key)
        .json(&json!({"events": events}))
        .send()
        .await
        .unwrap();
    let terse: Value = terse.json().await.unwrap();
    assert_eq!(terse["accepted"], 3);
    let listed: Vec<_> = terse["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["index"])
        .collect();
    assert_eq!(listed, [1, 2, 3]);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_type_has_its_topic_and_message_text_stays_out() {
    let server = Server::start().await;
    let id = Uuid::now_v7();
    let with = |kind: &str, data: Value| {
        let mut event = server.event();
        event["type"] = json!(kind);
        event["session_id"] = json!(id);
        event["data"] = data;
        event
    };
    let events = [
        server.event(),
        with(
            "message",
            json!({"conversation_id": id, "sequence": 1, "role": "user", "content": "my planted text"}),
        ),
        with("speech", json!({"audio_session_id": id, "window_ms": 1000})),
        with("session", json!({"action": "start"})),
    ];
    let answer = server.send(&events).await;
    assert_eq!(outcomes(&answer), ["accepted"; 4], "{answer}");
    let records = stored(&server.cluster);
    let mut topics: Vec<_> = records.iter().map(|record| record.topic.clone()).collect();
    topics.sort_unstable();
    let mut expected = server.cluster.topics();
    expected.sort_unstable();
    assert_eq!(topics, expected);
    for record in &records {
        assert!(!String::from_utf8_lossy(&record.payload).contains("planted"));
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_is_one_event_a_line() {
    let server = Server::start().await;
    let mut body = format!("{}\n\n  \r\n[]\n", server.event()).into_bytes();
    body.extend_from_slice(b"\xff\xfe\n{\"cut\": \n");
    body.extend_from_slice(server.event().to_string().as_bytes());
    let response = server
        .request()
        .header("content-type", "application/x-ndjson; charset=utf-8")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(
        outcomes(&answer),
        ["accepted", "rejected", "rejected", "rejected", "accepted"],
        "{answer}"
    );
    for index in 1..4 {
        assert_eq!(answer["results"][index]["code"], "invalid_json");
    }
    assert_eq!(stored(&server.cluster).len(), 2);

    let nothing = server
        .request()
        .header("content-type", "application/x-ndjson");
    let nothing: Value = nothing.body("").send().await.unwrap().json().await.unwrap();
    assert_eq!(nothing["results"], json!([]));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_encoding_is_understood() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for encoding in ["identity", "gzip", "GZIP", "zstd", "br", "deflate"] {
        let event = server.event();
        ids.push(event["id"].as_str().unwrap().to_owned());
        let plain = json!({"events": [event]}).to_string();
        let body = compress(encoding, plain.as_bytes());
        let response = server
            .request()
            .header("content-type", "application/json;charset=UTF-8")
            .header("content-encoding", encoding)
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{encoding}");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(outcomes(&answer), ["accepted"], "{encoding}");
    }
    let mut found: Vec<_> = stored(&server.cluster)
        .iter()
        .map(|record| record.json()["id"].as_str().unwrap().to_owned())
        .collect();
    found.sort_unstable();
    ids.sort_unstable();
    assert_eq!(found, ids);
    server.stop().await.unwrap();
}

fn compress(encoding: &str, plain: &[u8]) -> Vec<u8> {
    match encoding {
        "identity" => plain.to_vec(),
        "zstd" => zstd::encode_all(plain, 3).unwrap(),
        "br" => {
            let mut to = Vec::new();
            brotli::CompressorWriter::new(&mut to, 4096, 5, 22)
                .write_all(plain)
                .unwrap();
            to
        }
        "deflate" => {
            let mut to = write::ZlibEncoder::new(Vec::new(), Compression::fast());
            to.write_all(plain).unwrap();
            to.finish().unwrap()
        }
        _ => {
            let mut to = write::GzEncoder::new(Vec::new(), Compression::fast());
            to.write_all(plain).unwrap();
            to.finish().unwrap()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_devices_clock_is_corrected_and_the_header_wins() {
    let server = Server::start().await;
    let now = chrono::Utc::now();
    let two_hours = chrono::TimeDelta::hours(2);
    let event_of = |header: Option<String>, body: Option<String>| {
        let mut event = server.event();
        event["occurred_at"] = json!((now - two_hours).to_rfc3339());
        let mut whole = json!({"events": [event]});
        whole["sent_at"] = json!(body);
        let mut request = server.request().json(&whole);
        if let Some(header) = header {
            request = request.header("x-sent-at", header);
        }
        request
    };
    let behind = (now - two_hours).to_rfc3339();
    let right = now.to_rfc3339();
    for (header, body) in [
        (None, Some(behind.clone())),
        (Some(behind.clone()), Some(right.clone())),
        (Some(right), Some(behind)),
        (None, None),
    ] {
        let response = event_of(header, body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    let corrected = stored(&server.cluster)
        .iter()
        .filter(|record| {
            let record = record.json();
            record["event_time"].as_i64().unwrap() - record["occurred_at"].as_i64().unwrap()
                > two_hours.num_milliseconds() - 1_000
        })
        .count();
    assert_eq!(corrected, 2);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_is_an_answer_and_absent_is_a_problem() {
    let server = Server::start().await;
    let answer = server.send(&[]).await;
    assert_eq!(answer["accepted"], 0);
    assert_eq!(answer["results"], json!([]));
    for body in [json!({}), json!({"events": null})] {
        let response = server.request().json(&body).send().await.unwrap();
        assert_eq!(problem(response).await.1, "missing_events");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_may_post_events_from_anywhere_and_do_nothing_else() {
    let server = Server::start().await;
    let preflight = |path: String, method: &'static str| {
        server
            .client
            .request(reqwest::Method::OPTIONS, path)
            .header("origin", "https://app.example")
            .header("access-control-request-method", method)
            .header(
                "access-control-request-headers",
                "authorization,content-encoding",
            )
            .send()
    };
    let allowed = preflight(server.url("/v1/events"), "POST").await.unwrap();
    assert_eq!(allowed.status(), StatusCode::OK);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "*");
    // A page that is traced sends it along, and browsers ask for every header.
    let headers = allowed.headers()["access-control-allow-headers"]
        .to_str()
        .unwrap();
    let headers: Vec<_> = headers.split(',').collect();
    for header in [
        "authorization",
        "content-type",
        "content-encoding",
        "x-sent-at",
        "x-request-id",
        "traceparent",
        "tracestate",
        "baggage",
        "sentry-trace",
        "x-retry-count",
    ] {
        assert!(headers.contains(&header), "{header}: {headers:?}");
    }
    assert!(
        !allowed
            .headers()
            .contains_key("access-control-allow-credentials")
    );
    let admin = server.url(&format!("/v1/admin/parents/{}", server.parent));
    let refused = preflight(admin, "PUT").await.unwrap();
    assert!(
        !refused
            .headers()
            .contains_key("access-control-allow-origin")
    );

    // A refusal must be readable for the page too.
    let refused = server.client.post(server.url("/v1/events"));
    let refused = refused
        .header("origin", "https://app.example")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.headers()["access-control-allow-origin"], "*");
    assert_eq!(problem(refused).await.1, "unauthorized");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_asked_and_stops_sending_is_answered() {
    let server = Server::start().await;
    let body = json!({"events": [server.event()]}).to_string();
    let (length, chunk) = (
        body.len(),
        format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
    );
    let whole = format!("content-length: {length}\r\n");
    for (headers, body, status) in [
        (whole.as_str(), body.as_str(), 200),
        ("transfer-encoding: chunked\r\n", &chunk, 200),
        (&format!("{whole}connection: close\r\n"), &body, 200),
        (&format!("{whole}expect: 100-continue\r\n"), &body, 200),
        // Who stops halfway is told so.
        (&whole, &body[..length / 2], 400),
        ("transfer-encoding: chunked\r\n", &chunk[..length / 2], 400),
    ] {
        for _ in 0..5 {
            let mut stream = server.raw(headers).await;
            stream.write_all(body.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let answer = answer.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{headers}: {answer}"
            );
            let problem = answer.contains("application/problem+json");
            assert_eq!(problem, status != 200, "{answer}");
        }
    }
    // Two questions, then no more.
    let mut stream = server.raw(&whole).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let health = b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n";
    stream.write_all(health).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn times_at_the_ends_of_the_calendar_are_judged_like_any_other() {
    let server = Server::start().await;
    let with = |time: &str| {
        let mut event = server.event();
        event["occurred_at"] = json!(time);
        event
    };
    let cases = [
        ("9999-12-31T23:59:59.999Z", "in_future"),
        ("9999-12-31T23:59:59-23:59", "in_future"),
        ("0000-01-01T00:00:00Z", "too_old"),
        ("0000-01-01T00:00:00+23:59", "too_old"),
        ("0001-01-01T00:00:00Z", "too_old"),
        ("-9999-01-01T00:00:00Z", "invalid_field"),
        ("+10000-01-01T00:00:00Z", "invalid_field"),
        ("+5874898-01-01T00:00:00Z", "invalid_field"),
        ("99999999999999999999-01-01T00:00:00Z", "invalid_field"),
    ];
    let events = cases.map(|(time, _)| with(time));
    let answer = server.send(&events).await;
    for ((time, code), result) in cases.iter().zip(answer["results"].as_array().unwrap()) {
        assert_eq!(result["code"], *code, "{time}: {answer}");
    }
    // The device's clock likewise: a correction of thousands of years.
    for (sent_at, occurred_at, code) in [
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", Value::Null),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:58Z", Value::Null),
        (
            "9999-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            json!("too_old"),
        ),
        (
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            json!("in_future"),
        ),
    ] {
        let body = json!({"events": [with(occurred_at)]});
        for header in [true, false] {
            let mut body = body.clone();
            let mut request = server.request();
            if header {
                request = request.header("x-sent-at", sent_at);
            } else {
                body["sent_at"] = json!(sent_at);
            }
            let answer: Value = request
                .json(&body)
                .send()
                .await
                .unwrap()
                .json()
                .await
                .unwrap();
            assert_eq!(
                answer["results"][0]["code"], code,
                "{sent_at} {occurred_at}: {answer}"
            );
        }
    }
    for sent_at in ["-5000-01-01T00:00:00Z", "+10000-01-01T00:00:00Z"] {
        let request = server.request().header("x-sent-at", sent_at);
        let refused = request.json(&json!({"events": []})).send().await.unwrap();
        assert_eq!(problem(refused).await.1, "invalid_sent_at");
        let body = json!({"sent_at": sent_at, "events": []});
        let refused = server.request().json(&body).send().await.unwrap();
        assert_eq!(problem(refused).await.1, "invalid_sent_at");
    }
    server.stop().await.unwrap();
}
