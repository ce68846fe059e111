//! An operator's night: records that both consumers refuse, looked at, replayed and dropped with the
//! command, while roles come and go.

use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};
use rivulet_sandbox::TestBed;
use rivulet_tests::{Rivulet, Role, raw_records};
use serde_json::{Value, json};
use uuid::Uuid;

/// In the payload of the record that is refused; must not turn up in a log.
const REFUSED: &str = "planted-badge";

struct App {
    client: reqwest::Client,
    url: String,
    child: Uuid,
}

impl App {
    async fn register(rivulet: &Rivulet, ingest: &Role) -> Self {
        let this = Self {
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            url: format!("http://{}/v1", ingest.address),
            child: Uuid::new_v4(),
        };
        let parent = Uuid::new_v4();
        let consents = json!({"coppa": true, "audio": true, "analytics": true});
        for (path, body) in [
            (
                format!("parents/{parent}"),
                json!({"timezone": "UTC", "consents": consents}),
            ),
            (
                format!("children/{}", this.child),
                json!({"parent_id": parent, "age_group": "wonder_cubs"}),
            ),
        ] {
            let request = this.client.put(format!("{}/admin/{path}", this.url));
            let answer = request
                .bearer_auth(&rivulet.admin_key)
                .json(&body)
                .send()
                .await;
            assert_eq!(answer.unwrap().status(), 204);
        }
        this
    }

    async fn send(&self, rivulet: &Rivulet, events: &[Value]) {
        let request = self.client.post(format!("{}/events", self.url));
        let answer = request
            .bearer_auth(&rivulet.ingest_key)
            .json(&json!({"events": events}))
            .send()
            .await;
        let answer: Value = answer.unwrap().json().await.unwrap();
        assert_eq!(answer["accepted"], events.len(), "{answer}");
    }

    fn reward(&self, badge: &str) -> Value {
        json!({"id": Uuid::now_v7(), "type": "interaction", "child_id": self.child,
            "occurred_at": chrono::Utc::now().to_rfc3339(),
            "data": {"action": "reward", "badge": badge, "stars": 3}})
    }
}

async fn garbage(rivulet: &Rivulet) {
    produce(
        rivulet,
        "interaction",
        &["not\u{1b}[2J a record".to_owned()],
    )
    .await;
}

/// Past ingest.
async fn produce(rivulet: &Rivulet, kind: &str, payloads: &[String]) {
    let producer: FutureProducer = rivulet.bed.cluster.client_config().create().unwrap();
    let topic = format!("{}.{kind}", rivulet.bed.cluster.topic_prefix);
    let sent: Vec<_> = payloads
        .iter()
        .map(|payload| {
            let record = FutureRecord::<str, _>::to(&topic).payload(payload);
            producer
                .send_result(record)
                .map_err(|(error, _)| error)
                .unwrap()
        })
        .collect();
    for delivery in sent {
        delivery.await.unwrap().unwrap();
    }
}

async fn quarantine(rivulet: &Rivulet, args: &[&str]) -> String {
    let args: Vec<_> = [&["quarantine"], args].concat();
    rivulet.command(&args).await.unwrap()
}

/// (code, consumer) of what `list --json` prints with these arguments.
async fn listed(rivulet: &Rivulet, args: &[&str]) -> Vec<(String, String)> {
    let text = quarantine(rivulet, &[&["list", "--json"], args].concat()).await;
    let mut found: Vec<_> = text
        .lines()
        .map(|line| {
            let entry: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            assert!(entry["kafka_offset"].is_i64() && entry["record_bytes"].is_i64());
            (text("code"), text("consumer"))
        })
        .collect();
    found.sort();
    found
}

/// Events and stars of the child's day; rows of the history, copies included.
async fn counted(rivulet: &Rivulet) -> ((i64, i64), u64) {
    let bed = &rivulet.bed;
    let day = sqlx::query_as(
        "SELECT coalesce(sum(events), 0)::bigint, coalesce(sum(stars), 0)::bigint FROM daily_child_metrics",
    );
    let history = bed.clickhouse.query("SELECT count() FROM history");
    (
        day.fetch_one(&bed.pool).await.unwrap(),
        history.fetch_one().await.unwrap(),
    )
}

fn both(code: &str) -> Vec<(String, String)> {
    ["aggregator", "history"]
        .map(|consumer| (code.to_owned(), consumer.to_owned()))
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_records_are_replayed_once_for_both_consumers_and_counted_once() {
    let _turn = crate::turn::of(module_path!());
    let rivulet = Rivulet::new(TestBed::new().await, &[("USER", "night-shift")])
        .await
        .unwrap();
    let bed = &rivulet.bed;
    let postgres = async |sql: &'static str| sqlx::query(sql).execute(&bed.pool).await.unwrap();
    let clickhouse = async |sql: &str| bed.clickhouse.query(sql).execute().await.unwrap();
    postgres("ALTER TABLE daily_child_metrics ADD CONSTRAINT sane CHECK (NOT 'planted-badge' = ANY (badges))")
        .await;
    clickhouse("ALTER TABLE events ADD CONSTRAINT sane CHECK ifNull(badge, '') != 'planted-badge'")
        .await;
    let [ingest, mut aggregate, mut sink] = rivulet
        .start(["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let app = App::register(&rivulet, &ingest).await;
    let refused = app.reward(REFUSED);
    app.send(
        &rivulet,
        &[app.reward("a"), refused.clone(), app.reward("b")],
    )
    .await;
    garbage(&rivulet).await;
    rivulet.settle().await.unwrap();
    assert_eq!(counted(&rivulet).await, ((2, 6), 2));

    // What is there.
    let mut expected = both("malformed_record");
    expected.push(("refused_by_database".to_owned(), "aggregator".to_owned()));
    expected.push(("clickhouse_469".to_owned(), "history".to_owned()));
    expected.sort();
    assert_eq!(listed(&rivulet, &[]).await, expected);
    assert_eq!(listed(&rivulet, &["--consumer", "history"]).await.len(), 2);
    assert_eq!(listed(&rivulet, &["--limit", "3"]).await.len(), 3);
    assert!(
        listed(&rivulet, &["--until", "2026-01-01T00:00:00Z"])
            .await
            .is_empty()
    );
    let table = quarantine(&rivulet, &["list", "--code", "malformed_record"]).await;
    assert!(
        table.contains("1  malformed_record") && !table.contains("clickhouse"),
        "{table}"
    );
    let shown = quarantine(&rivulet, &["show", "--code", "refused_by_database"]).await;
    assert!(
        shown.contains("SQLSTATE 23514") && shown.contains(REFUSED),
        "{shown}"
    );
    let shown = quarantine(&rivulet, &["show", "--code", "malformed_record"]).await;
    assert!(shown.contains("not\\u{1b}[2J a record"), "{shown}");

    // What is not done.
    for action in ["replay", "drop"] {
        let refused = rivulet.command(&["quarantine", action]).await.unwrap_err();
        assert!(refused.to_string().contains("--all"), "{refused}");
        let told = quarantine(&rivulet, &[action, "--all", "--dry-run"]).await;
        assert!(told.starts_with("2 records would be"), "{told}");
    }
    rivulet.settle().await.unwrap();
    assert_eq!(listed(&rivulet, &[]).await, expected);

    // The cause is mended, and both roles crash while the record is on its way again.
    postgres("ALTER TABLE daily_child_metrics DROP CONSTRAINT sane").await;
    clickhouse("ALTER TABLE events DROP CONSTRAINT sane").await;
    let told = quarantine(&rivulet, &["replay", "--code", "refused_by_database"]).await;
    assert!(told.starts_with("1 records replayed (2 rows"), "{told}");
    for role in [&mut aggregate, &mut sink] {
        role.crash().await.unwrap();
        role.ready().await.unwrap();
    }
    rivulet.settle().await.unwrap();
    assert_eq!(counted(&rivulet).await, ((3, 9), 3));
    assert_eq!(listed(&rivulet, &[]).await, both("malformed_record"));
    let told = quarantine(&rivulet, &["replay", "--code", "refused_by_database"]).await;
    assert!(told.starts_with("0 records"), "{told}");
    // The device sends it once more.
    app.send(&rivulet, &[refused]).await;

    // Garbage stays garbage, and is dropped.
    let told = quarantine(&rivulet, &["replay", "--all", "--rate", "5"]).await;
    assert!(told.starts_with("1 records replayed (2 rows"), "{told}");
    rivulet.settle().await.unwrap();
    assert_eq!(listed(&rivulet, &[]).await, both("malformed_record"));
    let told = quarantine(
        &rivulet,
        &["drop", "--consumer", "history", "--by", "somebody"],
    )
    .await;
    assert!(told.starts_with("1 records dropped"), "{told}");
    quarantine(&rivulet, &["drop", "--all"]).await;
    assert!(quarantine(&rivulet, &["list"]).await.contains("nothing"));
    assert_eq!(counted(&rivulet).await, ((3, 9), 3));

    let actions: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', consumer, code, action, acted_by) FROM quarantine_actions ORDER BY 1",
    )
    .fetch_all(&bed.pool)
    .await
    .unwrap();
    assert_eq!(
        actions,
        [
            "aggregator malformed_record dropped night-shift",
            "aggregator malformed_record replayed night-shift",
            "aggregator refused_by_database replayed night-shift",
            "history clickhouse_469 replayed night-shift",
            "history malformed_record dropped somebody",
            "history malformed_record replayed night-shift",
        ]
    );
    for role in [ingest, aggregate, sink] {
        role.stop().await.unwrap();
    }
    let logs = String::from_utf8(rivulet.logs().unwrap()).unwrap();
    assert!(logs.contains("a record went into quarantine"));
    assert!(!logs.contains(REFUSED) && !logs.contains(&app.child.to_string()));
}

/// A producer gone wrong: both consumers stop, say so, and go on when told.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_stops_both_consumers_until_they_are_resumed() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, [ingest, mut aggregate, mut sink]) =
        Rivulet::running(&[], ["ingest", "aggregate", "sink"])
            .await
            .unwrap();
    produce(&rivulet, "speech", &vec!["{\"v\":99}".to_owned(); 6_000]).await;
    let app = App::register(&rivulet, &ingest).await;
    for role in [&aggregate, &sink] {
        while role.counter("rivulet_quarantine_paused").await.unwrap() < 1.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    app.send(&rivulet, &[app.reward("a")]).await;
    let told = quarantine(&rivulet, &["resume", "--consumer", "nobody"]).await;
    assert!(told.contains("no such consumer"), "{told}");
    let told = quarantine(&rivulet, &["resume"]).await;
    assert!(
        told.contains("aggregator goes on") && told.contains("history goes on"),
        "{told}"
    );
    rivulet.settle().await.unwrap();
    for role in [&mut aggregate, &mut sink] {
        role.ready().await.unwrap();
        assert!(role.counter("rivulet_quarantine_paused").await.unwrap() < 1.0);
    }
    assert_eq!(
        listed(&rivulet, &["--code", "unknown_version"]).await.len(),
        12_000
    );
    assert_eq!(counted(&rivulet).await, ((1, 3), 1));
    for role in [ingest, aggregate, sink] {
        role.stop().await.unwrap();
    }
    let logs = String::from_utf8(rivulet.logs().unwrap()).unwrap();
    let alarms = logs.matches("too many records are unfit").count();
    assert_eq!(alarms, 2, "once each");
    // Of the aggregator's 6 000 lines some were written, and how many others there are.
    let told = logs
        .lines()
        .filter(|line| line.contains("went into quarantine"));
    let told: Vec<usize> = told
        .map(|line| {
            line.split_once("suppressed=")
                .map_or(1, |(_, count)| count.trim().parse().unwrap())
        })
        .collect();
    assert_eq!(told.iter().sum::<usize>(), 6_000);
    assert!(logs.len() < 64 << 10, "{} bytes of log", logs.len());
}

/// What no ingest lets through is set aside by both consumers, wherever it comes from, and counted by none.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_ingest_lets_through_is_in_neither_store() {
    let _turn = crate::turn::of(module_path!());
    let (rivulet, roles) = Rivulet::running(&[], ["ingest", "aggregate", "sink"])
        .await
        .unwrap();
    let app = App::register(&rivulet, &roles[0]).await;
    let event = |kind: &str, data: Value| {
        json!({"id": Uuid::now_v7(), "type": kind, "child_id": app.child, "session_id": app.child,
            "occurred_at": chrono::Utc::now().to_rfc3339(), "data": data})
    };
    let good = [
        app.reward("a"),
        event(
            "message",
            json!({"conversation_id": app.child, "sequence": 1, "role": "user", "content": "why?"}),
        ),
        event(
            "speech",
            json!({"audio_session_id": app.child, "window_ms": 1_000}),
        ),
        event("session", json!({"action": "start"})),
    ];
    // While its rows are locked a statement is slow, which is told in figures and not with its text.
    let mut held = rivulet.bed.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE daily_child_metrics IN SHARE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    app.send(&rivulet, &good).await;
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database =
                 (SELECT oid FROM pg_database WHERE datname = current_database()))";
    while !sqlx::query_scalar::<_, bool>(waits)
        .fetch_one(&mut *held)
        .await
        .unwrap()
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    held.commit().await.unwrap();
    rivulet.settle().await.unwrap();
    let stored = counted(&rivulet).await;
    assert_eq!(stored, ((4, 3), 4));

    let records = raw_records(&rivulet.bed.cluster).await.unwrap();
    let records: Vec<Value> = records
        .iter()
        .map(|(_, payload)| serde_json::from_slice(payload).unwrap())
        .collect();
    let wrong = |kind: &str, pointer: &str, value: Value| {
        let mut record = records
            .iter()
            .find(|record| record["type"] == kind)
            .unwrap()
            .clone();
        record["id"] = json!(Uuid::now_v7());
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        record.pointer_mut(parent).unwrap()[key] = value;
        record.to_string()
    };
    let long = |length: usize| json!("x".repeat(length));
    let mut unfit = 0;
    for (kind, changes) in [
        (
            "interaction",
            vec![
                ("/data/topic", json!("a\0b")),
                ("/data/topic", long(101)),
                ("/data/subject", json!("")),
                ("/data/badge", long(1_001)),
                ("/data/xp", json!(65_535)),
                ("/data/stars", json!(10_001)),
                ("/data/rating", json!(0)),
                ("/data/confidence", json!(1.01)),
                ("/data/action", json!("answer")),
                ("/data/action", json!("rate")),
                ("/data/duration_ms", json!(14_400_001)),
                ("/device", json!({"id": "a\0b"})),
                ("/attributes", json!({"k": long(257)})),
                ("/local_date", json!("2200-01-01")),
            ],
        ),
        (
            "message",
            vec![
                ("/data/depth_level", json!(255)),
                ("/data/sequence", json!(0)),
                ("/data/tokens_used", json!(u32::MAX)),
                ("/data/chars", json!(8_193)),
                ("/data/filter_reason", json!("\0")),
            ],
        ),
        (
            "speech",
            vec![
                ("/data/child_words", json!(100_001)),
                ("/data/window_ms", json!(0)),
                ("/data/snr_db", json!(200.5)),
                ("/data/language", json!("no language")),
            ],
        ),
        (
            "session",
            vec![
                ("/data/active_ms", json!(600_001)),
                ("/session_id", Value::Null),
            ],
        ),
    ] {
        let changes = changes.into_iter();
        let payloads: Vec<_> = changes.map(|(at, value)| wrong(kind, at, value)).collect();
        unfit += payloads.len();
        produce(&rivulet, kind, &payloads).await;
    }
    rivulet.settle().await.unwrap();
    assert_eq!(counted(&rivulet).await, stored);
    let mut expected: Vec<_> = both("implausible_record")
        .into_iter()
        .flat_map(|entry| vec![entry; unfit])
        .collect();
    expected.sort();
    assert_eq!(listed(&rivulet, &[]).await, expected);
    let (said, code) = verify(&rivulet).await;
    assert_eq!(code, Some(0), "{said}");

    // The child is left alone for as long as its records are there, though nobody counts them.
    let rebuild = async || rivulet.command(&["rebuild", "--all"]).await.unwrap();
    assert!(rebuild().await.contains("1 children left alone"));
    // They come back for what they are.
    let told = quarantine(&rivulet, &["replay", "--all"]).await;
    assert!(
        told.starts_with(&format!("{unfit} records replayed")),
        "{told}"
    );
    rivulet.settle().await.unwrap();
    assert_eq!(listed(&rivulet, &[]).await, expected);
    assert_eq!(counted(&rivulet).await, stored);
    quarantine(&rivulet, &["drop", "--code", "implausible_record"]).await;
    let said = rebuild().await;
    assert!(
        said.contains(" 0 differ") && !said.contains("left alone"),
        "{said}"
    );
    for role in roles {
        role.stop().await.unwrap();
    }
    let logs = String::from_utf8(rivulet.logs().unwrap()).unwrap();
    assert!(!logs.contains("INSERT INTO"), "{logs}");
}

async fn verify(rivulet: &Rivulet) -> (String, Option<i32>) {
    let output = rivulet.output(&["verify"]).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (said, output.status.code())
}
