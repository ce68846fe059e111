//! Server-sent events: what has changed of children, as it is committed.
//!
//! An event carries state, not a difference: the rows that changed, as they are now. So several
//! commits may be told at once, and a client that was away is told how things stand. `id` is a hash
//! of all that the client was told; whoever comes back with it, to any node, hears nothing until
//! something has changed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{
        IntoResponse as _, Response,
        sse::{Event, Sse},
    },
};
use chrono::{DateTime, Days as DaysOf, NaiveDate, Utc};
use futures_util::stream;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use rivulet_events::{ChildId, ParentId};
use rivulet_web::Peer;
use rivulet_zones::Zone;
use serde::Serialize;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use utoipa::ToSchema;
use uuid::Uuid;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{
    api::{App, Id, NoParameters, admit, parameters, uuid, viewer},
    listen::{self, Changes, Days, Watch},
    openapi::{LastEventId, OfChild, OfFamily, Refusals},
    problem::Problem,
    reading::Reading,
    rows::{self, Day, Streak},
};

/// After so long without an event a comment is sent, which keeps proxies from closing the connection,
/// and the credential and the calendar are looked at.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Commits within so long are told together. A child who plays makes one or two events a second.
const TOGETHER: Duration = Duration::from_millis(250);

/// Between two attempts to read when PostgreSQL does not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// Days up to today that are told to whoever comes: as far back as events are taken.
const WINDOW: u64 = 31;

/// What changes of a child
///
/// Server-sent events, as long as the connection lasts. Each event `update` is the JSON of an `Update`: at
/// first all of the last 31 days, then what was committed, about a quarter of a second later. Whoever comes
/// back with `Last-Event-ID` hears nothing until something has changed. A comment every 15 s keeps the
/// connection open.
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
        let viewer = admit(&app, &parts).await?;
        let NoParameters {} = parameters(&parts)?;
        let child = ChildId::new(uuid(id)?);
        // Whether it may be seen at all is answered with a status.
        Reading::child(&app.pool, viewer, child, Utc::now(), parts.extensions.get()).await?;
        Ok(vec![child])
    };
    answer(&app, &parts, open.await)
}

/// What changes of any child of a family
///
/// As `/v1/children/{id}/live`, of all of the family's children: browsers open six connections to a server.
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
        let viewer = admit(&app, &parts).await?;
        let NoParameters {} = parameters(&parts)?;
        let parent = ParentId::new(uuid(id)?);
        let request = parts.extensions.get();
        let (_, members) = Reading::family(&app.pool, viewer, parent, Utc::now(), request).await?;
        Ok(members
            .iter()
            .map(|member| ChildId::new(member.id))
            .collect())
    };
    answer(&app, &parts, open.await)
}

fn answer(app: &Arc<App>, parts: &Parts, children: Result<Vec<ChildId>, Problem>) -> Response {
    let (children, peer) = match (children, parts.extensions.get::<Peer>()) {
        (Ok(children), Some(peer)) => (children, peer.clone()),
        (Err(problem), _) => return problem.into_response(),
        (Ok(_), None) => return rivulet_web::internal(),
    };
    let asked = &parts.headers;
    let place = Arc::clone(&app.listeners).try_acquire_owned().ok();
    let watch = Watch::start(&app.watchers, children);
    let (Some(place), Some(watch)) = (place, watch) else {
        return Problem::Unavailable("too many listen here already").into_response();
    };
    let last = asked.get("last-event-id");
    let mut credential = HeaderMap::new();
    if let Some(value) = asked.get(header::AUTHORIZATION) {
        credential.insert(header::AUTHORIZATION, value.clone());
    }
    let live = Live {
        watch,
        app: Arc::clone(app),
        peer,
        stirred: false,
        credential,
        known: last.and_then(|id| id.to_str().ok()).map(str::to_owned),
        told: BTreeMap::new(),
        changes: Changes::new(),
        outbox: VecDeque::from([welcome()]),
        not_before: Instant::now(),
        _listening: Listening::count(place),
    };
    let events = stream::unfold(live, async |mut live| {
        let event = live.next().await?;
        Some((Ok::<_, std::convert::Infallible>(event), live))
    });
    let mut response = Sse::new(Box::pin(events)).into_response();
    let headers = response.headers_mut();
    // nginx would keep events back until a buffer is full.
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    headers.insert(unbuffered, HeaderValue::from_static("no"));
    headers.insert(header::VARY, HeaderValue::from_static("authorization"));
    response
}

/// When to come back, not everybody at once.
fn welcome() -> Event {
    let millis = 1_000 + u64::from(Uuid::new_v4().as_bytes()[0]) * 8;
    Event::default().retry(Duration::from_millis(millis))
}

/// One client's stream.
struct Live {
    app: Arc<App>,
    peer: Peer,
    /// Something came from the client since it asked, most likely the end of what it sends.
    stirred: bool,
    credential: HeaderMap,
    watch: Watch,
    /// What the client says that it was told before it came.
    known: Option<String>,
    /// What it was told since.
    told: BTreeMap<ChildId, Told>,
    /// What may have changed and was not read yet.
    changes: Changes,
    outbox: VecDeque<Event>,
    /// When to read next.
    not_before: Instant,
    _listening: Listening,
}

/// Hashes of what a client was told of a child.
struct Told {
    timezone: Zone,
    today: NaiveDate,
    days: BTreeMap<NaiveDate, u64>,
    streak: u64,
}

/// An event of a live stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct LiveEvent {
    event: EventName,
    /// For `Last-Event-ID`.
    id: String,
    /// The JSON of an `Update`.
    data: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum EventName {
    Update,
}

/// What is new of a child: the `data` of an event of a live stream.
#[derive(Serialize, ToSchema)]
pub(crate) struct Update<'a> {
    child_id: Uuid,
    /// The family's: the name of an IANA time zone.
    timezone: &'static str,
    /// The day that it is there.
    today: NaiveDate,
    /// Those that changed, as they are now.
    #[schema(value_type = Vec<Day>)]
    days: Vec<Box<RawValue>>,
    /// Days without events, whatever was told of them before. At first all of the last 31 that have none.
    empty: Vec<NaiveDate>,
    /// As it is now; null where the family is shown none.
    #[schema(value_type = Option<Streak>, required = true)]
    streak: &'a Value,
}

impl Live {
    /// The next event; `None` ends the stream, and the client comes back and learns why.
    async fn next(&mut self) -> Option<Event> {
        let app = Arc::clone(&self.app);
        loop {
            if let Some(event) = self.outbox.pop_front() {
                return Some(event);
            }
            if self.changes.is_empty() {
                tokio::select! {
                    () = app.stopping.cancelled() => return None,
                    () = self.watch.changed() => {}
                    // A comment is sent: to who is gone it comes back, and who only stopped sending
                    // goes on listening.
                    () = self.peer.stirs(), if !self.stirred => self.stirred = true,
                    () = self.peer.is_gone() => return None,
                    () = tokio::time::sleep(HEARTBEAT) => self.look_at_the_calendar(Utc::now()),
                }
            }
            let update = async {
                tokio::time::sleep_until(self.not_before).await;
                for (child, days) in self.watch.take() {
                    listen::merge(&mut self.changes, child, days);
                }
                self.update().await
            };
            match app.stopping.run_until_cancelled(update).await? {
                Ok(()) => self.not_before = Instant::now() + TOGETHER,
                // What could not be read is still in `changes`.
                Err(Problem::Unavailable(_)) => self.not_before = Instant::now() + PAUSE,
                // Revoked or expired, or the child is not theirs any more.
                Err(_) => return None,
            }
            if self.outbox.is_empty() {
                self.outbox.push_back(Event::default().comment(""));
            }
        }
    }

    /// At midnight the streak may end and today is another day, though nothing was committed.
    fn look_at_the_calendar(&mut self, now: DateTime<Utc>) {
        for (child, told) in &self.told {
            if now.with_timezone(&told.timezone).date_naive() != told.today {
                listen::merge(&mut self.changes, *child, Days::All);
            }
        }
    }

    /// Reads what may have changed, and puts what has into the outbox.
    async fn update(&mut self) -> Result<(), Problem> {
        viewer(&self.app, &self.credential).await?;
        while let Some((child, days)) = self.changes.first_key_value() {
            let (child, days) = (*child, days.clone());
            if let Some(data) = self.read(child, &days).await? {
                let event = Event::default().event("update").id(self.id()).data(data);
                self.outbox.push_back(event);
            }
            self.changes.remove(&child);
        }
        // The first time: has anything changed since the client was here last?
        if self.known.take().is_some_and(|known| known == self.id()) {
            self.outbox.clear();
        }
        counter!("rivulet_live_updates_total").increment(self.outbox.len() as u64);
        Ok(())
    }

    /// What is new of a child, if anything is.
    async fn read(&mut self, child: ChildId, days: &Days) -> Result<Option<String>, Problem> {
        // Listeners leave connections to those who ask.
        let _turn = self.app.live_reads.acquire().await;
        let viewer = viewer(&self.app, &self.credential).await?;
        let mut reading = Reading::child(&self.app.pool, viewer, child, Utc::now(), None).await?;
        let today = reading.today;
        let dates: Vec<NaiveDate> = match days {
            Days::These(days) => days.iter().copied().collect(),
            // A day more: a zone may have been another one.
            Days::All => {
                let first = today.checked_sub_days(DaysOf::new(WINDOW - 1));
                let first = first.unwrap_or(today);
                first.iter_days().take(WINDOW as usize + 1).collect()
            }
        };
        let rows = rows::days(&mut reading, child, &dates).await?;
        let streak = match reading.streaks {
            true => rows::streak(&mut reading, child).await?,
            false => Value::Null,
        };

        let streak_hash = xxh3_64(streak.to_string().as_bytes());
        let told = self.told.get(&child);
        let mut changed = told.is_none_or(|told| {
            (told.timezone, told.today, told.streak) != (reading.timezone, today, streak_hash)
        });
        let mut hashes = told.map_or_else(BTreeMap::new, |told| told.days.clone());
        let mut new = Vec::new();
        for row in &rows {
            let json = to_raw_value(row).map_err(unwritable)?;
            let hash = xxh3_64(json.get().as_bytes());
            if hashes.insert(row.date(), hash) != Some(hash) {
                new.push(json);
                changed = true;
            }
        }
        // A recount may take a day away.
        let mut empty = Vec::new();
        for date in dates {
            if rows.iter().any(|row| row.date() == date) {
                continue;
            }
            let was_told = hashes.remove(&date).is_some();
            if told.is_none() || was_told || matches!(days, Days::These(_)) {
                empty.push(date);
                changed = true;
            }
        }
        if !changed {
            return Ok(None);
        }
        let update = Update {
            child_id: child.uuid(),
            timezone: reading.timezone.name(),
            today,
            days: new,
            empty,
            streak: &streak,
        };
        let data = serde_json::to_string(&update).map_err(unwritable)?;
        let told = Told {
            timezone: reading.timezone,
            today,
            days: hashes,
            streak: streak_hash,
        };
        self.told.insert(child, told);
        Ok(Some(data))
    }

    /// The same on every node for who was told the same.
    fn id(&self) -> String {
        let mut hash = Xxh3::new();
        for (child, told) in &self.told {
            hash.update(child.uuid().as_bytes());
            hash.update(told.timezone.name().as_bytes());
            hash.update(told.today.to_string().as_bytes());
            hash.update(&told.streak.to_le_bytes());
            for (day, row) in &told.days {
                hash.update(day.to_string().as_bytes());
                hash.update(&row.to_le_bytes());
            }
        }
        format!("{:032x}", hash.digest128())
    }
}

fn unwritable(error: serde_json::Error) -> Problem {
    tracing::error!(%error, "an update could not be written");
    Problem::Unavailable("the numbers cannot be told now")
}

/// Counts a listener for as long as it is there.
struct Listening(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Listening {
    fn count(place: OwnedSemaphorePermit) -> Self {
        gauge!("rivulet_live_listeners").increment(1.0);
        Self(place)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        gauge!("rivulet_live_listeners").decrement(1.0);
    }
}

pub(crate) fn describe() {
    listen::describe();
    describe_gauge!("rivulet_live_listeners", Unit::Count, "Open live streams");
    describe_counter!(
        "rivulet_live_updates_total",
        Unit::Count,
        "Updates sent to live streams; one may tell of several commits"
    );
}
