//! All that is held of a child, as one zip.

use std::sync::Arc;

use ahash::AHashMap;
use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use chrono::Utc;
use parking_lot::Mutex;
use rivulet_auditlog::{Action, Entry, record_now};
use rivulet_events::{ChildId, ParentId};
use rivulet_export::{Error, Export, Pace, Stores, Subject, Tables};
use rivulet_web::{Limiter, Throttled};
use std::{num::NonZeroU32, time::Duration};
use utoipa::ToSchema;

use crate::{
    app::{App, Id, NoParameters, authenticate, parameters, uuid},
    described::{OfChild, Refusals},
    exported::exported_tables,
    problem::Problem,
    reading::{NO_CHILD, Reading},
    viewer::Viewer,
};

/// Exports that run at the same time in this process, of a product, and of a parent. What is beyond that is refused
/// at once: an export may take minutes.
const TOGETHER: usize = 4;
const OF_PRODUCT: usize = 2;
const OF_PARENT: usize = 1;

/// A parent's exports: six at once after a pause, and then one every ten minutes.
const BURST: u32 = 6;
const EVERY: u32 = 600;

/// When a caller may ask again who has as many exports running as it may.
const BUSY_RETRY: Duration = Duration::from_secs(10);

/// The exports that run.
pub(crate) struct Exports {
    /// None, if this process was not told where ClickHouse is.
    history: Option<clickhouse::Client>,
    tables: Tables,
    running: Mutex<AHashMap<Viewer, usize>>,
    /// In seconds of waiting.
    limiter: Limiter<ParentId>,
}

/// A place among the exports that run, until it is dropped.
struct Place {
    app: Arc<App>,
    viewer: Viewer,
}

impl Exports {
    pub(crate) fn new(history: Option<clickhouse::Client>) -> Self {
        // Neither is 0.
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            history,
            tables: exported_tables(),
            running: Mutex::default(),
            limiter: Limiter::new(NonZeroU32::MIN, number(BURST * EVERY)),
        }
    }

    pub(crate) fn tidy(&self) {
        self.limiter.tidy();
    }

    /// Counts an export of a parent against their limit.
    fn charge(&self, viewer: Viewer) -> Result<(), Problem> {
        let Viewer::Parent(parent) = viewer else {
            return Ok(());
        };
        self.limiter
            .take(&parent, EVERY as usize)
            .map_err(|throttled| {
                Problem::RateLimited(Throttled {
                    limit: throttled.limit / EVERY,
                    remaining: throttled.remaining / EVERY,
                    ..throttled
                })
            })
    }
}

impl Place {
    fn take(app: &Arc<App>, viewer: Viewer) -> Result<Self, Problem> {
        let most = match viewer {
            Viewer::Product(_) => OF_PRODUCT,
            Viewer::Parent(_) => OF_PARENT,
        };
        let mut running = app.exports.running.lock();
        let own = running.get(&viewer).copied().unwrap_or_default();
        if own >= most {
            rivulet_export::refused();
            return Err(Problem::RateLimited(Throttled {
                limit: most as u32,
                remaining: 0,
                wait: BUSY_RETRY,
                reset: BUSY_RETRY,
            }));
        }
        if running.values().sum::<usize>() >= TOGETHER {
            rivulet_export::refused();
            return Err(Problem::Unavailable(
                "as many exports as this node can do are running already",
            ));
        }
        running.insert(viewer, own + 1);
        Ok(Self {
            app: Arc::clone(app),
            viewer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.app.exports.running.lock();
        match running.get_mut(&self.viewer) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(running.remove(&self.viewer)),
        }
    }
}

/// A zip.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(crate) struct Zip(#[expect(dead_code, reason = "only its schema is used")] Vec<u8>);

/// All that is held of a child
///
/// A zip with a page for people (`index.html`), the events (`events.ndjson`, `events.csv`), the numbers (`daily.csv`,
/// `learning.csv`, `topics.csv`, `streak.json`), `consents.json`, and `schema.json`, which says what every column is.
/// The same data gives the same bytes. It is written while it is read: where that fails, the answer is broken off, and
/// what came cannot be opened. A parent may ask six times at once, and then every ten minutes, for one child at a time; a
/// key for two.
#[utoipa::path(
    get,
    path = "/v1/children/{id}/export",
    tag = "reading",
    params(OfChild),
    responses(
        (status = 200, description = "The zip", body = Zip, content_type = "application/zip"),
        Refusals,
    ),
)]
pub(crate) async fn export(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    let begun = begin(&app, id, &parts).await;
    begun.unwrap_or_else(|problem| problem.into_response())
}

async fn begin(app: &Arc<App>, id: Id, parts: &Parts) -> Result<Response, Problem> {
    let viewer = authenticate(app, parts).await?;
    let NoParameters {} = parameters(parts)?;
    let child = ChildId::new(uuid(id)?);
    let request = parts.extensions.get();
    let permit = app.shares.take(viewer, parts.extensions.get()).await?;
    // Whoever may not see the child learns that at once, and it costs them no export.
    drop(Reading::child(&app.pool, viewer, child, Utc::now(), request).await?);
    let Some(history) = app.exports.history.clone() else {
        return Err(Problem::Unavailable(
            "there are no exports here: this API was not told where ClickHouse is (CLICKHOUSE_URL)",
        ));
    };
    let place = Place::take(app, viewer)?;
    app.exports.charge(viewer)?;
    let parent = match viewer {
        Viewer::Product(_) => None,
        Viewer::Parent(parent) => Some(parent.uuid()),
    };
    let stores = Stores {
        pool: app.pool.clone(),
        history,
    };
    let (pace, tables) = (Pace::default(), app.exports.tables.clone());
    let export = Export::begin(stores, tables, pace, Subject::Child(child.uuid()), parent).await?;
    // Before the first byte: none goes unnoted.
    let entry = Entry::done(Action::Export).child(child.uuid());
    record_now(&app.pool, entry).await.map_err(|_| {
        Problem::Unavailable("the audit log cannot be written, and no export goes unnoted")
    })?;
    let (outlet, body) = rivulet_export::Body::new(pace);
    tokio::spawn(async move {
        let _place = place;
        let ended = match export.write(outlet, permit).await {
            Ok(outlet) => outlet.end().await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => {}
            Err(Error::Reader) => tracing::info!("an export was broken off by its reader"),
            Err(error) => tracing::warn!(%error, "an export was broken off"),
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/zip"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"export.zip\"",
        ),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "authorization"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // nginx would keep children's data on its disk.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    Ok((headers, Body::from_stream(body)).into_response())
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Unknown | Error::NoChildren => NO_CHILD,
            Error::Postgres(error) => error.into(),
            Error::Changed => Self::Unavailable("what is held of the child is changing now"),
            error => {
                tracing::warn!(%error, "an export could not begin");
                Self::Unavailable("the history cannot be read now")
            }
        }
    }
}
