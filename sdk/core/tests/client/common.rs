//! A server without a network, clocks that are set, and a client between them.

use std::{
    collections::VecDeque,
    io::Read as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use parking_lot::Mutex;
use rivulet_sdk::{
    Client, Clock, Config, Credential, Dropped, Event, NoAnswer, Observer, Rejected, Request,
    Response, Stopped, Transport,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const CHILD: Uuid = Uuid::from_u128(0x11);
pub(crate) const OTHER: Uuid = Uuid::from_u128(0x22);

/// 2026-05-04T09:30:00Z.
pub(crate) const NOW: i64 = 1_777_887_000_000;
pub(crate) const SECOND: i64 = 1_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) type Answer = Result<Response, NoAnswer>;

#[derive(Default)]
pub(crate) struct Clocks {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl Clocks {
    /// Time passes.
    pub(crate) fn pass(&self, millis: i64) {
        self.set_on(millis);
        self.monotonic.fetch_add(millis, Ordering::Relaxed);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_on(&self, millis: i64) {
        self.wall.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for Clocks {
    fn wall_ms(&self) -> i64 {
        self.wall.load(Ordering::Relaxed)
    }

    fn monotonic_ms(&self) -> i64 {
        self.monotonic.load(Ordering::Relaxed)
    }
}

/// What it was asked, and what it will answer: without more in its script it accepts everything.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) script: Mutex<VecDeque<Answer>>,
    pub(crate) config: Mutex<Option<Value>>,
    /// Its clock.
    pub(crate) now: Mutex<Option<i64>>,
    pub(crate) posts: Mutex<Vec<Value>>,
    pub(crate) credentials: Mutex<Vec<String>>,
}

impl Server {
    pub(crate) fn will(&self, answers: impl IntoIterator<Item = Answer>) {
        self.script.lock().extend(answers);
    }

    pub(crate) fn last(&self) -> Value {
        self.posts.lock().last().cloned().unwrap_or_default()
    }

    fn received_at(&self) -> String {
        let now = self.now.lock().unwrap_or(NOW);
        chrono::DateTime::from_timestamp_millis(now)
            .unwrap()
            .to_rfc3339()
    }

    /// An answer with these outcomes, `accepted`, `retry`, or a code.
    pub(crate) fn outcomes(&self, outcomes: &[&str]) -> Response {
        let results: Vec<_> = outcomes
            .iter()
            .enumerate()
            .map(|(index, outcome)| match *outcome {
                "accepted" | "retry" => json!({"index": index, "id": null, "outcome": outcome}),
                code => json!({"index": index, "id": null, "outcome": "rejected", "code": code,
                               "pointer": "/data", "message": "why"}),
            })
            .collect();
        status(
            200,
            &json!({"received_at": self.received_at(), "results": results}),
        )
    }
}

pub(crate) fn status(status: u16, body: &Value) -> Response {
    Response {
        status,
        retry_after: None,
        body: body.to_string().into_bytes(),
    }
}

pub(crate) fn problem(of: u16, code: &str) -> Answer {
    Ok(status(of, &json!({"code": code})))
}

pub(crate) fn nothing() -> Answer {
    Err(NoAnswer("the connection was cut".to_owned()))
}

impl Transport for Server {
    fn send(&self, request: &Request) -> Answer {
        if request.method == "GET" {
            assert!(request.url.ends_with("/v1/config"));
            return match &*self.config.lock() {
                Some(config) => Ok(status(200, config)),
                None => problem(404, "not_found"),
            };
        }
        let mut body = String::new();
        flate2::read::GzDecoder::new(&request.body[..])
            .read_to_string(&mut body)
            .unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        let events = body["events"].as_array().unwrap().len();
        self.posts.lock().push(body);
        self.credentials.lock().push(request.headers[0].1.clone());
        match self.script.lock().pop_front() {
            Some(answer) => answer,
            None => Ok(self.outcomes(&vec!["accepted"; events])),
        }
    }
}

#[derive(Default)]
pub(crate) struct Told {
    pub(crate) rejected: Mutex<Vec<Rejected>>,
    pub(crate) dropped: Mutex<Vec<(Dropped, u64)>>,
    pub(crate) stopped: Mutex<Vec<Stopped>>,
}

impl Observer for Told {
    fn rejected(&self, rejected: &Rejected) {
        self.rejected.lock().push(rejected.clone());
    }

    fn dropped(&self, reason: Dropped, count: u64) {
        self.dropped.lock().push((reason, count));
    }

    fn stopped(&self, why: &Stopped) {
        self.stopped.lock().push(why.clone());
    }
}

pub(crate) struct Bed {
    pub(crate) dir: TempDir,
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) server: Arc<Server>,
    pub(crate) told: Arc<Told>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let bed = Self {
            dir: TempDir::new().unwrap(),
            clocks: Arc::default(),
            server: Arc::default(),
            told: Arc::default(),
        };
        bed.clocks.pass(NOW);
        bed
    }

    pub(crate) fn config(&self) -> Config {
        self.config_in(self.dir.path())
    }

    pub(crate) fn config_in(&self, dir: &Path) -> Config {
        let server: Arc<dyn Transport> = Arc::clone(&self.server) as _;
        Config {
            background: false,
            observer: Arc::clone(&self.told) as _,
            clock: Arc::clone(&self.clocks) as _,
            ..Config::with("https://events.example/", "rvk_key", dir, server)
        }
    }

    pub(crate) fn open(&self) -> Client {
        Client::open(self.config()).unwrap()
    }

    /// A process begins: its monotonic clock counts from somewhere else.
    pub(crate) fn restart(&self) -> Client {
        self.clocks.monotonic.store(7, Ordering::Relaxed);
        self.open()
    }
}

/// Tokens one after the other, the last one again and again.
pub(crate) fn tokens(tokens: &[&str]) -> Credential {
    let tokens: VecDeque<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
    let tokens = Mutex::new(tokens);
    Credential::Token(Arc::new(move || {
        let mut tokens = tokens.lock();
        if tokens.len() > 1 {
            tokens.pop_front()
        } else {
            tokens.front().cloned()
        }
    }))
}

pub(crate) fn view() -> Event {
    Event::new("interaction", json!({"action": "view"}))
}

pub(crate) fn speech() -> Event {
    Event::new(
        "speech",
        json!({"audio_session_id": Uuid::nil(), "window_ms": 1_000}),
    )
}

pub(crate) fn ids(post: &Value) -> Vec<String> {
    let events = post["events"].as_array().unwrap();
    events
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect()
}
