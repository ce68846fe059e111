//! `POST /v1/events`: from a body to an answer.

use std::{borrow::Cow, collections::HashMap, sync::Arc, task::Poll, time::Instant};

use ahash::RandomState;
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use rivulet_events::{
    Admitted, ChildId, Clocks, Event, ParentId, Parsed, Registration, batch, repair,
};
use rivulet_registry::{Known, declarations::Invalid, keys::Scope};
use rivulet_telemetry::{Span, SpanKind};
use rivulet_web::RequestId;

use crate::{
    account::{Account, SHORT, Slice},
    answer::{self, Line, Outcome, Sent, Summary},
    body::Media,
    clock::unix_millis_now,
    described::{Batch, NDJSON, OfEvents, Receipt, SentAt},
    memory,
    metrics::{self, Tally},
    open_request::{OpenRequest, ReceivedRequest},
    problem::Problem,
    producer::{Failed, Places, Room, Sending},
    reading::{Read, in_steps, is_doubtful, read},
    sender::SenderId,
    shares::Reservation,
    state::App,
    tail::Answered,
};

const X_SENT_AT: HeaderName = HeaderName::from_static("x-sent-at");

/// Post a batch of events
///
/// Takes an API key with scope `ingest`, or a client token, which speaks for one family. Answers 200
/// once the request was understood, whatever became of the single events: `results` says. An event that
/// is sent again, with the same `id` and `occurred_at`, is counted once. The body may have a
/// `Content-Encoding` of gzip, zstd, br or deflate, and has 1 MiB at most as sent and 8 MiB inflated.
/// Web pages may post from everywhere, unless the operator or the key names the origins that may.
///
/// With the query `dry_run=true` every event is judged as without it, the answer is the same, and nothing is stored. It
/// costs as many tokens.
#[utoipa::path(
    post,
    path = "/v1/events",
    operation_id = "post_events",
    tag = "events",
    // `dry_run` is for people: a further parameter would change the signature of clients that are generated.
    params(
        ("verbose" = Option<bool>, Query,
         description = "`false`: list only what is not plainly accepted (warnings and spills are listed)."),
        SentAt,
    ),
    request_body(
        description = "As NDJSON, one event a line.",
        content((Batch = "application/json"), (String = "application/x-ndjson", example = json!(NDJSON))),
    ),
    responses(
        (status = 200, description = "Understood: what became of each event", body = Receipt,
         headers(("Retry-After" = u64, description = "Seconds to wait before what was not stored is sent again."))),
        OfEvents,
    ),
    security(("key" = ["ingest"]), ("token" = [])),
)]
pub(crate) async fn post(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match process(&app, &parts, body).await {
        Ok(response) => response,
        Err(problem) => {
            app.tails.tell_refused(&parts, &problem, unix_millis_now());
            problem.into_response()
        }
    }
}

/// Leads a request through all steps, from its body to its answer.
async fn process(app: &App, parts: &Parts, body: Body) -> Result<Response, Problem> {
    let accepts = "application/json or application/x-ndjson";
    let ReceivedRequest {
        request,
        media,
        mut body,
    } = app.receive(parts, body, Scope::Ingest, accepts).await?;
    let OpenRequest {
        sender,
        mut account,
        in_progress,
        head: _head,
    } = request;
    let received_at = unix_millis_now();
    let header_sent_at = match parts.headers.get(X_SENT_AT) {
        None => None,
        Some(value) => Some(read_time(value).ok_or(Problem::InvalidSentAt)?),
    };
    let is_dry_run = is_dry_run(parts)?;
    app.metrics.body_bytes.increment(body.bytes.len() as u64);

    let mut found = read(&mut account, media, &body.bytes).await;
    if is_doubtful(&found) {
        drop(found);
        let is_long = body.bytes.len() > SHORT;
        let repair = |_: &Slice| {
            match media {
                Media::Json => repair::json(&mut body.bytes),
                Media::Ndjson => repair::ndjson(&mut body.bytes),
            };
            Poll::Ready(())
        };
        account.work(is_long, repair).await?;
        found = read(&mut account, media, &body.bytes).await;
    }
    let Read {
        sent_at: body_sent_at,
        dropped,
        events: parsed,
    } = found?;
    app.metrics.request_events.record(parsed.len() as f64);
    app.metrics.personal_data(&parsed);
    sender.may_post(&parsed)?;
    let clocks = Clocks {
        received_at,
        sent_at: header_sent_at.or(body_sent_at),
    };
    let children = Children::of(&parsed);
    // `None` while nobody watches.
    let envelopes = app.tails.envelopes(&parsed, app.config.max_event_depth);
    let places = envelopes.as_ref().map(|_| Places::default());
    // Nobody can say of which family a child is where every child is registered.
    let family = sender.family().filter(|_| !app.registry.has_every_child());
    let known = ask_registry(app, family, &parsed, &children).await;
    let span = parts.extensions.get::<Span>().filter(|_| !is_dry_run);
    let send = span.map(|span| span.child("send", SpanKind::Producer));
    let mut sending = app.stores.as_ref().filter(|_| !is_dry_run).map(|stores| {
        let room = room_for(app, sender.id(), &parsed);
        let producer = &stores.producer;
        producer.begin(send.as_ref(), room, places.clone())
    });
    let is_long = body.bytes.len() > SHORT;
    let context = Context {
        family,
        children: &children,
        known: &known,
        clocks: &clocks,
    };
    let mut lines = send_events(&mut account, is_long, &context, parsed, sending.as_mut()).await?;
    let failed = match sending {
        Some(sending) => wait_for_acks(app, sending).await,
        None => Vec::new(),
    };
    if !failed.is_empty() {
        spill_failed(app, failed, received_at, &mut lines).await;
    }
    let request_id = parts
        .extensions
        .get::<RequestId>()
        .ok_or(Problem::Internal)?;
    if let (Some(envelopes), Some(places)) = (envelopes, &places) {
        let answered = Answered {
            sender: &sender,
            request_id,
            clocks: &clocks,
            is_dry_run,
            envelopes,
            lines: &lines,
            places,
        };
        app.tails
            .tell(app, &answered, |index| context.is_withheld(index));
    }
    if app.stores.is_none() {
        memory::tell(&lines);
    }
    let tally = tally(&lines);
    match is_dry_run {
        true => metrics::dry_run(&tally),
        false => app.metrics.events(&tally),
    }

    let totals @ (accepted, rejected, retry) = tally.totals();
    if let (Some(span), Some(send)) = (span, send) {
        send.set("messaging.system", "kafka");
        send.set("messaging.operation.name", "send");
        send.set("messaging.operation.type", "send");
        send.set("messaging.batch.message_count", (accepted + retry) as i64);
        if retry > 0 {
            send.failed("retry");
        }
        span.set("rivulet.accepted", accepted as i64);
        span.set("rivulet.rejected", rejected as i64);
        span.set("rivulet.retry", retry as i64);
    }
    if retry > 0 && accepted == 0 {
        return Err(Problem::Unavailable(
            "nothing could be stored now; send the same request again",
            app.config.retry_after,
        ));
    }
    // A client that gets another answer than 200 says it again.
    if let Some(dropped) = dropped.filter(|_| !is_dry_run) {
        metrics::lost(dropped);
    }
    let verbose = parts.uri.query().is_none_or(|query| {
        let terse = |pair| pair == "verbose=false";
        !query.split('&').any(terse)
    });
    let summary = Summary {
        request_id,
        received_at,
        totals,
        verbose,
        is_dry_run,
    };
    let answer = Sent {
        json: answer::write(&summary, &lines, account.reserve()),
        _in_progress: in_progress,
    };
    let mut response = Response::new(Body::from(Bytes::from_owner(answer)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if retry > 0 {
        let seconds = app.config.retry_after.as_secs().max(1);
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if app.stores.is_none() {
        headers.insert(memory::STORAGE, HeaderValue::from_static("none"));
    }
    Ok(response)
}

/// Whether `?dry_run=true`. Of another word nobody can say whether its events are to be stored.
fn is_dry_run(parts: &Parts) -> Result<bool, Problem> {
    let pairs = parts.uri.query().unwrap_or_default().split('&');
    let mut given = pairs.filter_map(|pair| match pair.split_once('=').unwrap_or((pair, "")) {
        ("dry_run", value) => Some(value),
        _ => None,
    });
    match (given.next(), given.next()) {
        (None, _) | (Some("false"), None) => Ok(false),
        (Some("true"), None) => Ok(true),
        _ => Err(Problem::InvalidField(BAD_DRY_RUN)),
    }
}

/// The parameter `dry_run` is not understood.
pub(crate) const BAD_DRY_RUN: Invalid = Invalid {
    pointer: Cow::Borrowed("/dry_run"),
    message: "must be true or false, once; nothing of this request was taken",
};

/// Reserves room in the producer's queue, one record for each valid event, if that is within the sender's share.
fn room_for(app: &App, sender: SenderId, parsed: &[Parsed<'_>]) -> Room {
    let valid = parsed.iter().filter(|parsed| parsed.outcome.is_ok());
    let mut reservation = Reservation::none(Arc::clone(&app.records), sender);
    match reservation.grow(valid.count()) {
        true => Room::Share { _held: reservation },
        false => {
            app.count_over_share("records");
            Room::None
        }
    }
}

fn read_time(value: &HeaderValue) -> Option<i64> {
    batch::parse_time(value.to_str().ok()?.trim())
}

/// The distinct children of a request, and which of them each event is of.
struct Children {
    ids: Vec<ChildId>,
    /// The index of each event's child. It means nothing for events that were rejected already.
    of_event: Vec<u32>,
}

impl Children {
    fn of(parsed: &[Parsed<'_>]) -> Self {
        let mut ids: Vec<ChildId> = Vec::new();
        let mut indexes: HashMap<ChildId, u32, RandomState> = HashMap::default();
        let mut last = 0;
        let of_event = parsed
            .iter()
            .map(|parsed| {
                // SDKs send the events of one child together, so mostly it is the child of the event before.
                if let Ok(event) = &parsed.outcome
                    && ids.get(last as usize) != Some(&event.child_id)
                {
                    last = *indexes.entry(event.child_id).or_insert_with(|| {
                        ids.push(event.child_id);
                        (ids.len() - 1) as u32
                    });
                }
                last
            })
            .collect();
        Self { ids, of_event }
    }
}

/// The child as this sender may know it. A sender that speaks for one family gets the same answer for a child of another
/// family as for one that is not registered: it must not learn that the child exists.
fn of_family(family: Option<ParentId>, child: Option<&Registration>) -> Option<&Registration> {
    child.filter(|child| family.is_none_or(|family| child.parent_id == family))
}

/// What the registry knows of each child. Where a cached answer would refuse an event, PostgreSQL has been read again.
async fn ask_registry(
    app: &App,
    family: Option<ParentId>,
    parsed: &[Parsed<'_>],
    children: &Children,
) -> Vec<Known> {
    let mut known = app.registry.lookup(&children.ids).await;
    let mut doubtful: Vec<u32> = Vec::new();
    for (parsed, child) in parsed.iter().zip(&children.of_event) {
        if let Ok(event) = &parsed.outcome
            && let Known::Cached(registration) = &known[*child as usize]
            && Registration::check(of_family(family, Some(registration)), event.event_type())
                .is_err()
        {
            doubtful.push(*child);
        }
    }
    if doubtful.is_empty() {
        return known;
    }
    doubtful.sort_unstable();
    doubtful.dedup();
    let asked: Vec<ChildId> = doubtful
        .iter()
        .map(|child| children.ids[*child as usize])
        .collect();
    if let Ok(read) = app.registry.read(&asked).await {
        for (child, now) in doubtful.into_iter().zip(read) {
            known[child as usize] = now;
        }
    }
    known
}

/// What a request's events have in common: it decides whether each of them is taken, and goes into the records.
struct Context<'p> {
    family: Option<ParentId>,
    children: &'p Children,
    known: &'p [Known],
    clocks: &'p Clocks,
}

impl Context<'_> {
    /// Whether an event that is taken is kept out of the history.
    fn is_withheld(&self, index: usize) -> bool {
        match &self.known[self.children.of_event[index] as usize] {
            Known::Cached(child) => !child.analytics,
            Known::Read(child) => child.as_ref().is_some_and(|child| !child.analytics),
            Known::Unavailable => false,
        }
    }
}

/// Judges each event, and hands the records of those that may be taken to Kafka's producer, but in a dry run. Returns what
/// the answer says of each event, provided that Kafka acknowledges all of the records.
async fn send_events<'a>(
    account: &mut Account<'_>,
    is_long: bool,
    context: &Context<'_>,
    parsed: Vec<Parsed<'a>>,
    mut sending: Option<&mut Sending<'_>>,
) -> Result<Vec<Line<'a>>, Problem> {
    let mut buffer = Vec::with_capacity(1 << 10);
    let mut lines = Vec::with_capacity(parsed.len());
    let mut failed = None;
    let mut events = parsed.into_iter().enumerate();
    let mut send = |slice: &Slice| {
        in_steps(slice, events.by_ref(), |(index, parsed)| {
            buffer.clear();
            let outcome = match parsed.outcome {
                Err(rejection) => Ok(Outcome::Rejected(rejection)),
                Ok(event) => {
                    let known = &context.known[context.children.of_event[index] as usize];
                    match admit(context.family, event, known) {
                        Ok(event) => {
                            let sending = sending.as_deref_mut();
                            send_event(event, context.clocks, index, sending, &mut buffer)
                        }
                        Err(outcome) => Ok(outcome),
                    }
                }
            };
            match outcome {
                Ok(outcome) => lines.push(Line {
                    id: parsed.id,
                    warnings: parsed.warnings,
                    outcome,
                }),
                Err(problem) => failed = Some(problem),
            }
            buffer.len()
        })
    };
    match is_long {
        true => account.work(true, send).await?,
        // This is too little work to measure its CPU time.
        false => drop(send(&Slice::Short(usize::MAX))),
    }
    match failed {
        None => Ok(lines),
        Some(problem) => Err(problem),
    }
}

/// Waits until Kafka has answered for every record of the request. Returns those that it does not have.
async fn wait_for_acks(app: &App, sending: Sending<'_>) -> Vec<Failed> {
    let began = Instant::now();
    let failed = sending.wait().await;
    app.metrics.acks.record(began.elapsed());
    failed
}

fn tally(lines: &[Line<'_>]) -> Tally {
    let mut tally = Tally::default();
    for line in lines {
        match &line.outcome {
            Outcome::Accepted(kind) | Outcome::Spilled(kind) => tally.accepted(*kind),
            Outcome::Retry(kind) => tally.retry(*kind),
            Outcome::Rejected(rejection) => tally.rejected(rejection.code),
        }
    }
    tally
}

/// Spills the records that Kafka did not take and may take later. Corrects what the answer says of their events.
async fn spill_failed(app: &App, failed: Vec<Failed>, received_at: i64, lines: &mut [Line<'_>]) {
    let (mut spilled, mut records) = (Vec::new(), Vec::new());
    for Failed { index, record } in failed {
        let outcome = &mut lines[index as usize].outcome;
        if let Outcome::Accepted(kind) = *outcome {
            *outcome = Outcome::Retry(kind);
        }
        if let Some(record) = record {
            spilled.push(index);
            records.push(record);
        }
    }
    let stores = app.stores.as_ref();
    if let Some(spill) = stores.and_then(|stores| stores.spill.as_ref())
        && spill.keep(received_at, records).await
    {
        for index in spilled {
            let outcome = &mut lines[index as usize].outcome;
            if let Outcome::Retry(kind) = *outcome {
                *outcome = Outcome::Spilled(kind);
            }
        }
    }
}

/// Admits the event, or says why it cannot be taken now.
fn admit<'r, 'a>(
    family: Option<ParentId>,
    event: Event<'a>,
    known: &'r Known,
) -> Result<Admitted<'r, 'a>, Outcome> {
    let kind = event.event_type();
    match known {
        Known::Unavailable => Err(Outcome::Retry(kind)),
        Known::Cached(registration) => {
            let admitted = event.admit(of_family(family, Some(registration)));
            // The cached answer would refuse the event, but PostgreSQL could not be read again.
            admitted.map_err(|_| Outcome::Retry(kind))
        }
        Known::Read(registration) => {
            let admitted = event.admit(of_family(family, registration.as_ref()));
            admitted.map_err(Outcome::Rejected)
        }
    }
}

/// Makes the event's record and hands it to Kafka's producer. `Accepted` is true only once Kafka acknowledges it.
fn send_event(
    event: Admitted<'_, '_>,
    clocks: &Clocks,
    index: usize,
    sending: Option<&mut Sending<'_>>,
    buffer: &mut Vec<u8>,
) -> Result<Outcome, Problem> {
    let record = match event.into_record(clocks) {
        Ok(record) => record,
        Err(rejection) => return Ok(Outcome::Rejected(rejection)),
    };
    let (kind, child) = (record.event_type, record.child_id);
    let Some(sending) = sending else {
        return Ok(Outcome::Accepted(kind));
    };
    if sending.is_hopeless() {
        return Ok(Outcome::Retry(kind));
    }
    buffer.clear();
    record.encode(buffer).map_err(|error| {
        tracing::error!(%error, "a valid event could not be encoded");
        Problem::Internal
    })?;
    sending.send(index as u32, kind, child, buffer);
    Ok(Outcome::Accepted(kind))
}
