//! Exports against the stores that they are made of, recounted independently, and what becomes of one that cannot be
//! whole.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read as _},
    process::Command,
    time::Duration,
};

use chrono::Days;
use reqwest::{Response, StatusCode};
use rivulet_dashboards::Config;
use rivulet_erasure::Subject;
use rivulet_sandbox::{Link, Mode, TestBed, tools};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use zip::ZipArchive;

use crate::common::{Api, Family, PARTS_OF_SPEECH, today};

/// Reads a zip with Python's own modules, and takes the guard of CSV away as schema.json says.
const READER: &str = r#"
import csv, io, json, sys, zipfile
zip = zipfile.ZipFile(sys.argv[1])
assert zip.testzip() is None
schema = json.loads(zip.read("schema.json"))
starts = tuple("=+-@\t\r\n'") + ("\uff1d", "\uff0b", "\uff0d", "\uff20")
read = {}
for name in zip.namelist():
    text = zip.read(name).decode("utf-8")
    if name.endswith(".csv"):
        fields = schema["files"][name]["fields"]
        rows = []
        for row in csv.DictReader(io.StringIO(text, newline="")):
            assert list(row) == [field["name"] for field in fields], name
            for field in fields:
                value = row[field["name"]]
                if field.get("guarded") and value[:1] in starts:
                    assert value[0] == "'", value
                    row[field["name"]] = value[1:]
            rows.append(row)
        read[name] = rows
    elif name.endswith(".ndjson"):
        read[name] = [json.loads(line) for line in text.split("\n")[:-1]]
    elif name.endswith(".json"):
        read[name] = json.loads(text)
    else:
        read[name] = text
json.dump(read, sys.stdout)
"#;

const FILES: [&str; 9] = [
    "index.html",
    "schema.json",
    "streak.json",
    "consents.json",
    "daily.csv",
    "learning.csv",
    "topics.csv",
    "events.ndjson",
    "events.csv",
];

async fn with_history() -> Api {
    let bed = TestBed::new().await;
    let history = bed.clickhouse.clone();
    rivulet_migrations::clickhouse(&history, &bed.clickhouse_database)
        .await
        .unwrap();
    let config = Config {
        history: Some(history),
        ..Config::default()
    };
    Api::on(bed, config).await
}

fn path(child: Uuid) -> String {
    format!("/v1/children/{child}/export")
}

async fn whole(api: &Api, credential: &str, child: Uuid) -> Vec<u8> {
    let answer = api.get(credential, &path(child)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/zip");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    answer.bytes().await.unwrap().into()
}

/// What a tool that knows nothing of this project reads in it.
fn read(zip: &[u8]) -> Option<Map<String, Value>> {
    let Some(python) = tools::program(&["python3", "python"]) else {
        tools::missing("exports", "there is no Python");
        return None;
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, zip).unwrap();
    let read = Command::new(python)
        .args(["-c", READER])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
    Some(serde_json::from_slice(&read.stdout).unwrap())
}

/// So many events of a child, each with what a random byte string of `noise` bytes looks like in hex.
async fn insert_events(api: &Api, family: &Family, events: u64, noise: u64) {
    let sql = format!(
        "INSERT INTO events (event_id, event_type, id_day, child_id, parent_id, age_group, occurred_at, event_time,
             received_at, local_date, interaction_action, attributes, kafka_topic, kafka_partition, kafka_offset,
             topic_incarnation)
         SELECT generateUUIDv4(), 'interaction', today(), '{}', '{}', 'wonder_cubs', now64(3), now64(3) - number,
             now64(3), today(), 'view', map('noise', hex(randomString({noise}))), 'rivulet.interaction', 3, number, 'one/1'
         FROM numbers({events})",
        family.child, family.parent
    );
    api.bed.clickhouse.query_raw(&sql).execute().await.unwrap();
}

/// Texts that break a writer that is not careful.
const TEXTS: [&str; 9] = [
    "plain",
    "=HYPERLINK(\"http://example.org\")",
    "'already quoted",
    "comma, \"quote\"",
    "two\r\nlines\nand three",
    "-1+1",
    "@cmd|' /C calc'!A0",
    "żółw 🐢 \u{202e}back",
    "<b>&amp;</b>\\",
];

async fn insert_unusual(api: &Api, family: &Family) {
    let sql = "INSERT INTO events (event_id, event_type, id_day, child_id, parent_id, age_group, session_id, occurred_at,
             event_time, received_at, local_date, device_id, interaction_action, subject, topic, is_correct,
             response_time_ms, confidence, difficulty, snr_db, sequence, attributes, kafka_topic, kafka_partition,
             kafka_offset, topic_incarnation)
         SELECT ?, ?, ?, ?, ?, 'wonder_cubs', ?, '1999-12-31 23:59:59.999', ?, now64(3), today(), ?, 'answer', 'math', ?,
             true, 4000000000, 0.1, 5, -12.5, 18446744073709551615, map('key', ?, 'other', ''), 'rivulet.interaction', 3,
             ?, 'one/1'";
    let mut offset = 0_u64;
    for (index, text) in TEXTS.into_iter().enumerate() {
        // The same event twice, the second with other words: the first is the event.
        let id = Uuid::from_u128(index as u128 + 1);
        let time = format!("2026-03-0{} 10:00:00.001", index / 2 + 1);
        let kind = if index == 3 { "message" } else { "interaction" };
        // A child that has moved had another parent.
        let parent = if index == 4 {
            Uuid::from_u128(77)
        } else {
            family.parent
        };
        for topic in [text, "a copy"] {
            let row = api
                .bed
                .clickhouse
                .query(sql)
                .bind(id)
                .bind(kind)
                .bind("2026-03-01");
            let row = row.bind(family.child).bind(parent).bind(id).bind(&time);
            let row = row.bind(text).bind(topic).bind(text).bind(offset);
            row.execute().await.unwrap();
            offset += 1;
        }
    }
}

/// The history by ClickHouse's own JSON, in the order that is documented.
async fn recounted(api: &Api, family: &Family) -> Vec<Value> {
    let sql = format!(
        "SELECT * FROM events FINAL WHERE child_id = '{}'",
        family.child
    );
    let rows = api.bed.clickhouse.query_raw(&sql);
    let rows = rows
        .with_setting("date_time_output_format", "iso")
        .with_setting("output_format_json_quote_64bit_integers", "0");
    let text = rows
        .fetch_bytes("JSONEachRow")
        .unwrap()
        .collect()
        .await
        .unwrap();
    let mut rows: Vec<Value> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        if row["parent_id"] != json!(family.parent) {
            row["parent_id"] = Value::Null;
        }
        row.retain(|_, value| !value.is_null());
    }
    rows.sort_by_key(|row| {
        ["event_time", "event_id", "event_type", "id_day"]
            .map(|key| row[key].as_str().unwrap().to_owned())
    });
    rows
}

/// A cell as what JSON has of the same value.
fn is_same(cell: &str, value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => cell.is_empty(),
        Some(Value::String(text)) => cell == text,
        Some(Value::Number(number)) => {
            cell == number.to_string() || cell.parse::<f64>().ok() == number.as_f64()
        }
        Some(other) => serde_json::from_str::<Value>(cell).is_ok_and(|cell| cell == *other),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_every_row_of_every_table() {
    let api = with_history().await;
    let family = api.family(&[today() - Days::new(40), today()]).await;
    let sibling = api.family(&[today()]).await;
    insert_unusual(&api, &family).await;
    insert_events(&api, &sibling, 3, 4).await;
    let pool = &api.bed.pool;
    for sql in [
        "UPDATE daily_child_metrics SET topics = ARRAY['=1+1', 'a,\"b\"', 'ż'], withheld_events = 1 WHERE child_id = $1",
        "UPDATE topic_progress SET topic = '=2*2' WHERE child_id = $1 AND topic = (SELECT max(topic) FROM topic_progress WHERE child_id = $1)",
        "UPDATE parents SET coppa = true, analytics = true WHERE id = (SELECT parent_id FROM children WHERE id = $1)",
        "UPDATE parents SET analytics = false WHERE id = (SELECT parent_id FROM children WHERE id = $1)",
    ] {
        sqlx::query(sql)
            .bind(family.child)
            .execute(pool)
            .await
            .unwrap();
    }

    let zip = whole(&api, &family.token, family.child).await;
    assert_eq!(
        zip,
        whole(&api, &api.key, family.child).await,
        "the same data, the same bytes"
    );
    let mut archive = ZipArchive::new(Cursor::new(&zip)).unwrap();
    let names: Vec<_> = archive
        .file_names()
        .map(|name| name.unwrap().into_owned())
        .collect();
    assert_eq!(names, FILES);
    let mut raw = String::new();
    archive
        .by_name("events.csv")
        .unwrap()
        .read_to_string(&mut raw)
        .unwrap();
    assert!(raw.contains("\"'=HYPERLINK(\"\"http"), "{raw}");
    assert_eq!(raw.matches(",''already quoted,").count(), 2, "{raw}");

    let Some(read) = read(&zip) else {
        return;
    };
    let expected = recounted(&api, &family).await;
    assert_eq!(expected.len(), TEXTS.len());
    let events = read["events.ndjson"].as_array().unwrap();
    assert_eq!(events, &expected);
    assert_eq!(events[0]["sequence"], json!(u64::MAX));
    assert_eq!(events[0]["occurred_at"], "1999-12-31T23:59:59.999Z");
    assert!(
        !events[4].as_object().unwrap().contains_key("parent_id"),
        "nobody's business"
    );
    let lines = read["events.csv"].as_array().unwrap();
    assert_eq!(lines.len(), events.len());
    for (line, event) in lines.iter().zip(events) {
        for (name, cell) in line.as_object().unwrap() {
            assert!(
                is_same(cell.as_str().unwrap(), event.get(name)),
                "{name}: {cell} {event}"
            );
        }
    }

    for (file, table, order) in [
        ("daily.csv", "daily_child_metrics", "local_date"),
        ("learning.csv", "learning_analytics", "local_date, subject"),
        ("topics.csv", "topic_progress", "topic"),
    ] {
        let sql = format!(
            "SELECT row_to_json(t) FROM (SELECT * FROM {table} WHERE child_id = $1 ORDER BY {order}) t"
        );
        let rows: Vec<Value> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(family.child)
            .fetch_all(pool)
            .await
            .unwrap();
        let lines = read[file].as_array().unwrap();
        assert_eq!((lines.len(), rows.len()), (2, 2), "{file}");
        for (line, row) in lines.iter().zip(&rows) {
            let (line, row) = (line.as_object().unwrap(), row.as_object().unwrap());
            let names: BTreeMap<_, _> = row
                .iter()
                .filter(|(name, _)| !PARTS_OF_SPEECH.contains(&name.as_str()))
                .collect();
            assert_eq!(
                line.keys().collect::<Vec<_>>(),
                names.keys().copied().collect::<Vec<_>>(),
                "{file}"
            );
            for (name, cell) in line {
                let cell = cell.as_str().unwrap();
                if name.ends_with("_at") && !cell.is_empty() {
                    let time = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
                    assert_eq!(
                        time(cell),
                        time(row[name].as_str().unwrap()),
                        "{file} {name}"
                    );
                } else {
                    assert!(
                        is_same(cell, Some(&row[name])),
                        "{file} {name}: {cell} {}",
                        row[name]
                    );
                }
            }
        }
    }
    let streak = &read["streak.json"];
    assert_eq!(streak["longest_streak"], 1);
    assert_eq!(streak["active_days"].as_array().unwrap().len(), 2);
    assert!(streak.get("today").is_none() && streak.get("streak_today").is_none());
    let consents = &read["consents.json"];
    assert_eq!(
        consents["now"],
        json!({"coppa": true, "audio": false, "analytics": false})
    );
    let history = consents["history"].as_array().unwrap();
    let said: Vec<_> = history
        .iter()
        .map(|change| (&change["consent"], &change["granted"]))
        .collect();
    assert_eq!(
        said,
        [
            (&json!("coppa"), &json!(true)),
            (&json!("analytics"), &json!(true)),
            (&json!("analytics"), &json!(false)),
        ]
    );
    for file in FILES {
        assert!(
            file == "index.html"
                || file == "schema.json"
                || !read["schema.json"]["files"][file].is_null(),
            "{file}"
        );
    }
    let all = read["schema.json"]["files"].as_object().unwrap();
    for (file, about) in all {
        for field in about["fields"].as_array().into_iter().flatten() {
            assert!(
                !field["description"].as_str().unwrap().is_empty(),
                "{file}: {field}"
            );
        }
    }
    let page = read["index.html"].as_str().unwrap();
    assert!(
        page.contains(&family.child.to_string())
            && page.contains("2 reports are in the numbers above")
    );
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_a_child_gets_no_export_of_it() {
    let api = with_history().await;
    let (family, other) = (api.family(&[today()]).await, api.family(&[]).await);
    let missing = (404, "not_found".to_owned());
    assert_eq!(
        api.refusal(&other.token, &path(family.child)).await,
        missing
    );
    assert_eq!(api.refusal(&api.key, &path(Uuid::new_v4())).await, missing);
    assert_eq!(api.refusal("", &path(family.child)).await.0, 401);
    // Of whom nothing is known yet there is an export, too.
    whole(&api, &other.token, other.child).await;
    rivulet_erasure::request(&api.bed.pool, Subject::Child(family.child), "a test")
        .await
        .unwrap();
    assert_eq!(
        api.refusal(&family.token, &path(family.child)).await,
        missing
    );
    assert_eq!(api.refusal(&api.key, &path(family.child)).await, missing);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_clickhouse_nothing_is_begun() {
    let unavailable = (503, "unavailable".to_owned());
    for history in [
        None,
        Some(clickhouse::Client::default().with_url("http://127.0.0.1:1")),
    ] {
        let config = Config {
            history,
            ..Config::default()
        };
        let api = Api::with(config).await;
        let family = api.family(&[today()]).await;
        assert_eq!(
            api.refusal(&family.token, &path(family.child)).await,
            unavailable
        );
        api.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_exports_six_times_at_once_and_one_at_a_time() {
    let api = with_history().await;
    let (family, other) = (api.family(&[today()]).await, api.family(&[today()]).await);
    // More than the connection holds.
    insert_events(&api, &family, 40_000, 500).await;
    let limited = (429, "rate_limited".to_owned());

    let slow = api.get(&family.token, &path(family.child)).await;
    assert_eq!(slow.status(), StatusCode::OK);
    let refused = api.get(&family.token, &path(family.child)).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "10");
    // Others do not wait for a reader who takes nothing, and no connection to PostgreSQL does.
    whole(&api, &other.token, other.child).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    for attempt in 0.. {
        let held: i64 = sqlx::query_scalar(waiting)
            .fetch_one(&api.bed.pool)
            .await
            .unwrap();
        if held == 0 {
            break;
        }
        assert!(attempt < 600, "a reader who takes nothing holds PostgreSQL");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(slow);
    for exports in 2..=6 {
        let answer = loop {
            let answer = api.get(&family.token, &path(family.child)).await;
            // The place of the one before is free when it was noticed that its reader has gone.
            if answer
                .headers()
                .get("retry-after")
                .is_none_or(|wait| wait != "10")
            {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(answer.status(), StatusCode::OK, "{exports}");
    }
    let refused = loop {
        let answer = api.get(&family.token, &path(family.child)).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        if answer.headers()["retry-after"] != "10" {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(refused.headers()["ratelimit-limit"], "6");
    assert_eq!(
        api.refusal(&family.token, &path(family.child)).await,
        limited
    );
    // Their other requests go on.
    api.json(
        &family.token,
        &format!("/v1/children/{}/streak", family.child),
    )
    .await;
    api.stop().await;
}

/// What came, and whether it was all.
async fn take_all(mut answer: Response) -> (Vec<u8>, bool) {
    let mut came = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => came.extend_from_slice(&chunk),
            Ok(None) => return (came, true),
            Err(_) => return (came, false),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_cannot_be_whole_is_broken_off() {
    let bed = TestBed::new().await;
    rivulet_migrations::clickhouse(&bed.clickhouse, &bed.clickhouse_database)
        .await
        .unwrap();
    let address = bed.clickhouse_url.strip_prefix("http://").unwrap();
    let address = address.rsplit('@').next().unwrap().trim_end_matches('/');
    let link = Link::to(address).await.unwrap();
    let history = bed
        .clickhouse
        .clone()
        .with_url(format!("http://{}", link.address));
    let config = Config {
        history: Some(history),
        ..Config::default()
    };
    let api = Api::on(bed, config).await;
    let family = api.family(&[today()]).await;
    insert_events(&api, &family, 40_000, 500).await;

    // ClickHouse goes away.
    let answer = api.get(&api.key, &path(family.child)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    link.set(Mode::Cut);
    let (came, is_whole) = take_all(answer).await;
    assert!(!is_whole);
    assert!(ZipArchive::new(Cursor::new(&came)).is_err());
    link.set(Mode::Open);

    // The events are taken away after the first file of them was asked for.
    let answer = api.get(&api.key, &path(family.child)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let delete = format!(
        "ALTER TABLE events DELETE WHERE child_id = '{}'",
        family.child
    );
    let delete = api.bed.clickhouse.query_raw(&delete);
    delete
        .with_setting("mutations_sync", "1")
        .execute()
        .await
        .unwrap();
    let (came, is_whole) = take_all(answer).await;
    assert!(!is_whole);
    assert!(ZipArchive::new(Cursor::new(&came)).is_err());
    // What is left is whole again.
    let zip = whole(&api, &api.key, family.child).await;
    assert!(ZipArchive::new(Cursor::new(&zip)).is_ok());
    api.stop().await;
}
