//! What must not be stored is nowhere stored, and what must not be logged is in no log, not even at
//! the most talkative level. And one's own first event is soon where the manual says.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use chrono::{SecondsFormat, Utc};
use rivulet_simulator::{ASSISTANT_PHRASES, CHILD_PHRASES, Config, ledger::Line, run};
use rivulet_tests::{Rivulet, Role, raw_records};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// An address of the loopback network that nothing else uses, to look for in logs.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 91, 82, 73));

/// Sent in free text, and stored nowhere.
const ADDRESS: &str = "planted@anna.example.org";
const PHONE: &str = "+39 333 765 4321";

fn contains(bytes: &[u8], secret: &str) -> bool {
    bytes
        .windows(secret.len())
        .any(|window| window == secret.as_bytes())
}

async fn send(ingest: &Role, key: &str, path: &str, body: &Value) -> Value {
    let client = reqwest::Client::builder()
        .no_proxy()
        .local_address(CLIENT)
        .build()
        .unwrap();
    let url = format!("http://{}{path}", ingest.address);
    let request = if path == "/v1/events" {
        client.post(url)
    } else {
        client.put(url)
    };
    let request = request
        .bearer_auth(key)
        .header("Content-Type", "application/json");
    let answer = request.body(body.to_string()).send().await.unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_or_stored_and_an_event_is_soon_there() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [ingest, aggregate, sink]) =
        Rivulet::running(&[("RIVULET_LOG", "trace")], ["ingest", "aggregate", "sink"])
            .await
            .unwrap();

    // One's own first event.
    let (parent, child, id) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let coppa = json!({"granted": true, "version": "2026-01", "method": "form"});
    let consents = json!({"coppa": coppa, "audio": true, "analytics": true});
    let family = json!({"timezone": "Europe/Rome", "consents": consents});
    let of_family = json!({"parent_id": parent, "age_group": "wonder_cubs"});
    let admin = rivulet.admin_key.clone();
    send(
        &ingest,
        &admin,
        &format!("/v1/admin/parents/{parent}"),
        &family,
    )
    .await;
    send(
        &ingest,
        &admin,
        &format!("/v1/admin/children/{child}"),
        &of_family,
    )
    .await;
    let secret = "the secret tree house password is Rumpelstilzchen";
    let event = json!({"events": [{
        "id": id, "type": "message", "child_id": child,
        "occurred_at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        "data": {"conversation_id": Uuid::new_v4(), "sequence": 1, "role": "user", "content": secret},
    }]});
    let key = rivulet.ingest_key.clone();
    let answer = send(&ingest, &key, "/v1/events", &event).await;
    assert_eq!(answer["accepted"], 1, "{answer}");
    let answer = send(&ingest, &key, "/v1/events", &personal(child)).await;
    assert_eq!(answer["accepted"], 4, "{answer}");
    rivulet.settle().await.unwrap();
    let (sent,): (i64,) =
        sqlx::query_as("SELECT messages_sent FROM daily_child_metrics WHERE child_id = $1")
            .bind(child)
            .fetch_one(&rivulet.bed.pool)
            .await
            .unwrap();
    assert_eq!(sent, 1);
    let stored: u64 = rivulet
        .bed
        .clickhouse
        .query("SELECT count() FROM history WHERE event_id = toUUID(?) AND consent_version = '2026-01'")
        .bind(id.to_string())
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(stored, 1);

    // A whole app, and somebody with a key that is none.
    let app = Config {
        children: 40,
        history_days: 3,
        duration: Some(Duration::ZERO),
        ..rivulet.simulator(&ingest, 1)
    };
    run(&app, Utc::now(), |_| {}, &CancellationToken::new())
        .await
        .unwrap();
    let wrong_key = "rvk_ThisKeyWasNeverMade0123456789abcdef";
    send(&ingest, wrong_key, "/v1/events", &event).await;
    send(
        &ingest,
        &key,
        "/v1/events",
        &json!({"events": [{"id": secret}, secret]}),
    )
    .await;
    rivulet.settle().await.unwrap();

    // Every text that a child or the assistant said, every key, child, parent and address.
    let planted = [secret, ADDRESS, PHONE, "planted-anna"];
    let mut texts: BTreeSet<String> = planted.map(str::to_owned).into();
    texts.extend(
        CHILD_PHRASES
            .iter()
            .chain(&ASSISTANT_PHRASES)
            .map(|&text| text.to_owned()),
    );
    let mut unlogged = texts.clone();
    unlogged.insert(CLIENT.to_string());
    unlogged.extend([
        key,
        admin,
        wrong_key.to_owned(),
        child.to_string(),
        parent.to_string(),
    ]);
    for line in rivulet_simulator::ledger::read(app.ledger.as_ref().unwrap()).unwrap() {
        if let Line::Family(family) = line.unwrap() {
            unlogged.insert(family.parent_id.to_string());
            unlogged.extend(family.children.iter().map(|(child, _)| child.to_string()));
        }
    }
    let logs = rivulet.logs().unwrap();
    assert!(
        contains(&logs, "TRACE"),
        "the logs are not talkative enough to prove anything"
    );
    for secret in &unlogged {
        for spelling in [secret.clone(), secret.replace('-', "")] {
            if contains(&logs, &spelling) {
                let at = logs
                    .windows(spelling.len())
                    .position(|w| w == spelling.as_bytes())
                    .unwrap();
                let around = &logs[at.saturating_sub(300)..(at + 100).min(logs.len())];
                panic!(
                    "{spelling:?} is logged: {}",
                    String::from_utf8_lossy(around)
                );
            }
        }
    }

    let records = raw_records(&rivulet.bed.cluster).await.unwrap();
    let kafka: Vec<u8> = records.into_iter().flat_map(|(_, value)| value).collect();
    let postgres = everything_in_postgres(&rivulet).await;
    let clickhouse = rivulet
        .bed
        .clickhouse
        .query("SELECT * FROM events")
        .fetch_bytes("JSONEachRow")
        .unwrap()
        .collect()
        .await
        .unwrap();
    // The search would find what is there.
    for bytes in [&kafka[..], postgres.as_bytes(), &clickhouse[..]] {
        assert!(contains(bytes, &child.to_string()));
        assert!(contains(bytes, "[email]"));
    }
    for text in &texts {
        assert!(!contains(&kafka, text), "Kafka has {text:?}");
        assert!(
            !contains(postgres.as_bytes(), text),
            "PostgreSQL has {text:?}"
        );
        assert!(!contains(&clickhouse, text), "ClickHouse has {text:?}");
    }
    for role in [ingest, aggregate, sink] {
        role.stop().await.unwrap();
    }
}

/// An event of each type, with an address or a telephone number in every place where an app may write what it likes.
fn personal(child: Uuid) -> Value {
    let event = |kind: &str, data: Value| {
        json!({
            "id": Uuid::new_v4(), "type": kind, "child_id": child, "session_id": Uuid::new_v4(),
            "occurred_at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            "device": {"id": ADDRESS, "app_version": ADDRESS},
            "attributes": {"note": ADDRESS, "seen": format!("at {PHONE}"), "first_name": "planted-anna", ADDRESS: PHONE},
            "data": data,
        })
    };
    json!({"events": [
        event("interaction", json!({"action": "view", "subject": ADDRESS, "topic": PHONE, "badge": ADDRESS})),
        event("message", json!({
            "conversation_id": Uuid::new_v4(), "sequence": 2, "role": "assistant", "topic": ADDRESS, "filter_reason": ADDRESS,
            "content": ADDRESS,
        })),
        event("speech", json!({"audio_session_id": Uuid::new_v4(), "window_ms": 1, "model_version": ADDRESS})),
        event("session", json!({"action": "start"})),
    ]})
}

/// Every row of every table, as text.
async fn everything_in_postgres(rivulet: &Rivulet) -> String {
    let tables: Vec<(String,)> = sqlx::query_as(
        "SELECT quote_ident(relname) FROM pg_class
         WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    )
    .fetch_all(&rivulet.bed.pool)
    .await
    .unwrap();
    let mut text = String::new();
    for (table,) in tables {
        let query = sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} AS t"));
        let rows: Vec<(String,)> = sqlx::query_as(query)
            .fetch_all(&rivulet.bed.pool)
            .await
            .unwrap();
        for (row,) in rows {
            text.push_str(&row);
            text.push('\n');
        }
    }
    text
}
