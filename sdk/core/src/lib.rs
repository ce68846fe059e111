//! The client SDK: what an app tells is on its own disk until the server has answered for it.
//!
//! ```no_run
//! use rivulet_sdk::{Client, Config, Event};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (url, token, dir, child) = ("", String::new(), std::path::Path::new(""), uuid::Uuid::nil());
//! # #[cfg(feature = "http")] {
//! let rivulet = Client::open(Config::new(url, token, dir))?;
//! rivulet.track(child, Event::new("interaction", serde_json::json!({"action": "view"})))?;
//! rivulet.close(std::time::Duration::from_secs(5));
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! [`Client::track`] stores an event and returns at once. A thread of the client's own sends what is stored, in batches,
//! again and again until the server has an answer for each ([`sender`](self)): accepted and rejected events are
//! forgotten, all others stay. Everything that ever was in the store is counted ([`Stats`]): accepted, rejected by code,
//! and dropped, with the reason, so that nothing is lost in silence.
//!
//! No runtime is asked of the app. [Time](Clock), [requests](Transport) and [what there is to tell](Observer) can be
//! replaced.

mod client;
mod clock;
mod config;
pub mod fake;
mod sender;
mod session;
mod store;
mod transport;
mod wire;

pub use client::{Client, NotStored};
pub use clock::{Clock, SystemClock};
pub use config::{Config, Credential, Device, Event, Platform};
pub use sender::{Failed, Progress, Stopped};
pub use session::{Session, SessionKind};
pub use store::{Bounds, Stats};
#[cfg(feature = "http")]
pub use transport::Http;
pub use transport::{MAX_ANSWER, NoAnswer, Request, Response, Transport};

use uuid::Uuid;

/// Why events are gone that the server never had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The queue was full: these were its oldest.
    Overflow,
    /// They waited for more than 30 days: the server takes none so old.
    Expired,
    /// The parent does not, or no longer, consent to them.
    Consent,
    /// One event is larger than the server takes.
    TooLarge,
    /// The disk did not take them.
    Disk,
    /// The store could not be read any more and was put aside, with an unknown number of events: counted as one.
    Damaged,
}

impl Dropped {
    /// As counted and as the server is told: `overflow`, `expired`, `consent`, `too_large`, `disk`, `damaged`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Expired => "expired",
            Self::Consent => "consent",
            Self::TooLarge => "too_large",
            Self::Disk => "disk",
            Self::Damaged => "damaged",
        }
    }
}

/// The client cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another client has this directory, in this process or another: two would send everything twice.
    #[error(
        "another client has this store: open one for each directory, and close it before the next"
    )]
    InUse,
    /// A newer release of the SDK made it.
    #[error(
        "the store was made by a newer release of the SDK (layout {0}): update the app, or give another directory"
    )]
    Newer(i64),
    /// It cannot be read, nor put aside.
    #[error("the store cannot be read")]
    Damaged,
    /// The directory cannot be made, read or written.
    #[error("the store cannot be opened: {0}")]
    Store(String),
    /// A setting is out of its range; which, and what it may be.
    #[error("{0}")]
    Config(String),
}

/// An event that the server will never take: tell your developers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// What [`Client::track`] returned.
    pub id: Uuid,
    /// Of docs/sending-events.md#codes-of-a-rejected-event.
    pub code: String,
    /// JSON pointer to the field, where one is the cause.
    pub pointer: Option<String>,
    /// For people. It quotes nothing of the event.
    pub message: String,
}

/// What a client has to tell, from its own thread or from the one that calls it. Must not block, and must not call
/// the client.
pub trait Observer: Send + Sync {
    /// The server refused an event for good. It is counted and forgotten.
    fn rejected(&self, rejected: &Rejected) {
        _ = rejected;
    }

    /// Events are gone that the server never had.
    fn dropped(&self, reason: Dropped, count: u64) {
        _ = (reason, count);
    }

    /// Sending has stopped until the app does something about it. Everything stays stored.
    fn stopped(&self, why: &Stopped) {
        _ = why;
    }

    /// A line for the developer's log: what was sent and answered, warnings, waits. Never what is in an event.
    fn debug(&self, line: &str) {
        _ = line;
    }
}

impl Observer for () {}
