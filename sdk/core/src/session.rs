//! Sessions: when a child began, was there, and went. Active time is what the monotonic clock counts while the app is in
//! front, so a clock that is set makes none, and a tablet that sleeps makes a minute and a half at most.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Event, client::Inner};

/// How often active time is added up, at least.
pub(crate) const TICK: Duration = Duration::from_secs(30);

/// A longer gap between two looks at the clock was sleep, which the clock counts.
const SLEEP_MS: i64 = 90_000;

const HEARTBEAT_MS: i64 = 60_000;

/// Of one event, by the contract.
const MAX_ACTIVE_MS: i64 = 600_000;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// Lessons.
    Learning,
    /// Games.
    Play,
    /// Stories.
    Story,
    /// Quizzes.
    Quiz,
    /// Going over what was learned.
    Review,
    /// Anything else.
    Other,
}

/// A session that goes on. It ends with [`Session::end`], with the client, or when it is dropped.
pub struct Session {
    inner: Arc<Inner>,
    running: Arc<Running>,
}

/// What client and session share.
pub(crate) struct Running {
    child: Uuid,
    id: Uuid,
    kind: Option<SessionKind>,
    time: Mutex<Time>,
}

struct Time {
    /// Since the session's previous event.
    active_ms: i64,
    /// The last look at the clock; nothing while it is paused.
    looked_ms: Option<i64>,
    told_ms: i64,
    /// Paused because the app is not in front, so it goes on when it is.
    hidden: bool,
    ended: bool,
}

impl Session {
    pub(crate) fn begin(inner: Arc<Inner>, child: Uuid, kind: Option<SessionKind>) -> Self {
        let now = inner.clock().monotonic_ms();
        let time = Time {
            active_ms: 0,
            looked_ms: Some(now),
            told_ms: now,
            hidden: false,
            ended: false,
        };
        let running = Arc::new(Running {
            child,
            id: Uuid::new_v4(),
            kind,
            time: Mutex::new(time),
        });
        inner.add_session(&running);
        running.tell(&inner, "start", 0);
        Self { inner, running }
    }

    /// Its id, for events that belong to it.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.running.id
    }

    /// The child has stopped for now.
    pub fn pause(&self) {
        let mut time = self.running.time.lock();
        time.hidden = false;
        self.running.pause(&self.inner, &mut time);
    }

    /// The child goes on.
    pub fn resume(&self) {
        self.running
            .resume(&self.inner, &mut self.running.time.lock());
    }

    /// The session is over.
    pub fn end(self) {
        drop(self);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        end(&self.inner, &self.running);
    }
}

/// The app is not in front any more.
pub(crate) fn hide(inner: &Inner, running: &Running) {
    let mut time = running.time.lock();
    time.hidden |= time.looked_ms.is_some();
    running.pause(inner, &mut time);
}

/// The app is in front again.
pub(crate) fn show(inner: &Inner, running: &Running) {
    let mut time = running.time.lock();
    if time.hidden {
        running.resume(inner, &mut time);
    }
}

/// Adds up, and tells it once a minute.
pub(crate) fn tick(inner: &Inner, running: &Running) {
    let mut time = running.time.lock();
    let now = inner.clock().monotonic_ms();
    time.look(now);
    if time.looked_ms.is_some() && !time.ended && now - time.told_ms >= HEARTBEAT_MS {
        running.tell_time(inner, &mut time, "heartbeat");
    }
}

/// It is over; a second time nothing happens.
pub(crate) fn end(inner: &Inner, running: &Arc<Running>) {
    {
        let mut time = running.time.lock();
        if time.ended {
            return;
        }
        time.look(inner.clock().monotonic_ms());
        running.tell_time(inner, &mut time, "end");
        time.ended = true;
    }
    inner.remove_session(running);
}

impl Time {
    fn look(&mut self, now_ms: i64) {
        if let Some(looked) = &mut self.looked_ms {
            let gap = now_ms - *looked;
            if gap <= SLEEP_MS {
                self.active_ms += gap;
            }
            *looked = now_ms;
        }
    }
}

impl Running {
    fn pause(&self, inner: &Inner, time: &mut Time) {
        if time.ended || time.looked_ms.is_none() {
            return;
        }
        time.look(inner.clock().monotonic_ms());
        self.tell_time(inner, time, "pause");
        time.looked_ms = None;
    }

    fn resume(&self, inner: &Inner, time: &mut Time) {
        if time.ended || time.looked_ms.is_some() {
            return;
        }
        (time.looked_ms, time.hidden) = (Some(inner.clock().monotonic_ms()), false);
        self.tell_time(inner, time, "resume");
    }

    fn tell_time(&self, inner: &Inner, time: &mut Time, action: &str) {
        self.tell(inner, action, time.active_ms.clamp(0, MAX_ACTIVE_MS));
        (time.active_ms, time.told_ms) = (0, inner.clock().monotonic_ms());
    }

    fn tell(&self, inner: &Inner, action: &str, active_ms: i64) {
        let mut data = json!({"action": action});
        if active_ms > 0 {
            data["active_ms"] = active_ms.into();
        }
        if let Some(kind) = self.kind {
            data["kind"] = serde_json::to_value(kind).unwrap_or(Value::Null);
        }
        // What is not stored is counted.
        _ = inner.track(self.child, &Event::new("session", data).in_session(self.id));
    }
}
