//! Gives a body to refusals that hyper makes by itself, before there is a request that the handlers could see. hyper
//! writes only a status and closes the connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::http::StatusCode;
use serde_json::Map;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::metrics::REQUESTS;
use crate::{RequestId, problem};

/// How such an answer begins, and what it has where ours say how long they are.
const BEGINNING: &[u8] = b"HTTP/1.1 4";
const NOTHING: &[u8] = b"connection: close\r\ncontent-length: 0\r\n";

/// A connection on which such answers become problem documents.
pub(crate) struct Worded<S> {
    stream: S,
    role: &'static str,
    /// The rest of such an answer, which must be sent before anything else.
    rest: Vec<u8>,
}

impl<S: AsyncWrite + Unpin> Worded<S> {
    pub(crate) fn new(role: &'static str, stream: S) -> Self {
        Self {
            stream,
            role,
            rest: Vec::new(),
        }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Worded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Worded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(cx))?;
        let last = bufs.iter().rfind(|buf| !buf.is_empty());
        let Some((status, begin)) = last.and_then(|last| bare(last)) else {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        };
        let mut out: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let taken = out.len();
        // The bytes before it are answers to earlier requests.
        let head = out.split_off(taken - last.map_or(0, |last| last.len()) + begin);
        out.extend(worded(self.role, status, &head));
        self.rest = out;
        // As much of it is sent as possible. A flush sends the rest.
        let _ = self.poll_rest(cx)?;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The status of an answer of hyper's own at the end of what is sent, and where it begins. An answer of ours
/// has a name in its head, and no body of ours ends like a head.
fn bare(sent: &[u8]) -> Option<(StatusCode, usize)> {
    if !sent.ends_with(b"\r\n\r\n") {
        return None;
    }
    let begin = sent
        .windows(BEGINNING.len())
        .rposition(|at| at == BEGINNING)?;
    let head = &sent[begin..];
    let is_bare = head.windows(NOTHING.len()).any(|at| at == NOTHING);
    let status = StatusCode::from_bytes(head.get(9..12)?).ok()?;
    (is_bare && head.windows(2).filter(|at| at == b"\r\n").count() == 5).then_some((status, begin))
}

/// The same answer with a problem document.
fn worded(role: &'static str, status: StatusCode, head: &[u8]) -> Vec<u8> {
    let (code, detail) = match status {
        StatusCode::URI_TOO_LONG => ("uri_too_long", "the request's address is too long"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "head_too_large",
            "the request's head, its address and headers, has more than 32 KiB or too many headers",
        ),
        _ => ("malformed_request", "this is no HTTP/1.1 request"),
    };
    REQUESTS.with([role, "other", code]).increment(1);
    let body = problem::text(status, code, detail, Map::new());
    let head = String::from_utf8_lossy(head);
    let (before, after) = head.split_once("content-length: 0\r\n").unwrap_or_default();
    let name = RequestId::new();
    format!(
        "{before}content-type: application/problem+json\r\ncontent-length: {}\r\n{}: {}\r\n{after}{body}",
        body.len(),
        crate::REQUEST_ID,
        name.loggable(),
    )
    .into_bytes()
}
