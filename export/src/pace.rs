//! How long an export may take, and how it gets to a reader who may be slow.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, error::SendError},
    time::{error::Elapsed, timeout},
};

use crate::{Error, metrics::EXPORT_BYTES};

/// Bytes that are handed to the reader at once.
const PIECE: usize = 64 << 10;

/// Pieces that wait for the reader: a megabyte. The rollups of most children are less, so they are read from
/// PostgreSQL at once, however slow the reader is.
const WAITING: usize = 16;

/// How long an export may take. [`Pace::default`] is for production.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The rollups, which hold a connection to PostgreSQL.
    pub rollups: Duration,
    /// Everything.
    pub whole: Duration,
    /// The reader may take nothing for so long.
    pub stall: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            rollups: Duration::from_secs(60),
            whole: Duration::from_secs(15 * 60),
            stall: Duration::from_secs(30),
        }
    }
}

enum Piece {
    Bytes(Bytes),
    /// There was all of it.
    End,
}

/// The end of an export that the reader takes. It fails where the other end is dropped before [`Outlet::end`], so
/// that nobody takes a part for the whole.
pub struct Body {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
}

/// The end that the archive is written to, on a thread that may wait.
pub struct Outlet {
    pieces: mpsc::Sender<Piece>,
    runtime: Handle,
    stall: Duration,
    /// What is not handed over yet.
    held: Vec<u8>,
}

impl Body {
    /// Both ends. To be called in a tokio runtime.
    #[must_use]
    pub fn new(pace: Pace) -> (Outlet, Self) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let outlet = Outlet {
            pieces: sender,
            runtime: Handle::current(),
            stall: pace.stall,
            held: Vec::with_capacity(PIECE),
        };
        let body = Self {
            pieces: receiver,
            ended: false,
        };
        (outlet, body)
    }
}

impl Stream for Body {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context).map(|piece| {
            if let Some(Piece::Bytes(bytes)) = piece {
                EXPORT_BYTES.increment(bytes.len() as u64);
                return Some(Ok(bytes));
            }
            self.ended = true;
            match piece {
                Some(_) => None,
                None => Some(Err(io::Error::other("the export was broken off"))),
            }
        })
    }
}

impl Outlet {
    /// Says that this was all.
    ///
    /// # Errors
    /// The reader is gone or too slow.
    pub async fn end(mut self) -> Result<(), Error> {
        let held = Bytes::from(std::mem::take(&mut self.held));
        let all = async {
            if !held.is_empty() {
                self.pieces.send(Piece::Bytes(held)).await?;
            }
            self.pieces.send(Piece::End).await
        };
        match timeout(self.stall, all).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Error::Reader),
        }
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let held = std::mem::replace(&mut self.held, Vec::with_capacity(PIECE));
        let send = self.pieces.send(Piece::Bytes(held.into()));
        let sent: Result<Result<(), SendError<Piece>>, Elapsed> = self
            .runtime
            .block_on(async { timeout(self.stall, send).await });
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl io::Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.held.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.held.extend_from_slice(taken);
        if self.held.len() == PIECE {
            self.hand_over()?;
        }
        Ok(taken.len())
    }

    /// Pieces are handed over when they are full, and at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use futures_util::StreamExt as _;

    use super::*;

    const PACE: Pace = Pace {
        rollups: Duration::from_secs(60),
        whole: Duration::from_secs(60),
        stall: Duration::from_millis(50),
    };

    async fn write(mut outlet: Outlet, bytes: usize) -> io::Result<Outlet> {
        let written = tokio::task::spawn_blocking(move || {
            outlet.write_all(&vec![7; bytes])?;
            Ok(outlet)
        });
        written.await.unwrap()
    }

    #[tokio::test]
    async fn a_reader_gets_everything_and_learns_where_it_is_not_all() {
        let (outlet, body) = Body::new(PACE);
        let writing = tokio::spawn(async move {
            let outlet = write(outlet, PIECE * 40 + 1).await.unwrap();
            outlet.end().await
        });
        let pieces: Vec<_> = body.collect().await;
        let read: usize = pieces
            .iter()
            .map(|piece| piece.as_ref().unwrap().len())
            .sum();
        assert_eq!(read, PIECE * 40 + 1);
        writing.await.unwrap().unwrap();

        let (outlet, body) = Body::new(PACE);
        drop(write(outlet, PIECE * 2).await.unwrap());
        let pieces: Vec<_> = body.collect().await;
        assert_eq!(pieces.len(), 3);
        assert!(pieces[2].is_err());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_reader_who_takes_nothing_or_is_gone() {
        let (outlet, body) = Body::new(PACE);
        let stalled = write(outlet, PIECE * (WAITING + 1)).await.map(|_| ());
        assert_eq!(stalled.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(body);
        let (outlet, body) = Body::new(PACE);
        drop(body);
        let gone = write(outlet, PIECE).await.map(|_| ());
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
