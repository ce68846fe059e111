//! Devices whose events go through the product's own SDK: it makes the ids, tells the time by the device's clock, waits, sends
//! again, and says what the server has. What it sent and was answered is read off its requests.

use std::{
    collections::HashMap,
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use flate2::read::GzDecoder;
use rivulet_sdk::{
    Bounds, Client, Clock, Config, Credential, Device, Event, Http, NoAnswer, OpenError, Platform,
    Request, Response, Stopped, Transport,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    Error, family,
    ledger::{Attempt, Outcome, Sent},
    plan::Delivery,
};

/// What a request of the SDK came to.
pub(crate) struct Exchange {
    pub(crate) took: Duration,
    /// Of each event, in order.
    pub(crate) outcomes: Vec<(Outcome, Option<String>)>,
    /// Events that have their last answer.
    pub(crate) settled: Vec<Sent>,
}

/// Is told of each request as it is answered.
pub(crate) type Tell = Arc<dyn Fn(Exchange) + Send + Sync>;

/// A device with the SDK in its app. What waits is in memory.
pub(crate) struct Handset {
    client: Client,
    clock: Arc<DeviceClock>,
    wire: Arc<Wire>,
    /// The events of the last delivery, by which one that is dealt out twice is known.
    last: Option<Arc<str>>,
}

impl Handset {
    pub(crate) fn new(
        url: &str,
        key: &str,
        of: &family::Device,
        timeout: Duration,
        tell: Tell,
    ) -> Result<Self, OpenError> {
        let clock = Arc::new(DeviceClock {
            off_ms: of.clock_off_ms,
            at_ms: AtomicI64::new(0),
        });
        let wire = Arc::new(Wire {
            http: Http::new(timeout),
            open: parking_lot::Mutex::default(),
            tell,
        });
        let config = Config {
            credential: Credential::Key(key.to_owned()),
            dir: None,
            device: Device {
                id: Some(of.id.clone()),
                platform: Some(match of.platform {
                    "ios" => Platform::Ios,
                    "android" => Platform::Android,
                    "web" => Platform::Web,
                    _ => Platform::Other,
                }),
                app_version: Some(of.app_version.to_owned()),
            },
            bounds: Bounds::default(),
            background: false,
            clock: Arc::clone(&clock) as _,
            ..Config::with(url, "", "", Arc::clone(&wire) as _)
        };
        Ok(Self {
            client: Client::open(config)?,
            clock,
            wire,
            last: None,
        })
    }

    /// Tells the SDK of the events, each at its time. What an app without it does wrong is left out: copies, and events that are
    /// broken.
    pub(crate) fn track(&mut self, delivery: &Delivery) {
        let first = delivery.events.first().map(|event| Arc::clone(&event.json));
        if first.is_some() && self.last == first {
            return;
        }
        self.last = first;
        let mut told: Vec<&str> = Vec::new();
        for event in delivery.events.iter().filter(|event| event.flaw.is_none()) {
            if told.contains(&&*event.json) {
                continue;
            }
            told.push(&event.json);
            let Ok(Planned {
                child_id,
                occurred_at,
                kind,
                data,
                session_id,
                attributes,
            }) = serde_json::from_str(&event.json)
            else {
                continue;
            };
            self.clock
                .pass_to(occurred_at.timestamp_millis() - self.clock.off_ms);
            // What is not stored is counted by the SDK.
            let _ = self.client.track(
                child_id,
                Event {
                    kind,
                    data,
                    session_id,
                    attributes: attributes.unwrap_or_default().into_iter().collect(),
                },
            );
        }
    }

    /// Sends what may be sent. Returns how long to wait until there is more to do; `None`: nothing is left, or the server asks
    /// for nothing now. Blocks.
    ///
    /// # Errors
    /// The server refused what no waiting repairs. An app would keep its events; here nobody is there to change anything.
    pub(crate) fn send(&self) -> Result<Option<Duration>, Error> {
        self.clock.pass_to(Utc::now().timestamp_millis());
        let progress = self.client.send();
        let (status, code) = match progress.stopped {
            None => return Ok(progress.wait.filter(|_| progress.queued > 0)),
            Some(Stopped::Disabled) => return Ok(None),
            Some(Stopped::Unauthorized) => (401, "unauthorized".to_owned()),
            Some(Stopped::Forbidden) => (403, "forbidden".to_owned()),
            Some(Stopped::Refused { status, code }) => (status, code),
        };
        Err(Error::Refused { status, code })
    }

    /// What was sent and has no last answer.
    pub(crate) fn unsettled(&self) -> Vec<Sent> {
        self.wire
            .open
            .lock()
            .drain()
            .map(|(_, sent)| sent)
            .collect()
    }
}

/// An event of the plan, as the app would tell of it.
#[derive(Deserialize)]
struct Planned {
    child_id: Uuid,
    occurred_at: DateTime<Utc>,
    #[serde(rename = "type")]
    kind: String,
    data: serde_json::Value,
    session_id: Option<Uuid>,
    attributes: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The clocks of a device: both stand still between what happens there.
struct DeviceClock {
    off_ms: i64,
    at_ms: AtomicI64,
}

impl DeviceClock {
    fn pass_to(&self, at_ms: i64) {
        self.at_ms.fetch_max(at_ms, Ordering::Relaxed);
    }
}

impl Clock for DeviceClock {
    fn wall_ms(&self) -> i64 {
        self.monotonic_ms() + self.off_ms
    }

    fn monotonic_ms(&self) -> i64 {
        self.at_ms.load(Ordering::Relaxed)
    }
}

/// HTTP, with somebody who listens.
struct Wire {
    http: Http,
    /// Events that were sent and have no last answer, by id.
    open: parking_lot::Mutex<HashMap<Uuid, Sent>>,
    tell: Tell,
}

#[derive(Deserialize)]
struct Body<'b> {
    sent_at: DateTime<Utc>,
    #[serde(borrow)]
    events: Vec<&'b RawValue>,
}

#[derive(Deserialize)]
struct Id {
    id: Uuid,
}

#[derive(Deserialize)]
struct Receipt {
    received_at: DateTime<Utc>,
    results: Vec<EventResult>,
}

#[derive(Deserialize)]
struct EventResult {
    outcome: Outcome,
    code: Option<String>,
}

impl Transport for Wire {
    fn send(&self, request: &Request) -> Result<Response, NoAnswer> {
        let (began_at, began) = (Utc::now().timestamp_millis(), Instant::now());
        let answer = self.http.send(request);
        if request.method == "POST" {
            self.note(request, answer.as_ref().ok(), began_at, began.elapsed());
        }
        answer
    }
}

impl Wire {
    fn note(&self, request: &Request, answer: Option<&Response>, began_at: i64, took: Duration) {
        let is_zipped = request
            .headers
            .iter()
            .any(|(name, value)| name.eq_ignore_ascii_case("content-encoding") && value == "gzip");
        let mut body = String::new();
        let read = match is_zipped {
            true => GzDecoder::new(&request.body[..]).read_to_string(&mut body),
            false => (&request.body[..]).read_to_string(&mut body),
        };
        // Its own tests are for that; an event that is not noted here is missing in the ledger, which is noticed.
        let (Ok(_), Ok(Body { sent_at, events })) = (read, serde_json::from_str(&body)) else {
            return;
        };
        let receipt = answer.and_then(|answer| {
            let receipt: Option<Receipt> = serde_json::from_slice(&answer.body).ok();
            receipt.filter(|receipt| answer.status == 200 && receipt.results.len() == events.len())
        });
        let received_at = receipt.as_ref().map(|of| of.received_at.timestamp_millis());
        let outcomes: Vec<_> = match (receipt, answer) {
            (Some(receipt), _) => {
                let results = receipt.results.into_iter();
                results.map(|of| (of.outcome, of.code)).collect()
            }
            (None, Some(answer)) => {
                let outcome = (Outcome::Retry, Some(answer.status.to_string()));
                vec![outcome; events.len()]
            }
            (None, None) => vec![(Outcome::Unknown, None); events.len()],
        };
        let mut settled = Vec::new();
        let mut open = self.open.lock();
        for (event, (outcome, code)) in events.into_iter().zip(&outcomes) {
            let Ok(Id { id }) = serde_json::from_str(event.get()) else {
                continue;
            };
            let sent = open.entry(id).or_insert_with(|| Sent {
                event: event.get().to_owned(),
                flaw: None,
                attempts: Vec::new(),
            });
            sent.attempts.push(Attempt {
                began_at,
                ended_at: Utc::now().timestamp_millis(),
                sent_at: Some(sent_at.timestamp_millis()),
                received_at,
                outcome: *outcome,
                code: code.clone(),
            });
            if matches!(outcome, Outcome::Accepted | Outcome::Rejected) {
                settled.extend(open.remove(&id));
            }
        }
        drop(open);
        (self.tell)(Exchange {
            took,
            outcomes,
            settled,
        });
    }
}
