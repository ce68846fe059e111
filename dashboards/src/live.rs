//! Server-sent events: what has changed of children, as it is committed.
//!
//! A stream sends a child's whole state, and then what has changed of it, from a [feed](crate::feed) that all streams
//! share. Several commits may be sent at once. `id` is a hash of all that the client got. A client that comes back with
//! it, to any node, gets nothing until something has changed.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use chrono::Utc;
use futures_util::stream;
use rivulet_events::{ChildId, ParentId};
use rivulet_web::Peer;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};
use uuid::Uuid;

use crate::metrics::{LIVE_LISTENERS, LIVE_UPDATES};
use crate::{
    app::{App, Id, NoParameters, authenticate, parameters, uuid, viewer},
    described::{LastEventId, OfChild, OfFamily, Refusals},
    feed::{News, PAUSE, Watch, pace},
    problem::Problem,
    reading::Reading,
    update::LiveEvent,
    viewer::Viewer,
};

/// After so long without an event a comment is sent, which keeps proxies from closing the connection,
/// and the credential is looked at.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream that sends more than its rate must wait when it is ahead by so much.
const AHEAD: Duration = Duration::from_secs(4);

/// How many children one stream may have.
const CHILDREN: i64 = 256;

/// What changes of a child
///
/// Server-sent events, as long as the connection lasts. Each event `update` is the JSON of an `Update`: at first the
/// last 31 days whole, then only what has changed, about a quarter of a second after it was committed. A client that
/// comes back with `Last-Event-ID` gets nothing until something has changed. A comment every 15 s keeps the connection
/// open.
#[utoipa::path(
    get,
    path = "/v1/children/{id}/live",
    operation_id = "child_live",
    tag = "reading",
    params(OfChild, LastEventId),
    responses(
        (status = 200, description = "A stream of such events", body = LiveEvent, content_type = "text/event-stream"),
        Refusals,
    ),
)]
pub(crate) async fn child(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    let open = async {
        let viewer = authenticate(&app, &parts).await?;
        let NoParameters {} = parameters(&parts)?;
        let child = ChildId::new(uuid(id)?);
        let _place = app.shares.take(viewer, parts.extensions.get()).await?;
        // Whether the viewer may see the child at all is answered with a status, before the stream begins.
        Reading::child(&app.pool, viewer, child, Utc::now(), parts.extensions.get()).await?;
        let family = match viewer {
            Viewer::Parent(parent) => Some(parent),
            Viewer::Product(_) => None,
        };
        Ok((viewer, family, vec![child]))
    };
    answer(&app, &parts, open.await)
}

/// What changes of any child of a family
///
/// As `/v1/children/{id}/live`, of all of the family's children, of the first 256 if there are more: browsers open
/// six connections to a server.
#[utoipa::path(
    get,
    path = "/v1/families/{id}/live",
    operation_id = "family_live",
    tag = "reading",
    params(OfFamily, LastEventId),
    responses(
        (status = 200, description = "A stream of such events", body = LiveEvent, content_type = "text/event-stream"),
        Refusals,
    ),
)]
pub(crate) async fn family(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    let open = async {
        let viewer = authenticate(&app, &parts).await?;
        let NoParameters {} = parameters(&parts)?;
        let parent = ParentId::new(uuid(id)?);
        let request = parts.extensions.get();
        let _place = app.shares.take(viewer, parts.extensions.get()).await?;
        let (_, members) = Reading::family(
            &app.pool,
            viewer,
            parent,
            None,
            CHILDREN,
            Utc::now(),
            request,
        )
        .await?;
        let children = members.iter();
        let children = children.map(|member| ChildId::new(member.id)).collect();
        Ok((viewer, Some(parent), children))
    };
    answer(&app, &parts, open.await)
}

type Open = (Viewer, Option<ParentId>, Vec<ChildId>);

fn answer(app: &Arc<App>, parts: &Parts, open: Result<Open, Problem>) -> Response {
    let ((viewer, family, children), peer) = match (open, parts.extensions.get::<Peer>()) {
        (Ok(open), Some(peer)) => (open, peer.clone()),
        (Err(problem), _) => return problem.into_response(),
        (Ok(_), None) => return rivulet_web::internal(),
    };
    let asked = &parts.headers;
    let permit = Arc::clone(&app.listeners).try_acquire_owned().ok();
    let watch = app.feeds.watch(viewer, family, children);
    let (Some(permit), Some(watch)) = (permit, watch) else {
        return Problem::Unavailable("too many listen here already").into_response();
    };
    let last = asked.get("last-event-id");
    let mut credential = HeaderMap::new();
    if let Some(value) = asked.get(header::AUTHORIZATION) {
        credential.insert(header::AUTHORIZATION, value.clone());
    }
    let now = Instant::now();
    let live = Live {
        watch,
        app: Arc::clone(app),
        peer,
        has_sent_more: false,
        credential,
        known: last.and_then(|id| id.to_str().ok()).map(str::to_owned),
        outbox: VecDeque::from([welcome()]),
        quiet_since: now,
        not_before: now,
        paid_until: now,
        _listening: Listening::count(permit),
    };
    let pieces = stream::unfold(live, async |mut live| {
        let piece = live.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), live))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "authorization"),
        // nginx would keep events back until a buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    (headers, Body::from_stream(Box::pin(pieces))).into_response()
}

/// The first bytes of a stream. They tell the client when to connect again; the time is random, so that not all come at
/// once.
fn welcome() -> Bytes {
    let millis = 1_000 + u64::from(Uuid::new_v4().as_bytes()[0]) * 8;
    format!("retry: {millis}\n\n").into()
}

/// One client's stream.
struct Live {
    app: Arc<App>,
    peer: Peer,
    /// Whether the client has sent something after its request, most likely the end of what it sends.
    has_sent_more: bool,
    credential: HeaderMap,
    watch: Watch,
    /// The id of the last event that the client got before it came here.
    known: Option<String>,
    /// The pieces of an event that is being sent. Most of their bytes are shared with the feed.
    outbox: VecDeque<Bytes>,
    /// When the last piece was put there.
    quiet_since: Instant,
    /// When the next event may be sent.
    not_before: Instant,
    /// When what was sent so far is no more than a stream's rate allows.
    paid_until: Instant,
    _listening: Listening,
}

impl Live {
    /// The next piece. `None` ends the stream: the client comes back and learns why.
    async fn next(&mut self) -> Option<Bytes> {
        let app = Arc::clone(&self.app);
        loop {
            if let Some(piece) = self.outbox.pop_front() {
                return Some(piece);
            }
            let is_quiet = tokio::select! {
                () = app.stopping.cancelled() => return None,
                () = self.news() => false,
                // A comment is sent. If the client is gone, the connection fails. If it only closed its sending side,
                // it goes on listening.
                () = self.peer.sends_more(), if !self.has_sent_more => {
                    self.has_sent_more = true;
                    true
                }
                () = self.peer.is_gone() => return None,
                () = sleep_until(self.quiet_since + HEARTBEAT) => true,
            };
            let checked = viewer(&self.app, &self.credential);
            match app.stopping.run_until_cancelled(checked).await? {
                Ok(_) if is_quiet => {}
                Ok(_) => self.queue_next()?,
                Err(Problem::Unavailable(_)) => self.not_before = Instant::now() + PAUSE,
                // The credential was revoked or has expired.
                Err(_) => return None,
            }
            if self.outbox.is_empty() && is_quiet {
                self.outbox.push_back(Bytes::from_static(b":\n\n"));
            }
            if !self.outbox.is_empty() {
                self.quiet_since = Instant::now();
            }
        }
    }

    /// Waits until there is something to send and it may be sent.
    async fn news(&self) {
        sleep_until(self.not_before).await;
        // Whether something has changed since the client was here is only known of all children together.
        self.watch.wait(self.known.is_some()).await;
    }

    /// Puts what is to be sent next into the outbox. Returns `None` if a child was deleted, or is not the viewer's any
    /// more.
    fn queue_next(&mut self) -> Option<()> {
        if let Some(known) = self.known.take()
            && self.watch.is_known(&known)
        {
            return Some(());
        }
        let Some(news) = self.watch.news() else {
            return Some(());
        };
        let (pieces, is_first) = match news {
            News::End => return None,
            News::Update(piece) => (vec![piece], false),
            News::Whole { pieces, is_first } => (pieces, is_first),
        };
        let bytes = pieces.iter().map(Bytes::len).sum();
        let head = format!("event: update\nid: {}\ndata: ", self.watch.id());
        self.outbox.push_back(head.into());
        self.outbox.extend(pieces);
        self.outbox.push_back(Bytes::from_static(b"\n\n"));
        LIVE_UPDATES.increment(1);
        if !is_first {
            let now = Instant::now();
            self.paid_until = self.paid_until.max(now) + pace(bytes);
            self.not_before = self.paid_until.checked_sub(AHEAD).unwrap_or(now);
        }
        Some(())
    }
}

/// Counts a listener for as long as it is there.
struct Listening(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Listening {
    fn count(permit: OwnedSemaphorePermit) -> Self {
        LIVE_LISTENERS.increment(1.0);
        Self(permit)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LIVE_LISTENERS.decrement(1.0);
    }
}
