//! For an app's own tests: a server that takes everything, and remembers it.

use std::{io::Read as _, sync::Arc};

use chrono::{SecondsFormat, Utc};
use flate2::read::GzDecoder;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{Client, Config, NoAnswer, OpenError, Request, Response, Transport};

/// A server without a network. What the app tells its [client](Self::client) is here after
/// [`Client::send`].
#[derive(Debug, Default)]
pub struct FakeServer(Mutex<Fake>);

#[derive(Debug, Default)]
struct Fake {
    events: Vec<Value>,
    offline: bool,
}

impl FakeServer {
    /// A client of this server, whose store is in memory and which sends when it is told to.
    ///
    /// # Errors
    /// SQLite has no memory.
    pub fn client(self: &Arc<Self>) -> Result<Client, OpenError> {
        let server: Arc<dyn Transport> = Arc::clone(self) as _;
        Client::open(Config {
            dir: None,
            background: false,
            ..Config::with("http://fake", "rvk_fake", "", server)
        })
    }

    /// From now on there is no network, or there is one again.
    pub fn set_offline(&self, offline: bool) {
        self.0.lock().offline = offline;
    }

    /// Every event that came, as the contract has it.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.0.lock().events.clone()
    }

    /// That an event of this type came, with at least these fields of `data`.
    ///
    /// # Panics
    /// None did; the message has what came of that type.
    pub fn assert_sent(&self, kind: &str, data: &Value) {
        let events = self.events();
        let of_kind: Vec<_> = events
            .iter()
            .filter(|event| event["type"] == kind)
            .collect();
        let has = |event: &&&Value| {
            let fields = data.as_object();
            fields.is_none_or(|fields| {
                fields
                    .iter()
                    .all(|(name, value)| event["data"][name] == *value)
            })
        };
        let came: Vec<_> = of_kind.iter().map(|event| &event["data"]).collect();
        assert!(
            of_kind.iter().any(|event| has(&event)),
            "no {kind} with {data} was sent; of that type came {came:?}"
        );
    }
}

impl Transport for FakeServer {
    fn send(&self, request: &Request) -> Result<Response, NoAnswer> {
        let mut fake = self.0.lock();
        if fake.offline {
            return Err(NoAnswer("the fake server is offline".to_owned()));
        }
        if request.method == "GET" {
            return Ok(Response {
                status: 404,
                ..Response::default()
            });
        }
        let mut text = String::new();
        let unreadable = |error: std::io::Error| NoAnswer(error.to_string());
        GzDecoder::new(&request.body[..])
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        let mut body: Value =
            serde_json::from_str(&text).map_err(|error| NoAnswer(error.to_string()))?;
        let Value::Array(events) = body["events"].take() else {
            return Err(NoAnswer("no events".to_owned()));
        };
        let accepted = |(index, event): (usize, &Value)| json!({"index": index, "id": event["id"], "outcome": "accepted"});
        let results: Vec<_> = events.iter().enumerate().map(accepted).collect();
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        fake.events.extend(events);
        let body = json!({"received_at": now, "results": results})
            .to_string()
            .into_bytes();
        Ok(Response {
            status: 200,
            retry_after: None,
            body,
        })
    }
}
