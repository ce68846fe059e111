//! Feeds: a child that is watched is read once, for all who watch it.
//!
//! A feed hears what may have changed of its child, reads PostgreSQL, and makes one update of what is new. All streams
//! share its bytes. A new stream, and one that was too slow for the few updates that are kept, gets the whole state.
//! The feed ends when nobody watches the child any more.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use ahash::AHashMap;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use parking_lot::Mutex;
use rivulet_events::{ChildId, ParentId};
use serde_json::Value;
use sqlx::PgPool;
use tokio::{
    sync::{Notify, Semaphore},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::metrics::{LIVE_CHILDREN, LIVE_READS};
use crate::{
    problem::Problem,
    reading::Reading,
    rows,
    state::{BYTES, Rows, Seen, State, Text, window},
    streak,
    viewer::Viewer,
};

mod watch;

pub(crate) use watch::{News, Watch};

use watch::Followed;

/// How many streams may watch one child: many more than a family has devices.
const STREAMS_A_CHILD: usize = 64;

/// How many streams a parent may have. One token must not be enough to take all of them.
const STREAMS_A_PARENT: usize = 64;

/// What is committed within this time is sent together. A child who plays makes one or two events a second.
const TOGETHER: Duration = Duration::from_millis(250);

/// Bytes a second that a stream sends on average. What is more waits, and is sent together.
const RATE: usize = 64 << 10;

/// How long to wait between two attempts to read when PostgreSQL does not answer.
pub(crate) const PAUSE: Duration = Duration::from_secs(2);

/// How often the date is checked while nothing is heard.
const CALENDAR: Duration = Duration::from_secs(15);

/// How many updates are kept for streams that read slowly, and how many bytes of them. The last update is kept in any
/// case.
const KEPT: usize = 16;
const KEPT_BYTES: usize = 64 << 10;

/// How many changed days are read together.
const DAYS: usize = 32;

/// How long a stream takes for so many bytes.
pub(crate) fn pace(bytes: usize) -> Duration {
    Duration::from_secs_f64(bytes as f64 / RATE as f64)
}

/// The feeds of all children who are watched on this node.
pub(crate) struct Feeds {
    pool: PgPool,
    /// Feeds read in turns: a feed that has read waits behind all others that wait.
    turns: Semaphore,
    clock: fn() -> DateTime<Utc>,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    feeds: AHashMap<ChildId, (Arc<Feed>, AbortHandle)>,
    /// How many streams each parent has.
    parents: AHashMap<ParentId, usize>,
}

/// What may have changed of a child.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    /// Everything that a new stream gets.
    everything: bool,
    /// Single days, also those that a new stream does not get.
    days: BTreeSet<NaiveDate>,
}

impl Heard {
    fn is_nothing(&self) -> bool {
        !self.everything && self.days.is_empty()
    }

    /// Takes as much as is read together. The rest stays.
    fn take(&mut self) -> Self {
        let mut days = std::mem::take(&mut self.days);
        if let Some(rest) = days.iter().nth(DAYS).copied() {
            self.days = days.split_off(&rest);
        }
        Self {
            everything: std::mem::take(&mut self.everything),
            days,
        }
    }

    fn merge(&mut self, other: Self) {
        self.everything |= other.everything;
        self.days.extend(other.days);
    }
}

struct Feed {
    child: ChildId,
    inner: Mutex<Inner>,
    /// Wakes the feed.
    wake: Notify,
}

#[derive(Default)]
struct Inner {
    heard: Heard,
    /// How many reads were begun, and which of them was the last to be sent.
    looks: u64,
    told: u64,
    state: Option<Arc<State>>,
    /// The version of the state.
    version: u64,
    /// The updates that led to the state.
    updates: VecDeque<Update>,
    /// Whether the feed has ended.
    has_ended: bool,
    /// Each of these wakes a stream.
    streams: Vec<Arc<Notify>>,
}

/// What is new of a child.
struct Update {
    /// The digest of the state that it leads to.
    digest: u128,
    data: Bytes,
}

impl Feeds {
    /// At most `turns` feeds read at the same time.
    pub(crate) fn new(pool: PgPool, turns: usize, clock: fn() -> DateTime<Utc>) -> Arc<Self> {
        Arc::new(Self {
            pool,
            turns: Semaphore::new(turns),
            clock,
            watched: Mutex::default(),
        })
    }

    /// Watches these children: from now on the stream misses nothing of them, as long as they are of the `family`, if
    /// one is given. Returns `None` if too many streams watch one of them, or the viewer has too many streams.
    pub(crate) fn watch(
        self: &Arc<Self>,
        viewer: Viewer,
        family: Option<ParentId>,
        mut children: Vec<ChildId>,
    ) -> Option<Watch> {
        // The order must be the same on every node.
        children.sort_unstable();
        let mut watched = self.watched.lock();
        let crowded = |child| {
            let feed = watched.feeds.get(child);
            feed.is_some_and(|(feed, _)| feed.inner.lock().streams.len() >= STREAMS_A_CHILD)
        };
        if children.iter().any(crowded) {
            return None;
        }
        let parent = match viewer {
            Viewer::Parent(parent) => Some(parent),
            Viewer::Product(_) => None,
        };
        if let Some(parent) = parent {
            let streams = watched.parents.entry(parent).or_default();
            if *streams >= STREAMS_A_PARENT {
                return None;
            }
            *streams += 1;
        }
        let wake = Arc::new(Notify::new());
        let mut follow = |child: &ChildId| {
            let (feed, _) = watched.feeds.entry(*child).or_insert_with(|| {
                let feed = Arc::new(Feed {
                    child: *child,
                    inner: Mutex::default(),
                    wake: Notify::new(),
                });
                let task = tokio::spawn(run(Arc::clone(self), Arc::clone(&feed)));
                (feed, task.abort_handle())
            });
            let since = {
                let mut inner = feed.inner.lock();
                inner.streams.push(Arc::clone(&wake));
                inner.looks + 1
            };
            // A new stream must get nothing older than what its client may have read before, so the child is read once
            // more.
            feed.hear(Heard {
                everything: true,
                days: BTreeSet::new(),
            });
            Followed {
                feed: Arc::clone(feed),
                since,
                family,
                told: None,
            }
        };
        let followed = children.iter().map(&mut follow).collect();
        LIVE_CHILDREN.set(watched.feeds.len() as f64);
        drop(watched);
        Some(Watch {
            feeds: Arc::clone(self),
            parent,
            wake,
            followed,
            turn: 0,
        })
    }

    /// Notes that something may have changed of a child's day, or of anything of the child if no day is given.
    pub(crate) fn hear(&self, child: ChildId, day: Option<NaiveDate>) {
        if let Some((feed, _)) = self.watched.lock().feeds.get(&child) {
            feed.hear(Heard {
                everything: day.is_none(),
                days: day.into_iter().collect(),
            });
        }
    }

    /// Notes that changes may have been missed, so everything of all children is read again.
    pub(crate) fn hear_everything(&self) {
        for (feed, _) in self.watched.lock().feeds.values() {
            feed.hear(Heard {
                everything: true,
                days: BTreeSet::new(),
            });
        }
    }

    /// Reads what may have changed, as the parent who has the child now.
    async fn read(
        &self,
        child: ChildId,
        heard: &Heard,
        before: Option<&State>,
    ) -> Result<Seen, Problem> {
        LIVE_READS.increment(1);
        let (mut reading, parent) = Reading::as_parent(&self.pool, child, (self.clock)()).await?;
        let today = reading.today;
        let is_whole = heard.everything || before.is_none_or(|state| state.today != today);
        let mut dates = heard.days.clone();
        if is_whole {
            let (first, last) = window(today);
            dates.extend(first.iter_days().take_while(|date| *date <= last));
        }
        let dates: Vec<_> = dates.into_iter().collect();
        let days = rows::days(&mut reading, child, &dates, BYTES).await?;
        let rows = days.iter().map(|day| Ok((day.date(), Text::of(day)?)));
        let rows: Rows = rows
            .collect::<serde_json::Result<_>>()
            .map_err(unwritable)?;
        let mut heard = heard.days.clone();
        let mut unread = BTreeSet::new();
        if rows.values().map(Text::len).sum::<usize>() > BYTES
            && let Some((oldest, _)) = rows.first_key_value()
        {
            let read = heard.split_off(oldest);
            unread = std::mem::replace(&mut heard, read);
        }
        let streak = match reading.streaks {
            true => streak::streak(&mut reading, child).await?,
            false => Value::Null,
        };
        Ok(Seen {
            parent,
            timezone: reading.timezone,
            today,
            streak: Text::of(&streak).map_err(unwritable)?,
            rows,
            is_whole,
            heard,
            unread,
        })
    }
}

fn unwritable(error: serde_json::Error) -> Problem {
    tracing::error!(%error, "an update could not be written");
    Problem::Unavailable("the numbers cannot be told now")
}

/// The task of a feed.
async fn run(feeds: Arc<Feeds>, feed: Arc<Feed>) {
    let _end = End(&feed);
    let mut not_before = Instant::now();
    loop {
        while feed.inner.lock().heard.is_nothing() {
            if timeout(CALENDAR, feed.wake.notified()).await.is_err() {
                feed.check_date((feeds.clock)());
            }
        }
        sleep_until(not_before).await;
        let turn = feeds.turns.acquire().await;
        let (look, heard, before) = feed.begin();
        let seen = feeds.read(feed.child, &heard, before.as_deref()).await;
        drop(turn);
        let told = seen.and_then(|seen| feed.publish(look, before, seen).map_err(unwritable));
        not_before = Instant::now()
            + match told {
                Ok(bytes) => TOGETHER.max(pace(bytes)),
                Err(Problem::Unavailable(_)) => {
                    feed.hear(heard);
                    PAUSE
                }
                // The child was deleted.
                Err(_) => return,
            };
    }
}

/// When a feed ends, for whatever reason, its streams end.
struct End<'a>(&'a Feed);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock();
        inner.has_ended = true;
        inner.wake();
    }
}

impl Feed {
    fn hear(&self, heard: Heard) {
        self.inner.lock().heard.merge(heard);
        self.wake.notify_one();
    }

    /// Checks the date. After midnight today is another day and the streak may have ended, though nothing was
    /// committed.
    fn check_date(&self, now: DateTime<Utc>) {
        let mut inner = self.inner.lock();
        let is_past =
            |state: &Arc<State>| now.with_timezone(&state.timezone).date_naive() != state.today;
        inner.heard.everything |= inner.state.as_ref().is_some_and(is_past);
    }

    fn begin(&self) -> (u64, Heard, Option<Arc<State>>) {
        let mut inner = self.inner.lock();
        inner.looks += 1;
        (inner.looks, inner.heard.take(), inner.state.clone())
    }

    /// Publishes what a read found. Returns the bytes of the update.
    fn publish(
        &self,
        look: u64,
        before: Option<Arc<State>>,
        mut seen: Seen,
    ) -> serde_json::Result<usize> {
        let unread = std::mem::take(&mut seen.unread);
        // If the child has another parent now, other people may see it. So everything is sent anew, and days that this
        // leaves out are read again.
        let Some(before) = before.filter(|state| state.parent == seen.parent) else {
            let state = State::new(self.child, &seen)?;
            let mut inner = self.inner.lock();
            inner.told = look;
            inner.version += 1;
            inner.updates.clear();
            let left = seen.heard.into_iter().filter(|date| !state.keeps(*date));
            inner.heard.days.extend(left.chain(unread));
            inner.state = Some(Arc::new(state));
            inner.wake();
            return Ok(0);
        };
        let step = before.next(&seen)?;
        let mut inner = self.inner.lock();
        inner.told = look;
        inner.heard.days.extend(step.left.into_iter().chain(unread));
        let bytes = step.update.as_ref().map_or(0, Bytes::len);
        if let Some(data) = step.update {
            inner.version += 1;
            inner.updates.push_back(Update {
                digest: step.state.digest,
                data,
            });
            inner.state = Some(Arc::new(step.state));
            inner.forget();
        }
        inner.wake();
        Ok(bytes)
    }
}

impl Inner {
    fn wake(&self) {
        for stream in &self.streams {
            stream.notify_one();
        }
    }

    /// Drops the updates that are too many to keep.
    fn forget(&mut self) {
        let mut bytes: usize = self.updates.iter().map(|update| update.data.len()).sum();
        while self.updates.len() > KEPT || (bytes > KEPT_BYTES && self.updates.len() > 1) {
            bytes -= self
                .updates
                .pop_front()
                .map_or(0, |update| update.data.len());
        }
    }
}

#[cfg(test)]
mod tests;
