//! From a body to its events, each read by itself.

use std::task::Poll;

use rivulet_events::{
    Code, Parsed, Rejection,
    batch::{self, InvalidUtf8},
    free_text::Counts,
    parse,
};

use crate::{
    account::{Account, SHORT, Slice},
    body::Media,
    problem::Problem,
};

/// Bytes of events that are worked on before the next look at whether the turn is over.
const STEP: usize = 16 << 10;

/// The events of a body, as text.
struct Found<'a> {
    sent_at: Option<i64>,
    dropped: Option<&'a str>,
    events: Vec<Result<&'a str, InvalidUtf8>>,
}

/// A body that was read.
pub(crate) struct Read<'a> {
    pub(crate) sent_at: Option<i64>,
    /// What the client says that it lost, for [`batch::lost`].
    pub(crate) dropped: Option<&'a str>,
    pub(crate) events: Vec<Parsed<'a>>,
}

/// Finds the events in a body, pays for them, and reads each by itself.
pub(crate) async fn read<'a>(
    account: &mut Account<'_>,
    media: Media,
    body: &'a [u8],
) -> Result<Read<'a>, Problem> {
    let config = &account.app().config;
    let limits = parse::Limits {
        max_bytes: config.max_event_bytes,
        max_depth: config.max_event_depth,
        personal_data: config.personal_data,
    };
    let is_long = body.len() > SHORT;
    let find = || find(media, body, config.max_events);
    let Found {
        sent_at,
        dropped,
        events,
    } = match is_long {
        true => account.work(true, |_: &Slice| Poll::Ready(find())).await?,
        // This costs less than the token that every request pays, so its CPU time is not measured.
        false => find(),
    }?;
    account.pay(events.len())?;
    let mut parsed = Vec::with_capacity(events.len());
    let mut events = events.into_iter();
    let parse = |slice: &Slice| {
        in_steps(slice, events.by_ref(), |event| {
            let bytes = event.map_or(0, str::len);
            parsed.push(match event {
                Ok(json) => parse::event(json, limits),
                Err(InvalidUtf8) => Parsed {
                    json: "",
                    id: None,
                    warnings: Vec::new(),
                    personal_data: Counts::default(),
                    doubtful: false,
                    outcome: Err(Rejection::whole(Code::InvalidJson, "the line is not UTF-8")),
                },
            });
            bytes
        })
    };
    account.work(is_long, parse).await?;
    Ok(Read {
        sent_at,
        dropped,
        events: parsed,
    })
}

fn find(media: Media, body: &[u8], max_events: usize) -> Result<Found<'_>, Problem> {
    Ok(match media {
        Media::Json => {
            let text = simdutf8::basic::from_utf8(body)
                .map_err(|_| Problem::InvalidBody("the body is not UTF-8".into()))?;
            let batch = batch::json(text, max_events)?;
            Found {
                sent_at: batch.sent_at,
                dropped: batch.dropped,
                events: batch.events.into_iter().map(Ok).collect(),
            }
        }
        Media::Ndjson => Found {
            sent_at: None,
            dropped: None,
            events: batch::ndjson(body, max_events)?,
        },
    })
}

/// Calls `each` with one item after the other, until all are done or the slice is over. It returns how many bytes it
/// worked on.
pub(crate) fn in_steps<T>(
    slice: &Slice,
    all: impl Iterator<Item = T>,
    mut each: impl FnMut(T) -> usize,
) -> Poll<()> {
    let mut bytes = 0;
    for next in all {
        bytes += each(next);
        // To look at the clock costs as much as to read an event.
        if bytes > STEP {
            bytes = 0;
            if slice.is_over(0) {
                return Poll::Pending;
            }
        }
    }
    Poll::Ready(())
}

/// Whether the body should be repaired and read once more, because the parser may have been wrong.
pub(crate) fn is_doubtful(read: &Result<Read<'_>, Problem>) -> bool {
    match read {
        Ok(read) => read.events.iter().any(|parsed| parsed.doubtful),
        Err(problem) => matches!(problem, Problem::InvalidBody(_)),
    }
}
