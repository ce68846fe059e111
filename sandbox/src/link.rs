//! A connection that can be slow, hang, break or answer errors: a TCP relay in front of a service.

use std::time::Duration;

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What a link does to what passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Open,
    /// Holds each piece back for so long.
    Slow(Duration),
    /// Takes everything and hands nothing on, until the mode changes.
    Hang,
    /// Ends all connections, and new ones at once.
    Cut,
    /// Answers every HTTP request with 500 and ClickHouse's code for "timeout exceeded".
    Fail,
}

const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: 159\r\n\
                        Content-Length: 0\r\nConnection: close\r\n\r\n";

/// The relay. Gone with its owner.
pub struct Link {
    /// Where it listens, `127.0.0.1:PORT`.
    pub address: String,
    mode: watch::Sender<Mode>,
}

impl Link {
    /// A link to `target`, `HOST:PORT`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (mode, modes) = watch::channel(Mode::Open);
        let target = target.to_owned();
        tokio::spawn(async move {
            // Ends when the link is dropped: nobody sends modes any more.
            let mut ended = modes.clone();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((client, _)) = accepted {
                        tokio::spawn(relay(client, target.clone(), modes.clone()));
                    },
                    gone = ended.changed() => if gone.is_err() { break },
                }
            }
        });
        Ok(Self { address, mode })
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn relay(client: TcpStream, target: String, modes: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(&target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut cut = modes.clone();
    let (from_client, mut to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let fail = modes.clone();
    tokio::select! {
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
        _ = async {
            let up = pump(from_client, to_server, modes.clone());
            let down = pump(from_server, &mut to_client, modes);
            tokio::select! {
                () = up => {}
                () = down => {}
            }
        } => {}
    }
    if *fail.borrow() == Mode::Fail {
        let _ = to_client.write_all(FAILED).await;
    }
}

/// Ends with either side, or when the link is to answer by itself.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut modes: watch::Receiver<Mode>,
) {
    let mut piece = vec![0; 16 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else {
            return;
        };
        if modes.wait_for(|mode| *mode != Mode::Hang).await.is_err() {
            return;
        }
        let mode = *modes.borrow();
        match mode {
            Mode::Fail => return,
            Mode::Slow(by) => tokio::time::sleep(by).await,
            _ => {}
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
