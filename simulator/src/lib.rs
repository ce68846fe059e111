//! A believable family app as a load source, with a ledger of every event and its answer.
//!
//! [`plan`] is pure: from a seed and a start it deals out the same deliveries, to the byte.
//! [`run()`] speaks HTTP and nothing else; what it sent and was answered goes into the [`ledger`],
//! from which [`recount`] tells, with the plainest code there is, what every table must hold.

use std::{io, path::PathBuf, time::Duration};

mod client;
mod event;
pub mod family;
pub mod ledger;
pub mod plan;
pub mod progress;
pub mod recount;
mod run;
mod script;
mod sdk;

pub use event::Planned;
pub use progress::Progress;
pub use run::run;
pub use script::{ASSISTANT_PHRASES, CHILD_PHRASES};

/// What to simulate, and where.
#[derive(Clone)]
pub struct Config {
    /// The server, such as `http://127.0.0.1:8080`.
    pub url: String,
    /// A key with scope `ingest`.
    pub ingest_key: String,
    /// A key with scope `admin`.
    pub admin_key: String,
    /// Same seed and start, same events.
    pub seed: u64,
    /// Children in all, in families of one to three.
    pub children: usize,
    /// Live events a second; 0 is as fast as they are taken.
    pub rate: f64,
    /// How long the live part goes on; `None` until cancelled. With a rate, this many seconds of
    /// events, which a slow server makes last longer. Zero leaves the back-fill alone.
    pub duration: Option<Duration>,
    /// Days to back-fill first, as fast as they are taken. At most 29: older events would be
    /// refused.
    pub history_days: u32,
    /// Most events an SDK collects before it sends; each has its own number up to this.
    pub batch: usize,
    /// Most events in a request, for bursts after a time offline.
    pub max_batch: usize,
    /// Requests in flight.
    pub concurrency: usize,
    /// How long an answer is waited for. Then the outcome is unknown and the batch sent again.
    pub timeout: Duration,
    /// Live events go through the product's own SDK, which makes their ids and decides when to send again. What no SDK
    /// sends is left out of them: copies, broken events.
    pub sdk: bool,
    /// Where to write the ledger, replacing what is there.
    pub ledger: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8080".to_owned(),
            ingest_key: String::new(),
            admin_key: String::new(),
            seed: 1,
            children: 100,
            rate: 20.0,
            duration: None,
            history_days: 0,
            batch: 50,
            max_batch: 500,
            concurrency: 8,
            timeout: Duration::from_secs(30),
            sdk: false,
            ledger: None,
        }
    }
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    /// Nobody answers there.
    #[error("the server cannot be reached; is `rivulet ingest` running there?")]
    Unreachable(#[source] reqwest::Error),
    /// No retry would help.
    #[error("the server refused a request with {status} {code}; check the keys and the limits")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem's code.
        code: String,
    },
    /// A body could not be compressed.
    #[error("a body cannot be compressed")]
    Encode(#[source] io::Error),
    /// An answer that does not have the form of docs/contract.md, "The answer".
    #[error("an answer is not of the contract")]
    Answer(#[source] serde_json::Error),
    /// An answer that does not list each event once, in order.
    #[error("an answer does not list each event once and in order")]
    Results,
    /// The SDK's client could not be made.
    #[error("the SDK cannot be opened")]
    Sdk(#[from] rivulet_sdk::OpenError),
    /// The ledger's file.
    #[error("the ledger cannot be written")]
    Ledger(#[source] io::Error),
}
