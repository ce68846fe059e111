//! Every number reaches both stores as the double nearest to its decimal text, to the bit.

use std::collections::BTreeMap;

use chrono::Utc;
use clickhouse::Row;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rivulet_tests::Rivulet;
use serde_json::{Value, json};
use uuid::Uuid;

/// A finite double of any size.
fn any(rng: &mut ChaCha8Rng) -> f64 {
    loop {
        let double = f64::from_bits(rng.random());
        if double.is_finite() {
            return double;
        }
    }
}

/// A text of about this double: as short as can be, with digits to spare (which may be nearer to its neighbour),
/// with an exponent, or with all of its digits.
fn text(rng: &mut ChaCha8Rng, double: f64) -> String {
    match rng.random_range(0..5) {
        0 => format!("{double:?}"),
        1 => format!("{double:e}"),
        2 => format!("{double:.17e}"),
        3 if (1e-5..1e15).contains(&double.abs()) => {
            format!("{double:.30}")
        }
        _ => format!("{double:.15e}"),
    }
}

#[derive(Row, serde::Deserialize)]
struct Stored {
    #[serde(with = "clickhouse::serde::uuid")]
    event_id: Uuid,
    confidence: Option<u64>,
    snr_db: Option<u64>,
    attribute: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn doubles_reach_both_stores_to_the_bit() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, roles) = Rivulet::running(&[], ["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let (parent, child) = (Uuid::new_v4(), Uuid::new_v4());
    let client = reqwest::Client::new();
    let url = format!("http://{}", roles[0].address);
    for (path, body) in [
        (
            format!("parents/{parent}"),
            json!({"timezone": "UTC", "consents": {"coppa": true, "audio": true, "analytics": true}}),
        ),
        (
            format!("children/{child}"),
            json!({"parent_id": parent, "age_group": "wonder_cubs"}),
        ),
    ] {
        let put = client
            .put(format!("{url}/v1/admin/{path}"))
            .bearer_auth(&rivulet.admin_key);
        assert_eq!(put.json(&body).send().await.unwrap().status(), 204);
    }

    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut sent = BTreeMap::new();
    let mut thousandths = 0;
    for _ in 0..8 {
        let mut events = Vec::new();
        for _ in 0..500 {
            let id = Uuid::now_v7();
            let (kind, field, number) = if rng.random() {
                let number = rng.random_range(0.0..1.0);
                ("interaction", "confidence", number)
            } else {
                ("speech", "snr_db", rng.random_range(-100.0..200.0))
            };
            let number = text(&mut rng, number);
            let of_any = any(&mut rng);
            let attribute = text(&mut rng, of_any);
            let data = match kind {
                "interaction" => r#""action":"view""#.to_owned(),
                _ => format!(r#""audio_session_id":"{id}","window_ms":1"#),
            };
            events.push(format!(
                r#"{{"id":"{id}","type":"{kind}","child_id":"{child}","occurred_at":"{}",
                    "attributes":{{"n":{attribute}}},"data":{{{data},"{field}":{number}}}}}"#,
                Utc::now().to_rfc3339()
            ));
            let nearest: f64 = number.parse().unwrap();
            if field == "confidence" {
                thousandths += (nearest * 1_000.0).round() as i64;
            }
            sent.insert(id, (field, nearest, attribute.parse::<f64>().unwrap()));
        }
        let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
        let post = client
            .post(format!("{url}/v1/events"))
            .bearer_auth(&rivulet.ingest_key);
        let answer = post
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await;
        let answer: Value = answer.unwrap().json().await.unwrap();
        assert_eq!(answer["accepted"], 500, "{answer}");
    }
    rivulet.settle().await.unwrap();

    let rows: Vec<Stored> = rivulet
        .bed
        .clickhouse
        .query(
            "SELECT event_id, reinterpretAsUInt64(confidence) AS confidence, reinterpretAsUInt64(snr_db) AS snr_db,
                    attributes['n'] AS attribute
             FROM history",
        )
        .fetch_all()
        .await
        .unwrap();
    assert_eq!(rows.len(), sent.len());
    for row in rows {
        let (field, number, attribute) = sent[&row.event_id];
        let stored = if field == "confidence" {
            row.confidence
        } else {
            row.snr_db
        };
        assert_eq!(stored, Some(number.to_bits()), "{field} {number:?}");
        let read: f64 = row.attribute.parse().unwrap();
        assert_eq!(
            read.to_bits(),
            attribute.to_bits(),
            "{attribute:?} {}",
            row.attribute
        );
    }
    let summed: i64 =
        sqlx::query_scalar("SELECT sum(confidence_milli_sum)::bigint FROM learning_analytics")
            .fetch_one(&rivulet.bed.pool)
            .await
            .unwrap();
    assert_eq!(summed, thousandths);
    let output = rivulet.output(&["rebuild", "--all"]).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains(" 0 differ"),
        "{said}"
    );
    for role in roles {
        role.stop().await.unwrap();
    }
}
