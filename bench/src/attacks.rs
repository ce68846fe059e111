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
    time::Interval,
};
use uuid::Uuid;

use crate::{
    bed,
    load::{self, Client},
};

/// Between two requests of a connection: an attacker is elsewhere, and does not burn this machine's CPU with its
/// own work.
const PAUSE: Duration = Duration::from_millis(50);
const CONNECTIONS: usize = 64;

/// Who is attacked, and what the attacker has been given.
pub(crate) struct Attacked {
    pub(crate) ingest: String,
    pub(crate) api: String,
    /// Of scope `ingest`.
    pub(crate) key: String,
    /// Of the parent of `child`.
    pub(crate) token: String,
    pub(crate) child: Uuid,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
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

pub(crate) const ALL: &[(&str, Kind)] = &[
    ("one key, 200 bodies that stall half-way", Kind::HalfBodies),
    ("one key, bombs in brotli", Kind::Brotli),
    ("one key, 8 MB of blanks in zstd", Kind::Zstd),
    ("one key, 1 MB of empty members of gzip", Kind::Gzip),
    ("no key, 2 048 half-open requests", Kind::HalfOpen),
    ("forged keys and tokens", Kind::ForgedKeys),
    ("one child, a new topic and badge each event", Kind::Topics),
    ("one parent, the largest answers", Kind::Reads),
    ("one parent, 64 live streams of that child", Kind::Live),
    ("no key, the largest file", Kind::Files),
];

/// An attack that goes on until it is stopped.
pub(crate) struct Running {
    connections: JoinSet<()>,
    answers: Arc<Answers>,
}

/// How often which status was answered.
type Answers = Mutex<BTreeMap<u16, u64>>;

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

pub(crate) fn start(kind: Kind, target: &Arc<Attacked>) -> Result<Running> {
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
    let get = |path: &str| load::get(path, &target.token);
    match kind {
        Kind::HalfBodies => {
            for _ in 0..200 {
                let target = Arc::clone(target);
                running.spawn(async move { half_bodies(&target).await });
            }
        }
        Kind::Brotli => {
            let mut bomb = Vec::new();
            brotli::CompressorWriter::new(&mut bomb, 1 << 16, 5, 22)
                .write_all(&vec![b' '; 64 << 20])?;
            running.repeat(&target.ingest, vec![body("br", &bomb)], PAUSE);
        }
        Kind::Zstd => {
            let blanks = zstd::encode_all(&vec![b' '; (8 << 20) - 100][..], 19)?;
            running.repeat(&target.ingest, vec![body("zstd", &blanks)], PAUSE);
        }
        Kind::Gzip => {
            let empty =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish()?;
            let members = empty.repeat((1 << 20) / empty.len());
            running.repeat(&target.ingest, vec![body("gzip", &members)], PAUSE);
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
                    running.spawn(half_open(from, address));
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
                    load::post(&key, &[])
                })
                .collect();
            running.repeat(&target.ingest, requests.clone(), PAUSE);
            running.repeat(&target.api, requests, PAUSE);
        }
        Kind::Topics => {
            for connection in 0..10 {
                let target = Arc::clone(target);
                let answers = Arc::clone(&running.answers);
                running.spawn(async move { topics(connection, &target, &answers).await });
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
            running.repeat_on(16, &target.api, requests, PAUSE);
        }
        Kind::Live => {
            let request = get(&format!("/v1/children/{child}/live", child = target.child));
            for _ in 0..64 {
                let (address, request) = (target.api.clone(), request.clone());
                running.spawn(async move { listen(&address, &request).await });
            }
            let target = Arc::clone(target);
            let answers = Arc::clone(&running.answers);
            running.spawn(async move { play(&target, &answers).await });
        }
        Kind::Files => {
            let request = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n";
            let often = Duration::from_millis(200);
            running.repeat(&target.api, vec![request.to_vec()], often);
        }
    }
    Ok(running)
}

impl Running {
    fn spawn(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.connections.spawn(connection);
    }

    /// Sends these requests in turn on each of [`CONNECTIONS`].
    fn repeat(&mut self, address: &str, requests: Vec<Vec<u8>>, pause: Duration) {
        self.repeat_on(CONNECTIONS, address, requests, pause);
    }

    fn repeat_on(
        &mut self,
        connections: usize,
        address: &str,
        requests: Vec<Vec<u8>>,
        pause: Duration,
    ) {
        let requests = Arc::new(requests);
        for first in 0..connections {
            let (address, requests) = (address.to_owned(), Arc::clone(&requests));
            let answers = Arc::clone(&self.answers);
            self.spawn(async move {
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

fn count(answers: &Answers, status: u16) {
    if let Ok(mut answers) = answers.lock() {
        *answers.entry(status).or_default() += 1;
    }
}

async fn half_bodies(target: &Attacked) {
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
async fn topics(connection: usize, target: &Attacked, answers: &Answers) {
    let mut number = 0_u64;
    let next = || {
        let name = |n| format!("{connection:02}-{n:08}-{}", "x".repeat(80));
        number += 100;
        (number - 100..number).map(name).collect()
    };
    post(target, answers, None, next).await;
}

/// A few events a second, each with a topic that goes before all others.
async fn play(target: &Attacked, answers: &Answers) {
    let ticks = tokio::time::interval(Duration::from_millis(250));
    let mut before = 99_999_999;
    let next = || {
        before -= 1;
        vec![format!("!{before:08}{}", "x".repeat(90))]
    };
    post(target, answers, Some(ticks), next).await;
}

/// Sends one request of events of such names after the other: at each tick, or as soon as it may.
async fn post(
    target: &Attacked,
    answers: &Answers,
    mut ticks: Option<Interval>,
    mut names: impl FnMut() -> Vec<String> + Send,
) {
    while let Ok(mut client) = Client::connect(&target.ingest).await {
        let mut status = 200;
        while status != 0 {
            match &mut ticks {
                Some(ticks) => drop(ticks.tick().await),
                None if status != 200 => tokio::time::sleep(PAUSE).await,
                None => {}
            }
            let events = names()
                .iter()
                .map(|name| event(target.child, name))
                .collect::<Vec<_>>();
            let answer = client.send(&load::post(&target.key, &events)).await;
            status = answer.unwrap_or(0);
            count(answers, status);
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
    bed::partitions(pool, [first, today].into_iter()).await?;
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
