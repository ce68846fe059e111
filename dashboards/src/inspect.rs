//! `GET /v1/inspect`: what arrives at the ingest nodes now and where it goes, for the page `/inspect/`.
//!
//! The streams of all nodes become one, asked for with the viewer's own key; each node judges that by itself. What became of
//! accepted events is asked of PostgreSQL and ClickHouse, of all of them at once and once a second, as long as somebody looks
//! and something is open. Nothing is kept here.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use reqwest::Client;
use rivulet_auditlog::{Actor, identify};
use rivulet_inspect::{Fate, Fates, Filter, Node, Observation, Told, client, curl, follow};
use rivulet_registry::keys::Scope;
use rivulet_web::{Hold, Peer, bearer, is_token};
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    app::{App, viewer},
    described::InspectRefusals,
    problem::Problem,
    viewer::{KeyHash, key},
};

/// After so long without an event a comment is sent, and the credential is looked at.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How often the stores are asked what became of events, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the stores may take to answer.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// What of all nodes waits to be sent. What does not fit waits at the nodes, which count what they cannot keep.
const QUEUE: usize = 64;

/// What is sent at once.
const AT_ONCE: usize = 64;

/// The ingest nodes that are asked, at most: a viewer has a connection to each.
pub(crate) const MOST_NODES: usize = 32;

/// What the page is made of.
pub(crate) struct Inspect {
    /// Where the ingest nodes are.
    nodes: Vec<String>,
    client: Client,
    history: Option<clickhouse::Client>,
}

impl Inspect {
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new(
        nodes: Vec<String>,
        history: Option<clickhouse::Client>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            nodes,
            client: client()?,
            history,
        })
    }
}

/// What the stream tells: one of these.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Update {
    /// An event was answered, or a request refused.
    Event(Answered),
    /// What became of an event that was told before is known, or known better.
    Fate(Settled),
    /// So many were not told, because they came faster than they were read.
    Missed(u64),
    /// A node tells what arrives from now on, or tells nothing.
    Node(NodeState),
    /// What becomes of events cannot be asked now.
    Stores(String),
}

#[derive(Serialize)]
struct Answered {
    /// Names it in this stream.
    number: u64,
    /// Which node answered it, by its address.
    node: String,
    /// A shell command that posts it again as a dry run, with `data` made up; null where it cannot be said what was sent.
    curl: Option<String>,
    #[serde(flatten)]
    seen: Box<Observation>,
}

#[derive(Serialize)]
struct Settled {
    number: u64,
    #[serde(flatten)]
    fate: Fate,
}

#[derive(Serialize)]
struct NodeState {
    node: String,
    /// Why it tells nothing; null where it tells.
    trouble: Option<String>,
}

/// Watch what arrives, and where it goes
///
/// Off by default: `404` unless the node was started with `RIVULET_INSPECT_INGEST`. Server-sent events: what every ingest node
/// tells (`/v1/admin/tail`), and of accepted events what became of them, counted or a copy, and in the history after how
/// long. It is for the page `/inspect/`, with which its form may change: programs use `rivulet tail --json`.
#[utoipa::path(
    get,
    path = "/v1/inspect",
    operation_id = "inspect",
    tag = "inspecting",
    params(Filter),
    responses(
        (status = 200, description = "A stream of such events", body = String, content_type = "text/event-stream"),
        InspectRefusals,
    ),
    security(("key" = ["admin"])),
)]
pub(crate) async fn watch(State(app): State<Arc<App>>, parts: Parts) -> Response {
    match open(&app, &parts).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

pub(crate) const NEEDS_ADMIN: Problem =
    Problem::Forbidden("this needs an API key with scope `admin`");

/// Who looks, if they may: whoever has an admin's key.
async fn admin(app: &App, headers: &HeaderMap) -> Result<KeyHash, Problem> {
    let credential = bearer(headers).ok_or(Problem::Unauthorized(None))?;
    if is_token(credential) {
        viewer(app, headers).await?;
        return Err(NEEDS_ADMIN);
    }
    let (hash, scope) = key(credential, &app.registry).await?;
    identify(|| Actor::Key(hash));
    match scope {
        Scope::Admin => Ok(hash),
        _ => Err(NEEDS_ADMIN),
    }
}

async fn open(app: &Arc<App>, parts: &Parts) -> Result<Response, Problem> {
    let key = admin(app, &parts.headers).await?;
    app.limiter.take(&key, 1).map_err(Problem::RateLimited)?;
    let filter = Filter::of_query(parts.uri.query().unwrap_or_default());
    let filter = filter.map_err(|bad| {
        let name = bad.pointer.trim_start_matches('/');
        Problem::InvalidParameter(format!("{name} {bad}").trim_start().to_owned().into())
    })?;
    let (Some(inspect), Some(peer), Some(credential)) = (
        &app.inspect,
        parts.extensions.get::<Peer>(),
        bearer(&parts.headers),
    ) else {
        return Err(Problem::NotFound("there is nothing at this path"));
    };
    let permit = Arc::clone(&app.listeners).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::Unavailable("too many listen here already"))?;
    if let Some(hold) = parts.extensions.get::<Hold>() {
        hold.keep();
    }
    let (to, told) = mpsc::channel(QUEUE);
    let mut following = JoinSet::new();
    for (number, url) in inspect.nodes.iter().enumerate() {
        let node = Node {
            url: url.clone(),
            key: credential.to_owned(),
            filter: filter.clone(),
        };
        following.spawn(follow(inspect.client.clone(), node, number, to.clone()));
    }
    let mut headers = HeaderMap::new();
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        headers.insert(header::AUTHORIZATION, value.clone());
    }
    let now = Instant::now();
    let watching = Watching {
        app: Arc::clone(app),
        peer: peer.clone(),
        has_sent_more: false,
        credential: headers,
        told,
        _open: to,
        _following: following,
        fates: Fates::new(app.pool.clone(), inspect.history.clone()),
        are_stores_away: false,
        number: 0,
        welcome: Some(Bytes::from_static(b"retry: 1000\n\n")),
        quiet_since: now,
        look_at: now,
        _permit: permit,
    };
    let pieces = stream::unfold(watching, async |mut watching| {
        let piece = watching.next().await?;
        Some((Ok::<_, Infallible>(piece), watching))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "authorization"),
        // nginx would keep events back until a buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    Ok((headers, Body::from_stream(Box::pin(pieces))).into_response())
}

/// One viewer's stream.
struct Watching {
    app: Arc<App>,
    peer: Peer,
    /// Whether the client has sent something after its request, most likely the end of what it sends.
    has_sent_more: bool,
    credential: HeaderMap,
    told: mpsc::Receiver<(usize, Told)>,
    /// So that the channel is open while no node tells anything.
    _open: mpsc::Sender<(usize, Told)>,
    /// Ends with the stream.
    _following: JoinSet<()>,
    fates: Fates,
    are_stores_away: bool,
    /// Of the next event.
    number: u64,
    welcome: Option<Bytes>,
    quiet_since: Instant,
    /// When the stores may be asked again.
    look_at: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Watching {
    /// The next piece. `None` ends the stream: the client comes back and learns why.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(welcome) = self.welcome.take() {
            return Some(welcome);
        }
        let app = Arc::clone(&self.app);
        let mut text = String::new();
        let mut told = Vec::new();
        while text.is_empty() {
            let (has_open, look_at) = (self.fates.has_open(), self.look_at);
            let mut is_quiet = false;
            tokio::select! {
                () = app.stopping.cancelled() => return None,
                () = sleep_until(look_at), if has_open => {
                    app.stopping.run_until_cancelled(self.look(&mut text)).await?;
                }
                _ = self.told.recv_many(&mut told, AT_ONCE) => {
                    for (node, told) in told.drain(..) {
                        self.tell(&mut text, node, told);
                    }
                }
                // A comment is sent. If the client is gone, the connection fails. If it only closed its sending side, it
                // goes on listening.
                () = self.peer.sends_more(), if !self.has_sent_more => {
                    self.has_sent_more = true;
                    is_quiet = true;
                }
                () = self.peer.is_gone() => return None,
                () = sleep_until(self.quiet_since + HEARTBEAT) => is_quiet = true,
            }
            if is_quiet {
                text.push_str(":\n\n");
            }
        }
        // Each node does the same; but what the stores say is told here.
        admin(&app, &self.credential).await.ok()?;
        self.quiet_since = Instant::now();
        Some(text.into())
    }

    fn tell(&mut self, text: &mut String, node: usize, told: Told) {
        let url = self
            .app
            .inspect
            .as_ref()
            .and_then(|inspect| inspect.nodes.get(node));
        let node = url.cloned().unwrap_or_default();
        let update = match told {
            Told::Up => Update::Node(NodeState {
                node,
                trouble: None,
            }),
            Told::Down(trouble) => Update::Node(NodeState {
                node,
                trouble: Some(trouble.to_string()),
            }),
            Told::Missed(missed) => Update::Missed(missed),
            Told::Seen(seen) => {
                let number = self.number;
                self.number += 1;
                if let Some((number, fate)) = self.fates.add(number, &seen) {
                    write(text, &Update::Fate(Settled { number, fate }));
                }
                Update::Event(Answered {
                    number,
                    node,
                    curl: curl(&seen),
                    seen,
                })
            }
        };
        write(text, &update);
    }

    /// Asks the stores what became of what is open.
    async fn look(&mut self, text: &mut String) {
        let looked = timeout(LOOK_WITHIN, self.fates.look()).await;
        self.look_at = Instant::now() + LOOK_EVERY;
        let trouble = match looked {
            Ok(Ok(news)) => {
                self.are_stores_away = false;
                for (number, fate) in news {
                    write(text, &Update::Fate(Settled { number, fate }));
                }
                return;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "what became of events cannot be asked");
                "a store cannot be read now"
            }
            Err(_) => "the stores take too long to answer",
        };
        if !std::mem::replace(&mut self.are_stores_away, true) {
            write(text, &Update::Stores(trouble.to_owned()));
        }
    }
}

fn write(text: &mut String, update: &Update) {
    match serde_json::to_string(update) {
        Ok(data) => text.push_str(&format!("event: update\ndata: {data}\n\n")),
        Err(error) => tracing::error!(%error, "an observation could not be written"),
    }
}
