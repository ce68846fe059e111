//! The role on a PostgreSQL of its own, and families in it.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test uses what it needs of it"
)]

pub mod listener;

use std::time::Duration;

use chrono::{NaiveDate, Utc};
use reqwest::{Client, Response, StatusCode};
use rivulet_dashboards::{Config, Error, serve};
use rivulet_events::ParentId;
use rivulet_registry::keys::{self, Scope};
use rivulet_sandbox::TestBed;
use rivulet_telemetry::Metrics;
use rivulet_tokens::{Secret, mint};
use serde_json::Value;
use sqlx::PgPool;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SECRET: &str = "a secret of more than thirty-two bytes";

/// What a daily row has of speech a second time, to take it out again: nobody is shown that.
pub const PARTS_OF_SPEECH: [&str; 4] = [
    "speech_qualifying_events",
    "speech_withheld_events",
    "other_first_event_at",
    "other_last_event_at",
];

pub struct Api {
    pub bed: TestBed,
    /// What the role reads with: every request meets the connection of the one before.
    pub pool: PgPool,
    pub url: String,
    pub client: Client,
    pub key: String,
    pub tokens: rivulet_tokens::Config,
    shutdown: CancellationToken,
    running: tokio::sync::Mutex<Option<JoinHandle<Result<(), Error>>>>,
}

pub struct Family {
    pub parent: Uuid,
    pub child: Uuid,
    pub token: String,
}

impl Api {
    pub async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        Self::on(TestBed::new().await, config).await
    }

    pub async fn on(bed: TestBed, config: Config) -> Self {
        rivulet_migrations::postgres(&bed.pool).await.unwrap();
        let key = keys::create(&bed.pool, "product", Scope::Read)
            .await
            .unwrap();
        // One for requests; the registry listens on another, and reads keys now and then.
        let pool = bed.pool_as("rivulet_api", 3);
        let tokens = rivulet_tokens::Config {
            secrets: Secret::lines(SECRET),
            audience: "parents".to_owned(),
            ..rivulet_tokens::Config::default()
        };
        let config = Config {
            tokens: Some(tokens.clone()),
            shutdown_grace: Duration::ZERO,
            ..config
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
            running: tokio::sync::Mutex::new(Some(tokio::spawn(role))),
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
    pub async fn family(&self, days: &[NaiveDate]) -> Family {
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

    pub async fn get(&self, credential: &str, path: &str) -> Response {
        let request = self.client.get(format!("{}{path}", self.url));
        request.bearer_auth(credential).send().await.unwrap()
    }

    pub async fn json(&self, credential: &str, path: &str) -> Value {
        let answer = self.get(credential, path).await;
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn refusal(&self, credential: &str, path: &str) -> (u16, String) {
        let answer = self.get(credential, path).await;
        let kind = answer.headers()["content-type"].clone();
        assert_eq!(kind, "application/problem+json");
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["status"], status);
        (status, problem["code"].as_str().unwrap().to_owned())
    }

    pub async fn stop(self) {
        self.shutdown_and_wait().await;
    }

    /// Ends the role, and leaves its database to look at.
    pub async fn shutdown_and_wait(&self) {
        self.shutdown.cancel();
        let running = self.running.lock().await.take().unwrap();
        running.await.unwrap().unwrap();
    }
}

/// Makes the month's partitions, as the aggregator does.
pub async fn make_month(pool: &PgPool, day: NaiveDate) {
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
pub async fn insert_day(pool: &PgPool, child: Uuid, day: NaiveDate) {
    // Yesterday may be of another month than today.
    make_month(pool, day).await;
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

pub fn today() -> NaiveDate {
    Utc::now()
        .with_timezone(&rivulet_zones::Zone::named("Pacific/Auckland").unwrap())
        .date_naive()
}
