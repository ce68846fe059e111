//! What an app's own code does for the client. It may throw: then it is as if there were no answer.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use rivulet_sdk as sdk;

/// The app's code threw.
#[derive(Debug, thiserror::Error, uniffi::Error)]
pub enum CallbackError {
    /// This.
    #[error("{reason}")]
    Failed {
        /// For a developer's log.
        reason: String,
    },
}

impl From<uniffi::UnexpectedUniFFICallbackError> for CallbackError {
    fn from(error: uniffi::UnexpectedUniFFICallbackError) -> Self {
        Self::Failed {
            reason: error.reason,
        }
    }
}

/// Asks the app's backend for client tokens.
#[uniffi::export(with_foreign)]
pub trait TokenSource: Send + Sync {
    /// A token; none: there is none now, and it is asked for again later.
    ///
    /// # Errors
    /// As none.
    fn token(&self) -> Result<Option<String>, CallbackError>;
}

/// A request, to be sent as it is.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// Whole.
    pub url: String,
    /// All headers but `Host` and `Content-Length`.
    pub headers: HashMap<String, String>,
    /// Empty for `GET`.
    pub body: Vec<u8>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Response {
    /// 100 to 599.
    pub status: u16,
    /// The header `Retry-After`, as it came.
    pub retry_after: Option<String>,
    /// The whole body. What is longer than 4 MiB need not be read.
    pub body: Vec<u8>,
}

/// Sends requests, one at a time, on a thread that may be blocked.
#[uniffi::export(with_foreign)]
pub trait Transport: Send + Sync {
    /// Sends it and waits for the answer, for half a minute at most. Redirects are not followed.
    ///
    /// # Errors
    /// There was no whole answer.
    fn send(&self, request: Request) -> Result<Response, CallbackError>;
}

/// The device's clocks.
#[uniffi::export(with_foreign)]
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z, as the device believes.
    ///
    /// # Errors
    /// The device's own clock is read then.
    fn wall_ms(&self) -> Result<i64, CallbackError>;

    /// Milliseconds of a clock that nobody sets.
    ///
    /// # Errors
    /// The device's own clock is read then.
    fn monotonic_ms(&self) -> Result<i64, CallbackError>;
}

/// An event that the server will never take.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Rejected {
    /// The event.
    pub id: String,
    /// Of docs/sending-events.md#codes-of-a-rejected-event.
    pub code: String,
    /// JSON pointer to the field, where one is the cause.
    pub pointer: Option<String>,
    /// For people.
    pub message: String,
}

/// What a client has to tell, from its own thread or from the one that calls it. Must not block, and must
/// not call the client.
#[uniffi::export(with_foreign)]
pub trait Observer: Send + Sync {
    /// The server refused an event for good.
    ///
    /// # Errors
    /// Nobody hears of them.
    fn rejected(&self, rejected: Rejected) -> Result<(), CallbackError>;

    /// Events are gone that the server never had: `overflow`, `expired`, `consent`, `too_large`, `disk`,
    /// `damaged` or `invalid`.
    ///
    /// # Errors
    /// Nobody hears of them.
    fn dropped(&self, reason: String, count: u64) -> Result<(), CallbackError>;

    /// Nothing is sent from now on: `unauthorized`, `forbidden`, `disabled` or `refused`, and the same in
    /// words.
    ///
    /// # Errors
    /// Nobody hears of them.
    fn stopped(&self, reason: String, message: String) -> Result<(), CallbackError>;

    /// A line for the developer's log.
    ///
    /// # Errors
    /// Nobody hears of them.
    fn debug(&self, line: String) -> Result<(), CallbackError>;
}

/// What is of the app, where the core wants its own. A client that was closed lets it go: a thread may
/// still be waiting for the network then, and must not call an interpreter that has ended.
pub(crate) struct Foreign<T: ?Sized>(RwLock<Option<Arc<T>>>);

impl<T: ?Sized> Foreign<T> {
    pub(crate) fn new(of_app: Arc<T>) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Some(of_app))))
    }

    /// Waits for calls that are under way.
    pub(crate) fn let_go(&self) {
        *self.0.write() = None;
    }

    fn call<R>(&self, call: impl FnOnce(&T) -> Result<R, CallbackError>) -> Option<R> {
        call(self.0.read_recursive().as_deref()?).ok()
    }
}

impl Foreign<dyn TokenSource> {
    /// An app that throws has none now.
    pub(crate) fn token(&self) -> Option<String> {
        self.call(|source| source.token()).flatten()
    }
}

impl sdk::Observer for Foreign<dyn Observer> {
    fn rejected(&self, rejected: &sdk::Rejected) {
        let rejected = Rejected {
            id: rejected.id.to_string(),
            code: rejected.code.clone(),
            pointer: rejected.pointer.clone(),
            message: rejected.message.clone(),
        };
        self.call(|app| app.rejected(rejected));
    }

    fn dropped(&self, reason: sdk::Dropped, count: u64) {
        self.call(|app| app.dropped(reason.as_str().to_owned(), count));
    }

    fn stopped(&self, why: &sdk::Stopped) {
        self.call(|app| app.stopped(word(why).to_owned(), why.to_string()));
    }

    fn debug(&self, line: &str) {
        self.call(|app| app.debug(line.to_owned()));
    }
}

impl Foreign<dyn Observer> {
    /// An event that is none: the core never saw it.
    pub(crate) fn invalid(&self) {
        self.call(|app| app.dropped("invalid".to_owned(), 1));
    }
}

/// The app's transport. It may be in the middle of a request for longer than closing may take, so it is
/// not let go.
pub(crate) struct ForeignTransport(pub(crate) Arc<dyn Transport>);

impl sdk::Transport for ForeignTransport {
    fn send(&self, request: &sdk::Request) -> Result<sdk::Response, sdk::NoAnswer> {
        let headers = request.headers.iter();
        let request = Request {
            method: request.method.to_owned(),
            url: request.url.clone(),
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            body: request.body.clone(),
        };
        match self.0.send(request) {
            Ok(response) => Ok(sdk::Response {
                status: response.status,
                retry_after: response.retry_after,
                body: response.body,
            }),
            Err(error) => Err(sdk::NoAnswer(error.to_string())),
        }
    }
}

/// The app's clock, and the device's where that one throws.
pub(crate) struct ForeignClock {
    clock: Arc<dyn Clock>,
    own: sdk::SystemClock,
}

impl ForeignClock {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            own: sdk::SystemClock,
        }
    }
}

impl sdk::Clock for ForeignClock {
    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms().unwrap_or_else(|_| self.own.wall_ms())
    }

    fn monotonic_ms(&self) -> i64 {
        self.clock
            .monotonic_ms()
            .unwrap_or_else(|_| self.own.monotonic_ms())
    }
}

pub(crate) fn word(why: &sdk::Stopped) -> &'static str {
    match why {
        sdk::Stopped::Unauthorized => "unauthorized",
        sdk::Stopped::Forbidden => "forbidden",
        sdk::Stopped::Disabled => "disabled",
        sdk::Stopped::Refused { .. } => "refused",
    }
}
