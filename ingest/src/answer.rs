//! The answer to a batch, written by hand: one buffer, no tree.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat};
use rivulet_events::{EventType, Rejection};
use rivulet_web::RequestId;

use crate::shares::{Held, Reservation};

/// What the answer says of one event.
pub(crate) struct Line<'a> {
    pub(crate) id: Option<Cow<'a, str>>,
    pub(crate) warnings: Vec<String>,
    pub(crate) outcome: Outcome,
}

/// What became of one event: it was accepted, rejected for good, or not stored.
pub(crate) enum Outcome {
    Accepted(EventType),
    /// Accepted, and for now on this node's disk.
    Spilled(EventType),
    Rejected(Rejection),
    Retry(EventType),
}

/// What the answer says of the request as a whole.
pub(crate) struct Summary<'r> {
    pub(crate) request_id: &'r RequestId,
    /// Unix milliseconds.
    pub(crate) received_at: i64,
    /// (accepted, rejected, retry)
    pub(crate) totals: (u64, u64, u64),
    /// List plainly accepted events too.
    pub(crate) verbose: bool,
    /// Nothing of it was stored.
    pub(crate) is_dry_run: bool,
}

/// An answer. Until it is sent, its request counts as in progress.
pub(crate) struct Sent {
    pub(crate) json: Held,
    pub(crate) _in_progress: Reservation,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.json.bytes
    }
}

/// The answer's JSON. It counts against its sender's share until it is sent, so that clients who do not
/// read cannot pile up answers; an answer that is due is never refused for that.
pub(crate) fn write(
    summary: &Summary<'_>,
    lines: &[Line<'_>],
    mut reservation: Reservation,
) -> Held {
    let mut out = Vec::with_capacity(256 + if summary.verbose { lines.len() * 96 } else { 0 });
    out.extend_from_slice(b"{\"request_id\":\"");
    out.extend_from_slice(summary.request_id.bytes());
    out.extend_from_slice(b"\",\"received_at\":\"");
    let received_at = DateTime::from_timestamp_millis(summary.received_at).unwrap_or_default();
    let received_at = received_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    out.extend_from_slice(received_at.as_bytes());
    let (accepted, rejected, retry) = summary.totals;
    for (name, count) in [
        (&b"\",\"accepted\":"[..], accepted),
        (b",\"rejected\":", rejected),
        (b",\"retry\":", retry),
    ] {
        out.extend_from_slice(name);
        number(&mut out, count);
    }
    if summary.is_dry_run {
        out.extend_from_slice(b",\"dry_run\":true");
    }
    out.extend_from_slice(b",\"results\":[");
    let mut first = true;
    for (index, line) in lines.iter().enumerate() {
        let plain = matches!(line.outcome, Outcome::Accepted(_)) && line.warnings.is_empty();
        if plain && !summary.verbose {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        result(&mut out, index, line);
    }
    out.extend_from_slice(b"]}");
    reservation.grow_regardless(out.capacity());
    Held {
        bytes: out,
        reservation,
    }
}

fn result(out: &mut Vec<u8>, index: usize, line: &Line<'_>) {
    out.extend_from_slice(b"{\"index\":");
    number(out, index as u64);
    out.extend_from_slice(b",\"id\":");
    match &line.id {
        Some(id) => string(out, id),
        None => out.extend_from_slice(b"null"),
    }
    match &line.outcome {
        Outcome::Accepted(_) => out.extend_from_slice(b",\"outcome\":\"accepted\""),
        Outcome::Spilled(_) => {
            out.extend_from_slice(b",\"outcome\":\"accepted\",\"durability\":\"spilled\"")
        }
        Outcome::Retry(_) => out.extend_from_slice(b",\"outcome\":\"retry\""),
        Outcome::Rejected(rejection) => {
            out.extend_from_slice(b",\"outcome\":\"rejected\",\"code\":\"");
            out.extend_from_slice(rejection.code.as_str().as_bytes());
            out.push(b'"');
            if let Some(pointer) = &rejection.pointer {
                out.extend_from_slice(b",\"pointer\":");
                string(out, pointer);
            }
            out.extend_from_slice(b",\"message\":");
            string(out, &rejection.message);
        }
    }
    if !line.warnings.is_empty() {
        out.extend_from_slice(b",\"warnings\":[");
        for (index, warning) in line.warnings.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            string(out, warning);
        }
        out.push(b']');
    }
    out.push(b'}');
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Into a `Vec` this cannot fail.
    let _ = serde_json::to_writer(out, text);
}
