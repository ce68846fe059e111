//! The client SDK's core as Kotlin, Swift and Python see it, by UniFFI. No app uses it as it is: each
//! language has a package around it, in its own way of speaking.
//!
//! Nothing here panics into an app: what the app's own code throws, when it is called, is a
//! [`CallbackError`], and what panics in Rust all the same comes as the binding's internal error, which
//! the packages catch.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rivulet_sdk as sdk;
use serde_json::{Map, Value};
use uuid::Uuid;

mod callbacks;

pub use callbacks::{
    CallbackError, Clock, Observer, Rejected, Request, Response, TokenSource, Transport,
};
use callbacks::{Foreign, ForeignClock, ForeignTransport};

uniffi::setup_scaffolding!();

/// How a client is opened.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Settings {
    /// Where the server is, without a path: `https://events.example`.
    pub url: String,
    /// A directory that belongs to this client alone. It is made where it is missing.
    pub dir: String,
    /// The app's own id of the device, at most 64 characters.
    #[uniffi(default = None)]
    pub device_id: Option<String>,
    /// What the device runs.
    #[uniffi(default = None)]
    pub platform: Option<Platform>,
    /// At most 32 characters.
    #[uniffi(default = None)]
    pub app_version: Option<String>,
    /// Events that wait at most, 1 to 1 000 000.
    #[uniffi(default = 10000)]
    pub max_events: u64,
    /// Bytes of JSON that wait at most, 100 000 to 1 000 000 000.
    #[uniffi(default = 10000000)]
    pub max_bytes: u64,
    /// How long events are gathered until the server has said otherwise, 1 to 3 600 s.
    #[uniffi(default = 30)]
    pub flush_interval_s: u64,
    /// How long Rust's own HTTP waits for an answer, in ms.
    #[uniffi(default = 30000)]
    pub timeout_ms: u64,
    /// Whether a thread of the client's own sends.
    #[uniffi(default = true)]
    pub background: bool,
}

/// What a device runs.
#[derive(Clone, Copy, Debug, uniffi::Enum)]
pub enum Platform {
    /// iOS and iPadOS.
    Ios,
    /// Android.
    Android,
    /// A browser.
    Web,
    /// Anything else.
    Other,
}

/// As whom to send.
#[derive(Clone, uniffi::Enum)]
pub enum Credential {
    /// An API key of scope `ingest`.
    Key {
        /// It.
        key: String,
    },
    /// Who has the app's backend make client tokens.
    Token {
        /// Is asked when there is none, when one is about to end, and once when the server refuses one.
        source: Arc<dyn TokenSource>,
    },
}

/// What a session is for.
#[derive(Clone, Copy, Debug, uniffi::Enum)]
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

/// What became of everything that ever was in the store.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Stats {
    /// Events that wait now.
    pub queued: u64,
    /// Their JSON, in bytes.
    pub queued_bytes: u64,
    /// Events that the server has accepted.
    pub accepted: u64,
    /// Events that the server has refused for good, by its code.
    pub rejected: HashMap<String, u64>,
    /// Events that were not sent, by reason; `invalid` ones since the client was opened.
    pub dropped: HashMap<String, u64>,
}

/// How far sending came.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Progress {
    /// Events that still wait.
    pub queued: u64,
    /// How long to wait before the next attempt makes sense, in ms; none where nothing has to be waited for.
    pub wait_ms: Option<u64>,
    /// Why nothing is sent: `unauthorized`, `forbidden`, `disabled` or `refused`.
    pub stopped: Option<String>,
}

/// Why a client cannot be opened or asked.
#[derive(Debug, thiserror::Error, uniffi::Error)]
#[uniffi(flat_error)]
pub enum RivuletError {
    /// Another client has the directory, in this process or another.
    #[error("{0}")]
    InUse(sdk::OpenError),
    /// The store cannot be opened or read.
    #[error("{0}")]
    Store(sdk::OpenError),
    /// A setting is out of its range.
    #[error("{0}")]
    Config(String),
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
}

impl From<sdk::OpenError> for RivuletError {
    fn from(error: sdk::OpenError) -> Self {
        match error {
            sdk::OpenError::InUse => Self::InUse(error),
            sdk::OpenError::Config(what) => Self::Config(what),
            error => Self::Store(error),
        }
    }
}

/// An event was not stored.
#[derive(Debug, thiserror::Error, uniffi::Error)]
#[uniffi(flat_error)]
pub enum NotStored {
    /// The parent does not consent to it. It is counted.
    #[error("the parent does not consent to it")]
    Consent,
    /// It is larger than the server takes. It is counted.
    #[error("it is larger than the server takes")]
    TooLarge,
    /// The disk does not take it. It is counted.
    #[error("the disk does not take it")]
    Disk,
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
    /// It is none, or its child's or session's id is no UUID: what is wrong. It is counted.
    #[error("{0}")]
    Invalid(String),
}

impl From<sdk::NotStored> for NotStored {
    fn from(why: sdk::NotStored) -> Self {
        match why {
            sdk::NotStored::Consent => Self::Consent,
            sdk::NotStored::TooLarge => Self::TooLarge,
            sdk::NotStored::Disk => Self::Disk,
            sdk::NotStored::Closed => Self::Closed,
        }
    }
}

/// Sends an app's events.
#[derive(uniffi::Object)]
pub struct Client {
    open: RwLock<Option<Arc<sdk::Client>>>,
    /// Each holds the store, which a client that is closed lets go.
    sessions: Mutex<Vec<Weak<Session>>>,
    observer: Option<Arc<Foreign<dyn Observer>>>,
    source: Mutex<Option<Arc<Foreign<dyn TokenSource>>>>,
    /// Events that were none.
    invalid: AtomicU64,
}

#[uniffi::export]
impl Client {
    /// Opens the store, or makes it, and begins to send what is in it.
    ///
    /// # Errors
    /// Another client has the store; it cannot be opened; a setting is out of its range.
    #[uniffi::constructor]
    pub fn open(
        settings: Settings,
        credential: Credential,
        transport: Option<Arc<dyn Transport>>,
        observer: Option<Arc<dyn Observer>>,
        clock: Option<Arc<dyn Clock>>,
    ) -> Result<Arc<Self>, RivuletError> {
        let transport = match transport {
            Some(transport) => Arc::new(ForeignTransport(transport)),
            None => own_http(settings.timeout_ms)?,
        };
        let (credential, source) = of_app(credential);
        let mut config = sdk::Config {
            bounds: sdk::Bounds {
                events: settings.max_events,
                bytes: settings.max_bytes,
            },
            device: sdk::Device {
                id: settings.device_id,
                platform: settings.platform.map(Into::into),
                app_version: settings.app_version,
            },
            flush_interval: Duration::from_secs(settings.flush_interval_s),
            background: settings.background,
            ..sdk::Config::with(settings.url, credential, settings.dir, transport)
        };
        let observer = observer.map(Foreign::new);
        if let Some(observer) = &observer {
            config.observer = Arc::clone(observer) as _;
        }
        if let Some(clock) = clock {
            config.clock = Arc::new(ForeignClock::new(clock));
        }
        let client = sdk::Client::open(config)?;
        Ok(Arc::new(Self {
            open: RwLock::new(Some(Arc::new(client))),
            sessions: Mutex::default(),
            observer,
            source: Mutex::new(source),
            invalid: AtomicU64::new(0),
        }))
    }

    /// Stores an event of a child, which happened now, and returns its id. `data` and `attributes` are
    /// JSON objects.
    ///
    /// # Errors
    /// It was not stored.
    pub fn track(
        &self,
        child: &str,
        kind: String,
        data: &str,
        session: Option<String>,
        attributes: Option<String>,
    ) -> Result<String, NotStored> {
        let client = self.client().ok_or(NotStored::Closed)?;
        let made =
            event(kind, data, session, attributes).and_then(|event| Ok((uuid(child)?, event)));
        let (child, event) = made.inspect_err(|_| {
            self.invalid.fetch_add(1, Ordering::Relaxed);
            if let Some(observer) = &self.observer {
                observer.invalid();
            }
        })?;
        Ok(client.track(child, event)?.to_string())
    }

    /// Begins a session of a child.
    ///
    /// # Errors
    /// The child's id is no UUID, or the client was closed.
    pub fn session(
        &self,
        child: &str,
        kind: Option<SessionKind>,
    ) -> Result<Arc<Session>, NotStored> {
        let client = self.client().ok_or(NotStored::Closed)?;
        let session = client.session(uuid(child)?, kind.map(Into::into));
        let session = Arc::new(Session {
            id: session.id().to_string(),
            running: Mutex::new(Some(session)),
        });
        let mut sessions = self.sessions.lock();
        sessions.retain(|other| other.strong_count() > 0);
        sessions.push(Arc::downgrade(&session));
        Ok(session)
    }

    /// Asks for all that waits to be sent now. Returns at once.
    pub fn flush(&self) {
        if let Some(client) = self.client() {
            client.flush();
        }
    }

    /// Sends all that may be sent now, on this thread, and says what is left. Blocks for as long as the
    /// network does.
    ///
    /// # Errors
    /// The client was closed.
    pub fn send(&self) -> Result<Progress, RivuletError> {
        let progress = self.client().ok_or(RivuletError::Closed)?.send();
        Ok(Progress {
            queued: progress.queued,
            wait_ms: progress
                .wait
                .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            stopped: progress
                .stopped
                .as_ref()
                .map(|why| callbacks::word(why).to_owned()),
        })
    }

    /// The app goes to the background: sessions pause, and what waits is sent.
    pub fn background(&self) {
        if let Some(client) = self.client() {
            client.background();
        }
    }

    /// The app is back: sessions go on.
    pub fn foreground(&self) {
        if let Some(client) = self.client() {
            client.foreground();
        }
    }

    /// What the family consents to; what is not said stays as it is.
    pub fn set_consent(&self, coppa: Option<bool>, audio: Option<bool>) {
        if let Some(client) = self.client() {
            client.set_consent(coppa, audio);
        }
    }

    /// A new credential, which is tried at once.
    pub fn set_credential(&self, credential: Credential) {
        if let Some(client) = self.client() {
            let (credential, source) = of_app(credential);
            client.set_credential(credential);
            *self.source.lock() = source;
        }
    }

    /// What became of everything that ever was in the store.
    ///
    /// # Errors
    /// The store cannot be read, or the client was closed.
    pub fn stats(&self) -> Result<Stats, RivuletError> {
        let stats = self.client().ok_or(RivuletError::Closed)?.stats()?;
        let mut dropped: HashMap<_, _> = stats.dropped.into_iter().collect();
        let invalid = self.invalid.load(Ordering::Relaxed);
        if invalid > 0 {
            dropped.insert("invalid".to_owned(), invalid);
        }
        Ok(Stats {
            queued: stats.queued,
            queued_bytes: stats.queued_bytes,
            accepted: stats.accepted,
            rejected: stats.rejected.into_iter().collect(),
            dropped,
        })
    }

    /// Ends sessions, tries once more to send what waits, for as long as `within_ms`, and stops. Returns
    /// whether the store is free for another client. A second time it does nothing.
    pub fn close(&self, within_ms: u64) -> bool {
        let Some(client) = self.open.write().take() else {
            return true;
        };
        for session in self.sessions.lock().drain(..) {
            if let Some(session) = session.upgrade() {
                session.end();
            }
        }
        // Somebody may be sending on a thread of their own.
        let client = Arc::try_unwrap(client).unwrap_or_else(|busy| sdk::Client::clone(&busy));
        let is_free = client.close(Duration::from_millis(within_ms));
        if let Some(observer) = &self.observer {
            observer.let_go();
        }
        if let Some(source) = self.source.lock().take() {
            source.let_go();
        }
        is_free
    }
}

impl Client {
    fn client(&self) -> Option<Arc<sdk::Client>> {
        self.open.read().clone()
    }
}

/// A session that goes on. It ends when it is told to, with the client, or when nobody has it any more.
#[derive(uniffi::Object)]
pub struct Session {
    id: String,
    running: Mutex<Option<sdk::Session>>,
}

#[uniffi::export]
impl Session {
    /// Its id, for events that belong to it.
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// The child has stopped for now.
    pub fn pause(&self) {
        if let Some(session) = &*self.running.lock() {
            session.pause();
        }
    }

    /// The child goes on.
    pub fn resume(&self) {
        if let Some(session) = &*self.running.lock() {
            session.resume();
        }
    }

    /// It is over. A second time it does nothing.
    pub fn end(&self) {
        drop(self.running.lock().take());
    }
}

impl From<Platform> for sdk::Platform {
    fn from(platform: Platform) -> Self {
        match platform {
            Platform::Ios => Self::Ios,
            Platform::Android => Self::Android,
            Platform::Web => Self::Web,
            Platform::Other => Self::Other,
        }
    }
}

impl From<SessionKind> for sdk::SessionKind {
    fn from(kind: SessionKind) -> Self {
        match kind {
            SessionKind::Learning => Self::Learning,
            SessionKind::Play => Self::Play,
            SessionKind::Story => Self::Story,
            SessionKind::Quiz => Self::Quiz,
            SessionKind::Review => Self::Review,
            SessionKind::Other => Self::Other,
        }
    }
}

/// The core's credential, and what has to be let go of it.
fn of_app(credential: Credential) -> (sdk::Credential, Option<Arc<Foreign<dyn TokenSource>>>) {
    match credential {
        Credential::Key { key } => (sdk::Credential::Key(key), None),
        Credential::Token { source } => {
            let source = Foreign::new(source);
            let asked = Arc::clone(&source);
            let ask = move || asked.token();
            (sdk::Credential::Token(Arc::new(ask)), Some(source))
        }
    }
}

#[cfg(feature = "http")]
fn own_http(timeout_ms: u64) -> Result<Arc<dyn sdk::Transport>, RivuletError> {
    Ok(Arc::new(sdk::Http::new(Duration::from_millis(timeout_ms))))
}

#[cfg(not(feature = "http"))]
fn own_http(_: u64) -> Result<Arc<dyn sdk::Transport>, RivuletError> {
    let why = "this build has no HTTP of its own: give it a transport";
    Err(RivuletError::Config(why.to_owned()))
}

fn uuid(text: &str) -> Result<Uuid, NotStored> {
    let why = || {
        NotStored::Invalid(format!(
            "an id has to be a UUID, and this is none: {text:?}"
        ))
    };
    Uuid::try_parse(text).map_err(|_| why())
}

fn event(
    kind: String,
    data: &str,
    session: Option<String>,
    attributes: Option<String>,
) -> Result<sdk::Event, NotStored> {
    let mut event = sdk::Event::new(kind, Value::Object(object(data)?));
    event.session_id = session.as_deref().map(uuid).transpose()?;
    if let Some(attributes) = attributes {
        event.attributes = object(&attributes)?.into_iter().collect();
    }
    Ok(event)
}

fn object(text: &str) -> Result<Map<String, Value>, NotStored> {
    serde_json::from_str(text)
        .map_err(|error| NotStored::Invalid(format!("it is no JSON object: {error}")))
}
