//! What an app says once, and what it says of each event.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{Bounds, Clock, Observer, OpenError, SystemClock, Transport};

/// How a client is opened.
pub struct Config {
    /// Where the server is, without a path: `https://events.example`.
    pub url: String,
    /// As whom to send.
    pub credential: Credential,
    /// A directory that belongs to this client alone. It is made where it is missing. Without one everything is in memory, and
    /// gone with the client: for tests, and for programs that can tell everything again.
    pub dir: Option<PathBuf>,
    /// The device, in each event.
    pub device: Device,
    /// What the queue may hold.
    pub bounds: Bounds,
    /// How long events are gathered until the server has said otherwise (30 s by default); 200 of them do not wait.
    pub flush_interval: Duration,
    /// Whether a thread of the client's own sends. Without it the app calls [`Client::send`](crate::Client::send).
    pub background: bool,
    /// How requests leave.
    pub transport: Arc<dyn Transport>,
    /// Whom to tell.
    pub observer: Arc<dyn Observer>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// Everything else as it is by default, and HTTP by [`Http`](crate::Http).
    #[cfg(feature = "http")]
    pub fn new(
        url: impl Into<String>,
        credential: impl Into<Credential>,
        dir: impl Into<PathBuf>,
    ) -> Self {
        Self::with(url, credential, dir, Arc::new(crate::Http::default()))
    }

    /// Everything else as it is by default.
    pub fn with(
        url: impl Into<String>,
        credential: impl Into<Credential>,
        dir: impl Into<PathBuf>,
        transport: Arc<dyn Transport>,
    ) -> Self {
        Self {
            url: url.into(),
            credential: credential.into(),
            dir: Some(dir.into()),
            device: Device::default(),
            bounds: Bounds::default(),
            flush_interval: Duration::from_secs(30),
            background: true,
            transport,
            observer: Arc::new(()),
            clock: Arc::new(SystemClock),
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let wrong = |what: &str| Err(OpenError::Config(what.to_owned()));
        if !self.url.starts_with("https://") && !self.url.starts_with("http://") {
            return wrong(
                "url must begin with https:// (or http://, for a server on this machine)",
            );
        }
        if !(1..=1_000_000).contains(&self.bounds.events) {
            return wrong(
                "bounds.events must be 1 to 1 000 000: that many events are kept offline",
            );
        }
        if !(100_000..=1_000_000_000).contains(&self.bounds.bytes) {
            return wrong(
                "bounds.bytes must be 100 000 to 1 000 000 000: so much of the disk is used offline",
            );
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.flush_interval) {
            return wrong("flush_interval must be 1 s to 1 h: so long may an event wait");
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// As whom to send.
#[derive(Clone)]
pub enum Credential {
    /// An API key of scope `ingest`: for programs on a server. In an app it is public.
    Key(String),
    /// Asks the app's backend for a [client token](https://jwt.io) of the family: when there is none, when it has less than a
    /// minute to live, and once when the server refuses it. `None`: there is none now; it is asked for again later.
    Token(Arc<dyn Fn() -> Option<String> + Send + Sync>),
}

impl From<String> for Credential {
    fn from(key: String) -> Self {
        Self::Key(key)
    }
}

impl From<&str> for Credential {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Key(…)",
            Self::Token(_) => "Token(…)",
        })
    }
}

/// A platform of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
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

/// The device that an app runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Device {
    /// The app's own id of it, at most 64 characters: of no advertiser, and of no hardware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// At most 32 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
}

impl Device {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What happened. The builders of each language make it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `interaction`, `message`, `speech` or `session`.
    pub kind: String,
    /// The fields of that type (docs/sending-events.md#fields).
    pub data: Value,
    /// The session that it belongs to.
    pub session_id: Option<Uuid>,
    /// For analysts: at most 16; strings of at most 256 characters, numbers and booleans.
    pub attributes: BTreeMap<String, Value>,
}

impl Event {
    /// Of no session, and without attributes.
    pub fn new(kind: impl Into<String>, data: Value) -> Self {
        Self {
            kind: kind.into(),
            data,
            session_id: None,
            attributes: BTreeMap::new(),
        }
    }

    /// In a session.
    #[must_use]
    pub fn in_session(mut self, session: Uuid) -> Self {
        self.session_id = Some(session);
        self
    }

    pub(crate) fn is_speech(&self) -> bool {
        self.kind == "speech"
    }
}
