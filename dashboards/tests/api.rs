//! The read API on a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::time::Duration;

use chrono::{Datelike as _, Days, NaiveDate, Utc};
use reqwest::{Client, Response, StatusCode};
use rivulet_dashboards::{Config, Error, serve};
use rivulet_events::ParentId;
use rivulet_registry::keys::{self, Scope};
use rivulet_sandbox::TestBed;
use rivulet_telemetry::Metrics;
use rivulet_tokens::{Secret, mint};
use serde_json::{Value, json};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SECRET: &str = "a secret of more than thirty-two bytes";

struct Api {
    bed: TestBed,
    /// What the role reads with: every request meets the connection of the one before.
    pool: PgPool,
    url: String,
    client: Client,
    key: String,
    tokens: rivulet_tokens::Config,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

struct Family {
    parent: Uuid,
    child: Uuid,
    token: String,
}

impl Api {
    async fn start() -> Self {
        let bed = TestBed::new().await;
        rivulet_migrations::postgres(&bed.pool).await.unwrap();
        let key = keys::create(&bed.pool, "product", Scope::Read)
            .await
            .unwrap();
        // One for requests; the registry listens on another, and reads keys now and then.
        let pool = PgPoolOptions::new()
            .max_connections(3)
            .connect(&bed.database_url)
            .await
            .unwrap();
        let tokens = rivulet_tokens::Config {
            secrets: Secret::lines(SECRET),
            audience: "parents".to_owned(),
            ..rivulet_tokens::Config::default()
        };
        let config = Config {
            tokens: Some(tokens.clone()),
            shutdown_grace: Duration::ZERO,
            ..Config::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let role = serve(
            config,
            pool.clone(),
            listener,
            Metrics::detached(),
            shutdown.clone(),
        );
        let api = Self {
            running: tokio::spawn(role),
            client: Client::builder().no_proxy().build().unwrap(),
            bed,
            pool,
            url,
            key,
            tokens,
            shutdown,
        };
        for _ in 0..600 {
            let ready = api.client.get(format!("{}/readyz", api.url)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return api;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never ready");
    }

    /// A family of one, in Auckland, who was active on these days.
    async fn family(&self, days: &[NaiveDate]) -> Family {
        let (parent, child) = (Uuid::new_v4(), Uuid::new_v4());
        let pool = &self.bed.pool;
        for day in days {
            make_month(pool, *day).await;
        }
        sqlx::query("INSERT INTO parents (id, timezone) VALUES ($1, 'Pacific/Auckland')")
            .bind(parent)
            .execute(pool)
            .await
            .unwrap();
        sqlx::query(
            "INSERT INTO children (id, parent_id, age_group) VALUES ($1, $2, 'wonder_cubs')",
        )
        .bind(child)
        .bind(parent)
        .execute(pool)
        .await
        .unwrap();
        for day in days {
            insert_day(pool, child, *day).await;
        }
        let ttl = Duration::from_secs(600);
        let token = mint(&self.tokens, ParentId::new(parent), ttl).unwrap();
        Family {
            parent,
            child,
            token,
        }
    }

    async fn get(&self, credential: &str, path: &str) -> Response {
        let request = self.client.get(format!("{}{path}", self.url));
        request.bearer_auth(credential).send().await.unwrap()
    }

    async fn json(&self, credential: &str, path: &str) -> Value {
        let answer = self.get(credential, path).await;
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn refusal(&self, credential: &str, path: &str) -> (u16, String) {
        let answer = self.get(credential, path).await;
        let kind = answer.headers()["content-type"].clone();
        assert_eq!(kind, "application/problem+json");
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["status"], status);
        (status, problem["code"].as_str().unwrap().to_owned())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// Makes the month's partitions, as the aggregator does.
async fn make_month(pool: &PgPool, day: NaiveDate) {
    let month = day.format("%Y-%m-01");
    for table in ["daily_child_metrics", "learning_analytics"] {
        let partition = format!("{table}_{}", day.format("%Y%m"));
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {partition} PARTITION OF {table}
             FOR VALUES FROM ('{month}') TO ((date '{month}' + interval '1 month')::date)"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(pool)
            .await
            .unwrap();
    }
}

/// A day with three answers of which two were right, and what follows from that.
async fn insert_day(pool: &PgPool, child: Uuid, day: NaiveDate) {
    for sql in [
        "INSERT INTO daily_child_metrics
         SELECT $1, $2, 4, 1, 60000, 3, 0, 3, 2, 0, 0, 0, 3000, 3, 5, 1, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0,
                0, 0, 0, 0, 0, 0, NULL, '{fractions}', '{}', 3, now(), now(), 0",
        "INSERT INTO learning_analytics
         SELECT $1, $2, 'math', 3, 0, 0, 3, 2, 0, 0, 3000, 3, 120000, 0, 0, 0, 0, 0, 0, 0",
        "INSERT INTO topic_progress (child_id, topic, interactions, answers, correct_answers, duration_ms,
             messages, questions_asked, conversations, first_seen_at, last_seen_at, withheld_events)
         VALUES ($1, 'topic of ' || $2::date, 3, 3, 2, 120000, 0, 0, 0, now(), now(), 0)",
        "INSERT INTO streaks SELECT $1, s.*, datemultirange(daterange($2, $2, '[]')), 1
         FROM streak_of(datemultirange(daterange($2, $2, '[]'))) s
         ON CONFLICT (child_id) DO UPDATE SET (current_streak, longest_streak, streak_started_on,
             last_active_date, freezes_available, active_days) =
             (SELECT (streak_of(d)).*, d FROM (SELECT streaks.active_days + excluded.active_days AS d) x)",
    ] {
        sqlx::query(sql)
            .bind(child)
            .bind(day)
            .execute(pool)
            .await
            .unwrap();
    }
}

fn monday(day: NaiveDate) -> NaiveDate {
    day - Days::new(day.weekday().num_days_from_monday().into())
}

fn today() -> NaiveDate {
    Utc::now()
        .with_timezone(&chrono_tz::Pacific::Auckland)
        .date_naive()
}

fn paths(family: &Family) -> [String; 5] {
    let child = format!("/v1/children/{}", family.child);
    [
        format!("{child}/daily"),
        format!("{child}/learning"),
        format!("{child}/streak"),
        format!("{child}/topics"),
        format!("/v1/families/{}", family.parent),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_rows_of_the_days_asked_for() {
    let api = Api::start().await;
    let today = today();
    let yesterday = today - Days::new(1);
    let long_ago = today - Days::new(200);
    let family = api.family(&[long_ago, yesterday, today]).await;
    let child = format!("/v1/children/{}", family.child);

    let daily = api.json(&api.key, &format!("{child}/daily")).await;
    assert_eq!(daily["timezone"], "Pacific/Auckland");
    assert_eq!(daily["to"], json!(today));
    let days = daily["days"].as_array().unwrap();
    assert_eq!(days.len(), 2, "the last thirty days");
    assert_eq!(days[0]["local_date"], json!(yesterday));
    let expected = [
        ("events", json!(4)),
        ("correct_answers", json!(2)),
        ("max_depth", Value::Null),
        ("topics", json!(["fractions"])),
        ("withheld_events", json!(0)),
    ];
    for (column, value) in expected {
        assert_eq!(days[1][column], value, "{column}");
    }
    let columns: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM information_schema.columns WHERE table_name = 'daily_child_metrics'",
    )
    .fetch_one(&api.bed.pool)
    .await
    .unwrap();
    // All but the child's id.
    let given = days[0].as_object().unwrap().len();
    assert_eq!(i64::try_from(given).unwrap(), columns - 1);
    let path = format!("{child}/daily?from={long_ago}&to={long_ago}");
    let then = api.json(&api.key, &path).await;
    assert_eq!(then["days"].as_array().unwrap().len(), 1);

    let path = format!("{child}/learning?period=weekly&from={today}");
    let weekly = api.json(&api.key, &path).await;
    let accuracy: Vec<_> = weekly["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|metric| metric["metric_type"] == "accuracy")
        .collect();
    assert_eq!(accuracy.len(), 1, "{weekly}");
    assert_eq!(accuracy[0]["metric_value"], json!(2.0 / 3.0));
    assert_eq!(accuracy[0]["subject"], "math");

    let streak = api.json(&api.key, &format!("{child}/streak")).await;
    assert_eq!(streak["streak_today"], 2);
    assert_eq!(
        streak["active_days"],
        json!([{"from": long_ago, "to": long_ago}, {"from": yesterday, "to": today}])
    );

    let topics = api.json(&api.key, &format!("{child}/topics")).await;
    assert_eq!(topics["topics"].as_array().unwrap().len(), 3);
    assert_eq!(topics["topics"][0]["mastery_score"], json!(60.0));
    assert_eq!(topics["more"], false);

    let path = format!("/v1/families/{}", family.parent);
    let seen = api.json(&api.key, &path).await;
    assert_eq!(seen["children"][0]["child_id"], json!(family.child));
    assert_eq!(seen["children"][0]["streak_today"], 2);
    let this_week = if monday(today) == today { 1 } else { 2 };
    assert_eq!(seen["children"][0]["this_week"]["active_days"], this_week);

    // A child of whom nothing is known yet.
    let new = api.family(&[]).await;
    let child = format!("/v1/children/{}", new.child);
    assert_eq!(
        api.json(&api.key, &format!("{child}/daily")).await["days"],
        json!([])
    );
    let streak = api.json(&api.key, &format!("{child}/streak")).await;
    assert_eq!(
        (&streak["streak_today"], &streak["active_days"]),
        (&json!(0), &json!([]))
    );
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_sees_their_own_children_and_nothing_else() {
    let api = Api::start().await;
    let [ours, theirs] = [api.family(&[today()]).await, api.family(&[today()]).await];
    // In turn, on the same connections.
    for _ in 0..3 {
        for (seer, other) in [(&ours, &theirs), (&theirs, &ours)] {
            for path in paths(seer) {
                let seen = api.json(&seer.token, &path).await.to_string();
                assert!(seen.contains(&seer.child.to_string()), "{seen}");
                assert!(!seen.contains(&other.child.to_string()), "{seen}");
            }
            for path in paths(other) {
                let refused = api.refusal(&seer.token, &path).await;
                assert_eq!(refused, (404, "not_found".to_owned()), "{path}");
            }
        }
    }
    // What a connection is left with: what one has that no parent ever used.
    let login: String = sqlx::query_scalar("SELECT current_user::text")
        .fetch_one(&api.bed.pool)
        .await
        .unwrap();
    assert_ne!(login, "rivulet_parent");
    for _ in 0..4 {
        let left: (String, Option<String>) = sqlx::query_as(
            "SELECT current_user::text, nullif(current_setting('rivulet.parent_id', true), '')",
        )
        .fetch_one(&api.pool)
        .await
        .unwrap();
        assert_eq!(left, (login.clone(), None));
    }
    // PostgreSQL's own word, whatever the handlers ask.
    for table in [
        "daily_child_metrics",
        "learning_analytics",
        "learning_metrics",
        "topic_progress",
        "streaks",
        "weekly_summaries",
    ] {
        let mut tx = api.pool.begin().await.unwrap();
        sqlx::query("SELECT set_config('rivulet.parent_id', $1, true), set_config('role', 'rivulet_parent', true)")
            .bind(ours.parent.to_string())
            .execute(&mut *tx)
            .await
            .unwrap();
        let sql = format!("SELECT DISTINCT child_id FROM {table}");
        let seen: Vec<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_all(&mut *tx)
            .await
            .unwrap();
        assert_eq!(seen, [ours.child], "{table}");
    }
    // Whoever left is gone for everybody.
    sqlx::query("UPDATE children SET deleted_at = now() WHERE id = $1")
        .bind(ours.child)
        .execute(&api.bed.pool)
        .await
        .unwrap();
    for credential in [&api.key, &ours.token] {
        assert_eq!(api.refusal(credential, &paths(&ours)[0]).await.0, 404);
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_or_asks_for_nonsense_is_told() {
    let api = Api::start().await;
    let family = api.family(&[]).await;
    let [daily, ..] = paths(&family);
    let ingest = keys::create(&api.bed.pool, "sdk", Scope::Ingest)
        .await
        .unwrap();
    let code = |code: &str| code.to_owned();
    assert_eq!(
        api.refusal("rvk_none", &daily).await,
        (401, code("unauthorized"))
    );
    assert_eq!(
        api.refusal("a.b.c", &daily).await,
        (401, code("unauthorized"))
    );
    assert_eq!(api.refusal(&ingest, &daily).await, (403, code("forbidden")));
    let unsigned = api.client.get(format!("{}{daily}", api.url)).send().await;
    let unsigned = unsigned.unwrap();
    assert_eq!(unsigned.status(), StatusCode::UNAUTHORIZED);
    assert!(unsigned.headers().contains_key("www-authenticate"));
    for query in [
        "from=2026-02-30",
        "from=2026-03-01&to=2026-02-01",
        "from=2024-01-01&to=2025-06-01",
        "since=2026-01-01",
    ] {
        let refused = api.refusal(&api.key, &format!("{daily}?{query}")).await;
        assert_eq!(refused, (400, code("invalid_parameter")), "{query}");
    }
    let learning = &paths(&family)[1];
    let refused = api
        .refusal(&api.key, &format!("{learning}?period=yearly"))
        .await;
    assert_eq!(refused.0, 400);
    for path in [
        "/v1/children/7/daily",
        "/v1/families/x",
        "/v1/children",
        "/",
    ] {
        assert_eq!(
            api.refusal(&api.key, path).await,
            (404, code("not_found")),
            "{path}"
        );
    }
    let posted = api.client.post(format!("{}{daily}", api.url)).send().await;
    assert_eq!(posted.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);

    // The same again costs nothing; a change shows.
    let answer = api.get(&api.key, &daily).await;
    let tag = answer.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(answer.headers()["cache-control"], "private, no-cache");
    let again = async || {
        let request = api.client.get(format!("{}{daily}", api.url));
        let request = request.bearer_auth(&api.key).header("if-none-match", &tag);
        request.send().await.unwrap()
    };
    let same = again().await;
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(same.bytes().await.unwrap().len(), 0);
    make_month(&api.bed.pool, today()).await;
    insert_day(&api.bed.pool, family.child, today()).await;
    assert_eq!(again().await.status(), StatusCode::OK);
    api.stop().await;
}
