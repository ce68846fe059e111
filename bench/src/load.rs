//! HTTP load on keep-alive connections, cheap enough not to take the CPU time it measures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

const ANSWER: Duration = Duration::from_secs(30);

/// One connection: a request, its answer, the next request.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where the body of the last answer begins in `buffer`.
    body: usize,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(64 * 1024),
            body: 0,
        })
    }

    /// Sends a whole request and reads the whole answer; returns its status.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<u16> {
        tokio::time::timeout(ANSWER, self.exchange(request))
            .await
            .context("no answer in time")?
    }

    /// The same where any answer but 200 is a failure.
    pub(crate) async fn succeed(&mut self, request: &[u8]) -> Result<()> {
        let status = self.send(request).await?;
        let body = &self.body()[..self.body().len().min(256)];
        let said = String::from_utf8_lossy(body);
        ensure!(status == 200, "answered {status}: {said}");
        Ok(())
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        &self.buffer[self.body..]
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the connection was closed"
            );
            let Some(head) = self
                .buffer
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n")
            else {
                continue;
            };
            let text = std::str::from_utf8(&self.buffer[..head])?;
            let status = text.get(9..12).context("no HTTP answer")?.parse()?;
            let length: usize = text
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map(|(_, value)| value.trim().parse())
                .context("an answer without its length")??;
            self.body = head + 4;
            while self.buffer.len() < self.body + length {
                ensure!(
                    self.stream.read_buf(&mut self.buffer).await? > 0,
                    "the answer was cut off"
                );
            }
            return Ok(status);
        }
    }
}

/// A `GET` with a credential.
pub(crate) fn get(path: &str, key: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n")
        .into_bytes()
}

/// A `POST` of events, each as JSON.
pub(crate) fn post(key: &str, events: &[String]) -> Vec<u8> {
    let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
    format!(
        "POST /v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What a load met.
pub(crate) struct Met {
    pub(crate) wall: Duration,
    /// Milliseconds from sending a request to having its answer.
    pub(crate) latencies: Vec<f64>,
}

/// Sends `count` requests over `connections`, taking `requests` in turn; each must be answered 200
/// with `expected` in its body.
pub(crate) async fn run(
    address: &str,
    requests: &Arc<Vec<Vec<u8>>>,
    count: usize,
    connections: usize,
    expected: &'static str,
) -> Result<Met> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(address).await?);
    }
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let (next, requests) = (Arc::clone(&next), Arc::clone(requests));
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok::<_, anyhow::Error>(latencies);
                }
                let sent = Instant::now();
                client.succeed(&requests[index % requests.len()]).await?;
                latencies.push(sent.elapsed().as_secs_f64() * 1e3);
                let said = String::from_utf8_lossy(client.body());
                ensure!(said.contains(expected), "answered {said}");
            }
        });
    }
    let mut latencies = Vec::with_capacity(count);
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended??);
    }
    Ok(Met {
        wall: started.elapsed(),
        latencies,
    })
}
