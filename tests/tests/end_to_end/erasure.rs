//! Who is erased is nowhere any more: not in a table, not in a file, not when everything is sent again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, Utc};
use memchr::memmem;
use reqwest::{Method, StatusCode};
use rivulet_sandbox::TestBed;
use rivulet_simulator::{Config, run};
use rivulet_tests::{OwnServices, Rivulet, Role};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What only the erased children's events have.
const PLANTED: &str = "planted-secret-topic";

struct World {
    rivulet: Rivulet,
    ingest: Role,
    services: OwnServices,
}

impl World {
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let key = match path {
            "/v1/events" => &self.rivulet.ingest_key,
            _ => &self.rivulet.admin_key,
        };
        let mut request = client
            .request(method, format!("http://{}{path}", self.ingest.address))
            .bearer_auth(key);
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let bytes = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn register(&self, parent: Uuid, children: &[Uuid], analytics: bool) {
        let coppa = json!({"granted": true, "version": "2026-01", "method": "form"});
        let consents = json!({"coppa": coppa, "audio": true, "analytics": analytics});
        let family = json!({"timezone": "Europe/Rome", "consents": consents});
        let (status, _) = self
            .ask(
                Method::PUT,
                &format!("/v1/admin/parents/{parent}"),
                Some(&family),
            )
            .await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        for child in children {
            let of = json!({"parent_id": parent, "age_group": "wonder_cubs"});
            let (status, _) = self
                .ask(
                    Method::PUT,
                    &format!("/v1/admin/children/{child}"),
                    Some(&of),
                )
                .await;
            assert_eq!(status, StatusCode::NO_CONTENT);
        }
    }

    async fn post(&self, events: &Value) -> Value {
        let (status, answer) = self.ask(Method::POST, "/v1/events", Some(events)).await;
        assert!(status.is_success(), "{answer}");
        answer
    }

    async fn done(&self, erasure: &str) -> Value {
        let path = format!("/v1/admin/erasures/{erasure}");
        for _ in 0..600 {
            let (status, answer) = self.ask(Method::GET, &path, None).await;
            assert_eq!(status, StatusCode::OK);
            if answer["state"] == "done" {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let logs = String::from_utf8_lossy(&self.rivulet.logs().unwrap()).into_owned();
        let warnings: Vec<_> = logs.lines().filter(|line| line.contains("WARN")).collect();
        panic!(
            "not done: {:?}\n{warnings:#?}",
            self.ask(Method::GET, &path, None).await
        );
    }

    /// What each table of PostgreSQL and ClickHouse has, but of these children: a hash of the rows.
    async fn others(&self, but: &[Uuid]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for (table, of) in [
            ("daily_child_metrics", "child_id"),
            ("learning_analytics", "child_id"),
            ("topic_progress", "child_id"),
            ("streaks", "child_id"),
            ("children", "id"),
        ] {
            let query = format!(
                "SELECT md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) FROM {table} AS t
                 WHERE {of} <> ALL($1)"
            );
            let hash = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .bind(but)
                .fetch_one(&self.rivulet.bed.pool)
                .await
                .unwrap();
            found.insert(table.to_owned(), hash);
        }
        let but: Vec<_> = but.iter().map(|id| format!("'{id}'")).collect();
        let query = format!(
            "SELECT toString(assumeNotNull(sum(cityHash64(*)))) FROM history WHERE toString(child_id) NOT IN ({})",
            but.join(",")
        );
        let hash: String = self
            .rivulet
            .bed
            .clickhouse
            .query(&query)
            .fetch_one()
            .await
            .unwrap();
        found.insert("history".to_owned(), hash);
        found
    }
}

fn events(child: Uuid, count: usize, at: DateTime<Utc>) -> Value {
    let event = |number: usize| {
        json!({
            "id": Uuid::new_v4(), "type": "interaction", "child_id": child,
            "occurred_at": at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "attributes": {"note": PLANTED},
            "data": {"action": "complete", "activity_id": Uuid::new_v4(), "topic": PLANTED,
                     "subject": PLANTED, "badge": format!("{PLANTED}-{number}")},
        })
    };
    json!({"events": (0..count).map(event).collect::<Vec<_>>()})
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

/// Every spelling in which an id may be in a file.
fn spellings(id: Uuid) -> Vec<Vec<u8>> {
    let text = id.to_string();
    let (high, low) = id.as_u64_pair();
    vec![
        text.replace('-', "").into_bytes(),
        text.to_uppercase().into_bytes(),
        text.into_bytes(),
        id.as_bytes().to_vec(),
        // ClickHouse
        [high.to_le_bytes(), low.to_le_bytes()].concat(),
    ]
}

/// The files below that have one of these, but Kafka's log, which keeps it until its retention ends.
fn having(dir: &Path, needles: &[Vec<u8>]) -> Vec<String> {
    let mut all = Vec::new();
    files(dir, &mut all);
    let mut found = Vec::new();
    for path in all {
        let name = path.display().to_string();
        if name.contains("/kafka/") {
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        for needle in needles {
            if memmem::find(&bytes, needle).is_some() {
                found.push(format!("{name} has {}", needle.escape_ascii()));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_is_nowhere_and_does_not_come_back() {
    let _turn = crate::turn::of(module_path!());
    let services = OwnServices::new("erasure").unwrap();
    let stack = services
        .sandbox()
        .unwrap()
        .up(&BTreeMap::new())
        .await
        .unwrap();
    let bed = TestBed::on(stack).await.unwrap();
    let rivulet = Rivulet::new(bed, &[]).await.unwrap();
    let spill = services.path("spill").display().to_string();
    let ingest = rivulet
        .start_with("ingest", &[("RIVULET_SPILL_DIR", spill)])
        .await
        .unwrap();
    let [mut aggregate, sink, api] = rivulet.start(["aggregate", "sink", "api"]).await.unwrap();
    let world = World {
        rivulet,
        ingest,
        services,
    };
    let app = Config {
        children: 30,
        history_days: 2,
        duration: Some(Duration::ZERO),
        ..world.rivulet.simulator(&world.ingest, 1)
    };
    run(&app, Utc::now(), |_| {}, &CancellationToken::new())
        .await
        .unwrap();
    let (parent, other_parent) = (Uuid::new_v4(), Uuid::new_v4());
    let [child, sister, withheld] = [0; 3].map(|_| Uuid::new_v4());
    world.register(parent, &[child, sister], true).await;
    world.register(other_parent, &[withheld], false).await;
    let first = events(child, 40, Utc::now());
    for sent in [
        &first,
        &events(sister, 5, Utc::now()),
        &events(withheld, 3, Utc::now()),
    ] {
        assert_eq!(world.post(sent).await["rejected"], 0);
    }
    world.rivulet.settle().await.unwrap();
    let gone = [child, sister, withheld];
    let before = world.others(&gone).await;
    let dir = world.services.path("");
    let mut needles: Vec<_> = gone.iter().flat_map(|id| spellings(*id)).collect();
    needles.extend(spellings(parent));
    needles.push(PLANTED.as_bytes().to_vec());
    assert!(
        having(&dir, &needles).len() > 5,
        "the search finds what is there"
    );

    // What is on its way when the child is erased: in Kafka, with nobody to read it yet.
    aggregate.kill().await.unwrap();
    let late = events(child, 7, Utc::now());
    assert_eq!(world.post(&late).await["accepted"], 7);
    let path = format!("/v1/admin/parents/{parent}?erase=true");
    let (status, answer) = world.ask(Method::DELETE, &path, None).await;
    assert_eq!(
        (status, &answer["state"]),
        (StatusCode::ACCEPTED, &json!("pending")),
        "{answer}"
    );
    let erasure = answer["erasure_id"].as_str().unwrap().to_owned();
    let aggregate = world.rivulet.start(["aggregate"]).await.unwrap();
    let (_, again) = world.ask(Method::DELETE, &path, None).await;
    assert_eq!(again["erasure_id"], *erasure);

    let done = world.done(&erasure).await;
    assert_eq!(done["subjects"], 3);
    for store in done["stores"].as_array().unwrap() {
        let (name, removed) = (
            store["store"].as_str().unwrap(),
            store["removed"].as_u64().unwrap(),
        );
        assert_eq!(store["clean_at"].is_null(), name == "kafka", "{store}");
        assert_eq!(store["gone_by"].is_null(), name != "kafka", "{store}");
        assert_eq!(
            removed > 0,
            ["postgres", "clickhouse"].contains(&name),
            "{store}"
        );
    }

    // What the data was kept on is still told.
    let certificate = done["certificate"].to_string();
    for evidence in [r#""version":"2026-01""#, r#""method":"form""#] {
        assert!(certificate.contains(evidence), "{certificate}");
    }

    // The command erases who is registered nowhere else, too, and prints the certificate.
    let printed = world
        .rivulet
        .command(&["erase", "--child", &withheld.to_string(), "--json"])
        .await
        .unwrap();
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["state"], "done");
    assert_eq!(
        printed["certificate"]["subjects"].as_array().unwrap().len(),
        1
    );

    // It does not come back, whatever is sent.
    for sent in [&first, &late] {
        let answer = world.post(sent).await;
        assert_eq!(answer["accepted"], 0);
        assert_eq!(answer["results"][0]["code"], "child_deleted", "{answer}");
    }
    let of = json!({"parent_id": other_parent, "age_group": "wonder_cubs"});
    for (path, body) in [
        (format!("/v1/admin/children/{child}"), of),
        (
            format!("/v1/admin/parents/{parent}"),
            json!({"timezone": "Europe/Rome"}),
        ),
    ] {
        let (status, answer) = world.ask(Method::PUT, &path, Some(&body)).await;
        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    }
    world.rivulet.settle().await.unwrap();
    assert_eq!(world.others(&gone).await, before);
    let (erased,): (i64,) = sqlx::query_as(
        "SELECT sum(erased)::bigint FROM consumer_ledger WHERE consumer = 'aggregator'",
    )
    .fetch_one(&world.rivulet.bed.pool)
    .await
    .unwrap();
    assert_eq!(erased, 7);
    world.rivulet.command(&["verify"]).await.unwrap();
    world.rivulet.command(&["rebuild", "--all"]).await.unwrap();

    // No file has it. What PostgreSQL logs ahead is written over in turn.
    drop(aggregate);
    for role in [sink, api] {
        role.stop().await.unwrap();
    }
    for _ in 0..3 {
        sqlx::raw_sql("SELECT pg_switch_wal(); CHECKPOINT")
            .execute(&world.rivulet.bed.pool)
            .await
            .unwrap();
    }
    let found: Vec<_> = having(&dir, &needles)
        .into_iter()
        .filter(|file| !file.contains("/pg_wal/"))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}
