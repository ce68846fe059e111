//! Reading a body within its limits of bytes and time.

use std::time::Duration;

use axum::body::HttpBody as _;
use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use rivulet_web::CONNECTION_BUFFER;
use tokio::time::{Instant, timeout_at};

use crate::{
    account::Account,
    decoder::Encoding,
    inflate::{InflateError, Inflating},
    problem::Problem,
    shares::Held,
};

/// The largest size of a body's first buffer, whatever `Content-Length` says.
const FIRST_BUFFER: usize = 16 << 10;

/// A compressed body of up to this many bytes is inflated at once, without waiting for a turn, unless it inflates to
/// many bytes.
const SHORT_COMPRESSED: usize = 16 << 10;

/// How long the rest of a refused body is read, so that its sender gets to see the answer.
const LINGER: Duration = Duration::from_secs(1);

/// The type of the body, as its headers give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Ndjson,
}

/// `Content-Type` without its parameters.
pub(crate) fn media(headers: &HeaderMap) -> Option<Media> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let name = value.split(';').next()?.trim();
    if name.eq_ignore_ascii_case("application/json") {
        Some(Media::Json)
    } else if name.eq_ignore_ascii_case("application/x-ndjson") {
        Some(Media::Ndjson)
    } else {
        None
    }
}

/// `Content-Encoding`. A list of several encodings is refused like an unknown one.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let known = match (values.next(), values.next()) {
        (None, _) => Some(Encoding::Identity),
        (Some(only), None) => only.to_str().ok().and_then(Encoding::from_name),
        (Some(_), Some(_)) => None,
    };
    known.ok_or(Problem::UnsupportedEncoding)
}

/// The whole body, inflated.
pub(crate) async fn read(
    account: &mut Account<'_>,
    body: &mut Body,
    encoding: Encoding,
) -> Result<Held, Problem> {
    let wire = receive(account, body).await?;
    if encoding == Encoding::Identity {
        return Ok(wire);
    }
    let app = account.app();
    let max = app.config.max_inflated_bytes;
    let problem = |error| match error {
        InflateError::Corrupt => {
            Problem::InvalidBody("the body is not what its Content-Encoding says".into())
        }
        InflateError::TooLarge => Problem::BodyTooLarge(max),
        InflateError::Busy => app.over_share("bytes"),
    };
    let inflating = Inflating::new(encoding, &wire.bytes, max, || account.reserve());
    let mut inflating = inflating.map_err(problem)?;
    // The first bytes of a Brotli body may say that there is much to do before anything comes of it.
    let is_long = encoding == Encoding::Brotli || wire.bytes.len() > SHORT_COMPRESSED;
    let inflated = account.work(is_long, |slice| inflating.go_on(slice));
    inflated.await?.map_err(problem)?;
    Ok(inflating.into_body())
}

/// The body as sent.
async fn receive(account: &Account<'_>, body: &mut Body) -> Result<Held, Problem> {
    let config = &account.app().config;
    let max = config.max_wire_bytes;
    let declared = body.size_hint().lower();
    if declared > max as u64 {
        return Err(Problem::BodyTooLarge(max));
    }
    let deadline = Instant::now() + config.body_timeout;
    let mut held = Held {
        bytes: Vec::new(),
        reservation: account.reserve(),
    };
    // The memory of the connection's own buffer, which is needed too while the body is being received.
    let mut buffer = account.reserve();
    if !buffer.grow(CONNECTION_BUFFER) {
        return Err(account.app().over_share("bytes"));
    }
    // A large `Content-Length` reserves no memory before the bytes come.
    let mut next_step = (declared as usize).min(FIRST_BUFFER);
    loop {
        let Ok(next) = timeout_at(deadline, next(body)).await else {
            return Err(Problem::Timeout(config.body_timeout));
        };
        let Some(chunk) = next? else {
            return Ok(held);
        };
        let needed = held.bytes.len() + chunk.len();
        if needed > max {
            return Err(Problem::BodyTooLarge(max));
        }
        if needed > held.bytes.capacity() {
            let step = next_step.max(needed - held.bytes.capacity());
            if !held.reservation.grow(step) {
                return Err(account.app().over_share("bytes"));
            }
            let capacity = held.bytes.capacity() + step;
            held.bytes.reserve_exact(capacity - held.bytes.len());
            next_step = capacity;
        }
        held.bytes.extend_from_slice(&chunk);
    }
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                // Trailers mean nothing here.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(_)) => {
                return Err(Problem::InvalidBody("the body ended before its end".into()));
            }
        }
    }
}

/// Reads and drops what comes for a moment after a refusal, at most `most` bytes. If the connection were closed while
/// the sender is still writing, the answer would be lost.
pub(crate) async fn discard(most: usize, mut body: Body) {
    let deadline = Instant::now() + LINGER;
    let mut left = most;
    while let Ok(Ok(Some(chunk))) = timeout_at(deadline, next(&mut body)).await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// Whether the sender waits for `100 Continue` before it sends its body. Such a request can be refused without reading
/// the body.
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.contains_key(header::EXPECT)
}
