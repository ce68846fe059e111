//! Who may be connected to a port, and who makes room.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request, routing::get};
use rivulet_telemetry::{Metrics, Operations, Readiness};
use rivulet_web::{Config, Hold, Port, serve_operations};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// A port with something to work on for ever, kept or not, and how many are at it.
async fn serve(config: Config) -> (SocketAddr, Arc<AtomicUsize>) {
    let at_work = Arc::new(AtomicUsize::new(0));
    let work = |keeps: bool| {
        let at_work = Arc::clone(&at_work);
        get(async move |request: Request| {
            if keeps {
                request.extensions().get::<Hold>().unwrap().keep();
            }
            at_work.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        })
    };
    let readiness = Readiness::new("test", &[]);
    let router = Router::new()
        .route("/work", work(true))
        .route("/strange", work(false))
        .route("/answer", get(async || "an answer"))
        .merge(Operations::from(Metrics::detached()).of_role(readiness));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let port = Port::new("test", config, router, |_| "test").unwrap();
    tokio::spawn(async move { match port.accept(&listener).await {} });
    (address, at_work)
}

/// A minute is as good as for ever.
fn config(max_connections: usize) -> Config {
    Config {
        max_connections,
        header_timeout: Duration::from_secs(600),
        write_timeout: Duration::from_secs(600),
        ..Config::default()
    }
}

async fn connect(to: SocketAddr, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// All that comes until the connection ends, or there is an answer without an end.
async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut chunk = [0; 4_096];
    loop {
        let reading = stream.read(&mut chunk);
        // What waits in vain fails here.
        let read = tokio::time::timeout(Duration::from_secs(60), reading).await;
        let read = read.unwrap().unwrap_or(0);
        answer.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&answer);
        let is_whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            length.is_some_and(|length| body.len() >= length.parse().unwrap())
        });
        if is_whole || read == 0 {
            return text.into_owned();
        }
    }
}

async fn asked(to: SocketAddr, from: &str, path: &str) -> String {
    let mut stream = connect(to, from).await;
    ask(&mut stream, path).await;
    answer(&mut stream).await
}

#[tokio::test]
async fn half_open_connections_of_two_addresses_make_room() {
    let (address, _) = serve(config(8)).await;
    let mut half_open = Vec::new();
    for n in 0..8 {
        let mut stream = connect(address, ["127.0.0.1", "127.0.0.2"][n % 2]).await;
        match n % 3 {
            0 => {}
            1 => stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap(),
            // A request that nobody keeps.
            _ => ask(&mut stream, "/strange").await,
        }
        half_open.push(stream);
    }
    for _ in 0..20 {
        for (path, begin) in [("/readyz", "HTTP/1.1 200"), ("/answer", "HTTP/1.1 200")] {
            let answer = asked(address, "127.0.0.3", path).await;
            assert!(answer.starts_with(begin), "{answer}");
        }
    }
}

#[tokio::test]
async fn who_is_at_work_stays_and_others_are_told_of_health_alone() {
    let (address, at_it) = serve(config(3)).await;
    let mut at_work = Vec::new();
    for n in 1..=3 {
        let mut stream = connect(address, "127.0.0.1").await;
        ask(&mut stream, "/work").await;
        while at_it.load(Ordering::Relaxed) < n {
            tokio::task::yield_now().await;
        }
        at_work.push(stream);
    }
    let sent_away = asked(address, "127.0.0.2", "/answer").await;
    for part in [
        "HTTP/1.1 503 ",
        "\r\nretry-after: 1\r\n",
        "\r\nconnection: close\r\n",
        "\"code\":\"unavailable\"",
    ] {
        assert!(sent_away.contains(part), "{sent_away}");
    }
    // More than are kept for those who ask for health.
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(connect(address, "127.0.0.2").await);
    }
    for path in ["/healthz", "/readyz"] {
        let answer = asked(address, "127.0.0.3", path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let answer = asked(address, "127.0.0.3", "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    for stream in &mut at_work {
        let heard = stream.try_read(&mut [0; 64]);
        let still = heard.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(still, "who is at work was cut off");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_taken_keeps_its_connection_only_when_it_is_worth_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // More than the operating system keeps for who does not read.
    let large = |keeps: bool| {
        get(async move |request: Request| {
            if keeps {
                request.extensions().get::<Hold>().unwrap().keep();
            }
            vec![b'x'; 32 << 20]
        })
    };
    let router = Router::new()
        .route("/kept", large(true))
        .route("/strange", large(false))
        .route("/answer", get(async || "an answer"));
    let port = Port::new("test", config(2), router, |_| "test").unwrap();
    tokio::spawn(async move { match port.accept(&listener).await {} });
    let mut kept = connect(address, "127.0.0.1").await;
    ask(&mut kept, "/kept").await;
    kept.readable().await.unwrap();
    let mut strange = connect(address, "127.0.0.1").await;
    ask(&mut strange, "/strange").await;
    strange.readable().await.unwrap();
    for _ in 0..10 {
        let answer = asked(address, "127.0.0.2", "/answer").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let taken = async |stream: &mut TcpStream| {
        let mut taken = Vec::new();
        let _ = stream.take(32 << 20).read_to_end(&mut taken).await;
        taken.len()
    };
    assert_eq!(taken(&mut kept).await, 32 << 20);
    assert!(taken(&mut strange).await < 32 << 20);
}

#[tokio::test]
async fn a_head_has_32_kib_and_not_a_byte_more() {
    let (address, _) = serve(config(8)).await;
    let head = |bytes: usize| {
        let begin = "GET /answer HTTP/1.1\r\nhost: test\r\nx-long: ";
        let end = "\r\n\r\n";
        let long = "x".repeat(bytes - begin.len() - end.len());
        format!("{begin}{long}{end}")
    };
    for (bytes, status) in [(32 << 10, "200"), ((32 << 10) + 1, "431"), (40_000, "431")] {
        for piece in [usize::MAX, 8_192, 1_000] {
            let mut stream = connect(address, "127.0.0.1").await;
            // Something follows, as a body or another request would.
            let sent = format!("{}{}", head(bytes), head(1_000));
            for piece in sent.as_bytes().chunks(piece) {
                // Whoever was refused is not read to the end.
                if stream.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let answer = answer(&mut stream).await;
            let begin = format!("HTTP/1.1 {status}");
            assert!(answer.starts_with(&begin), "{bytes} {piece}: {answer}");
        }
    }
}

#[tokio::test]
async fn operations_answer_whoever_asks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Readiness::new("test", &["kafka"]);
    let operations = Operations::alone(Metrics::detached(), readiness.clone());
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve_operations(listener, operations, shutdown.clone()));
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(connect(address, "127.0.0.1").await);
    }
    for (path, status) in [
        ("/healthz", "200"),
        ("/readyz", "503"),
        ("/metrics", "200"),
        ("/v1/events", "404"),
    ] {
        let answer = asked(address, "127.0.0.1", path).await;
        let begin = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&begin), "{path}: {answer}");
    }
    readiness.pass("kafka");
    let answer = asked(address, "127.0.0.1", "/readyz").await;
    assert!(answer.ends_with("{\"kafka\":\"ok\"}"), "{answer}");
    shutdown.cancel();
    serving.await.unwrap().unwrap();
}
