//! One sender cannot take from another: neither memory nor places nor time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

#[path = "ingest/common.rs"]
mod common;

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Server, config, eventually, problem, read_answer};
use flate2::{Compression, write::GzEncoder};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rivulet_ingest::Config;
use rivulet_registry::keys::{self, Scope};
use rivulet_web as web;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use uuid::Uuid;

/// A key that the server knows.
async fn another_key(server: &Server) -> String {
    let name = Uuid::new_v4().to_string();
    let key = keys::create(&server.bed.pool, &name, Scope::Ingest)
        .await
        .unwrap();
    eventually("the key is known", async || {
        let url = server.url("/v1/admin/parents/x");
        let asked = server.client.get(url).bearer_auth(&key).send().await;
        asked.unwrap().status() == StatusCode::FORBIDDEN
    })
    .await;
    key
}

fn post(server: &Server, key: &str) -> RequestBuilder {
    let post = server.client.post(server.url("/v1/events"));
    post.bearer_auth(key)
        .header("content-type", "application/json")
}

async fn send(server: &Server, key: &str, events: &[Value]) -> Response {
    let body = json!({"events": events}).to_string();
    post(server, key).body(body).send().await.unwrap()
}

/// A request by hand: its head, and as much of a body as was given.
async fn begin(server: &Server, from: &str, key: &str, length: usize, body: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Whoever is refused is not read to the end.
    let _ = stream.write_all(body).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_stall_hold_up_their_sender_alone() {
    let server = Server::with(Config {
        body_timeout: Duration::from_secs(600),
        ..config()
    })
    .await;
    let (bad, good) = (another_key(&server).await, another_key(&server).await);
    let half = vec![b' '; 600_000];
    let mut stalled = Vec::new();
    for _ in 0..60 {
        stalled.push(begin(&server, "127.0.0.1", &bad, 1 << 20, &half).await);
    }
    eventually("its own sender has its share", async || {
        let response = post(&server, &bad).body(half.clone()).send().await.unwrap();
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return false;
        }
        let (_, code, headers) = problem(response).await;
        code == "unavailable" && headers.contains_key("retry-after")
    })
    .await;
    for _ in 0..30 {
        let answer = send(&server, &good, &[server.event()]).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    // As large as there is.
    let large = format!("{{\"events\":[]{}}}", " ".repeat((1 << 20) - 13));
    let answer = post(&server, &good).body(large).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    drop(stalled);
    eventually("the share is free again", async || {
        let response = post(&server, &bad).body(half.clone()).send().await.unwrap();
        response.status() == StatusCode::BAD_REQUEST
    })
    .await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_of_one_key_leave_places() {
    let server = Server::with(Config {
        port: web::Config {
            max_connections: 8,
            ..web::Config::default()
        },
        body_timeout: Duration::from_secs(600),
        ..config()
    })
    .await;
    let (bad, good) = (another_key(&server).await, another_key(&server).await);
    let mut slow = Vec::new();
    let mut refused = 0;
    for n in 0..6 {
        let mut stream = begin(&server, "127.0.0.2", &bad, 100, b"{").await;
        if n >= 4 {
            let answer = read_answer(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            assert!(answer.contains("\r\nretry-after: "), "{answer}");
            refused += 1;
        } else {
            // Until it has its place.
            eventually("its request is at work", async || {
                let url = server.url("/metrics");
                let told = reqwest::get(url).await.unwrap().text().await.unwrap();
                told.contains(&format!("rivulet_ingest_in_flight_requests {}\n", n + 1))
            })
            .await;
        }
        slow.push(stream);
    }
    assert_eq!(refused, 2);
    let answer = send(&server, &good, &[server.event()]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_requests_of_two_addresses_do_not_lock_a_node() {
    let server = Server::with(Config {
        port: web::Config {
            max_connections: 16,
            max_connections_per_address: 8,
            header_timeout: Duration::from_secs(600),
            ..web::Config::default()
        },
        body_timeout: Duration::from_secs(600),
        ..config()
    })
    .await;
    let body = json!({"events": [server.event()]}).to_string();
    let (first, rest) = body.as_bytes().split_at(10);
    let mut honest = begin(&server, "127.0.0.5", &server.ingest_key, body.len(), first).await;
    eventually("the honest request is at work", async || {
        let told = reqwest::get(server.url("/metrics")).await.unwrap();
        let told = told.text().await.unwrap();
        told.contains("rivulet_ingest_in_flight_requests 1\n")
    })
    .await;
    let mut held = Vec::new();
    for n in 0..32 {
        let from = ["127.0.0.1", "127.0.0.2"][n % 2];
        // Without a head, with half of one, and with a body that nobody will see the end of, of nobody.
        held.push(match n % 4 / 2 {
            0 => begin(&server, from, "rvk_unknown", 1_000_000, b"{").await,
            _ => {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
                let mut stream = socket.connect(server.address).await.unwrap();
                let _ = stream.write_all(b"POST /v1/events HTTP/1.1\r\nhost:").await;
                stream
            }
        });
    }
    for _ in 0..10 {
        let mut stream = begin(&server, "127.0.0.3", &server.ingest_key, 13, b"").await;
        stream.write_all(b"{\"events\":[]}").await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.4:0".parse().unwrap()).unwrap();
        let mut probe = socket.connect(server.address).await.unwrap();
        let request = b"GET /readyz HTTP/1.1\r\nhost: test\r\n\r\n";
        probe.write_all(request).await.unwrap();
        let answer = read_answer(&mut probe).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    honest.write_all(rest).await.unwrap();
    let answer = read_answer(&mut honest).await;
    assert!(
        answer.contains("\"accepted\":1"),
        "who was at work stayed: {answer}"
    );
    server.stop().await.unwrap();
}

/// A server whose limits are soon used up, for keys and with nothing that comes back meanwhile.
async fn strict() -> Server {
    Server::with(Config {
        max_events: 10,
        rate: 1,
        burst: 10,
        ..config()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_carries_no_event_costs_a_token() {
    let server = strict().await;
    let json = ("content-type", "application/json");
    let lines = ("content-type", "application/x-ndjson");
    let many = format!("{{\"events\":[{}{{}}]}}", "{},".repeat(10));
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], u16);
    let cases: &[Case<'_>] = &[
        ("POST /v1/events", &[json], b"{\"events\":[]}", 200),
        ("POST /v1/events", &[lines], b"\n\n\r\n \n", 200),
        ("POST /v1/events", &[json], b"{", 400),
        ("POST /v1/events", &[json], b"{}", 400),
        ("POST /v1/events", &[json, ("x-sent-at", "?")], b"", 400),
        (
            "POST /v1/events",
            &[json, ("content-encoding", "br")],
            b"?",
            400,
        ),
        (
            "POST /v1/events",
            &[json, ("content-encoding", "xz")],
            b"",
            415,
        ),
        (
            "POST /v1/events",
            &[("content-type", "text/plain")],
            b"",
            415,
        ),
        ("POST /v1/events", &[json], many.as_bytes(), 413),
        ("GET /v1/events", &[], b"", 405),
        ("GET /v1/nothing", &[], b"", 404),
        ("PUT /v1/admin/parents/x", &[json], b"{}", 403),
        ("DELETE /v1/admin/parents/x", &[], b"", 403),
    ];
    for (line, headers, body, status) in cases {
        let key = another_key(&server).await;
        let (method, path) = line.split_once(' ').unwrap();
        let mut passed = 0;
        let refused = loop {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = server.client.request(method, server.url(path));
            let request = headers.iter().fold(request, |request, (name, value)| {
                request.header(*name, *value)
            });
            let request = request.bearer_auth(&key).body(body.to_vec());
            let response = request.send().await.unwrap();
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                break response;
            }
            assert_eq!(response.status(), *status, "{line} {headers:?}");
            passed += 1;
            assert!(passed < 100, "{line} {headers:?} costs nothing");
        };
        let (_, code, headers) = problem(refused).await;
        assert_eq!(code, "rate_limited");
        assert_eq!(headers["ratelimit-limit"], "10");
        assert_eq!(headers["ratelimit-remaining"], "0");
        assert!(headers.contains_key("retry-after"));
    }
    server.stop().await.unwrap();
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), Compression::best());
    to.write_all(plain).unwrap();
    to.finish().unwrap()
}

fn brotli(plain: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    brotli::CompressorWriter::new(&mut to, 4_096, 5, 22)
        .write_all(plain)
        .unwrap();
    to
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 3).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_charged_though_nothing_comes_of_it() {
    let server = Server::with(Config {
        rate: 1,
        burst: 1_000,
        ..config()
    })
    .await;
    let blanks = |bytes: usize| vec![b' '; bytes];
    let fits = [&b"{\"events\":["[..], &blanks((8 << 20) - 13), b"]}"].concat();
    let lines = vec![b'\n'; 8 << 20];
    let long_key = format!("{{\"a\":{{{}}}}}", keys_of(4_000));
    let keys: String = format!("{long_key}\n").repeat(100);
    let halves = format!("{{\"a\":\"{}\"}}\n", "\\ud83d".repeat(10_000)).repeat(100);
    let members = gzip(b"").repeat(256);
    let empty_blocks = [&b"\0\0\0\xff\xff".repeat(200_000)[..], b"\x01\0\0\xff\xff"].concat();
    for (what, media, encoding, body) in [
        ("a bomb", "json", "br", brotli(&blanks(16 << 20))),
        ("blanks", "json", "br", brotli(&fits)),
        ("blanks", "json", "zstd", zstd(&fits)),
        ("blanks", "json", "gzip", gzip(&fits)),
        ("blank lines", "x-ndjson", "gzip", gzip(&lines)),
        ("keys", "x-ndjson", "zstd", zstd(keys.as_bytes())),
        (
            "halves of pairs",
            "x-ndjson",
            "gzip",
            gzip(halves.as_bytes()),
        ),
        ("empty blocks", "json", "deflate", empty_blocks),
        ("empty members", "json", "gzip", members),
    ] {
        let key = another_key(&server).await;
        let mut passed = 0;
        let refused = loop {
            let request = server.client.post(server.url("/v1/events"));
            let request = request
                .bearer_auth(&key)
                .header("content-type", format!("application/{media}"))
                .header("content-encoding", encoding);
            let response = request.body(body.clone()).send().await.unwrap();
            // Refused with some tokens left, it had too few for its events: it paid for the work all the same.
            let is_refused = response.status() == StatusCode::TOO_MANY_REQUESTS;
            if is_refused && response.headers()["ratelimit-remaining"] == "0" {
                break response;
            }
            passed += 1;
            // One a token, had they cost no more than that.
            assert!(passed < 900, "{what} ({encoding}) cost a token each");
        };
        let (_, code, headers) = problem(refused).await;
        assert_eq!(code, "rate_limited", "{what} ({encoding})");
        assert_eq!(headers["ratelimit-remaining"], "0");
        // Before its body is read, of which nothing comes.
        let mut stream = begin(&server, "127.0.0.1", &key, 1_000, b"").await;
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    }
    // An honest request costs a token an event, whatever its encoding.
    let key = another_key(&server).await;
    type Compress = fn(&[u8]) -> Vec<u8>;
    let encodings: [(&str, Compress); 3] = [("gzip", gzip), ("zstd", zstd), ("br", brotli)];
    for (name, compress) in encodings {
        let events: Vec<_> = (0..300).map(|_| server.event()).collect();
        let body = compress(json!({"events": events}).to_string().as_bytes());
        let request = post(&server, &key).header("content-encoding", name);
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{name}");
    }
    let response = send(&server, &key, &vec![json!({}); 200]).await;
    let (_, code, headers) = problem(response).await;
    assert_eq!(code, "rate_limited");
    let left: u64 = headers["ratelimit-remaining"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    // A key that is looked for costs a token each time, and some come back.
    assert!((50..=110).contains(&left), "{left}");
    server.stop().await.unwrap();
}

fn keys_of(count: usize) -> String {
    let keys: Vec<_> = (0..count).map(|n| format!("\"{n}\":0")).collect();
    keys.join(",")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_of_one_sender_do_not_hold_up_small_ones_of_another() {
    let server = Server::with(Config {
        rate: 1_000_000,
        burst: 1_000_000,
        ..config()
    })
    .await;
    let (bad, good) = (another_key(&server).await, another_key(&server).await);
    let large = brotli(&[&b"{\"events\":["[..], &vec![b' '; (8 << 20) - 13], b"]}"].concat());
    let answered = Arc::new(AtomicUsize::new(0));
    const LARGE: usize = 60;
    let mut tasks = JoinSet::new();
    for _ in 0..LARGE {
        let request = post(&server, &bad)
            .header("content-encoding", "br")
            .body(large.clone());
        let answered = Arc::clone(&answered);
        tasks.spawn(async move {
            request.send().await.unwrap();
            answered.fetch_add(1, Ordering::Relaxed);
        });
    }
    eventually("one large body is done", async || {
        answered.load(Ordering::Relaxed) > 0
    })
    .await;
    // Of events that do not pass: what is asked here is not how fast Kafka is.
    for events in [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1_000] {
        let events = vec![json!({"data": "x".repeat(100)}); events];
        let answer = send(&server, &good, &events).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let before = answered.load(Ordering::Relaxed);
        assert!(before < LARGE, "every large body came first");
    }
    tasks.join_all().await;
    server.stop().await.unwrap();
}
