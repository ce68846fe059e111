//! Bad input is refused cheaply, and others are served meanwhile.

use std::{io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use reqwest::StatusCode;
use rivulet_ingest::Config;
use rivulet_web as web;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::common::{Server, config, eventually, outcomes, problem, read_answer};

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut to = GzEncoder::new(Vec::new(), Compression::best());
    to.write_all(plain).unwrap();
    to.finish().unwrap()
}

async fn refusal(server: &Server, encoding: &str, body: Vec<u8>) -> (u16, String) {
    let response = server
        .request()
        .header("content-type", "application/json")
        .header("content-encoding", encoding)
        .body(body)
        .send()
        .await
        .unwrap();
    let (status, code, _) = problem(response).await;
    (status, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_of_anything() {
    let server = Server::start().await;
    let too_large = (413, "body_too_large".to_owned());
    let too_many = (413, "too_many_events".to_owned());

    let long = vec![b' '; (1 << 20) + 1];
    assert_eq!(refusal(&server, "identity", long).await, too_large);
    let bomb = gzip(&vec![b' '; 200 << 20]);
    assert!(bomb.len() < 1 << 20);
    assert_eq!(refusal(&server, "gzip", bomb).await, too_large);
    let bomb = zstd::encode_all(&vec![b' '; 64 << 20][..], 3).unwrap();
    assert_eq!(refusal(&server, "zstd", bomb).await, too_large);

    let million = format!("{{\"events\":[{}{{}}]}}", "{},".repeat(999_999));
    assert_eq!(
        refusal(&server, "gzip", gzip(million.as_bytes())).await,
        too_many
    );
    let lines = server
        .request()
        .header("content-type", "application/x-ndjson")
        .body("{}\n".repeat(1_001));
    assert_eq!(
        problem(lines.send().await.unwrap()).await.1,
        "too_many_events"
    );
    let events: Vec<_> = (0..1_001).map(|_| json!({})).collect();
    assert_eq!(
        problem(server.post(&events).await).await.1,
        "too_many_events"
    );
    assert_eq!(server.post(&events[1..]).await.status(), StatusCode::OK);

    // The largest permitted body.
    let padded = format!("{{\"events\":[]{}}}", " ".repeat((8 << 20) - 13));
    assert_eq!(padded.len(), 8 << 20);
    let request = server
        .request()
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(gzip(padded.as_bytes()));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nesting_spoils_only_its_event() {
    let server = Server::start().await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deeper = format!("{}{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let body = format!(
        "{{\"events\":[{},{{\"data\":{deep}}},{deep},{},{}]}}",
        server.event(),
        deeper.replace("{\"a\":}", "{\"a\":1}"),
        server.event()
    );
    let request = server.request().header("content-type", "application/json");
    let response = request.body(body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let answer: serde_json::Value = response.json().await.unwrap();
    assert_eq!(
        outcomes(&answer),
        ["accepted", "rejected", "rejected", "rejected", "accepted"]
    );
    for index in 1..4 {
        assert_eq!(answer["results"][index]["code"], "invalid_json");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_body_ends() {
    let server = Server::start().await;
    let mut stream = server.raw("transfer-encoding: chunked\r\n").await;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let (mut read, mut write) = stream.split();
    let sending = async {
        while write.write_all(chunk.as_bytes()).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let receiving = async {
        let mut answer = vec![0; 4096];
        let length = read.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let answer = tokio::select! {
        () = sending => unreachable!(),
        answer = receiving => answer,
    };
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    server.send(&[server.event()]).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_at_a_high_rate_do_not_stop_a_right_one() {
    let server = Server::start().await;
    let flood = (0..8).map(|task| {
        let (client, url) = (server.client.clone(), server.url("/v1/events"));
        tokio::spawn(async move {
            for n in 0..500 {
                let request = client.post(&url).bearer_auth(format!("rvk_{task}_{n}"));
                let response = request.body(vec![b'x'; 1_000]).send().await.unwrap();
                assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            }
        })
    });
    let flood: Vec<_> = flood.collect();
    for _ in 0..20 {
        server.send(&[server.event()]).await;
    }
    for task in flood {
        task.await.unwrap();
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_does_not_hold_its_connection() {
    let server = Server::with(Config {
        port: web::Config {
            header_timeout: Duration::from_millis(300),
            max_connections: 2,
            ..web::Config::default()
        },
        ..config()
    })
    .await;
    let mut stuck = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream
            .write_all(b"POST /v1/events HTTP/1.1\r\nhost:")
            .await
            .unwrap();
        stuck.push(stream);
    }
    // More connections than there are places, none of which ever says what it wants.
    let client = reqwest::Client::new();
    let health = client.get(server.url("/healthz")).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    let mut huge = server
        .raw(&format!("x-long: {}\r\n", "x".repeat(100_000)))
        .await;
    let answer = read_answer(&mut huge).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(answer.contains("\"code\":\"head_too_large\""), "{answer}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_a_problem_too() {
    let server = Server::start().await;
    let get =
        |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
    let good = get("/healthz", "");
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (requests, before, status, code) in [
        (get("/ space", ""), 0, 400, "malformed_request"),
        (
            get("/healthz", "no header\r\n"),
            0,
            400,
            "malformed_request",
        ),
        (get("/healthz", "x y: 1\r\n"), 0, 400, "malformed_request"),
        (
            "G{}T / HTTP/1.1\r\n\r\n".to_owned(),
            0,
            400,
            "malformed_request",
        ),
        (
            "GET / HTTP/9.9\r\n\r\n".to_owned(),
            0,
            400,
            "malformed_request",
        ),
        (get(&"/x".repeat(30_000), ""), 0, 431, "head_too_large"),
        (get("/healthz", &many), 0, 431, "head_too_large"),
        // After others in one write.
        (
            format!("{good}{good}{}", get("/ space", "")),
            2,
            400,
            "malformed_request",
        ),
    ] {
        let what = format!("{requests:.60}");
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        let mut answers = Vec::new();
        // What was not read any more may cut the end off; the answers come first.
        let _ = within_a_minute("the connection ends", stream.read_to_end(&mut answers)).await;
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(
            answers.matches("HTTP/1.1 200 OK").count(),
            before,
            "{what}: {answers}"
        );
        let begin = answers.find(&format!("HTTP/1.1 {status} "));
        let answer = &answers[begin.unwrap_or_else(|| panic!("{what}: {answers}"))..];
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        for header in [
            "content-type: application/problem+json",
            &format!("content-length: {}", body.len()),
            "connection: close",
            "x-request-id: ",
        ] {
            assert!(head.contains(header), "{what}: {answer}");
        }
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&problem["status"], &problem["code"]),
            (&json!(status), &json!(code))
        );
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_trickles_has_no_more_time_than_one_that_stands_still() {
    let server = Server::with(Config {
        port: web::Config {
            header_timeout: Duration::from_millis(300),
            ..web::Config::default()
        },
        ..config()
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"POST /v1/events HTTP/1.1\r\nhost: test\r\nx-slow: ")
        .await
        .unwrap();
    // For as long as it can be written to, it is still read.
    within_a_minute("the connection is closed", async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_ends_with_408() {
    let server = Server::with(Config {
        body_timeout: Duration::from_millis(300),
        ..config()
    })
    .await;
    let mut stream = server.raw("content-length: 100000\r\n").await;
    let (mut read, mut write) = stream.split();
    let trickle = async {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let answer = async {
        let mut answer = vec![0; 4096];
        let length = read.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    let answer = tokio::select! {
        () = trickle => unreachable!(),
        answer = answer => answer,
    };
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_answers_does_not_hold_a_connection() {
    let server = Server::with(Config {
        port: web::Config {
            write_timeout: Duration::from_millis(300),
            max_connections: 3,
            header_timeout: Duration::from_secs(600),
            ..web::Config::default()
        },
        rate: 10_000_000,
        burst: 10_000_000,
        ..config()
    })
    .await;
    let body = json!({"events": vec![json!({}); 1_000]}).to_string();
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        server.ingest_key,
        body.len()
    );
    // Ahead of everybody else in the queue, and as many as there are places.
    for _ in 0..3 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut deaf = socket.connect(server.address).await.unwrap();
        let requests = request.repeat(100);
        tokio::spawn(async move {
            // Answers of 12 MB, more than the operating system keeps for who does not read.
            let _ = deaf.write_all(requests.as_bytes()).await;
            std::future::pending::<()>().await;
        });
    }
    let client = reqwest::Client::new();
    let health = client.get(server.url("/healthz")).send();
    let health = within_a_minute("others are served", health).await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_every_place() {
    let server = Server::with(Config {
        port: web::Config {
            max_connections_per_address: 3,
            ..web::Config::default()
        },
        ..config()
    })
    .await;
    let open = async |from: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(server.address).await.unwrap()
    };
    // The client that made the server ready may hold a connection from 127.0.0.1 itself.
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(open("127.0.0.7").await);
    }
    let is_served = async |mut stream: TcpStream| {
        let request = b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n";
        let mut answer = [0; 12];
        stream.write_all(request).await.is_ok()
            && stream.read_exact(&mut answer).await.is_ok()
            && answer.starts_with(b"HTTP/1.1 200")
    };
    assert!(!is_served(open("127.0.0.7").await).await);
    assert!(is_served(open("127.0.0.8").await).await);
    assert!(is_served(first.remove(0)).await);
    eventually("there is a place again", async || {
        is_served(open("127.0.0.7").await).await
    })
    .await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_not_spoken() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = within_a_minute("the connection ends", reading).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 5"),
        "{answer:?}"
    );
    let mut stream = server
        .raw("upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nconnection: upgrade, http2-settings\r\ncontent-length: 13\r\n")
        .await;
    stream.write_all(b"{\"events\":[]}").await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().await.unwrap();
}

/// A test that waits in vain fails here.
async fn within_a_minute<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(60), work).await;
    done.unwrap_or_else(|_| panic!("never came true: {what}"))
}
