//! What one sender or reader can do with no more than it is given.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
use chrono::{SecondsFormat, Utc};
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use uuid::Uuid;

use crate::load::{self, Client};

/// Between two requests of a connection: an attacker is elsewhere, and does not burn this machine's CPU with its
/// own work.
const PAUSE: Duration = Duration::from_millis(50);
const CONNECTIONS: usize = 64;

/// Who is attacked, and what the attacker has been given.
pub(crate) struct Target {
    pub(crate) ingest: String,
    pub(crate) api: String,
    /// Of scope `ingest`.
    pub(crate) key: String,
    /// Of the parent of `child`.
    pub(crate) token: String,
    pub(crate) child: Uuid,
}

#[derive(Clone, Copy)]
enum Kind {
    HalfBodies,
    Brotli,
    Zstd,
    Gzip,
    HalfOpen,
    ForgedKeys,
    Topics,
    Reads,
    Live,
    Files,
}

#[derive(Clone, Copy)]
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    kind: Kind,
}

pub(crate) const ALL: &[Attack] = &[
    Attack {
        name: "one key, 200 bodies that stall half-way",
        kind: Kind::HalfBodies,
    },
    Attack {
        name: "one key, bombs in brotli",
        kind: Kind::Brotli,
    },
    Attack {
        name: "one key, 8 MB of blanks in zstd",
        kind: Kind::Zstd,
    },
    Attack {
        name: "one key, 1 MB of empty members of gzip",
        kind: Kind::Gzip,
    },
    Attack {
        name: "no key, 2 048 half-open requests",
        kind: Kind::HalfOpen,
    },
    Attack {
        name: "forged keys and tokens",
        kind: Kind::ForgedKeys,
    },
    Attack {
        name: "one child, a new topic and badge each event",
        kind: Kind::Topics,
    },
    Attack {
        name: "one parent, the largest answers",
        kind: Kind::Reads,
    },
    Attack {
        name: "one parent, 64 live streams of that child",
        kind: Kind::Live,
    },
    Attack {
        name: "no key, the largest file",
        kind: Kind::Files,
    },
];

/// An attack that goes on until it is stopped.
pub(crate) struct Running {
    connections: JoinSet<()>,
    answers: Arc<Mutex<BTreeMap<u16, u64>>>,
}

impl Running {
    /// Ends it, and says how often it was answered with which status; 0 for not at all.
    pub(crate) async fn stop(mut self) -> String {
        self.connections.shutdown().await;
        let answers = self.answers.lock().map(|answers| answers.clone());
        let counts = answers.unwrap_or_default().into_iter();
        let counts: Vec<_> = counts
            .map(|(status, times)| format!("{status}: {times}"))
            .collect();
        counts.join(", ")
    }
}

pub(crate) async fn start(attack: &Attack, target: &Arc<Target>) -> Result<Running> {
    let mut running = Running {
        connections: JoinSet::new(),
        answers: Arc::default(),
    };
    let body = |encoding: &str, body: &[u8]| {
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nContent-Encoding: {encoding}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            target.key,
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let get = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n",
            target.token
        )
        .into_bytes()
    };
    match attack.kind {
        Kind::HalfBodies => {
            for _ in 0..200 {
                let target = Arc::clone(target);
                running
                    .connections
                    .spawn(async move { half_bodies(&target).await });
            }
        }
        Kind::Brotli => {
            let mut bomb = Vec::new();
            brotli::CompressorWriter::new(&mut bomb, 1 << 16, 5, 22)
                .write_all(&vec![b' '; 64 << 20])?;
            running.repeat(&target.ingest, vec![body("br", &bomb)], CONNECTIONS, PAUSE);
        }
        Kind::Zstd => {
            let blanks = zstd::encode_all(&vec![b' '; (8 << 20) - 100][..], 19)?;
            running.repeat(
                &target.ingest,
                vec![body("zstd", &blanks)],
                CONNECTIONS,
                PAUSE,
            );
        }
        Kind::Gzip => {
            let empty =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish()?;
            let members = empty.repeat((1 << 20) / empty.len());
            running.repeat(
                &target.ingest,
                vec![body("gzip", &members)],
                CONNECTIONS,
                PAUSE,
            );
        }
        Kind::HalfOpen => {
            for address in [&target.ingest, &target.api] {
                let address: SocketAddr = address.parse()?;
                for n in 0..2_048 {
                    let from = if n % 2 == 0 {
                        "127.0.0.2:0"
                    } else {
                        "127.0.0.3:0"
                    };
                    running
                        .connections
                        .spawn(async move { half_open(from, address).await });
                }
            }
        }
        Kind::ForgedKeys => {
            let forged = target
                .token
                .rsplit_once('.')
                .map_or("", |(claims, _)| claims);
            let requests: Vec<_> = (0..200)
                .map(|n| {
                    let key = if n % 2 == 0 {
                        format!("{forged}.{n:043}")
                    } else {
                        format!("rvk_{}", Uuid::new_v4().simple())
                    };
                    load::post("/v1/events", &key, r#"{"events":[]}"#)
                })
                .collect();
            running.repeat(&target.ingest, requests.clone(), CONNECTIONS, PAUSE);
            running.repeat(&target.api, requests, CONNECTIONS, PAUSE);
        }
        Kind::Topics => {
            for connection in 0..10 {
                let target = Arc::clone(target);
                let answers = Arc::clone(&running.answers);
                running
                    .connections
                    .spawn(async move { topics(connection, &target, &answers).await });
            }
        }
        Kind::Reads => {
            let child = target.child;
            let (from, to) = (
                Utc::now().date_naive() - chrono::Days::new(365),
                Utc::now().date_naive(),
            );
            let requests = [
                format!("/v1/children/{child}/learning?from={from}&to={to}"),
                format!("/v1/children/{child}/learning?period=monthly&from={from}&to={to}"),
                format!("/v1/children/{child}/daily?from={from}&to={to}"),
                format!("/v1/children/{child}/topics"),
            ];
            let requests = requests.iter().map(|path| get(path)).collect();
            running.repeat(&target.api, requests, 16, PAUSE);
        }
        Kind::Live => {
            let request = get(&format!("/v1/children/{child}/live", child = target.child));
            for _ in 0..64 {
                let (address, request) = (target.api.clone(), request.clone());
                running
                    .connections
                    .spawn(async move { listen(&address, &request).await });
            }
            let target = Arc::clone(target);
            let answers = Arc::clone(&running.answers);
            running
                .connections
                .spawn(async move { play(&target, &answers).await });
        }
        Kind::Files => {
            let request = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n";
            let often = Duration::from_millis(200);
            running.repeat(&target.api, vec![request.to_vec()], CONNECTIONS, often);
        }
    }
    Ok(running)
}

impl Running {
    /// Sends these requests in turn on so many connections.
    fn repeat(
        &mut self,
        address: &str,
        requests: Vec<Vec<u8>>,
        connections: usize,
        pause: Duration,
    ) {
        let requests = Arc::new(requests);
        for first in 0..connections {
            let (address, requests) = (address.to_owned(), Arc::clone(&requests));
            let answers = Arc::clone(&self.answers);
            self.connections.spawn(async move {
                loop {
                    let Ok(mut client) = Client::connect(&address).await else {
                        continue;
                    };
                    for n in first.. {
                        let status = client.send(&requests[n % requests.len()]).await;
                        count(&answers, *status.as_ref().unwrap_or(&0));
                        tokio::time::sleep(pause).await;
                        if status.is_err() {
                            break;
                        }
                    }
                }
            });
        }
    }
}

fn count(answers: &Mutex<BTreeMap<u16, u64>>, status: u16) {
    if let Ok(mut answers) = answers.lock() {
        *answers.entry(status).or_default() += 1;
    }
}

async fn half_bodies(target: &Target) {
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 1048576\r\n\r\n",
        target.key
    );
    let half = vec![b' '; 512 << 10];
    loop {
        if let Ok(mut stream) = TcpStream::connect(&target.ingest).await {
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&half).await;
            let _ = stream.read(&mut [0; 1_024]).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn half_open(from: &str, address: SocketAddr) {
    loop {
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(from.parse().map_err(std::io::Error::other)?)?;
            let mut stream = socket.connect(address).await?;
            stream.write_all(b"GET /v1/").await?;
            stream.read(&mut [0; 64]).await
        };
        let _ = connect.await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Batches of a hundred events, each with a topic, a badge and a subject of its own, as many as the rate limit
/// lets through.
async fn topics(connection: usize, target: &Target, answers: &Mutex<BTreeMap<u16, u64>>) {
    let mut number = 0_u64;
    while let Ok(mut client) = Client::connect(&target.ingest).await {
        loop {
            let events: Vec<_> = (0..100)
                .map(|n| {
                    event(
                        target.child,
                        &format!("{connection:02}-{:08}-{}", number + n, "x".repeat(80)),
                    )
                })
                .collect();
            number += 100;
            let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
            let status = client
                .send(&load::post("/v1/events", &target.key, &body))
                .await;
            count(answers, *status.as_ref().unwrap_or(&0));
            match status {
                Ok(200) => {}
                Ok(_) => tokio::time::sleep(PAUSE).await,
                Err(_) => break,
            }
        }
    }
}

/// A few events a second, each with a topic that goes before all others.
async fn play(target: &Target, answers: &Mutex<BTreeMap<u16, u64>>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let mut before = 99_999_999;
    while let Ok(mut client) = Client::connect(&target.ingest).await {
        loop {
            ticks.tick().await;
            before -= 1;
            let event = event(target.child, &format!("!{before:08}{}", "x".repeat(90)));
            let body = format!(r#"{{"events":[{event}]}}"#);
            let status = client
                .send(&load::post("/v1/events", &target.key, &body))
                .await;
            count(answers, *status.as_ref().unwrap_or(&0));
            if status.is_err() {
                break;
            }
        }
    }
}

fn event(child: Uuid, name: &str) -> String {
    format!(
        r#"{{"id":"{}","type":"interaction","child_id":"{child}","occurred_at":"{}","data":{{"action":"reward","subject":"{name}","topic":"{name}","badge":"{name}"}}}}"#,
        Uuid::new_v4(),
        Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
    )
}

/// Reads a live stream as it comes.
async fn listen(address: &str, request: &[u8]) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let _ = stream.write_all(request).await;
            let mut buffer = vec![0; 64 << 10];
            while stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A child who means harm and has a past: full sets of the longest topics and badges on each of thirty days, 8 000
/// subjects on the last, 100 000 topics.
pub(crate) async fn fill_history(pool: &PgPool, child: Uuid) -> Result<()> {
    let today = Utc::now().date_naive();
    let first = today - chrono::Days::new(29);
    for table in ["daily_child_metrics", "learning_analytics"] {
        for day in [first, today] {
            let (name, month) = (day.format("%Y%m"), day.format("%Y-%m-01"));
            let sql = format!(
                "CREATE TABLE IF NOT EXISTS {table}_{name} PARTITION OF {table}
                 FOR VALUES FROM ('{month}') TO ((date '{month}' + interval '1 month')::date)"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(pool)
                .await?;
        }
    }
    let fill = |table: &str, sums: &[&str], columns: &str, values: &str, from: &str| {
        let (names, zeros) = (sums.join(", "), vec!["1"; sums.len()].join(", "));
        sqlx::AssertSqlSafe(format!(
            "INSERT INTO {table} (child_id, {columns}, {names}) SELECT $1, {values}, {zeros} FROM {from}"
        ))
    };
    use rivulet_aggregator::rollup::{DailySums, LearningSums, TopicSums};
    let set = "ARRAY(SELECT lpad(n::text, 100, '0') FROM generate_series(1, 256) n)";
    let day = "$2::date - d";
    let daily = fill(
        "daily_child_metrics",
        DailySums::COLUMNS,
        "local_date, topics, badges, topics_more, badges_more, first_event_at, last_event_at",
        &format!("{day}, {set}, {set}, true, true, {day}, {day}"),
        "generate_series(0, 29) d",
    );
    let learning = fill(
        "learning_analytics",
        LearningSums::COLUMNS,
        "local_date, subject",
        "$2::date, lpad(n::text, 100, '0')",
        "generate_series(1, 8000) n",
    );
    let topics = fill(
        "topic_progress",
        TopicSums::COLUMNS,
        "topic, first_seen_at, last_seen_at",
        "lpad(n::text, 100, '0'), $2::date, $2::date + n * interval '1 ms'",
        "generate_series(1, 100000) n",
    );
    for sql in [daily, learning, topics] {
        sqlx::query(sql)
            .bind(child)
            .bind(today)
            .execute(pool)
            .await?;
    }
    sqlx::raw_sql("ANALYZE").execute(pool).await?;
    Ok(())
}
