//! What real clients send: clocks that are off, text that is cut in half, numbers as they come. Each value
//! is checked in the record.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Server, stored};

/// The answer to a body of these bytes.
async fn post(server: &Server, media: &str, body: impl Into<Vec<u8>>) -> (StatusCode, Value) {
    let request = server.request().header("content-type", media);
    let response = request.body(body.into()).send().await.unwrap();
    let status = response.status();
    (status, response.json().await.unwrap())
}

/// An event with this `data`, as text: what is in it is sent as it is.
fn interaction(server: &Server, more: &str, data: &str) -> String {
    format!(
        r#"{{"id":"{}","type":"interaction","child_id":"{}","occurred_at":"{}"{more},"data":{{"action":"view"{data}}}}}"#,
        Uuid::now_v7(),
        server.child,
        Utc::now().to_rfc3339(),
    )
}

/// What became of one event, by its code or outcome, and its pointer.
async fn fate(server: &Server, event: &str) -> (String, String) {
    let body = format!(r#"{{"events":[{event}]}}"#);
    let (status, answer) = post(server, "application/json", body).await;
    assert_eq!(status, StatusCode::OK, "{event} {answer}");
    let result = &answer["results"][0];
    let said = result["code"].as_str().or(result["outcome"].as_str());
    let pointer = result["pointer"].as_str().unwrap_or_default();
    (said.unwrap().to_owned(), pointer.to_owned())
}

/// The newest record.
fn last(server: &Server) -> Value {
    stored(&server.cluster)
        .iter()
        .map(|record| record.json())
        .max_by_key(|record| record["received_at"].as_i64())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_by_days_or_years_loses_nothing() {
    let server = Server::start().await;
    let now = Utc::now();
    let at = |days: i64| now + TimeDelta::days(days);
    let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
    let far: DateTime<Utc> = "9999-12-31T00:00:00Z".parse().unwrap();
    let reset: DateTime<Utc> = "1970-01-01T00:07:00Z".parse().unwrap();
    for (clock, without) in [
        (at(2), "in_future"),
        (at(400), "in_future"),
        (far, "in_future"),
        (at(-40), "too_old"),
        (at(-300), "too_old"),
        (reset, "too_old"),
    ] {
        for in_header in [false, true] {
            let mut event = server.event();
            event["id"] = json!(Uuid::new_v4());
            event["occurred_at"] = json!(text(clock - TimeDelta::minutes(10)));
            let answer = server.send(std::slice::from_ref(&event)).await;
            assert_eq!(answer["results"][0]["code"], without, "{clock}");
            let advice = answer["results"][0]["message"].as_str().unwrap();
            assert!(advice.contains("send `sent_at`"), "{advice}");

            let body = if in_header {
                json!({"events": [event]})
            } else {
                json!({"sent_at": text(clock), "events": [event]})
            };
            let mut request = server.request().json(&body);
            if in_header {
                request = request.header("x-sent-at", text(clock));
            }
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            assert_eq!(answer["accepted"], 1, "{clock} {answer}");
            let record = last(&server);
            let shift =
                record["received_at"].as_i64().unwrap() - record["event_time"].as_i64().unwrap();
            assert!(
                (600_000..660_000).contains(&shift),
                "ten minutes ago: {shift}"
            );
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_the_doubles_nearest_to_their_text() {
    let server = Server::start().await;
    for (text, nearest) in [
        ("0.09249999999999999", 0.092_499_999_999_999_99),
        ("0.3", 0.3),
        ("0.30000000000000004", 0.300_000_000_000_000_04),
        ("9007199254740993e-16", 0.900_719_925_474_099_3),
        (
            "0.1000000000000000055511151231257827021181583404541015625",
            0.1,
        ),
        ("0.0", 0.0),
        ("-0.0", -0.0),
        ("-0", 0.0),
        ("4.9406564584124654e-324", 5e-324),
        ("1e-400", 0.0),
    ] {
        let event = interaction(&server, "", &format!(r#","confidence":{text}"#));
        assert_eq!(fate(&server, &event).await.0, "accepted", "{text}");
        let stored = last(&server)["data"]["confidence"].as_f64().unwrap();
        assert_eq!(stored.to_bits(), f64::to_bits(nearest), "{text} {stored}");
    }
    // An integer has no fraction or exponent, and minus nothing is nothing.
    let event = interaction(
        &server,
        r#","attributes":{"a":-0,"b":-0.0,"c":1e2,"d":18446744073709551616}"#,
        r#","xp":-0,"stars": -0 "#,
    );
    assert_eq!(fate(&server, &event).await.0, "accepted");
    let record = last(&server);
    assert_eq!(
        (&record["data"]["xp"], &record["data"]["stars"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        record["attributes"].to_string(),
        r#"{"a":0,"b":-0.0,"c":100.0,"d":1.8446744073709552e+19}"#
    );
    for wrong in ["-0.0", "0.0", "0e0", "-1", "1e1"] {
        let event = interaction(&server, "", &format!(r#","xp":{wrong}"#));
        let refused = ("invalid_field".to_owned(), "/data/xp".to_owned());
        assert_eq!(fate(&server, &event).await, refused, "{wrong}");
    }
    // Beyond the doubles: a known field is to blame, an unknown one is dropped.
    for huge in [
        "1e309",
        "-1e999",
        &"9".repeat(400),
        "1e99999999999999999999",
    ] {
        for (more, data, pointer) in [
            ("", format!(r#","confidence":{huge}"#), "/data/confidence"),
            ("", format!(r#","xp":{huge}"#), "/data/xp"),
            ("", format!(r#","topic":{huge}"#), "/data/topic"),
            ("", format!(r#","activity_id":{huge}"#), "/data/activity_id"),
            (
                &*format!(r#","attributes":{{"a":{huge}}}"#),
                String::new(),
                "/attributes/a",
            ),
            (
                &*format!(r#","attributes":{huge}"#),
                String::new(),
                "/attributes",
            ),
            (
                &*format!(r#","session_id":{huge}"#),
                String::new(),
                "/session_id",
            ),
            (
                &*format!(r#","device":{{"id":{huge}}}"#),
                String::new(),
                "/device/id",
            ),
        ] {
            let event = interaction(&server, more, &data);
            let refused = ("invalid_field".to_owned(), pointer.to_owned());
            assert_eq!(fate(&server, &event).await, refused, "{pointer} {huge}");
        }
        let deep = format!("{}{huge}{}", "[".repeat(30), "]".repeat(30));
        for unknown in [huge, &format!("[{huge}]"), &deep] {
            let event = interaction(&server, "", &format!(r#","colour":{unknown}"#));
            let body = format!(r#"{{"events":[{event}],"more":{unknown}}}"#);
            let (_, answer) = post(&server, "application/json", body).await;
            assert_eq!(
                answer["results"][0]["warnings"],
                json!(["unknown_field:data.colour"]),
                "{answer}"
            );
            let (_, answer) = post(&server, "application/x-ndjson", event).await;
            assert_eq!(answer["accepted"], 1, "{answer}");
        }
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_emoji_spoils_nothing() {
    let server = Server::start().await;
    let event = interaction(
        &server,
        r#","device":{"id":"\uDC00"},"attributes":{"cut\uD83D":"\uDE00 end","whole":"\uD83D\uDE00"},"colour\ud800":{"\udfff":["\ud83d"]}"#,
        r#","topic":"cats \ud83d","subject":"\ud83d\ud83d\ude00","sh\ud800ape":1"#,
    );
    let body = format!(r#"{{"events":[{event}],"mo\ud800re":"\udc00"}}"#);
    for media in ["application/json", "application/x-ndjson"] {
        let body = if media.ends_with("ndjson") {
            &event
        } else {
            &body
        };
        let (_, answer) = post(&server, media, body.clone()).await;
        let warnings = json!([
            "unknown_field:colour\u{fffd}",
            "unknown_field:data.sh\u{fffd}ape"
        ]);
        assert_eq!(answer["results"][0]["outcome"], "accepted", "{answer}");
        assert_eq!(answer["results"][0]["warnings"], warnings);
        let record = last(&server);
        assert_eq!(record["device"]["id"], "\u{fffd}");
        assert_eq!(
            record["attributes"],
            json!({"cut\u{fffd}": "\u{fffd} end", "whole": "😀"})
        );
        assert_eq!(record["data"]["topic"], "cats \u{fffd}");
        assert_eq!(record["data"]["subject"], "\u{fffd}😀");
    }
    // `content` is measured as it is read.
    let said = json!({
        "id": Uuid::now_v7(), "type": "message", "child_id": server.child, "occurred_at": Utc::now().to_rfc3339(),
        "data": {"conversation_id": Uuid::new_v4(), "sequence": 1, "role": "user", "content": "CUT two"},
    });
    let said = said.to_string().replace("CUT", r"\ud83d");
    assert_eq!(fate(&server, &said).await.0, "accepted");
    let record = last(&server);
    assert_eq!(
        (&record["data"]["chars"], &record["data"]["words"]),
        (&json!(5), &json!(2))
    );
    // Two keys that became the same are the same key.
    let event = interaction(&server, r#","attributes":{"\ud800":1,"\udc00":2}"#, "");
    assert_eq!(fate(&server, &event).await.0, "invalid_json");
    // The id that is told is the one that was read.
    let (_, answer) = post(&server, "application/x-ndjson", br#"{"id":"\ud800"}"#).await;
    assert_eq!(answer["results"][0]["id"], "\u{fffd}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_at_the_start_is_skipped() {
    let server = Server::start().await;
    let event = || interaction(&server, "", "");
    let (_, answer) = post(
        &server,
        "application/json",
        format!("\u{feff} {{\"events\":[{}]}}", event()),
    )
    .await;
    assert_eq!(answer["accepted"], 1, "{answer}");
    let lines = format!("\u{feff}{}\r\n{}", event(), event());
    let (_, answer) = post(&server, "application/x-ndjson", lines).await;
    assert_eq!(answer["accepted"], 2, "{answer}");
    let (_, answer) = post(
        &server,
        "application/x-ndjson",
        format!("\u{feff}\n{}", event()),
    )
    .await;
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(1), &json!(0)),
        "{answer}"
    );
    // Anywhere else it is what it is.
    let (_, answer) = post(
        &server,
        "application/x-ndjson",
        format!("{}\n\u{feff}{}", event(), event()),
    )
    .await;
    assert_eq!(answer["rejected"], 1, "{answer}");
    let (status, answer) = post(
        &server,
        "application/json",
        "\u{feff}\u{feff}{\"events\":[]}",
    )
    .await;
    assert_eq!(
        (status.as_u16(), &answer["code"]),
        (400, &json!("invalid_body"))
    );
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_attributes_are_tidied_before_they_are_judged() {
    let server = Server::start().await;
    let speech = json!({
        "id": Uuid::now_v7(), "type": "speech", "child_id": server.child, "occurred_at": Utc::now().to_rfc3339(),
        "data": {"audio_session_id": Uuid::new_v4(), "window_ms": 1, "language": " zh_Hant_TW "},
    });
    assert_eq!(fate(&server, &speech.to_string()).await.0, "accepted");
    assert_eq!(last(&server)["data"]["language"], "zh-Hant-TW");

    let mut attributes: Vec<_> = (0..16).map(|n| format!(r#"" k{n}\n":{n}"#)).collect();
    attributes.extend(
        [
            r#""blank":"  ""#,
            r#""empty":"""#,
            r#""none":null"#,
            r#"" k1 ":null"#,
        ]
        .map(str::to_owned),
    );
    let event =
        |attributes: &str| interaction(&server, &format!(r#","attributes":{{{attributes}}}"#), "");
    assert_eq!(
        fate(&server, &event(&attributes.join(","))).await.0,
        "accepted"
    );
    let record = last(&server);
    let kept = record["attributes"].as_object().unwrap();
    assert_eq!(
        (kept.len(), &kept["k0"], &kept["k15"]),
        (16, &json!(0), &json!(15))
    );

    attributes.push(r#""one more":false"#.to_owned());
    let refused = ("invalid_field".to_owned(), "/attributes".to_owned());
    assert_eq!(fate(&server, &event(&attributes.join(","))).await, refused);
    let refused = ("invalid_field".to_owned(), "/attributes/k".to_owned());
    assert_eq!(fate(&server, &event(r#""k":1," k":2"#)).await, refused);
    let long = "k".repeat(64);
    assert_eq!(
        fate(&server, &event(&format!(r#""  {long}\t":1"#))).await.0,
        "accepted"
    );
    // Trimmed it would name sound.
    assert_eq!(
        fate(&server, &event(r#"" audio ":1"#)).await.0,
        "raw_audio_forbidden"
    );
    let lines = "aB3+"
        .repeat(130)
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect::<Vec<_>>()
        .join(r"\n");
    for sound in [
        &*lines,
        r"\ufeffdata:audio/wav;base64,AA",
        r" \n\ufeff data:AUDIO/x",
    ] {
        assert_eq!(
            fate(&server, &event(&format!(r#""a":"{sound}""#))).await.0,
            "raw_audio_forbidden",
            "{sound}"
        );
    }
    server.stop().await.unwrap();
}
