//! The client: stores what the app tells, and a thread that sends it.

use std::{
    collections::HashSet,
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use uuid::{Builder, Uuid};

use crate::{
    Clock, Config, Credential, Dropped, Event, OpenError, Progress, Session, SessionKind, Stats,
    clock::Epoch,
    sender::{BATCH_EVENTS, State},
    session::{self, Running},
    store::{New, Purge, Store},
    wire,
};

/// Events between two times that the store is tidied up by whoever tells them, where no thread does it.
const TIDY_EVERY: usize = 4_000;

/// What the server takes of one event, until it has said otherwise.
const MAX_EVENT_BYTES: usize = 65_536;

/// Sends an app's events. Clones are the same client; the last one that is dropped ends it, and its sessions.
#[derive(Clone)]
pub struct Client(Arc<Owner>);

/// What clones share. Sessions and the thread have the client without owning it.
struct Owner(Arc<Inner>);

/// An event that was not stored, and was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// The parent does not consent to it.
    #[error("the parent does not consent to it")]
    Consent,
    /// It is larger than the server takes.
    #[error("it is larger than the server takes")]
    TooLarge,
    /// The disk is full, or does not work.
    #[error("the disk does not take it")]
    Disk,
    /// The client was closed. It is not counted.
    #[error("the client was closed")]
    Closed,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) sender: Mutex<State>,
    pub(crate) blocked: RwLock<Blocked>,
    epoch: Mutex<Epoch>,
    max_event_bytes: AtomicUsize,
    flush_interval_ms: AtomicU64,
    /// Of the app, for the next request: one that is under way is not waited for.
    pub(crate) new_credential: Mutex<Option<Credential>>,
    untidy: AtomicUsize,
    sessions: Mutex<Vec<Arc<Running>>>,
    wake: Mutex<Wake>,
    woken: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Who does not consent. What it names is not stored.
#[derive(Default)]
pub(crate) struct Blocked {
    /// By the app: all, and speech.
    app: (bool, bool),
    /// By the server, for the token's family.
    server: (bool, bool),
    /// The server refused an event of them for it.
    pub(crate) children: HashSet<Uuid>,
    pub(crate) speech_of: HashSet<Uuid>,
}

impl Blocked {
    fn takes(&self, child: Uuid, is_speech: bool) -> bool {
        let all = self.app.0 || self.server.0 || self.children.contains(&child);
        let speech = self.app.1 || self.server.1 || self.speech_of.contains(&child);
        all || (is_speech && speech)
    }

    /// A consent that is given is believed until the server refuses an event again.
    fn forget(&mut self, coppa: bool, audio: bool) {
        if coppa {
            self.children.clear();
        }
        if audio {
            self.speech_of.clear();
        }
    }
}

/// What the thread waits for.
#[derive(Default)]
struct Wake {
    now: bool,
    closing: bool,
    closed: bool,
    gathered: usize,
}

impl Client {
    /// Opens the store, or makes it, and begins to send what is in it.
    ///
    /// # Errors
    /// Another client has the store; it is of a newer release, or cannot be opened; a setting is out of its range.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        config.check()?;
        let store = match &config.dir {
            Some(dir) => Store::open(dir, config.bounds)?,
            None => Store::in_memory(config.bounds)?,
        };
        let background = config.background;
        let inner = Arc::new(Inner {
            sender: Mutex::new(State::new(&config)),
            blocked: RwLock::default(),
            epoch: Mutex::new(Epoch {
                id: 0,
                base_ms: config.clock.wall_ms() - config.clock.monotonic_ms(),
                set_ms: store.set_before_ms,
                offset_ms: None,
            }),
            max_event_bytes: AtomicUsize::new(MAX_EVENT_BYTES),
            flush_interval_ms: AtomicU64::default(),
            new_credential: Mutex::default(),
            untidy: AtomicUsize::new(0),
            sessions: Mutex::default(),
            wake: Mutex::new(Wake {
                now: true,
                closed: !background,
                ..Wake::default()
            }),
            woken: Condvar::new(),
            thread: Mutex::default(),
            config,
            store,
        });
        inner.set_flush_interval(inner.config.flush_interval);
        if background {
            let sending = Arc::clone(&inner);
            let thread = thread::Builder::new()
                .name("rivulet".to_owned())
                .spawn(move || sending.run())
                .map_err(|error| OpenError::Store(error.to_string()))?;
            *inner.thread.lock() = Some(thread);
        }
        Ok(Self(Arc::new(Owner(inner))))
    }

    /// Stores an event of a child, which happened now. It does not wait for the network or for the disk.
    ///
    /// # Errors
    /// It was not stored. The reason was counted, so an app need not do anything about it.
    pub fn track(&self, child: Uuid, event: Event) -> Result<Uuid, NotStored> {
        self.0.track(child, &event)
    }

    /// Begins a session of a child.
    #[must_use]
    pub fn session(&self, child: Uuid, kind: Option<SessionKind>) -> Session {
        Session::begin(Arc::clone(&self.0.0), child, kind)
    }

    /// Asks for all that waits to be sent now, whatever was to be waited for, but not before the server allows it. Returns at once.
    pub fn flush(&self) {
        // While something is being sent, its answer decides.
        if let Some(mut state) = self.0.sender.try_lock() {
            state.hurry();
        }
        self.0.wake(|wake| wake.now = true);
    }

    /// Sends all that may be sent now, on this thread, and says what is left. Blocks for as long as the network does.
    pub fn send(&self) -> Progress {
        self.0.tick();
        self.0.send()
    }

    /// The app goes to the background: sessions pause, and what waits is sent.
    pub fn background(&self) {
        for session in self.0.sessions() {
            session::hide(&self.0, &session);
        }
        self.flush();
    }

    /// The app is back: sessions go on.
    pub fn foreground(&self) {
        for session in self.0.sessions() {
            session::show(&self.0, &session);
        }
        self.flush();
    }

    /// What the family consents to, where the app knows it; `None` leaves it as it is. What is not consented to is purged at once and not
    /// stored any more, until it is given again.
    pub fn set_consent(&self, coppa: Option<bool>, audio: Option<bool>) {
        let mut blocked = self.0.blocked.write();
        blocked.app.0 = coppa.map_or(blocked.app.0, |given| !given);
        blocked.app.1 = audio.map_or(blocked.app.1, |given| !given);
        blocked.forget(coppa == Some(true), audio == Some(true));
        self.0.purge_blocked(blocked.app);
    }

    /// A new credential, which is tried at once. Returns at once.
    pub fn set_credential(&self, credential: impl Into<Credential>) {
        *self.0.new_credential.lock() = Some(credential.into());
        self.0.wake(|wake| wake.now = true);
    }

    /// Everything that ever was in the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn stats(&self) -> Result<Stats, OpenError> {
        Ok(self.0.store.stats()?)
    }

    /// Ends sessions, tries once more to send what waits, for as long as `within`, and stops. What is left is sent after the next
    /// start. Returns whether the store is free for another client.
    pub fn close(self, within: Duration) -> bool {
        self.0.end_sessions();
        let until = Instant::now() + within;
        let mut wake = self.0.wake.lock();
        wake.closing = true;
        self.0.woken.notify_all();
        while !wake.closed && !self.0.woken.wait_until(&mut wake, until).timed_out() {}
        let closed = wake.closed;
        drop(wake);
        if closed && let Some(thread) = self.0.thread.lock().take() {
            // It is at its end.
            _ = thread.join();
        }
        closed && Arc::strong_count(&self.0) == 1 && Arc::strong_count(&self.0.0) == 1
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.0.config).finish()
    }
}

impl Deref for Owner {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.end_sessions();
        self.wake(|wake| wake.closing = true);
    }
}

impl Inner {
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.config.clock
    }

    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        self.config.observer.debug(&line());
    }

    pub(crate) fn track(&self, child: Uuid, event: &Event) -> Result<Uuid, NotStored> {
        if self.wake.lock().closing {
            return Err(NotStored::Closed);
        }
        // Held until it is stored: whoever withdraws a consent purges after that.
        let blocked = self.blocked.read();
        if blocked.takes(child, event.is_speech()) {
            self.lost(Dropped::Consent, 1);
            return Err(NotStored::Consent);
        }
        let Ok(epoch) = self.stored_epoch() else {
            self.lost(Dropped::Disk, 1);
            return Err(NotStored::Disk);
        };
        let made_ms = self.clock().wall_ms();
        let by_server = u64::try_from(made_ms + epoch.offset_ms.unwrap_or(0)).unwrap_or(0);
        let id = Builder::from_unix_timestamp_millis(by_server, &rand::random()).into_uuid();
        let json = wire::event(event, id, child, made_ms, &self.config.device)
            .map_err(|_| NotStored::TooLarge)?;
        if json.len() > self.max_event_bytes.load(Ordering::Relaxed) {
            self.lost(Dropped::TooLarge, 1);
            return Err(NotStored::TooLarge);
        }
        let is_speech = event.is_speech();
        let new = New {
            id,
            epoch: epoch.id,
            child,
            is_speech,
            made_ms,
            json: &json,
        };
        let evicted = match self.store.push(&new) {
            Ok(evicted) => evicted,
            Err(error) => {
                self.say(|| format!("the store cannot be written: {error}"));
                self.lost(Dropped::Disk, 1);
                return Err(NotStored::Disk);
            }
        };
        drop(blocked);
        if evicted > 0 {
            self.config.observer.dropped(Dropped::Overflow, evicted);
        }
        if self.untidy.fetch_add(1, Ordering::Relaxed) >= TIDY_EVERY {
            self.tidy();
        }
        self.wake(|wake| wake.gathered += 1);
        Ok(id)
    }

    /// Counts what was not stored, and tells it. Where not even the count can be stored, it is told all the same.
    fn lost(&self, reason: Dropped, count: u64) {
        if let Err(error) = self.store.count(reason, count) {
            self.say(|| format!("the store cannot be written: {error}"));
        }
        self.config.observer.dropped(reason, count);
    }

    pub(crate) fn set_max_event_bytes(&self, bytes: usize) {
        self.max_event_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_flush_interval(&self, interval: Duration) {
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        self.flush_interval_ms.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn server_consents(&self, consents: wire::Consents) {
        let mut blocked = self.blocked.write();
        blocked.server = (!consents.coppa, !consents.audio);
        blocked.forget(consents.coppa, consents.audio);
        self.purge_blocked(blocked.server);
    }

    fn purge_blocked(&self, (all, speech): (bool, bool)) {
        if all || speech {
            self.purge(Purge {
                child: None,
                only_speech: !all,
            });
        }
    }

    /// Whoever calls it holds the list of who is blocked, so nothing of them is stored at the same time.
    pub(crate) fn purge(&self, what: Purge) {
        match self.store.purge(what) {
            Ok(0) => {}
            Ok(count) => self.config.observer.dropped(Dropped::Consent, count),
            Err(error) => self.say(|| format!("the store cannot be written: {error}")),
        }
    }

    pub(crate) fn tidy(&self) {
        self.untidy.store(0, Ordering::Relaxed);
        if let Err(error) = self.store.tidy() {
            self.say(|| format!("the store cannot be tidied up: {error}"));
        }
    }

    /// The epoch that runs. The first of a run has no row before its first event; each that follows has one at once, so that
    /// the next run knows that the clock was set.
    pub(crate) fn running_epoch(&self) -> MutexGuard<'_, Epoch> {
        let base_ms = self.clock().wall_ms() - self.clock().monotonic_ms();
        let mut epoch = self.epoch.lock();
        if let Some(next) = epoch.next(base_ms) {
            *epoch = next;
            if let Err(error) = self.store_epoch(&mut epoch) {
                self.say(|| format!("the store cannot be written: {error}"));
            }
        }
        epoch
    }

    pub(crate) fn epoch(&self) -> Epoch {
        *self.running_epoch()
    }

    fn stored_epoch(&self) -> rusqlite::Result<Epoch> {
        let mut running = self.running_epoch();
        self.store_epoch(&mut running)?;
        Ok(*running)
    }

    fn store_epoch(&self, epoch: &mut Epoch) -> rusqlite::Result<()> {
        if epoch.id == 0 {
            epoch.id = self.store.begin_epoch(epoch)?;
        }
        Ok(())
    }

    pub(crate) fn sessions(&self) -> Vec<Arc<Running>> {
        self.sessions.lock().clone()
    }

    pub(crate) fn add_session(&self, session: &Arc<Running>) {
        self.sessions.lock().push(Arc::clone(session));
        self.wake(|_| {});
    }

    pub(crate) fn remove_session(&self, session: &Arc<Running>) {
        self.sessions
            .lock()
            .retain(|other| !Arc::ptr_eq(other, session));
    }

    fn end_sessions(&self) {
        for session in self.sessions() {
            session::end(self, &session);
        }
    }

    fn tick(&self) {
        for session in self.sessions() {
            session::tick(self, &session);
        }
    }

    fn wake(&self, change: impl FnOnce(&mut Wake)) {
        let mut wake = self.wake.lock();
        let was_idle = wake.gathered == 0;
        change(&mut wake);
        // The first event starts the flush interval; each of the others would only wake the thread for nothing.
        if was_idle || wake.now || wake.closing || wake.gathered >= BATCH_EVENTS {
            self.woken.notify_all();
        }
    }

    /// The thread. Between two looks nothing runs: with an empty queue and no session it sleeps until it is woken.
    fn run(&self) {
        let mut due = Instant::now();
        loop {
            let closing = {
                let mut wake = self.wake.lock();
                loop {
                    let is_due = Instant::now() >= due && self.store.queued() > 0;
                    if wake.now || wake.closing || wake.gathered >= BATCH_EVENTS || is_due {
                        break;
                    }
                    if self.store.queued() == 0 && self.sessions.lock().is_empty() {
                        self.woken.wait(&mut wake);
                        due = Instant::now() + self.interval();
                        continue;
                    }
                    let next = due.min(Instant::now() + session::TICK);
                    if self.woken.wait_until(&mut wake, next).timed_out() {
                        MutexGuard::unlocked(&mut wake, || self.tick());
                    }
                }
                (wake.now, wake.gathered) = (false, 0);
                wake.closing
            };
            let progress = self.send();
            let interval = self.interval();
            due = Instant::now()
                + progress
                    .wait
                    .map_or(interval, |wait| wait.max(Duration::from_millis(50)));
            if closing {
                self.wake.lock().closed = true;
                self.woken.notify_all();
                return;
            }
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.flush_interval_ms.load(Ordering::Relaxed))
    }
}
