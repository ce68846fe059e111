//! `GET /v1/admin/tail`: each event that is answered now, told to whoever watches.
//!
//! Nothing waits for a watcher: each has a queue, what does not fit into it is counted, and the watcher is told how many it
//! missed. While nobody watches, a request costs one relaxed load. What is told has no content: of an event its envelope, its
//! answer, and where Kafka has it.

use std::{
    borrow::Cow,
    cell::LazyCell,
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ahash::RandomState;
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use chrono::DateTime;
use futures_util::stream;
use parking_lot::{Mutex, RwLock};
use rivulet_auditlog::{Acting, Action, Actor, Outcome as Done, Subject, hex_hash};
use rivulet_events::{ChildId, Clocks, Envelope, Parsed};
use rivulet_inspect::{Durability, Filter, Missed, Observation, Outcome};
use rivulet_registry::{
    declarations::Invalid,
    keys::{self, Scope},
};
use rivulet_web::{Peer, RequestId};
use serde::Serialize;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use utoipa::ToSchema;

use crate::{
    answer::{self, Line},
    auth::{self, Sender},
    described::OfTail,
    metrics::{TAIL_MISSED, TAIL_WATCHERS},
    problem::Problem,
    producer::{Place, Places},
    sender::{KeyHash, SenderId},
    state::App,
};

/// Who may watch a node at the same time.
const MOST_WATCHERS: usize = 8;

/// Observations that wait for one watcher: less than 2 MB.
const QUEUE: usize = 4_000;

/// Observations that are sent at once.
const AT_ONCE: usize = 256;

/// After so long without an event a comment is sent, and the credential is looked at.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long somebody watches before they have to come back.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Names of keys that a watcher remembers.
const NAMES: usize = 1_000;

/// Whoever watches this node.
#[derive(Default)]
pub(crate) struct Tails {
    /// As many as there are watchers.
    watching: AtomicUsize,
    watchers: RwLock<Vec<Arc<Watcher>>>,
}

struct Watcher {
    filter: Filter,
    /// Of the key that the filter names.
    key: Option<KeyHash>,
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Default)]
struct Queue {
    seen: VecDeque<Arc<Seen>>,
    missed: u64,
}

/// An observation, still without the name of the key.
struct Seen {
    sender: Option<SenderId>,
    observation: Observation,
}

/// What filters look at.
struct Glance<'g> {
    sender: Option<SenderId>,
    child: Option<ChildId>,
    code: Option<&'g str>,
    outcome: Outcome,
}

impl Watcher {
    fn wants(&self, glance: &Glance<'_>) -> bool {
        let Filter {
            child,
            code,
            outcome,
            ..
        } = &self.filter;
        child.is_none_or(|child| glance.child == Some(ChildId::new(child)))
            && self
                .key
                .is_none_or(|key| glance.sender == Some(SenderId::Key(key)))
            && code.as_deref().is_none_or(|code| glance.code == Some(code))
            && outcome.is_none_or(|outcome| glance.outcome == outcome)
    }

    fn push(&self, seen: Arc<Seen>) {
        let mut queue = self.queue.lock();
        if queue.seen.len() < QUEUE {
            queue.seen.push_back(seen);
        } else {
            queue.missed += 1;
            TAIL_MISSED.increment(1);
        }
        drop(queue);
        self.news.notify_one();
    }
}

/// A request whose events were answered.
pub(crate) struct Answered<'r> {
    pub(crate) sender: &'r Sender,
    pub(crate) request_id: &'r RequestId,
    pub(crate) clocks: &'r Clocks,
    pub(crate) is_dry_run: bool,
    /// Of each event.
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) lines: &'r [Line<'r>],
    pub(crate) places: &'r Places,
}

impl Tails {
    fn is_watched(&self) -> bool {
        self.watching.load(Ordering::Relaxed) > 0
    }

    /// The envelopes of a request's events, if somebody watches.
    pub(crate) fn envelopes(&self, parsed: &[Parsed<'_>], max_depth: u8) -> Option<Vec<Envelope>> {
        let envelopes = parsed.iter().map(|parsed| parsed.envelope(max_depth));
        self.is_watched().then(|| envelopes.collect())
    }

    /// Tells of each event of a request. `is_withheld` says of which nothing goes into the history.
    pub(crate) fn tell(
        &self,
        app: &App,
        answered: &Answered<'_>,
        is_withheld: impl Fn(usize) -> bool,
    ) {
        let mut places: HashMap<u32, Place, RandomState> = HashMap::default();
        places.extend(
            answered
                .places
                .lock()
                .iter()
                .map(|place| (place.index, *place)),
        );
        for (index, (envelope, line)) in answered.envelopes.iter().zip(answered.lines).enumerate() {
            let rejection = match &line.outcome {
                answer::Outcome::Rejected(rejection) => Some(rejection),
                _ => None,
            };
            let glance = Glance {
                sender: Some(answered.sender.id()),
                child: envelope.child_id,
                code: rejection.map(|rejection| rejection.code.as_str()),
                outcome: match line.outcome {
                    answer::Outcome::Accepted(_) | answer::Outcome::Spilled(_) => Outcome::Accepted,
                    answer::Outcome::Rejected(_) => Outcome::Rejected,
                    answer::Outcome::Retry(_) => Outcome::Retry,
                },
            };
            self.tell_of(&glance, || {
                let place = places.get(&(index as u32));
                let place = place.filter(|_| matches!(line.outcome, answer::Outcome::Accepted(_)));
                let stores = app.stores.as_ref();
                let topic = |_: &Place| {
                    let producer = &stores?.producer;
                    Some(producer.topic(envelope.event_type?).to_owned())
                };
                let is_spilled = matches!(line.outcome, answer::Outcome::Spilled(_));
                Observation {
                    index: Some(index as u32),
                    id: envelope.id,
                    event_type: envelope.event_type.map(|kind| kind.as_str().to_owned()),
                    child_id: envelope.child_id.map(ChildId::uuid),
                    occurred_at: envelope
                        .occurred_at
                        .and_then(DateTime::from_timestamp_millis),
                    sent_at: answered
                        .clocks
                        .sent_at
                        .and_then(DateTime::from_timestamp_millis),
                    pointer: rejection
                        .and_then(|rejection| rejection.pointer.as_deref().map(str::to_owned)),
                    warnings: line.warnings.clone(),
                    durability: is_spilled.then_some(Durability::Spilled),
                    dry_run: answered.is_dry_run,
                    withheld: glance.outcome == Outcome::Accepted && is_withheld(index),
                    topic: place.and_then(topic),
                    partition: place.map(|place| place.partition),
                    offset: place.map(|place| place.offset),
                    ..observation(
                        text_of(answered.request_id),
                        answered.clocks.received_at,
                        &glance,
                    )
                }
            });
        }
    }

    /// Tells of a request that was refused as a whole.
    pub(crate) fn tell_refused(&self, parts: &Parts, problem: &Problem, received_at: i64) {
        let Some(request_id) = parts.extensions.get::<RequestId>() else {
            return;
        };
        if !self.is_watched() {
            return;
        }
        let (status, code) = problem.status_and_code();
        let glance = Glance {
            sender: None,
            child: None,
            code: Some(code),
            outcome: Outcome::Refused,
        };
        self.tell_of(&glance, || Observation {
            status: Some(status.as_u16()),
            ..observation(text_of(request_id), received_at, &glance)
        });
    }

    fn tell_of(&self, glance: &Glance<'_>, observation: impl Fn() -> Observation) {
        let seen = LazyCell::new(|| {
            Arc::new(Seen {
                sender: glance.sender,
                observation: observation(),
            })
        });
        let watchers = self.watchers.read();
        for watcher in watchers.iter().filter(|watcher| watcher.wants(glance)) {
            watcher.push(Arc::clone(&seen));
        }
    }

    /// `None` if there are too many already.
    fn watch(self: &Arc<Self>, filter: Filter, key: Option<KeyHash>) -> Option<Watching> {
        let mut watchers = self.watchers.write();
        if watchers.len() >= MOST_WATCHERS {
            return None;
        }
        let watcher = Arc::new(Watcher {
            filter,
            key,
            queue: Mutex::default(),
            news: Notify::new(),
        });
        watchers.push(Arc::clone(&watcher));
        self.watching.store(watchers.len(), Ordering::Relaxed);
        TAIL_WATCHERS.set(watchers.len() as f64);
        Some(Watching {
            tails: Arc::clone(self),
            watcher,
        })
    }
}

fn text_of(id: &RequestId) -> &str {
    std::str::from_utf8(id.bytes()).unwrap_or_default()
}

/// What an observation has of its request, and what filters look at.
fn observation(request_id: &str, received_at: i64, glance: &Glance<'_>) -> Observation {
    Observation {
        request_id: request_id.to_owned(),
        received_at: DateTime::from_timestamp_millis(received_at).unwrap_or_default(),
        key: None,
        family: match glance.sender {
            Some(SenderId::Family(parent)) => Some(hex_hash(parent.uuid())),
            _ => None,
        },
        index: None,
        id: None,
        event_type: None,
        child_id: None,
        occurred_at: None,
        sent_at: None,
        outcome: glance.outcome,
        status: None,
        code: glance.code.map(str::to_owned),
        pointer: None,
        warnings: Vec::new(),
        durability: None,
        dry_run: false,
        withheld: false,
        topic: None,
        partition: None,
        offset: None,
    }
}

/// A watcher, as long as somebody watches.
struct Watching {
    tails: Arc<Tails>,
    watcher: Arc<Watcher>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watchers = self.tails.watchers.write();
        watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
        self.tails.watching.store(watchers.len(), Ordering::Relaxed);
        TAIL_WATCHERS.set(watchers.len() as f64);
    }
}

impl Watching {
    fn has_news(&self) -> bool {
        let queue = self.watcher.queue.lock();
        !queue.seen.is_empty() || queue.missed > 0
    }

    /// Some observations, and how many did not fit after them.
    fn take(&self) -> (Vec<Arc<Seen>>, u64) {
        let mut queue = self.watcher.queue.lock();
        let some = queue.seen.len().min(AT_ONCE);
        let seen = queue.seen.drain(..some).collect();
        // They were missed after what is still in the queue.
        let missed = match queue.seen.is_empty() {
            true => std::mem::take(&mut queue.missed),
            false => 0,
        };
        (seen, missed)
    }
}

/// An event of the stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct TailEvent {
    /// `event` or `missed`.
    event: String,
    /// The JSON of an `Observation`, or of a `Missed`.
    data: String,
}

/// Watch what arrives
///
/// Off by default: `404` unless the node was started with `RIVULET_INSPECT=on`. Server-sent events: an `event` is the JSON of
/// an `Observation`, one for each event that this node answers from now on and one for each request that it refuses; a
/// `missed` says how many were not told, because they came faster than they were read. No content is told. A comment every
/// 15 s keeps the connection open. It ends after an hour, and when the key is revoked. 8 may watch a node.
#[utoipa::path(
    get,
    path = "/v1/admin/tail",
    operation_id = "tail",
    tag = "inspecting",
    params(Filter),
    responses(
        (status = 200, description = "A stream of such events", body = TailEvent, content_type = "text/event-stream"),
        OfTail,
    ),
    security(("key" = ["admin"])),
)]
pub(crate) async fn get(State(app): State<Arc<App>>, parts: Parts) -> Response {
    match open(&app, &parts).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

/// The parameter `key` is no key's name.
pub(crate) const BAD_KEY: Invalid = Invalid {
    pointer: Cow::Borrowed("/key"),
    message: "there is no API key of this name",
};

const TOO_MANY: &str = "8 watch this node already; come back when one of them has gone";

async fn open(app: &Arc<App>, parts: &Parts) -> Result<Response, Problem> {
    let request = app.open_request(parts, Some(Scope::Admin)).await?;
    let Sender::Key(by, _) = request.sender else {
        return Err(Problem::Internal);
    };
    let filter = Filter::of_query(parts.uri.query().unwrap_or_default());
    let filter = filter.map_err(|bad| Invalid {
        pointer: bad.pointer.into(),
        message: bad.message,
    })?;
    let key = match &filter.key {
        None => None,
        Some(name) => {
            let hash = keys::sha256_of(app.pool()?, name).await;
            Some(hash.map_err(|_| app.cut_off())?.ok_or(BAD_KEY)?)
        }
    };
    let peer = parts.extensions.get::<Peer>().ok_or(Problem::Internal)?;
    let too_many = || Problem::Unavailable(TOO_MANY, app.config.retry_after);
    let watching = app.tails.watch(filter, key).ok_or_else(too_many)?;
    let mut credential = HeaderMap::new();
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        credential.insert(header::AUTHORIZATION, value.clone());
    }
    let now = Instant::now();
    let tail = Tail {
        watching,
        app: Arc::clone(app),
        peer: peer.clone(),
        has_sent_more: false,
        credential,
        by,
        request_id: parts.extensions.get().and_then(audited_id),
        names: HashMap::default(),
        welcome: Some(Bytes::from_static(b"retry: 1000\n\n")),
        quiet_since: now,
        until: now + LONGEST,
    };
    let pieces = stream::unfold(tail, async |mut tail| {
        let piece = tail.next().await?;
        Some((Ok::<_, Infallible>(piece), tail))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would keep events back until a buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    Ok((headers, Body::from_stream(Box::pin(pieces))).into_response())
}

/// The request's id as the audit log has it.
fn audited_id(id: &RequestId) -> Option<String> {
    let request = Acting::request(id.bytes(), id.is_ours());
    request.request_id().map(str::to_owned)
}

/// One watcher's stream.
struct Tail {
    app: Arc<App>,
    peer: Peer,
    /// Whether the client has sent something after its request, most likely the end of what it sends.
    has_sent_more: bool,
    credential: HeaderMap,
    /// Whose key it is, and the request, for the audit log.
    by: KeyHash,
    request_id: Option<String>,
    watching: Watching,
    names: HashMap<KeyHash, Option<String>, RandomState>,
    welcome: Option<Bytes>,
    quiet_since: Instant,
    until: Instant,
}

impl Tail {
    /// The next piece. `None` ends the stream: the client comes back and learns why.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(welcome) = self.welcome.take() {
            return Some(welcome);
        }
        let app = Arc::clone(&self.app);
        if !self.watching.has_news() {
            tokio::select! {
                () = app.stopping.cancelled() => return None,
                () = sleep_until(self.until) => return None,
                () = self.watching.watcher.news.notified() => {}
                // A comment is sent. If the client is gone, the connection fails. If it only closed its sending side,
                // it goes on listening.
                () = self.peer.sends_more(), if !self.has_sent_more => self.has_sent_more = true,
                () = self.peer.is_gone() => return None,
                () = sleep_until(self.quiet_since + HEARTBEAT) => {}
            }
        }
        if app.stopping.is_cancelled() || Instant::now() >= self.until || !self.may_look().await {
            return None;
        }
        self.quiet_since = Instant::now();
        let (seen, missed) = self.watching.take();
        let mut text = String::new();
        for seen in seen {
            if let Some(child) = seen.observation.child_id {
                let by = (Actor::Key(self.by), self.request_id.as_deref());
                app.audit.note(
                    by,
                    Action::Read,
                    Done::Done,
                    "tail",
                    Some(Subject::child(child)),
                );
            }
            let key = match seen.sender {
                Some(SenderId::Key(key)) => self.name_of(key).await,
                _ => None,
            };
            let observation = Observation {
                key,
                ..seen.observation.clone()
            };
            write(&mut text, "event", &observation);
        }
        if missed > 0 {
            write(&mut text, "missed", &Missed { missed });
        }
        if text.is_empty() {
            text.push_str(":\n\n");
        }
        Some(text.into())
    }

    /// Whether the key is still good. Where that cannot be said, the client is told so when it comes back.
    async fn may_look(&self) -> bool {
        let sender = auth::sender(&self.app, &self.credential).await;
        matches!(sender, Ok(Sender::Key(_, grant)) if grant.scope == Scope::Admin)
    }

    async fn name_of(&mut self, key: KeyHash) -> Option<String> {
        if let Some(name) = self.names.get(&key) {
            return name.clone();
        }
        let name = keys::name(self.app.pool().ok()?, &key).await.ok()?;
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        self.names.insert(key, name.clone());
        name
    }
}

fn write(text: &mut String, event: &str, data: &impl Serialize) {
    match serde_json::to_string(data) {
        Ok(data) => text.push_str(&format!("event: {event}\ndata: {data}\n\n")),
        Err(error) => tracing::error!(%error, "an observation could not be written"),
    }
}

#[cfg(test)]
mod tests {
    use rivulet_events::{Code, EventType, parse};

    use super::*;

    fn glance(child: u128, outcome: Outcome) -> Glance<'static> {
        Glance {
            sender: Some(SenderId::Key([1; 32])),
            child: Some(ChildId::new(uuid::Uuid::from_u128(child))),
            code: (outcome == Outcome::Rejected).then(|| Code::TooOld.as_str()),
            outcome,
        }
    }

    fn tell(tails: &Tails, glance: &Glance<'_>) {
        tails.tell_of(glance, || observation("r", 0, glance));
    }

    #[test]
    fn a_watcher_gets_what_it_wants_and_is_told_what_it_missed() {
        let tails = Arc::new(Tails::default());
        let child = uuid::Uuid::from_u128(1);
        let of_child = Filter {
            child: Some(child),
            ..Filter::default()
        };
        let rejected = Filter {
            code: Some("too_old".to_owned()),
            outcome: Some(Outcome::Rejected),
            ..Filter::default()
        };
        let all = tails.watch(Filter::default(), None).unwrap();
        let of_child = tails.watch(of_child, None).unwrap();
        let rejected = tails.watch(rejected, None).unwrap();
        let of_key = tails.watch(Filter::default(), Some([2; 32])).unwrap();
        for _ in 0..QUEUE {
            tell(&tails, &glance(2, Outcome::Accepted));
        }
        tell(&tails, &glance(1, Outcome::Rejected));
        let counts = |watching: &Watching| {
            let (mut seen, mut missed) = (0, 0);
            while watching.has_news() {
                let (some, more) = watching.take();
                assert!(some.len() <= AT_ONCE);
                seen += some.len();
                missed += more;
            }
            (seen, missed)
        };
        assert_eq!(counts(&all), (QUEUE, 1));
        assert_eq!(counts(&of_child), (1, 0));
        assert_eq!(counts(&rejected), (1, 0));
        assert_eq!(counts(&of_key), (0, 0));
    }

    #[test]
    fn nobody_watches_once_all_have_gone() {
        let tails = Arc::new(Tails::default());
        assert!(!tails.is_watched());
        let watchers: Vec<_> = (0..MOST_WATCHERS)
            .map(|_| tails.watch(Filter::default(), None).unwrap())
            .collect();
        assert!(tails.is_watched());
        assert!(tails.watch(Filter::default(), None).is_none());
        drop(watchers);
        assert!(!tails.is_watched());
        assert!(tails.watch(Filter::default(), None).is_some());
    }

    #[test]
    fn an_envelope_is_made_only_for_somebody() {
        let json =
            r#"{"id": 7, "type": "message", "child_id": "00000000-0000-0000-0000-000000000001"}"#;
        let parsed = [parse::event(json, parse::Limits::default())];
        let tails = Arc::new(Tails::default());
        assert_eq!(tails.envelopes(&parsed, 32), None);
        let _watching = tails.watch(Filter::default(), None);
        let envelope = tails.envelopes(&parsed, 32).unwrap()[0];
        assert_eq!(envelope.event_type, Some(EventType::Message));
        assert_eq!(
            envelope.child_id.map(|child| child.uuid().as_u128()),
            Some(1)
        );
    }
}
