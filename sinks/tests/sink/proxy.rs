//! A door in front of ClickHouse that can be shut, or worse.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::JoinHandle,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As if it were not there.
    Pass,
    /// Hangs up at once.
    Shut,
    /// Takes what is sent and never answers.
    Hang,
    /// Answers every request with this error of ClickHouse.
    Refuse(u32),
    /// Passes requests on and keeps the answers to itself.
    Swallow,
    /// Takes requests with this in their first bytes and never answers them; passes others.
    HangOn(&'static str),
}

#[derive(Debug)]
struct State {
    mode: Mutex<Mode>,
    /// Something was refused, swallowed or left hanging.
    harmed: Notify,
    upstream: String,
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn new(upstream_url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Pass),
            harmed: Notify::new(),
            upstream: upstream_url
                .trim_start_matches("http://")
                .trim_end_matches('/')
                .to_owned(),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { url, state, task }
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.state.mode.lock() = mode;
    }

    /// Waits for the next harm that is done.
    pub(crate) async fn harmed(&self) {
        self.state.harmed.notified().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The mode is looked at for each piece that passes: connections are kept and used again.
async fn serve(client: TcpStream, state: Arc<State>) {
    let (mut from_client, to_client) = client.into_split();
    let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
    let mut upstream: Option<OwnedWriteHalf> = None;
    let mut piece = vec![0; 64 * 1024];
    let mut hangs = false;
    while let Ok(length @ 1..) = from_client.read(&mut piece).await {
        let mode = *state.mode.lock();
        if let Mode::HangOn(sign) = mode
            && piece[..length]
                .windows(sign.len())
                .any(|at| at == sign.as_bytes())
        {
            hangs = true;
        }
        match mode {
            Mode::HangOn(_) if hangs => state.harmed.notify_one(),
            Mode::Shut => {
                to_client.lock().await.shutdown().await.ok();
                state.harmed.notify_one();
                return;
            }
            Mode::Hang => state.harmed.notify_one(),
            Mode::Refuse(code) => {
                let body = format!("Code: {code}. DB::Exception: as the test asked");
                let answer = format!(
                    "HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: {code}\r\n\
                     Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let mut client = to_client.lock().await;
                client.write_all(answer.as_bytes()).await.ok();
                client.shutdown().await.ok();
                state.harmed.notify_one();
                return;
            }
            Mode::Pass | Mode::Swallow | Mode::HangOn(_) => {
                if upstream.is_none() {
                    let Ok(stream) = TcpStream::connect(&state.upstream).await else {
                        return;
                    };
                    let (from_upstream, to_upstream) = stream.into_split();
                    tokio::spawn(answer(
                        from_upstream,
                        Arc::clone(&to_client),
                        Arc::clone(&state),
                    ));
                    upstream = Some(to_upstream);
                }
                let Some(upstream) = &mut upstream else {
                    return;
                };
                if upstream.write_all(&piece[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn answer(
    mut upstream: OwnedReadHalf,
    client: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    state: Arc<State>,
) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = upstream.read(&mut piece).await {
        if *state.mode.lock() == Mode::Swallow {
            state.harmed.notify_one();
        } else if client
            .lock()
            .await
            .write_all(&piece[..length])
            .await
            .is_err()
        {
            return;
        }
    }
}
